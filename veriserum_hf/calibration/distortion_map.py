"""What every form of an intensifier's distortion has in common: the inverse, masks and corrected images.

A raw pixel (x right, y down, integers at pixel centres, 1664 x 1600) maps to intensifier mm: X right, Y up, origin at
the centre of the bead grid the calibration was made with.
"""

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property, lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray

from veriserum_hf.core import BoolArray, FloatArray, Grey
from veriserum_hf.geometry import FIELD_MM, NATIVE_SIZE, pixel_size_mm, px_to_mm

Mode = Literal["fast", "exact", "nearest"]

RAW_WIDTH_PX, RAW_HEIGHT_PX = 1664, 1600
_RAW_SIZE_PX = np.array([RAW_WIDTH_PX, RAW_HEIGHT_PX], dtype=np.float64)
_ROUGH_DEGREE = 9
_OUTSIDE_PX = -16.0  # so far off the frame that bilinear lookup blends nothing of it in


def text_hash(text: str) -> str:
    """SHA-256 of a distortion's text, by which what was fitted with it can refer to it."""
    return hashlib.sha256(text.encode()).hexdigest()


def frame_width_px(height_px: int) -> int:
    """Columns of a raw frame of so many rows that shows the field of a 1664 x 1600 one."""
    return round(height_px * RAW_WIDTH_PX / RAW_HEIGHT_PX)


class DistortionMap(ABC):
    """Distortion of one intensifier in any form: raw pixels to mm, back, and corrected images.

    A form defines the map and its Jacobian. The inverse, masks and corrected images are the same for all of them.
    Objects are immutable and compare by their numbers.
    """

    @staticmethod
    def from_string(text: str) -> "DistortionMap":
        """Parse the text of any form: the lab's stored text, or that of a `PolynomialDistortion`.

        Raises
        ------
        CalibrationError
            If the text is of no form, or has other than finite numbers in the right count.

        """
        # Here, as both forms derive from this class.
        from veriserum_hf.calibration.distortion import Distortion
        from veriserum_hf.calibration.polynomial_distortion import PolynomialDistortion

        if isinstance(text, str) and text.lstrip().startswith("{"):
            return PolynomialDistortion.parse(text)
        return Distortion.parse(text)

    @abstractmethod
    def to_string(self) -> str:
        """Return the text of this form; `from_string` gives an equal object."""

    @property
    @abstractmethod
    def mm_per_px(self) -> float:
        """Size of a raw pixel near the centre of the frame, mm, nearly."""

    @abstractmethod
    def _evaluate(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, tuple[FloatArray, ...]]:
        """X and Y in mm of raw pixels x, y, and the Jacobian dX/dx, dX/dy, dY/dx, dY/dy."""

    def to_mm(self, xy_px: ArrayLike) -> FloatArray:
        """Raw pixels (n, 2) as (x, y) of the 1664 x 1600 frame to intensifier mm (n, 2) as (X right, Y up)."""
        X, Y, _ = self._evaluate(*np.asarray(xy_px, dtype=np.float64).T)
        return np.stack([X, Y], axis=-1)

    def to_px(self, xy_mm: ArrayLike) -> FloatArray:
        """Intensifier mm (n, 2) to raw pixels (n, 2); NaN where the raw frame does not reach."""
        xy_mm = np.asarray(xy_mm, dtype=np.float64)
        X, Y = xy_mm.T
        start_x, start_y = np.asarray(chebyshev.chebval2d(X / FIELD_MM, Y / FIELD_MM, self._rough_inverse))
        return np.stack(self._newton((start_x, start_y), (X, Y)), axis=1)

    @cached_property
    def _rough_inverse(self) -> FloatArray:
        """(10, 10, 2) Chebyshev coefficients that give raw pixels from mm / field, to about a pixel."""
        nodes = -np.cos(np.pi * np.linspace(0, 1, 33))
        x, y = np.meshgrid(nodes, nodes)
        xy_px = (np.stack([x.ravel(), y.ravel()], axis=1) * (_RAW_SIZE_PX + 1) + _RAW_SIZE_PX - 1) / 2
        mm = self.to_mm(xy_px) / FIELD_MM
        basis = chebyshev.chebvander2d(mm[:, 0], mm[:, 1], (_ROUGH_DEGREE, _ROUGH_DEGREE))
        degree = np.add.outer(np.arange(_ROUGH_DEGREE + 1), np.arange(_ROUGH_DEGREE + 1)).ravel()
        coefficients = np.zeros((basis.shape[1], 2))
        kept = degree <= _ROUGH_DEGREE
        coefficients[kept] = np.linalg.lstsq(basis[:, kept], xy_px, rcond=None)[0]
        return coefficients.reshape(_ROUGH_DEGREE + 1, _ROUGH_DEGREE + 1, 2)

    def _newton(
        self, start_px: tuple[FloatArray, FloatArray], xy_mm: tuple[FloatArray, FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        """Raw pixels x, y of X, Y in mm from a rough estimate; NaN where the raw frame does not reach.

        Inside the frame the estimate is off by about a pixel and every step squares the error; outside, the
        polynomial may fold over and the iteration may diverge: it counts only where it has converged.
        """
        x, y = start_px
        X, Y = xy_mm
        step_x = step_y = np.zeros_like(X)
        with np.errstate(all="ignore"):
            for _ in range(4):
                mm_x, mm_y, (a, b, c, d) = self._evaluate(x, y)
                determinant = a * d - b * c
                step_x = (d * (X - mm_x) - b * (Y - mm_y)) / determinant
                step_y = (a * (Y - mm_y) - c * (X - mm_x)) / determinant
                x, y = x + step_x, y + step_y
            found = (np.abs(step_x) < 1e-5) & (np.abs(step_y) < 1e-5) & _in_frame(x, y)
        return np.where(found, x, np.nan), np.where(found, y, np.nan)

    def folds(self) -> bool:
        """Whether the map folds over inside the raw frame, so that some mm would belong to two pixels."""
        x, y = np.meshgrid(np.linspace(0, RAW_WIDTH_PX - 1, 53), np.linspace(0, RAW_HEIGHT_PX - 1, 51))
        _, _, (a, b, c, d) = self._evaluate(x, y)
        determinants = a * d - b * c
        return bool(determinants.min() * determinants.max() <= 0)

    def valid(self, size: int = 512) -> BoolArray:
        """(size, size) mask, True where the raw frame covers the corrected image; black elsewhere."""
        return _lookup(self, size, (RAW_HEIGHT_PX, RAW_WIDTH_PX))[2].copy()

    def correct(self, frame: Grey, size: int = 512, mode: Mode = "fast") -> Grey:
        """Corrected image of a raw frame, ``size`` x ``size`` pixels over 360 mm, same grey levels and type.

        Parameters
        ----------
        frame : (rows, columns) uint8 or uint16 of any pixel size; it is assumed to show the whole raw field.
        size : edge of the corrected image, px.
        mode : ``"fast"``: a box as wide as an output pixel on the source (3 x 3 at 512 px from 1664 x 1600), then
            one bilinear lookup; 0.3 grey levels RMS from an area mean. ``"exact"``: bilinear on the multiple of
            ``size`` nearest to 1600, then the mean over each output pixel. ``"nearest"``: nearest neighbour at
            1600 px, then a bilinear resize, as the authors' transform does; for comparison.

        Raises
        ------
        ValueError
            If the frame is not one grey channel of uint8 or uint16, or the mode unknown.

        """
        if frame.ndim != 2 or frame.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"expected a (rows, columns) frame of uint8 or uint16, got shape {frame.shape} of {frame.dtype}"
            )
        shape = (frame.shape[0], frame.shape[1])
        if mode == "fast":
            map_x, map_y, _ = _lookup(self, size, shape)
            source = cv2.blur(frame, _box_px(self.mm_per_px, size, shape))
            corrected = cv2.remap(source, map_x, map_y, cv2.INTER_LINEAR)
        elif mode == "exact":
            fine_size = size * max(1, round(NATIVE_SIZE / size))
            map_x, map_y, _ = _lookup(self, fine_size, shape)
            corrected = cv2.remap(frame, map_x, map_y, cv2.INTER_LINEAR)
            corrected = cv2.resize(corrected, (size, size), interpolation=cv2.INTER_AREA)
        elif mode == "nearest":
            map_x, map_y, _ = _lookup(self, NATIVE_SIZE, shape)
            corrected = cv2.remap(frame, map_x, map_y, cv2.INTER_NEAREST)
            corrected = cv2.resize(corrected, (size, size), interpolation=cv2.INTER_LINEAR)
        else:
            raise ValueError(f'mode must be "fast", "exact" or "nearest", got {mode!r}')
        result: Grey = corrected  # type: ignore[assignment]
        return result


def _in_frame(x_px: FloatArray, y_px: FloatArray) -> BoolArray:
    """Whether raw pixels lie within one pixel of a pixel centre, the reach of bilinear lookup."""
    reach = 1 + 1e-6  # a corner of the frame stays on it through rounding
    across = np.abs(x_px - (RAW_WIDTH_PX - 1) / 2) <= (RAW_WIDTH_PX - 1) / 2 + reach
    down = np.abs(y_px - (RAW_HEIGHT_PX - 1) / 2) <= (RAW_HEIGHT_PX - 1) / 2 + reach
    return np.asarray(across & down)


def _box_px(scale_mm: float, size: int, frame_shape: tuple[int, int]) -> tuple[int, int]:
    """Odd width and height, in pixels of the frame, nearest to one pixel of the corrected image."""
    pitch_mm = scale_mm * _RAW_SIZE_PX / frame_shape[::-1]
    width, height = (2 * round((ratio - 1) / 2) + 1 for ratio in pixel_size_mm(size) / pitch_mm)
    return max(1, width), max(1, height)


@lru_cache(maxsize=4)  # two planes of two calibrations; a map at 1600 px takes 23 MB
def _lookup(
    distortion: DistortionMap, size: int, frame_shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], BoolArray]:
    """Frame column and row of every corrected pixel, and where they are valid: (size, size) each."""
    height, width = frame_shape
    map_x, map_y = np.empty((size, size), np.float32), np.empty((size, size), np.float32)
    valid = np.empty((size, size), dtype=bool)
    along = np.arange(size)
    h_mm, v_mm = px_to_mm(np.stack([along, along], axis=1), size).T
    for first in range(0, size, 32):  # strips stay in the processor's cache
        rows = slice(first, first + 32)
        start_x, start_y = chebyshev.chebgrid2d(h_mm / FIELD_MM, v_mm[rows] / FIELD_MM, distortion._rough_inverse)
        grid_mm = np.meshgrid(h_mm, v_mm[rows])
        x_px, y_px = distortion._newton((start_x.T, start_y.T), (grid_mm[0], grid_mm[1]))
        valid[rows] = np.isfinite(x_px)
        map_x[rows] = _in_resized_frame(x_px, RAW_WIDTH_PX, width)
        map_y[rows] = _in_resized_frame(y_px, RAW_HEIGHT_PX, height)
    return map_x, map_y, valid


def _in_resized_frame(raw_px: FloatArray, raw_size: int, frame_size: int) -> FloatArray:
    """Position in a frame of another pixel size, which shows the same field, resized about the pixels' edges."""
    position = np.clip((raw_px + 0.5) * (frame_size / raw_size) - 0.5, 0, frame_size - 1)
    return np.where(np.isfinite(raw_px), position, _OUTSIDE_PX)
