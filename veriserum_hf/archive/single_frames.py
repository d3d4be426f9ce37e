"""Frames of trials without enough frames to compare them, whose labels agree with an image in another reading only.

Labels could judge every frame, but comparing one with them takes much longer than decoding it.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.compared_frames import ComparedFrames, Scores
from veriserum_hf.archive.conventions import AS_READ, LABELS_AND_IMAGES
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.readings import AGREES, described
from veriserum_hf.core import PLANES, FloatArray, PlaneName
from veriserum_hf.jobs import single_threaded_opencv

MOST_FRAMES = 200
_SHORT = 2  # frames of a trial: they have no neighbours that show which of them is wrong
# Mean cosines, see `veriserum_hf.archive.evidence`. One frame alone needs clearer values than many do.
_CONTRADICTS, _SUPPORTS = 0.2, 0.7
_FEWEST_AGREEING = 4  # images that show that labels and images of this archive can be compared


def report_single_frames(archive: VeriserumArchive, findings: Findings) -> None:
    """Report frames that contradict their labels as they are read, but not in another reading.

    Parameters
    ----------
    archive : its trials of one or two frames are assessed, if these are at most `MOST_FRAMES` in all.
    findings : takes the problems; its decision on labels and images shows whether these can be compared at all.

    """
    evidence = ComparedFrames(archive)
    sizes = Counter(archive.frames["trial_id"].to_pylist())
    labelled = [row for row in evidence.labelled_frames().to_pylist() if sizes[row["trial_id"]] <= _SHORT]
    if len(labelled) > MOST_FRAMES:
        return
    agreeing = compared = 0
    found: list[tuple[str, str]] = []
    with single_threaded_opencv():
        for row in labelled:
            for scores in evidence.of_frames([row], briefly=True):
                for p, plane in enumerate(PLANES):
                    as_is = _highest(scores, p)
                    compared += np.isfinite(as_is)
                    agreeing += as_is >= AGREES
                    if as_is <= _CONTRADICTS and (other := _other(scores, p, plane)):
                        where = archive.layout.relative(row[f"path_{plane}"])
                        found.append((where, f"agree with it by {as_is:.2f} as it is read, but by {other}"))
    agree = findings.decisions[LABELS_AND_IMAGES].answer == AS_READ
    if not agree and agreeing < max(_FEWEST_AGREEING, compared / 2):
        return
    for where, what in found:
        findings.problem(
            "label and image disagree",
            where,
            f"the outlines of its labels {what}, expected {AGREES} or more (mean cosine)",
            "Restore the file from the download, or mark the poses of this frame obsolete; it is kept.",
        )


def _highest(scores: Scores, p: int) -> float:
    """Agreement of a plane as it is read, of the kind of pose that agrees best; NaN if nothing was compared."""
    return float(np.fmax.reduce([of_kind[p, 0, 0, 0] for of_kind in scores.values()]))


def _other(scores: Scores, p: int, plane: PlaneName) -> str | None:
    """The other reading of a plane that agrees clearly, and how well, as the end of a sentence."""
    best = max((each for of_kind in scores.values() for each in _readings(of_kind[p, 0], plane)), default=None)
    return f"{best[0]:.2f} if it is {best[1]}" if best and best[0] >= _SUPPORTS else None


def _readings(agreement: FloatArray, plane: PlaneName) -> Iterator[tuple[float, str]]:
    """Agreement of every other reading of one plane, of (file, flip), and what is different."""
    other_plane = PLANES[1 - PLANES.index(plane)]
    for (file, flip), value in np.ndenumerate(agreement):
        for inverted in (False, True):
            what = described(flip, inverted=inverted, file_of=other_plane if file == 1 else None)
            if what and np.isfinite(value):
                yield float(-value if inverted else value), what
