"""Cross-validation of refined cameras: how well they fit frames that were left out of their adjustment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from veriserum_hf.calibration import ResidualField
from veriserum_hf.core import FloatArray, IndexArray, PlaneName
from veriserum_hf.registration.cameras.adjustment import Adjusted, registered_by
from veriserum_hf.registration.cameras.observed import Observed
from veriserum_hf.registration.cameras.unknowns import Unknowns
from veriserum_hf.registration.outline.residuals import Residuals

CELLS = 8  # of a residual field, along each edge of an image
_FOLDS = 5
_LEAST_PIECES = 24  # of outlines in a cell
_PARALLEL = 0.05  # of the larger eigenvalue: normals that are more parallel show one direction alone


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Each frame by the stored cameras and by those that frames without its fold give, its poses registered.

    Attributes
    ----------
    before_px, after_px : (frames,) median distance of outlines and edges; NaN without edges.
    fields : residuals of all frames by plane.

    """

    before_px: FloatArray
    after_px: FloatArray
    fields: Mapping[PlaneName, ResidualField]


def left_out(unknowns: Unknowns, adjusted: Adjusted, by_stored: Sequence[Observed]) -> LeftOut:
    """Cross-validate an adjustment with five folds.

    Its frames ``by_stored`` are registered by the stored cameras. A time between the planes counts for both, where
    cameras are free too: the question is then which cameras are better.
    """
    stored = np.where(unknowns.is_time, adjusted.values, 0) if unknowns.is_free_camera.any() else 0 * adjusted.values
    misfits_px = np.full((2, len(adjusted.observed)), np.nan)
    sums = {plane: np.zeros((2, CELLS, CELLS, 6)) for plane in unknowns.planes}
    for fold in range(_FOLDS):
        of_fold = range(fold, len(adjusted.observed), _FOLDS)
        without = adjusted.values_without(of_fold)
        for n in of_fold:
            starts = ((by_stored[n], 0 * stored), (adjusted.observed[n], adjusted.values))
            before = min((registered_by(one, unknowns, at, stored) for one, at in starts), key=_rank)
            after = registered_by(adjusted.observed[n], unknowns, adjusted.values, without)
            for row, seen in enumerate((before, after)):
                by_plane = seen.residuals()
                misfits_px[row, n] = _misfit_px(by_plane)
                for plane, of_plane in by_plane.items():
                    for own in of_plane:
                        add_residuals(sums[plane][row], own, seen.levels[plane].first_px, seen.size(plane))
    fields = {plane: _field(adjusted.observed[0], plane, of_plane) for plane, of_plane in sums.items()}
    return LeftOut(misfits_px[0], misfits_px[1], fields)


def _rank(observed: Observed) -> float:
    """Its misfit, the worst without edges."""
    misfit_px = _misfit_px(observed.residuals())
    return misfit_px if np.isfinite(misfit_px) else np.inf


def _misfit_px(by_plane: Mapping[PlaneName, Sequence[Residuals]]) -> float:
    """Median distance of outlines and edges, mean of implants and planes."""
    found = [np.abs(own.residual_px) for of_plane in by_plane.values() for own in of_plane]
    medians = [np.nanmedian(each) for each in found if np.isfinite(each).any()]
    return float(np.mean(medians)) if medians else float("nan")


def add_residuals(sums: FloatArray, own: Residuals, first_px: IndexArray, shape: tuple[int, int]) -> None:
    """Add normal equations of each cell's displacement to sums (CELLS, CELLS, 6); the last is a number of pieces.

    Pixels are counted from ``first_px``, (column, row), of an image of this shape.
    """
    weight = own.weights()
    used = weight > 0
    px, (x, y), residual_px = own.pieces.px[used] + first_px, own.pieces.normals[used].T, own.residual_px[used]
    column, row = np.clip((px + 0.5) / (shape[1], shape[0]) * CELLS, 0, CELLS - 1).astype(int).T
    columns = np.stack([x * x, x * y, y * y, x * residual_px, y * residual_px], axis=1) * weight[used, None]
    np.add.at(sums, (row, column), np.column_stack([columns, np.ones(len(px))]))


def _field(observed: Observed, plane: PlaneName, sums: FloatArray) -> ResidualField:
    before, after = ([[displacement_px(cell) for cell in row] for row in of_row] for of_row in sums)
    pixel_mm = observed.levels[plane].view.pixel_mm
    return {"pixel_mm": pixel_mm.tolist(), "before": before, "after": after}


def displacement_px(sums: FloatArray) -> list[float] | None:
    """Displacement (x, y) of a cell from its sums (6,), px; None where there is hardly any outline."""
    xx, xy, yy, x, y, pieces = sums
    if pieces < _LEAST_PIECES:
        return None
    inverse = np.linalg.pinv(np.array([[xx, xy], [xy, yy]]), rcond=_PARALLEL, hermitian=True)
    return [round(float(value), 4) for value in inverse @ (x, y)]
