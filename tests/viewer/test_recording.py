"""A trial as a recording of Rerun, read back with Rerun's own reader."""

import re

import cv2
import numpy as np
import pytest
from scipy.spatial import KDTree

from tests.fixtures.other_cameras import as_files, cropped
from tests.viewer.conftest import PARTS
from tests.viewer.recordings import POINTS, Recording, verified
from veriserum_hf.geometry import knee_angles_deg, make_transform, quaternion_to_matrix
from veriserum_hf.viewer import PoseSet, label_of, write_recording
from veriserum_hf.viewer.outlines import trace_planes

SHAPE_MM = 0.02


def moved(pose, by_mm):
    return pose | {"translation_mm": (np.array(pose["translation_mm"]) + by_mm).tolist()}


@pytest.fixture(scope="module")
def trial(row):
    """Three frames: the implants move; then there is no tibia; then another camera sees a part of fs alone."""
    frames = [row | {"frame_index": 0}, row | {"frame_index": 1, "tibia": None}]
    frames[0] = frames[0] | {part: moved(row[part], 2.0) for part in PARTS}
    frames.append(
        cropped(row, "fs", (300, 200), (1000, 900)) | {"frame_index": 5, "image_bs": None, "camera_bs": None}
    )
    return [
        as_files(frame) | {name: frame[name] for name in ("image_bs", "image_fs") if frame[name] is None}
        for frame in frames
    ]


@pytest.fixture(scope="module")
def sets(trial):
    """Labels, and poses of a file in which the last frame is missing."""
    verdicts = {"femur": "converged", "tibia": "ambiguous"}
    found = []
    for row in trial:
        poses = {
            part: moved(row[part], 1.0) | {"verdict": verdicts[part], "detail": "why"} for part in PARTS if row[part]
        }
        found.append([label_of(row), PoseSet("a file/1", {} if row["frame_index"] == 5 else poses)])
    return found


@pytest.fixture(scope="module")
def recorded(trial, sets, meshes, tmp_path_factory):
    """The file, and its content."""
    path = tmp_path_factory.mktemp("recorded") / "trial.rrd"
    done = []
    write_recording(trial, sets, meshes, path, lambda *each: done.append(each))
    assert done == [(1, 3), (2, 3), (3, 3)]
    return path, Recording(path)


@pytest.mark.parametrize("source", [0, 1])
def test_its_cameras_project_points_of_the_implants_to_where_ours_do(recorded, trial, sets, meshes, source):
    _, recording = recorded
    counts = []
    for row, of_row in zip(trial, sets, strict=True):
        poses = of_row[source]
        if poses.poses:
            off_px = recording.projections_off_px(row, poses)
            counts.append(len(off_px))
            assert np.abs(off_px).max() < 1e-3
        for part, pose in poses.poses.items():
            points, _ = recording.points_mm(f"/world/implants/{poses.name}/{part}", row["frame_index"])
            assert KDTree(meshes[pose["anatomy_id"]].vertices).query(points)[0].max() < SHAPE_MM
    assert counts == [2 * 2 * POINTS, 2 * POINTS, 2 * POINTS][: 3 - source]


def test_images_and_outlines_are_those_of_the_row(recorded, trial, sets, meshes):
    _, recording = recorded
    content = recording.content
    for row, of_row in zip(trial, sets, strict=True):
        for plane, traced in trace_planes(row, of_row, meshes).items():
            frame = row["frame_index"]
            (png,) = recording.shown(f"/world/{plane}/image", "EncodedImage:blob", frame)
            stored = cv2.imdecode(np.frombuffer(row[f"image_{plane}"]["bytes"], np.uint8), -1)
            np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(bytes(png), np.uint8), -1), stored)
            assert recording.shown(f"/world/{plane}", "Pinhole:resolution", frame) == [list(stored.shape[::-1])]
            assert content[f"/world/{plane}/image", "Transform3D:translation"] == {None: [[-0.5, -0.5, 0.0]]}
            for trace in traced.traces:
                entity = f"/world/{plane}/outlines/{of_row[trace.kind].name}/{trace.component}"
                lines = recording.shown(entity, "LineStrips2D:strips", frame)
                for line, contour in zip(lines, trace.contours_px, strict=True):
                    assert line[0] == line[-1]
                    np.testing.assert_allclose(line[:-1], contour, atol=1e-3)


def test_what_a_frame_lacks_is_not_shown(recorded):
    _, recording = recorded
    label, other = "/world/implants/label (refined)", "/world/implants/a file/1"
    shown = {
        name: [recording.shown(entity, component, frame) is not None for frame in (0, 1, 5)]
        for name, entity, component in (
            ("bs", "/world/bs", "Pinhole:image_from_camera"),
            ("image", "/world/bs/image", "EncodedImage:blob"),
            ("fs", "/world/fs", "Pinhole:image_from_camera"),
            ("tibia", f"{label}/tibia", "Transform3D:translation"),
            ("its mesh", f"{label}/tibia/mesh", "Mesh3D:vertex_positions"),
            ("other", f"{other}/femur/mesh", "Mesh3D:vertex_positions"),
            ("flexion", "/kinematics/flexion_deg/label (refined)", "Scalars:scalars"),
        )
    }
    assert shown == {
        "bs": [True, True, False],
        "image": [True, True, False],
        "fs": [True, True, True],
        "tibia": [True, False, True],
        "its mesh": [True, False, True],
        "other": [True, True, False],
        "flexion": [True, False, True],
    }
    assert not recording.shown("/world/bs/outlines/label (refined)/tibia", "LineStrips2D:strips", 1)


def test_angles_and_verdicts_over_time(recorded, sets):
    _, recording = recorded
    content = recording.content
    poses = sets[0][1].poses
    femur, tibia = (
        make_transform(quaternion_to_matrix(poses[part]["quaternion_xyzw"]), poses[part]["translation_mm"])
        for part in PARTS
    )
    found = [
        content[f"/kinematics/{name}/a file/1", "Scalars:scalars"][0][0]
        for name in ("flexion_deg", "adduction_deg", "internal_rotation_deg")
    ]
    np.testing.assert_allclose(found, knee_angles_deg(femur, tibia), atol=1e-9)
    verdicts = {
        part: [recording.shown(f"/verdicts/a file/1/{part}", "StateChange:state", frame) for frame in (0, 1, 5)]
        for part in PARTS
    }
    assert verdicts == {"femur": [["converged"], ["converged"], None], "tibia": [["ambiguous"], None, None]}
    assert ("/verdicts/label (refined)/femur", "StateChange:state") not in content
    assert content["/details/a file/1/femur", "TextLog:text"] == {0: ["why"], 1: ["why"]}
    assert re.fullmatch(r"measurement \d+, trial \d+, frame 5, .*", content["/frame", "TextDocument:text"][5][0])


def test_it_is_verified_by_rerun(recorded, tmp_path):
    path, _ = recorded
    status, reported = verified(path, tmp_path)
    assert status == 0 and "1 file verified without error" in reported, reported
    assert list(path.parent.iterdir()) == [path]
