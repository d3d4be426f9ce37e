"""Spots of a grid phantom in a raw frame: where the field is, where spots are in it, and their centres to sub-pixels.

A bead of a phantom is opaque and its shadow round, so all of them look the same except for brightness: they are
detected by normalised cross-correlation with a disc, which vignetting does not affect, and their centres are then
fitted with the disc's blurred shadow on a background that slopes. The holes of a perforated plate are bright discs,
found in the same way.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from scipy.special import erfc

from veriserum_hf.calibration.phantoms import GridPhantom, RawFrame
from veriserum_hf.calibration.scale import lattice_pitch_px
from veriserum_hf.core import BoolArray, FloatArray, Grey, ImageArray
from veriserum_hf.errors import CalibrationError

# Spots are looked for in a frame made so small that radius and pitch are no smaller than this.
_WORKING_RADIUS_PX, _WORKING_PITCH_PX = 2.217, 10.0
_LEAST_RADIUS_PX, _LEAST_PITCH_PX = 1.0, 5.0  # in the frame
_LEAST_FRAME_PX = 200
_LIKENESS = 0.5  # correlation with a disc; noise alone stays below
_CONTRAST = 0.25  # least part of the light that a bead, or the plate around a hole, absorbs
_FIELD_LEVEL = 0.03  # of the brightest light; the field's rim has more, the ring around it is separate
_SATURATED = 0.05  # part of a frame's pixels that may share the highest grey level
_DARKEST = 10.0  # so many times brighter a hole counts at most, when its pixels are weighted
_BLURS_PX = (0.4, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
_SHARPEST, _PIXEL_BLUR_PX = 0.6, 0.29  # of the radius; of the mean over a pixel
_SAMPLE = 150  # spots that the blur is estimated from
_STEPS = 5
_AT_ONCE = 2000  # spots fitted at once, for the memory


@dataclass(frozen=True)
class Beads:
    """What was found in a frame.

    Attributes
    ----------
    center_px : (n, 2) x right, y down, in px of a frame of ``size_px``.
    std_px : (n,) standard deviation of a centre along either axis, by the noise around it.
    depth_px : (rows, columns) how far inside the field every pixel of a smaller frame lies; 0 outside.
    size_px : columns and rows of the frame that px are counted in.
    mm_per_px : rough scale.
    needed_px : how far inside the field the centre of a whole spot lies.

    """

    center_px: FloatArray
    std_px: FloatArray
    depth_px: ImageArray
    size_px: tuple[int, int]
    mm_per_px: float
    needed_px: float

    def visible(self, xy_px: FloatArray) -> BoolArray:
        """Whether a spot centred at each of (n, 2) px would lie wholly within the field."""
        shape_px = np.array(self.depth_px.shape[::-1])
        at = np.rint((xy_px + 0.5) * (shape_px / self.size_px) - 0.5)
        inside = np.asarray(((at >= 0) & (at < shape_px)).all(axis=1))
        column, row = np.where(inside[:, None], at, 0).astype(np.intp).T
        return np.asarray(inside & (self.depth_px[row, column] >= self.needed_px))


class _Disc(NamedTuple):
    """A spot, in px of some frame."""

    radius_px: float
    pitch_px: float
    blur_px: float  # standard deviation of its edge
    bright: bool


def find_beads(frame: Grey, phantom: GridPhantom) -> Beads:
    """Find every bead or hole that lies wholly within the field of a raw frame.

    Parameters
    ----------
    frame : (rows, columns) uint8 or uint16, of any size; of a phantom with a ``raw_frame``, in its proportions.
    phantom : whose spots are to be found.

    Raises
    ------
    CalibrationError
        If the array is not such a frame, blank, or saturated, or if its spots are too small.

    """
    _check(frame, phantom.raw_frame)
    raw = phantom.raw_frame
    frame_size = (frame.shape[1], frame.shape[0])
    size_px = raw.size_px if raw else frame_size
    if raw:
        frame_mm_per_px = raw.mm_per_px * raw.size_px[0] / frame.shape[1]
    else:
        frame_mm_per_px = phantom.pitch_mm / lattice_pitch_px(frame)
    radius_px, pitch_px = phantom.diameter_mm / 2 / frame_mm_per_px, phantom.pitch_mm / frame_mm_per_px
    if not raw and (radius_px < _LEAST_RADIUS_PX or pitch_px < _LEAST_PITCH_PX):
        raise CalibrationError(
            f"the spots are too small: about {2 * radius_px:.1f} px wide and {pitch_px:.1f} px apart, expected at "
            f"least {2 * _LEAST_RADIUS_PX:g} and {_LEAST_PITCH_PX:g} px; check the phantom's pitch and diameter, and "
            "give the frame at its full size"
        )
    factor = max(1, int(min(radius_px / _WORKING_RADIUS_PX, pitch_px / _WORKING_PITCH_PX) + 1e-3))
    levels = frame.astype(np.float32)
    small: ImageArray = cv2.resize(
        levels, (frame.shape[1] // factor, frame.shape[0] // factor), interpolation=cv2.INTER_AREA
    )
    bright, small_per_frame = phantom.polarity == "bright", small.shape[1] / frame.shape[1]
    blur_px = raw.blur_mm / frame_mm_per_px if raw else max(0.25 * radius_px, 0.4)
    disc = _Disc(radius_px * small_per_frame, pitch_px * small_per_frame, blur_px * small_per_frame, bright)
    field = np.ones(small.shape, np.uint8) if phantom.field == "image" else _field(small, disc)
    rough = _disc_like(small, field, disc)
    rough = (rough + 0.5) * (np.array(frame_size) / small.shape[::-1]) - 0.5
    shown = cv2.resize(field, frame_size, interpolation=cv2.INTER_NEAREST)
    disc = _Disc(radius_px, pitch_px, float(np.hypot(blur_px, _PIXEL_BLUR_PX)), bright)
    if not raw:
        disc = _sharpened(levels, shown, rough, disc)
    center, std, _ = _centers(levels, shown, rough, disc)
    to_size = np.array(size_px) / frame_size
    whole_px = disc.radius_px if bright else radius_px + 2 * (blur_px if raw else disc.blur_px)
    depth = cv2.distanceTransform(np.pad(field, 1), cv2.DIST_L2, 5)[1:-1, 1:-1] / (small.shape[1] / size_px[0])
    beads = Beads(
        center_px=(center + 0.5) * to_size - 0.5,
        std_px=std * to_size[0],
        depth_px=depth,
        size_px=size_px,
        mm_per_px=frame_mm_per_px / to_size[0],
        needed_px=whole_px * to_size[0],
    )
    whole = beads.visible(beads.center_px)
    return replace(beads, center_px=beads.center_px[whole], std_px=beads.std_px[whole])


def _check(frame: Grey, raw: RawFrame | None) -> None:
    if frame.ndim != 2 or frame.dtype not in (np.uint8, np.uint16):
        raise CalibrationError(
            f"expected a grey (rows, columns) frame of uint8 or uint16, got shape {frame.shape} of {frame.dtype}; "
            "give the raw frame as the intensifier's file holds it"
        )
    height, width = frame.shape
    if raw and (height < 2 * _LEAST_FRAME_PX or abs(width / height * raw.size_px[1] / raw.size_px[0] - 1) > 0.01):
        raise CalibrationError(
            f"a frame of {width} x {height} px cannot show the raw field: expected {raw.size_px[0]} x "
            f"{raw.size_px[1]} px, or another size in these proportions of at least {2 * _LEAST_FRAME_PX} rows; give "
            "the raw frame, neither cropped nor corrected"
        )
    if min(height, width) < _LEAST_FRAME_PX:
        raise CalibrationError(
            f"a frame of {width} x {height} px is too small: expected at least {_LEAST_FRAME_PX} px along both axes; "
            "give the raw frame at its full size"
        )
    highest = frame.max()
    if highest == frame.min():
        raise CalibrationError(f"the frame is blank: every pixel has grey level {highest}; take it again")
    share = np.count_nonzero(frame == highest) / frame.size
    if raw and share > _SATURATED:
        raise CalibrationError(
            f"the frame is saturated: {share:.0%} of its pixels have the highest grey level, {highest}; take it "
            "again with less exposure"
        )


def _field(small: ImageArray, disc: _Disc) -> ImageArray:
    """Mask of the lit field, uint8: 1 inside, shadows of beads closed; around holes the convex hull of all light."""
    width = 2 * round(0.6 * disc.pitch_px if disc.bright else 1.5 * disc.radius_px) + 3
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    smooth = cv2.blur(small, (3, 3))
    dark, bright = np.percentile(smooth[::4, ::4], (0.5, 99))
    lit = (smooth > dark + _FIELD_LEVEL * (bright - dark)).astype(np.uint8)
    lit = np.pad(lit, width, mode="edge")  # so that closing does not stop at the frame's edge
    lit = cv2.morphologyEx(lit, cv2.MORPH_CLOSE, element)[width:-width, width:-width].copy()
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(lit)
    if count < 2:
        raise CalibrationError("no grid in the frame: nothing in it is lit; give a frame of the grid phantom")
    largest = 1 + statistics[1:, cv2.CC_STAT_AREA].argmax()
    field: ImageArray = (labels == largest).astype(np.uint8)
    if disc.bright:
        hull = cv2.convexHull(np.argwhere(field > 0)[:, ::-1].astype(np.int32))
        field = cv2.fillConvexPoly(np.zeros_like(field), hull, (1,))
    return field


def _disc_like(small: ImageArray, field: ImageArray, disc: _Disc) -> FloatArray:
    """Places (n, 2) in a small frame's field that look like a spot, to about half a pixel."""
    reach = int(np.ceil(1.8 * disc.radius_px + 1))
    reach = min(reach, max(int(disc.pitch_px / 2), int(np.ceil(disc.radius_px)) + 1))  # without its neighbours
    along = np.arange(-reach, reach + 1, dtype=np.float64)
    shadow = _shadow(np.hypot(along, along[:, None]), disc.radius_px, disc.blur_px)[0]
    template = (shadow if disc.bright else 1 - shadow).astype(np.float32)
    padded = cv2.copyMakeBorder(small, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    likeness = cv2.matchTemplate(padded, template, cv2.TM_CCOEFF_NORMED)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    peak = (likeness >= cv2.dilate(likeness, around)) & (likeness > _LIKENESS) & (field > 0)
    rows, columns = np.nonzero(peak)
    return np.stack([columns, rows], axis=1).astype(np.float64)


def _shadow(distance_px: FloatArray, radius_px: float, blur_px: float) -> tuple[FloatArray, FloatArray]:
    """Blurred shadow of an opaque disc, 1 at its centre and 0 far off, and its derivative by the distance."""
    off = (distance_px - radius_px) / (np.sqrt(2) * blur_px)
    return erfc(off) / 2, -np.exp(-(off**2)) / (np.sqrt(2 * np.pi) * blur_px)


def _sharpened(levels: ImageArray, shown: ImageArray, rough: FloatArray, disc: _Disc) -> _Disc:
    """The spot with the blur that describes those at the centre of the frame best."""
    off_px = np.hypot(*(rough - np.array(levels.shape[::-1]) / 2).T)
    sample = rough[np.argsort(off_px)[:_SAMPLE]]
    blurs_px = [blur_px for blur_px in _BLURS_PX if blur_px <= max(_SHARPEST * disc.radius_px, _BLURS_PX[0])]
    discs = [disc._replace(blur_px=float(np.hypot(blur_px, _PIXEL_BLUR_PX))) for blur_px in blurs_px]
    widest = discs[-1]  # all are judged by the same pixels
    return min(discs, key=lambda one: _centers(levels, shown, sample, one, _reach_px(widest))[2])


def _reach_px(disc: _Disc) -> int:
    """How far around a spot its pixels are used: without those of its neighbours."""
    reach_px = int(np.ceil(disc.radius_px + 3 * disc.blur_px))
    free_px = int(disc.pitch_px - disc.radius_px - disc.blur_px)
    return min(reach_px, max(free_px, int(np.ceil(disc.radius_px)) + 1))


def _centers(
    levels: ImageArray, shown: ImageArray, rough: FloatArray, disc: _Disc, reach_px: int | None = None
) -> tuple[FloatArray, FloatArray, float]:
    """Centres (n, 2) of the spots near rough ones, their standard deviations (n,), and the median misfit."""
    reach_px = _reach_px(disc) if reach_px is None else reach_px
    margin = 2 * max(reach_px, int(np.ceil(disc.radius_px)))  # a centre may run off by a bead's radius
    levels, shown = np.pad(levels, margin), np.pad(shown, margin)
    parts = [
        _fitted(levels, shown, rough[first : first + _AT_ONCE], disc, reach_px, margin)
        for first in range(0, max(len(rough), 1), _AT_ONCE)
    ]
    center, std, misfit = (np.concatenate(each) for each in zip(*parts, strict=True))
    return center, std, float(np.median(misfit)) if len(misfit) else np.inf


def _fitted(
    levels: ImageArray, shown: ImageArray, rough: FloatArray, disc: _Disc, reach: int, margin: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centres, standard deviations and misfits of the spots near some rough centres.

    The grey level around a bead at d is  b + g x - (a + g x) m(|x - d|),  m its shadow: the light behind it
    falls off linearly with g, and only constant stray light remains at its centre; all are blurred equally. Around a
    hole it is the light within that falls off:  b + (g x - a) m(|x - d|),  a negative.
    Gauss-Newton on b, g, a and a d, every pixel weighted by its light, as for counted quanta. Candidates that are not
    spots are dropped.
    """
    radius_px, _, blur_px, bright = disc
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    x, y = (axis[np.hypot(x, y) <= reach] for axis in (x, y))
    center, solution = rough, np.tile([1.0, 0, 0, 0, 0, 0], (len(rough), 1))
    for _ in range(_STEPS):
        origin = np.rint(center).astype(np.intp)  # a window that is not centred would draw the bead its way
        d = center - origin
        at = (origin[:, 1, None] + y + margin, origin[:, 0, None] + x + margin)
        to_x, to_y = x - d[:, :1], y - d[:, 1:]
        distance = np.maximum(np.hypot(to_x, to_y), 1e-9)
        m, m_r = _shadow(distance, radius_px, blur_px)
        m_x, m_y = m_r * to_x / distance, m_r * to_y / distance
        if bright:
            slope_x, slope_y = x * m + blur_px**2 * m_x, y * m + blur_px**2 * m_y
        else:
            slope_x, slope_y = x * (1 - m) - blur_px**2 * m_x, y * (1 - m) - blur_px**2 * m_y
        basis = np.stack([np.ones_like(m), slope_x, slope_y, -m, m_x, m_y], axis=1)
        taken = np.divide(solution[:, 3], solution[:, 0], where=solution[:, 0] > 0, out=np.zeros(len(rough)))
        weight = shown[at] / np.maximum(1 - np.maximum(taken, -_DARKEST)[:, None] * m, 0.1)
        weighted = basis * weight[:, None]
        inverse = np.linalg.pinv(weighted @ basis.swapaxes(1, 2), hermitian=True)
        values = levels[at].astype(np.float64)
        solution = (inverse @ (weighted @ values[:, :, None]))[:, :, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.nan_to_num(solution[:, 4:] / solution[:, 3:4])
        center = np.clip(center + step, rough - radius_px, rough + radius_px)
    residual = values - (solution[:, None] @ basis)[:, 0]
    freedom = np.maximum((weight > 0).sum(axis=1) - 6, 1)
    misfit = (weight * residual**2).sum(axis=1) / freedom
    variance = misfit * inverse[:, (4, 5), (4, 5)].mean(axis=1)
    depth = -solution[:, 3] if bright else solution[:, 3]
    light = solution[:, 0] + depth if bright else solution[:, 0]
    is_spot = (depth > _CONTRAST * light) & (np.abs(center - rough) < radius_px).all(axis=1)
    return center[is_spot], np.sqrt(variance[is_spot]) / depth[is_spot], misfit[is_spot] / light[is_spot] ** 2
