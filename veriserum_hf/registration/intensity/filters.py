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
    (down, across), device = pixels.shape[2:], pixels.device
    rows, columns = (
        (torch.arange(edge, device=device)[:, None] - torch.arange(edge, device=device)).abs() <= round(reach_px)
        for edge, reach_px in ((down, rows_px), (across, columns_px))
    )
    return rows.float() @ pixels.float() @ columns.float() > 0


def kernels(blur_px: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Gaussian that sums to one, and its derivative, scaled to give the slope of a ramp exactly."""
    reach = math.ceil(_FILTER_REACH * blur_px)
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    smooth = torch.exp(-(at**2) / (2 * blur_px**2))
    slope = at * smooth
    return (smooth / smooth.sum()).float().to(device), (slope / (at * slope).sum()).float().to(device)


def bands(lines: Tensor, size: int, stride: int) -> Tensor:
    """Matrices, (N, places, size), that filter lines of so many pixels by kernels, (N, length).

    Places are ``stride`` apart, from the first to the last at which the kernels fit. A product of full matrices is
    several times faster than a convolution of single images.
    """
    length = lines.shape[1]
    places = (size - length) // stride + 1
    found = torch.zeros(len(lines), places, size, device=lines.device)
    at = stride * torch.arange(places, device=lines.device)[:, None] + torch.arange(length, device=lines.device)
    return found.scatter_(2, at.expand(len(lines), -1, -1), lines[:, None].expand(-1, places, -1))


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
