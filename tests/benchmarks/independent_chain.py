"""A second imaging chain: several energies, scatter of the object, glare with a long tail, correlated noise.

It shares no code with that of `veriserum_hf.simulation`, and none of its assumptions: beams harden, scatter depends
on what is in the beam, and grey values are not proportional to the signal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from veriserum_hf.geometry import px_to_mm

Floats = NDArray[np.float32]
Response = Literal["gamma", "log", "inverted", "windowed"]

SIZE_PX = 512
FINE_PX = 2 * SIZE_PX  # path lengths are traced on the finer grid
# Shares of the signal by energy: 60, 80, 100 and 120 keV, behind the filter and seen by a CsI screen.
_SPECTRUM = (0.14, 0.32, 0.34, 0.20)
# Linear attenuation at these energies, 1/mm, after NIST SRD 126 and usual densities.
_PER_MM = {
    "CoCr": (1.14, 0.557, 0.345, 0.25),
    "Ti6Al4V": (0.326, 0.174, 0.118, 0.093),
    "steel": (0.952, 0.470, 0.294, 0.22),
    "aluminium": (0.075, 0.0545, 0.046, 0.0405),
    "copper": (1.43, 0.684, 0.411, 0.30),
    "PMMA": (0.0227, 0.0207, 0.0194, 0.0182),
    "bone": (0.039, 0.024, 0.0181, 0.0154),  # cortical, more than the soft tissue that it replaces
    "tissue": (0.0206, 0.0184, 0.0171, 0.0160),
}
_WHITE, _BLACK = 235, 8  # grey of full and of no signal
_GLARE_PX, _GLARE_SHARES = (6.0, 24.0, 96.0), (0.45, 0.35, 0.20)  # a tail longer than a Gaussian's
_BLADE = 0.015  # transmission of a collimator blade
_WINDOW = (0.25, 0.75)  # quantiles shown as black and white
_LOG = 60.0  # range of a logarithmic amplifier


@dataclass(frozen=True)
class Chain:
    """What varies from image to image, all unknown to the registration.

    Attributes
    ----------
    attenuation : factor on all attenuations, as for another tube voltage.
    field_h_mm, field_v_mm, field_mm : centre and width of the open field.
    blur_px : standard deviation of screen and optics.
    scatter, veil : of the signal, scattered by the object, and evenly.
    glare : share of the signal in the tail.
    quanta : registered by a pixel at full signal.
    grain_px : standard deviation of the noise's blur.
    gamma : of the grey values.

    """

    attenuation: float
    field_h_mm: float
    field_v_mm: float
    field_mm: float
    blur_px: float
    scatter: float
    veil: float
    glare: float
    quanta: float
    grain_px: float
    gamma: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Chain":
        """Draw every parameter from its range."""
        ranges = ((0.75, 1.2), (-25, 25), (-25, 25), (230, 320), (0.4, 0.9), (0.1, 0.4), (0.02, 0.08), (0.05, 0.15))
        return cls(*map(float, rng.uniform(*np.transpose([*ranges, (1500, 6800), (0.5, 0.9), (0.9, 1.1)]))))


def transmission(lengths_mm: Mapping[str, Floats], chain: Chain) -> Floats:
    """Share of the signal that is transmitted through path lengths by material, each (n, n)."""
    through = np.zeros((FINE_PX, FINE_PX), np.float32)
    for number, share in enumerate(_SPECTRUM):
        exponent = np.zeros_like(through)
        for material, length_mm in lengths_mm.items():
            exponent -= np.float32(_PER_MM[material][number] * chain.attenuation) * length_mm
        through += np.float32(share) * np.exp(exponent)
    return through


def open_field(chain: Chain, narrower: float) -> Floats:
    """Signal without object, 1 at its centre; ``narrower`` divides its width."""
    h_mm, v_mm = fine_mm()
    far = ((h_mm - chain.field_h_mm) ** 2 + (v_mm - chain.field_v_mm) ** 2) / (chain.field_mm / narrower) ** 2
    return (1 / (1 + far) ** 2).astype(np.float32)


def fine_mm() -> NDArray[np.float64]:
    """Coordinates (h, v) of the fine grid on the intensifier, (2, n, n) mm."""
    grid = np.arange(FINE_PX, dtype=float)
    return px_to_mm(np.stack(np.meshgrid(grid, grid), axis=-1), FINE_PX).transpose(2, 0, 1)


def bent(image: Floats, rms_px: float, rng: np.random.Generator) -> Floats:
    """Fine image under a smooth residual distortion, of ``rms_px`` (RMS length) on the grid of 512 px."""
    coarse = ndimage.gaussian_filter(rng.normal(size=(2, 24, 24)), (0, 3, 3))[:, 4:-4, 4:-4]
    fine = np.stack([cv2.resize(each, image.shape[::-1], interpolation=cv2.INTER_CUBIC) for each in coarse])
    fine *= rms_px * len(image) / SIZE_PX / np.sqrt((fine**2).sum(axis=0).mean())
    columns, rows = np.meshgrid(*(np.arange(size) for size in image.shape[::-1]))
    x, y = ((grid + shift).astype(np.float32) for grid, shift in zip((columns, rows), fine, strict=True))
    return cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def collimated(image: Floats, at_px: NDArray[np.float64], outward: NDArray[np.float64]) -> Floats:
    """Fine image with a blade beyond the line through ``at_px`` of the fine grid with this normal."""
    columns, rows = np.meshgrid(*(np.arange(size) for size in image.shape[::-1]))
    beyond = (columns - at_px[0]) * outward[0] + (rows - at_px[1]) * outward[1]
    return image * (_BLADE + (1 - _BLADE) / (1 + np.exp(np.clip(beyond / 3, -50, 50)))).astype(np.float32)


def detected(primary: Floats, field: Floats, chain: Chain) -> NDArray[np.float64]:
    """Signal of the grid of 512 px without noise: primary quanta, blurred, with scatter and glare."""
    primary, field = coarse(primary), coarse(field)
    signal = ndimage.gaussian_filter(primary.astype(float), chain.blur_px)
    # Scattered once: what interacts, attenuated like the primary quanta (Ohnesorge et al., Eur Radiol 9 (1999) 563).
    share = np.clip(primary / field, 1e-6, 1)
    signal += chain.scatter * _wide(-field * share * np.log(share), 40) + chain.veil * _wide(field, 60)
    tail = sum(part * _wide(signal, px) for part, px in zip(_GLARE_SHARES, _GLARE_PX, strict=True))
    return (1 - chain.glare) * signal + chain.glare * tail


def coarse(fine: Floats) -> Floats:
    """Average of a fine image on the grid of 512 px."""
    return cv2.resize(fine, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)


def _wide(image: NDArray[np.floating], sigma_px: float) -> NDArray[np.float64]:
    """Gaussian blur of a 512 px image, on a coarser grid where that makes no difference."""
    factor = int(max(1, 2 ** np.floor(np.log2(sigma_px / 3))))
    reduced = cv2.resize(image.astype(float), None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    blurred = ndimage.gaussian_filter(reduced, sigma_px / factor, mode="nearest")
    return cv2.resize(blurred, image.shape[::-1], interpolation=cv2.INTER_LINEAR)


def noisy(signal: NDArray[np.float64], chain: Chain, times: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Signal, 1 is white, with quantum noise that the optics blur, mottle, and readout noise."""
    grain, mottle = (ndimage.gaussian_filter(rng.normal(size=signal.shape), px) for px in (chain.grain_px, 3.0))
    quantum = grain / grain.std() + 0.5 * mottle / mottle.std()
    quantum *= np.sqrt(np.clip(signal, 0, None) / chain.quanta)
    return signal + times * (quantum + rng.normal(0, 0.003, signal.shape))


def grey(signal: NDArray[np.float64], response: Response, gamma: float) -> NDArray[np.uint8]:
    """8-bit image of a signal of which 1 is white; more than fits is clipped."""
    signal = np.clip(signal, 0, None)
    if response == "windowed":
        low, high = np.quantile(signal, _WINDOW)
        return np.clip(np.round(255 * (signal - low) / (high - low)), 0, 255).astype(np.uint8)
    if response == "log":
        signal = np.log1p(_LOG * signal) / np.log1p(_LOG)
    value = _WHITE * signal**gamma + _BLACK
    if response == "inverted":
        value = _WHITE + 2 * _BLACK - value
    return np.clip(np.round(value), 0, 255).astype(np.uint8)


def as_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Image after JPEG compression."""
    encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
    return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)


def as_size(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Image of fewer pixels over the same field."""
    return cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)
