"""Lead beads in a raw frame: where the round field is, where beads are in it, and their centres to sub-pixels.

A bead of a phantom is opaque and its shadow round, so all of them look the same except for brightness: they are
detected by normalised cross-correlation with a disc, which vignetting does not affect, and their centres are then
fitted with the disc's blurred shadow on a background that slopes.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.special import erfc

from veriserum_hf.calibration.distortion import RAW_HEIGHT_PX, RAW_WIDTH_PX
from veriserum_hf.calibration.phantoms import BEAD_DIAMETER_MM
from veriserum_hf.core import BoolArray, FloatArray, Grey, ImageArray
from veriserum_hf.errors import CalibrationError

NOMINAL_MM_PER_PX = 0.2255  # of a 1664 x 1600 frame; the published calibrations have 0.222 to 0.232
_BLUR_MM = 0.24  # standard deviation of a bead's edge: an average intensifier's; a centre hardly depends on it
_WORKING_WIDTH_PX = 832  # beads are looked for in a frame made about so small
_LIKENESS = 0.5  # correlation with a disc; noise alone stays below
_CONTRAST = 0.25  # least part of the light that a bead absorbs
_FIELD_LEVEL = 0.03  # of the brightest light; the field's rim has more, the ring around it is separate
_SATURATED = 0.05  # part of a frame's pixels that may share the highest grey level
_STEPS = 5


@dataclass(frozen=True)
class Beads:
    """What was found in a frame; px are those of a 1664 x 1600 frame of the same field.

    Attributes
    ----------
    center_px : (n, 2) x right, y down.
    std_px : (n,) standard deviation of a centre along either axis, by the noise around it.
    depth_px : (rows, columns) how far inside the field every pixel of a smaller frame lies; 0 outside.

    """

    center_px: FloatArray
    std_px: FloatArray
    depth_px: ImageArray

    def visible(self, xy_px: FloatArray) -> BoolArray:
        """Whether a bead centred at each of (n, 2) raw px would lie wholly within the field."""
        shape_px = np.array(self.depth_px.shape[::-1])
        at = np.rint((xy_px + 0.5) * (shape_px / (RAW_WIDTH_PX, RAW_HEIGHT_PX)) - 0.5)
        inside = np.asarray(((at >= 0) & (at < shape_px)).all(axis=1))
        column, row = np.where(inside[:, None], at, 0).astype(np.intp).T
        needed_px = (BEAD_DIAMETER_MM / 2 + 2 * _BLUR_MM) / NOMINAL_MM_PER_PX
        return np.asarray(inside & (self.depth_px[row, column] >= needed_px))


def find_beads(frame: Grey) -> Beads:
    """Find every lead bead that lies wholly within the field of a raw frame.

    Parameters
    ----------
    frame : (rows, columns) uint8 or uint16; any size in the proportions of 1664 x 1600, whose field it shows.

    Raises
    ------
    CalibrationError
        If the array is not such a frame, blank, or saturated.

    """
    _check(frame)
    factor = max(1, frame.shape[1] // _WORKING_WIDTH_PX)
    levels = frame.astype(np.float32)
    small_shape = (frame.shape[1] // factor, frame.shape[0] // factor)
    small: ImageArray = cv2.resize(levels, small_shape, interpolation=cv2.INTER_AREA)
    small_per_raw = small.shape[1] / RAW_WIDTH_PX
    radius_px = BEAD_DIAMETER_MM / 2 / NOMINAL_MM_PER_PX * small_per_raw
    field = _field(small, radius_px)
    rough = _disc_like(small, field, radius_px)
    depth = cv2.distanceTransform(np.pad(field, 1), cv2.DIST_L2, 5)[1:-1, 1:-1] / small_per_raw
    to_frame = np.array(frame.shape[::-1]) / small_shape
    shown = cv2.resize(field, frame.shape[::-1], interpolation=cv2.INTER_NEAREST)
    center, std = _centers(
        levels, shown, (rough + 0.5) * to_frame - 0.5, NOMINAL_MM_PER_PX * RAW_WIDTH_PX / frame.shape[1]
    )
    to_raw = np.array([RAW_WIDTH_PX, RAW_HEIGHT_PX]) / frame.shape[::-1]
    beads = Beads((center + 0.5) * to_raw - 0.5, std * to_raw[0], depth)
    whole = beads.visible(beads.center_px)
    return Beads(beads.center_px[whole], beads.std_px[whole], depth)


def _check(frame: Grey) -> None:
    if frame.ndim != 2 or frame.dtype not in (np.uint8, np.uint16):
        raise CalibrationError(
            f"expected a grey (rows, columns) frame of uint8 or uint16, got shape {frame.shape} of {frame.dtype}; "
            "give the raw frame as the intensifier's file holds it"
        )
    height, width = frame.shape
    if height < 400 or abs(width / height * RAW_HEIGHT_PX / RAW_WIDTH_PX - 1) > 0.01:
        raise CalibrationError(
            f"a frame of {width} x {height} px cannot show the raw field: expected 1664 x 1600 px, or another size "
            "in these proportions of at least 400 rows; give the raw frame, neither cropped nor corrected"
        )
    highest = frame.max()
    if highest == frame.min():
        raise CalibrationError(f"the frame is blank: every pixel has grey level {highest}; take it again")
    share = np.count_nonzero(frame == highest) / frame.size
    if share > _SATURATED:
        raise CalibrationError(
            f"the frame is saturated: {share:.0%} of its pixels have the highest grey level, {highest}; take it "
            "again with less exposure"
        )


def _field(small: ImageArray, radius_px: float) -> ImageArray:
    """Mask of the lit field, uint8: 1 inside, beads closed."""
    width = 2 * round(1.5 * radius_px) + 3
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
    return field


def _disc_like(small: ImageArray, field: ImageArray, radius_px: float) -> FloatArray:
    """Places (n, 2) in a small frame's field that look like a dark disc, to about half a pixel."""
    reach = int(np.ceil(1.8 * radius_px + 1))
    along = np.arange(-reach, reach + 1, dtype=np.float64)
    disc = 1 - _shadow(np.hypot(along, along[:, None]), radius_px, _BLUR_MM * radius_px / (BEAD_DIAMETER_MM / 2))[0]
    padded = cv2.copyMakeBorder(small, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    likeness = cv2.matchTemplate(padded, disc.astype(np.float32), cv2.TM_CCOEFF_NORMED)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    peak = (likeness >= cv2.dilate(likeness, around)) & (likeness > _LIKENESS) & (field > 0)
    rows, columns = np.nonzero(peak)
    return np.stack([columns, rows], axis=1).astype(np.float64)


def _shadow(distance_px: FloatArray, radius_px: float, blur_px: float) -> tuple[FloatArray, FloatArray]:
    """Blurred shadow of an opaque disc, 1 at its centre and 0 far off, and its derivative by the distance."""
    off = (distance_px - radius_px) / (np.sqrt(2) * blur_px)
    return erfc(off) / 2, -np.exp(-(off**2)) / (np.sqrt(2 * np.pi) * blur_px)


def _centers(
    levels: ImageArray, shown: ImageArray, rough: FloatArray, mm_per_px: float
) -> tuple[FloatArray, FloatArray]:
    """Centres (n, 2) of the beads near rough ones, px of the frame, and their standard deviations (n,).

    The grey level around a bead at d is  b + g x - (a + g x) m(|x - d|),  m its shadow: the light behind it
    falls off linearly with g, and only constant stray light remains at its centre; all are blurred equally.
    Gauss-Newton on b, g, a and a d, every pixel weighted by its light, as for counted quanta. Candidates that are not
    beads are dropped.
    """
    radius_px = BEAD_DIAMETER_MM / 2 / mm_per_px
    blur_px = float(np.hypot(_BLUR_MM / mm_per_px, 0.29))  # and the mean over a pixel
    reach = int(np.ceil(radius_px + 3 * blur_px))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    x, y = (axis[np.hypot(x, y) <= reach] for axis in (x, y))
    margin = 2 * reach  # a centre may run off by a bead's radius
    levels, shown = np.pad(levels, margin), np.pad(shown, margin)
    center, solution = rough, np.tile([1.0, 0, 0, 0, 0, 0], (len(rough), 1))
    for _ in range(_STEPS):
        origin = np.rint(center).astype(np.intp)  # a window that is not centred would draw the bead its way
        d = center - origin
        at = (origin[:, 1, None] + y + margin, origin[:, 0, None] + x + margin)
        to_x, to_y = x - d[:, :1], y - d[:, 1:]
        distance = np.maximum(np.hypot(to_x, to_y), 1e-9)
        m, m_r = _shadow(distance, radius_px, blur_px)
        m_x, m_y = m_r * to_x / distance, m_r * to_y / distance
        slope_x, slope_y = x * (1 - m) - blur_px**2 * m_x, y * (1 - m) - blur_px**2 * m_y
        basis = np.stack([np.ones_like(m), slope_x, slope_y, -m, m_x, m_y], axis=1)
        taken = np.divide(solution[:, 3], solution[:, 0], where=solution[:, 0] > 0, out=np.zeros(len(rough)))
        weight = shown[at] / np.maximum(1 - taken[:, None] * m, 0.1)
        weighted = basis * weight[:, None]
        inverse = np.linalg.pinv(weighted @ basis.swapaxes(1, 2), hermitian=True)
        values = levels[at].astype(np.float64)
        solution = (inverse @ (weighted @ values[:, :, None]))[:, :, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.nan_to_num(solution[:, 4:] / solution[:, 3:4])
        center = np.clip(center + step, rough - radius_px, rough + radius_px)
    residual = values - (solution[:, None] @ basis)[:, 0]
    freedom = np.maximum((weight > 0).sum(axis=1) - 6, 1)
    variance = (weight * residual**2).sum(axis=1) / freedom * inverse[:, (4, 5), (4, 5)].mean(axis=1)
    is_bead = (solution[:, 3] > _CONTRAST * solution[:, 0]) & (np.abs(center - rough) < radius_px).all(axis=1)
    return center[is_bead], np.sqrt(variance[is_bead]) / solution[is_bead, 3]
