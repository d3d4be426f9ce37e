"""What a file of refined cameras has of each rig beside cameras and covariance, in words of JSON."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from veriserum_hf.core import PlaneName

Cells = Sequence[Sequence[Sequence[float] | None]]


class BeforeAfter(TypedDict):
    """A number by the stored cameras, and by refined ones; None where it is unknown."""

    before: float | None
    after: float | None


class FramesBeforeAfter(TypedDict):
    """The same of many frames."""

    before: Sequence[float | None]
    after: Sequence[float | None]


class ResidualField(TypedDict):
    """Residuals of outlines over the image of one plane, of frames that were left out of the adjustment.

    Attributes
    ----------
    pixel_mm : width and height on the detector of the pixels that residuals are stated in.
    before, after : by the stored cameras, and by those refined without the frame: rows of cells, from the top left;
        each the displacement (x, y) from outlines to edges that fits the residuals along the normals best, px, x to
        the right and y down; None where there is hardly any outline.

    """

    pixel_mm: Sequence[float]
    before: Cells
    after: Cells


class RigDetails(TypedDict):
    """Details of one rig.

    Attributes
    ----------
    name : of the group of frames, such as ``"session 1"``.
    reason : of the verdict.
    frames, trials_of_frames : measurement ids of the frames used, and their trials.
    excluded_frames : ids of chosen frames that were not used: unreadable, or without the implants' outlines near the
        given poses.
    left_out_misfit_px : median over frames that were left out, each registered by the cameras: median distance of
        their outlines and edges.
    left_out_misfits_px : the same of each frame, in the sequence of ``frames``.
    left_out_better : number of frames that the refined cameras fit better.
    residual_fields : by plane.
    tolerances, image_standard_deviations, standard_deviations : of the unknowns, in their sequence: before any frame
        is seen; of the images alone, if nothing else had errors, at most `MOST_TOLERANCES` tolerances; and stated.
    correlation : of the unknowns.
    not_determined : unknowns whose stated deviation is above half the tolerance.
    sid_mm : distance of source and detector of the stored cameras, by plane.
    implants : how many different ones.
    converged : whether the adjustment has.

    """

    name: str
    reason: str
    frames: Sequence[int]
    trials_of_frames: Sequence[int]
    excluded_frames: Sequence[int]
    left_out_misfit_px: BeforeAfter
    left_out_misfits_px: FramesBeforeAfter
    left_out_better: int
    residual_fields: Mapping[PlaneName, ResidualField]
    tolerances: Sequence[float]
    image_standard_deviations: Sequence[float]
    standard_deviations: Sequence[float]
    correlation: Sequence[Sequence[float]]
    not_determined: Sequence[str]
    sid_mm: Mapping[PlaneName, float]
    implants: int
    converged: bool


MOST_TOLERANCES = 1000.0
