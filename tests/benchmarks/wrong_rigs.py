"""Frames of one session with wrong stored cameras, by another renderer and imaging chain than the simulator's.

True poses, true cameras and images follow from the seed and the time between the planes: conditions that differ by
the errors of the stored cameras or of the meshes share them, and they are drawn once and kept below a folder.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.benchmarks import independent_chain as chains
from tests.benchmarks.independent_chain import FINE_PX, SIZE_PX, Chain, Floats
from tests.benchmarks.independent_frames import traced_mm
from tests.benchmarks.surroundings import fixtures
from tests.benchmarks.wrong_frames import given_mesh
from tests.benchmarks.wrong_worlds import Given
from veriserum_hf.core import CAMERA_OF, IMAGE_OF, PLANES, Component, FloatArray, FrameRow, PlaneName
from veriserum_hf.geometry import DualPlaneRig, matrix_to_quaternion
from veriserum_hf.simulation.imaging import Part
from veriserum_hf.simulation.implants import IMPLANTS, implant_mesh
from veriserum_hf.simulation.scenario import SESSIONS, Trial, trial
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.wrong_cameras import CENTER_MM, CameraErrors, registered_pose

ROOT = Path(__file__).parents[2]
_STEP = 3  # of the frames at 30 Hz, every third
_BRIGHTEST = 0.93  # signal, 1 is white
_LABEL_SD_MM, _LABEL_SD_DEG = 0.05, 0.06


@dataclass(frozen=True)
class Errors:
    """What is wrong with a session.

    Attributes
    ----------
    fs_mm, fs_deg : length of a shift, and angle of a rotation about its centre, of the stored fs intensifier.
    principal_sd_mm, sid_sd_mm : standard deviations of both planes' stored principal points and distances.
    apart_ms : time between the planes, either of them first.
    offset_mm, offset_sd_mm : of the given meshes' surfaces, outwards: of all, and its standard deviation over them.

    """

    fs_mm: float = 0
    fs_deg: float = 0
    principal_sd_mm: float = 0
    sid_sd_mm: float = 0
    apart_ms: float = 0
    offset_mm: float = 0
    offset_sd_mm: float = 0


@dataclass(frozen=True)
class Recording:
    """Frames of a session.

    Attributes
    ----------
    rows : with the stored cameras; femur and tibia have the poses that a registration with these gives, with an error
        of 0.05 mm and 0.06 deg (standard deviation per axis) as refined labels have.
    true, stored : the rigs.
    late_ms : how much later the plane fs is exposed than bs; negative if earlier.
    poses : true poses of every row, when the plane bs is exposed.
    meshes : that are given, by anatomy id.

    """

    rows: Sequence[FrameRow]
    true: DualPlaneRig
    stored: DualPlaneRig
    late_ms: float
    poses: Sequence[dict[Component, FloatArray]]
    meshes: dict[int, trimesh.Trimesh]

    @property
    def true_rows(self) -> list[FrameRow]:
        """The rows with the true cameras."""
        return [_with_cameras(row, self.true) for row in self.rows]

    def plane_error(self, center_mm: Sequence[float] = CENTER_MM) -> NDArray[np.float64]:
        """The true fs camera less the stored one: shift in mm at a point of the world, rotation vector in deg, (6,).

        Without errors of principal points and distances.
        """
        at_mm = np.asarray(center_mm)
        T = self.true["fs"].T_world_intensifier @ np.linalg.inv(self.stored["fs"].T_world_intensifier)
        rotation_deg = Rotation.from_matrix(T[:3, :3]).as_rotvec(degrees=True)
        return np.concatenate([T[:3, :3] @ at_mm + T[:3, 3] - at_mm, rotation_deg])


def recording(folder: Path, seed: int, errors: Errors, frames: int = 100, trials: int = 10) -> Recording:
    """Frames of a seed with these errors, in sequence by trial; the trials go through the implant pairs."""
    drawn = _settings(seed, frames, trials, errors.apart_ms)
    day = trial(drawn, 0).session
    true = day.rig
    wrong = replace(
        drawn,
        fs_translation_mm=float(errors.fs_mm),
        fs_rotation_deg=float(errors.fs_deg),
        principal_point_sd_mm=float(errors.principal_sd_mm),
        sid_sd_mm=float(errors.sid_sd_mm),
    )
    stored = CameraErrors.random(wrong, 0).rig(day.source)
    rows: list[FrameRow] = []
    poses: list[dict[Component, FloatArray]] = []
    for place in range(frames):
        index, frame = divmod(_STEP * place, drawn.frames_per_trial)
        shown = trial(drawn, index)
        true_poses = {name: {plane: shown.pose(name, frame, plane) for plane in PLANES} for name in shown.anatomy_ids}
        row: FrameRow = {
            "measurement_id": 1 + place,
            "trial_id": shown.id,
            "frame_index": frame,
            "task": shown.trajectory.task,
            "subject": "",
            "implant_pair": "-".join(map(str, shown.anatomy_ids.values())),
            "femur": None,
            "tibia": None,
            "camera_bs": None,
            "camera_fs": None,
            **{IMAGE_OF[plane]: image for plane, image in _images(folder, drawn, index, frame).items()},
        }
        rng = np.random.default_rng([seed, 3, place])
        for name, id in shown.anatomy_ids.items():
            T = registered_pose(np.asarray(implant_mesh(id).vertices), true_poses[name], true, stored)
            rotation = Rotation.from_rotvec(rng.normal(0, _LABEL_SD_DEG, 3), degrees=True).as_matrix() @ T[:3, :3]
            row[name] = {
                "anatomy_id": id,
                "translation_mm": (T[:3, 3] + rng.normal(0, _LABEL_SD_MM, 3)).tolist(),
                "quaternion_xyzw": matrix_to_quaternion(rotation).tolist(),
                "kind": "refined",
            }
        rows.append(_with_cameras(row, stored))
        poses.append({name: by_plane["bs"] for name, by_plane in true_poses.items()})
    ids = sorted({id for index in range(trials) for id in trial(drawn, index).anatomy_ids.values()})
    offsets_mm = np.random.default_rng([seed, 5]).normal(errors.offset_mm, errors.offset_sd_mm, len(ids)).tolist()
    meshes = {
        id: given_mesh(id, Given(offset_mm=offset_mm), sided=False)
        for id, offset_mm in zip(ids, offsets_mm, strict=True)
    }
    return Recording(rows, true, stored, day.errors.fs_late_ms, poses, meshes)


def _settings(seed: int, frames: int, trials: int, apart_ms: float) -> Settings:
    """Settings of which the first session has all the trials."""
    each = _STEP * -(-frames // trials)
    return Settings(trials=SESSIONS * trials, frames_per_trial=each, seed=seed, async_ms=float(apart_ms))


def _with_cameras(row: FrameRow, rig: DualPlaneRig) -> FrameRow:
    cameras = {CAMERA_OF[plane]: rig[plane].camera(SIZE_PX) for plane in PLANES}
    return {**row, **cameras}


def _images(folder: Path, drawn: Settings, index: int, frame: int) -> dict[PlaneName, NDArray[np.uint8]]:
    """Images of a frame by plane, drawn if they are not there yet."""
    late_ms = trial(drawn, index).session.errors.fs_late_ms
    name = f"seed-{drawn.seed}-{drawn.trials // SESSIONS}-{drawn.frames_per_trial}-late-{late_ms:g}-ms"
    path = folder / f"frames-{_fingerprint()}" / name / f"{index:03d}_{frame:04d}.npz"
    if not path.exists():
        images = {plane: _image(drawn, trial(drawn, index), frame, plane) for plane in PLANES}
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:  # whole or not at all
            np.savez_compressed(file, **images)
        Path(file.name).replace(path)
    with np.load(path, allow_pickle=False) as kept:
        return {plane: kept[plane] for plane in PLANES}


def _image(drawn: Settings, shown: Trial, frame: int, plane: PlaneName) -> NDArray[np.uint8]:
    """Corrected grey image, (512, 512)."""
    number, lengths = PLANES.index(plane), dict[str, Floats]()
    rng = np.random.default_rng([drawn.seed, 1, shown.index])
    for name, id in shown.anatomy_ids.items():
        T, mesh = shown.pose(name, frame, plane), implant_mesh(id)
        for part in [Part(mesh, IMPLANTS[id].material, T), *fixtures(name, mesh, T, rng)]:
            seen = traced_mm(part, shown.session.rig[plane], FINE_PX)
            if seen:
                blank: Floats = np.zeros((FINE_PX, FINE_PX), np.float32)
                lengths.setdefault(part.material, blank)[seen[0]] += seen[1].astype(np.float32)
    chain = Chain.random(np.random.default_rng([drawn.seed, 2, shown.index, number]))
    field = chains.open_field(chain, narrower=1)
    signal = chains.detected(field * chains.transmission(lengths, chain), field, chain)
    signal *= _BRIGHTEST / signal.max()
    noise = np.random.default_rng([drawn.seed, 4, shown.index, frame, number])
    return chains.grey(chains.noisy(signal, chain, 1, noise), "gamma", chain.gamma)


@lru_cache
def _fingerprint() -> str:
    """Hash of the code that draws frames."""
    own = ("independent_chain.py", "independent_frames.py", "surroundings.py", "wrong_rigs.py")
    rooms = ("activities.py", "calibrations.py", "femoral.py", "implants.py", "scenario.py", "tibial.py")
    files = [ROOT / "tests/benchmarks" / name for name in own]
    files += [ROOT / "veriserum_hf/simulation" / name for name in rooms]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:10]
