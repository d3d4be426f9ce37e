"""Input of a registration: the frames of a batch, their implants, and the steps that change poses.

Poses rotate about the implant's centre: rotations there move its outline least, so rotations and translations are
nearly uncorrelated, wherever the STL file has its origin. A step has six numbers, all in mm: the translation along
the world's x, y and z, and the rotation vector about these axes times the implant's radius: the distance that it
moves a point at that radius.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from veriserum_hf.core import (
    BoolArray,
    CameraRow,
    Component,
    FloatArray,
    PlaneName,
    beyond_blades,
    clipped_pixels,
    round_field,
)
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import FIELD_MM, Camera, detector_mm, first_px_of_whole, transform_points
from veriserum_hf.registration.implant import Implant
from veriserum_hf.rendering import path_length_window, simplified

try:
    import roma
    import torch
    from torch import Tensor

    from veriserum_hf.rendering import differentiable
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

DOF = 6
CLEAR_MM = 20.0  # between an implant and a source: more than the steps of the numerical derivatives
_WHOLE = 0.99  # share of a pixel that must be in the field
_SURROUNDINGS_MM = 7.0  # on the detector, on either side of an outline; 10 px of a whole image of 512 px
_CLIPPED = 0.25  # share of a larger pixel that is clipped, above which the pixel is
# From the source to the detector, where a camera does not state it: that of the Veriserum rig, so that pixels of a
# scale cover the same angle as there.
_DISTANCE_MM = 1860.0
_HARDLY_REDUCED = 0.98  # an image is not resampled for so little


@dataclass(frozen=True, eq=False)
class View:
    """One plane of one frame.

    Attributes
    ----------
    image : (rows, columns) float32, 1 is the brightest pixel.
    camera : of the image.
    pixel_mm : (2,) width and height of a pixel on the detector, mm: nominal, for a camera that does not state it.
    in_field : (rows, columns) bool, False in the dark corners outside a round field.
    clipped : (rows, columns) bool, pixels of the field that are saturated or underexposed: missing data.

    """

    image: NDArray[np.float32]
    camera: Camera
    pixel_mm: FloatArray
    in_field: BoolArray
    clipped: BoolArray

    @classmethod
    def from_row(cls, image: NDArray[np.generic], camera: CameraRow) -> "View":
        """View of a row's corrected grey image, of any depth, and its camera.

        Raises
        ------
        CalibrationError
            If the camera is invalid, or contradicts itself or the size of the image.
        RegistrationError
            If the image is not grey, or every pixel is the same.

        """
        if image.ndim != 2 or not image.size:
            raise RegistrationError(f"the image has the shape {image.shape}, expected a grey image: (rows, columns)")
        found = Camera.from_row(camera, image.shape)
        grey: NDArray[np.float32] = image.astype(np.float32)
        if not grey.max() > grey.min():
            raise RegistrationError("the image shows nothing: every pixel is the same")
        grey /= grey.max()
        pixel_mm = (detector_mm(camera, found.intrinsics) or _DISTANCE_MM) / found.intrinsics.diagonal()[:2]
        in_field = _field(grey, pixel_mm, first_px_of_whole(camera, image.shape))
        return cls(grey, found, pixel_mm, in_field, clipped_pixels(grey, in_field))

    def without_grey_values(self) -> "View":
        """The same without its image but for the shape, to hold many."""
        return replace(self, image=np.broadcast_to(np.float32(np.nan), self.image.shape))

    def without_pixels(self) -> "View":
        """The same without what its pixels are, but for the shape."""
        nothing = np.broadcast_to(np.False_, self.image.shape)
        return replace(self.without_grey_values(), in_field=nothing, clipped=nothing)

    def part(self, rows_columns: tuple[slice, slice]) -> "View":
        """A copy of a part of it."""
        rows, columns = rows_columns
        return replace(
            self,
            image=self.image[rows_columns].copy(),
            camera=self.camera.cropped((columns.start, rows.start)),
            in_field=self.in_field[rows_columns].copy(),
            clipped=self.clipped[rows_columns].copy(),
        )

    def size_at(self, pixel_mm: float) -> tuple[int, int]:
        """Rows and columns of the image in larger pixels; its own along an axis whose pixels are that large."""
        factors = self.pixel_mm[::-1] / pixel_mm
        factors[factors > _HARDLY_REDUCED] = 1.0
        rows, columns = np.maximum(np.rint(self.image.shape * factors), 1).astype(int).tolist()
        return rows, columns

    def reduced(self, pixel_mm: float) -> "View":
        """View in larger pixels, as near to ``pixel_mm`` as whole numbers of rows and columns allow."""
        size = self.size_at(pixel_mm)
        before = self.image.shape
        if size == before:
            return self
        image, inside, clipped = (
            cv2.resize(each.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
            for each in (self.image, self.in_field, self.clipped)
        )
        larger_mm = self.pixel_mm * np.divide(before, size)[::-1]
        return View(image, self.camera.resized(before, size), larger_mm, inside > _WHOLE, clipped > _CLIPPED)

    def share_in_field(self, implant: Implant, T_world_implant: FloatArray) -> float:
        """Share of an implant's surface that is projected into the field, 0 to 1, at a pose (4, 4) mm."""
        rows, columns = self.image.shape
        surface_mm = transform_points(T_world_implant, implant.rough.triangles_center)
        column, row = np.rint(np.nan_to_num(self.camera.project(surface_mm), nan=-1.0)).astype(int).T
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        inside[inside] = self.in_field[row[inside], column[inside]]
        return float(np.average(inside, weights=implant.rough.area_faces))

    def share_clipped(self, implant: Implant, T_world_implant: FloatArray) -> float:
        """Share of the surroundings of an implant's outline that are clipped, 0 to 1, at a pose (4, 4) mm.

        Surroundings are the pixels of the field within 7 mm of the outline on the detector, inside and outside; 0
        where there are none. The pose must be in front of the source.
        """
        if not self.clipped.any():
            return 0.0
        seen = path_length_window(implant.rough, T_world_implant, self.camera, self.image.shape)
        if not seen.values.any():
            return 0.0
        columns, rows = np.rint(_SURROUNDINGS_MM / self.pixel_mm).astype(int).tolist()
        silhouette = np.pad((seen.values > 0).astype(np.uint8), ((rows, rows), (columns, columns)))
        reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * columns + 1, 2 * rows + 1))
        near = cv2.dilate(silhouette, reach) > cv2.erode(silhouette, reach)
        first = (seen.row - rows, seen.column - columns)
        start = np.maximum(first, 0)
        stop = np.minimum(np.add(first, near.shape), self.image.shape)
        part = tuple(map(slice, start, stop))
        near = near[tuple(map(slice, start - first, stop - first))] & self.in_field[part]
        return float(self.clipped[part][near].mean()) if near.any() else 0.0


def _field(image: NDArray[np.float32], pixel_mm: FloatArray, first_px: FloatArray | None) -> BoolArray:
    """Field of an image, or of its part of the whole Veriserum image in which ``first_px`` is the first pixel."""
    lit = ~beyond_blades(image, pixel_mm)
    if first_px is None:
        return round_field(image, pixel_mm) & lit
    return round_field(image, pixel_mm, (FIELD_MM / pixel_mm - 1) / 2 - first_px, FIELD_MM) & lit


@dataclass(frozen=True, eq=False)
class Scene:
    """Frames that are registered together: the same components and planes, and in each plane images of one shape.

    Attributes
    ----------
    views : by plane, one for each of F frames.
    implants : by component, one for each frame.
    device : of the tensors; a GPU renders too.

    """

    views: Mapping[PlaneName, Sequence[View]]
    implants: Mapping[Component, Sequence[Implant]]
    device: torch.device

    def only(self, frames: Sequence[int]) -> "Scene":
        """Scene of some of the frames, which may repeat."""
        views = {plane: [each[frame] for frame in frames] for plane, each in self.views.items()}
        return Scene(
            views, {name: [each[frame] for frame in frames] for name, each in self.implants.items()}, self.device
        )

    @cached_property
    def centers_mm(self) -> Tensor:
        """Centres of the meshes in their own coordinates, (F, K, 3) float64 mm."""
        by_component = [[implant.center_mm for implant in implants] for implants in self.implants.values()]
        return torch.tensor(np.array(by_component), device=self.device).transpose(0, 1)

    @cached_property
    def radii_mm(self) -> Tensor:
        """Distance from the centre at which rotations are given in mm, (F, K) float64 mm."""
        by_component = [[implant.radius_mm for implant in implants] for implants in self.implants.values()]
        return torch.tensor(np.array(by_component), device=self.device).T

    @cached_property
    def _parts(self) -> dict[tuple[int, float], differentiable.TensorMesh]:
        return {}

    def part(self, implant: Implant, within_mm: float) -> differentiable.TensorMesh:
        """Mesh of an implant, that accurate, as tensors for rendering in torch."""
        key = implant.anatomy_id, within_mm
        if key not in self._parts:
            mesh = simplified(implant.mesh, within_mm)
            self._parts[key] = differentiable.TensorMesh.from_mesh(mesh, self.device)
        return self._parts[key]

    def moved(self, T_world_implant: Tensor, steps_mm: Tensor) -> Tensor:
        """Poses after steps: (F, K, 4, 4) and (F, ..., K, 6) to (F, ..., K, 4, 4), float64 mm."""
        extra = (1,) * (steps_mm.ndim - 3)
        T = T_world_implant.reshape(len(T_world_implant), *extra, *T_world_implant.shape[1:])
        centers = self.centers_mm.reshape(len(T), *extra, *self.centers_mm.shape[1:])
        radii = self.radii_mm.reshape(len(T), *extra, -1, 1)
        step_rotation = roma.rotvec_to_rotmat(steps_mm[..., 3:] / radii)
        rotation = step_rotation @ T[..., :3, :3]
        center_world_mm = (T[..., :3, :3] @ centers[..., None])[..., 0] + T[..., :3, 3]
        moved = T.expand(*steps_mm.shape[:-1], 4, 4).clone()
        moved[..., :3, :3] = rotation
        moved[..., :3, 3] = center_world_mm + steps_mm[..., :3] - (rotation @ centers[..., None])[..., 0]
        return moved

    def steps_between(self, T_from: Tensor, T_to: Tensor) -> Tensor:
        """Steps that `moved` takes from poses to others, (F, K, 4, 4) each, to (F, K, 6) mm."""
        rotvec = roma.rotmat_to_rotvec(T_to[..., :3, :3] @ T_from[..., :3, :3].mT)
        shift_mm = self.centers_world_mm(T_to) - self.centers_world_mm(T_from)
        return torch.cat([shift_mm, rotvec * self.radii_mm[..., None]], dim=-1)

    def centers_world_mm(self, T_world_implant: Tensor) -> Tensor:
        """Centres of the implants in the world, (F, K, 4, 4) to (F, K, 3) mm."""
        return (T_world_implant[..., :3, :3] @ self.centers_mm[..., None])[..., 0] + T_world_implant[..., :3, 3]

    def in_front(self, T_world_implant: Tensor) -> Tensor:
        """Whether all implants are well in front of every source, (F, K, 4, 4) to (F,) bool; not where one is NaN."""
        centers_world_mm = self.centers_world_mm(T_world_implant)
        reaches_mm = [[implant.reach_mm for implant in implants] for implants in self.implants.values()]
        least_mm = torch.tensor(reaches_mm).to(centers_world_mm).T + CLEAR_MM
        in_front = torch.ones(len(centers_world_mm), dtype=torch.bool, device=self.device)
        for views in self.views.values():
            axes = torch.tensor(np.array([view.camera.world_to_camera[2] for view in views])).to(centers_world_mm)
            depths_mm = (centers_world_mm @ axes[:, :3, None])[..., 0] + axes[:, 3:]
            in_front &= (depths_mm > least_mm).all(dim=1)
        return in_front

    def distance_mm(self, T_a: Tensor, T_b: Tensor) -> Tensor:
        """Distance between the implants' centres at two poses, (F, K, 4, 4) each, (F, K) mm."""
        distance_mm: Tensor = (self.centers_world_mm(T_b) - self.centers_world_mm(T_a)).norm(dim=-1)
        return distance_mm
