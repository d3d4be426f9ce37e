"""Rows of a configuration before any image is read: all of a row except its images.

A plan is an Arrow table with the row's metadata, the paths of its files, and its distortions. It is small, is
sent to other processes, and `veriserum_hf.dataset.convert` makes finished rows from any slice of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features
from numpy.typing import NDArray

from veriserum_hf.archive import VeriserumArchive
from veriserum_hf.core import COMPONENTS, PLANES, CameraRow, Encoding, LabelRow, MeshFile, PlaneName, SplitBy
from veriserum_hf.dataset.schema import (
    CONFIGS,
    KIND_OF_CONFIG,
    camera_features,
    features_of,
    pose_features,
)
from veriserum_hf.dataset.splits import SPLITS, split_by_implant, split_by_trial
from veriserum_hf.errors import ConversionError


@dataclass(frozen=True)
class Options:
    """Options of the rows.

    Attributes
    ----------
    config : one of ``CONFIGS``.
    size : edge of the corrected images, px.
    encoding : of the corrected images: ``jpeg`` (quality 95), ``png`` (lossless) or ``raw`` (plain TIFF).
    bits : depth of the corrected images, 8 or 16.
    include_obsolete : also frames whose only pose of an implant is marked obsolete.
    anatomy_id : only frames that show this implant, or one of these.
    split_by : ``trial``, or ``implant`` to hold out tibial components.
    white : grey level that is white in raw frames of 16 bits; None: decided by a sample of them.

    Raises
    ------
    ConversionError
        If a value is invalid.

    """

    config: str = "calibrated"
    size: int = 512
    encoding: Encoding = "jpeg"
    bits: int = 8
    include_obsolete: bool = False
    anatomy_id: int | Sequence[int] | None = None
    split_by: SplitBy = "trial"
    white: int | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("config", self.config, tuple(CONFIGS)),
            ("encoding", self.encoding, get_args(Encoding)),
            ("bits", self.bits, (8, 16)),
            ("split_by", self.split_by, get_args(SplitBy)),
        ):
            if value not in allowed:
                raise ConversionError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}")
        if any(not isinstance(id, int) for id in self.anatomy_ids or ()):
            raise ConversionError(f"anatomy_id must be a whole number or several; got {self.anatomy_id!r}")
        if not (isinstance(self.size, int) and 32 <= self.size <= 4096):
            raise ConversionError(f"size must be a whole number of pixels from 32 to 4096; got {self.size!r}")
        if self.white is not None and not (isinstance(self.white, int) and 255 <= self.white <= 65535):
            raise ConversionError(f"white must be a grey level of 16 bits, from 255 to 65535; got {self.white!r}")
        if self.bits == 16 and self.encoding == "jpeg":
            raise ConversionError('JPEG holds 8 bits: for bits=16 choose encoding="png" or "raw"')

    @property
    def anatomy_ids(self) -> tuple[int, ...] | None:
        """The implants to show, or None for all."""
        if self.anatomy_id is None:
            return None
        return (self.anatomy_id,) if isinstance(self.anatomy_id, int) else tuple(self.anatomy_id)

    @property
    def features(self) -> Features:
        """Features of the finished rows."""
        return features_of(self.config, self.bits)


PATH_OF: Mapping[PlaneName, Literal["path_bs", "path_fs"]] = {"bs": "path_bs", "fs": "path_fs"}


class PlanRow(LabelRow):
    """A row of the plan of a configuration of frames: with distortions, and the files of its images."""

    path_bs: str | None
    path_fs: str | None
    mesh_femur: NotRequired[MeshFile]  # of the configuration masks
    mesh_tibia: NotRequired[MeshFile]


@dataclass(frozen=True)
class Plan:
    """Rows of one configuration by split, and the number excluded before any file was read.

    Attributes
    ----------
    splits : split name to its rows; splits without rows are absent.
    trials : trial id to split, for all trials of the archive.
    measurements : possible rows: measurements of the archive, or implants, or phantom frames.
    without_pose : measurements of the database that have no usable pose of the configuration's kind.
    filtered : measurements that have one but were not requested, or whose trial belongs to no split.
    without_initial : of own frames, ids of the measurements without an initial pose of any of the study's implants;
        they become rows.

    """

    splits: dict[str, pa.Table]
    trials: dict[int, str]
    measurements: int
    without_pose: int = 0
    filtered: int = 0
    without_initial: frozenset[int] = frozenset()


def make_plan(archive: VeriserumArchive, options: Options) -> Plan:
    """Plan the rows of a configuration.

    Raises
    ------
    ConversionError
        If there is no row at all; the message states what the archive has instead.

    """
    if options.config == "anatomies":
        return _single(_anatomies(archive), "The archive has no implants (ana_000001.stl). Omit this configuration.")
    if options.config == "calibration":
        nothing = "The archive has no calibration frames (cal_bs_000001.tif). Omit this configuration."
        return _single(archive.calibration_frames, nothing)
    kind = KIND_OF_CONFIG[options.config]
    chosen = _chosen_poses(archive, kind, options.include_obsolete)
    measurement_ids = np.asarray(archive.frames["measurement_id"])
    has_pose = np.any([rows >= 0 for rows in chosen.values()], axis=0)
    wanted = has_pose.copy()
    if options.anatomy_ids is not None:
        anatomy_ids = np.asarray(archive.poses["anatomy_id"])
        shown = [(rows >= 0) & np.isin(anatomy_ids[rows], options.anatomy_ids) for rows in chosen.values()]
        wanted &= np.any(shown, axis=0)
    if not wanted.any():
        raise ConversionError(_nothing_to_convert(archive, options, kind, bool(has_pose.any())))
    table = _frame_rows(archive, options, {c: rows[wanted] for c, rows in chosen.items()}, np.flatnonzero(wanted))
    trials = _splits(archive, options)
    split_of_row = np.array([trials.get(id, "") for id in table["trial_id"].to_pylist()])
    splits = {
        split: table.filter(pa.array(split_of_row == split)) for split in SPLITS if (split_of_row == split).any()
    }
    return Plan(
        splits,
        trials,
        measurements=len(measurement_ids),
        without_pose=len(measurement_ids) - int(has_pose.sum()),
        filtered=int(has_pose.sum() - np.isin(split_of_row, SPLITS).sum()),
    )


def _single(table: pa.Table, nothing: str) -> Plan:
    if not table.num_rows:
        raise ConversionError(nothing)
    return Plan({"train": table}, {}, measurements=table.num_rows)


def _anatomies(archive: VeriserumArchive) -> pa.Table:
    rows = [
        {
            "anatomy_id": anatomy.id,
            "component": anatomy.component,
            "category": anatomy.category,
            "description": anatomy.description,
            "path": anatomy.path,
        }
        for anatomy in archive.anatomies.values()
    ]
    text = dict.fromkeys(("component", "category", "description", "path"), pa.string())
    return pa.Table.from_pylist(rows, pa.schema({"anatomy_id": pa.int64(), **text}))


def _chosen_poses(archive: VeriserumArchive, kind: str, include_obsolete: bool) -> dict[str, NDArray[np.int64]]:
    """For each component, the row in ``archive.poses`` of every measurement, -1 if there is none."""
    poses, measurement_ids = archive.poses, np.asarray(archive.frames["measurement_id"])
    of_kind = np.asarray(pc.equal(poses["kind"], kind))
    usable = of_kind if include_obsolete else of_kind & ~np.asarray(poses["obsolete"])
    of_pose, components = np.asarray(poses["measurement_id"]), np.asarray(poses["component"])
    usable = usable & np.isin(of_pose, measurement_ids)  # CSV files know only the measurements of current poses
    chosen: dict[str, NDArray[np.int64]] = {}
    for component in COMPONENTS:
        rows = np.flatnonzero(usable & (components == component))
        # Current poses come first in the table, so the first of a measurement is the one to take.
        measurements, first = np.unique(of_pose[rows], return_index=True)
        chosen[component] = np.full(len(measurement_ids), -1, dtype=np.int64)
        chosen[component][np.searchsorted(measurement_ids, measurements)] = rows[first]
    if not poses.num_rows:
        return chosen
    # A frame has one calibration. Obsolete poses may refer to another; then the current pose is taken.
    femur, tibia = chosen["femur"], chosen["tibia"]
    for column in ("source_calibration_id", "distortion_calibration_id"):
        ids = np.asarray(poses[column])
        disagree = (femur >= 0) & (tibia >= 0) & (ids[femur] != ids[tibia])
        obsolete = np.asarray(poses["obsolete"])
        femur[disagree & obsolete[femur] & ~obsolete[tibia]] = -1
        tibia[disagree & (femur >= 0)] = -1
    return chosen


def _nothing_to_convert(archive: VeriserumArchive, options: Options, kind: str, filtered: bool) -> str:
    if filtered:
        shown = sorted(set(archive.poses["anatomy_id"].to_pylist()))
        return f"No frame shows anatomy {options.anatomy_id}; the archive's poses are of anatomies {shown}."
    counts = archive.poses.group_by(["kind", "obsolete"]).aggregate([("pose_id", "count")]).to_pylist()
    found = ", ".join(
        f"{row['pose_id_count']} {row['kind']}{' (obsolete)' if row['obsolete'] else ''}" for row in counts
    )
    obsolete_only = any(row["kind"] == kind and row["obsolete"] for row in counts)
    way_out = "include_obsolete=True takes the obsolete ones." if obsolete_only else "Choose another configuration."
    return f"The archive has no {kind} pose in use; it has {found or 'no poses'}. {way_out}"


def _splits(archive: VeriserumArchive, options: Options) -> dict[int, str]:
    trial_of = dict(zip(*(archive.frames[c].to_pylist() for c in ("measurement_id", "trial_id")), strict=True))
    manual_trials = {trial_of[id] for id in archive.manual_measurements if id in trial_of}
    if options.split_by == "trial" or options.config == "manual":  # which is all test, for any implant
        return split_by_trial(trial_of.values(), manual_trials)
    tibial = archive.poses.filter(pc.equal(archive.poses["component"], "tibia"))
    tibias: dict[int, set[int]] = {trial: set() for trial in trial_of.values()}
    for measurement, anatomy in zip(*(tibial[c].to_pylist() for c in ("measurement_id", "anatomy_id")), strict=True):
        tibias[trial_of[measurement]].add(anatomy)
    return split_by_implant(tibias, manual_trials)


def _frame_rows(
    archive: VeriserumArchive, options: Options, chosen: dict[str, NDArray[np.int64]], wanted: NDArray[np.int64]
) -> pa.Table:
    """Every column of the finished rows except the images, with the files and distortions to make these."""
    frames, poses = archive.frames.take(wanted), archive.poses
    any_pose = np.where(chosen["femur"] >= 0, chosen["femur"], chosen["tibia"])
    source_ids = np.asarray(poses["source_calibration_id"])[any_pose]
    distortion_ids = np.asarray(poses["distortion_calibration_id"])[any_pose]
    anatomy_ids = {c: np.asarray(poses["anatomy_id"])[chosen[c]] for c in COMPONENTS}
    columns: dict[str, pa.Array | pa.ChunkedArray | list[str]] = {
        name: frames[name] for name in ("measurement_id", "trial_id", "frame_index", "task")
    }
    columns["subject"] = frames["subject"]
    columns["implant_pair"] = [
        "-".join(str(anatomy_ids[c][row]) if chosen[c][row] >= 0 else "none" for c in COMPONENTS)
        for row in range(len(wanted))
    ]
    camera_type, pose_type = _arrow_type(camera_features()), _arrow_type(pose_features())
    for plane in PLANES:
        cameras = {id: rig[plane].camera(options.size) for id, rig in archive.source_calibrations.items()}
        columns[f"camera_{plane}"] = _looked_up(cameras, source_ids, camera_type)
    for component in COMPONENTS:
        columns[component] = _poses(poses, chosen[component], pose_type)
    for plane in PLANES:
        texts = {id: distortion[plane].to_string() for id, distortion in archive.distortions.items()}
        columns[f"distortion_{plane}"] = _looked_up(texts, distortion_ids, pa.string(), dictionary=True)
        columns[f"path_{plane}"] = frames[f"path_{plane}"]
    if options.config == "masks":
        files = {id: {"path": each.path, "category": each.category} for id, each in archive.anatomies.items()}
        for component in COMPONENTS:
            columns[f"mesh_{component}"] = pa.array([files[id] for id in anatomy_ids[component].tolist()])
    columns["white_level"] = pa.array([archive.raw_format.white_level] * len(wanted), pa.int64())
    return pa.table(columns)


def _arrow_type(features: dict[str, object]) -> pa.DataType:
    return Features({"field": features}).arrow_schema.field("field").type


def _looked_up(
    values: Mapping[int, CameraRow | str], ids: NDArray[np.int64], type: pa.DataType, dictionary: bool = False
) -> pa.Array:
    """Value of every id, as one array; kept as a dictionary where the values are long."""
    order = {id: index for index, id in enumerate(values)}
    indices = pa.array([order[id] for id in ids.tolist()], pa.int32())
    distinct = pa.array(list(values.values()), type)
    return pa.DictionaryArray.from_arrays(indices, distinct) if dictionary else distinct.take(indices)


def _poses(poses: pa.Table, rows: NDArray[np.int64], type: pa.DataType) -> pa.Array:
    """Structs of the poses in these rows, null where the row is -1."""
    taken = poses.take(pa.array(np.maximum(rows, 0))).combine_chunks()
    names = [type.field(index).name for index in range(type.num_fields)]
    arrays = [taken[name].combine_chunks().cast(type.field(name).type) for name in names]
    return pa.StructArray.from_arrays(arrays, fields=list(type), mask=pa.array(rows < 0))
