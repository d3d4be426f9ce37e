"""The renderer against analytic solids and an independent ray tracer."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings, strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry import pixel_size_mm
from veriserum_hf.geometry.pose import make_transform, transform_points
from veriserum_hf.rendering.contours import outline
from veriserum_hf.rendering.rasteriser import path_length, path_length_window
from veriserum_hf.simulation.implants import IMPLANTS, implant_mesh

FIELD_CENTER_MM = np.array([0.0, 20.0, 381.0])


def random_pose(rng, reach_mm=40.0):
    return make_transform(Rotation.random(rng=rng).as_matrix(), FIELD_CENTER_MM + rng.uniform(-1, 1, 3) * reach_mm)


def traced(mesh, T, plane, window):
    """Path lengths by embree in the window's pixels, and where they count.

    Embree finds triangles in single precision, so near an edge it loses one or takes the neighbour's: then front and
    back faces do not pair up, or the point on the triangle's plane, worked out in double precision, is not in it.
    """
    posed = mesh.copy()
    posed.apply_transform(T)
    rows, columns = window.values.shape
    px = np.stack(np.meshgrid(np.arange(columns) + window.column, np.arange(rows) + window.row), axis=-1)
    source, directions = plane.rays(px.reshape(-1, 2), 512)
    tracer = trimesh.ray.ray_pyembree.RayMeshIntersector(posed)
    hits, ray, triangle = tracer.intersects_location(
        np.broadcast_to(source, directions.shape), directions, multiple_hits=True
    )
    sign = np.sign((posed.face_normals[triangle] * directions[ray]).sum(axis=1))
    depth = ((hits - source) * directions[ray]).sum(axis=1)
    outside = trimesh.triangles.points_to_barycentric(posed.triangles[triangle], hits).min(axis=1) < 0
    length, unpaired, strayed = (
        np.bincount(ray, weights, len(directions)).reshape(rows, columns) for weights in (sign * depth, sign, outside)
    )
    return length, (unpaired == 0) & (strayed == 0)


@pytest.mark.slow
@pytest.mark.parametrize("anatomy_id", IMPLANTS)
def test_agrees_with_ray_tracing_away_from_silhouettes(rig, anatomy_id):
    mesh, rng = implant_mesh(anatomy_id), np.random.default_rng(anatomy_id)
    compared = 0
    for _ in range(20):
        T = random_pose(rng)
        for name in PLANES:
            window = path_length_window(mesh, T, rig[name])
            expected, counts = traced(mesh, T, rig[name], window)
            inside = (window.values > 0) & ~_silhouettes(mesh, T, rig[name], window)
            assert counts[inside].mean() > 0.995
            inside &= counts
            assert np.abs(window.values - expected)[inside].max() <= 1e-6
            compared += inside.sum()
    assert compared > 50_000


def _silhouettes(mesh, T, plane, window):
    """Pixels within one of an edge between a face seen from the front and one seen from the back."""
    posed = transform_points(T, mesh.vertices)
    normals = mesh.face_normals @ T[:3, :3].T
    facing = (normals * (posed[mesh.faces[:, 0]] - plane.source_mm)).sum(axis=1) < 0
    edges = mesh.face_adjacency_edges[facing[mesh.face_adjacency[:, 0]] != facing[mesh.face_adjacency[:, 1]]]
    ends = plane.project(posed, 512)[edges]
    steps = np.linspace(0, 1, 1 + int(2 * np.abs(ends[:, 1] - ends[:, 0]).max(initial=1)))[:, None, None]
    px = np.rint(ends[:, 0] + steps * (ends[:, 1] - ends[:, 0])).astype(int).reshape(-1, 2)
    mask = np.zeros(window.values.shape, dtype=bool)
    column, row = (px - (window.column, window.row)).T
    seen = (row >= 0) & (row < mask.shape[0]) & (column >= 0) & (column < mask.shape[1])
    mask[row[seen], column[seen]] = True
    return ndimage.binary_dilation(mask, np.ones((3, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("anatomy_id", IMPLANTS)
def test_no_path_length_is_negative(rig, anatomy_id):
    mesh, rng = implant_mesh(anatomy_id), np.random.default_rng(100 + anatomy_id)
    for n in range(200):
        plane = rig[PLANES[n % 2]]
        assert path_length_window(mesh, random_pose(rng), plane, 512).values.min() >= 0


@pytest.mark.parametrize("anatomy_id", IMPLANTS)
def test_integrates_to_the_volume(rig, anatomy_id):
    mesh, rng = implant_mesh(anatomy_id), np.random.default_rng(anatomy_id)
    for name in PLANES:
        T, plane = random_pose(rng), rig[name]
        size = 1024
        length = path_length(mesh, T, plane, size)
        # A pixel's cone has the cross-section (pitch z / SID)^2 at depth z; z of the centre of mass will do.
        depth = transform_points(plane.world_to_camera @ T, mesh.center_mass[None])[0, 2]
        rows, columns = np.indices(length.shape)
        K = plane.intrinsics(size)
        obliquity = np.sqrt(1 + ((columns - K[0, 2]) / K[0, 0]) ** 2 + ((rows - K[1, 2]) / K[1, 1]) ** 2)
        volume = (length / obliquity).sum() * (pixel_size_mm(size) * depth / plane.sid_mm) ** 2
        assert volume == pytest.approx(mesh.volume, rel=0.002)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(PLANES))
def test_a_ball_has_the_chords_of_a_ball(rig, seed, name):
    rng, radius = np.random.default_rng(seed), 20.0
    ball, T, plane = trimesh.creation.icosphere(subdivisions=5, radius=radius), random_pose(rng), rig[name]
    length = path_length(ball, T, plane, 256)
    source, directions = plane.rays(np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1), 256)
    to_center = T[:3, 3] - source
    off_axis = np.linalg.norm(np.cross(directions, to_center), axis=-1)
    chord = 2 * np.sqrt(np.maximum(radius**2 - off_axis**2, 0))
    well_inside = off_axis < 0.95 * radius
    assert np.abs(length - chord)[well_inside].max() < 0.05  # the facets of the ball
    assert (length[off_axis > radius] == 0).all()


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_front_and_back_faces_pair_up_however_the_edges_fall_on_the_pixels(rig, seed):
    # Corners exactly on pixel centres, edges exactly along rows and columns, faces exactly edge on.
    rng, plane = np.random.default_rng(seed), rig["bs"]
    corner, extent = rng.integers(20, 30, 2), rng.integers(1, 12, 2)
    px = np.array([corner, corner + (extent[0], 0), corner + extent, corner + (0, extent[1])], dtype=float)
    source, directions = plane.rays(px, 64)
    near_far = [source + directions / -directions[:, 2:] * z for z in (1400.0, 1450.0)]
    prism = trimesh.Trimesh(
        np.concatenate(near_far),
        [(0, 2, 1), (0, 3, 2), (4, 5, 6), (4, 6, 7)]
        + [f for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)) for f in ((a, b, b + 4), (a, b + 4, a + 4))],
        process=False,
    )
    if prism.volume < 0:
        prism.invert()
    length = path_length(prism, np.eye(4), plane, 64)
    assert length.max() < 60  # an unpaired face would leave 1,400 mm
    assert (length > 0).sum() == pytest.approx(extent.prod(), abs=float(extent.sum() + 1))


def test_only_what_lies_in_the_field_is_drawn(rig):
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=30)
    at_the_edge = make_transform(np.eye(3), (-140, 20, 381))
    outside = make_transform(np.eye(3), (-300, 20, 381))
    whole = path_length_window(mesh, at_the_edge, rig["bs"], 512, margin_px=100)
    cut = path_length(mesh, at_the_edge, rig["bs"], 512)
    inner = np.zeros((712, 712))
    inner[whole.slices(100)] = whole.values
    assert whole.column < 0
    np.testing.assert_array_equal(inner[100:-100, 100:-100], cut)
    assert not path_length(mesh, outside, rig["bs"], 512).any()


def test_what_cannot_be_rendered_is_refused(rig):
    box = trimesh.creation.box((10, 10, 10))
    open_box = trimesh.Trimesh(box.vertices, box.faces[:-1])
    inverted = box.copy()
    inverted.invert()
    with pytest.raises(ValueError, match=r"11 triangles\) is not closed"):
        path_length(open_box, np.eye(4), rig["bs"])
    one_inverted = trimesh.Trimesh(box.vertices, [box.faces[0][::-1], *box.faces[1:]], process=False)
    with pytest.raises(ValueError, match="some triangles of the mesh face inwards"):
        path_length(one_inverted, np.eye(4), rig["bs"])
    with pytest.raises(ValueError, match="inside out"):
        path_length(inverted, np.eye(4), rig["bs"])
    with pytest.raises(ValueError, match="behind the X-ray source"):
        path_length(box, make_transform(np.eye(3), (0, 0, 1900)), rig["bs"])


def test_outlines_follow_the_shadow(rig):
    torus = trimesh.creation.torus(25, 8, major_sections=96, minor_sections=48)
    T = make_transform(np.eye(3), FIELD_CENTER_MM)
    contours = outline(torus, T, rig["bs"])
    assert len(contours) == 2  # its rim and its hole
    center = rig["bs"].project(FIELD_CENTER_MM)
    depth = rig["bs"].sid_mm / (rig["bs"].sid_mm - FIELD_CENTER_MM[2]) / pixel_size_mm(512)
    for contour, radius_mm in zip(sorted(contours, key=len), (17, 33), strict=True):
        radii = np.hypot(*(contour - center).T)
        assert radii == pytest.approx(radius_mm * depth, abs=0.35)
    assert outline(torus, make_transform(np.eye(3), (-400, 0, 381)), rig["bs"]) == []
