"""The field of an image does not depend on the scale of its grey values."""

import cv2
import numpy as np
import pytest

from veriserum_hf.core import round_field

SIZE = 200
_AXIS = 2 * np.arange(SIZE) / SIZE - 1
_RADIUS = np.hypot(_AXIS[:, None], _AXIS)
# A bright background, and a leg of 0.25 that leaves the field at its lower right rim.
_CONTENT = np.where(_AXIS[:, None] + _AXIS > 0.7, 0.25, 0.9) + np.random.default_rng(0).normal(0, 0.01, (SIZE, SIZE))
ROUND = np.where(_RADIUS < 0.97, _CONTENT, 0).clip(0, 1)
COLLIMATED = np.where(abs(_AXIS) < 0.88, _CONTENT, 0).clip(0, 1)
GREY_VALUES = {
    "unchanged": lambda image: image,
    "gamma 0.5": np.sqrt,
    "gamma 2": np.square,
    "gamma 3": lambda image: image**3,
    "log": lambda image: np.log1p(255 * image) / np.log(256),
    "stretched": lambda image: (2 * image - 0.3).clip(0, 1),
    "inverted": lambda image: 1 - image,
    "inverted gamma 0.5": lambda image: 1 - np.sqrt(image),
}


def eight_bits(image):
    return np.rint(255 * image).astype(np.float32) / 255


@pytest.mark.parametrize("name", GREY_VALUES)
@pytest.mark.parametrize("image", [ROUND, COLLIMATED], ids=["round", "collimated"])
def test_the_field_is_the_same_in_any_grey_values(image, name):
    outside = (image == 0) & (_RADIUS > 0.85)
    near = cv2.dilate(outside.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    in_field = round_field(eight_bits(GREY_VALUES[name](image)))
    assert in_field[~near].all()
    assert in_field[outside].mean() < 0.15


def test_dark_glare_around_the_field_is_outside_it():
    glare = 0.03 + 0.02 * np.cos(20 * _RADIUS) + np.random.default_rng(1).normal(0, 0.004, (SIZE, SIZE))
    image = np.where(_RADIUS < 0.97, _CONTENT, glare).clip(0, 1)
    for levels in (image, 1 - image):
        in_field = round_field(eight_bits(levels))
        assert in_field[_RADIUS < 0.94].all() and not in_field[_RADIUS > 1].any()


def test_saturated_background_up_to_the_corners_is_in_the_field():
    leg = 2 * np.hypot(np.maximum(abs(_AXIS) - 0.1, 0), 0.1)[None, :].repeat(SIZE, 0)
    assert round_field(eight_bits(leg.clip(0, 1))).all()
    assert round_field(np.ones((20, 30), np.float32)).all()


# In a logarithmic image, glare ends in a steeper step than the field.
@pytest.mark.parametrize("name", [name for name in GREY_VALUES if name != "log"])
def test_a_ring_of_glare_between_the_field_and_one_level_outside_is_outside(name):
    shifted = np.hypot(_AXIS[:, None] + 0.03, _AXIS - 0.02)
    # Glare fades, and ends at a boundary that is no circle.
    glare = np.where(_RADIUS + 0.04 * np.sin(3 * np.arctan2(_AXIS[:, None], _AXIS)) < 1.1, 0.12, 0)
    image = np.where(shifted < 0.95, _CONTENT, glare).clip(0, 1)
    in_field = round_field(eight_bits(GREY_VALUES[name](image)))
    assert in_field[shifted < 0.93].all() and not in_field[shifted > 0.97].any()
