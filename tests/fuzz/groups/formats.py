"""Files of other programs: cameras (MayaCam 2.0, JT_INTCALIB) and poses (.jts, .tra, long CSV)."""

import re
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, Case, Group, replaced
from tests.fuzz.commands import check_formats
from tests.fuzz.strange import NOT_NUMBERS, STRANGE_TEXT

formats = Group("other-formats", "formats", check_formats, times=8)

CAMERAS, POSES = ("camera.txt", "calibration.txt"), ("femur.jts", "femur.tra", "poses.csv")
_READ_BY = {  # commands of `check_formats`
    "camera.txt": ["mayacam"],
    "calibration.txt": ["jointtrack"],
    "femur.jts": ["mayacam", "jointtrack"],
    "femur.tra": ["autoscoper"],
    "poses.csv": ["table"],
}
_NUMBER = re.compile(r"(?<![\w.])-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?(?![\w.])")


def _file(case: Case, *names: str) -> Path:
    name = case.one(names or (*CAMERAS, *POSES))
    case.touch(*_READ_BY[name])
    return case.data / name


def _text(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path.name


def _number(case: Case, path: Path, change: Callable[[str], str]) -> str:
    """Change one number."""
    text = path.read_text()
    found = case.one(list(_NUMBER.finditer(text)))
    new = change(found[0])
    return f"{_text(path, text[: found.start()] + new + text[found.end() :])} {found[0]} = {new[:40]!r}"


def _line(case: Case, path: Path, change: Callable[[str], list[str]]) -> str:
    """Change one line that is not blank."""
    lines = path.read_text().splitlines()
    place = case.one([place for place, line in enumerate(lines) if line])
    lines[place : place + 1] = change(lines[place])
    return f"{_text(path, chr(10).join([*lines, '']))} line {place + 1}"


@formats(OPEN)
def cut(case: Case) -> str:
    """The file breaks off."""
    path = _file(case)
    content = path.read_bytes()
    return _text(path, content[: case.random.randrange(len(content))])


@formats(NOTICED)
def something_else(case: Case) -> str:
    """The file is empty, or of another format."""
    path = _file(case)
    others = [(case.data / name).read_bytes() for name in (*CAMERAS, *POSES) if name != path.name]
    return _text(path, case.one([b"", b"\n\n", b"PAR1PAR1", b"x" * 99, b"<html></html>", b"{}", *others]))


@formats(OPEN)
def bytes_changed(case: Case) -> str:
    """Random bytes are others."""
    path = _file(case)
    content = bytearray(path.read_bytes())
    for _ in range(case.one((1, 4, 40))):
        content[case.random.randrange(len(content))] = case.random.randrange(256)
    return _text(path, bytes(content))


@formats(HARMLESS)
def other_system(case: Case) -> str:
    """Line ends and encodings of other systems, blank lines at the end."""
    path = _file(case)
    text = path.read_text()
    others = [text.replace("\n", "\r\n"), text.replace("\n", "\r"), "\ufeff" + text, text + "\n\n", text.rstrip("\n")]
    return _text(path, case.one([*others, text.encode("utf-16"), b"\xfe\xff" + text.encode("utf-16-be")]))


@formats(HARMLESS)
def other_separators(case: Case) -> str:
    """Numbers are separated otherwise."""
    path = _file(case, "camera.txt", *POSES)
    between = case.one((";", "\t", " ; ") if path.name == "poses.csv" else (" ", "\t", ", ", " ,\t"))
    return _text(path, re.sub(", ?", between, path.read_text()))


@formats(NOTICED)
def encoding_wrong(case: Case) -> str:
    """Bytes that are not text."""
    path = _file(case)
    text = path.read_text()
    return _text(path, case.one((text.encode("utf-16-le"), b"\xff" + text.encode(), text.replace("0", "\0", 1))))


@formats(NOTICED)
def no_number(case: Case) -> str:
    """Something else in the place of a number."""
    value = case.one([value for value in NOT_NUMBERS if isinstance(value, str)])
    return _number(case, _file(case), lambda _: value)


@formats(OPEN)
def number_huge(case: Case) -> str:
    """A number is huge or tiny."""
    value = case.one(("1e20", "-1e300", "1e308", "1e999", "-1e-320", "0", "-0.0", str(2**63), "9" * 400))
    return _number(case, _file(case), lambda _: value)


@formats(OPEN)
def sign_changed(case: Case) -> str:
    """A number has the other sign."""
    return _number(case, _file(case), lambda text: text[1:] if text.startswith("-") else f"-{text}")


@formats(OPEN)
def line_missing(case: Case) -> str:
    """A line is missing."""
    return _line(case, _file(case), lambda _: [])


@formats(OPEN)
def line_twice(case: Case) -> str:
    """A line is there twice."""
    return _line(case, _file(case), lambda line: [line, line])


@formats(NOTICED)
def more_in_a_line(case: Case) -> str:
    """A line has more than it should."""
    more = case.one((",1", ",x", ", 1, 2", " 1 2 3,"))
    return _line(case, _file(case, "camera.txt", "femur.jts", "femur.tra"), lambda line: [line + more])


@formats(NOTICED)
def less_in_a_line(case: Case) -> str:
    """A line has less than it should."""
    return _line(case, _file(case), lambda line: [line.rpartition(",")[0]])


@formats(NOTICED)
def header_wrong(case: Case) -> str:
    """The first line is that of another form."""
    path = _file(case, "camera.txt", "calibration.txt", "femur.jts", "poses.csv")
    _, _, rest = path.read_text().partition("\n")
    header = case.one(("JT_EULER_321", "JTA_INTCALIB_BIPLANE", "image", "x,y,z", "# comment", "size image"))
    return f"{_text(path, f'{header}{chr(10)}{rest}')} {header}"


@formats(NOTICED)
def columns_of_another_order(case: Case) -> str:
    """JointTrack's columns are named in another order, or a name of the CSV is missing."""
    path = _file(case, "femur.jts", "poses.csv")
    swap = ("x_rot", "z_rot") if path.suffix == ".jts" else (case.one(("x_mm", "qw", "component")), "other")
    names = {swap[0]: swap[1], swap[1]: swap[0]}
    return _text(path, re.sub("|".join(names), lambda found: names[found[0]], path.read_text()))


@formats(NOTICED)
def metres(case: Case) -> str:
    """Autoscoper's positions are in metres."""
    path = _file(case, "femur.tra")
    rows = [[float(value) for value in line.split(",")] for line in path.read_text().splitlines()]
    for row in rows:
        row[3], row[7], row[11] = (row[place] / 1000 for place in (3, 7, 11))
    return _text(path, "".join(",".join(map(repr, row)) + "\n" for row in rows))


@formats(NOTICED)
def no_rotation(case: Case) -> str:
    """A rotation is scaled, or mirrored."""
    path = _file(case, "camera.txt", "femur.tra")
    lines = path.read_text().splitlines()
    place = lines.index("rotation") + 1 if "rotation" in lines else case.random.randrange(len(lines))
    by = case.one((-1.0, 57.3, 1.01, 0.0))
    row = [float(value) for value in lines[place].split(",")]
    lines[place] = ",".join(repr(value * by if number < 3 else value) for number, value in enumerate(row))
    return f"{_text(path, chr(10).join([*lines, '']))} {by}"


@formats(NOTICED)
def special_file(case: Case) -> str:
    """A pipe, a device or a folder in the place of the file."""
    return replaced(case, _file(case))


@formats(OPEN)
def strange_text(case: Case) -> str:
    """A line of strange text."""
    text = case.one([text for text in STRANGE_TEXT if text.isprintable() or "\n" in text or "\x1b" in text])
    return _line(case, _file(case), lambda line: [line, text])


@formats(OPEN)
def long_file(case: Case) -> str:
    """Lines without end."""
    path = _file(case)
    last = path.read_text().splitlines()[-1]
    return _text(path, path.read_text() + f"{last}\n" * case.one((20_000, 100_000)))
