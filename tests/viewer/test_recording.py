"""A trial as a recording of Rerun, read back with Rerun's own reader."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from rerun.chunk import RrdReader
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from tests.fixtures.other_cameras import as_files, cropped
from tests.viewer.conftest import PARTS
from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry import Camera, knee_angles_deg, make_transform, quaternion_to_matrix, transform_points
from veriserum_hf.viewer import PoseSet, label_of, write_recording
from veriserum_hf.viewer.outlines import trace_planes

RERUN = Path(sys.executable).with_name("rerun")
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
    """The file, and its content by entity and component: values by frame; None for what is the same in all frames."""
    path = tmp_path_factory.mktemp("recorded") / "trial.rrd"
    done = []
    write_recording(trial, sets, meshes, path, lambda *each: done.append(each))
    assert done == [(1, 3), (2, 3), (3, 3)]
    content = defaultdict(dict)
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        frames = batch["frame"].to_pylist() if "frame" in batch.schema.names else [None] * len(batch)
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if b"rerun:component" in (field.metadata or {}):
                for frame, value in zip(frames, column.to_pylist(), strict=True):
                    if value is not None:
                        content[chunk.entity_path.replace("\\", ""), field.name][frame] = value
    return path, dict(content)


def last(content, entity, component, frame):
    """State that the viewer shows in a frame."""
    values = content[entity, component]
    cleared = [
        at
        for (path, name), found in content.items()
        if name.startswith("Clear:") and f"{entity}/".startswith(f"{path}/")
        for at in found
    ]
    at = max((each for each in values if each is not None and each <= frame), default=None)
    return None if at is None or any(at < each <= frame for each in cleared) else values[at]


def camera_of(content, plane, frame):
    """Camera of a plane as Rerun applies it: column-major matrices, child from parent."""
    entity = f"/world/{plane}"
    (K,) = last(content, entity, "Pinhole:image_from_camera", frame)
    (R,) = last(content, entity, "Transform3D:mat3x3", frame)
    (t,) = last(content, entity, "Transform3D:translation", frame)
    assert last(content, entity, "Transform3D:relation", frame) == [2]
    return Camera(np.reshape(K, (3, 3)).T, make_transform(nearest_rotation(np.reshape(R, (3, 3)).T), t))


def nearest_rotation(R):
    """Rotation whose entries were rounded to 32 bits."""
    u, _, v = np.linalg.svd(np.array(R, dtype=np.float64))
    return u @ v


@pytest.mark.parametrize("source", [0, 1])
@pytest.mark.parametrize("plane", PLANES)
def test_its_cameras_project_points_of_the_implants_to_where_ours_do(recorded, trial, sets, meshes, plane, source):
    _, content = recorded
    seen = 0
    for row, of_row in zip(trial, sets, strict=True):
        for part, pose in of_row[source].poses.items():
            if row[f"camera_{plane}"] is None:
                continue
            entity = f"/world/implants/{of_row[source].name}/{part}"
            vertices = np.array(last(content, f"{entity}/mesh", "Mesh3D:vertex_positions", row["frame_index"]))
            points = vertices[:: len(vertices) // 9][:10]
            (quaternion,) = last(content, entity, "Transform3D:quaternion", row["frame_index"])
            (translation,) = last(content, entity, "Transform3D:translation", row["frame_index"])
            T = make_transform(Rotation.from_quat(quaternion).as_matrix(), translation)
            found = camera_of(content, plane, row["frame_index"]).project(transform_points(T, points))
            T_world_implant = make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])
            size = cv2.imdecode(np.frombuffer(row[f"image_{plane}"]["bytes"], np.uint8), -1).shape
            ours = Camera.from_row(row[f"camera_{plane}"], size).project(transform_points(T_world_implant, points))
            assert len(points) == 10 and np.abs(found - ours).max() < 1e-3
            assert KDTree(meshes[pose["anatomy_id"]].vertices).query(points)[0].max() < SHAPE_MM
            seen += 1
    assert seen >= 3 - source


def test_images_and_outlines_are_those_of_the_row(recorded, trial, sets, meshes):
    _, content = recorded
    for row, of_row in zip(trial, sets, strict=True):
        for plane, traced in trace_planes(row, of_row, meshes).items():
            frame = row["frame_index"]
            (png,) = last(content, f"/world/{plane}/image", "EncodedImage:blob", frame)
            stored = cv2.imdecode(np.frombuffer(row[f"image_{plane}"]["bytes"], np.uint8), -1)
            np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(bytes(png), np.uint8), -1), stored)
            assert last(content, f"/world/{plane}", "Pinhole:resolution", frame) == [list(stored.shape[::-1])]
            assert content[f"/world/{plane}/image", "Transform3D:translation"] == {None: [[-0.5, -0.5, 0.0]]}
            for trace in traced.traces:
                entity = f"/world/{plane}/outlines/{of_row[trace.kind].name}/{trace.component}"
                lines = last(content, entity, "LineStrips2D:strips", frame)
                for line, contour in zip(lines, trace.contours_px, strict=True):
                    assert line[0] == line[-1]
                    np.testing.assert_allclose(line[:-1], contour, atol=1e-3)


def test_what_a_frame_lacks_is_not_shown(recorded):
    _, content = recorded
    label, other = "/world/implants/label (refined)", "/world/implants/a file/1"
    shown = {
        name: [last(content, entity, component, frame) is not None for frame in (0, 1, 5)]
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
    assert not last(content, "/world/bs/outlines/label (refined)/tibia", "LineStrips2D:strips", 1)


def test_angles_and_verdicts_over_time(recorded, sets):
    _, content = recorded
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
        part: [last(content, f"/verdicts/a file/1/{part}", "StateChange:state", frame) for frame in (0, 1, 5)]
        for part in PARTS
    }
    assert verdicts == {"femur": [["converged"], ["converged"], None], "tibia": [["ambiguous"], None, None]}
    assert ("/verdicts/label (refined)/femur", "StateChange:state") not in content
    assert content["/details/a file/1/femur", "TextLog:text"] == {0: ["why"], 1: ["why"]}
    assert re.fullmatch(r"measurement \d+, trial \d+, frame 5, .*", content["/frame", "TextDocument:text"][5][0])


def test_it_is_verified_by_rerun(recorded, tmp_path):
    path, _ = recorded
    # A folder of its own: in a new one, Rerun's program sends no data on its use.
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    ran = subprocess.run([RERUN, "rrd", "verify", path], capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "1 file verified without error" in ran.stdout + ran.stderr
    assert list(path.parent.iterdir()) == [path]
