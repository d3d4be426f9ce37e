"""From solids to a raw frame of an intensifier: attenuation, blur, scatter, field, distortion, noise, grey levels.

The picture is drawn twice. On the canvas, the grid of a corrected image with a margin, the plane's camera is a plain
pinhole: Beer-Lambert attenuation of what stands in the beam, the open field's fall towards the rim, blur and scatter.
The distortion's polynomial says where on the canvas every raw pixel looks, so the raw frame is one lookup; what the
intensifier's output and its television camera add (round aperture, bands, noise, quantisation) is added there.

Signals are fractions of what the open field gives at its centre.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from veriserum_hf.calibration.distortion import RAW_HEIGHT_PX, RAW_WIDTH_PX, Distortion
from veriserum_hf.geometry.rig import Plane, mm_to_px, pixel_size_mm, px_to_mm
from veriserum_hf.rendering.path_length import path_length_window

Picture = NDArray[Any]  # float32; OpenCV's own types cannot say it
FloatArray = NDArray[np.float64]
Grey = NDArray[np.uint8] | NDArray[np.uint16]

# Effective, per mm: the ratios are about those of tabulated mass attenuation at 100 keV (Hubbell and Seltzer, NIST
# SRD 126), what is left of a beam behind millimetres of metal; implants are then as dark as in the published frame.
ATTENUATION_PER_MM = {
    "CoCr": 0.35,
    "Ti6Al4V": 0.118,
    "steel": 0.29,
    "aluminium": 0.046,
    "PMMA": 0.0194,
    "cement": 0.030,
    "lead": 6.3,
}
# Raw frames show more than the 360 mm of a corrected image: their field reaches some 200 mm from the centre.
_MARGIN_MM = 27.0
_FINENESS = 2  # rays per canvas pixel and axis
_COARSENESS = 16  # scatter and glare are smooth: they are blurred on pixels so much larger
_WHITE = {8: 255.0, 16: 4095.0}  # 16-bit files of intensifiers hold 12 bits


class Part(NamedTuple):
    """A closed solid in the beam: mesh in mm, its material (a key of ``attenuation_per_mm``), and its pose."""

    mesh: trimesh.Trimesh
    material: str
    T_world_part: FloatArray


def _in(low: float, high: float, default: float) -> Any:
    """A parameter with its default, and the range it is drawn from for domain randomisation."""
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class Imaging:
    """Every parameter of the imaging chain; `random` draws them from the ranges beside the defaults.

    Pixels are those of a 1664 x 1600 raw frame; other sizes show the same field. Values were chosen so that frames
    look like the one that is published (arXiv 2509.05483).

    Attributes
    ----------
    attenuation_per_mm : linear attenuation by material, 1/mm.
    attenuation_scale : factor on all of them, as another tube voltage would bring.
    focal_spot_mm : full width at half maximum of the X-ray source.
    screen_blur_mm : standard deviation of the point spread of screen and optics, on the intensifier.
    scatter_fraction, scatter_sigma_mm : part of the signal that is scattered in the scene, and how far.
    glare_fraction, glare_sigma_mm : part that is scattered within the intensifier (veiling glare), and how far.
    vignette_h_mm, vignette_v_mm : standard deviations of the open field's fall from the centre.
    heel_per_mm : slope of the open field along h, by the anode's heel effect.
    quanta_per_pixel : X-ray quanta that one raw pixel registers at full signal.
    noise_blur_px : standard deviation of the optics' blur of the quantum noise.
    readout_noise : standard deviation, fraction of white.
    band_amplitude, band_height_px : standard deviation and height of the faint horizontal bands.
    field_center_x_px, field_center_y_px, field_radius_px : the intensifier's round field in the raw frame, whose
        edges cut it off.
    ring_level, ring_radius_px, ring_width_px : stray light around the field: signal, radius, standard deviation.
    dark_level, bright_level : grey at no and at full signal, fractions of white.
    jpeg_quality : of 8-bit frames.

    """

    attenuation_per_mm: Mapping[str, float] = field(default_factory=ATTENUATION_PER_MM.copy)
    attenuation_scale: float = _in(0.8, 1.25, 1.0)
    focal_spot_mm: float = _in(0.3, 1.2, 0.6)
    screen_blur_mm: float = _in(0.175, 0.4, 0.25)
    scatter_fraction: float = _in(0.02, 0.12, 0.07)
    scatter_sigma_mm: float = _in(15.0, 35.0, 25.0)
    glare_fraction: float = _in(0.03, 0.12, 0.07)
    glare_sigma_mm: float = _in(40.0, 90.0, 60.0)
    vignette_h_mm: float = _in(115.0, 180.0, 140.0)
    vignette_v_mm: float = _in(75.0, 130.0, 85.0)
    heel_per_mm: float = _in(-0.001, 0.001, -0.0004)
    quanta_per_pixel: float = _in(150.0, 700.0, 350.0)
    noise_blur_px: float = _in(0.5, 0.9, 0.7)
    readout_noise: float = _in(0.002, 0.006, 0.003)
    band_amplitude: float = _in(0.0, 0.006, 0.003)
    band_height_px: float = _in(3.0, 8.0, 5.0)
    field_center_x_px: float = _in(812.0, 832.0, 822.0)
    field_center_y_px: float = _in(808.0, 826.0, 820.0)
    field_radius_px: float = _in(845.0, 870.0, 860.0)
    ring_level: float = _in(0.0, 0.06, 0.045)
    ring_radius_px: float = _in(1000.0, 1050.0, 1025.0)
    ring_width_px: float = _in(25.0, 50.0, 35.0)
    dark_level: float = _in(0.004, 0.03, 0.008)
    bright_level: float = _in(0.75, 1.0, 0.98)
    jpeg_quality: int = 95

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Imaging":
        """Parameters drawn evenly from their ranges, for domain randomisation."""
        ranges = {f.name: f.metadata["range"] for f in fields(cls) if "range" in f.metadata}
        drawn: dict[str, Any] = {name: float(rng.uniform(*span)) for name, span in ranges.items()}
        return cls(**drawn)

    def blur_mm(self, plane: Plane, depth_mm: float) -> float:
        """Standard deviation on the intensifier, mm, of the blur of what stands ``depth_mm`` from the source."""
        penumbra_mm = self.focal_spot_mm / np.sqrt(8 * np.log(2)) * (plane.sid_mm / depth_mm - 1)
        return float(np.hypot(penumbra_mm, self.screen_blur_mm))


def canvas_margin_px(size: int) -> int:
    """Pixels that a canvas has on every side beyond the corrected image of ``size`` px."""
    return int(np.ceil(_MARGIN_MM / pixel_size_mm(size)))


def transmission(parts: Sequence[Part], plane: Plane, imaging: Imaging, size: int) -> Picture:
    """Part of the beam that comes through straight, exp(-sum of mu L), on the canvas of a ``size`` px image.

    Raises
    ------
    ValueError
        If a material has no attenuation, or a mesh cannot be rendered (see `path_length`).

    """
    margin = canvas_margin_px(size)
    canvas = np.ones((size + 2 * margin, size + 2 * margin), np.float32)
    if not parts:
        return canvas
    windows = []
    for part in parts:
        if part.material not in imaging.attenuation_per_mm:
            known = ", ".join(imaging.attenuation_per_mm)
            raise ValueError(f"no attenuation is known for {part.material!r}, expected one of {known}")
        per_mm = imaging.attenuation_scale * imaging.attenuation_per_mm[part.material]
        fine = path_length_window(part.mesh, part.T_world_part, plane, _FINENESS * size, _FINENESS * margin)
        windows.append((per_mm, fine.slices(_FINENESS * margin), fine.values))
    # Only where something stands in the beam: rows and columns of whole canvas pixels around all parts.
    rows, columns = (_hull([slices[axis] for _, slices, _ in windows]) for axis in (0, 1))
    depth = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.float32)
    for per_mm, (its_rows, its_columns), lengths in windows:
        there = depth[_shifted(its_rows, rows.start), _shifted(its_columns, columns.start)]
        cv2.scaleAdd(lengths.astype(np.float32), per_mm, there, there)
    cv2.exp(-depth, depth)
    coarse = (slice(s.start // _FINENESS, s.stop // _FINENESS) for s in (rows, columns))
    if depth.size:
        shape = (depth.shape[1] // _FINENESS, depth.shape[0] // _FINENESS)
        canvas[tuple(coarse)] = cv2.resize(depth, shape, interpolation=cv2.INTER_AREA)
    return canvas


def _hull(slices: Sequence[slice]) -> slice:
    """Smallest slice of whole canvas pixels around all."""
    start = min(s.start for s in slices) // _FINENESS * _FINENESS
    return slice(start, -(-max(s.stop for s in slices) // _FINENESS) * _FINENESS)


def _shifted(part: slice, by: int) -> slice:
    return slice(part.start - by, part.stop - by)


def expose(
    parts: Sequence[Part],
    plane: Plane,
    distortion: Distortion,
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

    """
    depths_mm = [(plane.world_to_camera @ part.T_world_part)[2, 3] for part in parts]
    blur_mm = imaging.blur_mm(plane, float(np.mean(depths_mm)) if depths_mm else plane.sid_mm)
    through = transmission(parts, plane, imaging, height_px)
    return read_out(through, blur_mm, distortion, imaging, rng, height_px=height_px, bit_depth=bit_depth)


def read_out(
    through: Picture,
    blur_mm: float,
    distortion: Distortion,
    imaging: Imaging,
    rng: np.random.Generator,
    *,
    height_px: int,
    bit_depth: Literal[8, 16],
) -> Grey:
    """Raw frame of a transmission on the canvas of a ``height_px`` px image; see `expose`."""
    field = _open_field(height_px, imaging.vignette_h_mm, imaging.vignette_v_mm, imaging.heel_per_mm)
    signal = cv2.multiply(through, field)
    primary = _blurred(signal, blur_mm, height_px)
    coarse = cv2.resize(signal, None, fx=1 / _COARSENESS, fy=1 / _COARSENESS, interpolation=cv2.INTER_AREA)
    pitch_mm = pixel_size_mm(height_px) * _COARSENESS
    stray: Picture = imaging.scatter_fraction * cv2.GaussianBlur(coarse, (0, 0), imaging.scatter_sigma_mm / pitch_mm)
    stray += imaging.glare_fraction * cv2.GaussianBlur(coarse, (0, 0), imaging.glare_sigma_mm / pitch_mm)
    stray = cv2.resize(stray, primary.shape[::-1], interpolation=cv2.INTER_LINEAR)
    straight = 1 - imaging.scatter_fraction - imaging.glare_fraction
    cv2.scaleAdd(primary, straight, stray, stray)
    raw = cv2.remap(stray, *_looks_at(distortion, height_px), cv2.INTER_LINEAR)
    aperture, ring = _aperture(
        height_px,
        (imaging.field_center_x_px, imaging.field_center_y_px, imaging.field_radius_px),
        (imaging.ring_level, imaging.ring_radius_px, imaging.ring_width_px),
    )
    cv2.multiply(raw, aperture, raw)
    cv2.add(raw, ring, raw)
    return _grey(raw, imaging, rng, bit_depth)


def _blurred(picture: Picture, sigma_mm: float, size: int) -> Picture:
    # Averaging over a pixel and looking up between pixels blur by 1/12 and, on average, 1/6 square pixels.
    variance_px = (sigma_mm / pixel_size_mm(size)) ** 2 - 1 / 12 - 1 / 6
    if variance_px <= 0:
        return picture
    # Sampled, so narrow a Gaussian is narrower than it says; three weights have its variance exactly.
    side = variance_px / 2
    narrow = np.array([side, 1 - variance_px, side])
    blurred: Picture = (
        cv2.sepFilter2D(picture, -1, narrow, narrow)
        if variance_px < 0.4
        else cv2.GaussianBlur(picture, (0, 0), np.sqrt(variance_px))
    )
    return blurred


def _grey(signal: Picture, imaging: Imaging, rng: np.random.Generator, bit_depth: Literal[8, 16]) -> Grey:
    """Grey levels of a signal, with quantum and read-out noise and bands."""
    height = len(signal)
    per_px = height / RAW_HEIGHT_PX  # pitch of a 1600-row frame over this one's
    white = _WHITE[bit_depth]
    gain = (imaging.bright_level - imaging.dark_level) * white
    noise: Picture = rng.standard_normal(signal.shape, dtype=np.float32)
    sigma_px = imaging.noise_blur_px * per_px
    kernel = cv2.getGaussianKernel(2 * int(np.ceil(3 * sigma_px)) + 1, sigma_px, cv2.CV_32F)
    noise = cv2.sepFilter2D(noise, -1, kernel, kernel)
    # The blur leaves sum(k^2)^2 of the variance of quanta, but the read-out noise comes after it.
    kept = float((kernel**2).sum()) ** 2
    quanta = imaging.quanta_per_pixel / per_px**2
    readout = imaging.readout_noise * white
    deviation = cv2.sqrt(signal * np.float32(gain**2 / quanta) + np.float32(readout**2 / kept))
    cv2.multiply(noise, deviation, noise)
    rows: Picture = rng.standard_normal((height, 1), dtype=np.float32)
    rows = cv2.GaussianBlur(rows, (1, 0), sigmaX=1, sigmaY=imaging.band_height_px * per_px)
    factor = gain * (1 + imaging.band_amplitude * rows / max(float(rows.std()), 1e-6))
    level = signal * factor.astype(np.float32)
    cv2.add(level, noise, level)
    depth = cv2.CV_8U if bit_depth == 8 else cv2.CV_16U
    grey: NDArray[Any] = cv2.add(level, np.array([imaging.dark_level * white]), dtype=depth)
    return grey if bit_depth == 8 else np.minimum(grey, np.uint16(white))


@lru_cache(maxsize=4)
def _open_field(size: int, vignette_h_mm: float, vignette_v_mm: float, heel_per_mm: float) -> Picture:
    """Signal on the canvas with nothing in the beam."""
    margin = canvas_margin_px(size)
    along = np.arange(-margin, size + margin)
    h_mm, v_mm = px_to_mm(np.stack([along, along], axis=1), size).T
    horizontal = np.exp(-(h_mm**2) / (2 * vignette_h_mm**2)) * (1 + heel_per_mm * h_mm)
    vertical = np.exp(-(v_mm**2) / (2 * vignette_v_mm**2))
    return np.outer(vertical, horizontal).astype(np.float32)


def _raw_axes_px(height_px: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Columns and rows of a frame of so many rows, in pixels of a 1664 x 1600 frame."""
    width_px = frame_width_px(height_px)
    x = (np.arange(width_px) + 0.5) * (RAW_WIDTH_PX / width_px) - 0.5
    y = (np.arange(height_px) + 0.5) * (RAW_HEIGHT_PX / height_px) - 0.5
    return x, y


def frame_width_px(height_px: int) -> int:
    """Columns of a raw frame of so many rows, which shows the field of a 1664 x 1600 one."""
    return round(height_px * RAW_WIDTH_PX / RAW_HEIGHT_PX)


@lru_cache(maxsize=4)  # two planes of two calibrations; 21 MB each at full size
def _looks_at(distortion: Distortion, height_px: int) -> tuple[Picture, Picture]:
    """Canvas column and row of every raw pixel."""
    x, y = _raw_axes_px(height_px)
    margin = canvas_margin_px(height_px)
    maps = np.empty((2, len(y), len(x)), np.float32)
    for first in range(0, len(y), 32):  # strips stay in the processor's cache
        xy_px = np.stack(np.meshgrid(x, y[first : first + 32]), axis=-1)
        px = mm_to_px(distortion.to_mm(xy_px.reshape(-1, 2)), height_px) + margin
        maps[:, first : first + 32] = px.T.reshape(2, -1, len(x))
    return maps[0], maps[1]


@lru_cache(maxsize=4)
def _aperture(
    height_px: int, field_px: tuple[float, float, float], ring: tuple[float, float, float]
) -> tuple[Picture, Picture]:
    """Part of the signal that the round field lets through, and stray light around it, by raw pixel."""
    center_x, center_y, radius = field_px
    level, ring_radius, ring_width = ring
    x, y = _raw_axes_px(height_px)
    distance = np.hypot(x - center_x, (y - center_y)[:, None])
    edge_px = max(2.0, RAW_HEIGHT_PX / height_px)
    inside = np.clip((radius - distance) / edge_px + 0.5, 0, 1)
    around = level * np.exp(-((distance - ring_radius) ** 2) / (2 * ring_width**2)) * (1 - inside)
    return inside.astype(np.float32), around.astype(np.float32)
