"""Six coordinates of the knee against poses that were placed by them, and against the equations of the paper."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.knee.motions import disturbed, own_axes, placed, simulated, table_of
from veriserum_hf.geometry import invert_transform
from veriserum_hf.knee import COORDINATES, coordinate_derivatives, joint_coordinates, kinematics

RANGES = ((-20, 130), (-15, 15), (-30, 30), (-10, 10), (-20, 20), (10, 40))


def values_of(table, names=COORDINATES):
    return np.stack([table[name].to_numpy() for name in names], axis=-1)


@pytest.mark.parametrize("side", ["left", "right"])
def test_poses_placed_by_six_values_give_them_back(side):
    low, high = np.array(RANGES).T
    values = np.random.default_rng(1).uniform(low, high, (200, 6))
    table = kinematics(table_of(*placed(values, side)), own_axes(side)).table
    np.testing.assert_allclose(values_of(table), values, atol=1e-9)
    assert set(table["side"].to_pylist()) == {side}


@pytest.mark.parametrize("index", [0, 1])
def test_simulated_trials_have_the_motion_that_was_drawn(index):
    femur, tibia, motion = simulated(index)
    found = values_of(kinematics(table_of(femur, tibia), own_axes()).table)
    angles = np.stack([motion.flexion_deg, motion.adduction_deg, motion.internal_rotation_deg], axis=-1)
    np.testing.assert_allclose(found[:, :3], angles, atol=1e-9)
    # The simulation places the femur along the tray's axes; here along the joint's, which differ by the rotations.
    adduction, internal = np.radians(angles[:, 1:]).T
    x, up, z = (np.linalg.inv(tibia) @ femur)[:, :3, 3].T
    np.testing.assert_allclose(z, motion.anterior_mm, atol=1e-9)
    level = np.cos(internal) * x + np.sin(internal) * z
    np.testing.assert_allclose(found[:, 3], np.cos(adduction) * level - np.sin(adduction) * up, atol=1e-9)
    np.testing.assert_allclose(found[:, 4], np.cos(internal) * z - np.sin(internal) * x, atol=1e-9)
    np.testing.assert_allclose(found[:, 5], up, atol=1e-9)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_equations_of_grood_and_suntay(side):
    """J Biomech Eng 105 (1983) 136: their axes X right, Y anterior, Z proximal; flexion below 90 degrees."""
    rng = np.random.default_rng(2)
    low, high = np.array(((0, 85), *RANGES[1:])).T
    femur, tibia = placed(rng.uniform(low, high, (50, 6)), side)
    right, proximal = -femur[:, :3, 0], femur[:, :3, 1]
    i, k = -tibia[:, :3, 0], tibia[:, :3, 1]
    e1, e3 = right, k
    e2 = np.cross(e3, e1)
    e2 /= np.linalg.norm(e2, axis=1, keepdims=True)

    def dot(a, b):
        return np.sum(a * b, axis=1)

    beta = np.arccos(dot(right, k))
    flexion = np.arcsin(-dot(e2, proximal))
    # Adduction brings the tibia's distal end to the midline, so that in a right knee k leans towards I.
    adduction = np.pi / 2 - beta if side == "right" else beta - np.pi / 2
    external = np.arcsin(-dot(e2, i)) if side == "right" else np.arcsin(dot(e2, i))
    H = tibia[:, :3, 3] - femur[:, :3, 3]
    lateral = dot(H, e1) if side == "right" else -dot(H, e1)
    drawer, distraction = dot(H, e2), -dot(H, e3)
    found = values_of(kinematics(table_of(femur, tibia), own_axes(side)).table)
    expected = np.stack([np.degrees(flexion), np.degrees(adduction), -np.degrees(external)], axis=-1)
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-6)
    # Of the tibia in the paper, of the femur here.
    np.testing.assert_allclose(found[:, 3:], np.stack([lateral, -drawer, distraction], axis=-1), atol=1e-9)


@pytest.mark.parametrize("side", ["left", "right"])
def test_translations_of_the_isb_sum_up_to_the_vector_between_the_origins(side):
    low, high = np.array(RANGES).T
    femur, tibia = placed(np.random.default_rng(4).uniform(low, high, (20, 6)), side)
    found = joint_coordinates(invert_transform(tibia) @ femur, side, "isb")
    e1, e3 = femur[:, :3, 0], tibia[:, :3, 1]
    e2 = np.cross(e1, e3)
    e2 /= np.linalg.norm(e2, axis=1, keepdims=True)
    medial, anterior, superior = (column[:, None] for column in found[:, 3:].T)
    sign = 1 if side == "right" else -1
    H = tibia[:, :3, 3] - femur[:, :3, 3]
    np.testing.assert_allclose(sign * medial * e1 + anterior * e2 + superior * e3, H, atol=1e-9)


@pytest.mark.parametrize("convention", ["grood-suntay", "isb"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_derivatives_are_those_of_small_steps(side, convention):
    low, high = np.array(RANGES).T
    femur, tibia = placed(np.random.default_rng(5).uniform(low, high, (10, 6)), side)
    T = invert_transform(tibia) @ femur
    J = coordinate_derivatives(T, side, convention)
    for k, step in enumerate(1e-4 * np.eye(6)):
        moved = []
        for sign in (1, -1):
            X = T.copy()
            X[:, :3, 3] += sign * step[:3]
            X[:, :3, :3] = Rotation.from_rotvec(sign * step[3:], degrees=True).as_matrix() @ T[:, :3, :3]
            moved.append(joint_coordinates(X, side, convention))
        np.testing.assert_allclose(J[:, :, k], (moved[0] - moved[1]) / 2e-4, atol=1e-7)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("convention", ["grood-suntay", "isb"])
def test_deviations_are_those_of_sampled_poses(side, convention):
    rng = np.random.default_rng(6)
    A = np.diag([0.1, 0.1, 0.5, 0.2, 0.3, 0.4]) + 0.05 * rng.normal(size=(6, 6))
    covariance = A @ A.T
    count = 4000
    values = np.broadcast_to((70.0, 3.0, 8.0, 2.0, -5.0, 30.0), (count, 6))
    femur, tibia = placed(values, side)
    femur, tibia = (np.broadcast_to(T[0], T.shape) for T in (femur, tibia))
    exact = kinematics(table_of(femur[:1], tibia[:1], covariance), own_axes(side), convention=convention).table
    stated = values_of(exact, [f"{name}_sd" for name in COORDINATES])[0]
    sampled = joint_coordinates(
        invert_transform(disturbed(tibia, covariance, rng)) @ disturbed(femur, covariance, rng), side, convention
    )
    np.testing.assert_allclose(sampled.std(axis=0), stated, rtol=0.05)
