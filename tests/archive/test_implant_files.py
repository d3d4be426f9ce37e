"""Own implants: STL, PLY, OBJ and labels of NIfTI volumes."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from veriserum_hf.archive import read_implant_mesh
from veriserum_hf.errors import FrameError

REAL = Path(__file__).parents[3] / "shared" / "real"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="real implants are not at hand")


def solid(thickness_mm=None):
    """A closed ellipsoid, or a thin shell of half of it, with a wall and a rim; mm."""
    mesh = trimesh.creation.icosphere(subdivisions=3)
    mesh.apply_scale((30, 25, 20))
    if thickness_mm is None:
        return mesh
    outer = upper_half(mesh)
    inner = outer.copy()
    inner.vertices = inner.vertices * (1 - thickness_mm / 25)
    rim = [
        edge for edge, n in zip(*np.unique(np.sort(outer.edges), axis=0, return_counts=True), strict=True) if n == 1
    ]
    rim = {tuple(edge) for edge in map(tuple, rim)}
    count = len(outer.vertices)
    sides = []
    for a, b in outer.edges:
        if (min(a, b), max(a, b)) in rim:
            sides += [[b, a, a + count], [b, a + count, b + count]]
    faces = np.concatenate([outer.faces, inner.faces[:, ::-1] + count, sides])
    return trimesh.Trimesh(np.concatenate([outer.vertices, inner.vertices]), faces, process=False)


def upper_half(mesh):
    return trimesh.Trimesh(mesh.vertices, mesh.faces[(mesh.triangles[..., 2] > 0).all(axis=1)])


def refused(path, **options):
    with pytest.raises(FrameError) as error:
        read_implant_mesh(path, **options)
    return str(error.value)


@pytest.mark.parametrize("name", ["a.stl", "ascii.stl", "a.ply", "ascii.ply", "a.obj"])
def test_every_format_gives_the_same_solid(tmp_path, name):
    kind = name.rsplit(".", maxsplit=1)[1]
    options = {"encoding": "ascii"} if name == "ascii.ply" else {}
    data = solid().export(file_type="stl_ascii" if name == "ascii.stl" else kind, **options)
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    found = read_implant_mesh(tmp_path / name)
    assert found.closed and found.mesh.is_watertight and not found.changes
    assert found.mesh.volume == pytest.approx(solid().volume, rel=1e-5)
    assert len(found.mesh.faces) == len(solid().faces)


def test_what_was_mended_is_said_in_sentences(tmp_path):
    mesh = solid()
    mesh.invert()
    mesh.faces = mesh.faces[1:]
    mesh.export(tmp_path / "a.ply")
    found = read_implant_mesh(tmp_path / "a.ply")
    assert found.mesh.volume == pytest.approx(solid().volume, rel=1e-3)
    first, second = found.changes
    assert first.startswith("A hole of 3 edges (") and second.startswith("It was inside out, and reoriented (")


@pytest.mark.parametrize("thickness_mm", [0.02, 1.0])
def test_a_closed_thin_shell_is_a_solid(tmp_path, thickness_mm):
    shell = solid(thickness_mm)
    shell.export(tmp_path / "a.stl")
    found = read_implant_mesh(tmp_path / "a.stl")
    assert found.closed and not found.changes
    assert found.mesh.volume == pytest.approx(shell.volume, rel=1e-2)


def test_a_surface_without_thickness_is_refused(tmp_path):
    outer = upper_half(solid())
    outer.export(tmp_path / "a.stl")
    way_out = "Give it a thickness where it is drawn, and export it closed"
    assert "it is not closed: 1 holes" in refused(tmp_path / "a.stl") and way_out in refused(tmp_path / "a.stl")
    both = trimesh.Trimesh(outer.vertices, np.concatenate([outer.faces, outer.faces[:, ::-1]]), process=False)
    both.export(tmp_path / "b.stl")
    assert way_out in refused(tmp_path / "b.stl")


def test_another_unit_and_other_files_are_named(tmp_path):
    in_metres = solid()
    in_metres.apply_scale(0.001)
    in_metres.export(tmp_path / "a.ply")
    assert "wrong unit: a.ply is 0.06 long" in refused(tmp_path / "a.ply") and "in metres it would" in refused(
        tmp_path / "a.ply"
    )
    for name, content in (
        ("b.ply", b"ply\nformat ascii 1.0\nelement vertex 9\n"),
        (
            "c.ply",
            b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n",
        ),
        ("d.obj", b"v 1 2\nf 9 9 9\n"),
        ("e.obj", b""),
        ("f.stl", b"not a mesh"),
    ):
        (tmp_path / name).write_bytes(content)
        assert "unreadable" in refused(tmp_path / name) and name in refused(tmp_path / name)
    assert "no NIfTI volume; leave it out" in refused(tmp_path / "f.stl", label=1)


def ball(shape=(60, 50, 40), radius=15.0):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return (np.linalg.norm(grid - (25.0, 24.0, 20.0), axis=-1) <= radius).astype(np.uint8)


def nifti(path, values, affine=None, **units):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine)
    image.header.set_xyzt_units(**units or {"xyz": "mm"})
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_label_becomes_a_closed_surface_in_mm_of_the_world(tmp_path, name):
    affine = np.array([[0, -2.0, 0, 100], [2.0, 0, 0, -30], [0, 0, 3.0, 7], [0, 0, 0, 1]])
    found = read_implant_mesh(nifti(tmp_path / name, ball(), affine))
    assert found.closed
    center = affine @ (25, 24, 20, 1)
    assert found.mesh.centroid == pytest.approx(center[:3], abs=0.02)
    assert found.mesh.volume == pytest.approx(12 * ball().sum(), rel=0.01)
    radii = np.linalg.norm((found.mesh.vertices - center[:3]) / (2, 2, 3), axis=1)
    assert radii.min() > 14.3 and radii.max() < 15.7  # half a voxel
    assert found.changes[:2] == (
        f"The surface of the label 1 was taken ({ball().sum()} voxels).",
        "Its coordinates are those of the NIfTI file's world (right, anterior, superior).",
    )


def test_of_several_labels_one_is_stated(tmp_path):
    values = 3 * ball().astype(np.int16)
    values[:5] = 7
    path = nifti(tmp_path / "a.nii.gz", values)
    assert "a.nii.gz has the labels 3, 7; state which one is the implant (label:)" in refused(path)
    assert "no voxels of the label 5; it has 3, 7" in refused(path, label=5)
    assert read_implant_mesh(path, label=3).mesh.volume == pytest.approx(8 * ball().sum(), rel=0.01)


def test_islands_are_left_out_and_larger_parts_kept(tmp_path):
    values = ball()
    values[50:52, 5:7, 5:7] = 1
    found = read_implant_mesh(nifti(tmp_path / "a.nii", values))
    assert "1 islands of 8 voxels at most were left out." in [each.lower() for each in found.changes]
    values[50:58, 5:15, 5:15] = 1
    found = read_implant_mesh(nifti(tmp_path / "a.nii", values))
    assert any("has 2 separate solids" in each for each in found.changes)


def test_units_of_a_volume_are_converted(tmp_path):
    found = read_implant_mesh(nifti(tmp_path / "a.nii", ball(), np.diag([0.002, 0.002, 0.002, 1]), xyz="meter"))
    assert found.size_mm == pytest.approx(62, abs=1)
    assert any("converted from meters to mm" in each for each in found.changes)


def test_what_is_no_label_volume_is_named(tmp_path, monkeypatch):
    assert "all of its voxels are 0" in refused(nifti(tmp_path / "a.nii", 0 * ball()))
    assert "has the value 0.5: not a whole number" in refused(nifti(tmp_path / "a.nii", ball() * np.float32(0.5)))
    noise = np.arange(20000, dtype=np.int32).reshape(20, 50, 20)
    assert "thousands of different values" in refused(nifti(tmp_path / "a.nii", noise))
    several = np.stack([ball()] * 2, axis=-1)
    assert "60 x 50 x 40 x 2 voxels, expected three axes" in refused(nifti(tmp_path / "a.nii", several))
    whole = nifti(tmp_path / "a.nii", ball()).read_bytes()
    (tmp_path / "b.nii").write_bytes(whole[:9000])
    assert refused(tmp_path / "b.nii").startswith("damaged: reading b.nii")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(whole)[:-400])
    assert refused(tmp_path / "b.nii.gz").startswith("damaged: reading b.nii.gz")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    assert 'a.nii is NIfTI: pip install "veriserum-hf[nifti]"' in refused(tmp_path / "a.nii")


@needs_real
@pytest.mark.parametrize(
    ("name", "changes"),
    [("biplane_tka/femur0.stl", ["hole"]), ("single_plane_right/femur.stl", ["inside out"])],
)
def test_implants_of_another_laboratory(name, changes):
    found = read_implant_mesh(REAL / name)
    assert found.closed and found.mesh.is_volume and found.mesh.volume > 0
    for change in changes:
        assert any(change in each for each in found.changes)
