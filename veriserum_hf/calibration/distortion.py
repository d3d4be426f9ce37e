"""The lab's stored form of an intensifier's distortion.

A raw pixel (x right, y down, integers at pixel centres, 1664 x 1600) maps to intensifier mm by

    (u, v) = S R (x, -y) + T
    X = sum_ij a_ij u^i v^j,   Y = sum_ij b_ij u^i v^j,   i, j = 0..3

X right, Y up, origin at the centre of the bead grid the calibration was made with. The stored text is
``a00,a01,..,a33,b00,..,b33;S;Tx,Ty;R00,R01,R10,R11``. Source: the authors' repository (wjh19990923/veriserum).
A real intensifier's field has more than these powers: see `polynomial_distortion`.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from veriserum_hf.calibration.distortion_map import DistortionMap
from veriserum_hf.core import FloatArray
from veriserum_hf.errors import CalibrationError


def _numbers(text: str, count: int, what: str) -> tuple[float, ...]:
    try:
        if "_" in text or not text.isascii():  # Python reads 1_0, and the digits of every script
            raise ValueError(f"{text:.60}: expected ASCII digits")
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise CalibrationError(f"distortion text: {what} holds something that is not a number ({error})") from None
    if len(numbers) != count:
        raise CalibrationError(f"distortion text: expected {count} numbers for {what}, found {len(numbers)}")
    if not all(map(math.isfinite, numbers)):
        raise CalibrationError(f"distortion text: {what} holds a number that is not finite")
    return numbers


@dataclass(frozen=True)
class Distortion(DistortionMap):
    """Distortion of one intensifier in the lab's stored form.

    Attributes
    ----------
    x_coefficients, y_coefficients : 16 numbers each, ``c[4 i + j]`` belongs to ``u^i v^j``.
    scale : S, mm per raw pixel, nearly.
    translation : T, mm.
    rotation : R, row by row.

    """

    x_coefficients: tuple[float, ...]
    y_coefficients: tuple[float, ...]
    scale: float
    translation: tuple[float, ...]
    rotation: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> "Distortion":
        """Parse the text of the columns ``distortion_result_bs`` and ``distortion_result_fs``.

        Raises
        ------
        CalibrationError
            If the text does not have the four parts, or one has other than finite numbers in the right count.

        """
        parts = text.split(";") if isinstance(text, str) else []
        if len(parts) != 4:
            raise CalibrationError(
                "distortion text: expected four parts between semicolons (32 coefficients; scale; translation; "
                f"rotation), found {len(parts)} in {text!r:.60}"
            )
        coefficients = _numbers(parts[0], 32, "the coefficients")
        (scale,) = _numbers(parts[1], 1, "the scale")
        distortion = cls(
            coefficients[:16],
            coefficients[16:],
            scale,
            _numbers(parts[2], 2, "the translation"),
            _numbers(parts[3], 4, "the rotation"),
        )
        if scale == 0 or np.linalg.det(distortion._pixel_to_uv) == 0:
            raise CalibrationError("distortion text: scale or rotation is zero, so pixels cannot be distinguished")
        return distortion

    def to_string(self) -> str:
        """Return the stored text; parsing it gives an equal object."""
        groups = (
            (*self.x_coefficients, *self.y_coefficients),
            (self.scale,),
            self.translation,
            self.rotation,
        )
        return ";".join(",".join(repr(float(number)) for number in group) for group in groups)

    @property
    def mm_per_px(self) -> float:
        """The scale S."""
        return abs(self.scale)

    @cached_property
    def _pixel_to_uv(self) -> FloatArray:
        """(2, 2) S R diag(1, -1)."""
        return self.scale * np.reshape(self.rotation, (2, 2)) * (1.0, -1.0)

    @cached_property
    def _polynomial(self) -> FloatArray:
        """(2, 4, 4) coefficients by axis, power of u, power of v."""
        return np.reshape((*self.x_coefficients, *self.y_coefficients), (2, 4, 4)).astype(np.float64)

    def to_mm(self, xy_px: ArrayLike) -> FloatArray:
        """Raw pixels (n, 2) as (x, y) of the 1664 x 1600 frame to intensifier mm (n, 2) as (X right, Y up)."""
        u, v = (np.asarray(xy_px, dtype=np.float64) @ self._pixel_to_uv.T + self.translation).T
        return np.stack([np.polynomial.polynomial.polyval2d(u, v, c) for c in self._polynomial], axis=-1)

    def _evaluate(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, tuple[FloatArray, ...]]:
        """X and Y in mm of raw pixels x, y, and the Jacobian dX/dx, dX/dy, dY/dx, dY/dy."""
        (ux, uy), (vx, vy) = self._pixel_to_uv
        u = ux * x + uy * y + self.translation[0]
        v = vx * x + vy * y + self.translation[1]
        (X, X_u, X_v), (Y, Y_u, Y_v) = (_bicubic(c, u, v) for c in self._polynomial)
        return X, Y, (X_u * ux + X_v * vx, X_u * uy + X_v * vy, Y_u * ux + Y_v * vx, Y_u * uy + Y_v * vy)


def _bicubic(coefficients: FloatArray, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sum of c_ij u^i v^j, i, j = 0..3, and its derivatives by u and v, after Horner."""
    q = [((c[3] * v + c[2]) * v + c[1]) * v + c[0] for c in coefficients]
    q_v = [(3 * c[3] * v + 2 * c[2]) * v + c[1] for c in coefficients]
    value = ((q[3] * u + q[2]) * u + q[1]) * u + q[0]
    by_u = (3 * q[3] * u + 2 * q[2]) * u + q[1]
    by_v = ((q_v[3] * u + q_v[2]) * u + q_v[1]) * u + q_v[0]
    return value, by_u, by_v
