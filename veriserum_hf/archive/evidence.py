"""How well the outlines of labelled implants agree with images.

Metal is darker than what surrounds it, so that across an implant's outline the image gets brighter outwards. The
agreement of an outline with an image is the mean, over the points of the outline, of the cosine between its outward
normal and the image's gradient: near 1 for the outline of a dark object, 0 by chance, near -1 for a bright object.
The contrast does not matter, except that gradients below the image's median count less.

A silhouette is drawn from points on the implant's surface, so that an open mesh, or one that is inside out, has one
too.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from veriserum_hf.core import PLANES, FloatArray, Grey, PlaneName
from veriserum_hf.geometry import FIELD_MM, Plane, quaternion_to_matrix

SIZE = 160  # px, of the corrected images in which outlines are compared
# On the intensifier: it joins the edges of labels that are some mm off, and stays below the width of an implant.
_SMOOTHING_PX = 3.0 * SIZE / FIELD_MM
_SURFACE_POINTS = 6_000
_CENTER = (SIZE - 1) / 2
_TINY = float(np.finfo(np.float32).tiny)
_SMALLEST_PX = 16  # points of an outline: below, the implant is a speck, and its outline has no shape

FLIPS = ("", "flipped upside down", "mirrored left to right", "rotated by 180 degrees")
Field = NDArray[np.float32]


class Implant(NamedTuple):
    """A labelled implant: points on its surface, (n, 3) mm, and its pose."""

    surface_mm: FloatArray
    translation_mm: Sequence[float]
    quaternion_xyzw: Sequence[float]


def flipped(image: Grey, flip: int) -> Grey:
    """An image or frame after one of the `FLIPS`."""
    across, down = (-1 if flip & 2 else 1), (-1 if flip & 1 else 1)
    oriented: Grey = np.ascontiguousarray(image[::down, ::across])  # type: ignore[assignment]
    return oriented


def surface(mesh: trimesh.Trimesh) -> FloatArray:
    """Points on an implant's surface, (n, 3) mm; the same in every run."""
    points, _ = trimesh.sample.sample_surface(mesh, _SURFACE_POINTS, seed=0)
    return np.asarray(points)


def directions(image: Grey) -> Field:
    """Direction in which a corrected image of `SIZE` px gets brighter, (rows, columns, 2), of a length below 1."""
    across, down = _gradient(image)
    length = np.hypot(across, down)
    length = length + max(np.median(length[::2, ::2]), _TINY)  # an image may have one grey level only
    return np.stack([across / length, down / length], axis=-1)


def _gradient(image: Grey) -> tuple[Field, Field]:
    """Increase of a smoothed image from pixel to pixel, to the right and downwards."""
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), _SMOOTHING_PX)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return across, down  # type: ignore[return-value]


class Fields(ABC):
    """`directions` of a frame's images, each computed once and only when it is asked for."""

    def __init__(self) -> None:
        self._known: dict[tuple[PlaneName, PlaneName, int], Field] = {}

    @abstractmethod
    def image(self, file: PlaneName, plane: PlaneName, flip: int) -> Grey:
        """Corrected image of `SIZE` px of the file named after one plane, flipped, and taken for one of a plane."""

    def of(self, file: PlaneName, plane: PlaneName, flip: int) -> Field:
        """`directions` of the image."""
        key = file, plane, flip
        if key not in self._known:
            self._known[key] = directions(self.image(file, plane, flip))
        return self._known[key]


class CorrectedFields(Fields):
    """Of corrected images by plane, of any size; flipped, they are a few mm off what a flipped raw frame gives."""

    def __init__(self, images: Mapping[PlaneName, Grey]) -> None:
        super().__init__()
        self._images: dict[PlaneName, Grey] = {
            plane: cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)  # type: ignore[misc]
            for plane, image in images.items()
        }

    def image(self, file: PlaneName, plane: PlaneName, flip: int) -> Grey:
        """See `Fields`."""
        return flipped(self._images[file], flip)


def agreement(
    fields: Fields, planes: Mapping[PlaneName, Plane], implants: Sequence[Implant], *, as_read: bool = False
) -> FloatArray:
    """Agreement of a frame's labels with its images in every reading, -1 to 1.

    Parameters
    ----------
    fields : the images.
    planes : source and intensifier of both planes.
    implants : the labelled implants.
    as_read : only in the present reading.

    Returns
    -------
    (2, 2, 2, 4) by plane, order of the quaternion (scalar last, first), file (of this plane, of the other) and flip;
    NaN where it was not computed, or none of the implants has an outline in the image.

    """
    found = np.full((2, 2, 2, len(FLIPS)), np.nan)
    for p, plane in enumerate(PLANES):
        for order in (0,) if as_read else (0, 1):
            outlines = [outline for each in implants if (outline := _outline(each, planes[plane], order == 1))]
            if not outlines:
                continue
            for f, file in enumerate((plane,) if as_read else (plane, PLANES[1 - p])):
                for flip in (0,) if as_read else range(len(FLIPS)):
                    field = fields.of(file, plane, flip)
                    cosines = [
                        np.vdot(field[rows, columns], normals) / len(rows) for columns, rows, normals in outlines
                    ]
                    found[p, order, f, flip] = np.mean(cosines)
    return found


def _outline(
    implant: Implant, plane: Plane, scalar_first: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp], Field] | None:
    """Columns, rows and outward normals (n, 2) of a silhouette's outline; None where the image shows too little."""
    stored = np.asarray(implant.quaternion_xyzw)
    R = quaternion_to_matrix(np.roll(stored, -1) if scalar_first else stored)
    px = plane.project(implant.surface_mm @ R.T + implant.translation_mm, SIZE)
    with np.errstate(invalid="ignore"):  # NaN behind the source, which is nowhere in the image
        inside = (np.abs(px[:, 0] - _CENTER) < SIZE / 2) & (np.abs(px[:, 1] - _CENTER) < SIZE / 2)
    columns, rows = np.rint(px[inside]).astype(np.intp).T
    shadow = np.zeros((SIZE, SIZE), np.uint8)
    shadow[rows, columns] = 1
    closed: Grey = cv2.morphologyEx(shadow, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))  # type: ignore[assignment]
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    columns, rows = np.concatenate([np.empty((0, 2), np.intp), *(each[:, 0] for each in contours)]).T
    # A silhouette that leaves the image ends at its border without an edge.
    within = (np.minimum(columns, rows) > 1) & (np.maximum(columns, rows) < SIZE - 2)
    columns, rows = columns[within], rows[within]
    if len(columns) < _SMALLEST_PX:
        return None
    across, down = (-gradient[rows, columns] for gradient in _gradient(closed))
    length = np.maximum(np.hypot(across, down), _TINY)  # zero where a silhouette is thin, and its outline has no side
    return columns, rows, np.stack([across / length, down / length], axis=1)
