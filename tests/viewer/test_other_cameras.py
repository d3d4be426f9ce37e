"""Images of any size and shape, pixels that are not square, one plane: drawn by the row's own cameras."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial import KDTree

from tests.fixtures.other_cameras import as_files, cropped, one_plane, resized, without_descriptions
from tests.viewer.conftest import PARTS
from veriserum_hf.errors import VeriserumError
from veriserum_hf.geometry import Camera, make_transform
from veriserum_hf.geometry.pose import quaternion_to_matrix
from veriserum_hf.viewer.animation import PLANE_PX, draw_trial
from veriserum_hf.viewer.crops import Scale, choose_crops
from veriserum_hf.viewer.outline_image import CLOSE_UP_PX, SIZE_PX, draw_outlines
from veriserum_hf.viewer.outlines import COLORS, PoseSet, label_of, trace_planes
from veriserum_hf.viewer.overlay import axes_world_mm, draw_axes
from veriserum_hf.viewer.views import grey_of

FIRST_PX, BS, FS = (560, 530), (500, 420), (480, 640)  # of the crop in bs; sizes (rows, columns)


@pytest.fixture(scope="module")
def other(row):
    """A part of the bs image, the fs image with pixels of 4 : 3, and of both nothing but pixels known."""
    return resized(cropped(row, "bs", FIRST_PX, BS), "fs", FS)


def crops_of(row, meshes, size=SIZE_PX):
    planes = {plane: [traced] for plane, traced in trace_planes(row, [label_of(row)], meshes).items()}
    scale = Scale.of(planes)
    return scale, choose_crops(planes, size, scale)


def drawn(image):
    """Pixels with nearly the colour of the label's outlines."""
    return np.abs(image.astype(int) - COLORS[0]).max(axis=2) < 40


@pytest.mark.parametrize("as_stored", [False, True])
def test_outlines_lie_where_they_are_in_the_whole_image(row, other, meshes, as_stored):
    whole, found = (
        trace_planes(each, [label_of(row)], meshes) for each in (row, as_files(other) if as_stored else other)
    )
    ratio = np.array(FS[::-1]) / 1600
    back = {"bs": lambda px: px + FIRST_PX, "fs": lambda px: (px + 0.5) / ratio - 0.5}
    for plane, traced in found.items():
        for part, of_whole in zip(traced.traces, whole[plane].traces, strict=True):
            expected = KDTree(np.concatenate(of_whole.contours_px))
            apart_px, _ = expected.query(back[plane](traced.points(part)))
            assert len(apart_px) > 50 and apart_px.max() < 0.3 * max(1, 1 / ratio.min())


@settings(max_examples=12)
@given(
    first_px=st.tuples(st.integers(0, 500), st.integers(0, 500)),
    part=st.tuples(st.integers(600, 1000), st.integers(600, 1000)),
    to=st.tuples(st.integers(150, 2000), st.integers(150, 2000)),
)
def test_outlines_of_any_part_in_any_size_are_those_of_the_whole_image(row, meshes, first_px, part, to):
    found = resized(cropped(one_plane(row), "bs", first_px, part), "bs", to)
    femur = PoseSet("femur", {"femur": row["femur"]})
    whole, traced = (trace_planes(each, [femur], meshes)["bs"] for each in (one_plane(row), found))
    expected_px = np.concatenate(whole.traces[0].contours_px)
    ratio = np.array(to[::-1]) / part[::-1]
    inside = traced.points(traced.traces[0])
    back_px = (inside + 0.5) / ratio - 0.5 + first_px
    if len(back_px):
        apart_px, _ = KDTree(expected_px).query(back_px)
        assert apart_px.max() < 0.3 * 1600 / 900  # of the pixels that they are traced in


@pytest.mark.parametrize("plane", ["bs", "fs"])
def test_outlines_are_drawn_on_the_edges_of_shadows(other, meshes, plane):
    _, crops = crops_of(other, meshes)
    left = SIZE_PX * (plane == "fs")
    panel = draw_outlines(other, [label_of(other)], meshes)[:SIZE_PX, left : left + SIZE_PX]
    dark = crops[plane].cut(grey_of(other, plane))[:, :, 0].astype(np.uint8)
    edge = cv2.morphologyEx(np.uint8(dark < 120), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    from_edge_px = cv2.distanceTransform(1 - edge, cv2.DIST_L2, 5)[drawn(panel)]
    assert len(from_edge_px) > 500 and np.median(from_edge_px) / crops[plane].px_per_mm < 0.3


def test_lengths_are_stated_at_the_implants_depth_where_the_detectors_distance_is_unknown(row, other, meshes):
    known, _ = crops_of(row, meshes)
    assert known.where == "on the detector"
    assert known.distance_mm["bs"] == pytest.approx(row["camera_bs"]["source_to_intensifier_mm"])
    scale, crops = crops_of(other, meshes)
    assert scale.stated(crops).startswith("1 mm at the implants' depth (bs 14")
    for plane, crop in crops.items():
        camera = Camera.from_row(other[f"camera_{plane}"])
        for axis in range(2):  # ten millimetres to the right, and down
            corner = np.array([[-5.0, 5.0, scale.distance_mm[plane]]] * 2)
            corner[1, axis] += 10
            px = camera.project(corner @ camera.world_to_camera[:3, :3] + camera.source_mm) * crop.scale
            assert np.linalg.norm(px[1] - px[0]) == pytest.approx(10 * crop.px_per_mm, rel=1e-6)
    one_known = other | {"camera_fs": row["camera_fs"], "image_fs": row["image_fs"]}
    assert crops_of(one_known, meshes)[0].where == scale.where
    pixel_only = without_descriptions(row)
    pixel_only["camera_bs"] = row["camera_bs"] | {"source_to_intensifier_mm": None}
    alone, _ = crops_of(one_plane(pixel_only), meshes)
    assert alone.where == known.where and alone.distance_mm["bs"] == pytest.approx(known.distance_mm["bs"])


def test_one_plane_is_drawn_alone(row, other, meshes):
    for alone in (one_plane(row), one_plane(other), one_plane(without_descriptions(row))):
        image = draw_outlines(alone, [label_of(alone)], meshes)
        assert image.shape[1] == SIZE_PX and image.shape[0] > SIZE_PX + CLOSE_UP_PX
        assert drawn(image[:SIZE_PX]).sum() > 500
        assert draw_axes(alone).shape == (713, 640, 3)
    unlabelled = one_plane(other) | {"femur": None, "tibia": None}
    scale, crops = crops_of(unlabelled, meshes)
    assert "unknown" in scale.stated(crops)
    assert draw_outlines(unlabelled, [label_of(unlabelled)], meshes)[:SIZE_PX].std() > 20


def test_axes_are_drawn_in_their_own_part_of_the_image(row, other):
    image = draw_axes(other)
    assert image.shape == (684, 1280, 3)
    for component in PARTS:
        origin_mm = axes_world_mm(other[component])[0]
        whole = [Camera.from_row(row[f"camera_{plane}"]).project(origin_mm) for plane in ("bs", "fs")]
        bs = (whole[0] - FIRST_PX + 0.5) * 640 / BS[0] - 0.5 + ((640 - 538) // 2, 0)
        fs = (whole[1] + 0.5) * 640 / 1600 - 0.5 + (640, 0)  # with square pixels the whole image is square again
        for column, line in (bs, fs):
            assert image[round(line), round(column)].tolist() == [0, 220, 255]


def test_a_trial_of_different_images_has_frames_of_one_even_size(row, other, meshes):
    rows = [other, row, one_plane(other)]
    files = [as_files(each) for each in rows]
    images = list(draw_trial(files, [[label_of(each)] for each in rows], meshes))
    assert {image.shape for image in images} == {images[0].shape}
    assert images[0].shape[1] == 2 * PLANE_PX and images[0].shape[0] % 2 == 0
    seen = [[drawn(image[:PLANE_PX, left : left + PLANE_PX]).any() for left in (0, PLANE_PX)] for image in images]
    assert seen == [[True, True], [True, True], [True, False]]
    [alone] = draw_trial(files[2:], [[label_of(row)]], meshes)
    assert alone.shape[1] == PLANE_PX and alone.shape[0] % 2 == 0


def test_depths_are_those_of_the_implants_and_not_of_their_coordinates(row, meshes):
    """The origin of another laboratory's STL file may be far from the implant."""
    away = {id: mesh.copy().apply_translation((0, 0, 500)) for id, mesh in meshes.items()}
    placed = dict(row)
    for part in PARTS:
        T = make_transform(quaternion_to_matrix(row[part]["quaternion_xyzw"]), row[part]["translation_mm"])
        placed[part] = row[part] | {"translation_mm": (T @ (0, 0, -500, 1))[:3].tolist()}
    expected, found = (
        crops_of(one_plane(without_descriptions(each)), known)[0].distance_mm["bs"]
        for each, known in ((row, meshes), (placed, away))
    )
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            dict.fromkeys(("camera_bs", "camera_fs", "image_bs", "image_fs")),
            "has no camera; expected that of one plane",
        ),
        ({"camera_fs": None}, "has an image_fs but no camera_fs"),
        ({"image_fs": None}, r"has no image_fs; expected the image of its camera_fs"),
        ({"image_bs": {"bytes": b"no image", "path": None}}, "cannot be decoded: image_bs: it is no image"),
        ({"image_bs": np.zeros((800, 1600), np.uint8)}, r"camera_bs: the image has 1600 x 800 px, but its camera is"),
    ],
)
def test_what_cannot_be_drawn_is_named(row, meshes, changed, message):
    wrong = row | changed
    with pytest.raises(VeriserumError, match=message):
        draw_outlines(wrong, [label_of(row)], meshes)
    with pytest.raises(VeriserumError, match=message):
        draw_axes(wrong)
