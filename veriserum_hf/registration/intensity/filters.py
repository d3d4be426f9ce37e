"""Filters of images in batches: blur and slopes, as pairs of kernels along columns and rows."""

import math

try:
    import torch
    from torch import Tensor
    from torch.nn import functional
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

_FILTER_REACH = 3.5  # standard deviations


def laplacian(images: Tensor) -> Tensor:
    """Laplacian of images (F, C, rows, columns)."""
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    horizontal = padded[:, :, 1:-1, 2:] + padded[:, :, 1:-1, :-2]
    vertical = padded[:, :, 2:, 1:-1] + padded[:, :, :-2, 1:-1]
    return horizontal + vertical - 4 * images


def dilated(pixels: Tensor, rows_px: float, columns_px: float) -> Tensor:
    """Pixels (F, 1, rows, columns) within reach, along rows and columns, of one that is set."""
    rows, columns = round(rows_px), round(columns_px)
    down = functional.max_pool2d(pixels.float(), (2 * rows + 1, 1), 1, (rows, 0))
    return functional.max_pool2d(down, (1, 2 * columns + 1), 1, (0, columns)) > 0


def kernels(blur_px: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Gaussian that sums to one, and its derivative, scaled to give the slope of a ramp exactly."""
    reach = math.ceil(_FILTER_REACH * blur_px)
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    smooth = torch.exp(-(at**2) / (2 * blur_px**2))
    slope = at * smooth
    return (smooth / smooth.sum()).float().to(device), (slope / (at * slope).sum()).float().to(device)


def moment_kernels(smooth: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of kernels, down and across, (9, length) each.

    They give the slope along columns of an image; what is added to it where the image is multiplied by one that rises
    by one a column, and by one that rises by one a row; the same three along rows; and the same three of the blur.
    """
    at = torch.arange(len(smooth), device=smooth.device) - len(smooth) // 2
    pairs = [(smooth, slope), (smooth, at * slope), (at * smooth, slope)]
    pairs += [(across, down) for down, across in pairs]
    pairs += [(smooth, smooth), (smooth, at * smooth), (at * smooth, smooth)]
    down, across = (torch.stack(each) for each in zip(*pairs, strict=True))
    return down, across
