"""Stated uncertainties and verdicts are compared with the errors of poses."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.poses.made import POINTS_MM, estimates_of, noisy, poses
from veriserum_hf.evaluation.metrics import pose_errors
from veriserum_hf.evaluation.stated_uncertainty import by_verdict, coverage
from veriserum_hf.evaluation.summary import summarise
from veriserum_hf.poses.differences import DEGREES_OF_FREEDOM, pose_differences

SD = np.array([0.1, 0.2, 0.4, 0.5, 1.0, 2.0])


def test_a_difference_is_the_shift_of_the_origin_and_the_rotation_about_the_worlds_axes():
    labels = poses(1, np.random.default_rng(0))
    moved = labels.copy()
    moved[:, :3, 3] += (1, 2, -3)
    moved[:, :3, :3] = Rotation.from_rotvec((0, 4, 0), degrees=True).as_matrix() @ labels[:, :3, :3]
    found = estimates_of(moved, labels)
    differences = pose_differences(found.T_world_implant, found.T_world_label)
    np.testing.assert_allclose(differences, [[1, 2, -3, 0, 4, 0]], atol=1e-9)


@pytest.mark.parametrize(("factor", "share"), [(1, 0.95), (0.5, 0.673)])
def test_the_share_within_stated_intervals(factor, share):
    """Half the true standard deviations hold two thirds: 67.3 % of a normal distribution are within 0.98."""
    differences = np.random.default_rng(0).normal(0, SD, (20_000, 6))
    found = coverage(differences, [np.diag((factor * SD) ** 2)] * 20_000)
    assert [each["name"] for each in found] == list(DEGREES_OF_FREEDOM)
    for each, sd in zip(found, SD, strict=True):
        assert each["within_95"] == pytest.approx(share, abs=0.01) and each["count"] == 20_000
        assert each["stated_sd"] == pytest.approx(factor * sd)
        assert each["error_68"] == pytest.approx(sd, rel=0.03)


def test_poses_without_stated_uncertainty_are_excluded():
    differences = np.full((3, 6), 0.1)
    assert coverage(differences, [None, np.zeros((6, 6)), None]) == []
    found = coverage(differences, [None, np.eye(6).tolist(), np.zeros((6, 6)).tolist()])
    assert {each["count"] for each in found} == {1} and {each["within_95"] for each in found} == {1.0}


def test_errors_by_verdict_are_those_of_its_poses():
    errors = pose_errors(noisy(40), POINTS_MM)
    verdicts = ["ambiguous"] * 4 + ["converged"] * 30 + [None] * 6
    found = by_verdict(errors, verdicts)
    assert list(found) == ["converged", "ambiguous"]
    assert found["converged"] == summarise(errors.slice(4, 30))["overall"]
    assert found["ambiguous"]["count"] == 4
    assert by_verdict(errors, [None] * 40) == {}
