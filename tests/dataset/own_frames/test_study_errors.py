"""What is wrong with a study is named before anything is written."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trimesh
import yaml

from tests.dataset.own_frames.conftest import EDGE_PX, FRAMES
from tests.fixtures.studies import (
    CAMERA_1,
    FEMUR,
    TRIAL,
    changed,
    images_of,
    of_plane,
    put,
    refused,
    rows_of,
)
from veriserum_hf.dataset import ImportOptions, import_study
from veriserum_hf.dataset.study_rows import FrameRows
from veriserum_hf.errors import ConversionError
from veriserum_hf.geometry import Camera
from veriserum_hf.poses import read_trajectory, write_trajectory


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("planes"), "planes is missing, expected a mapping"),
        (put("planes", value={}), "planes: found {}, expected one or two planes"),
        (put("planes", value=[1]), "planes: found [1], expected a mapping"),
        (put("plane", value={}), "plane is not a field, expected planes, side, implants"),
        (put("sides", value="left"), "did you mean side?"),
        (put("side", value="both"), "side: found 'both', expected left or right"),
        (put(*CAMERA_1, "camera"), "camera is missing, expected one of {mayacam: FILE}, {jointtrack: FILE}"),
        (put(*CAMERA_1, "camera", value={}), "found none of them, expected one of {mayacam"),
        (put(*CAMERA_1, "camera", "mayacam", value="a.txt"), "found mayacam and intrinsics, expected one of"),
        (put(*CAMERA_1, "camera", value={"mayacam": "a", "rows": 3}), "rows stands beside mayacam"),
        (put(*CAMERA_1, "camera", value={"mayacam": 3}), "mayacam: found 3, expected text"),
        (put(*CAMERA_1, "camera", value={"mayacam": "nowhere.txt"}), "there is no file nowhere.txt"),
        (put(*CAMERA_1, "camera", value={"mayacam": "study.yaml"}), "expected"),
        (put(*CAMERA_1, "camera", "world_to_camera"), "world_to_camera is missing, expected 4 rows of 4 finite"),
        (put(*CAMERA_1, "camera", "intrinsics", 0, 1, value=0.5), "no skew"),
        (put(*CAMERA_1, "camera", "intrinsics", 0, 1, value=float("nan")), "expected 3 rows of 3 finite numbers"),
        (put(*CAMERA_1, "camera", "pixel_size_mm", value=-1), "pixel_size_mm: found -1, expected a positive number"),
        (put(*CAMERA_1, "camera", "pixel_size_mm", value=0.3), "correct the wrong ones"),
        (put(*CAMERA_1, "camera", "rows", value=EDGE_PX + 1), f"the images have {EDGE_PX} x {EDGE_PX} px"),
        (put(*CAMERA_1, "distortion", value="femur.stl"), "camera_1"),
        (put(*CAMERA_1, "images", value="*.png"), "images stands beside trials"),
        (put("trial", value={}), "trial and trials are both given"),
        (put("trials", value={}), "trials: found {}, expected a list of trials"),
        (put(*TRIAL, "images", "camera_1"), "camera_1 is missing, expected a pattern of files"),
        (put(*TRIAL, "images", "camera_3", value="*.png"), "camera_3 is not a field, expected camera_1, camera_2"),
        (put(*TRIAL, "images", "camera_1", value="*.bmp"), "no file matches *.bmp"),
        (put(*TRIAL, "images", "camera_1", value=[]), "expected a pattern of files"),
        (put(*TRIAL, "images", "camera_1", value="*.stl"), "2 of 2 files cannot be used"),
        (put(*TRIAL, "id", value="1"), "id: found '1', expected a whole number, 0 or more"),
        (put(*TRIAL, "id", value=18), "id 18 occurs twice"),
        (put(*TRIAL, "frame_rate_hz", value=0), "frame_rate_hz: found 0, expected a positive number"),
        (put(*TRIAL, "subject", value=-1), "subject: found -1"),
        (put(*TRIAL, "initial_poses", "patella", value={}), "patella is not a field, expected femur, tibia"),
        (put(*FEMUR, "plane", value="fs"), "plane: found 'fs', expected camera_1 or camera_2"),
        (put(*FEMUR, "plane", value="camera_2"), "such a file are in the world of the cameras; remove plane"),
        (put(*FEMUR, "file", value="femur.stl"), "femur.stl"),
        (put(*FEMUR, "file", value="f" * 300), "there is no file fff"),
        (put(*TRIAL, "task", value="\ud800"), "task: found '\\ud800', expected text"),
        (put("implants", "femur", "mesh", value="~no one/femur.stl"), "there is no file ~no one/femur.stl"),
        (put("implants", "femur"), "femur has poses but no mesh"),
        (put("implants", "femur", "anatomy_id"), "anatomy_id is missing, expected a whole number"),
        (put("implants", "femur", "mesh", value="study.yaml"), "implants: femur: study.yaml: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_in_the_yaml_file_is_named(study, change, words):
    message = refused(study, change)
    assert words in message and "study.yaml" in message


def test_an_anatomy_twice(study):
    def twice(found):
        found["implants"]["tibia"]["anatomy_id"] = found["implants"]["femur"]["anatomy_id"]

    assert "occurs twice" in refused(study, twice)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found None, expected a mapping"),
        ("a: [", "not YAML"),
        ("a: &a {b: *a}", "references"),
        ("\xff", "expected"),
        ("- 1", "found [1]"),
    ],
    ids=["empty", "broken", "recursive", "bytes", "list"],
)
def test_a_file_that_is_no_study(study, text, words):
    study.write_bytes(text.encode("latin-1"))
    assert words in refused(study)


def test_the_yaml_file_is_missing_or_a_folder(tmp_path):
    for path in (tmp_path / "nowhere.yaml", tmp_path):
        with pytest.raises(ConversionError, match="Expected a YAML file"):
            import_study(path, tmp_path / "out")


def test_planes_with_different_numbers_of_frames(study):
    images_of(study)[0].unlink()
    message = refused(study)
    assert "trial 11: found 2 of camera_1 and 3 of camera_2 images" in message


def test_an_image_that_is_listed_twice(study):
    def twice(found):
        found["trials"][1]["images"] = found["trials"][0]["images"]

    assert "frame_1.png is listed twice" in refused(study, twice)
    assert "is listed twice" in refused(study, put(*TRIAL, "images", "camera_2", value="trial_11/camera_1/*.png"))


def test_images_of_different_sizes(study):
    path = images_of(study)[1]
    cv2.imwrite(str(path), cv2.imread(str(path), -1)[:-1])
    assert f"{path.name} has {EDGE_PX} x {EDGE_PX - 1} px" in refused(study)


def test_files_that_are_no_images_are_all_named(study):
    for path in images_of(study)[:2]:
        path.write_text("no image")
    message = refused(study)
    assert "2 of 3 files cannot be used" in message and "frame_1.png" in message and "frame_2.png" in message


def test_what_a_pattern_finds_that_is_no_file_is_named(study):
    path = study.parent / "trial_11/camera_1"
    (path / "notes.png").mkdir()
    (path / "lost.png").symlink_to("nowhere")
    message = refused(study)
    assert "2 of 5 files cannot be used" in message and "notes.png" in message and "lost.png" in message


def test_a_mayacam_file_of_another_image_size(study):
    changed(study, of_plane("camera_2", camera={"mayacam": "camera_2.txt"}))
    path = study.parent / "camera_2.txt"
    path.write_text(path.read_text().replace(f"{EDGE_PX},{EDGE_PX}", f"{2 * EDGE_PX},{2 * EDGE_PX}"))
    message = refused(study)
    assert f"camera_2.txt is of images of {2 * EDGE_PX} x {2 * EDGE_PX} px, but the images have" in message


def test_planes_that_do_not_meet(study):
    def behind(found):
        for row in found["planes"]["camera_2"]["camera"]["world_to_camera"][:3]:
            row[3] += 3000.0

    message = refused(study, behind)
    assert "camera_1 and camera_2 do not meet" in message and "in front of the first source" in message

    def same(found):
        found["planes"]["camera_2"]["camera"] = found["planes"]["camera_1"]["camera"]

    assert "X-ray sources at the same place" in refused(study, same)


def test_another_number_of_poses_than_frames(study):
    path = study.parent / "trial_11/femur.tra"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    message = refused(study)
    assert "femur.tra: found 2 poses, expected one for each of the 3 frames" in message


def test_poses_outside_of_the_images(study):
    path = study.parent / "trial_11/femur.tra"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for line in lines:
        line[7] = str(float(line[7]) + 500.0)
    path.write_text("".join(",".join(line) + "\n" for line in lines))
    message = refused(study)
    assert "femur: poses of 3 of 6 frames" in message and "(measurement_id 1, 2, 3)" in message


def test_poses_of_a_camera_need_its_name(study):
    camera = Camera.from_row(yaml.safe_load(study.read_text())["planes"]["camera_2"]["camera"])
    T = read_trajectory(study.parent / "trial_11/femur.tra")
    write_trajectory(study.parent / "femur.jts", T, camera)
    change = put(*TRIAL, "initial_poses", "femur", value={"file": "femur.jts"})
    assert "name its plane beside the file: plane: camera_1 or camera_2" in refused(study, change)
    changed(study, put(*TRIAL, "initial_poses", "femur", value={"file": "femur.jts", "plane": "camera_2"}))
    rows = rows_of(study, study.parent.parent / "jts")
    np.testing.assert_allclose([row["femur"]["translation_mm"] for row in rows[:FRAMES]], T[:, :3, 3], atol=1e-6)


def test_a_mesh_that_is_not_closed_or_not_in_mm(study):
    path = study.parent / "femur.stl"
    mesh = trimesh.load_mesh(path)
    mesh.copy().apply_scale(0.001).export(path)
    assert "femur.stl: wrong unit" in refused(study)
    mesh.update_faces(mesh.triangles_center[:, 2] < np.median(mesh.triangles_center[:, 2]))
    mesh.export(path)
    assert "not closed" in refused(study)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"split": "all"}, "split must be one of"), ({"bits": 12}, "bits"), ({"bits": 16, "encoding": "jpeg"}, "JPEG")],
    ids=["split", "bits", "jpeg"],
)
def test_options(options, words):
    with pytest.raises(ConversionError, match=words):
        ImportOptions(**options)


def test_the_output_cannot_be_where_the_frames_are(study):
    with pytest.raises(ConversionError, match="which is read"):
        import_study(study, study.parent)
    with pytest.raises(ConversionError, match="which is read"):
        import_study(study, Path(study.parent, "trial_11"))


def test_a_name_that_is_not_utf_8_is_refused(study):
    path = images_of(study)[0]
    try:
        path.rename(path.with_name("frame_\udcff.png"))
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    assert "frame_\\udcff.png is not a name in UTF-8" in refused(study)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"component": "tibia"}, "none of its poses is of femur"),
        ({"anatomy_id": 77}, "none of its poses is of femur"),
        ({"trial_id": 12}, "states trial_id 12, but this frame of the study has 11"),
        ({"frame_index": 100}, "states frame_index 100, but this frame of the study has 0"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_a_pose_file_of_other_frames(study, wrong, words):
    about = {"measurement_id": 1, "trial_id": 11, "frame_index": 0, "component": "femur"}
    about["anatomy_id"] = yaml.safe_load(study.read_text())["implants"]["femur"]["anatomy_id"]
    pose = {"translation_mm": [0.0, 0.0, 900.0], "quaternion_xyzw": [0.0, 0.0, 0.0, 1.0]}
    pq.write_table(pa.Table.from_pylist([about | pose | wrong]), study.parent / "poses.parquet")
    assert words in refused(study, put(*FEMUR, "file", value="poses.parquet"))


@pytest.mark.parametrize(("edge_px", "words"), [(100, "the table is for images of 100 x 100 px"), (48, "of 48 x 48")])
def test_a_table_of_images_of_another_size_is_refused_before_anything_is_written(study, edge_px, words):
    rows, columns = np.mgrid[:edge_px, :edge_px]
    np.savetxt(study.parent / "camera_1_LUT.csv", np.vstack([columns, rows]), delimiter=",", fmt="%d")
    assert words in refused(study, put(*CAMERA_1, "distortion", value="camera_1_LUT.csv"))


def test_an_image_that_disappears_meanwhile(study, tmp_path, monkeypatch):
    make = FrameRows.make

    def remove(maker, plan, bright):
        for path in images_of(study)[:1]:
            path.unlink()
        return make(maker, plan, bright)

    monkeypatch.setattr(FrameRows, "make", remove)
    with pytest.raises(ConversionError, match="or a file that it names, has changed while it was imported"):
        import_study(study, tmp_path / "out", workers=1)


def test_a_description_that_is_no_text_is_refused(study):
    assert "description: found 3, expected text" in refused(study, put("description", value=3))
