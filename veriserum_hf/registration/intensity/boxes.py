"""Parts of images that hold an implant: outside, nothing changes with its pose or its attenuation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from veriserum_hf.rendering import Window

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error


class Box(NamedTuple):
    """Part of an image: its first row and column, and those that it ends before."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    def of(self, images: Tensor, rays: int = 1) -> Tensor:
        """Of images (..., rows, columns) this part; they may have so many rays along the edge of a pixel."""
        return images[..., rays * self.top : rays * self.bottom, rays * self.left : rays * self.right]

    def reached(self, beyond: int, stride: int, count: tuple[int, int]) -> "Box":
        """Places of a grid whose filters, from ``stride`` times the place to so much beyond, reach this part."""
        top, left = (max(-((beyond - first) // stride), 0) for first in self[:2])
        bottom, right = (min((end - 1) // stride + 1, limit) for end, limit in zip(self[2:], count, strict=True))
        return Box(top, left, max(bottom, top), max(right, left))


def box_of_windows(windows: Sequence[Window], rays: int, shape: tuple[int, int]) -> Box:
    """Part of an image (rows, columns) that windows of rays are in, and a pixel around them; at least one pixel."""
    first = np.array([(window.row, window.column) for window in windows])
    end = first + [window.values.shape for window in windows]
    top, left = np.clip(first.min(axis=0) // rays - 1, 0, np.subtract(shape, 1)).tolist()
    bottom, right = np.clip(1 - -end.max(axis=0) // rays, (top + 1, left + 1), shape).tolist()
    return Box(top, left, bottom, right)


def box_of_lengths(lengths_mm: Tensor, rays: int) -> Box:
    """Part of an image in which path lengths (..., rows, columns) of rays are, in pixels; at least one pixel."""
    seen = (lengths_mm > 0).flatten(0, -3).any(0)
    if not seen.any():
        return Box(0, 0, 1, 1)
    rows, columns = (seen.any(dim).nonzero()[[0, -1], 0].tolist() for dim in (1, 0))
    return Box(rows[0] // rays, columns[0] // rays, rows[1] // rays + 1, columns[1] // rays + 1)


def drawn(windows: Sequence[Window], box: Box, rays: int) -> Tensor:
    """Path lengths of windows of rays in a part of an image, (M, rows, columns) of rays."""
    top, left = rays * box.top, rays * box.left
    images = np.zeros((len(windows), *np.multiply(rays, box.shape)), np.float32)
    for image, window in zip(images, windows, strict=True):
        row, column = window.row - top, window.column - left
        values = window.values[max(-row, 0) :, max(-column, 0) :]
        into = image[max(row, 0) :, max(column, 0) :][: values.shape[0], : values.shape[1]]
        into[:] = values[: into.shape[0], : into.shape[1]]
    return torch.from_numpy(images)
