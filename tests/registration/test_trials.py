"""Frames of a trial registered together give the same poses as alone, whatever is wrong with the others."""

import numpy as np

from tests.registration.sources import PARTS, truth_of
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.registration.trials.trial import register_trial


def first_frames(dataset, archive, count):
    """Frames of the first trial of a data set, starts 0.9 mm from their exact poses, meshes and measurement ids."""
    source = open_rows(str(dataset), ("calibrated",), archive_px=512)
    frames = next(iter(source.splits.values())).taken(range(count))
    ids = frames.table("measurement_id")["measurement_id"].to_pylist()
    truth = truth_of(archive)
    starts = {id: {part: dict(truth[id][part]) for part in PARTS} for id in ids}
    for pose in (pose for poses in starts.values() for pose in poses.values()):
        pose["translation_mm"] = [value + 0.5 for value in pose["translation_mm"]]
    return frames, starts, source.meshes, ids


def assert_same_rows(rows, others):
    """The same except for rounding, far below the uncertainty of a registration."""
    for row, other in zip(rows, others, strict=True):
        for name in ("measurement_id", "component", "anatomy_id", "verdict", "start"):
            assert row[name] == other[name]
        for name in ("translation_mm", "moved_mm", "moved_deg", "score"):
            np.testing.assert_allclose(other[name] or 0, row[name] or 0, rtol=0, atol=1e-3)
        np.testing.assert_allclose(other["quaternion_xyzw"], row["quaternion_xyzw"], rtol=0, atol=1e-5)
        covariances = [np.array(each["covariance"] or np.zeros((6, 6)), dtype=float) for each in (row, other)]
        np.testing.assert_allclose(*covariances, rtol=0, atol=1e-3 * np.abs(covariances[0]).max())


def test_frames_registered_together_give_the_same_poses_as_alone(coarse_dataset, archive):
    """Also where one has no initial pose of its femur, and cannot be registered with the others."""
    frames, starts, meshes, ids = first_frames(coarse_dataset, archive, 3)
    del starts[ids[1]]["femur"]
    done = [[], []]
    alone = register_trial(frames, starts, meshes, done[0].append)
    together = register_trial(frames, starts, meshes, done[1].append, at_once=32)
    assert done == [[1] * 3, [3]] and len(alone) == 6
    assert_same_rows(alone, together)
    femur, tibia = (row["cross_covariance"] for row in alone[:2])
    np.testing.assert_array_equal(femur, np.transpose(tibia))
    assert np.array(femur)[0, 0] > 0


def test_an_unusable_initial_pose_does_not_affect_frames_registered_with_it(coarse_dataset, archive):
    frames, starts, meshes, ids = first_frames(coarse_dataset, archive, 2)
    for poses in starts.values():
        del poses["tibia"]
    starts[ids[1]]["femur"]["translation_mm"] = [0.0, 0.0, 5000.0]
    together = register_trial(frames, starts, meshes, at_once=32)
    assert [row["start"] for row in together] == ["given", "previous frame"]
    assert_same_rows(register_trial(frames, starts, meshes), together)


def test_without_initial_pose_and_converged_neighbour_an_implant_has_failed(coarse_dataset, archive):
    frames, starts, meshes, ids = first_frames(coarse_dataset, archive, 2)
    for poses in starts.values():
        del poses["femur"]
    starts[ids[1]]["tibia"]["translation_mm"] = [0.0, 0.0, 5000.0]
    del starts[ids[0]]
    alone, far = register_trial(frames, starts, meshes)
    assert alone["verdict"] == far["verdict"] == "failed"
    assert [alone[name] for name in ("start", "moved_mm", "moved_deg", "score", "covariance")] == [None] * 5
    assert alone["detail"] == "no initial pose in this frame, and no other frame of its trial has converged"
    assert far["start"] == "given" and far["moved_mm"] == 0
