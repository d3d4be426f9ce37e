"""Small text files of numbers, as other programs of the field write them."""

import codecs
import re
from collections.abc import Iterable
from pathlib import Path

from veriserum_hf.core.regular import read_regular
from veriserum_hf.errors import VeriserumError

_MOST_BYTES = 100_000_000  # a trajectory of 100,000 frames has 40 MB
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eEdD][+-]?[0-9]+)?", re.ASCII)
_NAN = re.compile(r"[+-]?nan(?:\((?:ind|snan)\))?", re.ASCII | re.IGNORECASE)  # as compilers write it
_BETWEEN = re.compile(r"[ \t]*[,;][ \t]*|[ \t]+")


def text_lines(path: Path, refused: type[VeriserumError]) -> list[str]:
    """Lines of a text file, without their ends, whatever system wrote them.

    Parameters
    ----------
    path : of a file in UTF-8, or in UTF-16 with its mark.
    refused : the error to raise where it cannot be read or is no text.

    """
    try:
        content = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise refused(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        text = content.decode("utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8")
    except UnicodeDecodeError as error:
        raise refused(f"{path} is not text: {error}") from error
    if "\0" in text:
        raise refused(f"{path} is not text: it holds NUL bytes")
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if not lines[-1] else lines


def numbers_of(line: str) -> list[float]:
    """Numbers of a line that commas, semicolons or blanks separate; one separator may end it, NaN is a number.

    Raises
    ------
    ValueError
        If something else than a number in ASCII digits with a decimal point is there, or nothing; it is named.

    """
    fields = _BETWEEN.split(line.strip())
    if len(fields) > 1 and not fields[-1]:
        fields.pop()
    return [_number(field) for field in fields]


def joined_numbers(numbers: Iterable[float], separator: str = ",") -> str:
    """Numbers as a line that `numbers_of` reads back as they are."""
    return separator.join(repr(float(number) + 0.0) for number in numbers)  # no -0.0


def _number(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return float(text.lower().replace("d", "e"))  # as Fortran writes exponents
    if _NAN.fullmatch(text):
        return float("nan")
    raise ValueError(f"{text[:40]!r} is not a number" if text else "a number is missing")
