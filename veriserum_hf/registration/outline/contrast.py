"""What grey values inside an implant show: whether metal is brighter than its surroundings, or semi-transparent."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.registration.outline.levels import Level, Shadow

_RING_PX = 24  # around a shadow, of the coarsest scale: farther than a rough pose is off
_EROSION_PX = 3  # blurred edges are excluded
_PER_MM = (0.05, 0.1, 0.2, 0.4, 0.8)
_LEAST_PIXELS = 50


def brighter_inside(level: Level, shadows: Sequence[Shadow]) -> bool:
    """Whether implants are brighter than what is around their shadows, as in an inverted image, at rough poses.

    By ranks of grey values, so that clipped pixels count for what they show.
    """
    shadow = _lengths(level, shadows) > 0
    near = _dilated(shadow, _RING_PX) & level.view.in_field
    inside = shadow[near]
    if inside.all() or not inside.any():
        return False
    ranks = rankdata(level.view.image[near])
    return bool(ranks[inside].mean() > ranks[~inside].mean())


def explained(level: Level, shadows: Sequence[Shadow]) -> list[float]:
    """Share of the variance inside each implant that its path lengths explain, 0 to 1, by the shadows of all.

    Beyond a linear trend of the background. Near 0 for opaque, hollow or saturated metal: there a model of
    intensities is determined by the outline alone.
    """
    found = []
    for k, own in enumerate(shadows):
        lengths_mm = _lengths(level, [own])
        others = _lengths(level, [*shadows[:k], *shadows[k + 1 :]]) > 0
        inside = (
            ~_dilated(lengths_mm == 0, _EROSION_PX)
            & ~_dilated(others, _EROSION_PX)
            & level.view.in_field
            & ~level.view.clipped
        )
        found.append(_explained(level.image[inside], lengths_mm[inside], np.argwhere(inside)))
    return found


def _explained(values: NDArray[np.float32], lengths_mm: NDArray[np.float32], px: NDArray[np.intp]) -> float:
    if len(values) < _LEAST_PIXELS:
        return 0.0
    trend = np.column_stack([np.ones(len(values)), px - px.mean(axis=0)])
    before = _unexplained(trend, values)
    left = [_unexplained(np.column_stack([trend, np.exp(-mu * lengths_mm)]), values) for mu in _PER_MM]
    return float(1 - min(left) / before) if before > 0 else 0.0


def _unexplained(columns: FloatArray, values: NDArray[np.float32]) -> float:
    solution = np.linalg.lstsq(columns, values, rcond=None)[0]
    return float(np.square(values - columns @ solution).sum())


def _lengths(level: Level, shadows: Sequence[Shadow]) -> NDArray[np.float32]:
    """Path lengths through some implants in every pixel."""
    image = np.zeros(level.image.shape, np.float32)
    canvas = Shadow(0, 0, image)
    for shadow in shadows:
        shadow.add_to(image, canvas, 1.0)
    return image


def _dilated(mask: BoolArray, by_px: int) -> BoolArray:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by_px + 1,) * 2)
    found: BoolArray = cv2.dilate(mask.astype(np.uint8), disc) > 0
    return found
