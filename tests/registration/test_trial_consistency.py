"""Verdicts of a trial's poses in view of each other."""

import numpy as np
import trimesh

from veriserum_hf.geometry.pose import make_transform
from veriserum_hf.registration.refine import RefinedPose
from veriserum_hf.registration.trials.poses import Found
from veriserum_hf.registration.trials.verdicts import check_consistency

FRAMES = 30


def found(component, anatomy_id, T, verdict="converged", detail=""):
    covariance = np.diag(np.repeat((0.05, 0.1), 3) ** 2)
    if verdict == "failed":
        covariance = np.full_like(covariance, np.nan)
    pose = RefinedPose(
        component, anatomy_id, T, 4 * covariance, covariance, "outline", 0.9, verdict, detail, 1.0, 1.0
    )
    return Found(pose, "given")


def test_a_pose_that_jumps_is_ambiguous_and_the_detail_states_by_how_much():
    """Of a mesh far from its own origin; the poses of the other implant, and failed ones, do not count."""
    center_mm = np.array([200.0, -100.0, 0.0])
    mesh = trimesh.creation.box((50, 40, 30), make_transform(np.eye(3), center_mm))
    noise = np.random.default_rng(0).normal(0, 0.05, (FRAMES, 3))
    path_mm = np.stack([np.arange(FRAMES) * 2.0, np.zeros(FRAMES), np.full(FRAMES, 300.0)], axis=1) + noise
    path_mm[10] += (0, 3, 0)
    path_mm[20] += (0, 50, 0)
    verdicts = {20: "failed"}
    trial = [
        {
            "femur": found("femur", 1, make_transform(np.eye(3), at - center_mm), verdicts.get(n, "converged")),
            "tibia": found("tibia", 2, make_transform(np.eye(3), (at[0], 7 * (n == 5), 0)), "ambiguous", "hidden"),
        }
        for n, at in enumerate(path_mm)
    ]
    before = [dict(each) for each in trial]
    check_consistency(range(100, 100 + FRAMES), trial, {1: mesh, 2: mesh})
    changed = {(n, part) for n in range(FRAMES) for part in trial[n] if trial[n][part] is not before[n][part]}
    assert changed == {(10, "femur"), (5, "tibia")}
    pose = trial[10]["femur"].pose
    assert pose.verdict == "ambiguous" and pose.T_world_implant is before[10]["femur"].pose.T_world_implant
    assert pose.detail.startswith("jumps by 3.") and pose.detail.endswith("(frame_index 108, 109, 111, 112)")
    assert trial[5]["tibia"].pose.detail.startswith("hidden; jumps by 7.")
    assert trial[20]["femur"].pose.verdict == "failed"
