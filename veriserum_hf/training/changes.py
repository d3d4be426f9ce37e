"""What augmentation draws for one image, and how the image is changed: on a CPU by numba, or as a batch in torch.

An image passes four steps, each of which rounds to whole grey levels:

1. Resampling. Shift, scale and blur act on rows and columns separately, as two matrices with few weights in a row.
   Weights are whole numbers of 1/256, so that sums are exact and the same on every device.
2. The light is multiplied by the transmission of solids in the beam.
3. Grey levels pass through a curve.
4. Noise is added, whose standard deviation grows with the root of the grey level.

Noise is cut from a tile that is drawn once: a place in it, one of eight orientations and a sign are drawn for each
image, some million different cuts at 512 px. The tile holds normal numbers in steps of 1/32, white within each cut.
"""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from veriserum_hf.core import ImageArray
from veriserum_hf.rendering import compiled

NOISE_MARGIN_PX = 256  # how far apart the first pixels of two cuts of the noise may be, along each axis
ORIENTATIONS = 8
_WEIGHT = 256  # the weights of a whole pixel: sums of grey levels fit 16 bits
_NOISE_STEPS = 32  # of the tile in a standard deviation
_REACH = 3  # standard deviations of a blur that are summed


class Change(NamedTuple):
    """What is drawn for one image (N, N); of a batch of B images, the same as tensors (B, ...).

    Attributes
    ----------
    first : (2, N) int64, of rows and of columns: the first old pixel that a new one is summed from.
    weights : (2, N, K) int16 of K old pixels from there on, 256 in all; pixels outside have weight 0.
    through : (N, N) uint8 transmission of solids in the beam, 255 where there is none.
    curve : (256,) uint8 new grey level of each old one.
    noise : (3,) int64 orientation, row and column of the cut of noise.
    deviation : float32 standard deviation of the noise at grey level 1, negative to mirror its sign.

    """

    first: NDArray[np.int64]
    weights: NDArray[np.int16]
    through: ImageArray
    curve: ImageArray
    noise: NDArray[np.int64]
    deviation: np.float32


def change_image(image: ImageArray, change: Change) -> ImageArray:
    """A changed image (N, N) uint8."""
    for first, weights in zip(change.first, change.weights, strict=True):
        # Along rows, then along columns: an image is transposed twice.
        image = cv2.transpose(_resampled(image, first, weights))
    image = cv2.LUT(_darkened(image, change.through), change.curve)
    orientation, row, column = change.noise
    size = len(image)
    cut = noise_tiles(size)[orientation, row : row + size, column : column + size]
    return _noisy(image, cut, np.float32(change.deviation / _NOISE_STEPS))


def change_batch(images: Tensor, change: dict[str, Tensor]) -> Tensor:
    """Changed images (B, 1, N, N) uint8, on their device: grey levels as of `change_image`.

    Parameters
    ----------
    images : (B, 1, N, N) uint8.
    change : fields of `Change` by name, of B images, on the same device.

    """
    size, device = images.shape[-1], images.device
    grey = images[:, 0].float()
    for axis in (0, 1):
        columns = change["first"][:, axis, :, None] + torch.arange(change["weights"].shape[-1], device=device)
        matrix = torch.zeros(len(grey), size, size, device=device)
        matrix.scatter_add_(2, columns.clamp(0, size - 1), change["weights"][:, axis].float())
        grey = _rounded(matrix @ grey / _WEIGHT).mT
    grey = _rounded(grey * change["through"].float() / 255)
    grey = change["curve"].gather(1, grey.flatten(1).long()).view_as(grey).float()
    orientation, row, column = change["noise"].unbind(1)
    steps = torch.arange(size, device=device)
    rows, columns = row[:, None] + steps, column[:, None] + steps
    noise = _tiles_on(size, device)[orientation[:, None, None], rows[:, :, None], columns[:, None]].float()
    deviation = change["deviation"][:, None, None] / _NOISE_STEPS
    noisy = _rounded(grey + deviation * grey.sqrt() * noise).clamp(0, 255)
    return noisy.to(torch.uint8)[:, None]


def _rounded(values: Tensor) -> Tensor:
    return (values + 0.5).floor()


def taps_of(largest_sigma_px: float, smallest_scale: float) -> int:
    """Old pixels that a new one is summed from, at most."""
    return int(2 * np.ceil(_REACH * largest_sigma_px) / smallest_scale) + 3


@compiled
def resampling(
    size: int, scale: float, shifts_px: tuple[float, float], sigma_px: float, taps: int
) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """``first`` and ``weights`` of a `Change` whose new pixels are ``scale old + shift_px``, blurred afterwards."""
    reach = int(np.ceil(_REACH * sigma_px))
    blur = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma_px, 1e-3)) ** 2)
    blur /= blur.sum()
    first, weights = np.empty((2, size), np.int64), np.zeros((2, size, taps), np.int16)
    of_pixel = np.empty(taps)
    for axis in range(2):
        for new in range(size):
            of_pixel[:] = 0
            start = int(np.floor((max(new - reach, 0) - shifts_px[axis]) / scale))
            first[axis, new] = start
            for step in range(len(blur)):
                # The blur continues the image's rim; what enters the image from outside is black.
                old = (min(max(new - reach + step, 0), size - 1) - shifts_px[axis]) / scale
                below = int(np.floor(old))
                part = old - below
                of_pixel[below - start] += blur[step] * (1 - part)
                of_pixel[below + 1 - start] += blur[step] * part
            # Rounded sums, so that all weights together are those of a pixel.
            total, before = 0.0, 0
            for tap in range(taps):
                total += of_pixel[tap]
                now = int(np.floor(total * _WEIGHT + 0.5))
                if 0 <= start + tap < size:
                    weights[axis, new, tap] = now - before
                before = now
    return first, weights


@compiled
def _resampled(image: ImageArray, first: NDArray[np.int64], weights: NDArray[np.int16]) -> ImageArray:
    columns = image.shape[1]
    out = np.empty((len(first), columns), np.uint8)
    total = np.empty(columns, np.uint16)  # twice as fast as in 32 bits
    for new in range(len(first)):
        total[:] = _WEIGHT // 2
        for tap in range(weights.shape[1]):
            weight = np.uint16(weights[new, tap])
            if weight:
                old = image[first[new] + tap]
                for column in range(columns):
                    total[column] = np.uint16(total[column] + np.uint16(weight * np.uint16(old[column])))
        for column in range(columns):
            out[new, column] = np.uint8(total[column] >> np.uint16(8))
    return out


@compiled
def _darkened(image: ImageArray, through: ImageArray) -> ImageArray:
    rows, columns = image.shape
    out = np.empty((rows, columns), np.uint8)
    for row in range(rows):
        for column in range(columns):
            light = np.float32(image[row, column]) * np.float32(through[row, column])
            out[row, column] = np.uint8(light / np.float32(255) + np.float32(0.5))
    return out


@compiled
def _noisy(image: ImageArray, noise: NDArray[np.int8], deviation: np.float32) -> ImageArray:
    rows, columns = image.shape
    out = np.empty((rows, columns), np.uint8)
    for row in range(rows):
        grey, normal, noisy = image[row], noise[row], out[row]
        for column in range(columns):
            level = np.float32(grey[column])
            level += deviation * np.sqrt(level) * np.float32(normal[column])
            noisy[column] = np.uint8(min(max(np.floor(level + np.float32(0.5)), np.float32(0)), np.float32(255)))
    return out


@lru_cache(maxsize=2)
def noise_tiles(size: int) -> NDArray[np.int8]:
    """Normal numbers in steps of 1/32, (8, edge, edge): one tile in its eight orientations."""
    edge = size + NOISE_MARGIN_PX
    normal = np.random.default_rng(0).standard_normal((edge, edge), dtype=np.float32)
    normal = (normal - normal.mean()) / normal.std()
    tile = np.rint(_NOISE_STEPS * normal).clip(-127, 127).astype(np.int8)
    tiles: NDArray[np.int8] = np.stack([np.rot90(each, quarters) for each in (tile, tile.T) for quarters in range(4)])
    tiles.setflags(write=False)
    return tiles


@lru_cache(maxsize=2)
def _tiles_on(size: int, device: torch.device) -> Tensor:
    return torch.tensor(noise_tiles(size), device=device)
