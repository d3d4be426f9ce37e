"""Registrations with the mesh of another implant, by kind of implant and by how different its size is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tests.benchmarks.wrong_frames import TrueFrame
from tests.benchmarks.wrong_worlds import REFUSED
from veriserum_hf.core import Component, Table
from veriserum_hf.registration.verdicts import MIN_SCORE
from veriserum_hf.simulation.implants import implant_mesh

SWAPPED = tuple(name for name, world in REFUSED.items() if world.given.another or world.given.scale != 1)
_HEADER = [
    "mesh given",
    "its width less the true one's, mm",
    "swaps",
    "refused by score",
    "converged / ambiguous / failed",
    "score: median (p95)",
]


class Swap(NamedTuple):
    """What came of one implant that was given the mesh of another."""

    kind: str
    wider_mm: float
    score: float
    verdict: str


def swap(condition: str, component: Component, index: int, score: float, verdict: str) -> Swap:
    """The swap of a component in a frame of a condition, and what came of it."""
    frame, world = TrueFrame(index), REFUSED[condition]
    id = frame.shown.anatomy_ids[component]
    given = frame.meshes(world.given, world.seen)[id]
    wider_mm = float(given.extents[0] - implant_mesh(id).extents[0])
    of = "another design" if world.given.another else "another size"
    return Swap(f"{component}, {of}", wider_mm, score, verdict)


def swaps_table(swaps: Sequence[Swap]) -> str:
    """One line for each kind and difference in width, to the millimetre, and one for each kind."""
    groups: dict[tuple[str, str], list[Swap]] = {}
    for kind in sorted({each.kind for each in swaps}):
        groups[kind, "all"] = of_kind = sorted(each for each in swaps if each.kind == kind)
        for each in of_kind:
            groups.setdefault((kind, f"{each.wider_mm:+.0f}"), []).append(each)
    return Table(_HEADER, _lines(groups), alignment="l").markdown()


def _lines(groups: Mapping[tuple[str, str], Sequence[Swap]]) -> list[list[str]]:
    lines = []
    for (kind, wider), swaps in groups.items():
        scores = [each.score for each in swaps]
        refused = sum(score < MIN_SCORE for score in scores)
        verdicts = [sum(each.verdict == word for each in swaps) for word in ("converged", "ambiguous", "failed")]
        lines.append(
            [
                kind,
                wider,
                str(len(swaps)),
                f"{refused} ({100 * refused / len(swaps):.0f} %)",
                " / ".join(map(str, verdicts)),
                f"{np.median(scores):.2f} ({np.percentile(scores, 95):.2f})",
            ]
        )
    return lines
