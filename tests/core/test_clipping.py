"""Which pixels of an image are clipped, whatever its depth, and that those of an unclipped one are not."""

import cv2
import numpy as np
import pytest

from veriserum_hf.core import clipped_pixels, round_field

SIZE = 160
_AXIS = np.arange(SIZE) / SIZE - 0.5
# A bright lobe, an implant that is nearly opaque, and the noise of an intensifier; linear, 1 is the limit.
_LOBE = 1.3 - 1.6 * (_AXIS[:, None] ** 2 + _AXIS**2)
_LOBE[90:120, 40:110] *= 0.1
NOISY = np.asarray(cv2.GaussianBlur(_LOBE, (0, 0), 1)) + np.random.default_rng(0).normal(0, 0.015, (SIZE, SIZE))
HOT = np.zeros((SIZE, SIZE), bool)
HOT[20, 40] = HOT[100, 30] = True
EVERYWHERE = np.ones((SIZE, SIZE), bool)


def eight_bits(image):
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8)


def jpeg(image):
    return cv2.imdecode(
        cv2.imencode(".jpg", eight_bits(image), (cv2.IMWRITE_JPEG_QUALITY, 80))[1], cv2.IMREAD_UNCHANGED
    )


ENCODED = {
    "8 bits": eight_bits,
    "16 bits": lambda image: np.rint(65535 * image.clip(0, 1)).astype(np.uint16),
    "12 bits in 16": lambda image: np.rint(4095 * image.clip(0, 1)).astype(np.uint16),
    "floats": lambda image: image.clip(0, 1).astype(np.float32),
    "floats with an offset": lambda image: 1e3 + 5 * image.clip(0, 1),
    "JPEG": jpeg,
    "plateau below white": lambda image: np.rint(237 * image.clip(0, 1)).astype(np.uint8),
    "inverted": lambda image: 255 - eight_bits(image),
    "gamma 0.5": lambda image: eight_bits(image.clip(0, 1) ** 0.5),
    "gamma 2": lambda image: eight_bits(image.clip(0, 1) ** 2),
    "stretched": lambda image: eight_bits(2 * (image.clip(0, 1) - 0.5)),
    "resized": lambda image: cv2.resize(eight_bits(image), (180, 180), interpolation=cv2.INTER_LINEAR),
    "hot pixels": lambda image: np.where(HOT, 1.6, image.clip(0, 1)),
}


@pytest.mark.parametrize("name", ENCODED)
def test_what_is_beyond_the_limit_is_clipped(name):
    levels = ENCODED[name](NOISY)
    found = clipped_pixels(levels, np.ones(levels.shape, bool))
    beyond = cv2.resize(NOISY, levels.shape[::-1], interpolation=cv2.INTER_LINEAR)
    if name == "stretched":
        assert found[beyond < 0.45].mean() > 0.95  # the implant too
        found = found & (beyond > 0.6)
    assert found[beyond > 1.03].mean() > 0.97
    assert found[beyond < 0.95].mean() < 0.002


@pytest.mark.parametrize("name", [name for name in ENCODED if name != "stretched"])
@pytest.mark.parametrize("brightest", [0.7, 0.99])
def test_nothing_is_clipped_where_all_fits_into_the_range(name, brightest):
    levels = ENCODED[name](0.15 + (brightest - 0.15) * (NOISY - NOISY.min()) / np.ptp(NOISY))
    assert not clipped_pixels(levels, np.ones(levels.shape, bool)).any()


@pytest.mark.parametrize("noise", [0, 0.3, 1.2, 3])
def test_a_smooth_maximum_and_an_even_background_with_noise_are_not_clipped(noise):
    rng = np.random.default_rng(2)
    lobe = 200 - 150 * (_AXIS[:, None] ** 2 + _AXIS**2) + rng.normal(0, noise, (SIZE, SIZE))
    even = np.where(_LOBE < 0.2, 30, 200) + rng.normal(0, max(noise, 1), (SIZE, SIZE))
    for image in (lobe, even):
        assert not clipped_pixels(np.rint(image).astype(np.uint8), EVERYWHERE).any()


def test_an_even_area_without_noise_counts_as_clipped():
    drawn = cv2.GaussianBlur(np.where(_LOBE < 0.2, 0.3, 1.0), (0, 0), 3)
    assert clipped_pixels(drawn, EVERYWHERE)[:70].all()


def test_two_levels_alone_are_no_evidence():
    assert not clipped_pixels(np.where(_LOBE < 0.2, 0, 255).astype(np.uint8), EVERYWHERE).any()
    assert not clipped_pixels(np.full((4, 5), 7, np.uint16), np.ones((4, 5), bool)).any()


def test_single_pixels_at_the_limit_are_not_clipped():
    levels = eight_bits(NOISY)
    levels[105, 45:105:7] = 255  # on the implant
    assert not clipped_pixels(levels, EVERYWHERE)[105, 45:105:7].any()


def test_nothing_is_clipped_outside_the_field():
    levels = eight_bits(0.7 * NOISY / NOISY.max())
    levels[np.hypot(_AXIS[:, None], _AXIS) > 0.48] = 0
    in_field = round_field((levels / levels.max()).astype(np.float32))
    assert not clipped_pixels(levels, in_field).any() and not in_field[:20, :20].any()
    assert clipped_pixels(levels, EVERYWHERE)[:20, :20].all()
    assert not clipped_pixels(levels, np.zeros_like(in_field)).any()
