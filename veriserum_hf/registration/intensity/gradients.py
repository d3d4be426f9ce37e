"""Gradient images of one plane at one scale of the pyramid: of the X-ray images, and of rendered implants (DRRs).

Images are compared by their blurred gradients: smooth contributions such as scatter, glare and the fall-off of the
open field have small gradients, and the blur widens the capture range. Neighbouring pixels of a blurred image are
redundant, so gradients are kept on a coarser grid, and only near the implants.

Clipped pixels are missing data, in the X-ray images and in the rendered ones: the slope at a place is that of the
other pixels around it. So an outline next to a saturated area counts with its dark side.
"""

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.core import Component, FloatArray, PlaneName
from veriserum_hf.geometry import transform_points
from veriserum_hf.registration.intensity.boxes import Box, box_of_windows, drawn
from veriserum_hf.registration.intensity.filters import dilated, kernels, laplacian, moment_kernels
from veriserum_hf.registration.intensity.scales import Scale
from veriserum_hf.registration.scene import Scene
from veriserum_hf.rendering import Window, path_length_window, simplified

try:
    import torch
    from torch import Tensor
    from torch.nn import functional

    from veriserum_hf.rendering import differentiable
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

_LEAST_SEEN = 0.2  # share of the blur's weight on pixels that are not clipped, where a place is used
_FIELD_ORDER = 3  # of the polynomial that the open field is within a window
_RENDERED_AT_ONCE = 64  # on a GPU, of poses


class PlaneGradients:
    """Gradients of the images of F frames in one plane, and of implants rendered into them.

    Parameters
    ----------
    scene, plane : the frames, and which of their views.
    scale : level of the pyramid.
    T_world_implant : (F, K, 4, 4) poses that define the window, mm.

    Attributes
    ----------
    views : of the frames, in the pixels of the scale.
    observed : (F, 2, S) gradients of the images along columns and rows at S places of the window.
    used : (F, S) float64, 1 where a place is near an implant, in the field and not amid clipped pixels, else 0.
    tiles : (S,) number of the tile that a place is in.

    """

    def __init__(self, scene: Scene, plane: PlaneName, scale: Scale, T_world_implant: Tensor) -> None:
        self._scene, self._scale = scene, scale
        self.views = [view.reduced(scale.pixel_mm) for view in scene.views[plane]]
        self._rendered = []  # camera and size of the images of rays
        for view in self.views:
            size = tuple(scale.rays * edge for edge in view.image.shape)
            self._rendered.append((view.camera.resized(view.image.shape, size), size))
        self._kernels = kernels(scale.blur_px, scene.device)
        self._moment_kernels = moment_kernels(*self._kernels)
        T = T_world_implant.cpu().numpy()
        self._origin, self._extent = self._window(T)
        self._shape = (int(self._extent[:, 1].max()), int(self._extent[:, 0].max()))
        images, in_field, clipped = self._crops()
        # The edge of the field is not an implant: filters must not reach across it.
        reach = len(self._kernels[0]) // 2
        in_field = ~dilated(~in_field[:, None], reach, reach)[:, 0]
        kept = self._on_grid(self._near(T_world_implant) & in_field)
        self._unclipped = (~clipped[:, None]).float() if clipped.any() else None
        if self._unclipped is not None:
            *moments, seen = self._blurred(self._unclipped, 3).unbind(2)
            self._centers = torch.stack(moments, dim=2) / seen[:, :, None].clamp(min=_LEAST_SEEN)
            kept &= seen[:, 0] > _LEAST_SEEN
            self._brighter = images > (images.amin((2, 3), keepdim=True) + images.amax((2, 3), keepdim=True)) / 2
        wanted = kept.flatten(1).any(0)
        wanted[0] |= ~wanted.any()  # where a plane shows no implant: one place without weight
        self._places = wanted.nonzero()[:, 0]
        self.used = kept.flatten(1)[:, self._places].double()
        row, column = self._places // kept.shape[2], self._places % kept.shape[2]
        tile = scale.tile_px / scale.stride
        self.tiles = (row / tile).long() * kept.shape[2] + (column / tile).long()
        self._fields = self._polynomials()
        self._scattered = self.gradients(self._fields[:, 1:])  # the first is constant and has no gradient
        slopes = torch.gradient(self._fields, dim=(3, 2))
        self._expansion = [self._on_grid(each).flatten(2)[..., self._places] for each in (self._fields, *slopes)]
        self.observed = self.gradients(images)[:, 0].double()

    def lengths(self, component: Component, T_world_implant: Tensor) -> Tensor:
        """Path lengths in mm through an implant at M poses, (F, M, 4, 4) to (F, M, rows, columns) of rays."""
        if self._scene.device.type != "cpu":
            return self._render_in_torch(component, T_world_implant)
        whole = Box(0, 0, *self._shape)
        return torch.stack([drawn(each, whole, self._scale.rays) for each in self._seen(component, T_world_implant)])

    def lengths_around(self, component: Component, T_world_implant: Tensor) -> tuple[Box, Tensor]:
        """Part of the window outside which there are no path lengths at any of the poses, and those in this part."""
        if self._scene.device.type != "cpu":
            return Box(0, 0, *self._shape), self._render_in_torch(component, T_world_implant)
        seen, rays = self._seen(component, T_world_implant), self._scale.rays
        box = box_of_windows([window for of_frame in seen for window in of_frame], rays, self._shape)
        return box, torch.stack([drawn(each, box, rays) for each in seen])

    def pixels(self, rays: Tensor) -> Tensor:
        """Means of the rays of each pixel, (F, M, rows, columns)."""
        return functional.avg_pool2d(rays, self._scale.rays) if self._scale.rays > 1 else rays

    def gradients(self, images: Tensor, box: Box | None = None) -> Tensor:
        """Blurred gradients of images (F, M, rows, columns) at the places of the grid, (F, M, 2, S).

        Images may be a part of the window, outside which they are zero.
        """
        if self._unclipped is None:
            return self._blurred(images, 2, box).flatten(3)[..., self._places]
        sums = self._blurred(images * (self._unclipped if box is None else box.of(self._unclipped)), 3, box)
        # About the centre of the pixels that remain: an even image has no gradient, however they lie.
        return (sums[:, :, :2] - self._centers * sums[:, :, 2:]).flatten(3)[..., self._places]

    def fields(self, transmission: Tensor) -> Tensor:
        """Gradients of the components of the image model, (F, C, 2, S), for a transmission (F, 1, rows, columns).

        First the light, a polynomial times the transmission, of which the polynomial is linear within the reach of
        the blur (product rule); then its blur, to first order (by diffusion); then the scatter, a polynomial.
        """
        blur = self.gradients(laplacian(transmission))
        return torch.cat([self._light(transmission), blur, self._scattered], dim=1)

    def _light(self, transmission: Tensor) -> Tensor:
        """Gradients of a transmission (F, 1, rows, columns) times each polynomial, (F, C, 2, S)."""
        seen = transmission if self._unclipped is None else transmission * self._unclipped
        pairs = [each[: 6 if self._unclipped is None else 9] for each in self._moment_kernels]
        moments = self._filtered(seen, *pairs)[:, 0].flatten(2)[..., self._places].unsqueeze(1)  # (F, 1, 6 or 9, S)
        value, by_column, by_row = (each[:, :, None] for each in self._expansion)  # (F, C, 1, S) each
        slope, by_own, by_other = (moments[:, :, n:6:3] for n in range(3))  # (F, 1, 2, S) each
        own, other = (torch.cat(pair, dim=2) for pair in ((by_column, by_row), (by_row, by_column)))
        found = value * slope + own * by_own + other * by_other
        if self._unclipped is None:
            return found
        blur = value * moments[:, :, 6:7] + by_column * moments[:, :, 7:8] + by_row * moments[:, :, 8:]
        return found - self._centers[:, 0].flatten(2)[..., self._places].unsqueeze(1) * blur

    def light(self, coefficients: Tensor) -> Tensor:
        """Light in every pixel, (F, 1, rows, columns), from the first of the coefficients (F, C) of `fields`."""
        used = coefficients[:, : self._fields.shape[1]].to(self._fields.dtype)
        return torch.einsum("fc,fchw->fhw", used, self._fields)[:, None]

    def contradicted(self, opaque: Tensor, coefficients: Tensor) -> Tensor:
        """Share of an implant's opaque pixels (F, 1, rows, columns) that are clipped as the open field is, (F,).

        That is at the upper limit, or at the lower one of inverted images, where more light is darker.
        """
        area = opaque.sum((1, 2, 3))
        if self._unclipped is None:
            return torch.zeros_like(area, dtype=torch.float64)
        inverted = (self.light(coefficients) * opaque).sum((1, 2, 3)) < 0
        open_field = (self._unclipped == 0) & (self._brighter != inverted[:, None, None, None])
        return (opaque & open_field).sum((1, 2, 3)).double() / area.clamp(min=1)

    def _blurred(self, images: Tensor, count: int, box: Box | None = None) -> Tensor:
        """The first of slope along columns, slope along rows, and blur, of images on the grid, (F, M, count, ...)."""
        smooth, slope = self._kernels
        down, across = torch.stack((smooth, slope, smooth)[:count]), torch.stack((slope, smooth, smooth)[:count])
        if box is None:
            return self._filtered(images, down, across)
        stride, beyond = self._scale.stride, len(smooth) - 1
        rows, columns = ((edge - beyond - 1) // stride + 1 for edge in self._shape)
        found = images.new_zeros(*images.shape[:2], count, rows, columns)
        places = box.reached(beyond, stride, (rows, columns))
        if min(places.shape) > 0:
            top, left = stride * places.top, stride * places.left
            bottom, right = stride * (places.bottom - 1) + beyond + 1, stride * (places.right - 1) + beyond + 1
            around = (box.left - left, right - box.right, box.top - top, bottom - box.bottom)
            places.of(found)[:] = self._filtered(functional.pad(images, around), down, across)
        return found

    def _filtered(self, images: Tensor, down: Tensor, across: Tensor) -> Tensor:
        """Images (F, M, rows, columns) on the grid, filtered by pairs of kernels (N, length), (F, M, N, ...)."""
        frames, several, *shape = images.shape
        stride = self._scale.stride
        found = functional.conv2d(images.reshape(-1, 1, *shape), down[:, None, :, None], stride=(stride, 1))
        found = functional.conv2d(found, across[:, None, None, :], stride=(1, stride), groups=len(down))
        return found.view(frames, several, *found.shape[1:])

    def _window(self, T: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First column and row of each frame's window, (F, 2), and the number of columns and rows, (F, 2)."""
        boxes = np.empty((len(self.views), 2, 2))
        for frame, view in enumerate(self.views):
            reach_px = self._scale.margin_mm / view.pixel_mm + len(self._kernels[0])
            px = np.concatenate(
                [
                    view.camera.project(transform_points(T[frame, k], implants[frame].rough.vertices))
                    for k, implants in enumerate(self._scene.implants.values())
                ]
            )
            size = view.image.shape[::-1]
            boxes[frame] = np.clip([px.min(axis=0) - reach_px, px.max(axis=0) + reach_px], -1, size)
        first = np.floor(boxes[:, 0]).astype(np.int64)
        needed = np.maximum(np.ceil(boxes[:, 1]).astype(np.int64) + 1 - first, len(self._kernels[0]))
        return first, needed

    def _crops(self) -> tuple[Tensor, Tensor, Tensor]:
        """Windows of the images, (F, 1, rows, columns), of their fields and clipped pixels, (F, rows, columns)."""
        images, fields, clipped = [], [], []
        for view, first in zip(self.views, self._origin, strict=True):
            rows, columns = (
                np.arange(start, start + count) for start, count in zip(first[::-1], self._shape, strict=True)
            )
            last_row, last_column = (edge - 1 for edge in view.image.shape)
            inside = ((rows >= 0) & (rows <= last_row))[:, None] & ((columns >= 0) & (columns <= last_column))
            at = np.ix_(rows.clip(0, last_row), columns.clip(0, last_column))
            images.append(view.image[at])
            fields.append(view.in_field[at] & inside)
            clipped.append(view.clipped[at] & inside)
        found = [torch.from_numpy(np.stack(each)).to(self._scene.device) for each in (images, fields, clipped)]
        return found[0][:, None], found[1], found[2]

    def _near(self, T_world_implant: Tensor) -> Tensor:
        """Whether pixels are within the margin of an implant's projection, (F, rows, columns)."""
        projection = torch.zeros(len(self.views), 1, *self._shape, device=self._scene.device)
        for k, component in enumerate(self._scene.implants):
            projection += self.pixels(self.lengths(component, T_world_implant[:, k, None]))
        return dilated(projection > 0, *self._scale.margin_mm / self.views[0].pixel_mm[::-1])[:, 0]

    def _on_grid(self, pixels: Tensor) -> Tensor:
        """Values of (F, ..., rows, columns) at the places of the coarser grid where the filters fit in the window."""
        reach = len(self._kernels[0]) // 2
        stride = self._scale.stride
        return pixels[..., reach : pixels.shape[-2] - reach : stride, reach : pixels.shape[-1] - reach : stride]

    def _seen(self, component: Component, T_world_implant: Tensor) -> list[list[Window]]:
        """Path lengths by frame and pose; rows and columns are those of rays of the frame's window."""
        found = []
        for frame, implant in enumerate(self._scene.implants[component]):
            mesh, (camera, size) = simplified(implant.mesh, self._scale.within_mm), self._rendered[frame]
            column, row = (self._origin[frame] * self._scale.rays).tolist()
            windows = (path_length_window(mesh, T, camera, size) for T in T_world_implant[frame].numpy())
            found.append([Window(each.row - row, each.column - column, each.values) for each in windows])
        return found

    def _render_in_torch(self, component: Component, T_world_implant: Tensor) -> Tensor:
        """Render the frames of each implant together."""
        implants, rays = self._scene.implants[component], self._scale.rays
        shape = (self._shape[0] * rays, self._shape[1] * rays)
        frames, poses = T_world_implant.shape[:2]
        images = torch.zeros(frames * poses, *shape, device=self._scene.device)
        T = T_world_implant.flatten(0, 1).float()
        windows = [
            camera.cropped(first * rays) for (camera, _), first in zip(self._rendered, self._origin, strict=True)
        ]
        cameras = [
            torch.tensor(np.array(each), dtype=torch.float32, device=T.device).repeat_interleave(poses, 0)
            for each in ([view.intrinsics for view in windows], [view.world_to_camera for view in windows])
        ]
        ids = np.repeat([implant.anatomy_id for implant in implants], poses)
        for implant in {implant.anatomy_id: implant for implant in implants}.values():
            part = self._scene.part(implant, self._scale.within_mm)
            of_implant = np.nonzero(ids == implant.anatomy_id)[0]
            for some in torch.from_numpy(of_implant).to(T.device).split(_RENDERED_AT_ONCE):
                K_some, world_to_camera = (each[some] for each in cameras)
                images[some] = differentiable.path_length([part], T[some, None], K_some, world_to_camera, shape)[:, 0]
        return images.view(frames, poses, *shape)

    def _polynomials(self) -> Tensor:
        """Products of powers of column and row up to the order of the field, (F, C, rows, columns).

        Columns and rows range from -1 to 1 over each frame's own window: other frames of the batch have no effect.
        """
        device = self._scene.device
        rows, columns = (
            2 * torch.arange(count, device=device) / torch.from_numpy(needed - 1).to(device)[:, None].float() - 1
            for count, needed in zip(self._shape, self._extent.T[::-1], strict=True)
        )
        powers = [
            rows[:, :, None] ** i * columns[:, None, :] ** j
            for i in range(_FIELD_ORDER + 1)
            for j in range(_FIELD_ORDER + 1 - i)
        ]
        return torch.stack(powers, dim=1)
