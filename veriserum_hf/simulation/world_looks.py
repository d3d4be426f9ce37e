"""What a detector of a randomised world makes of the light that reaches it: imaging chain, collimator, grey curve."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import FIELD_MM
from veriserum_hf.simulation.imaging import Imaging
from veriserum_hf.simulation.intensifier_torch import Exposure
from veriserum_hf.simulation.world_ranges import WorldRanges
from veriserum_hf.simulation.world_rigs import View

_RAW_PITCH_MM = 0.2275
_RAW_CENTER_PX = (832.0, 800.0)
_PIXEL_BLUR = 0.4  # standard deviation of a pixel's own blur and that of resampling it, in pixels
_NO_RING_PX = 1e5  # radius of a field without an edge
_LOGARITHM = (5.0, 200.0)
_MOST_BLADES = 4
_BLADE_SIGNAL = (0.005, 0.06)  # part of the light that passes a blade
_NO_BLADE = (0.0, 0.0, 1e4)  # one that is far beyond the field


class Seen(NamedTuple):
    """What a plane sees.

    Attributes
    ----------
    view : the plane.
    knee_mm : (3,) in the world.
    implants_px : (2,) where they are on the canvas.
    raw_px : see `veriserum_hf.simulation.intensifier_torch.Exposure`.

    """

    view: View
    knee_mm: FloatArray
    implants_px: FloatArray
    raw_px: FloatArray


@dataclass(frozen=True)
class Curve:
    """From signal to grey level, parts of white.

    Attributes
    ----------
    exposed : whether the detector's exposure is chosen by the image; else white is the open field's signal.
    clipped, low : parts of the field that are white and, of what is left, black.
    gamma : exponent.
    logarithm : grey level is log(1 + logarithm * signal), scaled; 0 for none.
    inverted : dark where the signal is.
    dark, bright : grey levels of black and white.

    """

    exposed: bool
    clipped: float
    low: float
    gamma: float
    logarithm: float
    inverted: bool
    dark: float
    bright: float


@dataclass(frozen=True, eq=False)
class Look:
    """What makes one image, besides the solids in the beam.

    Attributes
    ----------
    exposure : the imaging chain.
    first_px, size_px : (2,) column and row of the image on the canvas, and its columns and rows.
    blades_mm : (4, 3) normal (h, v down) and distance of the collimator's blades from the canvas's middle.
    blade_signal : part that passes a blade.
    curve : grey levels.
    mottle, mottle_mm : deviation of the coarse noise over that of the fine one, and its grain.

    """

    exposure: Exposure
    first_px: FloatArray
    size_px: FloatArray
    blades_mm: FloatArray
    blade_signal: float
    curve: Curve
    mottle: float
    mottle_mm: float


def _imaging(ranges: WorldRanges, view: View, stray: float, rng: np.random.Generator) -> Imaging:
    """The imaging chain of a plane, on the canvas."""
    imaging, of_scatter, factor = Imaging.random(rng), rng.uniform(0.3, 0.7), ranges.draw("noise", rng)
    imaging = replace(
        imaging,
        scatter_fraction=of_scatter * stray,
        glare_fraction=(1 - of_scatter) * stray,
        screen_blur_mm=ranges.draw("blur_mm", rng),
        quanta_per_pixel=imaging.quanta_per_pixel / factor**2,
        readout_noise=min(imaging.readout_noise * factor, 0.02),
    )
    if view.own:
        return imaging
    center_px = np.array(_RAW_CENTER_PX) + rng.normal(0, 8, 2)
    radius_px = _NO_RING_PX if view.radius_mm is None else view.radius_mm / _RAW_PITCH_MM * rng.uniform(0.95, 1.04)
    return replace(
        imaging,
        vignette_h_mm=rng.uniform(110, 320),
        vignette_v_mm=rng.uniform(110, 320),
        field_center_x_px=float(center_px[0]),
        field_center_y_px=float(center_px[1]),
        field_radius_px=float(radius_px),
        ring_radius_px=float(radius_px * rng.uniform(1.1, 1.3)),
    )


def draw_looks(
    ranges: WorldRanges, both: Sequence[Seen], stray: float, rng: np.random.Generator, *, exposed: bool, size: int
) -> tuple[Look, Look]:
    """Looks of both planes.

    Parameters
    ----------
    ranges : to draw from.
    both : what the planes see.
    stray : part of the light that is scattered, in the scene and in the intensifier.
    rng : random numbers.
    exposed : whether the exposure follows the image.
    size : edge of the canvas, px.

    """
    imaging = [_imaging(ranges, seen.view, stray, rng) for seen in both]
    curves = [_curve(ranges, chain, rng, exposed=exposed) for chain in imaging]
    if ranges.happens("one_curve", rng):
        curves[1] = curves[0]
    collimated = ranges.happens("collimators", rng)
    bs, fs = (
        Look(
            exposure=Exposure(chain, _blur_mm(seen, chain), seen.raw_px),
            first_px=seen.view.first_px,
            size_px=seen.view.size_px,
            blades_mm=_blades(seen.implants_px, size, rng) if collimated else np.tile(_NO_BLADE, (_MOST_BLADES, 1)),
            blade_signal=float(rng.uniform(*_BLADE_SIGNAL)),
            curve=curve,
            mottle=ranges.draw("mottle", rng),
            mottle_mm=ranges.draw("mottle_mm", rng),
        )
        for seen, chain, curve in zip(both, imaging, curves, strict=True)
    )
    return bs, fs


def _curve(ranges: WorldRanges, imaging: Imaging, rng: np.random.Generator, *, exposed: bool) -> Curve:
    levels = {"dark": ranges.draw("dark", rng), "bright": imaging.bright_level}
    if ranges.happens("plain", rng):
        return Curve(exposed, ranges.draw("clipped", rng), 0.0, 1.0, 0.0, inverted=False, **levels)
    clipped, low = ranges.draw("clipped", rng), 0.0
    if ranges.happens("saturated", rng):
        clipped = ranges.draw("saturated_part", rng)
    if ranges.happens("windowed", rng):
        clipped, low = max(clipped, ranges.draw("windowed_part", rng)), ranges.draw("windowed_part", rng)
    logarithmic = ranges.happens("logarithmic", rng)
    return Curve(
        exposed=True,
        clipped=clipped,
        low=low,
        gamma=1.0 if logarithmic else ranges.draw_ratio("gamma", rng),
        logarithm=float(np.exp(rng.uniform(*np.log(_LOGARITHM)))) if logarithmic else 0.0,
        inverted=ranges.happens("inverted", rng),
        **levels,
    )


def _blur_mm(seen: Seen, imaging: Imaging) -> float:
    """Standard deviation on the canvas of focal spot, screen and pixels."""
    view = seen.view
    on_detector_mm = imaging.blur_mm(view.plane, float(view.plane.depths_mm(seen.knee_mm)))
    if view.pixel_mm is None:
        return on_detector_mm
    return float(np.hypot(on_detector_mm, _PIXEL_BLUR * view.pixel_mm) * view.scale)


def _blades(implants_px: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
    """One to four blades about the implants, the first at any angle; one may hide parts of them."""
    blades = np.tile(_NO_BLADE, (_MOST_BLADES, 1))
    middle_mm = (implants_px - (size - 1) / 2) * (FIELD_MM / size)
    first_deg = rng.choice([0.0, 90.0]) + rng.normal(0, 12)
    for number, side in enumerate(rng.permutation(_MOST_BLADES)[: rng.integers(1, _MOST_BLADES + 1)]):
        angle = np.radians(first_deg + 90 * side + rng.normal(0, 4))
        normal = np.array([np.cos(angle), np.sin(angle)])
        blades[number] = *normal, normal @ middle_mm + rng.uniform(25, 130)
    return blades
