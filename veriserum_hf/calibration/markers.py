"""The marker phantom's beads in a raw frame: found, measured and named.

Dark, round spots are found where the image is darker than on both sides in every direction; the shadow of the
phantom's wall, dark in one direction only, is ignored. Each is then measured by fitting a blurred disc on a curved
background. (The shadow of a sphere is an ellipse whose centre lies off the projected centre of the sphere by some
1e-4 mm here; that is neglected.)
"""

from typing import NamedTuple

import cv2
import numpy as np
from scipy.special import erfc

from veriserum_hf.calibration.distortion_map import RAW_HEIGHT_PX, RAW_WIDTH_PX, DistortionMap
from veriserum_hf.calibration.naming import name_beads
from veriserum_hf.calibration.observations import Observation
from veriserum_hf.calibration.phantom_files import CYLINDER, load_marker_phantom
from veriserum_hf.calibration.phantoms import MarkerPhantom
from veriserum_hf.core import BoolArray, FloatArray, Grey, ImageArray, IndexArray
from veriserum_hf.geometry import Plane

# Lengths are pixels of a 1664 x 1600 frame, 0.225 mm.
_CLOSED_PX = 37.0  # longer than the shadow of a large bead near the source
_DIRECTIONS = 8
_SMOOTHING_PX = 1.5
_LEAST_CONTRAST = 0.35
_DARK = 0.02  # of the brightest background: below it there is no field
_RADIUS_PX = (3.0, 20.0)
_MARKER_MM, _MM_PER_PX, _STEP = 2.0, 0.2255, 1.25  # of the phantom and the scale that these hold for
_EDGE_PX = 1.4  # blur of screen, source and optics, standard deviation
_SURROUND_PX = 7.0  # background that is fitted around a spot
_FIT_STEPS = 10


class Spots(NamedTuple):
    """Round, dark spots of a frame: centres (n, 2) as (x, y) and radii (n,), in pixels of the frame."""

    centers_px: FloatArray
    radii_px: FloatArray


def find_markers(
    frame: Grey, distortion: DistortionMap, plane_start: Plane, phantom: MarkerPhantom | None = None
) -> Observation:
    """Find and name the marker phantom's beads in a raw frame.

    Parameters
    ----------
    frame : (rows, columns) uint8 or uint16 of any pixel size; it is assumed to show the whole raw field.
    distortion : of the intensifier.
    plane_start : the plane, roughly: within some 20 mm of principal point and a few per cent of distance.
    phantom : in the frame; if None, this package's own.

    Raises
    ------
    CalibrationError
        If no phantom is recognised in the frame, see `name_beads`.
    ValueError
        If the frame is not one grey channel of uint8 or uint16.

    """
    if frame.ndim != 2 or frame.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"expected a (rows, columns) frame of uint8 or uint16, got shape {frame.shape} of {frame.dtype}"
        )
    phantom = phantom or load_marker_phantom(CYLINDER)
    spots = find_spots(frame, _relative_size(distortion, phantom))
    per_px = np.array([RAW_WIDTH_PX / frame.shape[1], RAW_HEIGHT_PX / frame.shape[0]])
    centers_px = (spots.centers_px + 0.5) * per_px - 0.5
    reach_px = np.column_stack([spots.radii_px * per_px[0], np.zeros(len(centers_px))])
    width_mm = distortion.to_mm(centers_px + reach_px) - distortion.to_mm(centers_px - reach_px)
    detector_mm = distortion.to_mm(centers_px)
    named = name_beads(detector_mm, np.linalg.norm(width_mm, axis=1) / 2, plane_start, phantom)
    return Observation(phantom.markers_mm[named.beads], detector_mm[named.spots])


def _relative_size(distortion: DistortionMap, phantom: MarkerPhantom) -> float:
    """Size of a phantom's markers in raw px over that of this package's, in steps of a quarter: limits are rough."""
    (x0, _), (x1, _) = distortion.to_mm(
        [(RAW_WIDTH_PX / 2 - 50, RAW_HEIGHT_PX / 2), (RAW_WIDTH_PX / 2 + 50, RAW_HEIGHT_PX / 2)]
    )
    ratio = float(np.median(phantom.diameters_mm)) / _MARKER_MM * _MM_PER_PX / (abs(x1 - x0) / 100)
    return float(_STEP ** np.rint(np.log(ratio) / np.log(_STEP)))


def find_spots(frame: Grey, size: float = 1.0) -> Spots:
    """Find round, dark spots as small as the shadows of the phantom's beads, and measure them.

    ``size`` is that of the beads in the frame over that of this package's marker phantom.
    """
    scale = frame.shape[0] / RAW_HEIGHT_PX
    half = cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.float32)
    dark = (_contrast(half, scale / 2, size) > _LEAST_CONTRAST).astype(np.uint8)
    _, labels, stats, centers = cv2.connectedComponentsWithStats(dark, connectivity=8)
    width, height, area = (stats[:, field].astype(np.float64) for field in (2, 3, 4))
    radii_px: FloatArray = 2 * np.sqrt(area / np.pi)
    low_px, high_px = (limit * scale * size for limit in _RADIUS_PX)
    is_round = (np.maximum(width, height) <= 1.35 * np.minimum(width, height) + 1) & (area > 0.6 * width * height)
    is_round &= (radii_px > low_px) & (radii_px < high_px)
    is_round[0] = False  # the bright background
    chosen = np.flatnonzero(is_round)
    if not len(chosen):
        return Spots(np.empty((0, 2)), np.empty(0))
    grown = cv2.dilate(labels.astype(np.float32), np.ones((5, 5)))
    return _fitted(
        frame, grown, chosen, Spots(2.0 * np.asarray(centers[chosen], np.float64) + 0.5, radii_px[chosen]), scale
    )


def _contrast(image: ImageArray, scale: float, size: float) -> ImageArray:
    """How much darker an image is than what lies on both sides, in the direction where that is least."""
    smooth = cv2.GaussianBlur(image, (0, 0), _SMOOTHING_PX * scale)
    reach = int(np.ceil(_CLOSED_PX * scale * size / 2))
    background = np.full_like(smooth, np.inf)
    for angle in np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS:
        x, y = (round(reach * part) for part in (np.cos(angle), np.sin(angle)))
        line = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
        cv2.line(line, (reach - x, reach - y), (reach + x, reach + y), (1,))
        np.minimum(background, cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, line), out=background)
    lit = background > _DARK * background.max()
    return np.where(lit, 1 - smooth / np.maximum(background, 1e-6), 0)


def _fitted(frame: Grey, labels: ImageArray, own: IndexArray, rough: Spots, scale: float) -> Spots:
    """Gauss-Newton on background(x, y) (1 - depth disc(x - x0, y - y0, radius)), all spots at once.

    ``labels`` give, on a grid of half as many pixels, the spot of each dark pixel; ``own`` is each spot's own label.
    """
    centers_px, radii_px = rough
    reach = int(np.ceil(radii_px.max() + _SURROUND_PX * scale))
    offset, corner = np.arange(-reach, reach + 1), np.rint(centers_px).astype(np.intp)
    rows = np.clip(corner[:, 1, None] + offset, 0, frame.shape[0] - 1)[:, :, None]
    columns = np.clip(corner[:, 0, None] + offset, 0, frame.shape[1] - 1)[:, None, :]
    patches = frame[rows, columns].reshape(len(own), -1).astype(np.float64)
    half_rows, half_columns = (
        np.minimum(index // 2, size - 1) for index, size in zip((rows, columns), labels.shape, strict=True)
    )
    there = labels[half_rows, half_columns].reshape(len(own), -1)
    y, x = (axis.ravel().astype(np.float64) for axis in np.meshgrid(offset, offset, indexing="ij"))
    weight = np.hypot(x, y) < radii_px[:, None] + _SURROUND_PX * scale
    weight &= (there == 0) | (there == own[:, None])
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1) / reach ** np.array([0, 1, 1, 2, 2, 2])

    initial = np.column_stack([centers_px - corner, radii_px, np.full(len(own), 0.8)])
    shape, step = initial.copy(), np.zeros_like(initial)
    most = scale * np.array([2, 2, 2, 0.3 / scale])
    edge_px = _EDGE_PX * scale
    for _ in range(_FIT_STEPS):
        x0, y0, radius, depth = shape.T[:, :, None]
        dx, dy = x - x0, y - y0
        distance = np.maximum(np.hypot(dx, dy), 1e-6)
        beyond = (distance - radius) / (np.sqrt(2) * edge_px)
        disc, rim = 0.5 * erfc(beyond), np.exp(-(beyond**2)) / (np.sqrt(2 * np.pi) * edge_px)
        design = (1 - depth * disc)[..., None] * terms
        coefficients = _solved(design, patches, weight)
        background = coefficients @ terms.T
        by_radius = -background * depth * rim
        by_shape = [by_radius * dx / distance, by_radius * dy / distance, by_radius, -background * disc]
        residual = patches - (design @ coefficients[..., None])[..., 0]
        step = _solved(np.concatenate([np.stack(by_shape, axis=2), design], axis=2), residual, weight)[:, :4]
        shape += np.clip(step, -most, most)
        shape[:, 2] = np.clip(shape[:, 2], 0.5 * scale, reach)
    off = np.abs(shape - initial)
    good = (np.abs(step[:, :2]) < 0.02 * scale).all(axis=1) & (off[:, :2] < 2 * scale).all(axis=1)
    good &= (off[:, 2] < 0.4 * radii_px) & (shape[:, 3] > 0.4) & (shape[:, 3] < 1.2)
    return Spots((corner + shape[:, :2])[good], shape[good, 2])


def _solved(design: FloatArray, values: FloatArray, weight: BoolArray) -> FloatArray:
    """Weighted least squares, many at once: (n, p, k), (n, p), (n, p) to (n, k)."""
    weighted = (design * weight[..., None]).swapaxes(1, 2)
    normal = weighted @ design
    normal += (1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-12) * np.eye(design.shape[2])
    return np.asarray(np.linalg.solve(normal, weighted @ values[..., None])[..., 0], dtype=np.float64)
