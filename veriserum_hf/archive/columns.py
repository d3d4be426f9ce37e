"""Columns of a table as checked Arrow arrays: numbers that were kept as text are read, anything else is refused."""

import re
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.table_specs import INTEGER, NUMBER, TEXT, TableSpec, Value
from veriserum_hf.core import listed

# ASCII digits alone: Python's own int and float also read 1_0, and the digits of every other script.
_WRITTEN = {
    INTEGER: r"^\s*[+-]?[0-9]+\s*$",
    NUMBER: r"^\s*[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:nan|inf|infinity))\s*$",
}
_EXPECTED = {INTEGER: "a whole number", NUMBER: "a number", TEXT: "text"}
_LONGEST_SHOWN = 60
_NOT_UTF8 = "\ufffd"  # which stands for bytes that are not UTF-8


def wanted_columns(
    where: str, present: Collection[str], spec: TableSpec, findings: Findings
) -> dict[str, pa.DataType]:
    """Columns of a table that are read, with their types.

    Raises
    ------
    ArchiveError
        If a required one is missing.

    """
    if missing := [column for column in spec.required if column not in present]:
        raise findings.stop(
            "missing column",
            where,
            f"there is no column {listed(missing)}; found {listed(sorted(present), 30)}",
            "Use the tables of the download unchanged.",
        )
    return {column: type for column, type in (spec.required | spec.optional).items() if column in present}


def checked_table(
    columns: Sequence[Sequence[Value]],
    wanted: dict[str, pa.DataType],
    where: str,
    findings: Findings,
    *,
    rows_before: int = 0,
) -> pa.Table:
    """Table of columns, the first of them the ids; ``rows_before`` rows of the file came before these.

    Raises
    ------
    ArchiveError
        If a value does not have its column's type.

    """
    return pa.table(
        {
            name: _column(values, type, columns[0], rows_before, f"{where}, column {name}", findings)
            for (name, type), values in zip(wanted.items(), columns, strict=True)
        }
    )


def _column(
    values: Sequence[Value],
    type: pa.DataType,
    ids: Sequence[object],
    rows_before: int,
    where: str,
    findings: Findings,
) -> pa.Array:
    if (array := _at_once(values, type)) is not None:
        if type == TEXT:
            _check_text(array, where, findings)
        return array
    converted = []
    for row, (value, id) in enumerate(zip(values, ids, strict=True), start=rows_before + 1):
        try:
            converted.append(_as_type(value, type))
        except (ValueError, TypeError, OverflowError):
            raise findings.stop(
                "wrong type",
                f"{where}, row {row} (id {_shown(id)})",
                f"found {_shown(value, repr(value))}, expected {_EXPECTED[type]}",
                "Correct the value, or remove the row.",
            ) from None
    array = pa.array(converted, type)
    if type == TEXT:
        _check_text(array, where, findings)
    return array


def _check_text(array: pa.Array, where: str, findings: Findings) -> None:
    """Report text that was stored in another encoding than UTF-8."""
    strange = array.filter(pc.match_substring(array, _NOT_UTF8))
    if len(strange):
        findings.problem(
            "text not UTF-8",
            where,
            f"{len(strange)} values hold bytes that are not UTF-8, such as {_shown(strange[0].as_py())}",
            f"They are shown as {_NOT_UTF8}. Store the text in UTF-8.",
        )


def _shown(value: object, text: str | None = None) -> str:
    text = str(value) if text is None else text
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}... ({len(text)} characters)"


def _at_once(values: Sequence[Value], type: pa.DataType) -> pa.Array | None:
    """The column where all of its values are of one type; None where each has to be looked at."""
    try:
        array = pa.array(values)
        if array.type in (type, pa.null()):
            return array.cast(type)
        if type == NUMBER and array.type in (INTEGER, NUMBER):  # integers and floats together are floats already
            return pa.array(values, type)
        if array.type == TEXT and pc.all(pc.match_substring_regex(array, _WRITTEN[type])).as_py():
            return pc.utf8_ltrim(pc.utf8_trim_whitespace(array), characters="+").cast(type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, KeyError):
        pass
    return None


def _as_type(value: Value, type: pa.DataType) -> int | float | str | None:
    if value is None:
        return None
    if type == TEXT:
        return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
    if isinstance(value, bytes):
        raise TypeError("bytes are not a number")
    if isinstance(value, str):
        value = _number(value)
    number = value if isinstance(value, int) and type == INTEGER else float(value)
    if type == NUMBER:
        return number
    if number != int(number) or abs(number) >= 2**63:
        raise ValueError("not whole, or too large")
    return int(number)


def _number(text: str) -> int | float:
    if re.match(_WRITTEN[INTEGER], text, re.ASCII):
        return int(text)  # exact, where a float is not
    if re.match(_WRITTEN[NUMBER], text, re.ASCII):
        return float(text)
    raise ValueError("not a number in ASCII digits")
