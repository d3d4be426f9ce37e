"""Corrected images of a simulated fluoroscope, many at a time, in torch.

`veriserum_hf.simulation.intensifier` draws a raw frame of 1600 rows, which a conversion then corrects. Here the same
imaging chain is worked out on the grid of the corrected image: what falls on the intensifier is drawn there (see
`transmission` for the canvas), and what belongs to raw pixels, the round field, the bands and the noise, is looked up
at the corrected pixel's position in the raw frame. Noise has the variance, and between
neighbours the correlation, that the correction leaves of it. JPEG's own noise is not drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from veriserum_hf.calibration import RAW_HEIGHT_PX, RAW_WIDTH_PX, DistortionMap
from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import pixel_size_mm, px_to_mm
from veriserum_hf.simulation.imaging import Imaging
from veriserum_hf.simulation.intensifier import draw_bands
from veriserum_hf.simulation.transmission import RAYS_PER_PIXEL, canvas_margin_px

_WHITE = 255.0
_COARSE_MM = 5.0  # scatter and glare are smooth: they are blurred on pixels about so large
_NODES = 33  # along each edge of the image, between which raw positions are interpolated
_DEGREE = 7  # of the polynomial that inverts a distortion
_RAW_PITCH_MM = 0.2275  # of the simulator's distortions, within 2 %
_WIDEST_PASS_PX2 = 0.4  # variance of one pass of a blur with three weights


class Exposure(NamedTuple):
    """What makes one image, besides the solids in the beam.

    Attributes
    ----------
    imaging : the imaging chain.
    blur_mm : standard deviation on the intensifier of focal spot and screen together, `Imaging.blur_mm`.
    raw_px : where the image lies in the raw frame, `raw_positions`.

    """

    imaging: Imaging
    blur_mm: float
    raw_px: FloatArray


@dataclass(frozen=True, eq=False)
class Chains:
    """The imaging chains of n images as tensors on one device.

    Attributes
    ----------
    values : (n, 1, 1) float32 by parameter: those of `Imaging`, ``blur_px2`` (variance of one pass), ``noise_part``
        (of the variance of one raw pixel's quanta), ``readout_part`` and ``noise_tap``.
    attenuation_per_mm : (n, 1, 1) float32 by material, scaled.
    blur_passes : how often images are blurred.
    raw_px : (n, 2, nodes, nodes) raw column and row.
    bands : (n, rows of the raw frame) with standard deviation 1.

    """

    values: dict[str, Tensor]
    attenuation_per_mm: dict[str, Tensor]
    blur_passes: int
    raw_px: Tensor
    bands: Tensor

    @classmethod
    def of(
        cls, exposures: Sequence[Exposure], size: int, rng: np.random.Generator, device: torch.device | str = "cpu"
    ) -> "Chains":
        """Chains of images of ``size`` px; the bands are drawn."""
        names = [name for name, value in vars(exposures[0].imaging).items() if isinstance(value, int | float)]
        table = {name: np.array([getattr(exposure.imaging, name) for exposure in exposures]) for name in names}
        blur_px2 = _variance_left_px2(np.array([exposure.blur_mm for exposure in exposures]), size)
        passes = int(np.ceil(blur_px2.max() / _WIDEST_PASS_PX2))
        table["blur_px2"] = blur_px2 / max(passes, 1)
        table |= _noise_left(table["noise_blur_px"], size)
        attenuation = {
            material: [
                exposure.imaging.attenuation_scale * exposure.imaging.attenuation_per_mm[material]
                for exposure in exposures
            ]
            for material in exposures[0].imaging.attenuation_per_mm
        }
        bands = np.stack([draw_bands(RAW_HEIGHT_PX, height_px, rng)[:, 0] for height_px in table["band_height_px"]])
        raw_px = np.stack([exposure.raw_px for exposure in exposures])
        return cls(
            _by_name(table, device),
            _by_name(attenuation, device),
            passes,
            torch.tensor(raw_px, dtype=torch.float32, device=device),
            torch.tensor(bands, device=device),
        )

    def to(self, device: torch.device) -> "Chains":
        """The same on a device."""

        def moved(table: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: column.to(device, non_blocking=True) for name, column in table.items()}

        return Chains(
            moved(self.values),
            moved(self.attenuation_per_mm),
            self.blur_passes,
            self.raw_px.to(device, non_blocking=True),
            self.bands.to(device, non_blocking=True),
        )


def _by_name(table: Mapping[str, ArrayLike], device: torch.device | str) -> dict[str, Tensor]:
    """Columns (n,) as tensors (n, 1, 1), float32, copied to the device at once."""
    columns = torch.tensor(np.stack([*table.values()])[..., None, None], dtype=torch.float32, device=device)
    return dict(zip(table, columns, strict=True))


def raw_positions(distortion: DistortionMap, size: int) -> FloatArray:
    """Raw column and row, (2, nodes, nodes), on a coarse grid from the first to the last pixel of a corrected image.

    Beyond the raw frame the positions continue smoothly.
    """
    # The frame and a tenth around it, so that nodes outside are not extrapolated far.
    axes_px = [(np.linspace(-0.05, 1.05, 23) * count).tolist() for count in (RAW_WIDTH_PX, RAW_HEIGHT_PX)]
    xy_px = np.stack(np.meshgrid(*axes_px), axis=-1).reshape(-1, 2)
    coefficients = np.linalg.lstsq(_powers(distortion.to_mm(xy_px)), xy_px, rcond=None)[0]
    along = np.linspace(0, size - 1, _NODES)
    nodes_mm = px_to_mm(np.stack(np.meshgrid(along, along), axis=-1), size).reshape(-1, 2)
    positions: FloatArray = (_powers(nodes_mm) @ coefficients).T.reshape(2, _NODES, _NODES)
    return positions


def canvas_rays(intrinsics: Tensor, size: int) -> tuple[Tensor, int]:
    """Camera of the rays through the canvas of an image, (..., 3, 3), and how many rays there are along an edge.

    Parameters
    ----------
    intrinsics : (..., 3, 3) of the corrected image, px.
    size : edge of that image, px.

    """
    margin = canvas_margin_px(size)
    rays = intrinsics.clone()
    rays[..., 0, 0] *= RAYS_PER_PIXEL
    rays[..., 1, 1] *= RAYS_PER_PIXEL
    rays[..., :2, 2] = (rays[..., :2, 2] + margin + 0.5) * RAYS_PER_PIXEL - 0.5
    return rays, RAYS_PER_PIXEL * (size + 2 * margin)


def expose(exponent: Tensor, chains: Chains, size: int, generator: torch.Generator | None) -> Tensor:
    """Corrected images of the solids in the beam, (n, size, size) uint8.

    Parameters
    ----------
    exponent : (n, rays, rays) float32 sum of attenuation times path length along `canvas_rays`; it is overwritten.
    chains : of the n images.
    size : edge of the images, px.
    generator : source of the noise, on the images' device; None for no noise.

    """
    values = chains.values
    signal, x, y = arriving(transmitted(exponent), chains, size)
    gain = (values["bright_level"] - values["dark_level"]) * _WHITE
    row = y.round().long().clamp(0, RAW_HEIGHT_PX - 1)
    bands = chains.bands.gather(1, row.flatten(1)).view_as(y)
    grey = values["dark_level"] * _WHITE + signal * gain * (1 + values["band_amplitude"] * bands)
    if generator is not None:
        white = torch.randn(signal.shape, device=signal.device, generator=generator)
        grey += gain * noise(signal, white, chains, (values["readout_noise"] * _WHITE / gain) ** 2)
    covered = (x >= -1) & (x <= RAW_WIDTH_PX) & (y >= -1) & (y <= RAW_HEIGHT_PX)
    return (grey * covered).round().clamp(0, _WHITE).to(torch.uint8)


def transmitted(exponent: Tensor) -> Tensor:
    """Transmission on the canvas of the sum of attenuation times path length along its rays, which is overwritten."""
    return functional.avg_pool2d(exponent.neg_().exp_(), RAYS_PER_PIXEL)


def arriving(transmission: Tensor, chains: Chains, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Signal of corrected images without noise, and the raw column and row of their pixels, each (n, size, size)."""
    margin = canvas_margin_px(size)
    signal = transmission * _open_field(chains.values, size, transmission.device)
    signal = _spread(signal, chains, size)[:, margin : margin + size, margin : margin + size]
    x, y = functional.interpolate(chains.raw_px, (size, size), mode="bilinear", align_corners=True).unbind(1)
    return _surround(signal, x, y, chains.values, size), x, y


def noise(signal: Tensor, white: Tensor, chains: Chains, readout: Tensor) -> Tensor:
    """Noise of a signal, from white noise (n, rows, columns) and the variance of a raw pixel's ``readout``."""
    values = chains.values
    variance = signal / values["quanta_per_pixel"] * values["noise_part"] + readout * values["readout_part"]
    return _neighboured(white, values["noise_tap"]) * variance.clamp(min=0).sqrt()


def _open_field(values: dict[str, Tensor], size: int, device: torch.device) -> Tensor:
    """Signal on the canvas, (n, rows, columns), with nothing in the beam."""
    margin = canvas_margin_px(size)
    along = np.arange(-margin, size + margin)
    h_v_mm = torch.tensor(px_to_mm(np.stack([along, along], axis=1), size).T, dtype=torch.float32, device=device)
    h_mm, v_mm = h_v_mm[0], h_v_mm[1][:, None]
    horizontal = (-0.5 * (h_mm / values["vignette_h_mm"]) ** 2).exp() * (1 + values["heel_per_mm"] * h_mm)
    return horizontal * (-0.5 * (v_mm / values["vignette_v_mm"]) ** 2).exp()


def _spread(signal: Tensor, chains: Chains, size: int) -> Tensor:
    """Blur, scatter and glare of a signal on the canvas, (n, edge, edge)."""
    edge, values = signal.shape[-1], chains.values
    coarse_edge = max(2, round(edge * pixel_size_mm(size) / _COARSE_MM))
    pitch_mm = edge * pixel_size_mm(size) / coarse_edge
    coarse = functional.adaptive_avg_pool2d(signal, coarse_edge)
    stray = torch.zeros_like(coarse)
    for kind in ("scatter", "glare"):
        weights = _smoothing(values[f"{kind}_sigma_mm"] / pitch_mm, coarse_edge)
        stray += values[f"{kind}_fraction"] * (weights @ coarse @ weights.mT)
    stray = functional.interpolate(stray[:, None], (edge, edge), mode="bilinear")[:, 0]
    for _ in range(chains.blur_passes):
        for padding in ((1, 1, 0, 0), (0, 0, 1, 1)):
            padded = functional.pad(signal[:, None], padding, mode="replicate")[:, 0]
            before, after = (padded[:, :, :-2], padded[:, :, 2:]) if padding[0] else (padded[:, :-2], padded[:, 2:])
            signal = torch.lerp(signal, (before + after) / 2, values["blur_px2"])
    return signal * (1 - values["scatter_fraction"] - values["glare_fraction"]) + stray


def _smoothing(sigma_px: Tensor, edge: int) -> Tensor:
    """Gaussian blurs along one axis as matrices, (n, edge, edge), the image mirrored about its outermost pixels."""
    at = torch.arange(edge, device=sigma_px.device, dtype=torch.float32)
    weights = torch.zeros(len(sigma_px), edge, edge, device=sigma_px.device)
    last = 2 * (edge - 1)
    inner = (at > 0) & (at < edge - 1)  # the outermost pixels count once
    for mirrored, counts in ((at, torch.ones_like(inner)), (-at, inner), (last - at, inner)):
        weights += (-0.5 * ((at[:, None] - mirrored) / sigma_px) ** 2).exp() * counts
    return weights / weights.sum(-1, keepdim=True)


def _surround(signal: Tensor, x: Tensor, y: Tensor, values: dict[str, Tensor], size: int) -> Tensor:
    """Cut a signal off outside the round field and add the stray light around it; ``x``, ``y`` are raw positions."""
    # As wide as a raw frame's own edge, 2 px, and a corrected pixel together.
    edge_px = float(np.hypot(2.0, pixel_size_mm(size) / _RAW_PITCH_MM))
    distance = torch.hypot(x - values["field_center_x_px"], y - values["field_center_y_px"])
    inside = ((values["field_radius_px"] - distance) / edge_px + 0.5).clamp(0, 1)
    ring = (-0.5 * ((distance - values["ring_radius_px"]) / values["ring_width_px"]) ** 2).exp()
    return signal * inside + values["ring_level"] * ring * (1 - inside)


def _neighboured(white: Tensor, tap: Tensor) -> Tensor:
    """White noise (n, rows, columns) after the weights (tap, 1, tap) along both axes, its variance kept."""
    kept = 1 / (1 + 2 * tap**2)  # of both axes: the root of the product of two equal factors
    padded = functional.pad(white[:, None], (1, 1, 1, 1), mode="reflect")[:, 0]
    rows = padded[:, 1:-1] + tap * (padded[:, :-2] + padded[:, 2:])
    return kept * (rows[:, :, 1:-1] + tap * (rows[:, :, :-2] + rows[:, :, 2:]))


def _powers(xy_mm: FloatArray) -> FloatArray:
    """(n, terms) of a polynomial in two variables, the length scaled to about 1."""
    u, v = xy_mm.T / 200.0
    return np.stack([u**i * v**j for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i)], axis=1)


def _box_px(size: int) -> int:
    """Width in raw pixels of the box that a correction blurs with."""
    return max(1, 2 * round((pixel_size_mm(size) / _RAW_PITCH_MM - 1) / 2) + 1)


def _variance_left_px2(blur_mm: FloatArray, size: int) -> FloatArray:
    """Variance, in square pixels, of the blur that remains to be applied on the canvas.

    A raw frame is blurred by ``blur_mm``, pixels included; the correction adds its box and, on average, 1/6 of a
    square raw pixel by its lookup. What the rays of a canvas pixel average over is subtracted.
    """
    correction_mm2 = ((_box_px(size) ** 2 - 1) / 12 + 1 / 6) * _RAW_PITCH_MM**2
    rays_px2 = (1 - 1 / RAYS_PER_PIXEL**2) / 12
    left: FloatArray = (blur_mm**2 + correction_mm2) / pixel_size_mm(size) ** 2 - rays_px2
    return np.maximum(left, 0.0)


def _noise_left(noise_blur_px: FloatArray, size: int) -> dict[str, FloatArray]:
    """What the correction leaves of a raw frame's noise: parts of its variance, and the weight of neighbours.

    Along each axis noise passes the optics' Gaussian, the correction's box and its bilinear lookup, whose position
    within a raw pixel is anywhere: the covariance at a distance is then that of the raw pixels, interpolated with a
    cubic B-spline.
    """
    pitch_px = pixel_size_mm(size) / _RAW_PITCH_MM
    left: dict[str, list[float]] = {"noise_part": [], "readout_part": [], "noise_tap": []}
    for sigma_px in noise_blur_px:
        # The kernel of the simulator, which takes a standard deviation of 0 for one by the kernel's width.
        kernel = cv2.getGaussianKernel(2 * int(np.ceil(3 * sigma_px)) + 1, sigma_px)[:, 0]
        boxed = np.convolve(kernel, np.full(_box_px(size), 1 / _box_px(size)))
        covariance = np.convolve(boxed, boxed)
        lags = np.arange(len(covariance)) - len(boxed) + 1
        own, neighbours = (float(covariance @ _cubic_spline(lags - distance)) for distance in (0.0, pitch_px))
        # (t, 1, t) has the correlation 2 t / (1 + 2 t^2) between neighbours, 0.707 at most.
        correlation = min(max(neighbours / own, 1e-6), 0.7)
        left["noise_tap"].append((1 - np.sqrt(1 - 2 * correlation**2)) / (2 * correlation))
        left["noise_part"].append(own**2)
        left["readout_part"].append(own**2 / float((kernel**2).sum()) ** 2)
    return {name: np.array(parts) for name, parts in left.items()}


def _cubic_spline(x: NDArray[np.floating]) -> FloatArray:
    x = np.abs(x)
    spline: FloatArray = np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.clip(2 - x, 0, None) ** 3 / 6)
    return spline
