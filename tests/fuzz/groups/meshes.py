"""Implants' STL files, binary and ASCII."""

import struct

import numpy as np
import trimesh

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, SAFE, Case, Group
from tests.fuzz.commands import check_archive

stl = Group("stl-binary", "jpeg", check_archive, times=7)
ascii = Group("stl-ascii", "jpeg", check_archive, times=9)

_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("spare", "<u2")])


def _triangles(content: bytes) -> np.ndarray:
    return np.frombuffer(content[84:], _TRIANGLE).copy()


def _binary(triangles: np.ndarray) -> bytes:
    return bytes(80) + struct.pack("<I", len(triangles)) + triangles.tobytes()


def _change(case: Case, factor: float = 1.0, shift_mm: tuple[float, ...] = (0, 0, 0), mirror: bool = False) -> str:
    path = case.mesh()
    triangles = _triangles(path.read_bytes())
    triangles["corners"] = triangles["corners"] * factor + np.array(shift_mm)
    if mirror:
        triangles["corners"][..., 0] *= -1
    path.write_bytes(_binary(triangles))
    return path.name


@stl(NOTICED)
def other_unit(case: Case) -> str:
    """An implant in metres, centimetres, inches or micrometres."""
    factor = case.one((0.001, 0.1, 1 / 25.4, 10, 1000, 1e-6, 1e6))
    return f"{_change(case, factor)} times {factor:g}"


@stl(NOTICED)
def mirrored(case: Case) -> str:
    """An implant is mirrored, so that it is inside out."""
    return _change(case, mirror=True)


@stl(SAFE)
def inside_out(case: Case) -> str:
    """The corners of every triangle in the other order: mended, and said, or refused."""
    path = case.mesh()
    triangles = _triangles(path.read_bytes())
    triangles["corners"] = triangles["corners"][:, ::-1]
    path.write_bytes(_binary(triangles))
    return path.name


@stl(OPEN)
def moved(case: Case) -> str:
    """An implant's origin is elsewhere."""
    shift_mm = tuple(case.random.uniform(-50, 50) for _ in range(3))
    return f"{_change(case, shift_mm=shift_mm)} {shift_mm}"


@stl(NOTICED)
def far_away(case: Case) -> str:
    """An implant is kilometres from its origin."""
    return _change(case, shift_mm=(case.one((1e4, 1e6, -1e9)), 0, 0))


@stl(NOTICED)
def not_finite(case: Case) -> str:
    """A corner is NaN, infinite or absurdly far."""
    path = case.mesh()
    triangles = _triangles(path.read_bytes())
    value = case.one((np.nan, np.inf, -np.inf, 1e20, 3e38))
    triangles["corners"][case.random.randrange(len(triangles)), case.random.randrange(3), 0] = value
    path.write_bytes(_binary(triangles))
    return f"{path.name} {value}"


@stl(NOTICED)
def open_mesh(case: Case) -> str:
    """Part of an implant's surface is missing."""
    path = case.mesh()
    triangles = _triangles(path.read_bytes())
    share = case.one((0.1, 0.3, 0.5, 0.9))
    path.write_bytes(_binary(triangles[int(len(triangles) * share) :]))
    return f"{path.name} without {share:.0%}"


@stl(OPEN)
def one_triangle_missing(case: Case) -> str:
    """A single triangle is missing: closed and said, or refused."""
    path = case.mesh()
    triangles = _triangles(path.read_bytes())
    path.write_bytes(_binary(np.delete(triangles, case.random.randrange(len(triangles)))))
    return path.name


@stl(NOTICED)
def two_bodies(case: Case) -> str:
    """Another body lies next to the implant."""
    path = case.mesh()
    triangles = _triangles(path.read_bytes())
    other = triangles.copy()
    other["corners"] += np.float32(case.one((60, 200, 1000)))
    path.write_bytes(_binary(np.concatenate([triangles, other])))
    return path.name


@stl(NOTICED)
def another_shape(case: Case) -> str:
    """A box, a ball or a needle in place of the implant."""
    path = case.mesh()
    shape = case.one(
        (
            trimesh.creation.box((5, 5, 5)),
            trimesh.creation.icosphere(radius=400),
            trimesh.creation.box((0.001, 0.001, 70)),
        )
    )
    path.write_bytes(shape.export(file_type="stl"))
    return path.name


@stl(NOTICED)
def empty_or_flat(case: Case) -> str:
    """No triangle at all, or every triangle in one plane or point."""
    path = case.mesh()
    triangles = _triangles(path.read_bytes())
    how = case.one(("none", "flat", "point"))
    if how == "none":
        triangles = triangles[:0]
    else:
        triangles["corners"][..., slice(2, 3) if how == "flat" else slice(None)] = 0
    path.write_bytes(_binary(triangles))
    return f"{path.name} {how}"


@stl(NOTICED)
def cut_off(case: Case) -> str:
    """The file breaks off."""
    path = case.mesh()
    content = path.read_bytes()
    length = case.one((0, 50, 80, 83, 84, 100, case.random.randrange(84, len(content))))
    path.write_bytes(content[:length])
    return f"{path.name}: {length} bytes"


@stl(NOTICED)
def count_wrong(case: Case) -> str:
    """The number of triangles is not that of the file."""
    path = case.mesh()
    content = bytearray(path.read_bytes())
    count = case.one((0, 1, 2**32 - 1, 2**31, len(content) // 50 + 1, len(content) // 100))
    content[80:84] = struct.pack("<I", count)
    path.write_bytes(content)
    return f"{path.name} {count}"


@stl(HARMLESS)
def a_byte_more(case: Case) -> str:
    """A byte or a line end after the last triangle."""
    path = case.mesh()
    path.write_bytes(path.read_bytes() + case.one((b"\0", b"\n", b"\r\n")))
    return path.name


@stl(OPEN)
def bytes_random(case: Case) -> str:
    """Random bytes in the triangles."""
    path = case.mesh()
    content = bytearray(path.read_bytes())
    for _ in range(case.one((1, 10, 100))):
        content[case.random.randrange(len(content))] = case.random.randrange(256)
    path.write_bytes(content)
    return path.name


@stl(OPEN)
def header_of_ascii(case: Case) -> str:
    """A binary file whose header begins with "solid", as some programs write."""
    path = case.mesh()
    path.write_bytes(b"solid implant".ljust(80, case.one((b" ", b"\0"))) + path.read_bytes()[80:])
    return path.name


@stl(OPEN)
def no_stl(case: Case) -> str:
    """Something else under an implant's name: OBJ, PLY, an archive, HTML."""
    path = case.mesh()
    box = trimesh.creation.box((40, 40, 40))
    content = case.one((box.export(file_type="obj"), box.export(file_type="ply"), b"PK\3\4" + bytes(500), "<html/>"))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path.name


# ASCII


def _text(case: Case) -> tuple[object, list[str]]:
    """An implant's file, and its triangles as lines of text."""
    path = case.mesh()
    mesh = trimesh.load_mesh(str(path))
    return path, mesh.export(file_type="stl_ascii").splitlines()


def _write(path: object, lines: list[str], encoding: str = "utf-8", end: str = "\n") -> str:
    path.write_bytes((end.join(lines) + end).encode(encoding))  # type: ignore[attr-defined]
    return str(path.name)  # type: ignore[attr-defined]


def _vertex(case: Case, lines: list[str]) -> int:
    return int(case.one([k for k, line in enumerate(lines) if "vertex" in line]))


@ascii(OPEN)
def as_text(case: Case) -> str:
    """The implant as ASCII: read."""
    path, lines = _text(case)
    return _write(path, lines, end=case.one(("\n", "\r\n")))


@ascii(OPEN)
def name_or_case(case: Case) -> str:
    """Capitals, a name with umlauts, a byte order mark, blank lines: read."""
    path, lines = _text(case)
    how = case.one(("capitals", "name", "mark", "blank", "latin"))
    lines = [line.upper() for line in lines] if how == "capitals" else lines
    lines[0] = "solid Schlüssel" if how in ("name", "latin") else lines[0]
    lines[0] = "\ufeff" + lines[0] if how == "mark" else lines[0]
    lines = [each for line in lines for each in (line, "")] if how == "blank" else lines
    return f"{_write(path, lines, 'latin-1' if how == 'latin' else 'utf-8')} {how}"


@ascii(NOTICED)
def number_wrong(case: Case) -> str:
    """A corner has a word, NaN, two or four numbers."""
    path, lines = _text(case)
    k = _vertex(case, lines)
    lines[k] = case.one(
        ("vertex a b c", "vertex 1 2", "vertex 1 2 3 4", "vertex nan 0 0", "vertex 1,5 2 3", "vertex")
    )
    return f"{_write(path, lines)} {lines[k]}"


@ascii(NOTICED)
def corners_wrong(case: Case) -> str:
    """A triangle has two or four corners."""
    path, lines = _text(case)
    k = _vertex(case, lines)
    lines[k : k + 1] = case.one(([], [lines[k]] * 2))
    return _write(path, lines)


@ascii(NOTICED)
def text_cut(case: Case) -> str:
    """The text breaks off."""
    path, lines = _text(case)
    return _write(path, lines[: case.random.randrange(1, len(lines) - 2)])


@ascii(OPEN)
def two_solids(case: Case) -> str:
    """The file holds two solids: joined, or refused."""
    path, lines = _text(case)
    middle = (len(lines) // 2) // 7 * 7 + 1
    return _write(path, [*lines[:middle], "endsolid", "solid second", *lines[middle:]])


@ascii(OPEN)
def words_wrong(case: Case) -> str:
    """A key word is misspelt, or missing."""
    path, lines = _text(case)
    k = case.random.randrange(len(lines))
    lines[k] = case.one(("", "x", lines[k] + " x", lines[k].replace("o", "0"), "endsolid", "solid"))
    return f"{_write(path, lines)} line {k}: {lines[k]}"


@ascii(NOTICED)
def line_of_much(case: Case) -> str:
    """A line of 20 MB."""
    path, lines = _text(case)
    lines[_vertex(case, lines)] = "vertex " + "9" * 20_000_000
    return _write(path, lines)


@ascii(NOTICED)
def nothing_but_the_name(case: Case) -> str:
    """A solid without a triangle."""
    path, _ = _text(case)
    return _write(path, case.one((["solid", "endsolid"], ["solid x"], ["solid", "facet normal 0 0 1", "endsolid"])))
