"""Stored and exact poses of a simulated archive."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from scipy.spatial.transform import Rotation

from veriserum_hf.geometry.pose import make_transform, matrix_to_quaternion
from veriserum_hf.simulation.scenario import trial
from veriserum_hf.simulation.settings import Settings, Stream
from veriserum_hf.simulation.tables import Row, pose_row

Kind = Literal["REFINED", "ROBOT", "MANMATCH", "OBSOLETE"]
# How far a stored pose is off the truth, standard deviation per axis: mm, degrees.
_ERRORS: dict[Kind, tuple[float, float]] = {
    "REFINED": (0.05, 0.06),
    "ROBOT": (0.8, 0.7),
    "MANMATCH": (0.3, 0.3),
    "OBSOLETE": (2.0, 2.0),
}
_TRUTH_SCHEMA = pa.schema(
    {
        "measurement_id": pa.int64(),
        "trial_id": pa.int64(),
        "frame_index": pa.int64(),
        "anatomy_id": pa.int64(),
        "component": pa.string(),
        "translation_mm": pa.list_(pa.float64(), 3),
        "quaternion_xyzw": pa.list_(pa.float64(), 4),
        "covariance": pa.list_(pa.list_(pa.float64(), 6), 6),
        "verdict": pa.string(),
    }
)


def _kinds(settings: Settings, trial_index: int, frame: int) -> Iterator[Kind]:
    """Kinds of pose that a frame has, in the order of their rows."""
    # First, so that taking the first refined row without a look at `obsolete` is a mistake.
    if (trial_index * settings.frames_per_trial + frame) % 4 == 2:
        yield "OBSOLETE"
    yield from ("REFINED", "ROBOT")
    if trial_index % 8 == 1 and frame == settings.frames_per_trial // 2:
        yield "MANMATCH"


def pose_ids(settings: Settings) -> Iterator[tuple[int, int, Kind, int]]:
    """Trial index, frame, kind and id of the femur's row of every pair of pose rows; the tibia's is the next."""
    ids = count(1, 2)
    for index in range(settings.trials):
        for frame in range(settings.frames_per_trial):
            for kind in _kinds(settings, index, frame):
                yield index, frame, kind, next(ids)


def pose_rows(settings: Settings) -> Iterator[Row]:
    """Every row of ``poses``."""
    for index, frame, kind, id in pose_ids(settings):
        shown = trial(settings, index)
        rng = settings.rng(Stream.POSES, id)
        sigma_mm, sigma_deg = _ERRORS[kind]
        for pose_id, (component, anatomy_id) in enumerate(shown.anatomy_ids.items(), start=id):
            T = shown.pose(component, frame)
            turn = Rotation.from_rotvec(rng.normal(0, sigma_deg, 3), degrees=True).as_matrix()
            yield pose_row(
                pose_id,
                shown.first_measurement_id + frame,
                anatomy_id,
                make_transform(turn @ T[:3, :3], T[:3, 3] + rng.normal(0, sigma_mm, 3)),
                method="REFINED" if kind == "OBSOLETE" else kind,
                obsolete=kind == "OBSOLETE",
                rotation=settings.rotation,
                source_id=shown.session.source_id,
                distortion_id=shown.session.distortion_id,
            )


def write_truth(path: Path, settings: Settings) -> None:
    """Write the exact poses in the columns of a registration's result; their covariance is zero."""
    rows = []
    for index in range(settings.trials):
        shown = trial(settings, index)
        for frame in range(settings.frames_per_trial):
            for component, anatomy_id in shown.anatomy_ids.items():
                T = shown.pose(component, frame)
                rows.append(
                    {
                        "measurement_id": shown.first_measurement_id + frame,
                        "trial_id": shown.id,
                        "frame_index": frame,
                        "anatomy_id": anatomy_id,
                        "component": component,
                        "translation_mm": T[:3, 3].tolist(),
                        "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist(),
                        "covariance": [[0.0] * 6] * 6,
                        "verdict": "exact",
                    }
                )
    pq.write_table(pa.Table.from_pylist(rows, _TRUTH_SCHEMA), path)
