"""The second form of a distortion: all powers up to a total degree."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.calibration.distortion_map import DistortionMap
from veriserum_hf.calibration.polynomial_distortion import PolynomialDistortion, powers_of
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import mm_to_px
from veriserum_hf.simulation.calibrations import random_distortion

seeds, degrees = st.integers(0, 10_000), st.integers(3, 9)
raw_px = st.lists(st.tuples(st.floats(-0.49, 1663.49), st.floats(-0.49, 1599.49)), min_size=1, max_size=20).map(
    np.array
)


def drawn(seed, degree=9):
    """A pincushion, an S-shaped twist and a little of every power."""
    rng = np.random.default_rng(seed)
    powers = powers_of(degree)
    x, y = (dict(zip(powers, rng.normal(0, 0.3, len(powers)), strict=True)) for _ in range(2))
    scale, pincushion, twist = rng.uniform(165, 185), rng.uniform(2, 9), rng.uniform(-3, 3)
    x[1, 0], y[0, 1], x[0, 1], y[1, 0] = scale, scale, -12.0, 9.0
    for c, power in ((x, (3, 0)), (x, (1, 2)), (y, (2, 1)), (y, (0, 3))):
        c[power] -= pincushion
    for c, power, sign in ((x, (2, 1), 1), (x, (0, 3), 1), (y, (3, 0), -1), (y, (1, 2), -1)):
        c[power] += sign * twist
    center_px, radius_px = tuple(rng.normal((850, 790), 20).tolist()), float(rng.uniform(650, 900))
    return PolynomialDistortion(
        degree, center_px, radius_px, tuple(x[p] for p in powers), tuple(y[p] for p in powers)
    )


@given(seeds, degrees)
def test_the_text_round_trips(seed, degree):
    distortion = drawn(seed, degree)
    text = distortion.to_string()
    assert Distortion.from_string(text) == distortion == DistortionMap.from_string(f"\n{text}\n")
    assert DistortionMap.from_string(text).to_string() == text


@settings(deadline=None, max_examples=50)
@given(seeds, degrees, raw_px)
def test_pixels_come_back_from_mm(seed, degree, xy_px):
    distortion = drawn(seed, degree)
    np.testing.assert_allclose(distortion.to_px(distortion.to_mm(xy_px)), xy_px, atol=1e-9)


@given(seeds, degrees, raw_px)
def test_the_jacobian_is_that_of_differences(seed, degree, xy_px):
    distortion, step = drawn(seed, degree), 0.01
    _, _, (a, b, c, d) = distortion._evaluate(*xy_px.T)
    along_x, along_y = (
        (distortion.to_mm(xy_px + offset) - distortion.to_mm(xy_px - offset)) / (2 * step)
        for offset in np.array([[step, 0], [0, step]])
    )
    np.testing.assert_allclose(np.stack([a, c], axis=1), along_x, atol=1e-7)
    np.testing.assert_allclose(np.stack([b, d], axis=1), along_y, atol=1e-7)


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_the_stored_form_is_one_of_degree_6(seed):
    """Powers up to 3 of both axes are of a total degree of 6: the same map in both forms."""
    stored, rng = random_distortion(np.random.default_rng(seed)), np.random.default_rng(seed)
    xy_px = rng.uniform(0, 1600, (400, 2))
    s, t = ((xy_px - (831.5, 799.5)) / (1200, -1200)).T
    terms = np.stack([s**i * t**j for i, j in powers_of(6)], axis=1)
    x, y = np.linalg.lstsq(terms, stored.to_mm(xy_px), rcond=None)[0].T
    same = PolynomialDistortion(6, (831.5, 799.5), 1200.0, tuple(x.tolist()), tuple(y.tolist()))
    np.testing.assert_allclose(same.to_mm(xy_px), stored.to_mm(xy_px), atol=1e-8)
    mm = rng.uniform(-180, 180, (50, 2))
    np.testing.assert_allclose(same.to_px(mm), stored.to_px(mm), atol=1e-6)
    assert same.mm_per_px == pytest.approx(stored.mm_per_px, rel=0.1)
    assert same.folds() == stored.folds()


@given(seeds, degrees)
def test_beyond_its_circle_the_map_continues_straight(seed, degree):
    distortion = drawn(seed, degree)
    angle = np.linspace(0, 2 * np.pi, 40)
    outward = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    on, near, far, inner = (
        distortion.to_mm(distortion.center_px + radius * outward)
        for radius in distortion.radius_px + np.array([0, 50, 100, -1e-3])
    )
    np.testing.assert_allclose(far - near, near - on, atol=1e-9)
    np.testing.assert_allclose((near - on) / 50, (on - inner) / 1e-3, atol=1e-3)


def test_masks_and_corrected_images_are_those_of_the_map():
    distortion = drawn(4)
    outside = distortion.to_mm(np.array([[-3.0, 800], [1700, 20], [800, 1605]]))
    assert np.isnan(distortion.to_px(outside)).all()
    assert np.isnan(distortion.to_px(np.array([[1e4, 0.0], [0, -900]]))).all()
    y, x = np.mgrid[:1600, :1664]
    frame = np.round(100 + 80 * np.sin(x / 60) * np.cos(y / 75)).astype(np.uint8)
    image, mask = distortion.correct(frame), distortion.valid()
    assert 0.7 < mask.mean() < 1 and not image[~mask].any()
    xy_px = np.random.default_rng(0).uniform(300, 1300, (500, 2)).round()
    column, row = mm_to_px(distortion.to_mm(xy_px), 512).T
    shown = image[np.rint(row).astype(int), np.rint(column).astype(int)]
    raw = frame[xy_px[:, 1].astype(int), xy_px[:, 0].astype(int)]
    assert np.abs(shown.astype(int) - raw).max() <= 6  # half a pixel of the image is 1.5 of the frame


def test_a_map_that_folds_over_is_noticed():
    powers = powers_of(3)
    x, y = ([0.0] * len(powers) for _ in range(2))
    x[powers.index((1, 0))] = y[powers.index((0, 1))] = 160.0
    assert not PolynomialDistortion(3, (831.5, 799.5), 700.0, tuple(x), tuple(y)).folds()
    x[powers.index((3, 0))] = -80.0
    assert PolynomialDistortion(3, (831.5, 799.5), 700.0, tuple(x), tuple(y)).folds()


@pytest.mark.parametrize(
    ("change", "stated"),
    [
        ({"form": "spline"}, '"form"'),
        ({"version": 2}, "expected version 1, found 2; a newer"),
        ({"degree": 5}, "degree 5 needs 21 numbers in x_mm, found 55"),
        ({"degree": 16}, "from 1 to 15, found 16"),
        ({"degree": True}, "found True"),
        ({"radius_px": 3.0}, "radius of 83 to 3328 px, found center_px"),
        ({"radius_px": None}, "radius_px holds None"),
        ({"center_px": [832]}, "needs 2 numbers in center_px, found 1"),
        ({"center_px": [1e9, 0]}, "a circle on the raw frame"),
        ({"x_mm": [0] * 55}, "cannot be distinguished"),
        ({"x_mm": "1"}, "must be a list"),
        ({"y_mm": [1.0, None]}, "y_mm holds None"),
        ({"y_mm": [1e300] * 55}, "y_mm holds 1e+300"),
        ({"more": 1}, "expected exactly form, version"),
    ],
)
def test_a_text_that_is_not_of_the_form_is_refused(change, stated):
    document = json.loads(drawn(1).to_string()) | change
    with pytest.raises(CalibrationError, match="distortion text: ") as error:
        DistortionMap.from_string(json.dumps(document))
    assert stated in str(error.value)


@pytest.mark.parametrize("text", ["{", '{"form": NaN}', '{"a": 1, "a": 2}', "{}", "{" * 100_000, "[1]", ""])
def test_broken_texts_are_refused(text):
    with pytest.raises(CalibrationError, match="distortion text"):
        DistortionMap.from_string(text)
