"""Stored and exact poses of a simulated archive."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Literal

import pyarrow as pa
from scipy.spatial.transform import Rotation

from veriserum_hf.geometry import make_transform, matrix_to_quaternion
from veriserum_hf.poses import JOINT_MOTION, TRUTH_SCHEMA
from veriserum_hf.simulation.scenario import SESSIONS, Trial, marker_poses, session
from veriserum_hf.simulation.settings import Settings, Stream
from veriserum_hf.simulation.tables import Row, pose_row

Kind = Literal["REFINED", "ROBOT", "MANMATCH", "OBSOLETE"]
# Error of a stored pose, standard deviation per axis: mm, degrees. Those of ROBOT are errors of the true pose, the
# others are errors of the pose that the images show with the stored cameras.
_ERRORS: dict[Kind, tuple[float, float]] = {
    "REFINED": (0.05, 0.06),
    "ROBOT": (0.8, 0.7),
    "MANMATCH": (0.3, 0.3),
    "OBSOLETE": (2.0, 2.0),
}
CALIBRATION_TRUTH_SCHEMA = pa.schema(
    {
        "calibration_measurement_id": pa.int64(),
        "source_calibration_id": pa.int64(),
        "frame_index": pa.int64(),
        "translation_mm": pa.list_(pa.float64(), 3),
        "quaternion_xyzw": pa.list_(pa.float64(), 4),
    },
    metadata={
        "frame": TRUTH_SCHEMA.metadata[b"frame"],
        "pose": "x_world = R(quaternion_xyzw) x_phantom + translation_mm, of the marker phantom in both planes of a "
        "frame; its origin is its centre, its axis y",
    },
)


def _kinds(settings: Settings, trial_index: int, frame: int) -> Iterator[Kind]:
    """Kinds of pose that a frame has, in the order of their rows."""
    # First, so that taking the first refined row without checking `obsolete` is a mistake.
    if (trial_index * settings.frames_per_trial + frame) % 4 == 2:
        yield "OBSOLETE"
    yield from ("REFINED", "ROBOT")
    if trial_index % 20 == 1 and frame == settings.frames_per_trial // 2:
        yield "MANMATCH"


def pose_ids(settings: Settings) -> Iterator[tuple[int, int, Kind, int]]:
    """Trial index, frame, kind and id of the femur's row of every pair of pose rows; the tibia's is the next."""
    ids = count(1, 2)
    for index in range(settings.trials):
        for frame in range(settings.frames_per_trial):
            for kind in _kinds(settings, index, frame):
                yield index, frame, kind, next(ids)


def pose_rows(settings: Settings, shown: Trial, ids: Iterable[tuple[int, int, Kind, int]]) -> Iterator[Row]:
    """Rows of ``poses`` of a trial; ``ids`` are its part of `pose_ids`."""
    for _, frame, kind, id in ids:
        rng = settings.rng(Stream.POSES, id)
        sigma_mm, sigma_deg = _ERRORS[kind]
        for pose_id, (component, anatomy_id) in enumerate(shown.anatomy_ids.items(), start=id):
            T = shown.pose(component, frame) if kind == "ROBOT" else shown.registered_pose(component, frame)
            rotation = Rotation.from_rotvec(rng.normal(0, sigma_deg, 3), degrees=True).as_matrix()
            yield pose_row(
                pose_id,
                settings.measurement_id(shown.index, frame),
                anatomy_id,
                make_transform(rotation @ T[:3, :3], T[:3, 3] + rng.normal(0, sigma_mm, 3)),
                method="REFINED" if kind == "OBSOLETE" else kind,
                obsolete=kind == "OBSOLETE",
                rotation=settings.rotation,
                source_id=shown.session.source_id,
                distortion_id=shown.session.distortion_id,
            )


def truth_rows(settings: Settings, shown: Trial) -> Iterator[Row]:
    """Exact poses of a trial in the columns of a registration's result, and the knee's motion that made them."""
    motion = shown.trajectory
    for frame in range(settings.frames_per_trial):
        for component, anatomy_id in shown.anatomy_ids.items():
            T = shown.pose(component, frame)
            yield {
                "measurement_id": settings.measurement_id(shown.index, frame),
                "trial_id": shown.id,
                "frame_index": frame,
                "anatomy_id": anatomy_id,
                "component": component,
                "translation_mm": T[:3, 3].tolist(),
                "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist(),
                "covariance": [[0.0] * 6] * 6,
                "verdict": "exact",
                **{name: float(getattr(motion, name)[frame]) for name in JOINT_MOTION},
            }


def calibration_truth_rows(settings: Settings, markers: Mapping[int, Sequence[int]]) -> Iterator[Row]:
    """Exact poses of the marker phantom; ``markers`` are the ids of its frames by source-intensifier calibration."""
    for index in range(SESSIONS):
        source_id = session(settings, index).source_id
        for frame, (id, T) in enumerate(zip(markers[source_id], marker_poses(settings, index), strict=True)):
            yield {
                "calibration_measurement_id": id,
                "source_calibration_id": source_id,
                "frame_index": frame,
                "translation_mm": T[:3, 3].tolist(),
                "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist(),
            }
