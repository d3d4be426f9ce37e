"""Verdicts of registered poses, from their score, deviations, and what speaks against them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from veriserum_hf.core import CONVERGED, Component, FloatArray, PlaneName, Verdict
from veriserum_hf.poses import DEVIATIONS_95
from veriserum_hf.registration.deviations import PlanesApart, widest

# Of correct poses of three renderers and of real frames, one in a hundred has less; of meshes of other implants, one
# in twelve has more.
MIN_SCORE = 0.6
# In the field: with less of a simulated implant, errors were larger than their covariance states.
MIN_SHARE_IN_FIELD = 0.2
# First words of details.
CONTRADICTION = "the planes contradict each other"
MIRRORED = "visible in one plane only, where a mirrored pose agrees as well"
# Half-widths of 95 % intervals; a pose with wider ones is ambiguous.
_MAX_DEVIATION_MM, _MAX_DEVIATION_DEG = 1.0, 1.0


@dataclass(frozen=True, eq=False)
class Findings:
    """What is known about a registered pose.

    Attributes
    ----------
    covariance : (6, 6) of the mesh's centre in the world, mm, and of the rotation vector, deg; NaN where the images
        do not determine it.
    of_cameras : (6, 6) part of it that is common to all frames of refined cameras; 0 with others.
    rays : (3,) unit vectors from the sources to the implant's centre, by plane.
    shares_in_field : of the implant's surface, by plane.
    score : 0 to 1.
    converged : whether the optimisation has.
    planes_apart, contradictory : see `deviations.Stated`.
    runner_up_deg : see `outline.search.OutlineFit`.
    moved : from the initial pose, mm and deg.

    """

    covariance: FloatArray
    of_cameras: FloatArray
    rays: Mapping[PlaneName, FloatArray]
    shares_in_field: Mapping[PlaneName, float]
    score: float
    converged: bool
    planes_apart: PlanesApart
    contradictory: bool
    runner_up_deg: float
    moved: tuple[float, float]


def verdicts_of_frame(
    found: Mapping[Component, Findings], limits: tuple[float, float]
) -> dict[Component, tuple[Verdict, str]]:
    """Verdicts of all implants of a frame, and their reasons.

    The implants share cameras and moment: where the planes contradict each other at one of them, the pose of another
    is wrong by the same cause, in directions that its own outline may not show.
    """
    chosen = {name: verdict(each, limits) for name, each in found.items()}
    contradicted = next(
        (name for name, (word, _) in chosen.items() if word == "ambiguous" and found[name].contradictory), None
    )
    if contradicted is None:
        return chosen
    reason = f"{CONTRADICTION} at the {contradicted} of this frame: {_apart(found[contradicted])}"
    return {name: ("ambiguous", reason) if each[0] == CONVERGED else each for name, each in chosen.items()}


def verdict(found: Findings, limits: tuple[float, float]) -> tuple[Verdict, str]:
    """Verdict of one implant, and its reason.

    ``limits``, mm and deg, are those of the distance from the initial pose.
    """
    seen = [plane for plane, share in found.shares_in_field.items() if share >= MIN_SHARE_IN_FIELD]
    if not seen or not np.isfinite(found.covariance).all():
        return "failed", "not observable: in no plane's field, or the images do not determine its pose"
    if found.moved[0] > limits[0] or found.moved[1] > limits[1]:
        return "failed", (
            f"{found.moved[0]:.1f} mm and {found.moved[1]:.1f} deg from the initial pose, beyond the limits of "
            f"{limits[0]:g} mm and {limits[1]:g} deg"
        )
    if not found.score >= MIN_SCORE:
        return "failed", (
            f"the images agree with {100 * found.score:.0f} % of its outline, above what chance gives; expected at "
            f"least {100 * MIN_SCORE:.0f} %"
        )
    if found.runner_up_deg <= limits[1]:
        return "ambiguous", f"{MIRRORED}, {found.runner_up_deg:.0f} deg from the initial one; this one is nearer"
    if found.contradictory:
        return "ambiguous", (
            f"{CONTRADICTION}: {_apart(found)}; check that their cameras are of this rig, and their images of one "
            "moment"
        )
    depth, position = _apart_from_depth(found, seen)
    widest_mm, widest_deg = (DEVIATIONS_95 * widest(part) for part in (position, found.covariance[3:, 3:]))
    if widest_mm > _MAX_DEVIATION_MM or widest_deg > _MAX_DEVIATION_DEG:
        along = _along(np.linalg.eigh(position)[1][:, -1])
        wide = (
            f"95 % interval of +- {widest_mm:.2f} mm along {along} in the world, and of +- {widest_deg:.2f} deg "
            "about the worst axis"
        )
        return "ambiguous", "; ".join(filter(None, (wide, depth)))
    if not found.converged:
        return "ambiguous", "not converged within the number of iterations"
    return "converged", depth


def _apart(found: Findings) -> str:
    mm, sd_mm = abs(found.planes_apart.mm), found.planes_apart.sd_mm
    return f"their poses are {mm:.2f} +- {sd_mm:.2f} mm apart in the direction that both see, or rotated"


def _apart_from_depth(found: Findings, seen: Sequence[PlaneName]) -> tuple[str, FloatArray]:
    """A direction whose interval is stated rather than limited, and the covariance (3, 3) across it.

    It is the depth of an implant that one plane sees, and, with refined cameras, a shift that all their frames share.
    """
    position, shared = found.covariance[:3, :3], found.of_cameras[:3, :3]
    if len(seen) == 1:
        ray = found.rays[seen[0]]
        depth_mm = DEVIATIONS_95 * float(np.sqrt(ray @ position @ ray))
        across = np.eye(3) - np.outer(ray, ray)
        words = f"visible in {seen[0]} only{_hidden(found, seen[0])}: depth known to +- {depth_mm:.1f} mm (95 %)"
        return words, across @ position @ across
    variance, direction = (each[..., -1] for each in np.linalg.eigh(shared))
    shared_mm = DEVIATIONS_95 * float(np.sqrt(max(variance, 0.0)))
    if shared_mm <= _MAX_DEVIATION_MM:
        return "", position
    words = (
        f"with refined cameras, whose error along {_along(direction)} all their frames share: +- {shared_mm:.1f} mm "
        "(95 %), not in relative poses"
    )
    return words, position - variance * np.outer(direction, direction)


def _along(direction: FloatArray) -> str:
    """A direction with its largest component positive."""
    positive = direction * np.sign(direction[np.abs(direction).argmax()])
    return f"({', '.join(f'{value:+.2f}' for value in positive)})"


def _hidden(found: Findings, seen: PlaneName) -> str:
    return "".join(
        f" ({plane} has {100 * share:.0f} % of it in its field)"
        for plane, share in found.shares_in_field.items()
        if plane != seen
    )
