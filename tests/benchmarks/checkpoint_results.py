"""Poses by a network and by registration from them, compared with the truth, and kept in files."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.benchmarks.checkpoint_frames import Shown
from veriserum_hf.core import CAMERA_OF, COMPONENTS, IMAGE_OF, PLANES, Component, FloatArray
from veriserum_hf.geometry import Camera, matrix_to_quaternion, mesh_axes
from veriserum_hf.inference import predict_frames
from veriserum_hf.jobs import write_file
from veriserum_hf.modeling import VeriserumPoseModel, surface_points
from veriserum_hf.poses import transforms
from veriserum_hf.registration.trials.trial import register_trial

_BATCH = 10
Poses = Mapping[Component, Any]  # rows as of a file of predictions


@dataclass(frozen=True)
class Registered:
    """One implant, registered from an initial pose.

    Attributes
    ----------
    component, verdict : as stated.
    mm, deg : of its centre and rotation, from the truth.
    in_plane_mm : of its centre, across the ray of the first plane.
    start_px : of the initial pose, in the worse plane.
    seconds : of processor time, for its whole frame.

    """

    component: str
    verdict: str
    mm: float
    deg: float
    in_plane_mm: float
    start_px: float
    seconds: float


class Kept:
    """Results in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def whole(self, name: str, make: Callable[[], list[dict[str, float]]]) -> list[dict[str, float]]:
        """Results of this name, made where they are not there yet."""
        path = self._folder / f"{name}.json"
        if not path.exists():
            self._write(path, make())
        found: list[dict[str, float]] = json.loads(path.read_text())
        return found

    def frames(self, name: str) -> dict[int, list[dict[str, Any]]]:
        """Results that are there of frames, by their numbers."""
        files = (self._folder / name).glob("*.json")
        return {int(path.stem): json.loads(path.read_text()) for path in files}

    def keep(self, name: str, number: int, found: list[dict[str, Any]]) -> None:
        """Keep those of a frame."""
        self._write(self._folder / name / f"{number:03d}.json", found)

    def _write(self, path: Path, content: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(content))


def predicted(model: VeriserumPoseModel, frames: Iterator[Shown]) -> Iterator[tuple[Shown, Poses]]:
    """Every frame with the poses that the model finds."""
    points: dict[int, FloatArray] = {}
    axes: dict[int, FloatArray] = {}
    while some := list(islice(frames, _BATCH)):
        given = []
        for number, frame in enumerate(some):
            ids = [frame.row[component]["anatomy_id"] for component in COMPONENTS]
            components = dict(zip(ids, COMPONENTS, strict=True))
            for id in components.keys() - points.keys():
                points[id] = surface_points(frame.meshes[id].vertices, frame.meshes[id].faces)
                axes |= mesh_axes({id: frame.meshes[id]}, components)
            shown = {name: frame.row[name] for name in (*IMAGE_OF.values(), *CAMERA_OF.values())}
            given.append(
                {
                    **{name: value for name, value in shown.items() if value is not None},
                    "measurement_id": number,
                    "trial_id": 1,
                    "frame_index": number,
                    "anatomy_id": ids,
                    "implant_points": np.stack([points[id] for id in ids]),
                    "implant_axes": np.stack([axes[id] for id in ids]),
                }
            )
        rows = [row for rows in predict_frames(model, given, _BATCH) for row in rows]  # type: ignore[arg-type]
        for number, frame in enumerate(some):
            yield frame, {row["component"]: row for row in rows if row["measurement_id"] == number}


def with_truth(frames: Iterator[Shown]) -> Iterator[tuple[Shown, Poses]]:
    """Every frame with its true poses, as if a model had found them."""
    for frame in frames:
        yield (
            frame,
            {
                component: {
                    "anatomy_id": frame.row[component]["anatomy_id"],
                    "translation_mm": T[:3, 3].tolist(),
                    "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist(),
                }
                for component, T in frame.truth.items()
            },
        )


def errors(frame: Shown, poses: Poses) -> dict[Component, dict[str, float]]:
    """Errors of a frame's poses, and what is stated of each."""
    found = {}
    for component, T_true in frame.truth.items():
        row = poses[component]
        mm, deg = _off(frame, component, _matrix(row), T_true)
        trusted = np.nan if row["trusted"] is None else float(row["trusted"])
        confidence = np.nan if row["confidence"] is None else row["confidence"]
        found[component] = {"translation_mm": mm, "rotation_deg": deg, "confidence": confidence, "trusted": trusted}
    return found


class _Alone:
    """A frame as the only one of a trial."""

    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row | {"measurement_id": 0, "trial_id": 0, "frame_index": 0}

    def __len__(self) -> int:
        return 1

    def table(self, *names: str) -> pa.Table:
        return pa.table({name: [self._row[name]] for name in names})

    def taken(self, indices: Sequence[int]) -> "_Alone":
        return self

    def read(self) -> Iterator[dict[str, Any]]:
        yield self._row


def registered(frame: Shown, poses: Poses, *, search: bool = True) -> list[dict[str, Any]]:
    """Register a frame as ``veriserum register --start model`` does: a `Registered` for each implant with a truth.

    Implants whose pose the model does not trust, or that fail from it, are searched for in the images, unless
    ``search`` is false.
    """
    began = time.process_time()
    implants = {component: frame.row[component]["anatomy_id"] for component in COMPONENTS}
    rows = register_trial(
        _Alone(frame.row),  # type: ignore[arg-type] # what a trial asks of frames
        {0: poses},  # type: ignore[dict-item] # rows of predictions
        frame.meshes,
        searched={0: implants} if search else None,
    )
    seconds = time.process_time() - began
    found = {row["component"]: row for row in rows}
    results = []
    for component, T_true in frame.truth.items():
        start, row = _matrix(poses[component]), found[component]
        T = _matrix(row)
        mm, deg = _off(frame, component, T, T_true)
        across_mm = _across_mm(frame, component, T, T_true)
        start_px = _off_px(frame, component, start, T_true)
        results.append(asdict(Registered(component, row["verdict"], mm, deg, across_mm, start_px, seconds)))
    return results


def _matrix(row: Any) -> FloatArray:
    T: FloatArray = transforms([row])[0]
    return T


def _center(frame: Shown, component: Component, T: FloatArray) -> FloatArray:
    """Centre of the box around an implant, in the world, mm."""
    center_mm = frame.meshes[frame.row[component]["anatomy_id"]].bounds.mean(axis=0)
    at: FloatArray = T[:3, :3] @ center_mm + T[:3, 3]
    return at


def _off(frame: Shown, component: Component, T: FloatArray, T_true: FloatArray) -> tuple[float, float]:
    """Error of the centre in mm, and of the rotation in deg."""
    shift_mm = _center(frame, component, T) - _center(frame, component, T_true)
    cosine = (np.trace(T[:3, :3] @ T_true[:3, :3].T) - 1) / 2
    return float(np.linalg.norm(shift_mm)), float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _cameras(frame: Shown) -> Iterator[Camera]:
    for plane in PLANES:
        image = frame.row[IMAGE_OF[plane]]
        if image is not None:
            yield Camera.from_row(frame.row[CAMERA_OF[plane]], image.shape)


def _across_mm(frame: Shown, component: Component, T: FloatArray, T_true: FloatArray) -> float:
    after, before = _center(frame, component, T), _center(frame, component, T_true)
    ray = before - next(_cameras(frame)).source_mm
    ray /= np.linalg.norm(ray)
    shift = after - before
    return float(np.linalg.norm(shift - (shift @ ray) * ray))


def _off_px(frame: Shown, component: Component, T: FloatArray, T_true: FloatArray) -> float:
    both = np.stack([_center(frame, component, each) for each in (T, T_true)])
    return max(float(np.linalg.norm(np.subtract(*camera.project(both)))) for camera in _cameras(frame))
