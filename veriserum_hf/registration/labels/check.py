"""``veriserum check-labels``: stored poses that disagree with their images, found by 2D/3D registration.

Differences of labels and registrations: `veriserum_hf.registration.labels.differences`. Offsets that many have in
common: `veriserum_hf.registration.labels.offsets`. The criterion for single labels:
`veriserum_hf.registration.labels.rows`. Labels or cameras as the cause:
`veriserum_hf.registration.labels.common_offset`; another ``fs`` pose as the cause in a session:
`veriserum_hf.registration.labels.session_offsets`.

Labels whose registration has not converged are listed as not assessed, unless its planes contradict each other by the
same amount as in its whole session. A label outside the capture range is still found where the registration is
initialised from neighbouring frames of its trial.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from veriserum_hf.core import COMPONENTS, CONVERGED, PLANES, Component, PoseRow, Poses, __version__
from veriserum_hf.dataset import ALL, Frames, Rows, open_rows
from veriserum_hf.errors import DataSetError, NothingThereError, RegistrationError
from veriserum_hf.jobs import parquet_bytes, write_file, writing
from veriserum_hf.poses import (
    SessionPlanes,
    check_same_frame,
    planes_by_session,
    pose_differences,
    poses_by_frame,
    read_poses,
    transforms,
)
from veriserum_hf.registration.data_sets import ARCHIVE_PX, register_dataset
from veriserum_hf.registration.labels.common_offset import CommonOffset, is_suspicious, planes_of
from veriserum_hf.registration.labels.differences import DIFFERENCES, Label, differences_of
from veriserum_hf.registration.labels.offsets import change_over_volume, common_offsets, judged_labels
from veriserum_hf.registration.labels.readings import disagreement_of_labels
from veriserum_hf.registration.labels.rows import SCHEMA, Spread, label_rows, spread_of
from veriserum_hf.registration.labels.session_offsets import session_offsets, with_sessions

Row = dict[str, Any]  # by `SCHEMA`, whose columns are of many kinds
# Number of poses, and by degree of freedom median and deviation.
ByComponent = dict[str, dict[str, int | dict[str, float]]]

_Matched = Mapping[tuple[int, Component], PoseRow]  # manually matched poses by measurement id and component
_MANY = 0.25  # share of labels not assessed, beyond which the check itself has failed


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
    common : offset that labels have in common, with its likely cause, if there is one.
    sessions : disagreement of the planes by session, of registrations in two planes.

    """

    output: Path
    registered: Path
    rows: pa.Table
    spread: Spread
    manual: dict[str, ByComponent]
    no_manual: str | None
    disagreement: str | None = None
    common: CommonOffset | None = None
    sessions: Sequence[SessionPlanes] = ()

    @property
    def labels_are_off(self) -> bool:
        """Whether labels are flagged or off together, or more than a quarter of them could not be assessed."""
        off_together = self.common is not None and self.common.looks_like == "labels"
        return bool(self.flagged) or off_together or len(self.not_assessed) > _MANY * len(self.rows)

    @property
    def flagged(self) -> list[Row]:
        """Labels that disagree with their images, largest disagreement first."""
        return sorted(
            (row for row in self.rows.to_pylist() if row["flagged"]), key=lambda row: -row["disagreement_sd"]
        )

    @property
    def not_assessed(self) -> list[Row]:
        """Labels that are not compared: their registration has not converged, nor is as others of its session."""
        return [row for row in self.rows.to_pylist() if row["flagged"] is None]


def check_labels(
    dataset: str,
    output: Path,
    *,
    split: str = ALL,
    cameras: Path | None = None,
    manual: Path | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LabelCheck:
    """Register every frame from its refined pose, and compare the two poses.

    The registrations go to ``NAME.registered.parquet`` next to the output ``NAME.parquet``, and are reused for the
    same frames and implants. After a change of the data set, that file must be removed first.

    Parameters
    ----------
    dataset, split, cameras, workers, executor, progress : see `register_dataset`.
    output : Parquet file to write, or to replace.
    manual : file of manually matched poses, which replace those of the data set.

    Raises
    ------
    RegistrationError
        If there is nothing to register, an implant cannot be rendered, the existing registrations are of other
        frames, or a file cannot be written.
    DataSetError
        If the data set cannot be loaded, or has no such split.
    TrainingError
        If the manually matched poses cannot be read, or are of another data set.
    ArchiveError, ConversionError
        If the archive's structure is invalid, or it has no implants.
    WorkerError
        If a worker process was killed.

    """
    by_hand = None if manual is None else (manual, poses_by_frame(read_poses(manual)))
    output = output.expanduser().absolute()
    if output.is_dir():
        raise RegistrationError(f"{output} is a folder; expected a Parquet file to write")
    registered = output.with_name(f"{output.stem}.registered.parquet")
    found = register_dataset(
        dataset,
        registered,
        split=split,
        cameras=cameras,
        workers=workers,
        executor=executor,
        progress=progress,
        any_agreement=True,
        # An error of the cameras moves all labels of a session: it is in what they are compared with.
        camera_covariance=False,
    )
    labels = _labels(found.source, split)
    differences = differences_of(labels, found.poses)
    apart = session_offsets(labels, differences)
    differences, explained = with_sessions(differences, apart)
    offsets, baseline = common_offsets(differences, explained)
    judged = judged_labels(differences, explained)
    rows, common = label_rows(differences, baseline), None
    spread = spread_of(differences)
    planes = None
    if offsets or is_suspicious(spread, rows):
        planes = planes_of(found.source, split, differences.chosen(judged))
        if planes is not None and planes.disagree:
            rows = label_rows(differences, baseline, planes)
    if offsets or apart or (planes is not None and planes.disagree):
        change = change_over_volume(differences.chosen(judged), baseline[judged]) if offsets else None
        common = CommonOffset(offsets, planes, change, apart, not judged.all())
    about = {"veriserum_hf": __version__, "dataset": dataset, "split": split}
    with writing(output, RegistrationError):
        write_file(output, parquet_bytes(rows.replace_schema_metadata(SCHEMA.metadata | about)))
    try:
        matched = _matched(dataset) if by_hand is None else _matched_of(*by_hand, labels)
        compared, no_manual = _compared(matched, labels, found.poses), None
    except DataSetError as error:  # the labels are checked nevertheless
        compared, no_manual = {}, str(error)
    disagreement = disagreement_of_labels(found.source, split)
    sessions = planes_by_session(labels, poses_by_frame(found.poses))
    return LabelCheck(output, registered, rows, spread, compared, no_manual, disagreement, common, sessions)


def _labels(source: Rows[Frames], split: str) -> list[Label]:
    names = ("measurement_id", "trial_id", "frame_index", *(f"camera_{plane}" for plane in PLANES), *COMPONENTS)
    return [
        row | {"split": name, "row": number}
        for name, frames in source.of_split(split).items()
        for number, row in enumerate(frames.table(*names).to_pylist())
    ]


def _matched(dataset: str) -> _Matched:
    """Manually matched poses of a data set, none where it has none; DataSetError if they are damaged."""
    try:
        splits = open_rows(dataset, ("manual",), archive_px=ARCHIVE_PX).splits
    except NothingThereError:
        return {}
    return {
        (row["measurement_id"], component): row[component]
        for frames in splits.values()
        for row in frames.table("measurement_id", *COMPONENTS).to_pylist()
        for component in COMPONENTS
        if row[component]
    }


def _matched_of(manual: Path, poses: Mapping[int, Poses], labels: Sequence[Label]) -> _Matched:
    """Manually matched poses of a file; TrainingError if one is of another frame than its label."""
    for row in labels:
        check_same_frame(poses.get(row["measurement_id"], {}), row, manual)
    return {(id, component): pose for id, of_frame in poses.items() for component, pose in of_frame.items()}


def _compared(matched: _Matched, labels: Sequence[Label], registered: pa.Table) -> dict[str, ByComponent]:
    """Labels and converged registrations minus manually matched poses."""
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
