"""Whether labels and images agree as they are read, and which reading would agree where they do not.

One frame of each of some trials is compared with the outlines of its labels in every reading; where a trial's first
frame contradicts the present reading, more of its frames are. A reading is only named where several frames support
it by a clear margin, and nothing is refused where the images do not show the labels.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import trimesh

from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.evidence import FLIPS, SIZE, Fields, Implant, agreement, flipped, surface
from veriserum_hf.archive.frames import read_frame
from veriserum_hf.archive.meshes import read_mesh
from veriserum_hf.archive.problems import Decision, Findings
from veriserum_hf.archive.readings import (
    AGREES,
    READINGS,
    Reading,
    Verdict,
    contradicting,
    contradicting_alone,
    disagree,
    judge,
)
from veriserum_hf.archive.rotations import SCALAR_LAST
from veriserum_hf.archive.table_specs import Row
from veriserum_hf.calibration import Distortion
from veriserum_hf.core import PLANES, FloatArray, Grey, PlaneName, listed
from veriserum_hf.errors import FrameError
from veriserum_hf.jobs import single_threaded_opencv

TRIALS = 24  # one frame of each is enough to see what concerns all of them
TRIALS_DEEP = 800  # of an audit that decodes every frame, so that single trials are found too
_ENOUGH = 4  # trials, to see whether the present reading is the right one
_MOSTLY = 0.8
_MOST_IN_EVERY_READING = 120  # frames; more would not show more where images do not show the labels
_MORE_FRAMES = 4  # of a trial whose first frame contradicts the present reading
_RAW_ROWS = 400  # finer pixels than an outline needs
_QUESTION = "Do labels and images agree?"
Scores = dict[str, FloatArray]  # by kind of pose


def require_agreement(archive: VeriserumArchive) -> Decision:
    """Decision on whether labels and images agree.

    Raises
    ------
    ArchiveError
        If they agree in another reading only; the message names it.

    """
    findings = Findings()
    assess_conventions(archive, findings)
    if findings.structural:
        raise findings.unusable()
    return findings.decisions["labels_and_images"]


def disagreement(archive: VeriserumArchive) -> str | None:
    """How labels and images disagree, and the reading in which they would agree; None where nothing is found."""
    findings = Findings()
    assess_conventions(archive, findings)
    return "; ".join(problem.what for problem in findings.structural) or None


def assess_conventions(archive: VeriserumArchive, findings: Findings, trials: int = TRIALS) -> None:
    """Decide whether labels and images agree as they are read; where another reading does, that is structural.

    Parameters
    ----------
    archive : its frames and implants are read.
    findings : takes the decision, and the problems.
    trials : of how many trials one frame is compared at least.

    """
    with single_threaded_opencv():  # a process that is forked later would wait for OpenCV's threads
        by_trial = _Evidence(archive).of_trials(trials)
    kinds = sorted({kind for frames in by_trial.values() for scores in frames for kind in scores}, key=_order)
    may_be_first = archive.decisions["rotation"].answer == SCALAR_LAST
    answers: dict[str, list[str]] = {}
    wrong: dict[tuple[Reading, tuple[int, ...]], list[str]] = {}
    evidence = []
    for kind in kinds:
        of_kind = {trial: [scores[kind] for scores in frames if kind in scores] for trial, frames in by_trial.items()}
        of_kind = {trial: frames for trial, frames in of_kind.items() if frames}
        whole, others = _verdicts(of_kind, may_be_first)
        for reading, trials_of in others.items():
            wrong.setdefault((reading, tuple(trials_of)), []).append(kind)
        answers.setdefault(_answer(whole, others), []).append(kind)
        evidence.append(f"{kind}: {_scores(whole, len(of_kind), may_be_first)}")
    for (reading, in_trials), of_kinds in wrong.items():
        _problem(archive, findings, reading, in_trials, of_kinds)
    if not kinds:
        answers["could not be assessed"] = []
        evidence = ["there is no frame of both planes whose labelled implants have a mesh"]
    answer = (
        next(iter(answers))
        if len(answers) == 1
        else "; ".join(f"{', '.join(of)}: {answer}" for answer, of in answers.items())
    )
    findings.decide("labels_and_images", _QUESTION, answer, "; ".join(evidence))


def _verdicts(
    by_trial: Mapping[int, list[FloatArray]], may_be_first: bool
) -> tuple[Verdict, dict[Reading, list[int]]]:
    """Verdict on all trials, and readings that contradict the present one, with their trials: none if it is all."""
    # A trial counts as much as another, however many of its frames were compared.
    frames = [frames[0] for frames in by_trial.values()]
    if len(by_trial) < _ENOUGH:
        frames = [each for frames in by_trial.values() for each in frames]
    whole = judge(frames, scalar_first=may_be_first)
    if whole.reading is not None and whole.reading.changes:
        return whole, {whole.reading: []}
    others: dict[Reading, list[int]] = {}
    shown = 0
    for trial, of_trial in by_trial.items():
        reading = contradicting(of_trial, scalar_first=may_be_first)
        if reading is not None:
            others.setdefault(reading, []).append(trial)
        shown += reading is not None or judge(of_trial, scalar_first=may_be_first).reading is not None
    # Where most images do not show the labels, a few that seem to show them in another reading do by chance.
    return whole, others if 2 * shown >= len(by_trial) else {}


def _answer(whole: Verdict, others: Mapping[Reading, list[int]]) -> str:
    if whole.reading is not None and whole.reading.changes:
        return f"no, only if {whole.reading}"
    if others:
        return "no, not in all trials"
    if whole.reading is None:
        return "could not be assessed: the outlines agree with the images in no reading, or not clearly"
    return "yes, as they are read"


def _problem(
    archive: VeriserumArchive, findings: Findings, reading: Reading, trials: Collection[int], kinds: list[str]
) -> None:
    remedies = ["reorder the columns r0, r1, r2, r3 to (x, y, z, w), or add the Euler angles rz, rx, ry"]
    remedies *= reading.scalar_first
    if reading._replace(scalar_first=False).changes:
        remedies.append("restore the images from the download")
    remedy = " and ".join(remedies)
    remedy = f"{remedy[0].upper()}{remedy[1:]}{', or mark the poses of these trials obsolete' if trials else ''}."
    where = f"trial{'s' * (len(trials) > 1)} {listed(trials)}: " if trials else ""
    findings.problem(
        "labels and images disagree",
        archive.layout.where("poses") if reading == Reading(scalar_first=True) else str(archive.layout.root),
        f"{where}the outlines of the {' and '.join(kinds)} poses {disagree(reading)}",
        remedy,
        structural=True,
    )


def _scores(verdict: Verdict, trials: int, may_be_first: bool) -> str:
    """The agreement of the present reading and of others, as text."""
    others = {
        "quaternions scalar first": Reading(scalar_first=True),
        "files swapped": Reading(swapped=True),
        **{f"images {flip}": Reading(flips=(n, n)) for n, flip in enumerate(FLIPS) if n},
        "grey levels inverted": Reading(inverted=True),
    }
    if not may_be_first:
        del others["quaternions scalar first"]
    best = READINGS[int(np.argmax(verdict.agreement))]
    if best.changes and best not in others.values():
        others |= {f"if {best}": best}
    named = ", ".join(f"{verdict.of(reading):.2f} {name}" for name, reading in others.items())
    return (
        f"mean cosine between outlines and images in {verdict.frames} frames of {trials} trials: "
        f"{verdict.of(Reading()):.2f} as read, {named}"
    )


def _order(kind: str) -> int:
    return ("refined", "manual", "target").index(kind)


class _RawFields(Fields):
    """Images of raw frames by plane."""

    def __init__(self, raw: Mapping[PlaneName, Grey], distortions: Mapping[PlaneName, Distortion]) -> None:
        super().__init__()
        self._raw, self._distortions = raw, distortions

    def image(self, file: PlaneName, plane: PlaneName, flip: int) -> Grey:
        """See `Fields`."""
        return self._distortions[plane].correct(flipped(self._raw[file], flip), SIZE)


class _Evidence:
    """Agreement of labels and images of single frames of an archive."""

    def __init__(self, archive: VeriserumArchive) -> None:
        self._archive = archive
        self._surface = lru_cache(maxsize=None)(self._read_surface)
        self._poses = archive.poses.filter(pc.invert(archive.poses["obsolete"]))  # by measurement, in ascending order
        self._measurements = np.asarray(self._poses["measurement_id"])
        self._in_every_reading = 0  # frames

    def of_trials(self, count: int) -> dict[int, list[Scores]]:
        """Scores of one frame of each of some trials, evenly spread, and of more where it contradicts the labels."""
        frames = self._archive.frames
        usable = pc.and_(frames["path_bs"].is_valid(), frames["path_fs"].is_valid())
        frames = frames.filter(pc.and_(usable, pc.is_in(frames["measurement_id"], self._poses["measurement_id"])))
        all_trials = np.asarray(frames["trial_id"])
        trials = list(dict.fromkeys(all_trials.tolist()))
        chosen = np.unique(np.linspace(0, len(trials) - 1, min(count, len(trials))).round().astype(int))
        found: dict[int, list[Scores]] = {}
        agreed = 0
        for trial in [trials[n] for n in chosen]:
            if self._in_every_reading >= _MOST_IN_EVERY_READING:
                break
            # Once some trials have agreed as they are read, others are compared in every reading if they do not.
            briefly = agreed >= max(_ENOUGH, _MOSTLY * len(found))
            of_trial = self._of(self._spread(frames.filter(all_trials == trial).to_pylist()), briefly)
            first = next(of_trial, None)
            if first is None:
                continue
            found[trial] = [first]
            agreed += _agrees(first)
            if len(chosen) < _ENOUGH or any(contradicting_alone(each) for each in first.values()):
                found[trial] += [each for each, _ in zip(of_trial, range(_MORE_FRAMES), strict=False)]
        return found

    def _poses_of(self, measurement_id: int) -> pa.Table:
        first, end = np.searchsorted(self._measurements, (measurement_id, measurement_id + 1))
        return self._poses.slice(first, end - first)

    def _spread(self, frames: list[Row]) -> list[Row]:
        """Frames of a trial: first those with poses of most kinds, then from its middle outwards."""
        kinds = [len(set(self._poses_of(row["measurement_id"])["kind"].to_pylist())) for row in frames]
        order = sorted(range(len(frames)), key=lambda n: (-kinds[n], abs(n - len(frames) // 2)))
        return [frames[n] for n in order]

    def _of(self, frames: Iterable[Row], briefly: bool) -> Iterator[Scores]:
        """Scores of the frames that can be compared."""
        for row in frames:
            try:
                scores = self._of_frame(row, briefly)
            except FrameError:  # a frame or a mesh that cannot be used is reported elsewhere
                continue
            if scores:
                yield scores

    def _of_frame(self, row: Row, briefly: bool) -> Scores:
        archive, poses = self._archive, self._poses_of(row["measurement_id"]).to_pylist()
        rig = archive.source_calibrations[poses[0]["source_calibration_id"]]
        implants: dict[str, list[Implant]] = {}
        for pose in poses:
            points = self._surface(pose["anatomy_id"])
            if points is not None:
                placed = Implant(points, pose["translation_mm"], pose["quaternion_xyzw"])
                implants.setdefault(pose["kind"], []).append(placed)
        if not implants:
            return {}
        raw = {plane: self._frame(row[f"path_{plane}"]) for plane in PLANES}
        fields = _RawFields(raw, archive.distortions[poses[0]["distortion_calibration_id"]])
        if briefly:
            scores = {kind: agreement(fields, rig, each, as_read=True) for kind, each in implants.items()}
            if _agrees(scores):
                return scores
        self._in_every_reading += 1
        return {kind: agreement(fields, rig, each) for kind, each in implants.items()}

    def _frame(self, path: str) -> Grey:
        frame = read_frame(path)
        self._archive.raw_format.check_shape(frame)
        height, width = frame.shape
        if height <= _RAW_ROWS:
            return frame
        size = round(width * _RAW_ROWS / height), _RAW_ROWS
        small: Grey = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        return small

    def _read_surface(self, anatomy_id: int) -> FloatArray | None:
        anatomy = self._archive.anatomies.get(anatomy_id)
        if anatomy is None or anatomy.path is None:
            return None
        try:
            stl = trimesh.util.wrap_as_stream(read_mesh(anatomy.path, anatomy.category).data)
        except FrameError:  # as of a frame
            return None
        mesh = trimesh.load_mesh(stl, file_type="stl", process=False)
        return surface(mesh) if 0 < mesh.area < np.inf else None


def _agrees(frame: Scores) -> bool:
    """Whether the labels of a frame agree with both images as they are read."""
    return all((scores[:, 0, 0, 0] >= AGREES).all() for scores in frame.values())
