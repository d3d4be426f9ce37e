"""The imaging chain of a simulated fluoroscope, and the solids in its beam.

Signals are fractions of the open field's signal at its centre.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import trimesh

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import Plane

# Effective, per mm: the ratios are about those of tabulated mass attenuation at 100 keV (Hubbell and Seltzer, NIST
# SRD 126), as of a beam hardened by millimetres of metal; implants are then as dark as in the published frame.
ATTENUATION_PER_MM = {
    "CoCr": 0.35,
    "Ti6Al4V": 0.118,
    "steel": 0.29,
    "aluminium": 0.046,
    "PMMA": 0.0194,
    "cement": 0.030,
    "lead": 6.3,
}


class Part(NamedTuple):
    """A closed solid in the beam: mesh in mm, its material (a key of ``attenuation_per_mm``), and its pose."""

    mesh: trimesh.Trimesh
    material: str
    T_world_part: FloatArray


class _Allowed(NamedTuple):
    """The valid values of a parameter, in words and as a test."""

    words: str
    holds: Callable[[float], bool]


_POSITIVE = _Allowed("positive", lambda value: value > 0)
_NOT_NEGATIVE = _Allowed("zero or positive", lambda value: value >= 0)
_FRACTION = _Allowed("at least 0 and less than 1", lambda value: 0 <= value < 1)
_LEVEL = _Allowed("from 0 to 1", lambda value: 0 <= value <= 1)
_ANY = _Allowed("a finite number", lambda value: True)
# A steeper slope would make the signal negative at the canvas's edge, 207 mm from its centre.
_SLOPE = _Allowed("between -0.004 and 0.004", lambda value: abs(value) < 0.004)


def _in(low: float, high: float, default: float, allowed: _Allowed = _POSITIVE) -> Any:
    """A parameter with its default, the range it is drawn from for domain randomisation, and its valid values."""
    return field(default=default, metadata={"range": (low, high), "allowed": allowed})


@dataclass(frozen=True)
class Imaging:
    """Every parameter of the imaging chain; `random` draws them from the ranges given with the defaults.

    Pixels are those of a 1664 x 1600 raw frame; other sizes show the same field. Values were chosen so that frames
    look like the one that is published (arXiv 2509.05483).

    Attributes
    ----------
    attenuation_per_mm : linear attenuation by material, 1/mm.
    attenuation_scale : factor on all of them, as for another tube voltage.
    focal_spot_mm : full width at half maximum of the X-ray source.
    screen_blur_mm : standard deviation of the point spread of screen and optics, on the intensifier. Pixels blur
        too, by half their size: frames of fewer than some 700 rows are blurred by more than this.
    scatter_fraction, scatter_sigma_mm : part of the signal that is scattered in the scene, and how far.
    glare_fraction, glare_sigma_mm : part that is scattered within the intensifier (veiling glare), and how far.
    vignette_h_mm, vignette_v_mm : standard deviations of the open field's fall from the centre.
    heel_per_mm : slope of the open field along h, by the anode's heel effect.
    quanta_per_pixel : X-ray quanta that one raw pixel registers at full signal.
    noise_blur_px : standard deviation of the optics' blur of the quantum noise.
    readout_noise : standard deviation, fraction of white.
    band_amplitude, band_height_px : standard deviation and height of the faint horizontal bands.
    field_center_x_px, field_center_y_px, field_radius_px : the intensifier's round field in the raw frame, whose
        edges cut it off.
    ring_level, ring_radius_px, ring_width_px : stray light around the field: signal, radius, standard deviation.
    dark_level, bright_level : grey at no and at full signal, fractions of white.
    jpeg_quality : of 8-bit frames, 1 to 100.

    Raises
    ------
    ValueError
        If a parameter is invalid, such as a negative blur or more scatter than signal.

    """

    attenuation_per_mm: Mapping[str, float] = field(default_factory=ATTENUATION_PER_MM.copy, hash=False)
    attenuation_scale: float = _in(0.8, 1.25, 1.0)
    focal_spot_mm: float = _in(0.3, 1.2, 0.6, _NOT_NEGATIVE)
    screen_blur_mm: float = _in(0.175, 0.4, 0.25, _NOT_NEGATIVE)
    scatter_fraction: float = _in(0.02, 0.12, 0.07, _FRACTION)
    scatter_sigma_mm: float = _in(15.0, 35.0, 25.0)
    glare_fraction: float = _in(0.03, 0.12, 0.07, _FRACTION)
    glare_sigma_mm: float = _in(40.0, 90.0, 60.0)
    vignette_h_mm: float = _in(115.0, 180.0, 140.0)
    vignette_v_mm: float = _in(75.0, 130.0, 85.0)
    heel_per_mm: float = _in(-0.001, 0.001, -0.0004, _SLOPE)
    quanta_per_pixel: float = _in(150.0, 700.0, 350.0)
    noise_blur_px: float = _in(0.5, 0.9, 0.7, _NOT_NEGATIVE)
    readout_noise: float = _in(0.002, 0.006, 0.003, _FRACTION)
    band_amplitude: float = _in(0.0, 0.006, 0.003, _FRACTION)
    band_height_px: float = _in(3.0, 8.0, 5.0)
    field_center_x_px: float = _in(812.0, 832.0, 822.0, _ANY)
    field_center_y_px: float = _in(808.0, 826.0, 820.0, _ANY)
    field_radius_px: float = _in(845.0, 870.0, 860.0)
    ring_level: float = _in(0.0, 0.06, 0.045, _FRACTION)
    ring_radius_px: float = _in(1000.0, 1050.0, 1025.0)
    ring_width_px: float = _in(25.0, 50.0, 35.0)
    dark_level: float = _in(0.004, 0.03, 0.008, _LEVEL)
    bright_level: float = _in(0.75, 1.0, 0.98, _LEVEL)
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        # A copy: the caller's may change, this does not.
        object.__setattr__(self, "attenuation_per_mm", dict(self.attenuation_per_mm))
        for material, per_mm in self.attenuation_per_mm.items():
            _check(f"attenuation_per_mm[{material!r}]", per_mm, _NOT_NEGATIVE)
        for parameter in fields(self):
            if "allowed" in parameter.metadata:
                _check(parameter.name, getattr(self, parameter.name), parameter.metadata["allowed"])
        stray = self.scatter_fraction + self.glare_fraction
        if not stray < 1:
            raise ValueError(f"scatter_fraction and glare_fraction must add up to less than 1, got {stray:g}")
        if not self.dark_level < self.bright_level:
            raise ValueError(
                f"dark_level must be less than bright_level, got {self.dark_level} and {self.bright_level}"
            )
        if not isinstance(self.jpeg_quality, int) or not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be a whole number from 1 to 100, got {self.jpeg_quality!r}")

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Imaging":
        """Parameters drawn evenly from their ranges, for domain randomisation."""
        ranges = {f.name: f.metadata["range"] for f in fields(cls) if "range" in f.metadata}
        drawn: dict[str, Any] = {name: float(rng.uniform(*span)) for name, span in ranges.items()}
        return cls(**drawn)

    def blur_mm(self, plane: Plane, depth_mm: float) -> float:
        """Standard deviation on the intensifier, mm, of the blur of an object ``depth_mm`` from the source."""
        penumbra_mm = self.focal_spot_mm / np.sqrt(8 * np.log(2)) * (plane.sid_mm / depth_mm - 1)
        return float(np.hypot(penumbra_mm, self.screen_blur_mm))


def _check(name: str, value: object, allowed: _Allowed) -> None:
    if not isinstance(value, Real) or not math.isfinite(value) or not allowed.holds(float(value)):
        raise ValueError(f"{name} must be {allowed.words}, got {value!r}")
