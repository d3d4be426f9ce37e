"""What is unusual in a study is named, and an image that cannot be used is a rejected row."""

import cv2
import numpy as np
import pytest

from tests.dataset.own_frames.conftest import FRAMES
from tests.fixtures.studies import (
    CAMERA_1,
    NAMES,
    TRIAL,
    changed,
    converted_rows,
    images_of,
    of_plane,
    one_trial,
    put,
    rows_of,
)
from veriserum_hf.dataset import import_study


def test_planes_that_lack_frames_of_different_moments(study, tmp_path):
    """As many images of each plane, and yet two that were not taken together."""
    changed(study, put(*TRIAL, "initial_poses", value=None))
    images_of(study, "camera_1")[0].unlink()
    images_of(study, "camera_2")[2].unlink()
    problems = import_study(study, tmp_path / "out", workers=1).problems
    assert [each for each in problems if "image 1 is frame_2.png of camera_1 and frame_1.png of camera_2" in each]
    for path in images_of(study, "camera_2"):  # with numbers of their own
        path.rename(path.with_name(f"{path.stem}00.png"))
    assert import_study(study, tmp_path / "other", workers=1).problems == []


def test_files_of_different_depths_in_a_plane_are_named(study, tmp_path):
    path = images_of(study)[0]
    cv2.imwrite(str(path), cv2.imread(str(path), -1).astype(np.uint16) * 16)
    problems = import_study(study, tmp_path / "out", workers=1).problems
    assert problems == [
        "camera_1: files have 8 and 16 bits: white is 255 in those of 8 bits, and one grey level in all others"
    ]


@pytest.mark.parametrize("wrong", ["cm", "transposed"])
def test_cameras_that_meet_where_no_knee_would_be_are_named(study, tmp_path, wrong):
    """Without poses, nothing else shows that they are in cm, or camera to world."""

    def change(found):
        for number, plane in enumerate(found["planes"].values()):
            T = np.array(plane["camera"]["world_to_camera"])
            if wrong == "cm":
                T[:3, 3] /= 10
            elif number:
                tilted = np.eye(4)  # about the ray of the centre of the image, by 30 deg
                tilted[:2, :2] = [[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]]
                T = tilted @ T
                T[:3, :3] = T[:3, :3].T.copy()
            plane["camera"]["world_to_camera"] = T.tolist()
        for trial in found["trials"]:
            trial["initial_poses"] = None

    changed(study, change)
    (problem,) = import_study(study, tmp_path / "out", workers=1).problems
    assert problem.startswith("camera_1 and camera_2: the rays of the images' centres pass each other at")
    assert "compare whether world_to_camera maps the world to the camera, and is in mm" in problem


def test_points_that_correct_a_part_of_the_image_only_are_named(study, tmp_path):
    """A table of points states no size: that of another camera may fit."""
    places = np.stack(np.meshgrid(np.linspace(5, 45, 9), np.linspace(5, 45, 9)), axis=-1).reshape(-1, 2)
    for name, points in (("INPTS", places + 0.5), ("BSPTS", places)):
        np.savetxt(study.parent / f"camera_1_{name}.csv", points, delimiter=",")
    changed(study, put(*CAMERA_1, "distortion", value="camera_1_INPTS.csv"))
    (problem,) = import_study(study, tmp_path / "out", workers=1).problems
    assert problem.startswith("camera_1: camera_1_INPTS.csv covers 38%")


def test_an_image_that_is_blank_once_it_is_scaled_is_rejected(study, tmp_path):
    """Its grey levels, 40000 to 40255, are one level of 8 bits."""
    one_trial(study)
    for path in (study.parent / "trial_11/camera_1").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), -1) + np.uint16(40_000))
    rejected = import_study(study, tmp_path / "out", workers=1).rejected
    assert [row["reason"] for row in rejected] == ["no contrast"] * FRAMES
    assert "frame_1.png, image 1, with 65535 as white, in 8 bits: " in str(rejected[0]["detail"])
    assert rows_of(study, tmp_path / "deep", bits=16)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1.0, 0, 0, 0.001), ["the detector lies 1 mm from the X-ray source"]),
        ((1000, 300, 0, 1), ["the principal point (347.5, 47.5) px lies far outside of images of 96 x 96 px"]),
        ((20.0, 0, 0, 1), ["focal lengths of 20 and 20 px", "the detector lies 20 mm"]),
        ((1198, 0, 0, 3), []),
    ],
    ids=["metres", "offset in px", "focal length", "good"],
)
def test_a_camera_that_no_x_ray_system_has_is_named(study, tmp_path, numbers, words):
    one_trial(study, plane_count=1)
    (study.parent / "camera.txt").write_text("JT_INTCALIB\n" + "".join(f"{number}\n" for number in numbers))
    changed(study, of_plane("camera_1", camera={"jointtrack": "camera.txt"}))
    changed(study, put("initial_poses", value=None))
    problems = import_study(study, tmp_path / "out", workers=1).problems
    assert len(problems) == len(words) and all(map(str.__contains__, problems, words))


def test_dicom_files_that_number_themselves_in_another_order_are_named(study, tmp_path):
    pytest.importorskip("pydicom")
    from tests.fixtures.dicoms import write_dicom

    one_trial(study, plane_count=1)
    for number, path in enumerate(sorted((study.parent / "trial_11/camera_1").iterdir()), 1):
        write_dicom(study.parent / f"{4 - number}.dcm", cv2.imread(str(path), -1), InstanceNumber=number)
    changed(study, of_plane("camera_1", images="?.dcm"))
    assert [
        "study.yaml: camera_1: image 2 is 2.dcm, which states Instance Number 2, and the one before it 3" in problem
        for problem in import_study(study, tmp_path / "out", workers=1).problems
    ] == [True, False]
    changed(study, of_plane("camera_1", images=["3.dcm", "2.dcm", "1.dcm"]))
    (problem,) = import_study(study, tmp_path / "listed", workers=1).problems
    assert "Instance Number" not in problem


def test_masks_beside_the_images_are_rejected_and_named(study, tmp_path):
    """A frame is rejected as a whole, so that the planes stay aligned."""
    one_trial(study)
    for name in NAMES.values():
        for path in sorted((study.parent / "trial_11" / name).iterdir()):
            mask = np.where(cv2.imread(str(path), -1) > 128, np.uint8(255), np.uint8(0))
            cv2.imwrite(str(path.with_name(f"{path.stem}_mask_femur.png")), mask)
    changed(study, put("initial_poses", value=None))
    result = import_study(study, tmp_path / "out", workers=1)
    counts = result.counts["calibrated"]
    assert counts["measurements"] == 2 * FRAMES and counts["rejected"] == {"mask": FRAMES}
    assert counts["without_pose"] == FRAMES  # of the rows
    assert "its only grey levels are 0 and 255" in str(result.rejected[0]["detail"])
    for row in converted_rows(result.output):
        assert row["image_bs"]["path"] == row["image_fs"]["path"] and "mask" not in row["image_bs"]["path"]
    notes = [each for each in result.problems if "3 like frame_1.png, 3 like frame_1_mask_femur.png" in each]
    assert [each.split(":")[1] for each in notes] == [" camera_1", " camera_2"]
