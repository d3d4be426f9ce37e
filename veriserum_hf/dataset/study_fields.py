"""Fields of a study's YAML file, each checked: file, field, what was found, what was expected."""

import difflib
import math
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeGuard

from veriserum_hf.core import load_plain_yaml, one_line, read_text
from veriserum_hf.errors import ConversionError

_LONGEST_NAME = 100
_NO_TEXT = re.compile(r"[\0\ud800-\udfff]")  # halves of pairs are not UTF-8
_MOST_ID = 2**53  # larger numbers are not exact everywhere


class Fields:
    """One mapping of a YAML file; every field is known by its name, and has to be of its type.

    Attributes
    ----------
    where : the file and the path of the mapping, for messages.
    values : fields by name.

    """

    def __init__(self, where: str, value: object, known: Collection[str] | None = None) -> None:
        """Check a mapping.

        Parameters
        ----------
        where : the file and the path of the mapping.
        value : what the file holds there.
        known : names of fields; None: any names.

        Raises
        ------
        ConversionError
            If it is no mapping, or a name is not known; the nearest known one is named.

        """
        if not isinstance(value, Mapping):
            fields = f"with the fields {', '.join(known)}" if known else "of names"
            raise ConversionError(f"{where}: found {shown(value)}, expected a mapping {fields}")
        self.where, self.values = where, dict(value)
        for name in self.values:
            if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
                raise ConversionError(
                    f"{where}: found {shown(name)} as a name, expected text of 1 to {_LONGEST_NAME} characters; put "
                    "numbers in quotation marks"
                )
            if known is not None and name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ConversionError(f"{where}: {one_line(name)} is not a field, expected {', '.join(known)}{hint}")

    def __contains__(self, name: str) -> bool:
        """Whether a field is given and not null."""
        return self.values.get(name) is not None

    def error(self, name: str, expected: str) -> ConversionError:
        """Error for a field that is not as expected."""
        if name not in self:
            return ConversionError(f"{self.where}: {name} is missing, expected {expected}")
        return ConversionError(f"{self.where}: {name}: found {shown(self.values[name])}, expected {expected}")

    def of(self, name: str, known: Collection[str] | None = None) -> "Fields":
        """Fields of the mapping that a field holds."""
        if name not in self:
            raise self.error(name, f"a mapping with the fields {', '.join(known)}" if known else "a mapping")
        return Fields(f"{self.where}: {one_line(name)}", self.values[name], known)

    def text(self, name: str) -> str:
        """Text that is not empty."""
        value = self.values.get(name)
        if not is_text(value):
            raise self.error(name, "text")
        return value

    def path(self, name: str, folder: Path) -> Path:
        """A path, relative to a folder or absolute."""
        return folder / expanded(self.text(name))

    def texts(self, name: str) -> list[str]:
        """One text or a list of them."""
        value = self.values.get(name)
        several = value if isinstance(value, list) else [value]
        texts = [each for each in several if is_text(each)]
        if not several or len(texts) < len(several):
            raise self.error(name, "a pattern of files such as camera_1/*.png, or a list of them")
        return texts

    def choice(self, name: str, allowed: Collection[str]) -> str:
        """One of some words."""
        value = self.values.get(name)
        if not isinstance(value, str) or value not in allowed:
            raise self.error(name, " or ".join(allowed))
        return value

    def truth(self, name: str) -> bool:
        """True or false; false where the field is not given."""
        value = self.values[name] if name in self else False
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def whole(self, name: str, least: int = 0) -> int:
        """A whole number."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST_ID:
            raise self.error(name, f"a whole number, {least} or more")
        return value

    def positive(self, name: str) -> float:
        """A positive number."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self.error(name, "a positive number")
        return float(value)

    def numbers(self, name: str, count: int) -> list[float]:
        """A list of that many finite numbers."""
        value = self.values.get(name)
        if not _numbers(value, count):
            raise self.error(name, f"{count} finite numbers")
        return [float(each) for each in value]  # type: ignore[union-attr]

    def matrix(self, name: str, edge: int) -> list[list[float]]:
        """A square matrix: a list of its rows."""
        value = self.values.get(name)
        if not isinstance(value, list) or len(value) != edge or not all(_numbers(row, edge) for row in value):
            raise self.error(name, f"{edge} rows of {edge} finite numbers each: [[...], ...]")
        return [[float(each) for each in row] for row in value]


def expanded(path: str) -> str:
    """A path as it is written, with the home folder for ~; a name that begins with ~ stays as it is."""
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib raises where there is no user of the name


def is_text(value: object) -> TypeGuard[str]:
    """Whether this is text that is not empty, and that every file can hold."""
    return isinstance(value, str) and bool(value.strip()) and not _NO_TEXT.search(value)


def _numbers(value: object, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(each, int | float) and not isinstance(each, bool) for each in value)
        and all(abs(each) <= 1e300 for each in value)  # not NaN either; a whole number may be too large for a float
    )


def shown(value: object) -> str:
    """A value of a YAML file in a message: short, and on one line."""
    text = one_line(repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_yaml(path: Path) -> object:
    """Content of a YAML file.

    Raises
    ------
    ConversionError
        If it cannot be read, is not YAML, or refers to itself.

    """
    import yaml

    try:
        return load_plain_yaml(read_text(path))
    except UnicodeDecodeError as error:
        raise ConversionError(f"{path}: found bytes that are not UTF-8, expected a YAML file") from error
    except OSError as error:
        raise ConversionError(
            f"{path}: {error.strerror or error}. Expected a YAML file that describes the study"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise ConversionError(f"{path}: it is not YAML as expected: {why[:300]}") from error
