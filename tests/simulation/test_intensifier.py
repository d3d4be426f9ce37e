"""Raw frames: noise, blur, field and grey levels are as configured."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.special import erf

from tests.simulation.plates import DEPTH_MM, DISTORTIONS, EVEN, NOISELESS, RIG, on_intensifier_mm, photograph, plate
from tests.simulation.published_frame import PUBLISHED, open_field
from veriserum_hf.core.domain import PLANES
from veriserum_hf.simulation.imaging import Imaging
from veriserum_hf.simulation.intensifier import expose
from veriserum_hf.simulation.scenario import scene, trial
from veriserum_hf.simulation.settings import Settings


def from_field_center_px(imaging):
    y, x = np.indices((1600, 1664))
    return np.hypot(x - imaging.field_center_x_px, y - imaging.field_center_y_px)


def white(imaging):
    """Grey of a 16-bit frame at full signal, above dark."""
    return (imaging.bright_level - imaging.dark_level) * 4095


def sampled_gaussian(sigma_px):
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * sigma_px**2))
    return weights / weights.sum()


@pytest.mark.parametrize("quanta", [150.0, 350.0, 700.0])
def test_noise_variance_grows_with_the_signal_as_quanta_do(quanta):
    thickness_mm = np.array([1e-3, 5, 12, 25, 60])
    steps = [plate("bs", (18, 100, t), "aluminium", center_mm=(20 * k - 40, 0)) for k, t in enumerate(thickness_mm)]
    imaging = replace(EVEN, quanta_per_pixel=quanta)
    frame = photograph(steps, imaging)
    mean, variance = [], []
    for k, step in enumerate(steps):
        corners_mm = on_intensifier_mm("bs", step, [(20 * k - 40 + x, y, 0) for x, y in ((-5, -45), (5, 45))])
        (left, top), (right, bottom) = DISTORTIONS["bs"].to_px(corners_mm).round().astype(int)
        patch = frame[top:bottom, left:right].astype(float)
        mean.append(patch.mean())
        variance.append(patch.var())
    slope, intercept = np.polyfit(mean, variance, 1)
    assert np.corrcoef(mean, variance)[0, 1] ** 2 > 0.98
    kept = (sampled_gaussian(imaging.noise_blur_px) ** 2).sum() ** 2  # of the variance of white noise
    assert slope == pytest.approx(white(imaging) / quanta * kept, rel=0.05)
    dark = imaging.dark_level * 4095
    assert intercept + slope * dark == pytest.approx((imaging.readout_noise * 4095) ** 2, abs=0.02 * max(variance))


@pytest.mark.parametrize("blur_px", [0.5, 0.7, 0.9])
def test_quantum_noise_is_as_correlated_as_its_blur_makes_it(blur_px):
    noise = photograph([], replace(EVEN, noise_blur_px=blur_px))[400:1200, 400:1200].astype(float)
    noise -= noise.mean()
    weights = sampled_gaussian(blur_px)
    for lag in (1, 2):
        for along in ((0, lag), (lag, 0)):
            correlation = (noise * np.roll(noise, along, (0, 1))).mean() / noise.var()
            assert correlation == pytest.approx(weights[lag:] @ weights[:-lag] / (weights @ weights), abs=0.01)


def edge_spread_mm(frame, distortion, start_mm, end_mm):
    """Place and standard deviation, mm, of the error function that fits the grey levels across an edge."""
    box = distortion.to_px(np.stack([start_mm, end_mm]))
    (left, top), (right, bottom) = box.min(axis=0).astype(int) - 12, box.max(axis=0).astype(int) + 12
    xy_px = np.stack(np.meshgrid(np.arange(left, right), np.arange(top, bottom)), axis=-1).reshape(-1, 2)
    length_mm = np.linalg.norm(end_mm - start_mm)
    t = (end_mm - start_mm) / length_mm
    from_start = distortion.to_mm(xy_px) - start_mm
    along, across = from_start @ t, from_start @ (-t[1], t[0])
    near = (along > 0) & (along < length_mm) & (abs(across) < 2)
    grey = frame[tuple(xy_px[near, ::-1].T)].astype(float)

    def edge(x, center, step, place, sigma):
        return center + step * erf((x - place) / (np.sqrt(2) * sigma))

    (_, _, place, sigma), _ = curve_fit(edge, across[near], grey, (grey.mean(), np.ptp(grey) / 2, 0, 0.3))
    return place, abs(sigma)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("screen_blur_mm", [0.175, 0.2, 0.25, 0.4])
def test_an_edge_is_as_blurred_as_configured(screen_blur_mm, plane):
    imaging = replace(EVEN, screen_blur_mm=screen_blur_mm, **NOISELESS)
    lead = plate(plane, (60, 60, 2), "lead", center_mm=(30, 30), rotation_deg=4)  # a corner where rays are straight
    frame = photograph([lead], imaging, plane)
    corner, *ends = on_intensifier_mm(plane, lead, [(0, 0, 0), (50, 0, 0), (0, 50, 0)])
    for end in ends:
        place_mm, sigma_mm = edge_spread_mm(frame, DISTORTIONS[plane], corner + 0.1 * (end - corner), end)
        assert sigma_mm == pytest.approx(imaging.blur_mm(RIG[plane], DEPTH_MM), rel=0.05)
        assert abs(place_mm) < 0.005


def test_the_round_field_is_cut_off_by_the_frame_and_has_a_ring_around():
    imaging = replace(EVEN, **NOISELESS)
    signal = (photograph([], imaging) - imaging.dark_level * 4095) / white(imaging)
    distance = from_field_center_px(imaging)
    radius, ring = imaging.field_radius_px, imaging.ring_radius_px
    np.testing.assert_allclose(signal[distance < radius - 3], 1, atol=1e-3)
    assert signal[(distance > radius + 3) & (distance < radius + 15)].max() < 1e-3
    np.testing.assert_allclose(signal[abs(distance - ring) < 1], imaging.ring_level, atol=1e-3)
    assert signal[[0, -1, 800, 800], [832, 832, 0, -1]].min() > 0.99  # beyond all four edges
    assert signal[-1, -1] < imaging.ring_level


def test_bands_are_rows_and_faint():
    imaging = replace(EVEN, band_amplitude=0.006, **NOISELESS)
    inner = slice(400, 1200)
    signal = (photograph([], imaging)[inner, inner] - imaging.dark_level * 4095) / white(imaging)
    rows = signal.mean(axis=1) - 1
    assert np.ptp(signal, axis=1).max() < 5e-4
    assert rows.std() == pytest.approx(imaging.band_amplitude, rel=0.25)
    lag = int(imaging.band_height_px)
    assert np.corrcoef(rows[lag:], rows[:-lag])[0, 1] > 0.6
    assert abs(np.corrcoef(rows[6 * lag :], rows[: -6 * lag])[0, 1]) < 0.3


@pytest.mark.parametrize(("bit_depth", "dtype", "most"), [(8, np.uint8, 255), (16, np.uint16, 4095)])
def test_grey_levels_fill_their_range_and_stay_in_it(bit_depth, dtype, most):
    glaring = replace(EVEN, bright_level=1.0, quanta_per_pixel=150.0)
    frame = photograph([], glaring, bit_depth=bit_depth, height_px=400)
    assert frame.shape == (400, 416) and frame.dtype == dtype
    assert frame.max() == most
    assert frame.min() < 0.03 * most


def test_frames_of_other_heights_show_the_same_field():
    drawn = Settings(trials=10, frames_per_trial=5)
    shown, parts = trial(drawn, 0), scene(drawn, 0, 2)
    frames = [
        expose(
            parts,
            shown.session.rig["bs"],
            shown.session.distortions["bs"],
            Imaging(),
            np.random.default_rng(seed),
            height_px=height,
            bit_depth=16,
        )
        for seed, height in enumerate((1600, 400))
    ]
    large, small = (cv2.resize(f.astype(np.float32), (52, 50), interpolation=cv2.INTER_AREA) for f in frames)
    assert large.std() > 500
    assert abs(small.mean() / large.mean() - 1) < 0.005
    assert np.median(abs(small - large)) < 0.005 * large.max()
    assert abs(small - large).max() < 0.05 * large.max()


@pytest.mark.parametrize("direction", PUBLISHED)
def test_the_field_falls_towards_its_rim_as_in_the_published_frame(direction):
    empty = photograph([], Imaging(), bit_depth=8)
    published, ours = np.array(PUBLISHED[direction]), np.array(open_field(empty, direction))
    ratios = [levels[:3].mean() / levels[-3:].mean() for levels in (published, ours)]
    assert ratios[1] == pytest.approx(ratios[0], rel=0.25)
    published_part, our_part = (levels / levels[:3].mean() for levels in (published, ours))
    assert abs(our_part - published_part).max() < 0.08
