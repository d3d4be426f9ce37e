"""Holders of the implants: closed, apart, in their place, and the same every time."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings, strategies as st

from veriserum_hf.geometry.pose import make_transform
from veriserum_hf.geometry.rig import DualPlaneRig
from veriserum_hf.rendering.rasteriser import path_length
from veriserum_hf.simulation.implants import implant_mesh
from veriserum_hf.simulation.phantom import holder
from veriserum_hf.simulation.solids import solid_of

IMPLANT = {"femur": implant_mesh(1), "tibia": implant_mesh(3)}
# Start of the post's axis: next to the femur on the lateral side, at the tip of the tibial stem.
START_MM = {"femur": (-47.0, 9, -7), "tibia": (0, -48.2, 1.5)}
DIRECTION = {"femur": np.array([0.0, -0.96, -0.28]), "tibia": np.array([0.0, -1.0, 0.0])}

components = st.sampled_from(["femur", "tibia"])
seeds = st.integers(0, 2**32 - 1)
directions = (
    st.tuples(*3 * [st.floats(-1, 1)])
    .map(np.array)
    .filter(lambda v: np.linalg.norm(v) > 0.1)
    .map(lambda v: v / np.linalg.norm(v))
)


def built(component, seed=0, direction=None):
    direction = DIRECTION[component] if direction is None else direction
    return holder(component, IMPLANT[component], direction, np.random.default_rng(seed))


def by_material(component, seed=0):
    return {part.material: part.mesh for part in built(component, seed)}


def along_mm(component, mesh):
    """Distances of the mesh's corners from the start of the post, along it and across."""
    from_start = mesh.vertices - START_MM[component]
    along = from_start @ DIRECTION[component]
    return along, np.linalg.norm(from_start - along[:, None] * DIRECTION[component], axis=1)


def digest(component, seed):
    arrays = [a for part in built(component, seed) for a in (part.mesh.vertices, part.mesh.faces)]
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


@settings(max_examples=30)
@given(components, seeds, directions)
def test_every_part_is_a_closed_solid_of_few_triangles_in_any_direction(component, seed, direction):
    parts = built(component, seed, direction)
    assert len({part.material for part in parts}) == len(parts)
    assert sum(len(part.mesh.faces) for part in parts) <= 6_000
    for part in parts:
        assert part.mesh.is_watertight and part.mesh.volume > 100
        # As after a way through an STL file: 32-bit corners, merged where they are equal.
        stored = trimesh.Trimesh(
            part.mesh.triangles.astype(np.float32).reshape(-1, 3), np.arange(len(part.mesh.faces) * 3).reshape(-1, 3)
        )
        assert stored.is_watertight and stored.volume == pytest.approx(part.mesh.volume, rel=1e-4)


@settings(max_examples=10)
@given(components, seeds)
def test_no_place_is_of_two_materials(component, seed):
    whole = solid_of(IMPLANT[component])
    for solid in (solid_of(part.mesh) for part in built(component, seed)):
        assert (whole ^ solid).volume() < 5  # mm3; the smallest part has thousands
        whole += solid


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("component", "nearest_mm", "farthest_mm"), [("femur", 100, 160), ("tibia", 90, 140)])
def test_the_post_leads_from_the_implant_to_a_base_outside_the_centre_of_the_image(
    component, nearest_mm, farthest_mm, seed
):
    meshes = by_material(component, seed)
    along, across = along_mm(component, meshes["PMMA"])
    assert -8 < along[across < 12].min() < 20  # at the arm to the implant, or in the cement below it
    along, across = along_mm(component, meshes["steel"])
    assert 30 < along.min() < farthest_mm - 40  # the bolt's tip, deep in the post
    assert across[along < nearest_mm - 10].max() < 5  # nothing around the bolt until the base
    assert across[along < farthest_mm + 20].max() > 20


def test_cement_surrounds_the_tip_of_the_tibial_stem():
    for seed in range(5):
        cement = by_material("tibia", seed)["cement"]
        assert cement.contains([START_MM["tibia"]]).all()
        assert (cement.extents > 15).all() and (cement.extents < 60).all()
    assert "cement" not in by_material("femur")


@pytest.mark.parametrize("component", ["femur", "tibia"])
def test_the_post_is_clear_and_the_base_is_not(component):
    rig = DualPlaneRig.from_calibration(
        principal_point_bs_mm=(2.7, -6.1), sid_bs_mm=1860.54, principal_point_fs_mm=(-10.1, 2.0), sid_fs_mm=1851.35
    )
    T = make_transform(np.eye(3), (0, 60, 381))
    meshes = by_material(component)
    for plane in rig.values():
        lengths = {material: path_length(mesh, T, plane, 256) for material, mesh in meshes.items()}
        assert all(length.min() >= 0 for length in lengths.values())
        column, row = np.rint(
            plane.project(T[:3, :3] @ (START_MM[component] + 30 * DIRECTION[component]) + T[:3, 3], 256)
        ).astype(int)
        assert 10 < lengths["PMMA"][row, column] < 25 and lengths["steel"][row, column] == 0
        assert lengths["steel"].max() > 50


def test_the_same_seed_gives_the_same_arrays_in_another_process():
    elsewhere = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import digest; print(digest('femur', 3), digest('tibia', 3))"],
        capture_output=True,
        text=True,
        check=True,
    )
    for component, there in zip(("femur", "tibia"), elsewhere.stdout.split(), strict=True):
        assert there == digest(component, 3) != digest(component, 4)


def test_drawing_goes_on_from_the_generators_state():
    rng = np.random.default_rng(0)
    first, second = (holder("femur", IMPLANT["femur"], DIRECTION["femur"], rng) for _ in range(2))
    assert first[0].mesh.volume != second[0].mesh.volume


def test_says_what_is_wrong_with_the_direction():
    with pytest.raises(ValueError, match=r"unit vector of 3 numbers, got .*; divide it by its length"):
        built("femur", direction=(0, -2, 0))
    with pytest.raises(ValueError, match="unit vector"):
        built("femur", direction=(np.nan, 0, 0))


def test_says_which_components_have_holders():
    with pytest.raises(ValueError, match="must be 'femur' or 'tibia', got 'patella'"):
        holder("patella", IMPLANT["femur"], (0, -1, 0), np.random.default_rng(0))
