"""Edges along normals: to hundredths of a pixel, whatever the grey-value curve."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.special import ndtr

from veriserum_hf.registration.outline.edges import mean_rise, seen_around, steepest

BLUR_PX = 1.4
CENTER = np.array([[32.0, 32.0]])


def step(angle, offset_px, curve=lambda values: values):
    """A blurred step, brighter along the normal, whose middle is so far from the centre; and the normal, (1, 2)."""
    normal = np.array([np.cos(angle), np.sin(angle)])
    y, x = np.indices((64, 64), dtype=float)
    along = (x - 32) * normal[0] + (y - 32) * normal[1] - offset_px
    return curve(0.2 + 0.6 * ndtr(along / BLUR_PX)).astype(np.float32), normal[None]


angles, offsets = st.floats(0, 2 * np.pi), st.floats(-2.5, 2.5)


@given(angles, offsets)
def test_a_blurred_step_is_found_to_hundredths_of_a_pixel(angle, offset_px):
    image, normal = step(angle, offset_px)
    found_px, slope = steepest(image, CENTER, normal, 4)
    assert found_px[0] == pytest.approx(
        offset_px, abs=0.06
    )  # interpolation between pixels draws it to them by 0.02 px rms
    assert slope[0] == pytest.approx(0.6 / (BLUR_PX * np.sqrt(2 * np.pi)), rel=0.15)


@given(angles, offsets, st.floats(0.8, 1.25), st.floats(0.1, 10))
def test_monotone_changes_of_grey_values_hardly_move_an_edge(angle, offset_px, gamma, gain):
    image, normal = step(angle, offset_px, lambda values: gain * values**gamma + 3)
    found_px, _ = steepest(image, CENTER, normal, 4)
    assert found_px[0] == pytest.approx(offset_px, abs=0.2)


@given(angles, offsets)
def test_linear_changes_of_grey_values_move_no_edge(angle, offset_px):
    image, normal = step(angle, offset_px)
    before, after = (steepest(each, CENTER, normal, 4)[0][0] for each in (image, 200 * image + 20))
    assert after == pytest.approx(before, abs=1e-3)


@pytest.mark.parametrize("find", [steepest, mean_rise])
def test_without_a_rise_or_outside_the_image_there_is_no_edge(find):
    image, normal = step(0, 0)
    px = np.array([[32.0, 32], [32, 32], [2, 32], [300, 300], [-40, 10]])
    normals = np.array([[1.0, 0], [-1, 0], [1, 0], [1, 0], [1, 0]])
    found_px, slope = find(image, px, normals, 4)
    assert np.isfinite(found_px[0])
    assert np.isnan(found_px[[1, 3, 4]]).all() and np.isnan(slope[[1, 3, 4]]).all()
    flat = find(np.full((64, 64), 0.5, np.float32), CENTER, normal, 4)
    assert np.isnan(flat).all()


def test_the_mean_of_rises_points_to_a_step_that_is_far_away():
    image, normal = step(0.7, 6)
    found_px, _ = mean_rise(image, CENTER, normal, 10)
    assert found_px[0] == pytest.approx(6, abs=0.5)


def test_edges_beside_unusable_pixels_are_not_seen():
    usable = np.ones((64, 64), bool)
    usable[:, 40:] = False
    px, normals = np.array([[32.0, 32]] * 3), np.array([[1.0, 0]] * 3)
    assert seen_around(usable, px, normals, np.array([0.0, 7.0, np.nan])).tolist() == [True, False, False]
