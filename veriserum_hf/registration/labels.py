"""``veriserum check-labels``: stored poses that disagree with their images, found by 2D/3D registration.

A difference is label minus registration: of the implant's origin in mm along the world's axes, and the rotation
vector from the registered to the labelled implant, degrees about the world's axes. The usual differences are
estimated from the data set itself, for each component and degree of freedom: the median over all frames, and the
spread (robust scale: 1.4826 times the median absolute deviation, MAD) from the noise of labels and registrations
together; a few wrong labels hardly affect either. Where a registration states a larger variance than is typical, the
excess is added. With fewer than 20 labels of a component, most may be wrong: median and spread are still reported,
but each label is compared with zero, in units of the error of a good registration and of the variance that its own
registration states. ``disagreement_sd`` is the norm of the three shifts, or of the three rotations if that is larger,
each less its median and in units of its standard deviation.

A label is flagged where its shift is beyond 5 such standard deviations and longer than 0.75 mm, or its rotation
beyond 5 and larger than 1.5 degrees. The robust scale does not describe the tails of the registration errors: with
these limits a shift of 1 mm is found, and registrations with several times the usual error flag few correct labels.
Labels whose registration has not converged are listed as not assessed. A label outside the capture range is still
found where the registration is initialised from neighbouring frames of its trial.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation

from veriserum_hf.core import (
    COMPONENTS,
    CONVERGED,
    PLANES,
    FloatArray,
    LabelRow,
    PoseFileRow,
    __version__,
    cameras_of,
)
from veriserum_hf.dataset import ALL, Frames, Rows, open_rows
from veriserum_hf.errors import DataSetError, NothingThereError, RegistrationError
from veriserum_hf.geometry import viewing_axes
from veriserum_hf.jobs import parquet_bytes, write_file, writing
from veriserum_hf.poses import pose_differences, transforms
from veriserum_hf.registration.data_sets import ARCHIVE_PX, register_dataset
from veriserum_hf.registration.label_readings import disagreement_of_labels

DIFFERENCES = ("world_x_mm", "world_y_mm", "world_z_mm", "rotation_x_deg", "rotation_y_deg", "rotation_z_deg")
_DEPTHS = tuple(f"{plane}_depth_mm" for plane in PLANES)
LIMIT_SD, LIMIT_MM, LIMIT_DEG = 5.0, 0.75, 1.5
# Error of a good registration: lower bound of a spread.
_NARROWEST = np.repeat((0.05, 0.1), 3)
_ENOUGH = 20  # labels of a component
SCHEMA = pa.schema(
    {
        "measurement_id": pa.int64(),
        "trial_id": pa.int64(),
        "frame_index": pa.int64(),
        "split": pa.string(),
        "row": pa.int64(),
        "anatomy_id": pa.int64(),
        "component": pa.string(),
        **dict.fromkeys((*DIFFERENCES, *_DEPTHS, "disagreement_sd"), pa.float64()),
        "flagged": pa.bool_(),
        "verdict": pa.string(),
        "score": pa.float64(),
        "detail": pa.string(),
    },
    metadata={
        "difference": "label minus registration: of the implant's origin, mm along the world's axes and along the "
        "ray from each plane's X-ray source (positive: label too far from it); rotation vector about the world's "
        "axes, degrees",
        "disagreement_sd": "in standard deviations of the usual difference in this data set, the larger of shift and "
        "rotation",
        "flagged": f"beyond {LIMIT_SD:g} standard deviations and {LIMIT_MM:g} mm or {LIMIT_DEG:g} degrees; null: not "
        "assessed, since the registration has not converged (verdict, detail)",
        "row": "of the split, from 0, as `veriserum show` counts",
    },
)
Row = dict[str, Any]  # by `SCHEMA`, whose columns are of many kinds
Spread = dict[str, dict[str, dict[str, float]]]
# Number of poses, and by degree of freedom median and deviation.
ByComponent = dict[str, dict[str, int | dict[str, float]]]


class Label(LabelRow):
    """A row of a data set without images, and where it is."""

    split: str
    row: int


@dataclass(frozen=True, eq=False)
class LabelCheck:
    """Result of a check of labels.

    Attributes
    ----------
    output, registered : Parquet files of the differences, and of the registrations compared with the labels.
    rows : one per implant and frame with a label, by `SCHEMA`.
    spread : by component and degree of freedom, ``median`` and ``spread`` of label minus registration.
    manual : if there are manually matched poses, by what was compared with them (``"label"``,
        ``"registration"``) and component: number of ``poses``, and for each degree of freedom ``median`` and ``mad``
        of the difference to the manual pose.
    no_manual : why manually matched poses cannot be read; None where they can, or there are none.
    disagreement : how labels and images disagree as a whole, and the reading in which they would agree, if so.

    """

    output: Path
    registered: Path
    rows: pa.Table
    spread: Spread
    manual: dict[str, ByComponent]
    no_manual: str | None
    disagreement: str | None = None

    @property
    def flagged(self) -> list[Row]:
        """Labels that disagree with their images, largest disagreement first."""
        return sorted(
            (row for row in self.rows.to_pylist() if row["flagged"]), key=lambda row: -row["disagreement_sd"]
        )

    @property
    def not_assessed(self) -> list[Row]:
        """Labels whose registration has not converged."""
        return [row for row in self.rows.to_pylist() if row["flagged"] is None]


def check_labels(
    dataset: str,
    output: Path,
    *,
    split: str = ALL,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LabelCheck:
    """Register every frame from its refined pose, and compare the two poses.

    The registrations go to ``NAME.registered.parquet`` next to the output ``NAME.parquet``, and are reused for the
    same frames and implants. After a change of the data set, that file must be removed first.

    Parameters
    ----------
    dataset, split, workers, progress : see `register_dataset`.
    output : Parquet file to write, or to replace.

    Raises
    ------
    RegistrationError
        If there is nothing to register, an implant cannot be rendered, the existing registrations are of other
        frames, or a file cannot be written.
    DataSetError
        If the data set cannot be loaded, or has no such split.
    ArchiveError, ConversionError
        If the archive's structure is invalid, or it has no implants.
    WorkerError
        If a worker process was killed.

    """
    output = output.expanduser().absolute()
    if output.is_dir():
        raise RegistrationError(f"{output} is a folder; expected a Parquet file to write")
    registered = output.with_name(f"{output.stem}.registered.parquet")
    found = register_dataset(dataset, registered, split=split, workers=workers, progress=progress, any_agreement=True)
    labels = _labels(found.source, split)
    rows, spread = compare(labels, found.poses)
    about = {"veriserum_hf": __version__, "dataset": dataset, "split": split}
    with writing(output, RegistrationError):
        write_file(output, parquet_bytes(rows.replace_schema_metadata(SCHEMA.metadata | about)))
    try:
        manual, no_manual = _manual(dataset, labels, found.poses), None
    except DataSetError as error:  # the labels are checked nevertheless
        manual, no_manual = {}, str(error)
    disagreement = disagreement_of_labels(found.source, split)
    return LabelCheck(output, registered, rows, spread, manual, no_manual, disagreement)


def compare(labels: Sequence[Label], registered: pa.Table) -> tuple[pa.Table, Spread]:
    """Differences of labels and registrations, with their medians and spreads.

    Parameters
    ----------
    labels : rows of the data set without images: measurement_id, trial_id, frame_index, split, row, cameras, and
        the poses of ``femur`` and ``tibia``.
    registered : registrations with the labels as initial poses, by `veriserum_hf.poses.REGISTERED_SCHEMA`.

    Returns
    -------
    A row by `SCHEMA` for each implant and frame with a label and a registration, and medians and spreads; see the
    module's docstring.

    """
    label_of: dict[int | None, Label] = {row["measurement_id"]: row for row in labels}
    poses: list[PoseFileRow] = registered.to_pylist()
    pairs = [
        (row, pose)
        for pose in poses
        if (row := label_of.get(pose["measurement_id"])) is not None and row[pose["component"]]
    ]
    converged = np.array([pose["verdict"] == CONVERGED for _, pose in pairs], dtype=bool)
    differences = np.full((len(pairs), 6), np.nan)
    assessed = [pair for pair, has_converged in zip(pairs, converged, strict=True) if has_converged]
    stored = transforms(label for row, pose in assessed if (label := row[pose["component"]]))
    differences[converged] = pose_differences(stored, transforms(pose for _, pose in assessed))
    disagreement, spread = _disagreement(differences, pairs, converged)
    lengths = np.stack([np.linalg.norm(differences[:, part], axis=1) for part in (slice(3), slice(3, 6))], axis=1)
    flagged = np.any((disagreement > LIMIT_SD) & (lengths > (LIMIT_MM, LIMIT_DEG)), axis=1)
    values = np.column_stack([differences, _depths(differences, pairs), disagreement.max(axis=1)])
    known = [[None if np.isnan(value) else value for value in of_row] for of_row in values.tolist()]
    names = (*DIFFERENCES, *_DEPTHS, "disagreement_sd")
    rows = [
        {name: row[name] for name in ("measurement_id", "trial_id", "frame_index", "split", "row")}
        | {name: pose[name] for name in ("anatomy_id", "component", "verdict", "score", "detail")}
        | ({**dict(zip(names, known[n], strict=True)), "flagged": bool(flagged[n])} if converged[n] else {})
        for n, (row, pose) in enumerate(pairs)
    ]
    return pa.Table.from_pylist(rows, SCHEMA), spread


def _disagreement(
    differences: FloatArray, pairs: Sequence[tuple[Label, PoseFileRow]], converged: NDArray[np.bool_]
) -> tuple[FloatArray, Spread]:
    """Shift and rotation in standard deviations, (n, 2), NaN where not converged; medians and spreads."""
    z, spread = np.full_like(differences, np.nan), Spread()
    components = np.array([pose["component"] for _, pose in pairs])
    for component in COMPONENTS:
        of = converged & np.isin(components, component)
        if not of.any():
            continue
        found = differences[of]
        median = np.median(found, axis=0)
        sd = median_abs_deviation(found, axis=0, scale="normal")
        stated = [pose["covariance"] for (_, pose), one in zip(pairs, of, strict=True) if one]
        variance = np.array([np.zeros(6) if each is None else np.diag(each) for each in stated])
        if len(found) >= _ENOUGH:
            more = np.maximum(variance - np.median(variance, axis=0), 0)
            z[of] = (found - median) / np.sqrt(np.maximum(sd, _NARROWEST) ** 2 + more)
        else:
            z[of] = found / np.sqrt(_NARROWEST**2 + variance)
        spread[component] = {
            name: {"median": float(median[n]), "spread": float(sd[n])} for n, name in enumerate(DIFFERENCES)
        }
    return np.stack([np.linalg.norm(z[:, :3], axis=1), np.linalg.norm(z[:, 3:], axis=1)], axis=1), spread


def _depths(differences: FloatArray, pairs: Sequence[tuple[Label, PoseFileRow]]) -> FloatArray:
    """Shift along the ray from each plane's source, (n, 2) mm; NaN where there is no such plane."""
    depths = np.full((len(pairs), len(PLANES)), np.nan)
    at = np.array([pose["translation_mm"] for _, pose in pairs]).reshape(-1, 3)
    cameras = [cameras_of(row) for row, _ in pairs]
    for n, plane in enumerate(PLANES):
        seen = [index for index, each in enumerate(cameras) if plane in each]
        world_to_camera = np.array([cameras[index][plane]["world_to_camera"] for index in seen]).reshape(-1, 4, 4)
        depths[seen, n] = (viewing_axes(world_to_camera, at[seen])[:, 2] * differences[seen, :3]).sum(axis=1)
    return depths


def _labels(source: Rows[Frames], split: str) -> list[Label]:
    names = ("measurement_id", "trial_id", "frame_index", *(f"camera_{plane}" for plane in PLANES), *COMPONENTS)
    return [
        row | {"split": name, "row": number}
        for name, frames in source.of_split(split).items()
        for number, row in enumerate(frames.table(*names).to_pylist())
    ]


def _manual(dataset: str, labels: Sequence[Label], registered: pa.Table) -> dict[str, ByComponent]:
    """Labels and converged registrations minus manually matched poses, if any; DataSetError if those are damaged."""
    try:
        splits = open_rows(dataset, ("manual",), archive_px=ARCHIVE_PX).splits
    except NothingThereError:  # there are none
        return {}
    matched = {
        (row["measurement_id"], component): row[component]
        for frames in splits.values()
        for row in frames.table("measurement_id", *COMPONENTS).to_pylist()
        for component in COMPONENTS
        if row[component]
    }
    automatic = {
        "label": {(row["measurement_id"], c): row[c] for row in labels for c in COMPONENTS if row[c]},
        "registration": {
            (pose["measurement_id"], pose["component"]): pose
            for pose in registered.to_pylist()
            if pose["verdict"] == CONVERGED
        },
    }
    found: dict[str, ByComponent] = {}
    for what, poses in automatic.items():
        for component in COMPONENTS:
            both = [key for key in matched if key in poses and key[1] == component]
            if both:
                off = pose_differences(*(transforms([each[key] for key in both]) for each in (poses, matched)))
                median = np.median(off, axis=0)
                mad = np.median(np.abs(off - median), axis=0)
                figures = {
                    name: {"median": float(median[n]), "mad": float(mad[n])} for n, name in enumerate(DIFFERENCES)
                }
                found.setdefault(what, {})[component] = {"poses": len(both), **figures}
    return found
