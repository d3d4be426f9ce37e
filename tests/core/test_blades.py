"""What the blades of a collimator hide: found by its straight edges, whatever stands in front of them."""

import cv2
import numpy as np
import pytest

from veriserum_hf.core import beyond_blades

SIZE = 256
_ROW, _COLUMN = np.mgrid[:SIZE, :SIZE].astype(np.float32)


def lit(*blades, dark=0.02):
    """Light of 0.8 with noise, and ``dark`` of it beyond blades: outward angle in deg, and distance in px."""
    image = np.full((SIZE, SIZE), 0.8, np.float32)
    hidden = np.zeros(image.shape, bool)
    for angle, distance in blades:
        x, y = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        beyond = (_COLUMN - SIZE / 2) * x + (_ROW - SIZE / 2) * y - distance
        image *= dark + (1 - dark) / (1 + np.exp(beyond))
        hidden |= beyond > 0
    return image + np.random.default_rng(0).normal(0, 0.004, image.shape).astype(np.float32), hidden


@pytest.mark.parametrize("blades", [[(90, 60)], [(4, 70), (95, 50)], [(0, 40), (88, 60), (182, 50), (270, 70)]])
def test_what_is_beyond_blades_is_found(blades):
    image, hidden = lit(*blades)
    cv2.ellipse(image, (128, 150), (30, 60), 20, 0, 360, 0.1, -1)  # an implant that they hide a part of
    image[hidden] = image[hidden].clip(max=0.05)
    found = beyond_blades(image)
    assert (found == hidden).mean() > 0.97
    assert not (found & (image > 0.4)).any()


def test_nothing_else_is_taken_for_blades():
    image, _ = lit()
    assert not beyond_blades(image).any()
    assert not beyond_blades(np.zeros((SIZE, SIZE), np.float32)).any()
    cut = image.copy()
    cv2.rectangle(cut, (90, 120), (160, SIZE), 0.01, -1)  # a block that the border cuts
    assert not beyond_blades(cut).any()
    # Air beside a thick leg, which gets thicker from the skin on: an implant in it is seen.
    into_mm = (_COLUMN - 100).clip(0)
    leg = (0.9 * np.exp(-0.02 * 2 * np.sqrt(into_mm * (2 * 156 - into_mm).clip(0)))).astype(np.float32)
    assert leg[:, -1].max() < 0.08 * leg.max() and not beyond_blades(leg).any()


def test_inverted_images_are_left_as_they_are():
    image, _ = lit((90, 60))
    assert not beyond_blades(1 - image).any()
