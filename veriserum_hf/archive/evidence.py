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
from veriserum_hf.geometry import FIELD_MM, Camera, quaternion_to_matrix

SIZE = 160  # px, of the corrected images of an archive in which outlines are compared
# Of other images, pixels have the same size at the depth of the implants; unless these are too few, or too many.
_PIXEL_MM, _EDGES_PX = 1.8, (40, 640)
# On the intensifier: it joins the edges of labels that are some mm off, and stays below the width of an implant.
_SMOOTHING_PX = 3.0 * SIZE / FIELD_MM
_SURFACE_POINTS = 6_000
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
    """Direction in which a corrected image gets brighter, (rows, columns, 2), of a length below 1."""
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
    """`directions` of a frame's images, each computed once and only when it is asked for.

    Attributes
    ----------
    cameras : of the images, by plane; a frame may have one plane only.
    sizes : of the images, (rows, columns) px.
    interchangeable : whether the file of one plane may be that of the other.

    """

    def __init__(
        self,
        cameras: Mapping[PlaneName, Camera],
        sizes: Mapping[PlaneName, tuple[int, int]],
        *,
        interchangeable: bool,
    ) -> None:
        self.cameras, self.sizes, self.interchangeable = cameras, sizes, interchangeable
        self._known: dict[tuple[PlaneName, PlaneName, int], Field] = {}

    @abstractmethod
    def image(self, file: PlaneName, plane: PlaneName, flip: int) -> Grey:
        """Corrected image of the file named after one plane, flipped, and taken for one of a plane, in its size."""

    def of(self, file: PlaneName, plane: PlaneName, flip: int) -> Field:
        """`directions` of the image."""
        key = file, plane, flip
        if key not in self._known:
            self._known[key] = directions(self.image(file, plane, flip))
        return self._known[key]


class CorrectedFields(Fields):
    """Of corrected images of any size; flipped, they are a few mm off what a flipped raw frame gives.

    Parameters
    ----------
    images : by plane.
    cameras : of these images.
    implants : the labelled implants, at least one.

    """

    def __init__(
        self,
        images: Mapping[PlaneName, Grey],
        cameras: Mapping[PlaneName, Camera],
        implants: Sequence[Implant],
    ) -> None:
        sizes = {plane: _compared_size(image.shape, cameras[plane], implants) for plane, image in images.items()}
        resized = {plane: cameras[plane].resized(image.shape, sizes[plane]) for plane, image in images.items()}
        shapes = [image.shape for image in images.values()]
        super().__init__(resized, sizes, interchangeable=len(shapes) == len(PLANES) and len({*shapes}) == 1)
        self._images = images

    def image(self, file: PlaneName, plane: PlaneName, flip: int) -> Grey:
        """See `Fields`."""
        small = cv2.resize(self._images[file], self.sizes[plane][::-1], interpolation=cv2.INTER_AREA)
        return flipped(small, flip)  # type: ignore[arg-type] # of the image's own type


def _compared_size(shape: Sequence[int], camera: Camera, implants: Sequence[Implant]) -> tuple[int, int]:
    """Rows and columns of an image with pixels of `_PIXEL_MM` at the implants' depth."""
    centres_mm = [_in_world(each).mean(axis=0) for each in implants]
    depth_mm = max(float(np.median(camera.depths_mm(centres_mm))), _PIXEL_MM)
    size = np.array(shape) * depth_mm / camera.intrinsics.diagonal()[1::-1] / _PIXEL_MM
    size *= np.clip(size.max(), *_EDGES_PX) / size.max()
    rows, columns = np.maximum(np.rint(size), 1).astype(int).tolist()
    return rows, columns


def _in_world(implant: Implant, *, scalar_first: bool = False) -> FloatArray:
    """Surface of an implant in the world, (n, 3) mm."""
    stored = np.asarray(implant.quaternion_xyzw)
    R = quaternion_to_matrix(np.roll(stored, -1) if scalar_first else stored)
    return np.asarray(implant.surface_mm @ R.T + implant.translation_mm)


def agreement(fields: Fields, implants: Sequence[Implant], *, as_read: bool = False) -> FloatArray:
    """Agreement of a frame's labels with its images in every reading, -1 to 1.

    Parameters
    ----------
    fields : the images, with their cameras.
    implants : the labelled implants.
    as_read : only in the present reading.

    Returns
    -------
    (2, 2, 2, 4) by plane, order of the quaternion (scalar last, first), file (of this plane, of the other) and flip;
    NaN where it was not computed, there is no such plane, or none of the implants has an outline in the image.

    """
    found = np.full((2, 2, 2, len(FLIPS)), np.nan)
    for p, plane in enumerate(PLANES):
        if plane not in fields.cameras:
            continue
        camera, size = fields.cameras[plane], fields.sizes[plane]
        files = (plane, PLANES[1 - p]) if fields.interchangeable and not as_read else (plane,)
        for order in (0,) if as_read else (0, 1):
            outlines = [outline for each in implants if (outline := _outline(each, camera, size, order == 1))]
            if not outlines:
                continue
            for f, file in enumerate(files):
                for flip in (0,) if as_read else range(len(FLIPS)):
                    field = fields.of(file, plane, flip)
                    cosines = [
                        np.vdot(field[rows, columns], normals) / len(rows) for columns, rows, normals in outlines
                    ]
                    found[p, order, f, flip] = np.mean(cosines)
    return found


def _outline(
    implant: Implant, camera: Camera, size: tuple[int, int], scalar_first: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp], Field] | None:
    """Columns, rows and outward normals (n, 2) of a silhouette's outline; None where the image shows too little."""
    px, last_px = camera.project(_in_world(implant, scalar_first=scalar_first)), np.array(size[::-1]) - 1
    with np.errstate(invalid="ignore"):  # NaN behind the source, which is nowhere in the image
        inside = (np.abs(px - last_px / 2) < (last_px + 1) / 2).all(axis=1)
    columns, rows = np.rint(px[inside]).astype(np.intp).T
    shadow = np.zeros(size, np.uint8)
    shadow[rows, columns] = 1
    closed: Grey = cv2.morphologyEx(shadow, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))  # type: ignore[assignment]
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    columns, rows = np.concatenate([np.empty((0, 2), np.intp), *(each[:, 0] for each in contours)]).T
    # A silhouette that leaves the image ends at its border without an edge.
    within = (np.minimum(columns, rows) > 1) & (columns < last_px[0] - 1) & (rows < last_px[1] - 1)
    columns, rows = columns[within], rows[within]
    if len(columns) < _SMALLEST_PX:
        return None
    across, down = (-gradient[rows, columns] for gradient in _gradient(closed))
    length = np.maximum(np.hypot(across, down), _TINY)  # zero where a silhouette is thin, and its outline has no side
    return columns, rows, np.stack([across / length, down / length], axis=1)
