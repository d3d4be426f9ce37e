"""Labels and registrations of the same frames with random errors, and their comparison."""

import numpy as np
import pyarrow as pa
from scipy.spatial.transform import Rotation

from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry.rig import DualPlaneRig
from veriserum_hf.poses.schema import REGISTERED_SCHEMA as SCHEMA
from veriserum_hf.registration.labels.differences import differences_of
from veriserum_hf.registration.labels.offsets import common_offsets
from veriserum_hf.registration.labels.rows import label_rows, spread_of

RIG = DualPlaneRig.from_calibration(
    principal_point_bs_mm=(5, -6), sid_bs_mm=1860.5, principal_point_fs_mm=(-10.5, 1.5), sid_fs_mm=1851.4
)
CAMERAS = {f"camera_{plane}": RIG[plane].camera() for plane in PLANES}
LABEL_MM, LABEL_DEG = 0.05, 0.06  # noise of labels, standard deviation per axis
DEPTH = {plane: RIG[plane].source_mm - (0, 0, 380) for plane in PLANES}


def simulated(frames=500, seed=0, registration_mm=0.07, registration_deg=0.1, degrees_of_freedom=5):
    """Labels, and registrations of the same frames; the registrations' errors have the long tails of Student's t."""
    rng = np.random.default_rng(seed)
    labels, poses = [], []
    for id in range(frames):
        row = {"measurement_id": id, "trial_id": 1 + id // 10, "frame_index": id % 10, "split": "train", "row": id}
        for component in ("femur", "tibia"):
            position, rotation = rng.uniform(-20, 20, 3) + (0, 0, 380), Rotation.random(random_state=rng)
            tail = np.sqrt(degrees_of_freedom / rng.chisquare(degrees_of_freedom))
            for label in (True, False):
                mm, deg = (LABEL_MM, LABEL_DEG) if label else (tail * registration_mm, tail * registration_deg)
                noisy = Rotation.from_rotvec(rng.normal(0, deg, 3), degrees=True) * rotation
                pose = {"anatomy_id": 1, "translation_mm": (position + rng.normal(0, mm, 3)).tolist()}
                pose["quaternion_xyzw"] = noisy.as_quat(canonical=True).tolist()
                if label:
                    row[component] = pose
                else:
                    covariance = np.diag([0.04**2] * 3 + [0.06**2] * 3).tolist()
                    assessment = {"verdict": "converged", "score": 0.9, "detail": "", "covariance": covariance}
                    poses.append({"measurement_id": id, "component": component, **pose, **assessment})
        labels.append(row | CAMERAS)
    return labels, poses


def shift(label, by_mm):
    label["translation_mm"] = (np.array(label["translation_mm"]) + by_mm).tolist()


def compared(labels, poses):
    differences = differences_of(labels, pa.Table.from_pylist(poses, SCHEMA))
    rows = label_rows(differences, common_offsets(differences)[1])
    by_id = {(row["measurement_id"], row["component"]): row for row in rows.to_pylist()}
    return by_id, spread_of(differences)


def flagged(rows):
    return {key for key, row in rows.items() if row["flagged"]}
