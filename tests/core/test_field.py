"""The field of an image does not depend on the scale of its grey values."""

import cv2
import numpy as np
import pytest

from tests.fixtures.real_studies import REAL
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


# With gammas of 2 and 3, a ring of this transmission is as dark as glare is without.
@pytest.mark.parametrize("name", ["unchanged", "gamma 0.5", "log", "inverted", "inverted gamma 0.5"])
def test_a_semi_transparent_ring_up_to_black_corners_is_in_the_field(name):
    ring = np.where(_RADIUS < 0.9, _CONTENT, 0.4 / 0.9 * _CONTENT)
    image = np.where(_RADIUS < 0.97, ring, 0).clip(0, 1)
    in_field = round_field(eight_bits(GREY_VALUES[name](image)))
    assert in_field[_RADIUS < 0.95].all() and not in_field[_RADIUS > 1].any()


@pytest.mark.parametrize("plane", ["camera_1", "camera_2"])
@pytest.mark.parametrize("index", [240, 260])
def test_the_dark_ring_around_the_field_of_a_real_frame_is_outside(plane, index):
    file = REAL / "biplane_tka" / plane / f"{index:06d}.png"
    if not file.exists():
        pytest.skip(f"the real frames are not at hand: {file}")
    image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255
    in_field = round_field(image)
    ring = (cv2.dilate(in_field.astype(np.uint8), np.ones((13, 13), np.uint8)) == 0) & (image > 2 / 255)
    assert ring.sum() > 20_000 and np.percentile(image[ring], 95) < 0.15
    assert in_field.mean() > 0.79  # with the ring: 0.85
