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
from veriserum_hf.registration.intensity.fields import Polynomials
from veriserum_hf.registration.intensity.filters import bands, dilated, kernels, laplacian, moment_kernels
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
# Of the filters by pairs of kernels: slopes along columns and rows, and blur; all but those of the blur.
_GRADIENTS, _BLURRED, _SLOPES, _ALL = slice(0, 6, 3), slice(0, 9, 3), slice(6), slice(9)
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
    rays : along each edge of a pixel, in path lengths.
    cameras : of the frames' windows.
    observed : (F, 2, S) gradients of the images along columns and rows at S places of the window.
    unclipped : (F, 1, rows, columns) 1 in pixels of the window that are not clipped; None where none is.
    used : (F, S) float64, 1 where a place is near an implant, in the field and not amid clipped pixels, else 0.
    tiles : (S,) number of the tile that a place is in.

    """

    def __init__(self, scene: Scene, plane: PlaneName, scale: Scale, T_world_implant: Tensor) -> None:
        self._scene, self._scale, self.rays = scene, scale, scale.rays
        self._last: tuple[Tensor, tuple[Tensor, ...]] | None = None  # poses, and path lengths at these
        self.views = [view.reduced(scale.pixel_mm) for view in scene.views[plane]]
        self._rendered = []  # camera and size of the images of rays
        for view in self.views:
            size = tuple(scale.rays * edge for edge in view.image.shape)
            self._rendered.append((view.camera.resized(view.image.shape, size), size))
        smooth, slope = kernels(scale.blur_px, scene.device)
        self._length = len(smooth)
        T = T_world_implant.cpu().numpy()
        self._origin, self._extent = self._window(T)
        self._shape = (int(self._extent[:, 1].max()), int(self._extent[:, 0].max()))
        reach = self._length // 2
        self._grid = tuple(slice(reach, edge - reach, scale.stride) for edge in self._shape)
        pairs = zip(moment_kernels(smooth, slope), self._shape, strict=True)
        self._down, self._across = (bands(lines, size, scale.stride) for lines, size in pairs)
        self.cameras = [view.camera.cropped(first) for view, first in zip(self.views, self._origin, strict=True)]
        images, in_field, clipped = self._crops()
        # The edge of the field is not an implant: filters must not reach across it.
        in_field = ~dilated(~in_field[:, None], reach, reach)[:, 0]
        kept = self._on_grid(self._near(T_world_implant) & in_field)
        self.unclipped = (~clipped[:, None]).float() if clipped.any() else None
        if self.unclipped is not None:
            *moments, seen = self._filtered(self.unclipped, _BLURRED).unbind(2)
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
        self._polynomials = Polynomials(self._shape, self._extent, scene.device)
        self._expansion = [each.flatten(2)[..., self._places] for each in self._polynomials.expansion(*self._grid)]
        # The first polynomial is constant and has no gradient.
        self._scattered = self._light(torch.ones_like(images))[:, 1:]
        self.observed = self.gradients(images)[:, 0].double()

    def all_lengths(self, T_world_implant: Tensor) -> tuple[Tensor, ...]:
        """Path lengths by implant, (F, rows, columns) of rays; rendered once while the poses are the same object."""
        if self._last is None or self._last[0] is not T_world_implant:
            of_implants = enumerate(self._scene.implants)
            found = tuple(self.lengths(component, T_world_implant[:, k, None]) for k, component in of_implants)
            self._last = (T_world_implant, found)
        return self._last[1]

    def lengths(self, component: Component, T_world_implant: Tensor) -> Tensor:
        """Path lengths in mm through an implant at M poses, (F, M, 4, 4) to (F, M, rows, columns) of rays."""
        if self._scene.device.type != "cpu":
            return self._render_in_torch(component, T_world_implant)
        whole = Box(0, 0, *self._shape)
        return torch.stack([drawn(each, whole, self._scale.rays) for each in self._seen(component, T_world_implant)])

    def lengths_around(
        self, component: Component, T_world_implant: Tensor, within_mm: float = 0.0
    ) -> tuple[Box, Tensor]:
        """Part of the window outside which there are no path lengths at any of the poses, and those in this part.

        The mesh is as accurate as the scale's, or ``within_mm`` where that is enough.
        """
        if self._scene.device.type != "cpu":
            return Box(0, 0, *self._shape), self._render_in_torch(component, T_world_implant)
        seen, rays = self._seen(component, T_world_implant, within_mm), self._scale.rays
        box = box_of_windows([window for of_frame in seen for window in of_frame], rays, self._shape)
        return box, torch.stack([drawn(each, box, rays) for each in seen])

    def pixels(self, rays: Tensor) -> Tensor:
        """Means of the rays of each pixel, (F, M, rows, columns)."""
        return functional.avg_pool2d(rays, self._scale.rays) if self._scale.rays > 1 else rays

    def gradients(self, images: Tensor, box: Box | None = None) -> Tensor:
        """Blurred gradients of images (F, M, rows, columns) at the places of the grid, (F, M, 2, S).

        Images may be a part of the window, outside which they are zero.
        """
        if self.unclipped is None:
            return self._filtered(images, _GRADIENTS, box).flatten(3)[..., self._places]
        sums = self._filtered(images * (self.unclipped if box is None else box.of(self.unclipped)), _BLURRED, box)
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
        seen = transmission if self.unclipped is None else transmission * self.unclipped
        moments = self._filtered(seen, _SLOPES if self.unclipped is None else _ALL).flatten(3)[..., self._places]
        value, by_column, by_row = (each[:, :, None] for each in self._expansion)  # (F, C, 1, S) each
        slope, by_own, by_other = (moments[:, :, n:6:3] for n in range(3))  # (F, 1, 2, S) each
        own, other = (torch.cat(pair, dim=2) for pair in ((by_column, by_row), (by_row, by_column)))
        found = value * slope + own * by_own + other * by_other
        if self.unclipped is None:
            return found
        blur = value * moments[:, :, 6:7] + by_column * moments[:, :, 7:8] + by_row * moments[:, :, 8:]
        return found - self._centers[:, 0].flatten(2)[..., self._places].unsqueeze(1) * blur

    def light(self, coefficients: Tensor) -> Tensor:
        """Light in every pixel, (F, 1, rows, columns), from the first of the coefficients (F, C) of `fields`."""
        return self._polynomials.sums(coefficients)[:, None]

    def contradicted(self, unclipped: Tensor, opaque: Tensor, coefficients: Tensor) -> Tensor:
        """Share of an implant's opaque pixels (F, 1, rows, columns) that are clipped as the open field is, (F,).

        That is at the upper limit, or at the lower one of inverted images, where more light is darker.
        """
        inverted = (self.light(coefficients) * opaque).sum((1, 2, 3)) < 0
        open_field = (unclipped == 0) & (self._brighter != inverted[:, None, None, None])
        return (opaque & open_field).sum((1, 2, 3)).double() / opaque.sum((1, 2, 3)).clamp(min=1)

    def _filtered(self, images: Tensor, pairs: slice, box: Box | None = None) -> Tensor:
        """Images (F, M, rows, columns), or a part of them, on the grid, filtered by N pairs, (F, M, N, ...)."""
        down, across = self._down[pairs], self._across[pairs]
        if box is None:
            return down @ images[:, :, None] @ across.mT
        count = (down.shape[1], across.shape[1])
        found = images.new_zeros(*images.shape[:2], len(down), *count)
        places = box.reached(self._length - 1, self._scale.stride, count)
        if min(places.shape) > 0:
            rows = down[:, places.top : places.bottom, box.top : box.bottom]
            columns = across[:, places.left : places.right, box.left : box.right]
            places.of(found)[:] = rows @ images[:, :, None] @ columns.mT
        return found

    def _window(self, T: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First column and row of each frame's window, (F, 2), and the number of columns and rows, (F, 2)."""
        boxes = np.empty((len(self.views), 2, 2))
        for frame, view in enumerate(self.views):
            reach_px = self._scale.margin_mm / view.pixel_mm + self._length
            px = np.concatenate(
                [
                    view.camera.project(transform_points(T[frame, k], implants[frame].rough.vertices))
                    for k, implants in enumerate(self._scene.implants.values())
                ]
            )
            size = view.image.shape[::-1]
            boxes[frame] = np.clip([px.min(axis=0) - reach_px, px.max(axis=0) + reach_px], -1, size)
        first = np.floor(boxes[:, 0]).astype(np.int64)
        needed = np.maximum(np.ceil(boxes[:, 1]).astype(np.int64) + 1 - first, self._length)
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
        seen = torch.stack([lengths > 0 for lengths in self.all_lengths(T_world_implant)]).any(0)
        return dilated(self.pixels(seen.float()) > 0, *self._scale.margin_mm / self.views[0].pixel_mm[::-1])[:, 0]

    def _on_grid(self, pixels: Tensor) -> Tensor:
        """Values of (F, ..., rows, columns) at the places of the coarser grid where the filters fit in the window."""
        return pixels[..., self._grid[0], self._grid[1]]

    def _seen(self, component: Component, T_world_implant: Tensor, within_mm: float = 0.0) -> list[list[Window]]:
        """Path lengths by frame and pose; rows and columns are those of rays of the frame's window."""
        found = []
        for frame, implant in enumerate(self._scene.implants[component]):
            mesh = simplified(implant.mesh, max(within_mm, self._scale.within_mm))
            camera, size = self._rendered[frame]
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
