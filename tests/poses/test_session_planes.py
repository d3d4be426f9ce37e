"""Disagreement of the planes by session, and what a session is."""

import json

import numpy as np
import pytest

from tests.registration.simulated_labels import CAMERAS, RIG
from veriserum_hf.geometry.sessions import session_numbers
from veriserum_hf.poses.session_planes import SHOWN, planes_by_session, planes_table


def row_of(id, trial, cameras=CAMERAS):
    return {"measurement_id": id, "trial_id": trial, **cameras}


def moved(by_mm):
    """The same cameras, the fs one elsewhere."""
    camera = CAMERAS["camera_fs"]
    world_to_camera = np.array(camera["world_to_camera"])
    world_to_camera[1, 3] += by_mm
    return CAMERAS | {"camera_fs": camera | {"world_to_camera": world_to_camera.tolist()}}


def pose_of(apart_mm, sd_mm=0.05):
    at = {"anatomy_id": 1, "translation_mm": [0.0, 0.0, 380.0], "quaternion_xyzw": [0.0, 0.0, 0.0, 1.0]}
    return at | {"planes_apart_mm": apart_mm, "planes_apart_sd_mm": sd_mm}


def test_images_of_another_size_are_of_the_same_session_and_moved_cameras_are_not():
    small = {f"camera_{plane}": RIG[plane].camera(400) for plane in ("bs", "fs")}
    one_plane = CAMERAS | {"camera_fs": None}
    rows = [row_of(1, 1), row_of(2, 1, moved(0.01)), row_of(3, 2, small), row_of(4, 2, one_plane), row_of(5, 3)]
    assert session_numbers(rows).tolist() == [0, 1, 0, 2, 0]


def test_each_session_has_its_median_and_scatter():
    rows = [row_of(id, 1 + id // 4, CAMERAS if id < 8 else moved(1)) for id in range(12)]
    rows += [row_of(12, 9, CAMERAS | {"camera_fs": None}), row_of(13, 9)]  # one plane; not registered
    poses = {id: {"femur": pose_of(0.5 + 0.01 * (id % 3)), "tibia": pose_of(None, None)} for id in range(8)}
    poses |= {id: {"femur": pose_of(-0.2, None)} for id in (8, 12)}
    first, second = planes_by_session(rows, poses)
    assert (first.trials, first.frames, first.poses) == ((1, 2), 8, 8)
    assert first.median_mm == pytest.approx(0.51) and first.scatter_mm == pytest.approx(0.0148, abs=1e-3)
    assert first.stated_sd_mm == pytest.approx(0.05)
    np.testing.assert_allclose(first.direction, (0, -1, 0), atol=0.05)
    document = json.loads(json.dumps(second.document()))
    assert (document["trials"], document["median_mm"], document["scatter_mm"]) == ([3], -0.2, None)
    shown = planes_table([first, second]).text()
    assert "+0.51" in shown and "-0.20" in shown and "lower bound" in shown
    assert "1 more sessions, with less, are not shown" in planes_table([first] * (SHOWN + 1)).text()


def test_poses_of_earlier_versions_state_none():
    pose = {name: value for name, value in pose_of(0).items() if not name.startswith("planes")}
    assert planes_by_session([row_of(1, 1)], {1: {"femur": pose}}) == []
