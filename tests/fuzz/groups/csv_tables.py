"""The authors' CSV files: values, and the form of the file."""

from collections.abc import Callable
from pathlib import Path

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, SAFE, Case, Group
from tests.fuzz.commands import check_archive
from tests.fuzz.database import SOURCE
from tests.fuzz.strange import HUGE, NOT_NUMBERS, STRANGE_TEXT

values = Group("csv-values", "csv", check_archive, times=14)
form = Group("csv-form", "csv", check_archive, times=7)

POSES = "veriserum_pose_reloaded_refined_all.csv"
DISTORTIONS, SOURCES = "distortion_calibration_reloaded.csv", "source_int_calibration_reloaded.csv"
READ = {
    POSES: ("id", "measurement_id", "anatomy_id", "tx", "ty", "tz", "rz", "rx", "ry", "obsolete"),
    DISTORTIONS: ("id", "distortion_result_fs", "distortion_result_bs"),
    SOURCES: ("id", *SOURCE),
}


def _table(path: Path) -> list[list[str]]:
    import csv

    with path.open(newline="") as file:
        return list(csv.reader(file))


def _write(path: Path, rows: list[list[str]], end: str = "\n", **options: object) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file, lineterminator=end, **options).writerows(rows)  # type: ignore[arg-type]


def _put(case: Case, table: str, column: str, value: str) -> str:
    """Write one value into a row that rows of the data set are made of."""
    rows = _table(case.data / table)
    k = case.random.randrange(1, len(rows))
    if table == POSES:
        case.touch(f"calibrated {rows[k][1]}")
    else:
        case.touch_all()
    rows[k][rows[0].index(column)] = value
    _write(case.data / table, rows)
    return f"{table} row {k} {column} = {value[:60]!r}"


def _text(value: object) -> str:
    return "" if value is None else value.decode("latin-1") if isinstance(value, bytes) else str(value)


@values(NOTICED)
def pose_not_a_number(case: Case) -> str:
    """A number of a pose is none."""
    return _put(case, POSES, case.one(READ[POSES][3:9]), _text(case.one(NOT_NUMBERS)))


@values(NOTICED)
def pose_huge(case: Case) -> str:
    """A translation is far outside anything."""
    return _put(case, POSES, case.one(("tx", "ty", "tz")), str(case.one(HUGE)))


@values(NOTICED)
def angle_impossible(case: Case) -> str:
    """An angle is beyond a full rotation."""
    return _put(case, POSES, case.one(("rz", "rx", "ry")), str(case.one((720.5, -4000, 1e10, 1e300))))


@values(NOTICED)
def id_strange(case: Case) -> str:
    """An id is no whole number, or refers to nothing."""
    return _put(case, POSES, case.one(READ[POSES][:3]), _text(case.one(("", "x", "1.5", "-1", "9" * 30, "1_0", "٣"))))


@values(NOTICED)
def obsolete_strange(case: Case) -> str:
    """Whether a pose is obsolete is neither 0 nor 1."""
    return _put(case, POSES, "obsolete", case.one(("2", "x", "yes?", "0.5", "-1")))


@values(NOTICED)
def source_wrong(case: Case) -> str:
    """A source calibration that no device has."""
    column = case.one(SOURCE)
    return _put(case, SOURCES, column, _text(case.one(("x", "", "1", "1e6", "-1860", "1e300", "nan", "18,60"))))


@values(NOTICED)
def distortion_wrong(case: Case) -> str:
    """A distortion's text is no list of numbers."""
    text = case.one(("", "x", "1,2,3", "nan", ",".join(["0"] * 32), "[]", "1;2"))
    return _put(case, DISTORTIONS, case.one(READ[DISTORTIONS][1:]), text)


@values(SAFE)
def unread_column(case: Case) -> str:
    """Strange text in a column that no row is made of."""
    table, column = case.one(((POSES, "git_repo"), (DISTORTIONS, "operator"), (SOURCES, "git_hash")))
    return _put(case, table, column, case.one(STRANGE_TEXT))


@values(HARMLESS)
def number_in_another_form(case: Case) -> str:
    """A number written with an exponent, a plus or blanks around it."""
    rows = _table(case.data / POSES)
    k, column = case.random.randrange(1, len(rows)), case.one((3, 4, 5, 6, 7, 8))
    number = float(rows[k][column])
    rows[k][column] = case.one((f"{number!r}", f"{number:+.17g}", f"{number:.17e}", f" {number!r} "))
    _write(case.data / POSES, rows)
    return f"row {k}: {rows[k][column]!r}"


def _change(case: Case, change: Callable[[bytes], bytes], table: str | None = None) -> str:
    table = table or case.one((POSES, DISTORTIONS, SOURCES))
    path = case.data / table
    path.write_bytes(change(path.read_bytes()))
    return table


@form(HARMLESS)
def byte_order_mark(case: Case) -> str:
    """A byte order mark, as a spreadsheet writes it."""
    return _change(case, lambda content: b"\xef\xbb\xbf" + content)


@form(HARMLESS)
def windows_line_ends(case: Case) -> str:
    """Lines end as on Windows."""
    return _change(case, lambda content: content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


@form(HARMLESS)
def everything_quoted(case: Case) -> str:
    """Every value in quotes."""
    table = case.one((POSES, DISTORTIONS, SOURCES))
    _write(case.data / table, _table(case.data / table), quoting=1)
    return table


@form(HARMLESS)
def blank_lines_at_the_end(case: Case) -> str:
    """Blank lines at the end."""
    return _change(case, lambda content: content + b"\n" * case.random.randint(1, 5))


@form(HARMLESS)
def no_line_end_at_the_end(case: Case) -> str:
    """The last line has no end."""
    return _change(case, lambda content: content.rstrip(b"\r\n"))


@form(HARMLESS)
def columns_in_another_order(case: Case) -> str:
    """The columns in another order."""
    table = case.one((POSES, DISTORTIONS, SOURCES))
    rows = _table(case.data / table)
    order = list(range(len(rows[0])))
    case.random.shuffle(order)
    _write(case.data / table, [[row[k] for k in order] for row in rows])
    return table


@form(HARMLESS)
def rows_in_another_order(case: Case) -> str:
    """The rows in another order."""
    table = case.one((POSES, DISTORTIONS, SOURCES))
    head, *rows = _table(case.data / table)
    case.random.shuffle(rows)
    _write(case.data / table, [head, *rows])
    return table


@form(HARMLESS)
def more_columns(case: Case) -> str:
    """A column that nobody knows."""
    table = case.one((POSES, DISTORTIONS, SOURCES))
    head, *rows = _table(case.data / table)
    _write(case.data / table, [[*head, "note"], *([*row, "x, y"] for row in rows)])
    return table


@form(NOTICED)
def column_twice(case: Case) -> str:
    """A column that is read is there twice, with other values."""
    table = case.one((POSES, DISTORTIONS, SOURCES))
    head, *rows = _table(case.data / table)
    name = case.one(READ[table])
    _write(case.data / table, [[*head, name], *([*row, "7"] for row in rows)])
    case.touch_all()
    return f"{table} {name}"


@form(NOTICED)
def column_missing(case: Case) -> str:
    """A column that is read is missing, or has another name."""
    table = case.one((POSES, DISTORTIONS, SOURCES))
    rows = _table(case.data / table)
    k = rows[0].index(case.one(READ[table]))
    name = rows[0][k]
    if case.random.random() < 0.5:
        rows = [row[:k] + row[k + 1 :] for row in rows]
    else:
        rows[0][k] = name + "_"
    _write(case.data / table, rows)
    case.touch_all()
    return f"{table} {name}"


@form(NOTICED)
def row_ragged(case: Case) -> str:
    """A row has a value too many, or too few."""
    table = case.one((POSES, DISTORTIONS, SOURCES))
    rows = _table(case.data / table)
    k = case.random.randrange(1, len(rows))
    rows[k] = case.one((rows[k][:-3], [*rows[k], "x"], rows[k][:1]))
    _write(case.data / table, rows)
    case.touch_all()
    return f"{table} row {k}"


@form(NOTICED)
def row_missing_in_calibrations(case: Case) -> str:
    """A calibration that poses refer to is missing."""
    table = case.one((DISTORTIONS, SOURCES))
    head, *rows = _table(case.data / table)
    used = {row[-2 if table == SOURCES else -1] for row in _table(case.data / POSES)[1:]}
    gone = case.one(sorted(used))
    _write(case.data / table, [head, *(row for row in rows if row[0] != gone)])
    case.touch_all()
    return f"{table} {gone}"


@form(HARMLESS)
def semicolons(case: Case) -> str:
    """Semicolons between values, as spreadsheets of some languages write."""
    table = case.one((POSES, SOURCES))
    _write(case.data / table, _table(case.data / table), delimiter=";")
    return table


@form(NOTICED)
def decimal_commas(case: Case) -> str:
    """Decimal commas, in quotes."""
    rows = _table(case.data / POSES)
    _write(case.data / POSES, [rows[0], *([value.replace(".", ",") for value in row] for row in rows[1:])])
    case.touch_all()
    return ""


@form(OPEN)
def in_another_encoding(case: Case) -> str:
    """The file in UTF-16, or another encoding."""
    encoding = case.one(("utf-16", "utf-16-le", "utf-32", "cp037", "utf-7"))
    case.touch_all()
    return f"{_change(case, lambda content: content.decode().encode(encoding))} {encoding}"


@form(NOTICED)
def not_text(case: Case) -> str:
    """The file is no text: bytes of an archive, nulls, nothing."""
    content = case.one((b"", b"\x00" * 5000, b"PK\x03\x04" + bytes(range(256)) * 9, b"id\n", b"\n\n", b"\xff\xfe"))
    case.touch_all()
    return _change(case, lambda _: content)


@form(OPEN)
def truncated(case: Case) -> str:
    """The file breaks off."""
    case.touch_all()
    return _change(case, lambda content: content[: case.random.randrange(1, len(content))])


@form(NOTICED)
def quote_without_end(case: Case) -> str:
    """A quote is opened and never closed."""
    case.touch_all()
    at = case.random.randrange(50, 300)
    return _change(case, lambda content: content[:at] + b'"' + content[at:], POSES)


@form(OPEN)
def field_of_much(case: Case) -> str:
    """A value of 10 MB, or a line of a million values."""
    case.touch_all()
    much = case.one((b"9" * 10_000_000, b"," * 1_000_000, b"x" * 10_000_000))
    return _change(case, lambda content: content + much + b"\n", POSES)


@form(NOTICED)
def bytes_null(case: Case) -> str:
    """A null byte within a line."""
    case.touch_all()
    at = case.random.randrange(300, 900)
    return _change(case, lambda content: content[:at] + b"\0" + content[at:], POSES)
