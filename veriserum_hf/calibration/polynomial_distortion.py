"""A second form of an intensifier's distortion: all powers up to a total degree, within a circle.

A raw pixel (x right, y down, integers at pixel centres, 1664 x 1600) maps to intensifier mm by

    s = (x - c_x) / R,   t = (c_y - y) / R
    X = sum_ij a_ij s^i t^j,   Y = sum_ij b_ij s^i t^j,   i + j <= degree,   s^2 + t^2 <= 1

with c and R the centre and radius of the circle that holds the beads of the calibration. A real intensifier's
pincushion and S-shaped distortion need powers that the stored form, i, j <= 3, does not have. Such powers run away
where no bead held them: beyond the circle the map continues along its tangent, p at q + d to f(q) + f'(q) d, where q
is the point of the circle nearest to p. The text is one JSON object that names the form and its version; coefficients
are ordered by i, then j.
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from veriserum_hf.calibration.distortion_map import RAW_WIDTH_PX, DistortionMap
from veriserum_hf.core import FloatArray
from veriserum_hf.errors import CalibrationError

MOST_DEGREE = 15  # of a text that is read; fits end at 9
_FORM, _VERSION = "polynomial of a total degree", 1
_NAMES = ("form", "version", "degree", "center_px", "radius_px", "x_mm", "y_mm")


def powers_of(degree: int) -> list[tuple[int, int]]:
    """Powers (i, j) of s and t up to a total degree, in the text's order."""
    return [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]


@dataclass(frozen=True)
class PolynomialDistortion(DistortionMap):
    """Distortion of one intensifier as polynomials of a total degree.

    Attributes
    ----------
    degree : highest sum of both powers, 1 to 15.
    center_px, radius_px : c and R, the circle within which the polynomials hold.
    x_mm, y_mm : coefficients a and b, mm, one for each of `powers_of` the degree.

    Raises
    ------
    CalibrationError
        If the numbers of coefficients do not belong to the degree, or the circle cannot be that of a raw frame.

    """

    degree: int
    center_px: tuple[float, ...]
    radius_px: float
    x_mm: tuple[float, ...]
    y_mm: tuple[float, ...]

    def __post_init__(self) -> None:
        if isinstance(self.degree, bool) or not isinstance(self.degree, int) or not 1 <= self.degree <= MOST_DEGREE:
            raise CalibrationError(
                f"distortion text: degree must be a whole number from 1 to {MOST_DEGREE}, found {self.degree!r:.60}"
            )
        terms = len(powers_of(self.degree))
        for name, found, count in (("center_px", self.center_px, 2), ("x_mm", self.x_mm, terms)) + (
            ("y_mm", self.y_mm, terms),
        ):
            if len(found) != count:
                raise CalibrationError(
                    f"distortion text: degree {self.degree} needs {count} numbers in {name}, found {len(found)}"
                )
        low, high = 0.05 * RAW_WIDTH_PX, 2.0 * RAW_WIDTH_PX
        if not (low <= self.radius_px <= high and all(abs(value) <= high for value in self.center_px)):
            raise CalibrationError(
                f"distortion text: expected a circle on the raw frame with a radius of {low:.0f} to {high:.0f} px, "
                f"found center_px {list(self.center_px)} and radius_px {self.radius_px:g}"
            )

    @classmethod
    def parse(cls, text: str) -> "PolynomialDistortion":
        """Parse the text that `to_string` gives.

        Raises
        ------
        CalibrationError
            If it is not such a text of this version, or holds other than finite numbers in the right count.

        """
        try:
            document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise CalibrationError(f"distortion text: it is not JSON ({error})") from None
        if not isinstance(document, dict) or document.get("form") != _FORM:
            found = document.get("form") if isinstance(document, dict) else document
            raise CalibrationError(f'distortion text: expected "form": "{_FORM}", found {found!r:.60}')
        if document.get("version") != _VERSION:
            raise CalibrationError(
                f"distortion text: expected version {_VERSION}, found {document.get('version')!r:.60}; a newer "
                "veriserum-hf may read it"
            )
        if document.keys() != set(_NAMES):
            raise CalibrationError(
                f"distortion text: expected exactly {', '.join(_NAMES)}; found {', '.join(document):.200}"
            )
        (radius_px,) = _numbers([document["radius_px"]], "radius_px")
        center_px, x_mm, y_mm = (_numbers(document[name], name) for name in ("center_px", "x_mm", "y_mm"))
        distortion = cls(document["degree"], center_px, radius_px, x_mm, y_mm)
        if distortion.mm_per_px == 0:
            raise CalibrationError("distortion text: the linear part is zero, so pixels cannot be distinguished")
        return distortion

    def to_string(self) -> str:
        """Return the text; parsing it gives an equal object."""
        center_px, x_mm, y_mm = ([*map(float, values)] for values in (self.center_px, self.x_mm, self.y_mm))
        values = (_FORM, _VERSION, self.degree, center_px, float(self.radius_px), x_mm, y_mm)
        return json.dumps(dict(zip(_NAMES, values, strict=True)))

    @property
    def mm_per_px(self) -> float:
        """Root of the determinant of the linear part."""
        X_t, Y_t = self.x_mm[1], self.y_mm[1]
        X_s, Y_s = self.x_mm[self.degree + 1], self.y_mm[self.degree + 1]
        return math.sqrt(abs(X_s * Y_t - X_t * Y_s)) / self.radius_px

    @cached_property
    def _by_power_of_s(self) -> tuple[FloatArray, FloatArray]:
        """For X and Y, (degree + 1, degree + 1) coefficients by power of s and of t; 0 above the degree."""
        i, j = np.transpose(powers_of(self.degree))
        squares = np.zeros((2, self.degree + 1, self.degree + 1))
        squares[:, i, j] = self.x_mm, self.y_mm
        return squares[0], squares[1]

    def _evaluate(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, tuple[FloatArray, ...]]:
        """X and Y in mm of raw pixels x, y, and the Jacobian dX/dx, dX/dy, dY/dx, dY/dy."""
        s, t = (x - self.center_px[0]) / self.radius_px, (self.center_px[1] - y) / self.radius_px
        stretch = np.maximum(np.hypot(s, t), 1.0)
        beyond = stretch > 1
        on_s, on_t = s / stretch, t / stretch
        (X, X_s, X_t), (Y, Y_s, Y_t) = (_horner(by_power, on_s, on_t) for by_power in self._by_power_of_s)
        if beyond.any():
            outer = on_s[beyond], on_t[beyond], stretch[beyond]
            for by_power, value, by_s, by_t in zip(self._by_power_of_s, (X, Y), (X_s, Y_s), (X_t, Y_t), strict=True):
                tangent = _beyond(by_power, outer, by_s[beyond], by_t[beyond])
                value[beyond] += tangent[0]
                by_s[beyond] += tangent[1]
                by_t[beyond] += tangent[2]
        R = self.radius_px
        return X, Y, (X_s / R, -X_t / R, Y_s / R, -Y_t / R)


def _horner(by_power: FloatArray, s: FloatArray, t: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sum of c_ij s^i t^j, and its derivatives by s and t; c_ij is 0 where i + j is above the degree."""
    degree = len(by_power) - 1
    value, by_s, by_t = np.zeros_like(s), np.zeros_like(s), np.zeros_like(s)
    for i in range(degree, -1, -1):
        q, q_t = np.full_like(t, by_power[i, degree - i]), np.zeros_like(t)
        for coefficient in by_power[i, : degree - i][::-1]:
            q_t *= t
            q_t += q
            q *= t
            q += coefficient
        by_s *= s
        by_s += value
        value *= s
        value += q
        by_t *= s
        by_t += q_t
    return value, by_s, by_t


def _beyond(
    by_power: FloatArray, outer: tuple[FloatArray, FloatArray, FloatArray], by_s: FloatArray, by_t: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What the tangent adds to value and derivatives, from points q (s, t) of the circle to ``stretch`` q.

    With d = (stretch - 1) q the value is f + f' d. As q moves with the point by (1 - q q^T) / stretch, its derivative
    is f' + (f'' d) (1 - q q^T) / stretch.
    """
    s, t, stretch = outer
    of_s = by_power[1:, :-1] * np.arange(1, len(by_power))[:, None]
    of_t = by_power[:-1, 1:] * np.arange(1, len(by_power))
    (_, by_ss, by_st), (_, _, by_tt) = _horner(of_s, s, t), _horner(of_t, s, t)
    d_s, d_t = (stretch - 1) * s, (stretch - 1) * t
    bend_s, bend_t = (by_ss * d_s + by_st * d_t) / stretch, (by_st * d_s + by_tt * d_t) / stretch
    outward = bend_s * s + bend_t * t
    return by_s * d_s + by_t * d_t, bend_s - outward * s, bend_t - outward * t


def _numbers(found: object, name: str) -> tuple[float, ...]:
    """Finite numbers of a list."""
    if not isinstance(found, list):
        raise CalibrationError(f"distortion text: {name} must be a list of numbers, found {found!r:.60}")
    for number in found:
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e100:
            raise CalibrationError(f"distortion text: {name} holds {number!r:.60}, expected finite numbers")
    return tuple(map(float, found))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a name that occurs twice in an object."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)
