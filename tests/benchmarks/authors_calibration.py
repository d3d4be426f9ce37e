"""The authors' fit of a distortion, compared with ours: ``python -m tests.benchmarks.authors_calibration``.

Written from a description of their recipe, for comparison only. Bead centres come from OpenCV's Hough circles on
Canny edges, to whole pixels; which bead is which is given here, where they register point sets; Powell's method
minimises the mean squared distance over the 32 coefficients, evaluating the polynomial as its formula reads at every
step. In units of 150 mm, which is kinder to Powell than mm are, it ends at their published residual.
"""

from collections.abc import Iterator
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial import Delaunay, KDTree

from tests.benchmarks.table import Row, cpu_s
from tests.fixtures.phantoms import grid_beads_mm
from veriserum_hf.calibration.bead_grid import fit_bead_grid
from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.calibration.distortion_map import RAW_HEIGHT_PX, RAW_WIDTH_PX
from veriserum_hf.simulation.calibrations import grid_transmission, random_distortion
from veriserum_hf.simulation.imaging import Imaging
from veriserum_hf.simulation.intensifier import read_out

FloatArray = NDArray[np.float64]
_UNIT_MM = 150.0
_FRAMES = 3


def fit(frame: NDArray[np.uint8], beads_px: FloatArray, beads_mm: FloatArray) -> tuple[Distortion, float]:
    """Distortion of a frame whose beads (n, 2) in mm are near ``beads_px`` (n, 2), and the residual, mm RMS."""
    circles = cv2.HoughCircles(frame, cv2.HOUGH_GRADIENT, 1, 20, param1=100, param2=8, minRadius=3, maxRadius=6)
    found_px = circles[0, :, :2].astype(np.float64)
    off_px, nearest = KDTree(found_px).query(beads_px)
    xy_px, xy_mm = found_px[nearest[off_px < 4]] * (1, -1), beads_mm[off_px < 4]
    slope, offset = np.polyfit(xy_px @ (1, 1j), xy_mm @ (1, 1j), 1)
    scale, phase = abs(slope), slope / abs(slope)
    rotation = np.array([[phase.real, -phase.imag], [phase.imag, phase.real]])
    u, v = (scale * xy_px @ rotation.T + (offset.real, offset.imag)).T / _UNIT_MM

    def residuals_mm(coefficients: FloatArray) -> FloatArray:
        x, y = np.zeros_like(u), np.zeros_like(v)
        for i in range(4):
            for j in range(4):
                x = x + coefficients[4 * i + j] * u**i * v**j
                y = y + coefficients[16 + 4 * i + j] * u**i * v**j
        return np.stack([x, y], axis=1) - xy_mm

    start = np.zeros(32)
    start[[4, 17]] = _UNIT_MM
    result = minimize(lambda c: (residuals_mm(c) ** 2).sum(axis=1).mean(), start, method="Powell").x
    per_mm = np.array([_UNIT_MM ** -(i + j) for i in range(4) for j in range(4)])
    distortion = Distortion(
        tuple(result[:16] * per_mm),
        tuple(result[16:] * per_mm),
        float(scale),
        (float(offset.real), float(offset.imag)),
        tuple(rotation.ravel().tolist()),
    )
    return distortion, float(np.sqrt((residuals_mm(result) ** 2).sum(axis=1).mean()))


def map_error_mm(fitted: Distortion, true: Distortion, beads_px: FloatArray) -> float:
    """Root mean square distance between two maps of raw px within the beads' hull, every 16 px."""
    x, y = np.meshgrid(np.arange(0, RAW_WIDTH_PX, 16.0), np.arange(0, RAW_HEIGHT_PX, 16.0))
    xy_px = np.stack([x.ravel(), y.ravel()], axis=1)
    xy_px = xy_px[Delaunay(beads_px).find_simplex(xy_px) >= 0]
    return float(np.sqrt(((fitted.to_mm(xy_px) - true.to_mm(xy_px)) ** 2).sum(axis=1).mean()))


def comparison() -> Iterator[Row]:
    """Both fits on the same frames, at grey noise 6."""
    beads_mm, imaging = grid_beads_mm(), Imaging(bright_level=0.85, quanta_per_pixel=200)
    through, figures = grid_transmission(imaging, RAW_HEIGHT_PX), []
    for seed in range(_FRAMES):
        rng = np.random.default_rng(seed)
        true = random_distortion(rng)
        frame = read_out(
            through, imaging.screen_blur_mm, true, imaging, rng, height_px=RAW_HEIGHT_PX, bit_depth=8
        ).astype(np.uint8)
        beads_px = true.to_px(beads_mm)
        seen = np.isfinite(beads_px).all(axis=1)
        ours = fit_bead_grid(frame)
        theirs: list[tuple[Distortion, float]] = []
        ours_s = cpu_s(lambda frame=frame: fit_bead_grid(frame), 3)
        given = frame, beads_px[seen], beads_mm[seen]
        theirs_s = cpu_s(lambda theirs=theirs, given=given: theirs.append(fit(*given)))
        errors = (map_error_mm(d, true, ours.beads_px) for d in (ours.distortion, theirs[0][0]))
        figures.append((ours_s, theirs_s, *errors, ours.residual_mm_rms, theirs[0][1]))
    ours_s, theirs_s, ours_mm, theirs_mm, ours_rms, theirs_rms = (median(f) for f in zip(*figures, strict=True))
    both = f"Bead-grid frames, noise 6, {_FRAMES} of them"
    times = f"{ours_s:.2f} CPU-s against {theirs_s:.1f}: {theirs_s / ours_s:.0f} times faster"
    yield Row(f"{both}: time of a fit", times, "at most 1 CPU-s, 20 times", ours_s <= 1 and theirs_s >= 20 * ours_s)
    errors = f"{ours_mm:.4f} mm against {theirs_mm:.4f}: {theirs_mm / ours_mm:.1f} times better"
    met = ours_mm <= 0.005 and theirs_mm >= 3 * ours_mm
    yield Row(f"{both}: error of the map within the beads' hull", errors, "at most 0.005 mm, 3 times", met)
    residuals = f"{ours_rms:.4f} mm against {theirs_rms:.4f}"
    yield Row(f"{both}: residual", residuals, "at most 0.02 mm", ours_rms <= 0.02)


if __name__ == "__main__":
    for row in comparison():
        print(f"{row.what}: {row.measured} (required: {row.required}){'' if row.met else ' MISSED'}", flush=True)
