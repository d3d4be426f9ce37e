"""From a scene's transmission to a raw frame of an intensifier.

On the canvas, the grid of a corrected image with a margin, the open field falls towards the rim, and blur, scatter
and glare are added. The distortion's polynomial maps every raw pixel to the canvas, so the raw frame is one
lookup; what the intensifier's output and its television camera add (round aperture, bands, noise, quantisation)
is added there.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from veriserum_hf.calibration import RAW_HEIGHT_PX, RAW_WIDTH_PX, DistortionMap, frame_width_px
from veriserum_hf.core import Grey, ImageArray
from veriserum_hf.geometry import Plane, mm_to_px, pixel_size_mm, px_to_mm
from veriserum_hf.simulation.imaging import Imaging, Part
from veriserum_hf.simulation.transmission import RAYS_PER_PIXEL, canvas_margin_px, transmission

_COARSENESS = 16  # scatter and glare are smooth: they are blurred on pixels so much larger
_WHITE = {8: 255.0, 16: 4095.0}  # 16-bit files of intensifiers hold 12 bits


def expose(
    parts: Sequence[Part],
    plane: Plane,
    distortion: DistortionMap,
    imaging: Imaging,
    rng: np.random.Generator,
    *,
    height_px: int = RAW_HEIGHT_PX,
    bit_depth: Literal[8, 16] = 8,
) -> Grey:
    """Raw frame of a scene, (rows, columns): uint8, or uint16 with 12-bit grey levels.

    Parameters
    ----------
    parts : the solids in the beam; solids of different material should not overlap.
    plane, distortion : geometry and distortion of the intensifier.
    imaging : the imaging chain.
    rng : source of the noise.
    height_px : rows of the frame; the width is that of a 1664 x 1600 frame, scaled.
    bit_depth : of the file that it is meant for.

    Raises
    ------
    ValueError
        As `transmission`.

    """
    depths_mm = [(plane.world_to_camera @ part.T_world_part)[2, 3] for part in parts]
    blur_mm = imaging.blur_mm(plane, float(np.mean(depths_mm)) if depths_mm else plane.sid_mm)
    return read_out(
        transmission(parts, plane, imaging, height_px),
        blur_mm,
        distortion,
        imaging,
        rng,
        height_px=height_px,
        bit_depth=bit_depth,
    )


def read_out(
    through: ImageArray,
    blur_mm: float,
    distortion: DistortionMap,
    imaging: Imaging,
    rng: np.random.Generator,
    *,
    height_px: int,
    bit_depth: Literal[8, 16],
) -> Grey:
    """Raw frame of a transmission on the canvas of a ``height_px`` px image; see `expose`."""
    horizontal, vertical = _open_field(imaging, height_px)
    signal: ImageArray = through * horizontal
    del through  # of 14 MB at full size, as every image on the canvas
    signal *= vertical[:, None]
    _spread(signal, blur_mm, imaging, height_px)
    signal = cv2.remap(signal, *_canvas_maps(distortion, height_px), cv2.INTER_LINEAR)
    _surround(signal, imaging)
    return _grey(signal, imaging, rng, bit_depth)


def _spread(signal: ImageArray, blur_mm: float, imaging: Imaging, size: int) -> None:
    """Blur, scatter and glare of a signal on the canvas, in place."""
    coarse = cv2.resize(signal, None, fx=1 / _COARSENESS, fy=1 / _COARSENESS, interpolation=cv2.INTER_AREA)
    pitch_mm = pixel_size_mm(size) * _COARSENESS
    stray: ImageArray = imaging.scatter_fraction * cv2.GaussianBlur(
        coarse, (0, 0), imaging.scatter_sigma_mm / pitch_mm
    )
    stray += imaging.glare_fraction * cv2.GaussianBlur(coarse, (0, 0), imaging.glare_sigma_mm / pitch_mm)
    stray = cv2.resize(stray, signal.shape[::-1], interpolation=cv2.INTER_LINEAR)
    _blur(signal, blur_mm, size)
    straight = 1 - imaging.scatter_fraction - imaging.glare_fraction
    cv2.scaleAdd(signal, straight, stray, signal)


def _open_field(imaging: Imaging, size: int) -> tuple[ImageArray, ImageArray]:
    """Factors, by canvas column and row, of the signal with nothing in the beam."""
    margin = canvas_margin_px(size)
    along = np.arange(-margin, size + margin)
    h_mm, v_mm = px_to_mm(np.stack([along, along], axis=1), size).T
    horizontal = np.exp(-(h_mm**2) / (2 * imaging.vignette_h_mm**2)) * (1 + imaging.heel_per_mm * h_mm)
    vertical = np.exp(-(v_mm**2) / (2 * imaging.vignette_v_mm**2))
    return horizontal.astype(np.float32), vertical.astype(np.float32)


def _blur(image: ImageArray, sigma_mm: float, size: int) -> None:
    """Blur a canvas in place, less what its sampling has blurred already."""
    # The mean of n rays spread evenly over a pixel blurs by (1 - 1/n^2) / 12 square pixels, with two by 1/16; a
    # lookup between pixels at f and 1 - f by f (1 - f), 1/6 on average.
    sampling = (1 - 1 / RAYS_PER_PIXEL**2) / 12 + 1 / 6
    variance_px = (sigma_mm / pixel_size_mm(size)) ** 2 - sampling
    if variance_px <= 0:
        return
    if variance_px < 0.4:
        # Sampled, so narrow a Gaussian has less than its variance; three weights have it exactly.
        narrow = np.array([variance_px / 2, 1 - variance_px, variance_px / 2])
        cv2.sepFilter2D(image, -1, narrow, narrow, image)
    else:
        cv2.GaussianBlur(image, (0, 0), np.sqrt(variance_px), image)


def _grey(signal: ImageArray, imaging: Imaging, rng: np.random.Generator, bit_depth: Literal[8, 16]) -> Grey:
    """Grey levels of a signal, with quantum and read-out noise and bands; the signal is overwritten."""
    height = len(signal)
    per_px = height / RAW_HEIGHT_PX  # pitch of a 1600-row frame over this one's
    white = _WHITE[bit_depth]
    gain = (imaging.bright_level - imaging.dark_level) * white
    noise: ImageArray = rng.standard_normal(signal.shape, dtype=np.float32)
    sigma_px = imaging.noise_blur_px * per_px
    kernel = cv2.getGaussianKernel(2 * int(np.ceil(3 * sigma_px)) + 1, sigma_px, cv2.CV_32F)
    cv2.sepFilter2D(noise, -1, kernel, kernel, noise)
    # The blur leaves sum(k^2)^2 of the variance of quanta, but the read-out noise comes after it.
    kept = float((kernel**2).sum()) ** 2
    quanta = imaging.quanta_per_pixel / per_px**2
    readout = imaging.readout_noise * white
    deviation: ImageArray = signal * np.float32(gain**2 / quanta)
    deviation += np.float32(readout**2 / kept)
    cv2.sqrt(deviation, deviation)
    noise *= deviation
    factor = gain * (1 + imaging.band_amplitude * draw_bands(height, imaging.band_height_px * per_px, rng))
    signal *= factor.astype(np.float32)
    signal += noise
    depth = cv2.CV_8U if bit_depth == 8 else cv2.CV_16U
    grey: ImageArray = cv2.add(signal, np.array([imaging.dark_level * white]), dtype=depth)
    return grey if bit_depth == 8 else np.minimum(grey, np.uint16(white))


def draw_bands(rows: int, height_px: float, rng: np.random.Generator) -> ImageArray:
    """Brightness of horizontal bands of about so many rows, (rows, 1), standard deviation 1."""
    drawn: ImageArray = rng.standard_normal((rows, 1), dtype=np.float32)
    drawn = cv2.GaussianBlur(drawn, (1, 0), sigmaX=1, sigmaY=height_px)
    return drawn / max(float(drawn.std()), 1e-6)


def _raw_axes_px(height_px: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Columns and rows of a frame of so many rows, in pixels of a 1664 x 1600 frame."""
    width_px = frame_width_px(height_px)
    x = (np.arange(width_px) + 0.5) * (RAW_WIDTH_PX / width_px) - 0.5
    y = (np.arange(height_px) + 0.5) * (RAW_HEIGHT_PX / height_px) - 0.5
    return x, y


@lru_cache(maxsize=2)  # both planes; 21 MB each at full size
def _canvas_maps(distortion: DistortionMap, height_px: int) -> tuple[ImageArray, ImageArray]:
    """Canvas column and row of every raw pixel."""
    x, y = _raw_axes_px(height_px)
    margin = canvas_margin_px(height_px)
    maps = np.empty((2, len(y), len(x)), np.float32)
    for first in range(0, len(y), 32):  # strips stay in the processor's cache
        xy_px = np.stack(np.meshgrid(x, y[first : first + 32]), axis=-1)
        px = mm_to_px(distortion.to_mm(xy_px.reshape(-1, 2)), height_px) + margin
        maps[:, first : first + 32] = px.T.reshape(2, -1, len(x))
    return maps[0], maps[1]


def _surround(raw: ImageArray, imaging: Imaging) -> None:
    """Cut a raw image off outside the round field, in place, and add the stray light around it."""
    x, y = (axis.astype(np.float32) for axis in _raw_axes_px(len(raw)))
    squared = np.add.outer((y - imaging.field_center_y_px) ** 2, (x - imaging.field_center_x_px) ** 2)
    edge_px = max(2.0, RAW_HEIGHT_PX / len(raw))
    outside = squared > (imaging.field_radius_px - edge_px / 2) ** 2
    distance = np.sqrt(squared[outside])
    inside = np.clip((imaging.field_radius_px - distance) / edge_px + 0.5, 0, 1)
    ring = np.exp(-((distance - imaging.ring_radius_px) ** 2) / (2 * imaging.ring_width_px**2))
    raw[outside] = raw[outside] * inside + imaging.ring_level * ring * (1 - inside)
