"""Random distortion fields like those of real intensifiers, beyond what the lab's stored form can hold.

Three things bend an intensifier's image: the curved input screen and the electron optics give a pincushion whose
slope rises faster than the square of the radius; the earth's magnetic field rotates the image more towards the rim
(S-shaped distortion); and what is nearby or within disturbs the field locally. Published fields of 30 to 40 cm
intensifiers have pincushions of several millimetres at the rim, S-shapes of one to a few, and local terms of tenths.
Magnitudes here are such that the stored form misses the beads by 0.1 to 0.5 mm RMS, and up to 2 mm at the rim.
"""

from dataclasses import replace

import numpy as np

from veriserum_hf.calibration import (
    RAW_HEIGHT_PX,
    RAW_WIDTH_PX,
    SIPLA_GRID,
    Distortion,
    DistortionMap,
    PolynomialDistortion,
    load_grid_phantom,
    powers_of,
)
from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import FIELD_MM

_FIELD_RADIUS_MM = FIELD_MM / 2
_DEGREE = 12  # follows every field to a hundredth of a millimetre, and is beyond what calibrations fit
_CENTER_PX = ((RAW_WIDTH_PX - 1) / 2, (RAW_HEIGHT_PX - 1) / 2)
_RADIUS_PX = 960.0  # more than the lit field


def real_distortion(base: Distortion, rng: np.random.Generator) -> PolynomialDistortion:
    """A distortion of the stored form, bent further as real intensifiers are.

    Parameters
    ----------
    base : its shift, rotation, scale and third powers.
    rng : source of the field.

    """
    along = np.linspace(-1, 1, 65)
    unit = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    unit = unit[np.hypot(*unit.T) <= 1]
    xy_px = _CENTER_PX + _RADIUS_PX * unit * (1, -1)
    mm = base.to_mm(xy_px)
    i, j = np.transpose(powers_of(_DEGREE))
    terms = unit[:, :1] ** i * unit[:, 1:] ** j
    coefficients = np.linalg.lstsq(terms, mm + _bent_mm(mm, rng), rcond=None)[0]
    x_mm, y_mm = (tuple(of_axis.tolist()) for of_axis in coefficients.T)
    return PolynomialDistortion(_DEGREE, _CENTER_PX, _RADIUS_PX, x_mm, y_mm)


def _bent_mm(mm: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Displacement (n, 2) mm at places (n, 2): pincushion, S-shape and local terms."""
    off = (mm - rng.normal(0, 8, 2)) / _FIELD_RADIUS_MM  # the optical axis is not the grid's centre
    squared = (off**2).sum(axis=1, keepdims=True)
    across = off[:, ::-1] * (1, -1)
    # Higher powers are 0 at the centre and at the rim, where the lower ones of the stored form are as published.
    fifth, seventh = squared**2 - squared, squared**3 - squared
    bent = off * (rng.uniform(6, 9) * fifth + rng.normal(0, 1.5) * seventh)
    bent += across * (rng.uniform(-4, 4) * fifth + rng.normal(0, 1.5) * seventh)
    bent += rng.normal(0, 1.2, 2) * fifth  # the screen is tilted
    for _ in range(5):
        angle, radius, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.1), rng.uniform(0.22, 0.38)
        place = radius * np.array([np.cos(angle), np.sin(angle)])
        bell = np.exp(-((off - place) ** 2).sum(axis=1, keepdims=True) / (2 * width**2))
        bent += rng.normal(0, 0.45, 2) * bell
    return np.asarray(bent)


def stored_form(distortion: DistortionMap, base: Distortion) -> Distortion:
    """The stored form nearest to a distortion at the beads of the grid, with the axes of a similar one."""
    beads_mm = load_grid_phantom(SIPLA_GRID).spots_mm
    xy_px = distortion.to_px(beads_mm)
    seen = np.isfinite(xy_px).all(axis=1)
    uv = base.scale * (xy_px[seen] * (1, -1)) @ np.reshape(base.rotation, (2, 2)).T + base.translation
    unit = np.array([_FIELD_RADIUS_MM ** -(i + j) for i in range(4) for j in range(4)])
    terms = np.stack([uv[:, 0] ** i * uv[:, 1] ** j for i in range(4) for j in range(4)], axis=1) * unit
    coefficients = np.linalg.lstsq(terms, beads_mm[seen], rcond=None)[0] * unit[:, None]
    x, y = (tuple(of_axis.tolist()) for of_axis in coefficients.T)
    return replace(base, x_coefficients=x, y_coefficients=y)
