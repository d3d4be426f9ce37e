"""The distortion polynomial, its inverse, and corrected images."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import mm_to_px, px_to_mm
from veriserum_hf.simulation.calibrations import random_distortion

seeds = st.integers(0, 10_000)
raw_px = st.lists(st.tuples(st.floats(-0.49, 1663.49), st.floats(-0.49, 1599.49)), min_size=1, max_size=20).map(
    np.array
)


def drawn_distortion(seed):
    return random_distortion(np.random.default_rng(seed))


def smooth_frame(shape=(1600, 1664), dtype=np.uint8):
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    x, y = (x + 0.5) * 1664 / shape[1] - 0.5, (y + 0.5) * 1600 / shape[0] - 0.5
    values = 0.5 + 0.25 * np.sin(x / 60) * np.cos(y / 75)
    return np.round(values * np.iinfo(dtype).max).astype(dtype)


@given(seeds)
def test_the_stored_text_round_trips(seed):
    distortion = drawn_distortion(seed)
    text = distortion.to_string()
    assert Distortion.from_string(text) == distortion
    assert Distortion.from_string(text).to_string() == text


@given(seeds, raw_px)
def test_pixels_come_back_from_mm(seed, xy_px):
    distortion = drawn_distortion(seed)
    np.testing.assert_allclose(distortion.to_px(distortion.to_mm(xy_px)), xy_px, atol=1e-4)


def test_mm_that_the_raw_frame_does_not_reach_have_no_pixel():
    distortion = drawn_distortion(1)
    outside = distortion.to_mm(np.array([[-3.0, 800], [1700, 20], [800, 1605]]))
    assert np.isnan(distortion.to_px(outside)).all()
    assert np.isnan(distortion.to_px(np.array([[1e4, 0.0], [0, -900]]))).all()


@pytest.mark.parametrize("size", [256, 512, 1600])
@pytest.mark.parametrize("shape", [(1600, 1664), (800, 832)])
def test_corrected_pixels_show_what_the_raw_frame_shows_there(size, shape):
    """Every corrected pixel holds the grey level of the raw position that maps to its mm."""
    distortion = drawn_distortion(3)
    mask = distortion.valid(size)
    inner = np.zeros_like(mask)
    inner[4:-4, 4:-4] = mask[8:, 4:-4] & mask[:-8, 4:-4] & mask[4:-4, 8:] & mask[4:-4, :-8]
    rows, columns = np.nonzero(inner)
    picked = np.random.default_rng(0).choice(len(rows), 500, replace=False)
    rows, columns = rows[picked], columns[picked]
    x, y = distortion.to_px(px_to_mm(np.stack([columns, rows], 1), size)).T
    expected = 255 * (0.5 + 0.25 * np.sin(x / 60) * np.cos(y / 75))
    frame = smooth_frame(shape)
    for mode in ("fast", "exact"):
        corrected = distortion.correct(frame, size, mode)
        assert corrected.shape == (size, size)
        assert np.abs(corrected[rows, columns] - expected).max() < 1.6


def test_outside_the_raw_frame_is_black_and_masked():
    distortion = drawn_distortion(4)
    white = np.full((1600, 1664), 255, np.uint8)
    for size in (256, 512):
        mask = distortion.valid(size)
        assert 0.7 < mask.mean() < 1
        corrected = distortion.correct(white, size)
        assert (corrected[mask] == 255).all()
        assert (corrected[~mask] == 0).all()


def test_sixteen_bit_frames_stay_sixteen_bit():
    distortion = drawn_distortion(5)
    wide = distortion.correct(smooth_frame(dtype=np.uint16), 512)
    narrow = distortion.correct(smooth_frame(), 512)
    assert wide.dtype == np.uint16
    assert np.abs(wide / 257 - narrow).max() <= 1.5


def test_fast_is_close_to_the_area_mean_on_a_noisy_frame():
    rng = np.random.default_rng(0)
    frame = np.clip(smooth_frame() + rng.normal(0, 10, (1600, 1664)), 0, 255).astype(np.uint8)
    distortion = drawn_distortion(6)
    mask = distortion.valid(512)
    modes = {mode: distortion.correct(frame, 512, mode).astype(float)[mask] for mode in ("fast", "exact", "nearest")}
    rms = {mode: np.sqrt(np.mean((modes[mode] - modes["exact"]) ** 2)) for mode in ("fast", "nearest")}
    assert rms["fast"] < 1.2
    assert rms["nearest"] > 3 * rms["fast"]


def test_a_caller_cannot_spoil_the_cached_mask():
    distortion = drawn_distortion(7)
    before = distortion.valid(256)
    distortion.valid(256)[:] = False
    np.testing.assert_array_equal(distortion.valid(256), before)


def test_an_affine_map_is_inverted_exactly():
    plain = Distortion((0, 0, 0, 0, 1) + (0,) * 11, (0, 1) + (0,) * 14, 0.25, (-200.0, 200.0), (1, 0, 0, 1))
    np.testing.assert_allclose(plain.to_mm([[800.0, 800.0]]), [[0, 0]], atol=1e-12)
    np.testing.assert_allclose(plain.to_px([[10.0, 5.0]]), [[840, 780]], atol=1e-9)
    assert mm_to_px((0.0, 0.0), 1600).tolist() == [800, 800]


def test_a_map_that_folds_is_noticed():
    folded = Distortion(
        (0, 0, 0, 0, 1, 0, 0, 0, 0.01) + (0,) * 7, (0, 1) + (0,) * 14, 0.23, (-192, 184), (1, 0, 0, 1)
    )
    assert folded.folds()
    assert not drawn_distortion(1).folds()


GOOD = drawn_distortion(8).to_string()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected four parts between semicolons .* found 1"),
        (GOOD.rsplit(";", 1)[0], "expected four parts .* found 3"),
        (GOOD.replace(",", ",,", 1), "the coefficients holds something that is not a number"),
        (f"1_0{GOOD[GOOD.index(',') :]}", "1_0.*: expected ASCII digits"),
        (f"\u0661{GOOD[GOOD.index(',') :]}", "expected ASCII digits"),
        (GOOD.split(",", 1)[1], "expected 32 numbers for the coefficients, found 31"),
        ("nan," + GOOD.split(",", 1)[1], "the coefficients holds a number that is not finite"),
        (GOOD + ",1", "expected 4 numbers for the rotation, found 5"),
        (";".join([*GOOD.split(";")[:1], "0", *GOOD.split(";")[2:]]), "scale or rotation is zero"),
    ],
)
def test_unusable_text_is_refused(text, message):
    with pytest.raises(CalibrationError, match=message):
        Distortion.from_string(text)


@pytest.mark.parametrize(
    "frame", [np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), np.float32), np.zeros(10, np.uint8)]
)
def test_frames_of_other_shape_or_type_are_refused(frame):
    with pytest.raises(ValueError, match="expected a \\(rows, columns\\) frame of uint8 or uint16, got shape"):
        drawn_distortion(1).correct(frame)
