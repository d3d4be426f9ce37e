"""Section of a report: flexion, adduction and internal rotation of the knee, estimate and label."""

from collections.abc import Mapping, Sequence

import numpy as np

from veriserum_hf.core import FloatArray, Table
from veriserum_hf.geometry import KNEE_ANGLES, angle_errors_deg, knee_angles_deg
from veriserum_hf.reports.blocks import Block, image, note, number, table
from veriserum_hf.reports.run_figures import Motion, knee_motions
from veriserum_hf.reports.sources import PoseSource, Reference

_SHOWN_TRIALS = 4
_ERRORS_NOTE = "Errors: median and 95 % quantile of the absolute ones; bias: mean of estimate minus label."
_ANGLES_NOTE = (
    "Angles of Grood and Suntay (1983) between the implants' own frames, the axes of their STL files, taken as x to "
    "the patient's left, y proximal, z anterior in a right knee: flexion, adduction (varus; negative: valgus) and "
    "internal rotation of the tibia are positive. In a left knee the last two have the opposite signs. They are "
    "clinical angles only if the STL files have these axes, as in simulated archives. For the published data set "
    "this is unknown: every angle has an offset, and other axes mix the three angles; the difference of estimate and "
    "label still measures the error of the joint's pose."
)
Angles = Mapping[int, FloatArray]


def knee_blocks(reference: Reference, sources: Sequence[PoseSource]) -> list[Block]:
    """Errors of the angles, and angles over time in a few trials; only frames with poses of both implants."""
    labels: dict[int, FloatArray] = {}
    estimated: dict[str, Angles] = {}
    rows = []
    for source in sources:
        ids, label_deg, estimate_deg = _angles(source)
        labels |= dict(zip(ids, label_deg, strict=True))
        estimated[source.name] = dict(zip(ids, estimate_deg, strict=True))
        if ids:
            rows.append([source.name, len(ids), *_errors(angle_errors_deg(estimate_deg, label_deg))])
    if not rows:
        return [note("No frame has poses and labels of both implants.")]
    header = ["", "frames", *(f"{name.removesuffix('_deg').replace('_', ' ')}, deg" for name in KNEE_ANGLES)]
    return [
        table(Table(header, rows, note=_ERRORS_NOTE)),
        image(knee_motions(_motions(reference, labels, estimated), reference.kind), "knee angles against the frame"),
        note(_ANGLES_NOTE),
    ]


def _angles(source: PoseSource) -> tuple[list[int], FloatArray, FloatArray]:
    """Measurements with both implants, and their angles (n, 3) by the labels and by the source."""
    estimates = source.estimates
    femora, tibiae = (np.flatnonzero(estimates.component == part) for part in ("femur", "tibia"))
    id = estimates.measurement_id
    ids, first, second = np.intersect1d(id[femora], id[tibiae], assume_unique=True, return_indices=True)
    femur, tibia = femora[first], tibiae[second]
    label, estimate = (
        knee_angles_deg(T[femur], T[tibia]) for T in (estimates.T_world_label, estimates.T_world_implant)
    )
    return ids.tolist(), label, estimate


def _errors(off_deg: FloatArray) -> list[str]:
    median, p95 = np.percentile(np.abs(off_deg), (50, 95), axis=0)
    bias = off_deg.mean(axis=0)
    return [
        f"{number(median[n])}, {number(p95[n])}; bias {'+' if bias[n] > 0 else ''}{number(bias[n])}"
        for n in range(len(KNEE_ANGLES))
    ]


def _motions(reference: Reference, labels: Angles, estimated: Mapping[str, Angles]) -> list[Motion]:
    """Trials to show: the longest of each task, then the next longest overall."""
    columns = [reference.rows[name] for name in ("measurement_id", "trial_id", "frame_index", "task")]
    trials: dict[int, list[tuple[int, int]]] = {}
    task_of: dict[int, str] = {}
    for measurement, trial, frame, task in zip(*columns, strict=True):
        if measurement in labels:
            trials.setdefault(trial, []).append((frame, measurement))
            task_of[trial] = task or "unknown task"
    longest_first = sorted(trials, key=lambda trial: (-len(trials[trial]), trial))
    of_task = {task_of[trial]: trial for trial in reversed(longest_first)}
    chosen = sorted(of_task.values(), key=longest_first.index)
    chosen += [trial for trial in longest_first if trial not in chosen]
    unknown = np.full(3, np.nan)
    motions = []
    for trial in sorted(chosen[:_SHOWN_TRIALS]):
        frames, ids = zip(*sorted(trials[trial]), strict=True)
        motions.append(
            Motion(
                title=f"trial {trial}, {task_of[trial]}",
                frame_index=frames,
                label_deg=np.array([labels[id] for id in ids]),
                sources_deg={
                    name: np.array([angles.get(id, unknown) for id in ids]) for name, angles in estimated.items()
                },
            )
        )
    return motions
