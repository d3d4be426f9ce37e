"""Meshes of implants: what is refused, what is mended, and what is used byte for byte."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from trimesh.exchange.stl import export_stl, export_stl_ascii

from veriserum_hf.archive.mesh_repair import bodies
from veriserum_hf.archive.meshes import mesh_of
from veriserum_hf.errors import FrameError
from veriserum_hf.rendering import check_closed
from veriserum_hf.simulation.implants import implant_mesh

REAL = Path(__file__).parents[3] / "shared" / "real"
_DRAWN = trimesh.creation.icosphere(3, radius=32.0).apply_scale((1.0, 0.8, 0.7)).apply_translation((3, 2, 1))
SOUND = trimesh.load(trimesh.util.wrap_as_stream(export_stl(_DRAWN)), file_type="stl")
BINARY, TEXT = export_stl(SOUND), export_stl_ascii(SOUND).encode()
LINES = TEXT.decode().splitlines()
INSIDE_OUT = "inside out, and reoriented (so is a mirrored mesh: check that it is of the right side)"


def stored(mesh):
    """What readers of the stored file get."""
    loaded = trimesh.load(trimesh.util.wrap_as_stream(mesh.data), file_type="stl")
    assert isinstance(loaded, trimesh.Trimesh)
    return loaded


def scaled(factor):
    return export_stl(SOUND.copy().apply_scale(factor))


def of_faces(faces, vertices=SOUND.vertices):
    return export_stl(trimesh.Trimesh(vertices, faces, process=False))


def with_line(index, line):
    return "\n".join([*LINES[:index], line, *LINES[index + 1 :]]).encode()


def with_corner(value):
    data = bytearray(BINARY)
    data[84 + 50 * 7 + 12 : 84 + 50 * 7 + 16] = np.float32(value).tobytes()
    return bytes(data)


def refused(data, category="femur_implant"):
    with pytest.raises(FrameError) as error:
        mesh_of(data, "ana_000001.stl", category)
    return str(error.value)


@pytest.mark.parametrize("data", [BINARY, TEXT, TEXT.replace(b"\n", b"\r\n"), b"solid " + BINARY[6:]], ids=range(4))
def test_a_sound_mesh_is_stored_byte_for_byte(data):
    mesh = mesh_of(data, "ana_000001.stl")
    assert mesh.data == data
    assert (mesh.mended, mesh.faults, mesh.rewritten) == ((), (), False)
    assert mesh.size_mm == pytest.approx(64, abs=0.5)


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + TEXT,
        TEXT.decode().encode("utf-16"),
        TEXT.upper(),
        TEXT.replace(b"solid ", b"solid K\xfcnie ", 1),
        TEXT.replace(b"solid ", "solid Künie ".encode(), 1),
        TEXT.replace(b"vertex ", b"vertex\t\t"),
        BINARY + b"\0",
        b"solid ".ljust(80) + BINARY[80:] + b"\n",
        BINARY + bytes(428),
        TEXT + b"\x1a",
        TEXT[: TEXT.rindex(b"endsolid")],
    ],
    ids=["mark", "utf-16", "upper", "latin", "utf-8", "tabs", "1 byte", "solid + 1", "padding", "end mark", "no end"],
)
def test_what_other_programs_write_is_read(data):
    mesh = mesh_of(data, "ana_000001.stl")
    assert (mesh.mended, mesh.faults) == ((), ())
    read = stored(mesh)
    assert len(read.faces) == len(SOUND.faces) and read.is_watertight
    np.testing.assert_allclose(read.bounds, SOUND.bounds, atol=1e-5)
    np.testing.assert_allclose(read.volume, SOUND.volume, rtol=1e-6)


@pytest.mark.parametrize(
    ("factor", "unit", "category"),
    [
        (0.001, "; in metres it would be 64 mm", "femur_implant"),
        (0.1, "; in cm it would be 64 mm", "tibia_implant"),
        (1 / 25.4, "; in inches it would be 64 mm", "femur_implant"),
        (10.0, "; in tenths of a mm it would be 64 mm", "femur_implant"),
        (1000.0, "; in micrometres it would be 64 mm", "femur_implant"),
        (0.001, "; in metres it would be 64 mm", "femur"),
        (1e15, "", "femur_implant"),
    ],
)
def test_another_unit_is_named_by_the_size(factor, unit, category):
    message = refused(scaled(factor), category)
    most = 300 if "implant" in category else 600
    assert message.startswith("wrong unit: ana_000001.stl is ")
    assert f" long, expected 30 to {most} mm{unit}. Write it in mm" in message


def test_bones_may_be_larger_than_implants_and_nothing_lies_far_away():
    assert not mesh_of(scaled(8.0), "bone.stl", "femur").faults
    far = SOUND.copy().apply_translation((0, 0, 1e5))
    assert "has corners 1e+05 mm from its origin, expected at most 5000 mm" in refused(export_stl(far))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (with_corner(np.nan), "has corners that are not finite numbers, in 1 of its triangles"),
        (with_corner(-np.inf), "has corners that are not finite numbers, in 1 of its triangles"),
        (with_corner(1e20), "is 1e+20 long, expected 30 to 300 mm"),
        (with_line(10, "vertex 1 1e300 2"), "is 1e+300 long, expected 30 to 300 mm"),
        (with_line(10, "vertex 1 nan 2"), "triangle 2 of ana_000001.stl: found 'nan', expected a finite number"),
        (with_line(8, "facit normal 0 0 1"), "triangle 2 of ana_000001.stl: found 'facit', expected the word facet"),
        (with_line(9, "outer loup"), "found 'loup', expected the word loop"),
        (with_line(10, "vertex 1 2"), "found 'vertex', expected a finite number"),
        (with_line(10, "vertex 1 2 3 4"), "found '4', expected the word vertex"),
        (with_line(10, "vertex 1,5 2 3"), "found '1,5', expected a finite number"),
        (with_line(10, "vertex 1_0 2 3"), "found '1_0', expected a finite number"),
        (with_line(10, "vertex \u0661 2 3"), r"found '\u0661', expected a finite number"),
        (with_line(10, ""), "found 'endloop', expected the word vertex"),
        (with_line(10, "vertex 1 2 3\nvertex 4 5 6"), "found 'vertex', expected the word endloop"),
        (TEXT[: len(TEXT) // 2], "it ends where"),
        ("\n".join(LINES[: 7 * 300 + 1]).encode(), "is not closed, and it breaks off before the word endsolid"),
        (BINARY[:-1], f"it states {len(SOUND.faces)} triangles and has room for {len(SOUND.faces) - 1}"),
        (BINARY[:80] + b"\xff" * 4 + BINARY[84:], "it states 4294967295 triangles and has room for"),
        (BINARY[:80] + (900).to_bytes(4, "little") + BINARY[84:], "bytes follow the 900 triangles that it states"),
        (b"", "is not an STL mesh, or only part of one (0 bytes"),
        (b"solid x\nendsolid x", "has 0 triangles, expected a surface of at least four"),
        (BINARY[:80] + (1).to_bytes(4, "little") + BINARY[84:134], "has 1 triangles, expected a surface of at least"),
        (of_faces([[0, 1, 2], [0, 2, 1]] * 2, [[0, 0, 0], [60, 0, 0], [0, 60, 0]]), "has 2 triangles"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_mesh_of_an_implant_is_refused(data, text):
    assert text in refused(data)


@pytest.mark.parametrize("data", [BINARY, TEXT], ids=["binary", "text"])
def test_an_absurd_number_of_triangles_is_refused(monkeypatch, data):
    monkeypatch.setattr("veriserum_hf.archive.stl.MOST_TRIANGLES", 1000)
    assert "has more than 1,000 triangles, expected at most that" in refused(data)


def some_reversed():
    faces = SOUND.faces.copy()
    faces[::3] = faces[::3, ::-1]
    return of_faces(faces)


def mirrored():
    return of_faces(SOUND.faces, SOUND.vertices * (-1, 1, 1))


def with_repeated():
    return of_faces([*SOUND.faces, *SOUND.faces[:5], [0, 0, 1]])


@pytest.mark.parametrize(
    ("data", "mended"),
    [
        (of_faces(SOUND.faces[:, ::-1]), f"it was {INSIDE_OUT}"),
        (mirrored(), f"it was {INSIDE_OUT}"),
        (of_faces(SOUND.faces[1:]), "a hole of 3 edges"),
        (of_faces(np.delete(SOUND.faces, [5, 6, 700], axis=0)), "3 holes of 9 edges"),
        (some_reversed(), "427 of 1280 triangles that faced the other side than their neighbours were reversed"),
        (with_repeated(), "1 triangles that had collapsed were removed; 5 triangles that occurred twice"),
    ],
    ids=["inverted", "mirrored", "hole", "holes", "mixed", "repeated"],
)
def test_what_can_be_mended_safely_is_mended_and_said(data, mended):
    mesh = mesh_of(data, "ana_000001.stl")
    assert mesh.rewritten and mended in "; ".join(mesh.mended) and not mesh.faults
    read = stored(mesh)
    check_closed(read)
    np.testing.assert_allclose(read.volume, SOUND.volume, rtol=2e-3)


def test_a_large_hole_is_named_and_the_mesh_used_as_it_is():
    data = of_faces(SOUND.faces[400:])
    mesh = mesh_of(data, "ana_000001.stl")
    assert mesh.data == data and not mesh.mended
    assert mesh.faults[0].startswith("it is not closed: ")


def moved(mesh, mm):
    return mesh.copy().apply_translation((mm, 0, 0))


def test_solids_of_a_text_file_become_one_mesh():
    other = moved(SOUND, 80)
    mesh = mesh_of(TEXT + b"\n" + export_stl_ascii(other).encode(), "ana_000001.stl")
    assert mesh.mended == ("2 solids of the file were joined to one mesh",)
    assert mesh.faults[0].startswith("it has 2 separate solids (64, 64 mm large), taken as one rigid component")
    assert len(stored(mesh).faces) == 2 * len(SOUND.faces)
    halves = (trimesh.Trimesh(SOUND.vertices, part, process=False) for part in np.split(SOUND.faces, 2))
    mesh = mesh_of(b"\n".join(export_stl_ascii(half).encode() for half in halves), "ana_000001.stl")
    assert not mesh.faults
    check_closed(stored(mesh))


def test_hollow_solids_stay_hollow_and_inverted_solids_are_turned():
    inner = SOUND.copy().apply_translation(-SOUND.center_mass).apply_scale(0.5).apply_translation(SOUND.center_mass)
    inner.invert()
    hollow = trimesh.util.concatenate([SOUND, inner])
    assert mesh_of(export_stl(hollow), "a.stl").data == export_stl(hollow)
    inverted = hollow.copy()
    inverted.invert()
    mesh = mesh_of(export_stl(inverted), "a.stl")
    assert mesh.mended == (f"it was {INSIDE_OUT}",)
    np.testing.assert_allclose(stored(mesh).volume, hollow.volume, rtol=1e-5)
    aside = moved(inner, 80)
    mesh = mesh_of(export_stl(trimesh.util.concatenate([SOUND, aside])), "a.stl")
    assert mesh.mended == (f"1 of its 2 closed surfaces were {INSIDE_OUT}",)
    assert (bodies(stored(mesh)).volume_mm3 > 0).all()


def test_simulated_implants_are_sound():
    for id in (1, 3):
        data = export_stl(implant_mesh(id))
        mesh = mesh_of(data, "ana_000001.stl", f"{'femur' if id == 1 else 'tibia'}_implant")
        assert mesh.data == data and not mesh.faults


@pytest.mark.skipif(not REAL.exists(), reason="the real meshes of other laboratories are not here")
@pytest.mark.parametrize(
    ("file", "mended"),
    [
        ("biplane_tka/femur0.stl", "a hole of 15 edges"),
        ("biplane_tka/tibia0.stl", ""),
        ("single_plane_left/tibia.stl", ""),
        ("single_plane_right/femur.stl", "it was inside out"),
    ],
)
def test_meshes_of_other_laboratories_are_usable(file, mended):
    data = (REAL / file).read_bytes()
    mesh = mesh_of(data, file)
    assert not mesh.faults and (mesh.data == data) == (not mended) and mended in "; ".join(mesh.mended)
    check_closed(stored(mesh))
