"""Distortions fitted to simulated frames of the bead grid, whose truth is known."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.calibration.test_polynomial_distortion import drawn as drawn_polynomial
from tests.fixtures.calibrations import (
    IMAGING,
    RandomGrid,
    draw_grid_frame,
    drawn_distortion,
    farthest_from_its_index_mm,
    in_hull,
    map_error_mm,
    rotated,
)
from tests.fixtures.phantoms import grid_beads_mm
from veriserum_hf.calibration.bead_grid import fit_bead_grid
from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.errors import CalibrationError
from veriserum_hf.simulation.scenario import draw_grid, session
from veriserum_hf.simulation.settings import Settings


@pytest.fixture(scope="module")
def good():
    """A frame, its distortion, and the fit."""
    distortion = drawn_distortion(0)
    frame = draw_grid_frame(distortion)
    return frame, distortion, fit_bead_grid(frame)


def test_noise_is_what_it_is_called():
    flat = {
        noise: draw_grid_frame(drawn_distortion(0), imaging, beads_mm=np.array([[150.0, 0.0]]))
        for noise, imaging in IMAGING.items()
    }
    for noise, frame in flat.items():
        brightest = frame[760:840, 780:860].astype(float)
        assert brightest.std() == pytest.approx(noise, rel=0.1)


@pytest.mark.parametrize(
    ("noise", "degrees", "bit_depth", "residual_mm", "error_mm"),
    [
        (6, 0, 8, 0.02, 0.005),
        (6, 37, 16, 0.02, 0.005),
        (12, 0, 16, 0.04, 0.008),
        (12, -140, 8, 0.04, 0.008),
    ],
)
def test_fits_to_thousandths_of_a_millimetre(noise, degrees, bit_depth, residual_mm, error_mm):
    distortion = drawn_distortion(noise + degrees + 200)
    imaging = IMAGING[noise]
    frame = draw_grid_frame(distortion, imaging, beads_mm=rotated(grid_beads_mm(), degrees), bit_depth=bit_depth)
    fit = fit_bead_grid(frame)
    assert fit.beads_found >= 0.99 * fit.beads_expected
    assert fit.beads_expected >= 1750
    assert farthest_from_its_index_mm(fit, distortion, degrees) < 0.5
    assert fit.residual_mm_rms <= residual_mm
    assert map_error_mm(fit, distortion, degrees) <= error_mm
    assert fit.rotation_deg == pytest.approx(degrees, abs=3)


def test_the_stored_text_holds_the_fit(good):
    _, _, fit = good
    stored = Distortion.from_string(fit.distortion.to_string())
    assert stored == fit.distortion
    np.testing.assert_allclose(stored.to_mm(fit.beads_px) - 7.0 * (fit.beads_index - 22), fit.residuals_mm, atol=1e-9)
    np.testing.assert_allclose(stored.to_px(stored.to_mm(fit.beads_px)), fit.beads_px, atol=1e-4)


def test_simulated_archives_hold_frames_that_can_be_fitted():
    settings = Settings()
    fit = fit_bead_grid(draw_grid(settings, 1, "fs"))
    assert map_error_mm(fit, session(settings, 1).distortions["fs"]) <= 0.005
    assert fit.upright


@pytest.mark.parametrize("height_px", [400, 800, 1200])
def test_frames_of_other_sizes_count_in_pixels_of_the_largest(height_px):
    distortion = drawn_distortion(2)
    fit = fit_bead_grid(draw_grid_frame(distortion, height_px=height_px))
    assert fit.beads_found >= 0.99 * fit.beads_expected
    assert farthest_from_its_index_mm(fit, distortion) < 0.5
    # A pixel of the smallest is as wide as a bead's radius, and what is drawn there is coarse.
    assert map_error_mm(fit, distortion) <= (0.005 if height_px >= 800 else 0.02)


def test_claimed_deviations_are_those_that_are_seen():
    """The map of 6 frames is off by as much as it states, all over the hull."""
    imaging = IMAGING[12]
    ratios = []
    for seed in range(6):
        distortion = drawn_distortion(seed)
        fit = fit_bead_grid(draw_grid_frame(distortion, imaging, seed=seed))
        xy_px = in_hull(fit, 32)
        off_mm = np.hypot(*(fit.distortion.to_mm(xy_px) - distortion.to_mm(xy_px)).T)
        ratios.append(np.mean(off_mm**2 / fit.mapped_std_mm(xy_px) ** 2))
    assert 0.7 <= np.sqrt(np.mean(ratios)) <= 1.5


def test_a_place_far_from_the_beads_is_less_certain(good):
    fit = good[2]
    center, rim, corner = fit.mapped_std_mm([[832, 800], [832, 60], [5, 5]])
    assert center < rim < corner


def fitted_or_refused(seed):
    """Whether a random frame was fitted; if so, rightly. A frame is refused only for its orientation bead."""
    grid = RandomGrid.drawn(seed)
    try:
        fit = fit_bead_grid(grid.frame(height_px=800))
    except CalibrationError as error:
        assert "orientation bead" in str(error)
        assert not grid.shows_its_rotation
        return False
    assert farthest_from_its_index_mm(fit, grid.distortion, grid.degrees) < 0.5
    assert len(np.unique(fit.beads_index, axis=0)) == fit.beads_found
    assert fit.outliers <= 5
    assert grid.turn_error_deg(fit) < 4
    # Beads drawn so small lie off by up to 0.05 px, and at 45 degrees all by the same.
    assert map_error_mm(fit, grid.distortion, grid.degrees, step_px=64) <= 0.02
    return True


def test_random_frames_are_indexed_right():
    assert sum(fitted_or_refused(seed) for seed in range(20)) >= 17


@pytest.mark.parametrize("radius_px", [700, 740])
def test_beads_cut_off_by_the_field_are_skipped(radius_px):
    distortion = drawn_distortion(3)
    imaging = replace(IMAGING[6], field_radius_px=radius_px, field_center_x_px=790, field_center_y_px=770)
    fit = fit_bead_grid(draw_grid_frame(distortion, imaging))
    beads_px = distortion.to_px(grid_beads_mm())
    inside = radius_px - np.hypot(*(beads_px - (790, 770)).T)
    whole = np.count_nonzero(inside > 8)
    assert whole < 1700
    assert abs(fit.beads_expected - whole) <= 20
    assert fit.beads_found >= 0.99 * whole
    assert (radius_px - np.hypot(*(fit.beads_px - (790, 770)).T)).min() > 4
    assert map_error_mm(fit, distortion) <= 0.005


def test_doubled_beads_do_not_bend_the_fit():
    rng, distortion, beads_mm = np.random.default_rng(5), drawn_distortion(5), grid_beads_mm()
    nearby = rng.normal(0, 1, (40, 2))
    nearby *= rng.uniform(0.5, 3.4, (40, 1)) / np.hypot(*nearby.T)[:, None]
    doubled = rng.choice(len(beads_mm) - 1, 40, replace=False)
    fit = fit_bead_grid(draw_grid_frame(distortion, beads_mm=np.vstack([beads_mm, beads_mm[doubled] + nearby])))
    assert farthest_from_its_index_mm(fit, distortion) < 0.5
    assert fit.outliers > 0
    assert map_error_mm(fit, distortion) <= 0.005


def test_a_phantom_of_rough_making_is_fitted():
    """Beads that are off by more than the noise are not outliers, and the map is reported as less certain."""
    rng, distortion, beads_mm = np.random.default_rng(6), drawn_distortion(6), grid_beads_mm()
    exact = fit_bead_grid(draw_grid_frame(distortion))
    rough = fit_bead_grid(draw_grid_frame(distortion, beads_mm=beads_mm + rng.normal(0, 0.05, beads_mm.shape)))
    assert rough.outliers <= 2
    assert map_error_mm(rough, distortion) <= 0.015
    assert rough.mapped_std_mm([[832, 800]]) > 2 * exact.mapped_std_mm([[832, 800]])


@pytest.mark.parametrize(("flipped", "degrees"), [((1,), -90), ((0,), 90)])
def test_a_mirrored_frame_appears_as_a_rotated_phantom(good, flipped, degrees):
    frame, distortion, fit = good
    mirrored = fit_bead_grid(np.flip(frame, flipped))
    assert fit.upright
    assert not mirrored.upright
    assert mirrored.rotation_deg == pytest.approx(degrees, abs=3)
    # It is still the map of that frame: right up to the rotation, which mm in the phantom's own frame hold.
    size_px = np.array([1663.0, 1599.0])
    xy_px = in_hull(mirrored)
    origin_px = np.where(flipped[0] == np.array([1, 0]), size_px - xy_px, xy_px)
    true_mm = distortion.to_mm(origin_px) * np.where(flipped[0] == np.array([1, 0]), -1, 1)
    off_mm = mirrored.distortion.to_mm(xy_px) - rotated(true_mm, -degrees)
    assert np.sqrt((off_mm**2).sum(axis=1).mean()) <= 0.005


def test_the_stored_form_is_recommended_where_it_holds_the_truth(good):
    fit = good[2]
    assert fit.recommendation == fit.chosen.form == "stored"
    assert fit.chosen.distortion == fit.distortion
    assert fit.residual_mm_rms < fit.cv_mm_rms <= fit.degree5_cv_mm_rms


def test_degree_5_is_recommended_where_the_stored_form_cannot_hold_the_truth():
    """Powers up to 3 along axes halfway between the grid's own are not such powers along the grid's."""
    truth = drawn_distortion(1)
    c, s = np.cos(np.pi / 4), np.sin(np.pi / 4)
    askew = replace(
        truth,
        rotation=tuple((np.array([[c, -s], [s, c]]) @ np.reshape(truth.rotation, (2, 2))).ravel()),
        translation=tuple(np.array([[c, -s], [s, c]]) @ truth.translation),
    )
    fit = fit_bead_grid(draw_grid_frame(askew, beads_mm=rotated(grid_beads_mm(), 45)))
    assert abs(fit.rotation_deg) < 3
    assert fit.recommendation == "degree 5"
    assert fit.degree5_cv_mm_rms < fit.cv_mm_rms


def test_a_field_beyond_the_stored_form_is_fitted_by_the_degree_that_predicts_it():
    """Forms are compared by beads that they were not fitted to; the stored form remains, and is the lab's text."""
    truth = drawn_polynomial(3, degree=7)
    fit = fit_bead_grid(draw_grid_frame(truth))
    assert [form.form for form in fit.forms] == ["stored", *(f"degree {degree}" for degree in range(4, 10))]
    assert fit.forms[0].distortion == fit.distortion
    assert fit.chosen.form == "degree 7"
    assert fit.outliers <= 2 and fit.beads_found >= 0.99 * fit.beads_expected
    assert fit.chosen.residual_mm_rms < fit.chosen.cv_mm_rms < 0.02 < 0.05 < fit.forms[0].residual_mm_rms
    xy_px = in_hull(fit)
    off_mm = np.linalg.norm(fit.chosen.distortion.to_mm(xy_px) - truth.to_mm(xy_px), axis=1)
    assert np.sqrt((off_mm**2).mean()) <= 0.01
    assert fit.forms[0].residual_mm_max == pytest.approx(np.hypot(*fit.residuals_mm.T).max())


def covered(frame, rows=slice(None), columns=slice(None)):
    shown = np.full_like(frame, 2)
    shown[rows, columns] = frame[rows, columns]
    return shown


def refusal(frame):
    with pytest.raises(CalibrationError) as caught:
        fit_bead_grid(frame)
    return str(caught.value)


def test_a_frame_without_a_grid_is_refused():
    frame = draw_grid_frame(drawn_distortion(0), beads_mm=np.array([[0.0, 0.0], [30, 30]]), height_px=800)
    assert refusal(frame) == (
        "no grid in the frame: 2 spots look like beads, the phantom has 1762; give a frame of the whole grid phantom"
    )
    noise = np.random.default_rng(0).integers(0, 255, (800, 832)).astype(np.uint8)
    assert refusal(noise).startswith("no grid in the frame: ")
    assert refusal(np.zeros((800, 832), np.uint8)) == (
        "the frame is blank: every pixel has grey level 0; take it again"
    )
    lone = np.zeros((800, 832), np.uint8)
    lone[3, 5] = 9
    assert refusal(lone).startswith("no grid in the frame: ")


def test_half_a_grid_is_refused(good):
    frame = good[0]
    for rows, columns in [(slice(None), slice(0, 840)), (slice(820, None), slice(None))]:
        assert re.fullmatch(
            r"only part of the grid: \d+ of the phantom's 1761 places lie in the field, at least 75% are needed; "
            "give a frame of the whole grid phantom, in the centre of the field",
            refusal(covered(frame, rows, columns)),
        )
    beads_mm = grid_beads_mm()
    left = draw_grid_frame(good[1], beads_mm=beads_mm[beads_mm[:, 0] < 3], height_px=800)
    assert re.match("frame of another phantom, or only part of the grid: ", refusal(left))


def test_a_field_too_small_to_show_the_edges_is_refused():
    imaging = replace(IMAGING[6], field_radius_px=665, field_center_x_px=832, field_center_y_px=800)
    still = replace(drawn_distortion(0), translation=(-188.0, 181.0))
    assert re.fullmatch(
        r"the position of the grid is ambiguous: \d+ beads fit the phantom's outline nearly as well a row further; "
        "give a frame that shows the phantom's edges, in the centre of the field",
        refusal(draw_grid_frame(still, imaging)),
    )


def test_a_saturated_frame_is_refused(good):
    frame = np.minimum(3 * good[0].astype(int), 255).astype(np.uint8)
    assert re.fullmatch(
        r"the frame is saturated: \d+% of its pixels have the highest grey level, 255; take it again with less "
        "exposure",
        refusal(frame),
    )
    twelve_bits = np.minimum(16 * frame.astype(np.uint16), 4095)
    assert "highest grey level, 4080" in refusal(twelve_bits)


def test_other_phantoms_are_refused():
    distortion = drawn_distortion(0)
    index = np.indices((61, 61)).reshape(2, -1).T - 30.0
    hexagonal = 7 * np.stack([index[:, 0] + index[:, 1] / 2, index[:, 1] * np.sqrt(3) / 2], axis=1)
    hexagonal = hexagonal[np.hypot(*hexagonal.T) < 170]
    wide = grid_beads_mm() / 7 * 10
    square = 7 * index[np.abs(index).max(axis=1) <= 20]
    seen = {
        "hexagonal": "frame of another phantom: none of 2149 beads has four neighbours at right angles",
        "wide": r"frame of another phantom: \d+ beads about 10\.\d mm apart, expected 7 mm",
        "square": "frame of another phantom, or only part of the grid: where its outline fits best, [0-9]+ of [0-9]+ "
        "beads lie outside, and [0-9]+ of its [0-9]+ places in the field are empty",
    }
    for name, beads_mm in {"hexagonal": hexagonal, "wide": wide, "square": square}.items():
        assert re.match(seen[name], refusal(draw_grid_frame(distortion, beads_mm=beads_mm, height_px=800))), name


def test_a_grid_without_its_orientation_bead_is_refused():
    beads_mm = grid_beads_mm()
    message = (
        "the orientation of the grid cannot be determined: expected the orientation bead at one of its four places, "
        "seen at {}, and 0 of them lie out of the field; give a frame that shows it"
    )
    without = draw_grid_frame(drawn_distortion(0), beads_mm=beads_mm[:-1], height_px=800)
    assert refusal(without) == message.format(0)
    twice = draw_grid_frame(drawn_distortion(0), beads_mm=np.vstack([beads_mm, [119.0, 119.0]]), height_px=800)
    assert refusal(twice) == message.format(2)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((1600, 1664, 3), np.uint8), "expected a grey (rows, columns) frame of uint8 or uint16, got shape "),
        (
            np.zeros((1600, 1664)),
            "expected a grey (rows, columns) frame of uint8 or uint16, got shape (1600, 1664) of ",
        ),
        (
            np.zeros((1600, 1600), np.uint8),
            "a frame of 1600 x 1600 px cannot show the raw field: expected 1664 x 1600",
        ),
        (np.zeros((100, 104), np.uint8), "a frame of 104 x 100 px cannot show the raw field: expected 1664 x 1600"),
    ],
)
def test_what_is_no_raw_frame_is_refused(frame, message):
    assert refusal(frame).startswith(message)
