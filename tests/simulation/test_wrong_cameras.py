"""Archives whose tables hold other cameras than the frames were drawn with, and planes exposed at different times."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from tests.jobs.processes import run_here
from tests.simulation.test_write import content
from veriserum_hf import DualPlaneRig, VeriserumArchive
from veriserum_hf.archive.audit import audit_archive
from veriserum_hf.core.domain import PLANES
from veriserum_hf.errors import SimulationError
from veriserum_hf.geometry.plane import Plane
from veriserum_hf.geometry.pose import (
    angle_between_deg,
    invert_transform,
    make_transform,
    quaternion_to_matrix,
    transform_points,
)
from veriserum_hf.simulation.activities import FRAME_RATE_HZ, simulate_trial
from veriserum_hf.simulation.implants import implant_mesh
from veriserum_hf.simulation.scenario import draw_frame, session, trial
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate
from veriserum_hf.simulation.wrong_cameras import registered_pose

SMALL = Settings(trials=3, frames_per_trial=2, pairs=1, height_px=100, marker_frames=1)
WRONG = replace(
    SMALL,
    fs_translation_mm=2.0,
    fs_rotation_deg=0.5,
    principal_point_sd_mm=1.0,
    sid_sd_mm=5.0,
    async_ms=6.0,
)
RIG = session(SMALL, 0).rig
OPTIONS = ("--fs-shift-mm=2", "--fs-turn-deg=0.5", "--principal-point-sd-mm=1", "--sid-sd-mm=5", "--async-ms=6")


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """Two frames in each of three sessions with every error, written by the command line; not to be changed."""
    out = tmp_path_factory.mktemp("wrong") / "archive"
    small = ("--trials=3", "--frames-per-trial=2", "--pairs=1", "--size=100", "--marker-frames=1", "--workers=1")
    assert run_here("simulate", out, *small, *OPTIONS).returncode == 0
    return out


def record_of(archive):
    return json.loads((archive / "simulation.json").read_text())


def rotation_vector(R):
    return Rotation.from_matrix(R).as_rotvec(degrees=True)


def test_the_record_is_the_true_cameras_less_those_of_the_tables(wrong):
    record, stored = record_of(wrong), VeriserumArchive(wrong).source_calibrations
    errors = record["camera_errors_by_source_calibration"]
    assert {int(id) for id in errors} == set(stored) == {1, 3, 5}
    for id, error in errors.items():
        true = record["rig_by_source_calibration"][id]
        for plane in PLANES:
            off_mm = true[plane]["principal_point_mm"] - stored[int(id)][plane].principal_point_mm
            np.testing.assert_allclose(off_mm, error["principal_point_mm"][plane], atol=1e-9)
            assert true[plane]["sid_mm"] - stored[int(id)][plane].sid_mm == pytest.approx(error["sid_mm"][plane])
        T_true, T_stored = np.array(true["fs"]["T_world_intensifier"]), stored[int(id)]["fs"].T_world_intensifier
        move, center_mm = T_true @ invert_transform(T_stored), np.array(error["center_mm"])
        np.testing.assert_allclose((T_true - T_stored)[:3, 3], error["fs_translation_mm"], atol=1e-9)
        np.testing.assert_allclose(rotation_vector(move[:3, :3]), error["fs_rotation_deg"], atol=1e-9)
        shift_mm = transform_points(move, center_mm[None])[0] - center_mm
        np.testing.assert_allclose(shift_mm, error["fs_shift_at_center_mm"], atol=1e-9)
        assert np.linalg.norm(error["fs_translation_mm"]) == pytest.approx(2.0)
        assert np.linalg.norm(error["fs_rotation_deg"]) == pytest.approx(0.5)
        assert abs(error["fs_late_ms"]) == 6.0
        np.testing.assert_array_equal(true["bs"]["T_world_intensifier"], np.eye(4))
    drawn = [tuple(error["fs_translation_mm"]) + tuple(error["sid_mm"].values()) for error in errors.values()]
    assert len(set(drawn)) == 3


def test_the_audit_is_clean(wrong):
    report = audit_archive(wrong, deep=True)
    assert report.exit_status == 0, report.findings.problems


def test_the_bytes_are_the_same_for_any_number_of_workers(wrong, tmp_path):
    assert content(simulate(tmp_path / "again", WRONG, workers=3)) == content(wrong)


def test_refined_poses_are_those_of_the_stored_cameras_and_target_poses_those_of_the_robot(wrong):
    exact = {
        (row["measurement_id"], row["anatomy_id"]): make_transform(
            quaternion_to_matrix(row["quaternion_xyzw"]), row["translation_mm"]
        )
        for row in pq.read_table(wrong / "truth.parquet").to_pylist()
    }
    poses = VeriserumArchive(wrong).poses
    seen = 0
    for row in poses.filter(poses["obsolete"].cast("bool").to_numpy() == 0).to_pylist():
        index, frame = WRONG.place_of(row["measurement_id"])
        shown = trial(WRONG, index)
        (component,) = (name for name, id in shown.anatomy_ids.items() if id == row["anatomy_id"])
        true = exact[row["measurement_id"], row["anatomy_id"]]
        np.testing.assert_allclose(true, shown.pose(component, frame), atol=1e-9)
        registered = shown.registered_pose(component, frame)
        assert np.linalg.norm((registered - true)[:3, 3]) > 0.3
        expected, sd_mm, sd_deg = (registered, 0.05, 0.06) if row["kind"] == "refined" else (true, 0.8, 0.7)
        off_deg = angle_between_deg(quaternion_to_matrix(row["quaternion_xyzw"]), expected[:3, :3])
        if row["kind"] != "manual":
            assert np.linalg.norm(np.subtract(row["translation_mm"], expected[:3, 3])) < 5 * sd_mm
            assert off_deg < 5 * sd_deg
            seen += 1
    assert seen == 2 * 2 * 6


def test_without_errors_all_is_as_it_was():
    """Values of before there were errors of cameras."""
    shown = trial(SMALL, 1)
    assert shown.session.errors.none and shown.trajectory.late is None
    np.testing.assert_array_equal(shown.registered_pose("femur", 1), shown.pose("femur", 1))
    np.testing.assert_allclose(
        shown.pose("femur", 1)[:3, 3], (-21.993908693098, 22.661330106721, 377.346555894295), atol=1e-9
    )
    assert float(draw_frame(SMALL, 1, 1, "fs").mean()) == pytest.approx(104.293, abs=0.01)


def test_planes_see_their_own_moments():
    """A trial that is a frame late shows the next frame."""
    meshes = [implant_mesh(id) for id in (1, 3)]
    for sign in (1, -1):
        t = simulate_trial("gait", *meshes, RIG, 8, np.random.default_rng(2), late_s=sign / FRAME_RATE_HZ)
        later, earlier = (t.late, t) if sign > 0 else (t, t.late)
        np.testing.assert_allclose(earlier.T_world_femur[1:], later.T_world_femur[:-1], atol=1e-9)
        np.testing.assert_allclose(earlier.flexion_deg[1:], later.flexion_deg[:-1], atol=1e-9)
        assert t.task == t.late.task == "gait" and len(t.T_world_tibia) == len(t.late.T_world_tibia) == 8


def test_the_sign_of_the_time_between_planes_is_that_of_the_session_and_fs_alone_moves():
    settings = replace(SMALL, async_ms=30.0)
    signs = {np.sign(session(replace(settings, seed=seed), 0).errors.fs_late_ms) for seed in range(8)}
    assert signs == {-1, 1}
    same, apart = trial(SMALL, 0), trial(settings, 0)
    np.testing.assert_allclose(apart.pose("femur", 1), same.pose("femur", 1), atol=1e-9)
    assert np.abs(apart.pose("femur", 1, "fs") - same.pose("femur", 1)).max() > 1e-3
    assert np.array_equal(draw_frame(settings, 0, 1, "bs"), draw_frame(SMALL, 0, 1, "bs"))
    assert not np.array_equal(draw_frame(settings, 0, 1, "fs"), draw_frame(SMALL, 0, 1, "fs"))


vectors = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array)


def at(rotation_deg, translation_mm):
    return make_transform(Rotation.from_rotvec(rotation_deg, degrees=True).as_matrix(), translation_mm)


def rig_moved(rig, move):
    planes = {
        name: Plane(move @ plane.T_world_intensifier, plane.principal_point_mm, plane.sid_mm)
        for name, plane in rig.items()
    }
    return DualPlaneRig(**planes)


@settings(max_examples=25)
@given(vectors, vectors, vectors)
def test_cameras_that_moved_together_move_the_poses(rotation, translation, heading):
    move, points_mm = at(2 * rotation, 5 * translation), np.asarray(implant_mesh(3).vertices)
    T = at(180 * heading, (10, -20, 380))
    found = registered_pose(points_mm, dict.fromkeys(PLANES, T), RIG, rig_moved(RIG, move))
    np.testing.assert_allclose(found, move @ T, atol=1e-7)


@settings(max_examples=25)
@given(vectors, vectors, vectors)
def test_no_other_pose_explains_the_projections_better(shift, rotation, step):
    T, points_mm = at((20, 40, 10), (10, -20, 380)), np.asarray(implant_mesh(1).vertices)[::40]
    stored = DualPlaneRig(RIG["bs"], rig_moved(RIG, at(rotation, 3 * shift))["fs"])
    T_true = {"bs": T, "fs": at(0.5 * rotation, shift) @ T}

    def squares(pose):
        return sum(
            (
                (
                    RIG[name].project(transform_points(T_true[name], points_mm))
                    - stored[name].project(transform_points(pose, points_mm))
                )
                ** 2
            ).sum()
            for name in PLANES
        )

    found = registered_pose(points_mm, T_true, RIG, stored)
    assert squares(found) <= squares(at(0.05 * step, 0.05 * step) @ found) + 1e-9
    assert squares(found) <= squares(found @ at(0.05 * step, -0.05 * step)) + 1e-9


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            {"fs_translation_mm": -1.0},
            "fs_translation_mm must be a number from 0 to 50, got -1.0; omit --fs-shift-mm",
        ),
        ({"fs_rotation_deg": 11}, "fs_rotation_deg must be a number from 0 to 10, got 11; omit --fs-turn-deg"),
        ({"principal_point_sd_mm": float("nan")}, "principal_point_sd_mm must be a number from 0 to 10, got nan"),
        ({"sid_sd_mm": float("inf")}, "sid_sd_mm must be a number from 0 to 50, got inf; omit --sid-sd-mm"),
        ({"async_ms": 40.0}, "async_ms must be a number from 0 to 33, got 40.0; omit --async-ms"),
        ({"async_ms": True}, "async_ms must be a number from 0 to 33, got True"),
        ({"sid_sd_mm": "5"}, "sid_sd_mm must be a number from 0 to 50, got '5'"),
    ],
)
def test_impossible_errors_are_refused(choice, message):
    with pytest.raises(SimulationError, match=message):
        Settings(**choice)


def test_impossible_options_are_one_message(tmp_path):
    ran = run_here("simulate", tmp_path / "out", "--async-ms", "-5")
    assert ran.returncode == 2
    assert "async_ms must be a number from 0 to 33, got -5.0; omit --async-ms" in ran.stderr
    assert not list(tmp_path.iterdir())
