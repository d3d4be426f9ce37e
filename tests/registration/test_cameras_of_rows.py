"""Intrinsics are what counts: a cropped image is registered by its own; a row that contradicts itself is refused."""

import re

import datasets
import numpy as np
import pyarrow as pa
import pytest

from tests.fixtures.other_cameras import as_files
from tests.registration.scenes import error, starts
from veriserum_hf.dataset.model_frames import frame_of_row
from veriserum_hf.errors import CalibrationError, RegistrationError, TrainingError, VeriserumError
from veriserum_hf.modeling import VeriserumImageProcessor
from veriserum_hf.poses.files import estimates_of
from veriserum_hf.registration.refine import register
from veriserum_hf.training.batches import sample_of
from veriserum_hf.viewer.outlines import label_of, trace_planes
from veriserum_hf.viewer.overlay import draw_axes

SIZE, EDGE = 256, 160
PLANES = ("bs", "fs")


@pytest.fixture
def row(small_rows):
    """Measurement 1 in 256 px."""
    return small_rows[0] | {"trial_id": 1, "frame_index": 0, "task": "gait"}


def with_intrinsics(row, plane, change):
    """A row whose intrinsics in a plane are changed, and nothing else."""
    K = np.array(row[f"camera_{plane}"]["intrinsics"])
    change(K)
    return row | {f"camera_{plane}": row[f"camera_{plane}"] | {"intrinsics": K.tolist()}}


def half(K):
    K[0, 0] /= 2
    K[1, 1] /= 2


def cropped(row, edge):
    """A row whose images are cut around both implants, with their right intrinsics."""
    for plane in PLANES:
        camera, image = row[f"camera_{plane}"], row[f"image_{plane}"]
        at = np.array([[*row[name]["translation_mm"], 1.0] for name in ("femur", "tibia")]).mean(axis=0)
        x = np.array(camera["intrinsics"]) @ (np.array(camera["world_to_camera"]) @ at)[:3]
        column, line = np.clip(np.rint(x[:2] / x[2] - edge / 2), 1, SIZE - edge).astype(int)

        def shift(K, by=(column, line)):
            K[:2, 2] -= by

        row = with_intrinsics(row, plane, shift)
        row |= {f"image_{plane}": np.ascontiguousarray(image[line : line + edge, column : column + edge])}
    return row


def test_a_cropped_image_is_registered_as_the_whole_one(row, coarse_meshes):
    start = starts(row, coarse_meshes, 4, 4)
    whole = register(row, coarse_meshes, start)
    part = register(cropped(row, EDGE), coarse_meshes, start)
    for component, found in part.items():
        assert found.verdict == whole[component].verdict == "converged"
        off = error(found, row) - error(whole[component], row)
        assert np.linalg.norm(off[:3]) < 0.25 and np.linalg.norm(off[3:]) < 0.4


HALF = (
    r"focal lengths? of 6[0-9]{2}\.[0-9]{2}(?: and 6[0-9]{2}\.[0-9]{2})? px, but source_to_intensifier_mm "
    r"1[89][0-9]{2}\.[0-9]{2} and pixel_size_mm 1\.4062 give 1[23][0-9]{2}\.[0-9]{2} px; correct the wrong ones"
)


def test_intrinsics_with_half_the_focal_length_are_refused_wherever_they_are_read(row, coarse_meshes):
    wrong = with_intrinsics(row, "fs", half)
    with pytest.raises(RegistrationError, match=f"^measurement 1, plane fs: .*{HALF}"):
        register(wrong, coarse_meshes)
    with pytest.raises(VeriserumError, match=f"^measurement 1, camera_fs: .*{HALF}"):
        trace_planes(wrong, [label_of(dict.fromkeys(("femur", "tibia")))], coarse_meshes)
    with pytest.raises(VeriserumError, match=f"^measurement 1, camera_fs: .*{HALF}"):
        draw_axes(wrong)
    with pytest.raises(TrainingError, match=f"^measurement 1, camera_fs: .*{HALF}"):
        sample_of(wrong)
    with pytest.raises(ValueError, match=f"^frame 0: camera_fs: .*{HALF}"):
        VeriserumImageProcessor(size=SIZE).preprocess(wrong)
    raw = wrong | {"distortion_bs": "", "distortion_fs": "", "image_bs": None}
    with pytest.raises(CalibrationError, match=f"^measurement 1, camera_fs: .*{HALF}"):
        frame_of_row(raw, SIZE)
    stored = datasets.Dataset.from_list([wrong | {"image_bs": None, "image_fs": None}])
    poses = pa.Table.from_pylist([wrong["femur"] | {"measurement_id": 1, "component": "femur"}])
    with pytest.raises(TrainingError, match=f"^measurement 1, camera_fs: .*{HALF}"):
        estimates_of(poses, stored)


def test_a_part_of_an_image_is_drawn_by_its_intrinsics(row):
    part = cropped(row, EDGE)
    assert draw_axes(part).shape == (684, 1280, 3)


@pytest.mark.parametrize("size", [SIZE, EDGE])
def test_a_part_of_an_image_lies_where_it_was_on_the_canvas_of_a_model(row, size):
    part = cropped(row, EDGE)
    whole, found = (VeriserumImageProcessor(size=size).preprocess(each) for each in (row, part))
    sample = sample_of(part, size)
    for plane in PLANES:
        for camera in (found[f"camera_{plane}"]["intrinsics"][0], sample[f"camera_{plane}"]["intrinsics"]):
            np.testing.assert_allclose(camera, whole[f"camera_{plane}"]["intrinsics"][0], atol=0.6 * (size != SIZE))
        assert (found[f"image_{plane}"] == sample[f"image_{plane}"]).all()
        if size == SIZE:
            K, K_whole = (np.array(each[f"camera_{plane}"]["intrinsics"]) for each in (part, row))
            column, line = np.rint(K_whole[:2, 2] - K[:2, 2]).astype(int)
            np.testing.assert_array_equal(
                found[f"image_{plane}"][0, 0, line : line + EDGE, column : column + EDGE], part[f"image_{plane}"]
            )


def test_an_image_that_was_resized_without_its_camera_is_refused(row, coarse_meshes):
    resized = row | {f"image_{plane}": np.ascontiguousarray(row[f"image_{plane}"][::2, ::2]) for plane in PLANES}
    message = (
        "measurement 1, plane bs: the image has 128 px, but its camera is that of an image of 256 px (pixel_size_mm "
        "1.4062), whose pixel (0.00, 0.00) would be its first; give the camera of the image as it is"
    )
    with pytest.raises(RegistrationError, match=f"^{re.escape(message)}"):
        register(resized, coarse_meshes)
    contradiction = "128 x 128 px, but its camera is that of an image of 256 px"
    with pytest.raises(ValueError, match=f"^frame 0: image_bs is {contradiction}"):
        VeriserumImageProcessor(size=SIZE).preprocess(resized)
    with pytest.raises(TrainingError, match=r"^measurement 1, camera_bs: the image has 128 px, but its"):
        sample_of(resized)
    later = as_files(resized) | {"measurement_id": 2}  # of the same camera as the first
    stored = datasets.Dataset.from_list([as_files(row), later])
    poses = pa.Table.from_pylist([row["femur"] | {"measurement_id": id, "component": "femur"} for id in (1, 2)])
    assert len(estimates_of(poses.slice(0, 1), stored)) == 1
    with pytest.raises(TrainingError, match=r"^measurement 2, camera_bs: the image has 128 px, but its"):
        estimates_of(poses, stored)
