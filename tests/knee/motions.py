"""Poses of a knee whose six coordinates are known, and meshes with axes."""

import numpy as np
import pyarrow as pa
from scipy.spatial.transform import Rotation

from veriserum_hf.core import COMPONENTS
from veriserum_hf.geometry import make_transform, matrix_to_quaternion
from veriserum_hf.knee import ImplantAxes, KneeAxes
from veriserum_hf.poses import TRUTH_SCHEMA
from veriserum_hf.simulation import Settings, trial

FEMUR, TIBIA = 1, 3
SETTINGS = Settings(trials=2, frames_per_trial=90)


def own_axes(side="right"):
    """Axes of implants whose meshes have them already."""
    ids = {FEMUR: "femur", TIBIA: "tibia"}
    return KneeAxes(side, {id: ImplantAxes(component, np.eye(4), "mesh") for id, component in ids.items()})


def placed(values, side):
    """Poses of femur and tibia (n, 4, 4) with six coordinates (n, 6), after Grood and Suntay's own axes and signs.

    The paper has x to the right, y anterior, z proximal; its rotations are flexion about the femur's x, abduction
    about the floating axis, external rotation about the tibia's z, in a right knee.
    """
    flexion, adduction, internal, medial, anterior, superior = np.asarray(values, dtype=float).T
    right = 1.0 if side == "right" else -1.0
    rng = np.random.default_rng(3)
    count = len(flexion)
    femur = Rotation.random(count, rng=rng)
    # Columns of the femur's paper axes are right, anterior, proximal.
    about_x = Rotation.from_rotvec(np.stack([-flexion, 0 * flexion, 0 * flexion], -1), degrees=True)
    about_y = Rotation.from_rotvec(np.stack([0 * flexion, right * adduction, 0 * flexion], -1), degrees=True)
    about_z = Rotation.from_rotvec(np.stack([0 * flexion, 0 * flexion, right * internal], -1), degrees=True)
    tibia = femur * about_x * about_y * about_z
    e1, e3 = femur.as_matrix()[:, :, 0], tibia.as_matrix()[:, :, 2]
    e2 = np.cross(e3, e1)
    e2 /= np.linalg.norm(e2, axis=1, keepdims=True)
    # H leads from the femur's origin to the tibia's; its projections are lateral, anterior and distal displacement.
    projections = np.stack([right * medial, -anterior, -superior], axis=-1)
    H = [np.linalg.solve([a, b, c], d) for a, b, c, d in zip(e1, e2, e3, projections, strict=True)]
    origin = rng.normal(scale=100, size=(count, 3))
    own = Rotation.from_matrix([[-1, 0, 0], [0, 0, 1], [0, 1, 0]])  # of left, proximal, anterior in the paper's axes
    return make_transform((femur * own).as_matrix(), origin), make_transform((tibia * own).as_matrix(), origin + H)


def table_of(T_femur, T_tibia, covariance=None, verdicts=None, trial_id=1, first_id=1, **columns):
    """Poses of one trial as a table."""
    rows = []
    for frame, poses in enumerate(zip(T_femur, T_tibia, strict=True)):
        for component, id, T in zip(COMPONENTS, (FEMUR, TIBIA), poses, strict=True):
            rows.append(
                {
                    "measurement_id": first_id + frame,
                    "trial_id": trial_id,
                    "frame_index": frame,
                    "anatomy_id": id,
                    "component": component,
                    "translation_mm": T[:3, 3].tolist(),
                    "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist(),
                    "covariance": None if covariance is None else covariance.tolist(),
                    "verdict": "converged" if verdicts is None else verdicts[frame],
                }
            )
    schema = pa.schema([field for field in TRUTH_SCHEMA if field.name in rows[0]])
    table = pa.Table.from_pylist(rows, schema)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(np.repeat(values, 2)))
    return table


def simulated(index=0):
    """A simulated trial: poses of femur and tibia, and its six coordinates from what the simulation drew."""
    shown = trial(SETTINGS, index)
    frames = range(SETTINGS.frames_per_trial)
    femur, tibia = (np.array([shown.pose(name, k) for k in frames]) for name in COMPONENTS)
    motion = shown.trajectory
    return femur, tibia, motion


def disturbed(T, covariance, rng):
    """Poses with errors of this covariance."""
    errors = rng.multivariate_normal(np.zeros(6), covariance, len(T))
    moved = T.copy()
    moved[:, :3, 3] += errors[:, :3]
    moved[:, :3, :3] = Rotation.from_rotvec(errors[:, 3:], degrees=True).as_matrix() @ T[:, :3, :3]
    return moved
