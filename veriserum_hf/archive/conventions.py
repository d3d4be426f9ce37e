"""Whether labels and images agree as they are read, and which reading would agree where they do not.

One frame of each of some trials is compared with the outlines of its labels in every reading; where a trial's first
frame contradicts the present reading, more of its frames are. A reading is only named where several frames support
it by a clear margin, and nothing is refused where the images do not show the labels.
"""

from collections.abc import Collection, Mapping

import numpy as np

from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.compared_frames import ENOUGH, ComparedFrames
from veriserum_hf.archive.evidence import FLIPS
from veriserum_hf.archive.polarity import decide_polarity
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.readings import (
    READINGS,
    Reading,
    Verdict,
    contradicting,
    disagree,
    judge,
)
from veriserum_hf.archive.rotations import is_assumed
from veriserum_hf.core import PLANES, FloatArray, listed
from veriserum_hf.jobs import single_threaded_opencv

TRIALS = 24  # one frame of each is enough to see what concerns all of them
TRIALS_DEEP = 800  # of an audit that decodes every frame, so that single trials are found too
AS_READ = "yes, as they are read"  # the answer where they agree
LABELS_AND_IMAGES = "labels_and_images"  # name of the decision
_QUESTION = "Do labels and images agree?"


# Of the archives of this process: each configuration of a data set is loaded by itself.
_known: dict[tuple[str, int], Findings] = {}


def require_agreement(archive: VeriserumArchive) -> Findings:
    """Decision on whether labels and images agree, and problems that do not make the archive unusable.

    Raises
    ------
    ArchiveError
        If they agree in another reading only; the message names it.

    """
    key = archive.fingerprint(), archive.raw_format.white_level
    if (findings := _known.get(key)) is None:
        assess_conventions(archive, findings := Findings())
        _known[key] = findings
    if findings.structural:
        raise findings.unusable()
    return findings


def disagreement(archive: VeriserumArchive) -> str | None:
    """How labels and images disagree, and the reading in which they would agree; None where nothing is found."""
    findings = Findings()
    assess_conventions(archive, findings)
    return "; ".join(problem.what for problem in findings.structural) or None


def assess_conventions(archive: VeriserumArchive, findings: Findings, trials: int = TRIALS) -> None:
    """Decide whether labels and images agree as they are read; where another reading does, that is structural.

    Whether X-rays are bright is decided first, from the images alone: where they do not show the labels, nothing else
    finds frames that are inverted.

    Parameters
    ----------
    archive : its frames and implants are read.
    findings : takes the decision, and the problems.
    trials : of how many trials one frame is compared at least.

    """
    paths = [path for plane in PLANES for path in archive.frames[f"path_{plane}"].to_pylist() if path]
    with single_threaded_opencv():  # a process that is forked later would wait for OpenCV's threads
        decide_polarity(paths, archive.raw_format, str(archive.layout.root), findings)
        by_trial = ComparedFrames(archive).of_trials(trials)
    kinds = sorted({kind for frames in by_trial.values() for scores in frames for kind in scores}, key=_order)
    may_be_first = is_assumed(archive.decisions["rotation"])
    answers: dict[str, list[str]] = {}
    wrong: dict[tuple[Reading, tuple[int, ...]], list[str]] = {}
    evidence, assessed = [], False
    for kind in kinds:
        of_kind = {trial: [scores[kind] for scores in frames if kind in scores] for trial, frames in by_trial.items()}
        of_kind = {trial: frames for trial, frames in of_kind.items() if frames}
        whole, others = _verdicts(of_kind, may_be_first)
        for reading, trials_of in others.items():
            wrong.setdefault((reading, tuple(trials_of)), []).append(kind)
        assessed |= whole.reading is not None or bool(others)
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
    findings.decide(LABELS_AND_IMAGES, _QUESTION, answer, "; ".join(evidence))
    if may_be_first and not assessed and len(archive.poses):
        findings.problem(
            "order of quaternions",
            archive.layout.where("poses"),
            "neither Euler angles nor the images determine the order of r0, r1, r2, r3; they are read as documented: "
            "(x, y, z, w), scalar last",
            "Add the Euler angles rz, rx, ry, or compare some frames with their poses (`veriserum show`).",
        )


def _verdicts(
    by_trial: Mapping[int, list[FloatArray]], may_be_first: bool
) -> tuple[Verdict, dict[Reading, list[int]]]:
    """Verdict on all trials, and readings that contradict the present one, with their trials: none if it is all."""
    # A trial counts as much as another, however many of its frames were compared.
    frames = [frames[0] for frames in by_trial.values()]
    if len(by_trial) < ENOUGH:
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
    return AS_READ


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
