"""What a detector of a randomised world makes of the light that reaches it: imaging chain, collimator, grey curve."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import FIELD_MM
from veriserum_hf.simulation.imaging import Imaging
from veriserum_hf.simulation.intensifier_torch import Exposure
from veriserum_hf.simulation.world_ranges import WorldRanges
from veriserum_hf.simulation.world_rigs import View

_RAW_PITCH_MM = 0.2275
_RAW_CENTER_PX = (832.0, 800.0)
_NO_RING_PX = 1e5  # radius of a field without an edge
_MOST_BLADES = 4
_NO_BLADE = (0.0, 0.0, 1e4)  # one that is far beyond the field


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


def draw_imaging(ranges: WorldRanges, view: View, stray: float, rng: np.random.Generator) -> Imaging:
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
    ranges: WorldRanges,
    views: Sequence[View],
    imaging: Sequence[Imaging],
    depths_mm: Sequence[float],
    raw_px: Sequence[FloatArray],
    implants_px: Sequence[FloatArray],
    *,
    exposed: bool,
    size: int,
    rng: np.random.Generator,
) -> tuple[Look, Look]:
    """Looks of both planes.

    Parameters
    ----------
    ranges : to draw from.
    views, imaging : of the planes.
    depths_mm : of the knee from the sources.
    raw_px : see `veriserum_hf.simulation.intensifier_torch.Exposure`.
    implants_px : (2, 2) where the implants' origins are seen, by plane.
    exposed : whether the exposure must follow the image, as with a leg.
    size : edge of the canvas, px.
    rng : random numbers.

    """
    curves = [_curve(ranges, chain, rng, exposed=exposed) for chain in imaging]
    if ranges.happens("one_curve", rng):
        curves[1] = curves[0]
    collimated = ranges.happens("collimators", rng)
    looks = []
    for view, chain, depth_mm, raw, px, curve in zip(
        views, imaging, depths_mm, raw_px, implants_px, curves, strict=True
    ):
        looks.append(
            Look(
                exposure=Exposure(chain, _blur_mm(view, chain, depth_mm), raw),
                first_px=view.first_px,
                size_px=view.size_px,
                blades_mm=_blades(px, size, rng) if collimated else np.tile(_NO_BLADE, (_MOST_BLADES, 1)),
                blade_signal=float(rng.uniform(0.005, 0.06)),
                curve=curve,
                mottle=ranges.draw("mottle", rng),
                mottle_mm=ranges.draw("mottle_mm", rng),
            )
        )
    return looks[0], looks[1]


def _curve(ranges: WorldRanges, imaging: Imaging, rng: np.random.Generator, *, exposed: bool) -> Curve:
    levels = {"dark": imaging.dark_level, "bright": imaging.bright_level}
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
        # Half of the exponents darken and half brighten, as a range of their logarithms.
        gamma=1.0 if logarithmic else float(np.exp(rng.uniform(*np.log(ranges.gamma)))),
        logarithm=float(np.exp(rng.uniform(np.log(5), np.log(200)))) if logarithmic else 0.0,
        inverted=ranges.happens("inverted", rng),
        **levels,
    )


def _blur_mm(view: View, imaging: Imaging, depth_mm: float) -> float:
    """Standard deviation on the canvas of focal spot, screen and pixels."""
    on_detector_mm = imaging.blur_mm(view.plane, depth_mm)
    if view.pixel_mm is None:
        return on_detector_mm
    return float(np.hypot(on_detector_mm, 0.4 * view.pixel_mm) * view.scale)


def _blades(implants_px: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
    """One to four blades about the implants, the first at any angle; one may hide parts of them."""
    blades = np.tile(_NO_BLADE, (_MOST_BLADES, 1))
    middle_mm = (implants_px.mean(0) - (size - 1) / 2) * (FIELD_MM / size)
    first_deg = rng.choice([0.0, 90.0]) + rng.normal(0, 12)
    for number, side in enumerate(rng.permutation(_MOST_BLADES)[: rng.integers(1, _MOST_BLADES + 1)]):
        angle = np.radians(first_deg + 90 * side + rng.normal(0, 4))
        normal = np.array([np.cos(angle), np.sin(angle)])
        blades[number] = *normal, normal @ middle_mm + rng.uniform(25, 130)
    return blades
