"""A second form of an intensifier's distortion: all powers up to a total degree.

A raw pixel (x right, y down, integers at pixel centres, 1664 x 1600) maps to intensifier mm by

    s = (x - c_x) / L,   t = (c_y - y) / L
    X = sum_ij a_ij s^i t^j,   Y = sum_ij b_ij s^i t^j,   i + j <= degree

with c the centre of the frame and L half its width, so that s and t lie between -1 and 1. A real intensifier's
pincushion and S-shaped distortion need powers that the stored form, i, j <= 3, does not have. The text is one JSON
object that names the form and its version; coefficients are ordered by i, then j.
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from veriserum_hf.calibration.distortion_map import RAW_HEIGHT_PX, RAW_WIDTH_PX, DistortionMap
from veriserum_hf.core import FloatArray
from veriserum_hf.errors import CalibrationError

MOST_DEGREE = 15  # of a text that is read; fits end at 9
CENTER_PX = ((RAW_WIDTH_PX - 1) / 2, (RAW_HEIGHT_PX - 1) / 2)
UNIT_PX = RAW_WIDTH_PX / 2
_FORM, _VERSION = "polynomial of a total degree", 1


def powers_of(degree: int) -> list[tuple[int, int]]:
    """Powers (i, j) of s and t up to a total degree, in the text's order."""
    return [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]


@dataclass(frozen=True)
class PolynomialDistortion(DistortionMap):
    """Distortion of one intensifier as polynomials of a total degree.

    Attributes
    ----------
    degree : highest sum of both powers, 1 to 15.
    x_mm, y_mm : coefficients a and b, mm, one for each of `powers_of` the degree.

    Raises
    ------
    CalibrationError
        If the numbers of coefficients do not belong to the degree.

    """

    degree: int
    x_mm: tuple[float, ...]
    y_mm: tuple[float, ...]

    def __post_init__(self) -> None:
        if isinstance(self.degree, bool) or not isinstance(self.degree, int) or not 1 <= self.degree <= MOST_DEGREE:
            raise CalibrationError(
                f"distortion text: degree must be a whole number from 1 to {MOST_DEGREE}, found {self.degree!r:.60}"
            )
        terms = len(powers_of(self.degree))
        for name, coefficients in (("x_mm", self.x_mm), ("y_mm", self.y_mm)):
            if len(coefficients) != terms:
                raise CalibrationError(
                    f"distortion text: degree {self.degree} needs {terms} numbers in {name}, found "
                    f"{len(coefficients)}"
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
            raise CalibrationError(f"distortion text: it begins with {{ but is not JSON ({error})") from None
        if not isinstance(document, dict) or document.get("form") != _FORM:
            found = document.get("form") if isinstance(document, dict) else document
            raise CalibrationError(f'distortion text: expected "form": "{_FORM}", found {found!r:.60}')
        if document.get("version") != _VERSION:
            raise CalibrationError(
                f"distortion text: expected version {_VERSION}, found {document.get('version')!r:.60}; a newer "
                "veriserum-hf may read it"
            )
        expected = json.loads(cls._text(1, (0.0,), (0.0,)))
        if document.keys() != expected.keys():
            raise CalibrationError(
                f"distortion text: expected exactly {', '.join(expected)}; found {', '.join(document):.200}"
            )
        for name in ("center_px", "unit_px"):
            if document[name] != expected[name]:
                raise CalibrationError(
                    f"distortion text: expected {name} {expected[name]}, found {document[name]!r:.60}"
                )
        return cls(document["degree"], *(_numbers(document[name], name) for name in ("x_mm", "y_mm")))

    @staticmethod
    def _text(degree: int, x_mm: tuple[float, ...], y_mm: tuple[float, ...]) -> str:
        document = {"form": _FORM, "version": _VERSION, "degree": degree}
        return json.dumps(document | {"center_px": CENTER_PX, "unit_px": UNIT_PX, "x_mm": x_mm, "y_mm": y_mm})

    def to_string(self) -> str:
        """Return the text; parsing it gives an equal object."""
        x_mm, y_mm = (tuple(map(float, coefficients)) for coefficients in (self.x_mm, self.y_mm))
        return self._text(self.degree, x_mm, y_mm)

    @property
    def mm_per_px(self) -> float:
        """Root of the determinant of the linear part."""
        (_, Y_t, *_), (_, X_t, *_) = self.y_mm, self.x_mm
        X_s, Y_s = (coefficients[self.degree + 1] for coefficients in (self.x_mm, self.y_mm))
        return math.sqrt(abs(X_s * Y_t - X_t * Y_s)) / UNIT_PX

    @cached_property
    def _by_power_of_s(self) -> tuple[tuple[tuple[float, ...], ...], ...]:
        """For X and Y, and for every power of s, the coefficients of the powers of t."""
        starts = np.cumsum([0, *range(self.degree + 1, 0, -1)]).tolist()
        return tuple(tuple(tuple(c[first:last]) for first, last in pairwise(starts)) for c in (self.x_mm, self.y_mm))

    def _evaluate(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, tuple[FloatArray, ...]]:
        """X and Y in mm of raw pixels x, y, and the Jacobian dX/dx, dX/dy, dY/dx, dY/dy."""
        s, t = (x - CENTER_PX[0]) / UNIT_PX, (CENTER_PX[1] - y) / UNIT_PX
        (X, X_s, X_t), (Y, Y_s, Y_t) = (_horner(by_power, s, t) for by_power in self._by_power_of_s)
        return X, Y, (X_s / UNIT_PX, -X_t / UNIT_PX, Y_s / UNIT_PX, -Y_t / UNIT_PX)


def _horner(
    by_power_of_s: tuple[tuple[float, ...], ...], s: FloatArray, t: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sum of c_ij s^i t^j, and its derivatives by s and t."""
    value = by_s = by_t = np.zeros_like(s)
    for of_t in reversed(by_power_of_s):
        q, q_t = np.full_like(t, of_t[-1]), np.zeros_like(t)
        for coefficient in reversed(of_t[:-1]):
            q_t *= t
            q_t += q
            q *= t
            q += coefficient
        by_s = by_s * s + value
        value = value * s + q
        by_t = by_t * s + q_t
    return value, by_s, by_t


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
