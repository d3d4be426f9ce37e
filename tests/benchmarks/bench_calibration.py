"""Fits of distortions, sources and rigs against what is required: ``python -m tests.benchmarks.bench_calibration``.

Everything is simulated, so that the truth is known; the number of frames is stated with each figure.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import authors_calibration
from tests.benchmarks.table import Row, cpu_s, write_table
from tests.fixtures.calibrations import (
    NOISE_MM,
    START,
    RandomGrid,
    drawn_rig,
    farthest_from_its_index_mm,
    fs_errors,
    map_error_mm,
    observed,
    source_errors,
    triangulation_errors_mm,
)
from tests.fixtures.phantoms import BEAD_PITCH_MM, BEADS_PER_SIDE
from veriserum_hf.calibration.bead_grid import GridFit, fit_bead_grid
from veriserum_hf.calibration.observations import pair_frames
from veriserum_hf.calibration.source import fit_rig, fit_source
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry.rig import NOMINAL_T_WORLD_FS, DualPlaneRig
from veriserum_hf.simulation.calibrations import moved_fs
from veriserum_hf.simulation.marker_phantom import observe_markers, phantom_poses

FloatArray = NDArray[np.float64]

_GRIDS = 100
_LABORATORIES, _SOURCE_FRAMES = 50, 480
_RIGS, _RIG_FRAMES = 50, 100
_WRONG_MM, _WRONG_DEG = 2.0, 0.5  # nominal inter-plane pose
_PHANTOM_NOISE_MM = 0.014  # how well the beads of a drawn frame are measured


class _Grid(NamedTuple):
    """How a fit to one random frame came out."""

    noise: int
    found: float  # part of the beads that are there and in the field, fitted under their own index
    residual_mm: float
    map_error_mm: float
    cpu_s: float
    wrong: bool


def _graded(grid: RandomGrid) -> _Grid | None:
    """Fit a random frame and compare it with the truth; None where it is refused."""
    frame, fits = grid.frame(), list[GridFit]()
    try:
        seconds = cpu_s(lambda: fits.append(fit_bead_grid(frame)))
    except CalibrationError:
        return None
    (fit,) = fits
    there = grid.beads_mm[grid.visible(grid.beads_mm)]
    index = np.rint(there / BEAD_PITCH_MM + (BEADS_PER_SIDE - 1) / 2).astype(int)
    fitted = set(map(tuple, fit.beads_index.tolist()))
    # Beads are 7 mm apart: one under another's index is off by more than 6.
    wrong = farthest_from_its_index_mm(fit, grid.distortion, grid.degrees) > 0.5 or grid.turn_error_deg(fit) > 4
    return _Grid(
        grid.noise,
        float(np.mean([tuple(place) in fitted for place in index.tolist()])),
        fit.residual_mm_rms,
        map_error_mm(fit, grid.distortion, grid.degrees),
        seconds,
        wrong,
    )


def grids(count: int = _GRIDS) -> Iterator[Row]:
    """Random distortions, any rotation, up to 5 % of the beads missing; half of the frames at either noise."""
    drawn = [RandomGrid.drawn(seed) for seed in range(count)]
    graded = [_graded(grid) for grid in drawn]
    fits = [grade for grade in graded if grade]
    refused = [grid.shows_its_rotation for grid, grade in zip(drawn, graded, strict=True) if grade is None]
    wrong = sum(grade.wrong for grade in fits)
    what = f"{count} random bead-grid frames, any rotation, 0-5 % of beads missing"
    outcome = (
        f"{wrong} wrong, {len(refused)} refused; the rotation of {len(refused) - sum(refused)} of these is ambiguous"
    )
    yield Row(f"{what}: wrongly indexed", outcome, "0 wrong, others not refused", wrong == 0 and not any(refused))
    least = min(grade.found for grade in fits)
    average = np.mean([grade.found for grade in fits])
    measured = f"{average:.2%} on average, {least:.2%} at least"
    yield Row(f"{len(fits)} of them: visible beads found and indexed", measured, "at least 99 %", least >= 0.99)
    for noise, residual_mm, error_mm in ((6, 0.02, 0.005), (12, 0.04, 0.008)):
        of_noise = [grade for grade in fits if grade.noise == noise]
        which = f"{len(of_noise)} of them, noise {noise}"
        yield _median_and_most(f"{which}: residual", [g.residual_mm for g in of_noise], residual_mm)
        yield _median_and_most(f"{which}: map error in the hull", [g.map_error_mm for g in of_noise], error_mm)
    seconds = [grade.cpu_s for grade in fits]
    measured = f"{np.median(seconds):.2f} CPU-s, {max(seconds):.2f} at most"
    yield Row(f"{len(fits)} of them: time of a fit", measured, "at most 1 CPU-s", max(seconds) <= 1)


def _median_and_most(what: str, values_mm: list[float], limit_mm: float) -> Row:
    measured = f"{np.median(values_mm):.4f} mm, {max(values_mm):.4f} at most"
    return Row(f"{what}, RMS", measured, f"at most {limit_mm:g} mm", max(values_mm) <= limit_mm)


def sources(count: int = _LABORATORIES, frames: int = _SOURCE_FRAMES) -> Iterator[Row]:
    """One plane, rough start, exact projections with noise of 0.1 px."""
    errors, deviations = [], []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        plane = drawn_rig(rng)["bs"]
        fit = fit_source([observe_markers(plane, T, NOISE_MM, rng) for T in phantom_poses(frames, rng)], START["bs"])
        errors.append(source_errors(fit.plane, plane))
        deviations.append(fit.standard_deviations)
    h_v_sid_mm = np.abs(errors)
    principal_mm, sid_mm = np.hypot(*h_v_sid_mm[:, :2].T), h_v_sid_mm[:, 2]
    what = f"Source, {count} runs of {frames} frames, noise 0.1 px"
    yield _percentile(f"{what}: error of the principal point", principal_mm, 0.3)
    yield _percentile(f"{what}: error of the SID", sid_mm, 1.0)
    yield _coverage(f"{what}: true values in the 95 % intervals", h_v_sid_mm, np.array(deviations))


def _percentile(what: str, errors_mm: FloatArray, limit_mm: float) -> Row:
    most = float(np.percentile(errors_mm, 99))
    measured = f"{most:.3f} mm in 99 %, median {np.median(errors_mm):.3f}"
    return Row(what, measured, f"at most {limit_mm:g} mm in 99 %", most <= limit_mm)


def _coverage(what: str, errors: FloatArray, deviations: FloatArray) -> Row:
    covered = float(np.mean(np.abs(errors) < 1.96 * deviations))
    return Row(f"{what} ({errors.size} of them)", f"{covered:.1%}", "90 to 99 %", 0.90 <= covered <= 0.99)


def rigs(count: int = _RIGS, frames: int = _RIG_FRAMES) -> Iterator[Row]:
    """Both planes, started from the nominal pose, with noise of 0.1 px."""
    errors, deviations = [], []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        T_world_fs = moved_fs(rng.normal(0, 1.2, 3), rng.normal(0, 0.3, 3))
        truth = drawn_rig(rng, T_world_fs)
        seen = observed(truth, phantom_poses(frames, rng), rng)
        fit = fit_rig(pair_frames(seen["bs"], seen["fs"]), START)
        both = [source_errors(fit.rig[plane], truth[plane]) for plane in ("bs", "fs")]
        errors.append(np.concatenate([*both, fs_errors(fit, T_world_fs)]))
        deviations.append(fit.standard_deviations)
    every = np.array(errors)
    shift_mm, rotation_deg = (np.linalg.norm(every[:, columns], axis=1) for columns in (slice(6, 9), slice(9, 12)))
    what = f"Rig, {count} runs of {frames} dual-plane frames, noise 0.1 px"
    for name, values, limit, unit in (("shift", shift_mm, 0.2, "mm"), ("rotation", rotation_deg, 0.05, "degrees")):
        measured = f"{np.median(values):.4f} {unit}, {values.max():.4f} at most"
        label = f"{what}: error of the fs intensifier's {name}"
        yield Row(label, measured, f"at most {limit:g} {unit}", bool(values.max() <= limit))
    yield _coverage(f"{what}: true values in the 95 % intervals", every, np.array(deviations))


def triangulation(frames: int = 40) -> Iterator[Row]:
    """Points of the common field by the nominal rig, and by the one that was fitted."""
    rng = np.random.default_rng(4)
    shift, axis = (direction / np.linalg.norm(direction) for direction in rng.normal(size=(2, 3)))
    truth = drawn_rig(rng, moved_fs(_WRONG_MM * shift, _WRONG_DEG * axis))
    nominal = DualPlaneRig(truth["bs"], replace(truth["fs"], T_world_intensifier=NOMINAL_T_WORLD_FS))
    seen = observed(truth, phantom_poses(frames, rng), rng, noise_mm=_PHANTOM_NOISE_MM)
    fit = fit_rig(pair_frames(seen["bs"], seen["fs"]), nominal)
    before_mm, after_mm = (triangulation_errors_mm(rig, truth) for rig in (nominal, fit.rig))
    what = (
        f"Triangulation of {len(before_mm)} points, nominal pose wrong by {_WRONG_MM:g} mm and {_WRONG_DEG:g} degrees"
    )
    measured = (
        f"median {np.median(before_mm):.3f} mm before, {np.median(after_mm):.3f} after; at most "
        f"{before_mm.max():.3f}, {after_mm.max():.3f}"
    )
    better = bool(np.median(after_mm) < 0.1 * np.median(before_mm))
    yield Row(f"{what}, then fitted to {frames} dual-plane frames", measured, "after: a tenth of before", better)


def every_row() -> Iterator[Row]:
    """The table, row by row as it is measured."""
    yield from grids()
    yield from authors_calibration.comparison()
    yield from sources()
    yield from rigs()
    yield from triangulation()


def main() -> None:
    """Measure, print, and write the table."""
    cv2.setNumThreads(1)
    sentence = "simulated frames of 1664 x 1600 px; markers at their exact projections, with noise along each axis"
    write_table("Calibration", every_row(), sentence, Path(__file__).with_name("RESULTS_CALIBRATION.md"))


if __name__ == "__main__":
    main()
