"""Refined cameras: how they replace a row's cameras, and the file that holds them."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.fixtures.refined_cameras import RIG, refined, stored_cameras
from veriserum_hf.calibration import RefinedCameras, SizedCamera, read_refined_cameras, refined_cameras_json
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import Camera, px_to_mm

POINTS_MM = np.random.default_rng(0).uniform(-60, 60, (12, 3)) + RIG["bs"].source_mm * 0.4
# Cameras of any laboratory: images of another shape in each plane, pixels that are not square.
ANY = {
    "bs": SizedCamera([[3000, 0, 300.2], [0, 3100, 250.7], [0, 0, 1]], RIG["bs"].world_to_camera, (500, 640)),
    "fs": SizedCamera([[2000, 0, 201.0], [0, 2000, 180.0], [0, 0, 1]], RIG["fs"].world_to_camera, (400, 400)),
}
small = st.floats(-3, 3)
vectors = st.tuples(small, small, small)
edges = st.integers(40, 1600)


def row_of(cameras, image=None, trial_id=1):
    """A row with these cameras, as `Camera.to_row` gives them."""
    row = {"measurement_id": 7, "trial_id": trial_id, "frame_index": 0, "task": None, "subject": None}
    row |= {"implant_pair": "1-2", "femur": None, "tibia": None, "image_bs": image, "image_fs": image}
    return row | {f"camera_{plane}": cameras.get(plane) for plane in ("bs", "fs")}


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(small, small, small),
    st.tuples(small, small, small),
    st.tuples(small, small),
    edges,
    edges,
    st.booleans(),
)
def test_points_are_projected_to_the_same_place_in_images_of_any_size(shift, rotation, foot, rows, columns, image):
    cameras = refined(ANY, shift_mm=shift, rotation_deg=rotation, foot_px=foot, focal=1.002)
    stored = {
        plane: each.camera.resized(each.image_shape, (rows, columns)).to_row((rows, columns))
        for plane, each in ANY.items()
    }
    found = cameras.applied(row_of(stored, np.zeros((rows, columns), np.uint8) if image else None))
    for plane, after in cameras.rigs[0].after.items():
        px = Camera.from_row(found[f"camera_{plane}"]).project(POINTS_MM)
        share = (px + 0.5) / (columns, rows)  # of the image, from edge to edge: the same place on the detector
        expected = (after.camera.project(POINTS_MM) + 0.5) / after.image_shape[::-1]
        np.testing.assert_allclose(share, expected, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(100, 1600), st.tuples(small, small))
def test_distances_on_the_detector_follow_the_intrinsics(size, foot_px):
    cameras = refined(stored_cameras(), foot_px=foot_px, focal=1.01)
    found = cameras.applied(row_of({plane: RIG[plane].camera(size) for plane in ("bs", "fs")}))
    for plane, after in cameras.rigs[0].after.items():
        camera = found[f"camera_{plane}"]
        Camera.from_row(camera, size)  # nothing contradicts
        assert camera["pixel_size_mm"] == RIG[plane].camera(size)["pixel_size_mm"]
        assert camera["source_to_intensifier_mm"] == pytest.approx(RIG[plane].sid_mm * 1.01)
        np.testing.assert_allclose(camera["principal_point_mm"], px_to_mm(after.intrinsics[:2, 2], 512), atol=1e-9)


def test_a_distance_without_a_pixel_follows_too():
    camera = RIG["fs"].camera(512) | {"pixel_size_mm": None}
    found = refined(stored_cameras(), foot_px=(2, 1), focal=1.01).applied(row_of({"fs": camera}))["camera_fs"]
    assert found["pixel_size_mm"] is None
    assert found["source_to_intensifier_mm"] == pytest.approx(RIG["fs"].sid_mm * 1.01)
    moved = np.subtract(found["principal_point_mm"], camera["principal_point_mm"])
    np.testing.assert_allclose(moved, np.array([2, -1]) * 360 / 512, atol=1e-9)
    unknown = camera | {"source_to_intensifier_mm": None}
    found = refined(stored_cameras(), foot_px=(2, 1)).applied(row_of({"fs": unknown}))["camera_fs"]
    assert found["principal_point_mm"] is None


def test_cameras_without_evidence_stay():
    cameras = refined(stored_cameras(), verdict="no evidence")
    row = row_of({plane: RIG[plane].camera(256) for plane in ("bs", "fs")}, np.zeros((256, 256), np.uint8))
    assert cameras.applied(row) == row


@pytest.mark.parametrize("focal", [1.0, 1.01])
@pytest.mark.parametrize("image", [None, np.zeros((512, 512), np.uint8)], ids=["no image", "image"])
def test_cameras_are_replaced_once(focal, image):
    cameras = refined(stored_cameras(), shift_mm=(1, 0, 0), focal=focal)
    once = cameras.applied(row_of({"fs": RIG["fs"].camera(512)}, image))
    with pytest.raises(CalibrationError, match="measurement 7, camera_fs: it is the refined camera already"):
        cameras.applied(once)


@pytest.mark.parametrize(
    ("row", "reported"),
    [
        (row_of({"bs": RIG["bs"].camera(512)}, trial_id=3), "no trial 3, only 1; refine"),
        (row_of({"bs": ANY["bs"].camera.to_row(512)}), "measurement 7, camera_bs: it is not the camera"),
        (row_of({"fs": RIG["bs"].camera(512)}), "axes by 70 deg"),
        (row_of({"fs": RIG["fs"].camera(512)}, np.zeros((256, 256), np.uint8)), "intrinsics differ by up to"),
    ],
    ids=["trial", "laboratory", "plane", "size"],
)
def test_other_rows_are_refused(row, reported):
    with pytest.raises(CalibrationError, match=reported):
        refined(stored_cameras(), shift_mm=(1, 0, 0)).applied(row)


def test_a_plane_without_refined_camera_is_refused():
    row = row_of({plane: RIG[plane].camera(512) for plane in ("bs", "fs")})
    with pytest.raises(CalibrationError, match="camera_fs: it has no refined camera of plane fs, only of bs"):
        refined({"bs": stored_cameras()["bs"]}).applied(row)


def test_a_file_is_read_as_it_was_written(tmp_path):
    cameras = refined(ANY, shift_mm=(1, 0.1, -2 / 3), rotation_deg=(0.1, 0, 0), trials=(1, 4))
    file = tmp_path / "cameras.json"
    file.write_text(refined_cameras_json(cameras), encoding="utf-8")
    found = read_refined_cameras(file)
    assert refined_cameras_json(found) == file.read_text(encoding="utf-8")
    assert found.per == "session"
    assert found.of_trial(4).details == cameras.rigs[0].details
    assert found.of_trial(4).after["fs"].image_shape == (400, 400)


def _changed(change):
    document = json.loads(refined_cameras_json(refined(stored_cameras(), shift_mm=(1, 0, 0))))
    change(document, document["rigs"][0])
    return json.dumps(document)


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (lambda all, rig: all.update(format="other"), '"format" is \'other\', expected "veriserum refined cameras"'),
        (lambda all, rig: all.update(version=2), "version is 2, expected 1; a newer"),
        (lambda all, rig: all.update(more=1), "the document has more; expected exactly"),
        (lambda all, rig: all.update(rigs=[]), "rigs is empty"),
        (lambda all, rig: all.update(rigs={}), "rigs is {}; expected a list"),
        (lambda all, rig: all.update(per="day"), "per is 'day'; expected session, trial, all"),
        (lambda all, rig: all["rigs"].append(rig), "trial 1 occurs more than once"),
        (lambda all, rig: rig.pop("details"), r"rigs\[0\] lacks details"),
        (lambda all, rig: rig.update(details=[]), r"rigs\[0\].details is \[\]; expected an object"),
        (lambda all, rig: rig.update(trials=["1"]), r"rigs\[0\]: trials is \['1'\]; expected whole numbers"),
        (lambda all, rig: rig.update(trials=[]), "expected whole numbers, at least one"),
        (lambda all, rig: rig.update(verdict="better"), "verdict is 'better'; expected improved"),
        (lambda all, rig: rig.update(verdict="no evidence"), "fs: after differs from before .*sources by 1 mm"),
        (lambda all, rig: rig.update(center_mm=[0, 0]), "center_mm has 2; expected 3 finite numbers"),
        (lambda all, rig: rig.update(estimate=[1, None]), "estimate is .*, not an array of numbers"),
        (lambda all, rig: rig.update(estimate=["1", "2"]), "estimate is .*, not an array of numbers"),
        (lambda all, rig: rig.update(covariance=[[1, 0], [1, 1]]), "covariance is not symmetric"),
        (lambda all, rig: rig.update(covariance=[[1, 2], [2, 1]]), "covariance has negative eigenvalues"),
        (lambda all, rig: rig.update(unknowns=["x", "x"]), "expected different names"),
        (lambda all, rig: rig["after"].pop("fs"), "before has the planes bs, fs, after bs; expected the same"),
        (lambda all, rig: rig["after"]["fs"].update(image_shape=[9, 9]), "fs: before is of images of"),
        (lambda all, rig: rig["after"]["fs"].update(image_shape=[0, 9]), r"rigs\[0\].after.fs: image_shape is"),
        (lambda all, rig: rig["after"]["fs"]["intrinsics"][0].__setitem__(0, -1), "expected positive focal lengths"),
        (lambda all, rig: rig["after"]["fs"]["intrinsics"].pop(), "intrinsics has 2 x 3; expected 3 x 3 finite"),
        (
            lambda all, rig: rig["before"]["bs"]["world_to_camera"][0].__setitem__(0, 2),
            "before.bs: world_to_camera is",
        ),
        (
            lambda all, rig: rig["before"]["bs"].update(pixel_size_mm=1),
            "before.bs has pixel_size_mm; expected exactly",
        ),
    ],
)
def test_an_invalid_document_is_named_with_its_place(change, reported, tmp_path):
    file = tmp_path / "cameras.json"
    file.write_text(_changed(change))
    with pytest.raises(CalibrationError, match=reported) as raised:
        read_refined_cameras(file)
    assert str(raised.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"{", "it is not JSON"),
        (b"\xff", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b'{"format": NaN}', "NaN is not a finite number"),
        (b'{"format": 1, "format": 1}', "format occurs twice"),
        (b"3", '"format" is 3, expected'),
    ],
)
def test_a_file_of_another_kind_is_refused(content, reported, tmp_path):
    file = tmp_path / "cameras.json"
    file.write_bytes(content)
    with pytest.raises(CalibrationError, match=reported):
        read_refined_cameras(file)


def test_numbers_that_overflow_are_refused(tmp_path):
    text = refined_cameras_json(refined(stored_cameras(), shift_mm=(1, 0, 0)))
    for number in ("1e999", "1" + "0" * 400):
        file = tmp_path / "cameras.json"
        file.write_text(text.replace('"center_mm": [\n    0.0', f'"center_mm": [\n    {number}'))
        with pytest.raises(CalibrationError, match="center_mm"):
            read_refined_cameras(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(CalibrationError, match="No such file"):
        read_refined_cameras(tmp_path / "none.json")
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(CalibrationError, match="named pipe"):
        read_refined_cameras(pipe)


def test_details_that_are_no_json_are_not_written():
    cameras = refined(stored_cameras())
    details = {"rms": float("nan")}
    rig = cameras.rigs[0]
    changed = RefinedCameras((type(rig)(**{**vars(rig), "details": details}),), "all")
    with pytest.raises(CalibrationError, match="details"):
        refined_cameras_json(changed)
