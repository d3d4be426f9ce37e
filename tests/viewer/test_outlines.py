"""Outlines coincide with the implants in the images, and kinds of pose can be distinguished."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tests.viewer.conftest import PARTS, STORED_PX
from veriserum_hf.core.domain import PLANES
from veriserum_hf.errors import VeriserumError
from veriserum_hf.geometry import FIELD_MM, Camera
from veriserum_hf.viewer.crops import Crop, Scale, choose_crops
from veriserum_hf.viewer.outline_image import CLOSE_UP_MM, CLOSE_UP_PX, SIZE_PX, choose_spots, draw_outlines
from veriserum_hf.viewer.outlines import COLORS, PoseSet, label_of, trace_planes
from veriserum_hf.viewer.views import grey_of

MM_PER_PX = np.full(2, FIELD_MM / STORED_PX)
PX_PER_MM = STORED_PX / FIELD_MM


def moved(row, by_mm, name="moved", **more):
    """The row's poses, moved in the world."""
    poses = {
        part: row[part] | {"translation_mm": np.add(row[part]["translation_mm"], by_mm).tolist()} | more
        for part in PARTS
    }
    return PoseSet(name, poses)


def crops_of(row, sets, meshes):
    """Crops that an image of the row has."""
    planes = {plane: [traced] for plane, traced in trace_planes(row, sets, meshes).items()}
    return choose_crops(planes, SIZE_PX, Scale.of(planes))


def of_color(image, kind):
    """Pixels of an image with nearly the colour of a kind of pose."""
    return np.abs(image.astype(int) - COLORS[kind]).max(axis=2) < 40


@pytest.mark.parametrize("plane", PLANES)
def test_the_outline_of_the_label_is_drawn_on_the_edge_of_the_shadow(row, meshes, plane):
    label = [label_of(row)]
    view = crops_of(row, label, meshes)[plane]
    left = PLANES.index(plane) * SIZE_PX
    panel = draw_outlines(row, label, meshes)[:SIZE_PX, left : left + SIZE_PX]
    dark = view.cut(grey_of(row, plane))[:, :, 0] < 120
    edge = dark ^ ndimage.binary_erosion(dark)
    drawn = of_color(panel, 0)
    # Where the implants overlap, an outline crosses the other's shadow.
    from_edge_px = ndimage.distance_transform_edt(~edge)[drawn]
    from_line_px = ndimage.distance_transform_edt(~drawn)[edge]
    assert np.percentile(from_line_px, 90) / view.px_per_mm <= 0.3
    assert np.median(from_edge_px) / view.px_per_mm <= 0.2
    assert view.px_per_mm > 5


@pytest.mark.parametrize("size", [256, 512, 1600])
def test_a_part_of_an_image_shows_what_lies_there(size):
    """Of a blob, whatever the size of the image."""
    at_px = np.array([412.3, 377.8])  # of 900
    stored_px, center_px = ((px + 0.5) * size / 900 - 0.5 for px in (at_px, np.array([410.0, 380.0])))
    rows, columns = np.mgrid[:size, :size]
    sigma_px = 1.5 / FIELD_MM * size
    blob = np.exp(-((columns - stored_px[0]) ** 2 + (rows - stored_px[1]) ** 2) / 2 / sigma_px**2)
    view = Crop(center_px, np.full(2, FIELD_MM / size), 30.0, 300)
    shown = view.cut(np.rint(250 * blob).astype(np.uint8))[:, :, 0].astype(float)
    found_px = np.array(ndimage.center_of_mass(shown))[::-1]
    np.testing.assert_allclose(found_px, stored_px * view.scale + view.shift_px, atol=0.02 * view.px_per_mm)


@pytest.mark.parametrize("plane", PLANES)
def test_a_pose_of_a_file_is_drawn_where_the_file_has_it(row, meshes, plane):
    by_mm = (0.0, 1.0, 0.0)  # up, in both planes
    label, other = (
        np.concatenate(traced.contours_px)
        for traced in trace_planes(row, [label_of(row), moved(row, by_mm)], meshes)[plane].traces
        if traced.component == "femur"
    )
    origin_mm = np.array(row["femur"]["translation_mm"])
    project = Camera.from_row(row[f"camera_{plane}"], STORED_PX).project
    expected_px = project(origin_mm + by_mm) - project(origin_mm)
    for found in (other.min(axis=0) - label.min(axis=0), other.max(axis=0) - label.max(axis=0)):
        np.testing.assert_allclose(
            found, expected_px, atol=0.3 * STORED_PX / 900
        )  # nearer parts of an implant move more
    assert -expected_px[1] == pytest.approx(1.26 * PX_PER_MM, rel=0.05)


@pytest.mark.parametrize("by_mm", [0.0, 0.1])
@pytest.mark.parametrize("kinds", [2, 3, 5])
def test_outlines_that_coincide_are_all_seen(row, meshes, kinds, by_mm):
    sets = [label_of(row), *(moved(row, (0, n * by_mm, 0), f"file {n}") for n in range(1, kinds))]
    image = draw_outlines(row, sets, meshes)
    for left in (0, SIZE_PX):
        panel = image[:SIZE_PX, left : left + SIZE_PX]
        seen = [np.count_nonzero(of_color(panel, kind)) for kind in range(kinds)]
        assert min(seen) > 60, seen


def test_close_ups_show_where_outlines_differ_most(row, meshes):
    """A rotation about the implant's origin moves the points farthest from it most."""
    rotation = Rotation.from_rotvec([0, 0, 2.5], degrees=True)  # about the normal of bs
    quaternion = (rotation * Rotation.from_quat(row["femur"]["quaternion_xyzw"])).as_quat(canonical=True)
    off = PoseSet("rotated", {"femur": row["femur"] | {"quaternion_xyzw": quaternion.tolist()}})
    traced = trace_planes(row, [label_of(row), off], meshes)["bs"]
    spots = choose_spots(traced, MM_PER_PX)
    assert [(spot.number, spot.component) for spot in spots] == [(n + 1, PARTS[n // 2]) for n in range(4)]
    label, other = (np.concatenate(each.contours_px) for each in traced.traces if each.component == "femur")
    apart = np.linalg.norm(label[:, None] - other[None], axis=2).min(axis=1)
    farthest = label[apart.argmax()]
    nearest = other[np.linalg.norm(other - farthest, axis=1).argmin()]
    np.testing.assert_allclose(spots[0].at_px, (farthest + nearest) / 2)
    for first, opposite in (spots[:2], spots[2:]):
        assert np.linalg.norm(first.at_px - opposite.at_px) > 20 * PX_PER_MM


def test_a_tenth_of_a_millimetre_is_seen_in_a_close_up(row, meshes):
    """Both lines are there, and two pixels or more apart."""
    sets = [label_of(row), moved(row, (0.0, 0.1, 0.0))]
    image = draw_outlines(row, sets, meshes)
    strip = image[SIZE_PX : SIZE_PX + CLOSE_UP_PX]
    assert CLOSE_UP_PX / CLOSE_UP_MM * 0.1 > 2
    for left in range(0, 2 * SIZE_PX, CLOSE_UP_PX):
        close_up = strip[:, left : left + CLOSE_UP_PX]
        assert of_color(close_up, 0).sum() > 30 and of_color(close_up, 1).sum() > 30


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("by_mm", [0.1, 4.0, 12.0, 60.0])
def test_every_close_up_holds_the_outlines_of_all_kinds(row, meshes, by_mm, plane):
    """However far apart they are; and it is no wider than that needs."""
    sets = [label_of(row), moved(row, (0.0, 0.5, 0.0)), moved(row, (0.0, by_mm, 0.0))]
    plane_traced = trace_planes(row, sets, meshes)[plane]
    for spot in choose_spots(plane_traced, MM_PER_PX):
        half_px = spot.edge_mm / 2 * PX_PER_MM
        for traced in plane_traced.traces:
            if traced.component == spot.component:
                off_px = np.abs(np.concatenate(traced.contours_px) - spot.at_px).max(axis=1)
                assert off_px.min() < 0.8 * half_px
        assert CLOSE_UP_MM <= spot.edge_mm <= max(CLOSE_UP_MM, 2.5 * by_mm)


def test_frames_with_one_implant_or_none_are_drawn(row, meshes):
    lone, none = row | {"tibia": None}, row | {"femur": None, "tibia": None}
    whole = draw_outlines(row, [label_of(row)], meshes)
    of_lone = draw_outlines(lone, [label_of(lone)], meshes)
    assert of_lone.shape == (len(whole) + CLOSE_UP_PX, *whole.shape[1:])  # close-ups of twice the size
    for left in range(0, of_lone.shape[1], 2 * CLOSE_UP_PX):
        assert of_color(of_lone[SIZE_PX : SIZE_PX + 2 * CLOSE_UP_PX, left : left + 2 * CLOSE_UP_PX], 0).any()
    drawn = draw_outlines(none, [label_of(none)], meshes)
    assert drawn.shape == (len(whole) - CLOSE_UP_PX, *whole.shape[1:]) and not of_color(drawn[:SIZE_PX], 0).any()
    assert crops_of(none, [label_of(none)], meshes)["bs"].edge_mm == pytest.approx(FIELD_MM)


def test_initial_poses_are_not_called_labels(row):
    assert label_of(row).name == "label (refined)"
    own_frames = row | {part: row[part] | {"kind": "initial"} for part in ("femur", "tibia")}
    assert label_of(own_frames).name == "initial pose"


def test_an_implant_out_of_the_field_leaves_the_others(row, meshes):
    image = draw_outlines(row, [label_of(row), moved(row, (0, 1000.0, 0))], meshes)
    assert of_color(image[:SIZE_PX], 0).any() and not of_color(image[:SIZE_PX], 1).any()


def test_what_cannot_be_drawn_is_named(row, meshes):
    def refused(poses, known=meshes):
        with pytest.raises(VeriserumError) as error:
            draw_outlines(row, [label_of(row), *poses], known)
        return str(error.value)

    strange = moved(row, (0, 0, 0), "predicted", anatomy_id=99)
    assert refused([strange]) == (
        "femur 99 of predicted: the data set has no mesh of this implant; its configuration anatomies holds "
        + ", ".join(map(str, sorted(meshes)))
    )
    id = row["femur"]["anatomy_id"]
    assert f"femur {id} of predicted cannot be drawn in bs: the mesh reaches" in refused(
        [moved(row, (0, 0, 9000.0), "predicted")]
    )
    opened = meshes[id].copy()
    opened.update_faces(np.arange(len(opened.faces)) > 0)
    message = refused([], meshes | {id: opened})
    assert (
        message.startswith(f"femur {id} of label (refined) cannot be drawn in bs: the mesh (")
        and "not closed" in message
    )
    assert refused([moved(row, (0, 0, 0))] * 5) == (
        "5 files of poses cannot be distinguished in one image; give at most 4"
    )
