"""Velocities of the implants in a recording of `wrong_rigs`, from labels of the frames around each of its frames."""

import numpy as np
from scipy.spatial.transform import Rotation

from tests.benchmarks.wrong_rigs import _LABEL_SD_DEG, _LABEL_SD_MM, Recording, _settings
from veriserum_hf.core import PLANES, Component, PoseRow
from veriserum_hf.geometry import matrix_to_quaternion
from veriserum_hf.registration.cameras.velocities import Place, Velocities, velocities
from veriserum_hf.registration.implant import Implant
from veriserum_hf.simulation.activities import FRAME_RATE_HZ
from veriserum_hf.simulation.implants import implant_mesh
from veriserum_hf.simulation.scenario import Trial, trial
from veriserum_hf.simulation.wrong_cameras import registered_pose


def velocities_of(seen: Recording, seed: int, apart_ms: float, frames: int, trials: int) -> Velocities:
    """Velocities of the implants, by measurement id and component, with the errors that labels have.

    Parameters
    ----------
    seen : recording of these arguments.
    seed, apart_ms, frames, trials : of the recording.

    """
    drawn = _settings(seed, frames, trials, apart_ms)
    labels: list[Place] = []
    starts: dict[int, dict[Component, PoseRow]] = {}
    used = {(row["trial_id"], row["frame_index"]): row for row in seen.rows}
    for index in range(trials):
        shown = trial(drawn, index)
        near = {
            k + n for id, k in used if id == shown.id for n in range(-2, 3) if 0 <= k + n < drawn.frames_per_trial
        }
        for frame in sorted(near):
            row = used.get((shown.id, frame))
            id = row["measurement_id"] if row else -1 - len(labels)
            labels.append({"measurement_id": id, "trial_id": shown.id, "frame_index": frame})
            rng = np.random.default_rng([seed, 5, index, frame])
            starts[id] = {
                name: (row and row[name]) or _label(shown, name, frame, seen, rng) for name in shown.anatomy_ids
            }
    implants = {id: Implant(id, mesh) for id, mesh in seen.meshes.items()}
    return velocities(labels, starts, implants, FRAME_RATE_HZ)


def _label(shown: Trial, name: Component, frame: int, seen: Recording, rng: np.random.Generator) -> PoseRow:
    vertices_mm = np.asarray(implant_mesh(shown.anatomy_ids[name]).vertices)
    T = registered_pose(
        vertices_mm, {plane: shown.pose(name, frame, plane) for plane in PLANES}, seen.true, seen.stored
    )
    rotation = Rotation.from_rotvec(rng.normal(0, _LABEL_SD_DEG, 3), degrees=True).as_matrix() @ T[:3, :3]
    return {
        "anatomy_id": shown.anatomy_ids[name],
        "translation_mm": (T[:3, 3] + rng.normal(0, _LABEL_SD_MM, 3)).tolist(),
        "quaternion_xyzw": matrix_to_quaternion(rotation).tolist(),
        "kind": "refined",
    }
