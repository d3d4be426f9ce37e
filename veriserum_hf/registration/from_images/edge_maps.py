"""Edges of an image with their directions, for a search that assumes nothing about grey values but their order.

A gradient counts by its direction, and by its strength relative to that of its neighbourhood: a monotone change of
grey values hardly changes it. Responses hold, for each direction and pixel, how well an edge nearby agrees with the
direction (after Hinterstoisser et al., "Gradient response maps for real-time detection of textureless objects",
IEEE TPAMI 34, 2012).
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from veriserum_hf.core import BoolArray
from veriserum_hf.geometry import Camera
from veriserum_hf.registration.scene import View

DIRECTIONS = 16
FULL = 100  # response to a perfect edge
_BLUR_PX = 0.8
_NEIGHBOURHOOD_PX = 10.0
_BLACK = 0.02  # of the brightest pixel
_RIM_PX = 3  # next to the edge of the field, where gradients are those of the field
_FLAT = 0.003  # of the range of grey values: weaker gradients (a pixel) are noise or nothing


@dataclass(frozen=True, eq=False)
class EdgeMap:
    """Edges of one plane at one scale.

    Attributes
    ----------
    camera : of the reduced image.
    edges : (2, rows, columns) gradient along columns and rows, of a length from 0 to 1; 0 outside the field.
    in_field : (rows, columns).

    """

    camera: Camera
    edges: NDArray[np.float32]
    in_field: BoolArray

    @classmethod
    def of_view(cls, view: View, longest_px: int) -> "EdgeMap":
        """Edges of a view whose image is reduced to so many pixels along its longer side, if it has more."""
        reduced = view.reduced(float((view.pixel_mm * view.image.shape[::-1]).max()) / longest_px)
        image = cv2.GaussianBlur(reduced.image, (0, 0), _BLUR_PX)
        gradient = np.stack([cv2.Scharr(image, cv2.CV_32F, *axis, scale=1 / 32) for axis in ((1, 0), (0, 1))])
        rim = np.ones((2 * _RIM_PX + 1, 2 * _RIM_PX + 1), np.uint8)
        # Dark corners that are not black may be a leg, in images of another scale of grey values.
        seen = reduced.in_field | (reduced.image > _BLACK)
        in_field = cv2.erode(seen.astype(np.uint8), rim, borderValue=0) > 0
        gradient *= in_field
        strength = np.hypot(*gradient)
        inside = np.maximum(cv2.GaussianBlur(in_field.astype(np.float32), (0, 0), _NEIGHBOURHOOD_PX), 1e-3)
        around = np.sqrt(cv2.GaussianBlur(strength**2, (0, 0), _NEIGHBOURHOOD_PX) / inside)
        flat = _FLAT * float(np.ptp(reduced.image[reduced.in_field])) if reduced.in_field.any() else 1.0
        return cls(reduced.camera, gradient / (strength + around + flat) * 1.5, in_field)

    def responses(self, spread_px: int, sign: float) -> NDArray[np.uint8]:
        """Responses (DIRECTIONS, rows, columns), 0 to FULL, to edges within ``spread_px``.

        Direction b is an outward normal at b / DIRECTIONS of a full rotation from the columns' axis to the rows';
        ``sign`` is 1 where implants are darker than what surrounds them, -1 where they are brighter.
        """
        angles = 2 * math.pi * np.arange(DIRECTIONS) / DIRECTIONS
        normals = sign * np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        along = np.einsum("dc,crw->drw", normals, self.edges)
        strength = np.maximum(np.hypot(*self.edges), 1e-6)
        # The square of the cosine: 22 degrees off still count 0.85, 60 degrees 0.25.
        response = np.clip(along, 0, None) ** 2 / strength
        near = np.ones((2 * spread_px + 1, 2 * spread_px + 1), np.uint8)
        return np.stack([cv2.dilate(np.minimum(FULL * each, FULL).astype(np.uint8), near) for each in response])
