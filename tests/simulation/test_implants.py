"""The simulated implants: closed solids of plausible size, the same in every process and every format."""

import hashlib
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation
from trimesh.ray.ray_pyembree import RayMeshIntersector

from veriserum_hf.errors import SimulationError
from veriserum_hf.simulation import implants
from veriserum_hf.simulation.implants import IMPLANT_PAIRS, IMPLANTS, implant_mesh, write_nifti, write_stl

FEMORAL, TIBIAL = (1, 2), (3, 4, 5, 6, 7)
each_implant = pytest.mark.parametrize("anatomy_id", IMPLANTS)
each_femoral = pytest.mark.parametrize("anatomy_id", FEMORAL)
each_tibial = pytest.mark.parametrize("anatomy_id", TIBIAL)


def test_every_femoral_component_is_paired_with_every_tibial_one():
    assert list(IMPLANT_PAIRS) == [(f, t) for f in FEMORAL for t in TIBIAL]
    assert {id: model.component for id, model in IMPLANTS.items()} == dict.fromkeys(FEMORAL, "femur") | dict.fromkeys(
        TIBIAL, "tibia"
    )
    assert {model.material for model in IMPLANTS.values()} == {"CoCr", "Ti6Al4V"}
    assert len({model.description for model in IMPLANTS.values()}) == len(IMPLANTS)


def test_an_unknown_implant_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"^no implant 8: there are 1, 2, 3, 4, 5, 6, 7$"):
        implant_mesh(8)


@each_implant
def test_mesh_is_one_closed_body_facing_outward(anatomy_id):
    mesh = implant_mesh(anatomy_id)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.body_count == 1
    assert mesh.volume > 0


@each_implant
def test_rays_enter_and_leave_in_turn(anatomy_id):
    """A surface that crosses or folds over itself is entered twice somewhere."""
    mesh = implant_mesh(anatomy_id)
    rng = np.random.default_rng(anatomy_id)
    axes = Rotation.random(8, rng=rng).as_matrix()
    across = rng.uniform(-45, 45, (8, 1500, 2))
    start = np.concatenate([across, np.full((8, 1500, 1), 150.0)], axis=-1) @ axes + mesh.bounds.mean(axis=0)
    start, towards = start.reshape(-1, 3), np.repeat(-axes[:, 2], 1500, axis=0)
    wrong, path_mm = _out_of_order(mesh, start, towards)
    assert (path_mm[~wrong] >= 0).all()
    assert (path_mm > 0).sum() > 2000
    # A ray may slip through an edge; next to it, it may not.
    again, _ = _out_of_order(mesh, start[wrong] + rng.normal(0, 0.01, (wrong.sum(), 3)), towards[wrong])
    assert not again.any()


def _out_of_order(mesh, start, towards):
    """Rays whose crossings do not alternate between in and out, and the length of each ray inside, mm."""
    hit, ray, face = RayMeshIntersector(mesh).intersects_location(start, towards, multiple_hits=True)
    depth = ((hit - start[ray]) * towards[ray]).sum(axis=1)
    leaving = np.where((mesh.face_normals[face] * towards[ray]).sum(axis=1) > 0, 1, -1)
    order = np.lexsort((depth, ray))
    ray, depth, leaving = ray[order], depth[order], leaving[order]
    order = np.arange(len(ray)) - np.searchsorted(ray, ray)
    wrong = np.bincount(ray, leaving != np.where(order % 2, 1, -1), minlength=len(start)) > 0
    wrong |= np.bincount(ray, minlength=len(start)) % 2 == 1
    return wrong, np.bincount(ray, leaving * depth, minlength=len(start))


@each_implant
def test_stl_file_holds_the_mesh_without_loss(anatomy_id, tmp_path):
    write_stl(anatomy_id, tmp_path / "implant.stl")
    mesh, read = implant_mesh(anatomy_id), trimesh.load_mesh(tmp_path / "implant.stl", process=False)
    np.testing.assert_array_equal(read.triangles, mesh.triangles)
    read.merge_vertices()
    assert read.is_watertight
    assert read.body_count == 1
    assert len(read.vertices) == len(mesh.vertices)
    assert read.area_faces.min() > 1e-6


def test_files_are_the_same_in_another_process(tmp_path):
    def digests(folder):
        return [hashlib.sha256((folder / f"{id}.stl").read_bytes()).hexdigest() for id in IMPLANTS]

    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    for anatomy_id in IMPLANTS:
        write_stl(anatomy_id, here / f"{anatomy_id}.stl")
    script = (
        "import sys; from veriserum_hf.simulation.implants import IMPLANTS, write_stl\n"
        "for id in reversed(IMPLANTS): write_stl(id, f'{sys.argv[1]}/{id}.stl')"
    )
    subprocess.run([sys.executable, "-c", script, str(there)], check=True)
    assert digests(there) == digests(here)
    assert len(set(digests(here))) == len(IMPLANTS)


@each_femoral
def test_femoral_component_has_the_size_of_a_real_one(anatomy_id):
    mesh = implant_mesh(anatomy_id)
    width, height, depth = mesh.extents
    assert 65 <= width <= 70
    assert 55 <= depth <= 62
    assert 50 <= height <= 68
    assert 250 < mesh.volume * 8.3e-3 < 420, "grams of CoCr"
    assert 25_000 < len(mesh.faces) < 31_000
    np.testing.assert_allclose(mesh.bounds[:, 0].sum(), 0, atol=0.05)


@each_femoral
def test_femoral_component_rolls_on_a_circle_about_the_flexion_axis(anatomy_id):
    radius_mm = IMPLANTS[anatomy_id].shape.posterior_radius_mm
    for lowest in _lowest_by_flexion(anatomy_id):
        np.testing.assert_allclose(lowest[30:], -radius_mm, atol=0.01)


@each_femoral
def test_lowest_surface_is_smooth_at_every_flexion(anatomy_id):
    for lowest in _lowest_by_flexion(anatomy_id):
        slope_mm = np.diff(lowest)
        assert np.abs(slope_mm).max() < 0.1
        assert np.abs(np.diff(slope_mm)).max() < 0.01


def _lowest_by_flexion(anatomy_id):
    """Height of the medial and of the lateral condyle's lowest point at 0, 1, ... 120 degrees, mm."""
    corners = implant_mesh(anatomy_id).vertices
    flexed = np.radians(np.arange(121))
    up = np.stack([0 * flexed, np.cos(flexed), np.sin(flexed)])
    return [(corners[corners[:, 0] * side > 0] @ up).min(axis=0) for side in (1, -1)]


def test_only_the_stabilised_component_has_a_cam_between_its_condyles():
    start, towards = np.array([[0.3, 8.53, -60.0]]), np.array([[0.0, 0.0, 1.0]])
    first_mm = {
        anatomy_id: RayMeshIntersector(implant_mesh(anatomy_id)).intersects_location(start, towards, False)[0][0, 2]
        for anatomy_id in FEMORAL
    }
    assert first_mm[1] > 20, "nothing before the flange"
    assert first_mm[2] == pytest.approx(-17.2, abs=0.1)


@each_tibial
def test_tibial_component_has_the_size_of_a_real_one(anatomy_id):
    mesh, shape = implant_mesh(anatomy_id), IMPLANTS[anatomy_id].shape
    assert 65 <= mesh.extents[0] <= 75
    assert 42 <= mesh.extents[2] <= 50
    assert 0 <= mesh.bounds[1, 1] == pytest.approx(shape.rim_mm, abs=1e-4)
    assert shape.rim_mm <= 1.5
    assert -75 < mesh.bounds[0, 1] < -20
    np.testing.assert_allclose(mesh.bounds.sum(axis=0)[[0, 2]], 0, atol=0.1)


@each_tibial
def test_upper_surface_of_a_tray_lies_at_zero(anatomy_id):
    mesh, thickness_mm = implant_mesh(anatomy_id), IMPLANTS[anatomy_id].shape.thickness_mm
    over_tray = np.array([[x, 50.0, z] for x in (-26.1, 26.1) for z in (-3.3, 4.7)])
    down = np.tile([0.0, -1.0, 0.0], (len(over_tray), 1))
    hit, _, _ = RayMeshIntersector(mesh).intersects_location(over_tray, down, multiple_hits=False)
    np.testing.assert_allclose(hit[:, 1], 0, atol=1e-4)
    assert 4 <= thickness_mm <= 5


@each_implant
def test_voxels_fill_the_mesh(anatomy_id, tmp_path):
    write_nifti(anatomy_id, tmp_path / "implant.nii")
    mesh, image = implant_mesh(anatomy_id), nibabel.load(tmp_path / "implant.nii")
    values = np.asarray(image.dataobj)
    assert values.dtype == np.int16
    assert set(np.unique(values)) == {-1000, 10000}
    assert image.header.get_zooms() == pytest.approx((0.4, 0.4, 0.4))
    assert image.header.get_xyzt_units()[0] == "mm"
    index = np.argwhere(values > 0)
    assert len(index) * 0.4**3 == pytest.approx(mesh.volume, rel=0.01)
    world_mm = nibabel.affines.apply_affine(image.affine, index)
    np.testing.assert_allclose([world_mm.min(axis=0) - 0.2, world_mm.max(axis=0) + 0.2], mesh.bounds, atol=0.41)
    some = np.random.default_rng(0).integers(values.shape, size=(4000, 3))
    contained = RayMeshIntersector(mesh).contains_points(nibabel.affines.apply_affine(image.affine, some))
    assert (contained == (values[tuple(some.T)] > 0)).mean() > 0.999


def test_missing_nibabel_is_named_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    message = r'^NIfTI files need nibabel, which is not installed: pip install "veriserum-hf\[nifti\]"$'
    with pytest.raises(SimulationError, match=message):
        write_nifti(1, tmp_path / "implant.nii")


def test_a_sphere_is_voxelized_with_its_volume():
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=11.0)
    inside, affine = implants.voxelize(sphere, pitch_mm=0.5)
    center_mm = np.argwhere(inside).mean(axis=0) @ affine[:3, :3] + affine[:3, 3]
    assert inside.sum() * 0.5**3 == pytest.approx(sphere.volume, rel=0.003)
    np.testing.assert_allclose(center_mm, 0, atol=0.01)
