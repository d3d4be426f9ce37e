"""Random changes to a training sample's images, as by the imaging chain of another day.

Each plane is changed on its own: the whole image is shifted and scaled, objects are put into the beam, the image is
blurred, its grey levels pass through another curve, and noise is added. The implants keep their poses in the
world: a shifted and scaled image is that of a camera with other intrinsics,

    A = [[s, 0, c (1 - s) + shift_column], [0, s, c (1 - s) + shift_row], [0, 0, 1]],    K' = A K,

with c = (N - 1) / 2, the centre of the image, whose pixel centres are whole numbers. The camera is updated exactly;
the image follows it by linear interpolation, with weights of 1/256.

All random numbers are drawn here, from a generator of the seed, the epoch and the frame; `changes` applies them, in
the process that loads a frame or for a whole batch on a GPU, with the same grey levels.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
import torch

from veriserum_hf.core import PLANES, FloatArray, ImageArray
from veriserum_hf.geometry import FIELD_MM, pixel_size_mm
from veriserum_hf.training.batches import Batch, Sample
from veriserum_hf.training.changes import (
    NOISE_MARGIN_PX,
    ORIENTATIONS,
    Change,
    change_batch,
    change_image,
    resampling,
    taps_of,
)

# Implants that project no farther from the image's centre than this stay in the image whatever is drawn.
KEPT_RADIUS_MM = 150.0
_UPPER_BOUNDS = {  # of a strength; the others have no bound
    "scale": 0.15,
    "occlusions": 20,
    "occlusion_mm": 100.0,
    "occlusion_absorption": 1.0,
    "blur_mm": 10.0,
    "gain": 0.9,
    "contrast": 0.9,
    "gamma": 2.0,
    "noise": 0.5,
}
_MAX_CORNERS = 7


@dataclass(frozen=True)
class Augmentation:
    """How strongly a sample's images are changed; at 0 a change is skipped, at all 0 nothing changes.

    Lengths are on the intensifier, 360 mm of which make the image, whatever its size in pixels.

    Attributes
    ----------
    shift_mm : largest shift along columns and along rows.
    scale : largest change of size, as a part: 0.05 draws from 0.95 to 1.05.
    occlusions : largest number of solids in the beam, each a disc or a polygon with a soft edge.
    occlusion_mm : largest radius of a solid; the smallest is a quarter of it.
    occlusion_absorption : largest part of the light that one solid absorbs; the smallest is a quarter of it.
    blur_mm : largest standard deviation of a Gaussian blur.
    gain : largest change of all grey levels, as a part of them.
    contrast : largest change of the distance from mid-grey, as a part of it.
    gamma : largest logarithm of the exponent g in ``white (grey / white)^g``.
    noise : largest standard deviation of the noise at white, fraction of white; it grows with the root of the grey
        level, as that of quanta does.

    Raises
    ------
    ValueError
        If a strength is negative, not finite or beyond what it can mean, or if shift and scale together could move
        an implant out of the image that projects ``KEPT_RADIUS_MM`` from its centre.

    """

    shift_mm: float = 15.0
    scale: float = 0.06
    occlusions: int = 3
    occlusion_mm: float = 35.0
    occlusion_absorption: float = 0.85
    blur_mm: float = 0.6
    gain: float = 0.25
    contrast: float = 0.25
    gamma: float = 0.3
    noise: float = 0.04

    def __post_init__(self) -> None:
        for strength in fields(self):
            value = getattr(self, strength.name)
            upper_bound = _UPPER_BOUNDS.get(strength.name, math.inf)
            number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not 0 <= value <= upper_bound:
                allowed = "zero or positive" if math.isinf(upper_bound) else f"from 0 to {upper_bound:g}"
                raise ValueError(f"{strength.name} must be {allowed}, got {value!r}")
        if self.occlusions != int(self.occlusions):
            raise ValueError(f"occlusions must be a whole number, got {self.occlusions!r}")
        reach_mm = KEPT_RADIUS_MM * (1 + self.scale) + self.shift_mm
        # A pixel to spare, for the grid's half native pixel and the half pixel at the rim.
        if reach_mm > FIELD_MM / 2 - 1.5:
            raise ValueError(
                f"shift_mm {self.shift_mm:g} and scale {self.scale:g} move what projects {KEPT_RADIUS_MM:g} mm from "
                f"the centre to {reach_mm:g} mm, out of the image; {KEPT_RADIUS_MM:g} (1 + scale) + shift_mm must "
                f"not exceed {FIELD_MM / 2 - 1.5:g} mm: lower one of them"
            )


def augment(sample: Sample, augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    """Draw a changed copy of a sample; it follows from the sample, the strengths and the random numbers alone.

    Parameters
    ----------
    sample : of `veriserum_hf.training.batches.sample_of`: ``image_bs`` and ``image_fs`` (1, N, N) uint8,
        ``camera_bs`` and ``camera_fs``; a plane whose image is missing or None is skipped.
    augmentation : the strengths.
    rng : decides everything; it is advanced.

    Returns
    -------
    A new dictionary with new images and new ``intrinsics`` (3, 3) float64, px. Everything else, poses included, is
    the same object as in the sample.

    Raises
    ------
    ValueError
        If an image is not a (1, N, N) uint8 tensor.

    """
    changed = draw_changes(sample, augmentation, rng)
    for plane in PLANES:
        if change := changed.pop(f"change_{plane}", None):
            image = change_image(sample[f"image_{plane}"][0].numpy(), Change(**change))
            changed[f"image_{plane}"] = torch.from_numpy(image)[None]
    return changed


def draw_changes(sample: Sample, augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    """As `augment`, with the sample's own images, and what is drawn for each in ``change_bs`` and ``change_fs``."""
    changed = dict(sample)
    for plane in PLANES:
        image = sample.get(f"image_{plane}")
        if image is None:
            continue
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 1 or image.shape[1] != image.shape[2]:
            raise ValueError(
                f"image_{plane} must be a (1, N, N) uint8 tensor, got {tuple(image.shape)} of {image.dtype}"
            )
        camera = sample[f"camera_{plane}"]
        change, A = _draw(image.shape[1], augmentation, rng)
        changed[f"change_{plane}"] = change._asdict()
        intrinsics = torch.from_numpy(A).to(camera["intrinsics"].dtype) @ camera["intrinsics"]
        changed[f"camera_{plane}"] = camera | {"intrinsics": intrinsics}
    return changed


def apply_changes(batch: Batch) -> Batch:
    """Change the images of a batch of `draw_changes` on their device, to the same grey levels as `augment`."""
    changed: dict[str, Any] = dict(batch)
    for plane in PLANES:
        if change := changed.pop(f"change_{plane}", None):
            changed[f"image_{plane}"] = change_batch(changed[f"image_{plane}"], change)
    return changed  # type: ignore[return-value]


def _draw(size: int, strengths: Augmentation, rng: np.random.Generator) -> tuple[Change, FloatArray]:
    """What is drawn for an image, and the matrix (3, 3) that takes old pixels (column, row, 1) to new ones."""
    s, shift_columns, shift_rows = _shift_and_scale(strengths, size, rng)
    largest_px = strengths.blur_mm / pixel_size_mm(size)
    sigma_px, at_white = rng.uniform(0, largest_px), rng.uniform(0, strengths.noise)
    taps = taps_of(largest_px, 1 - strengths.scale)
    first, weights = resampling(size, s, (shift_rows, shift_columns), sigma_px, taps)
    through: ImageArray = np.full((size, size), 255, np.uint8)
    if strengths.occlusion_mm and strengths.occlusion_absorption:
        for _ in range(rng.integers(strengths.occlusions + 1)):
            _occlude(through, strengths, sigma_px, rng)
    curve = _grey_curve(strengths, rng)
    *noise, mirrored = rng.integers((ORIENTATIONS, NOISE_MARGIN_PX, NOISE_MARGIN_PX, 2)).tolist()
    deviation = np.float32(math.sqrt(255) * (-at_white if mirrored else at_white))
    A = np.array([[s, 0, shift_columns], [0, s, shift_rows], [0, 0, 1]])
    return Change(first, weights, through, curve, np.array(noise), deviation), A


def _shift_and_scale(strengths: Augmentation, size: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Scale s, and by how much the columns and rows of pixels ``s old`` are shifted, px."""
    s = 1 + rng.uniform(-strengths.scale, strengths.scale)
    shift_px = rng.uniform(-strengths.shift_mm, strengths.shift_mm, 2) / pixel_size_mm(size)
    columns, rows = ((size - 1) / 2 * (1 - s) + shift_px).tolist()
    return s, columns, rows


def _occlude(through: ImageArray, strengths: Augmentation, sigma_px: float, rng: np.random.Generator) -> None:
    """Put one solid into the beam, in place, blurred as the image is."""
    size = len(through)
    of_radius, of_absorption, of_edge, *of_center = rng.random(5).tolist()
    radius_px = strengths.occlusion_mm / pixel_size_mm(size) * (0.25 + 0.75 * of_radius)
    absorbed = strengths.occlusion_absorption * (0.25 + 0.75 * of_absorption)
    edge_px = math.hypot(0.3 + 1.2 * of_edge, sigma_px)
    # All of the solid and of its edge, about its centre.
    reach = math.ceil(radius_px + 4 * edge_px)
    first_column, first_row = (round(size * part) - reach for part in of_center)
    solid: ImageArray = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    corners = int(rng.integers(2, _MAX_CORNERS + 1))  # two mean a disc
    if corners == 2:
        cv2.circle(solid, (reach, reach), round(radius_px), 255, cv2.FILLED)
    else:
        angles = 2 * math.pi * np.sort(rng.random(corners))
        radii_px = radius_px * rng.uniform(0.4, 1, corners)
        outline = np.rint(reach + radii_px * (np.cos(angles), np.sin(angles))).astype(np.int32)
        cv2.fillPoly(solid, [np.ascontiguousarray(outline.T)], 255)
    solid = cv2.GaussianBlur(solid, (0, 0), edge_px)
    of_solid = cv2.convertScaleAbs(solid, alpha=-absorbed, beta=255)
    rows, columns = (slice(max(first, 0), first + len(solid)) for first in (first_row, first_column))
    seen = through[rows, columns]
    part = of_solid[max(-first_row, 0) :, max(-first_column, 0) :][: seen.shape[0], : seen.shape[1]]
    through[rows, columns] = cv2.multiply(seen, part, scale=1 / 255)


def _grey_curve(strengths: Augmentation, rng: np.random.Generator) -> ImageArray:
    """New grey level, (256,) uint8, of each old one: exponent, contrast about mid-grey, gain."""
    exponent = np.exp(rng.uniform(-strengths.gamma, strengths.gamma))
    contrast = 1 + rng.uniform(-strengths.contrast, strengths.contrast)
    gain = 1 + rng.uniform(-strengths.gain, strengths.gain)
    level = (np.arange(256) / 255) ** exponent
    level = gain * (0.5 + contrast * (level - 0.5))
    curve: ImageArray = np.rint(255 * level.clip(0, 1)).astype(np.uint8)
    return curve
