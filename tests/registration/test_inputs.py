"""What cannot be registered is refused in one message: which frame, what was found and expected, the way out."""

import numpy as np
import pytest

from tests.registration.scenes import pose, starts
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry.pose import make_transform
from veriserum_hf.registration.refine import register, register_batch


def refused(*arguments, **options):
    """Message of a refused registration."""
    with pytest.raises(RegistrationError) as caught:
        register(*arguments, **options)
    return str(caught.value)


@pytest.fixture
def row(rows):
    """Measurement 1, with femur 1 and tibia 3."""
    return rows[0]


def without_some_triangles(mesh):
    open_mesh = mesh.copy()
    open_mesh.update_faces(np.arange(len(mesh.faces)) > 4)
    return open_mesh


def test_meshes_that_have_no_thickness_or_another_unit_are_refused(row, meshes):
    open_mesh = without_some_triangles(meshes[1])
    assert refused(row, meshes | {1: open_mesh}) == (
        f"implant 1: the mesh ({len(open_mesh.faces)} triangles) is not closed, so a ray may enter it and never "
        "leave; merge its vertices or fill its holes, e.g. with trimesh.repair"
    )
    metres = meshes[3].copy().apply_scale(1e-3)
    assert refused(row, meshes | {3: metres}) == (
        f"implant 3: the mesh is {max(metres.extents):.3g} mm large, expected 10 to 500 mm. Is it in another unit, "
        "such as metres? Scale it with its apply_scale()"
    )
    assert refused(row, {1: meshes[1]}) == "measurement 1: there is no mesh of tibia 3, only of [1]"


def test_an_initial_pose_outside_all_fields_is_refused(row, meshes):
    start = starts(row, meshes, 5, 5)
    behind = {"femur": start["femur"] | {"translation_mm": [0.0, 0.0, 5000.0]}}
    message = refused(row, meshes, behind)
    assert message.startswith("measurement 1: femur 1 reaches 3")
    assert message.endswith(
        " mm behind the X-ray source of bs at its initial pose, expected all of it in front; is the pose in mm and "
        "in the world frame?"
    )
    outside = {"femur": start["femur"] | {"translation_mm": [0.0, 900.0, 380.0]}}
    assert refused(row, meshes, outside) == (
        "measurement 1: femur 1 is outside the field of bs and of fs at its initial pose, expected it to be visible; "
        "is the pose in mm and in the world frame?"
    )
    assert refused(row, meshes, outside, planes=("fs",)) == (
        "measurement 1: femur 1 is outside the field of fs at its initial pose, expected it to be visible; is the "
        "pose in mm and in the world frame?"
    )


@pytest.mark.parametrize(
    ("changed", "translation_mm", "quaternion_xyzw"),
    [
        ({"quaternion_xyzw": [0, 0, 0, 2]}, None, [0.0, 0.0, 0.0, 2.0]),
        ({"quaternion_xyzw": [0, 0, 0, float("nan")]}, None, [0.0, 0.0, 0.0, float("nan")]),
        ({"quaternion_xyzw": [0, 0, 1]}, None, [0.0, 0.0, 1.0]),
        ({"translation_mm": [0, float("inf"), 380]}, [0.0, float("inf"), 380.0], None),
    ],
)
def test_an_invalid_initial_pose_is_refused(row, meshes, changed, translation_mm, quaternion_xyzw):
    start = pose(1, make_transform(np.eye(3), (0, 0, 380)))
    assert refused(row, meshes, {"femur": start | changed}) == (
        f"measurement 1: the initial pose of femur has translation_mm {translation_mm or [0.0, 0.0, 380.0]} and "
        f"quaternion_xyzw {quaternion_xyzw or [0.0, 0.0, 0.0, 1.0]}; expected three finite mm and a unit quaternion, "
        "scalar last"
    )


def test_an_incomplete_initial_pose_is_refused(row, meshes):
    start = pose(1, make_transform(np.eye(3), (0, 0, 380)))
    lacking = {name: value for name, value in start.items() if name != "translation_mm"}
    assert refused(row, meshes, {"femur": lacking | {"anatomy_id": None}}) == (
        "measurement 1: the initial pose of femur has no anatomy_id and no translation_mm; expected anatomy_id, "
        "translation_mm, quaternion_xyzw, as in a row"
    )


@pytest.mark.parametrize("planes", ["bs", (), ("bs", "side")])
def test_unknown_planes_are_refused(row, meshes, planes):
    message = f"planes is {planes!r}; expected bs, fs or both in a sequence, such as ('bs',)"
    assert refused(row, meshes, planes=planes) == message


def test_rows_without_an_initial_pose_are_refused(row, meshes):
    message = "measurement 1 has no initial pose; give one of its femur, its tibia or both"
    assert refused(row | {"femur": None, "tibia": None}, meshes) == message
    assert refused(row, meshes, {}) == message
    assert refused({**row, "measurement_id": None}, meshes, {}) == message.replace("measurement 1", "the frame")


def test_raw_frames_are_refused(knees, meshes):
    (raw,) = open_rows(str(knees), ("raw",), archive_px=512).splits["train"].taken([0]).read()
    message = (
        f"measurement {raw['measurement_id']} is a raw frame; expected corrected images: calibrated, manual or target"
    )
    assert refused(raw, meshes) == message


def test_empty_or_inconsistent_images_are_refused(row, meshes):
    dark = row | {"image_fs": np.zeros((512, 512), np.uint8)}
    assert refused(dark, meshes) == "measurement 1, plane fs: the image shows nothing: every pixel is the same"
    coloured = row | {"image_bs": np.zeros((512, 512, 3), np.uint8)}
    message = "measurement 1, plane bs: the image has the shape (512, 512, 3), expected a grey image: (rows, columns)"
    assert refused(coloured, meshes) == message
    smaller = row | {"image_fs": np.asarray(row["image_fs"])[::2, ::2]}
    message = (
        "measurement 1, plane fs: the image has 256 px, but its camera is that of an image of 512 px (pixel_size_mm "
    )
    assert refused(smaller, meshes).startswith(message)
    missing = row | {"image_bs": None, "image_fs": None}
    assert refused(missing, meshes) == "measurement 1 has no image of bs or fs; expected at least one"
    message = "measurement 1 has an image_fs but no camera_fs"
    assert refused({name: value for name, value in row.items() if name != "camera_fs"}, meshes) == message
    assert refused(row | {"camera_fs": None}, meshes) == message
    camera = row["camera_bs"] | {"intrinsics": None}
    del camera["world_to_camera"]
    assert refused(row | {"camera_bs": camera}, meshes) == (
        "measurement 1: camera_bs has no intrinsics and no world_to_camera; expected intrinsics and world_to_camera "
        "of the row's image"
    )
    camera = row["camera_bs"] | {"source_to_intensifier_mm": float("nan")}
    message = "measurement 1, plane bs: source_to_intensifier_mm is nan; expected a positive number of mm"
    assert refused(row | {"camera_bs": camera}, meshes).startswith(message)


def test_frames_of_a_batch_must_be_consistent(rows, meshes):
    other = rows[1] | {"image_bs": None}
    with pytest.raises(RegistrationError) as caught:
        register_batch([rows[0], other], meshes)
    assert str(caught.value) == (
        "measurement 5 (femur, tibia; fs 512 x 512 px) and measurement 1 (femur, tibia; bs 512 x 512 px, fs 512 x "
        "512 px) cannot be registered together; expected the same components and planes, and in each plane images of "
        "one size"
    )
    camera = rows[1]["camera_fs"] | {
        "pixel_size_mm": 0.5,
        "source_to_intensifier_mm": None,
        "principal_point_mm": None,
    }
    with pytest.raises(RegistrationError) as caught:
        register_batch([rows[0], rows[1] | {"camera_fs": camera}], meshes)
    assert str(caught.value) == (
        "measurement 5 (pixels of fs: 0.5000 x 0.5000 mm) and measurement 1 (0.7031 x 0.7031 mm) cannot be "
        "registered together; expected the same components and planes, and in each plane pixels of one size"
    )
    with pytest.raises(RegistrationError, match=r"^no frame to register; expected at least one$"):
        register_batch([], meshes)
    with pytest.raises(RegistrationError, match="method is 'edges'; expected auto, outline, intensity"):
        register_batch(rows[:1], meshes, method="edges")
    with pytest.raises(RegistrationError, match=r"^expected initial poses for each frame, got 1 for 2$"):
        register_batch(rows[:2], meshes, [starts(rows[0], meshes, 5, 5)])
