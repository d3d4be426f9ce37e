"""One plane of one frame at one scale: its blurred image, and what outlines of implants have next to them there."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.geometry import Camera
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.outline.edges import mean_rise, seen_around, steepest
from veriserum_hf.registration.outline.kernels import by_step, covered, directions
from veriserum_hf.registration.scene import View
from veriserum_hf.rendering import ContourGenerator, ContourPieces, path_length_window, simplified

_MARGIN_PX = 12  # of renderings around the implants
_ACROSS_PX = 1.2  # the shadow ends between these distances outside and inside of an outline
_COVERED_PX = 4  # around the shadow of another implant, where its edges may be taken for those of this one
_SAME_NORMAL = np.cos(np.radians(30))
_CLEAR = 0.25  # of the steepest edges of a rendering: fainter ones are not expected in an image
_KEPT = 256  # meshes whose edges are prepared
_LOG_DIFFERENCE = 0.2  # step of the derivative with respect to the logarithm of an attenuation


@dataclass(frozen=True, eq=False)
class Body:
    """An implant, its mesh in the detail of a scale, and the edges of that prepared for contours."""

    implant: Implant
    mesh: trimesh.Trimesh
    generator: ContourGenerator

    @classmethod
    def of(cls, implant: Implant, within_mm: float) -> "Body":
        """An implant whose mesh is that accurate."""
        mesh = simplified(implant.mesh, within_mm)
        return cls(implant, mesh, _contours(mesh))


@lru_cache(maxsize=_KEPT)
def _contours(mesh: trimesh.Trimesh) -> ContourGenerator:
    return ContourGenerator(mesh)


class Level:
    """An image at one scale.

    Parameters
    ----------
    view : the image and its camera.
    pixel_mm : pixels are made as large as this on the detector, if they are smaller.
    blur_px : standard deviation of the blur, in these pixels.
    brighter_inside : whether the implants are brighter than what is around them.

    """

    def __init__(self, view: View, pixel_mm: float, blur_px: float, *, brighter_inside: bool) -> None:
        self.view = view.reduced(pixel_mm)
        self.camera, self.blur_px = self.view.camera, blur_px
        self.image = _blurred(-self.view.image if brighter_inside else self.view.image, blur_px)
        self._any_clipped = bool(self.view.clipped.any())
        self.first_px = np.zeros(2, int)  # (column, row) of its first pixel in the whole image

    def with_camera(self, camera: Camera) -> "Level":
        """The same image by another camera, of the whole image at this scale."""
        found = copy.copy(self)
        found.camera = camera.cropped(self.first_px)
        return found

    def around(self, shadows: Sequence["Shadow"], margin_px: int) -> "Level":
        """The part of the image around shadows, to hold many; without unblurred grey values, which polarity needs."""
        seen = [shadow for shadow in shadows if shadow.lengths_mm.size]
        corners = [
            (each.column, each.row, *np.add((each.column, each.row), each.lengths_mm.shape[::-1])) for each in seen
        ]
        found, (rows, columns) = copy.copy(self), self.image.shape
        bounds = np.array(corners or [(0, 0, columns, rows)])
        first = np.maximum(bounds[:, :2].min(axis=0) - margin_px, 0)
        stop = np.minimum(bounds[:, 2:].max(axis=0) + margin_px, (columns, rows))
        part = slice(first[1], stop[1]), slice(first[0], stop[0])
        found.view = self.view.part(part).without_grey_values()
        found.image, found.first_px, found.camera = (
            self.image[part].copy(),
            self.first_px + first,
            self.camera.cropped(first),
        )
        return found

    def render(self, body: Body, T_world_implant: FloatArray) -> "Shadow":
        """Path lengths through an implant at a pose."""
        window = path_length_window(
            body.mesh, T_world_implant, self.camera, self.view.image.shape, margin_px=_MARGIN_PX
        )
        return Shadow(window.row, window.column, window.values.astype(np.float32))

    def outline(
        self, body: Body, T_world_implant: FloatArray, own: "Shadow", others: Sequence["Shadow"]
    ) -> ContourPieces:
        """Visible outline of an implant: the end of its shadow, outside those of others."""
        pieces = body.generator.pieces(T_world_implant, self.camera)
        pieces = pieces.taken(own.ends_at(pieces) & own.covers(pieces.px - _ACROSS_PX * pieces.normals))
        canvas = own.canvas
        shadow: NDArray[np.float32] = (canvas.lengths_mm > 0).astype(np.float32)
        found, _ = self._along(pieces, 1 - _blurred(shadow, self.blur_px), canvas, others)
        return found

    def clipped(self, pieces: ContourPieces, offset_px: FloatArray) -> BoolArray:
        """Whether pixels next to the edges at these distances along an outline's normals are clipped, (n,) bool."""
        if not self._any_clipped:
            return np.zeros(len(offset_px), bool)
        return ~seen_around(~self.view.clipped, pieces.px, pieces.normals, _without_nan(offset_px))

    def expected(
        self,
        body: Body,
        T_world_implant: FloatArray,
        shadows: Sequence["Shadow"],
        log_per_mm: FloatArray,
        own: int,
        window_px: float,
    ) -> tuple[ContourPieces, FloatArray, FloatArray]:
        """Contours of an implant that a rendering shows, inner ones too, and where it has their edges.

        Returns
        -------
        Pieces; distances along their normals to the edges of the rendering, (n,) px; and the derivative of these with
        respect to the logarithm of the implant's own attenuation.

        """
        canvas = shadows[own].canvas
        exponent = np.zeros_like(canvas.lengths_mm)
        for k, shadow in enumerate(shadows):
            if k != own:
                shadow.add_to(exponent, canvas, float(np.exp(log_per_mm[k])))
        low, high = (
            _blurred(
                np.exp(-(exponent + np.float32(np.exp(log_per_mm[own] + change)) * canvas.lengths_mm)), self.blur_px
            )
            for change in (-_LOG_DIFFERENCE, _LOG_DIFFERENCE)
        )
        pieces = body.generator.pieces(T_world_implant, self.camera)
        others = [shadow for k, shadow in enumerate(shadows) if k != own]
        pieces, slope = self._along(pieces, np.float32(0.5) * (low + high), canvas, others)
        if len(slope):
            pieces = pieces.taken(slope > _CLEAR * np.percentile(slope, 90))
        at = pieces.px - (canvas.column, canvas.row)
        low_px, high_px = (steepest(each, at, pieces.normals, window_px)[0] for each in (low, high))
        return pieces, (low_px + high_px) / 2, (high_px - low_px) / (2 * _LOG_DIFFERENCE)

    def _along(
        self, pieces: ContourPieces, rendered: NDArray[np.float32], canvas: "Shadow", others: Sequence["Shadow"]
    ) -> tuple[ContourPieces, FloatArray]:
        """Pieces along edges of a rendering, brighter outside, with its normals and slopes.

        The normals are those of a blurred rendering since edges of a mesh zigzag about its outline.
        """
        normals, slope = directions(rendered, pieces.px, canvas.column, canvas.row)
        kept = (normals * pieces.normals).sum(axis=1) > _SAME_NORMAL
        for other in others:
            kept &= ~other.covers(pieces.px, _COVERED_PX)
        found = ContourPieces(pieces.points_mm, pieces.px, normals, pieces.length_px)
        return found.taken(kept), slope[kept]

    def by_step(self, pieces: ContourPieces, implant: Implant, T_world_implant: FloatArray) -> FloatArray:
        """Derivative of the outline's place along its normals with respect to steps of `scene`, (n, 6) px per mm."""
        T_camera_implant = self.camera.world_to_camera @ T_world_implant
        return by_step(
            pieces.points_mm,
            pieces.normals,
            T_world_implant,
            T_camera_implant,
            self.camera.intrinsics,
            implant.center_mm,
            implant.radius_mm,
        )

    def edges(
        self, pieces: ContourPieces, window_px: float, *, soft: bool
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Distances along an outline's normals to the edges of the image, their slopes, and where it is usable.

        Distances and slopes are NaN where there is no edge, or where the image is not usable.
        """
        find = mean_rise if soft else steepest
        offset_px, slope = find(self.image, pieces.px, pieces.normals, window_px)
        visible = seen_around(self.view.in_field, pieces.px, pieces.normals, _without_nan(offset_px))
        offset_px[~visible] = slope[~visible] = np.nan
        return offset_px, slope, visible


@dataclass(frozen=True, eq=False)
class Shadow:
    """Path lengths through an implant in a part of an image.

    Attributes
    ----------
    row, column : of the first pixel.
    lengths_mm : (rows, columns) float32.

    """

    row: int
    column: int
    lengths_mm: NDArray[np.float32]

    @cached_property
    def canvas(self) -> "Shadow":
        """With so many more pixels on every side, in which nothing is, that its blur ends there."""
        return self._padded(_MARGIN_PX)

    def _padded(self, by_px: int) -> "Shadow":
        rows, columns = self.lengths_mm.shape
        lengths_mm = np.zeros((rows + 2 * by_px, columns + 2 * by_px), np.float32)
        lengths_mm[by_px : by_px + rows, by_px : by_px + columns] = self.lengths_mm
        return Shadow(self.row - by_px, self.column - by_px, lengths_mm)

    @cached_property
    def _grown(self) -> dict[int, "Shadow"]:
        """1 where it is, or within so many pixels; each is made once."""
        return {}

    def _around(self, around_px: int) -> "Shadow":
        if around_px not in self._grown:
            grown = self._padded(around_px)
            shadow = (grown.lengths_mm > 0).astype(np.float32)
            if around_px:
                disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * around_px + 1,) * 2)
                shadow = np.asarray(cv2.dilate(shadow, disc), np.float32)
            self._grown[around_px] = Shadow(grown.row, grown.column, shadow)
        return self._grown[around_px]

    def ends_at(self, pieces: ContourPieces) -> BoolArray:
        """Whether the shadow ends at pieces, (n,) bool; the others are edges inside it."""
        return ~self.covers(pieces.px + _ACROSS_PX * pieces.normals)

    def covers(self, px: FloatArray, around_px: int = 0) -> BoolArray:
        """Whether pixels (n, 2) are in the shadow or so near it."""
        if not self.lengths_mm.size:
            return np.zeros(len(px), bool)
        around = self._around(around_px)
        return covered(around.lengths_mm, px, around.column, around.row)

    def add_to(self, canvas: NDArray[np.float32], of: "Shadow", per_mm: float) -> None:
        """Add the attenuation of the part that lies in the canvas of another shadow."""
        top, left = max(self.row, of.row), max(self.column, of.column)
        bottom = min(self.row + self.lengths_mm.shape[0], of.row + canvas.shape[0])
        right = min(self.column + self.lengths_mm.shape[1], of.column + canvas.shape[1])
        if bottom > top and right > left:
            canvas[top - of.row : bottom - of.row, left - of.column : right - of.column] += (
                np.float32(per_mm)
                * self.lengths_mm[top - self.row : bottom - self.row, left - self.column : right - self.column]
            )


def _without_nan(values: FloatArray) -> FloatArray:
    return np.where(np.isnan(values), 0.0, values)


def _blurred(image: NDArray[np.float32], blur_px: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), blur_px, borderType=cv2.BORDER_REPLICATE), np.float32)
