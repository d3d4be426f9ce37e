"""Frames of a laboratory's own grid: indexed rightly, or refused."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.fixtures.calibrations import drawn_distortion, rotated
from tests.fixtures.own_phantoms import OwnGrid
from veriserum_hf.archive import read_frame
from veriserum_hf.calibration.bead_grid import fit_bead_grid
from veriserum_hf.calibration.beads import Beads
from veriserum_hf.calibration.phantom_files import load_grid_phantom
from veriserum_hf.calibration.phantoms import GridPhantom
from veriserum_hf.calibration.placement import index_beads
from veriserum_hf.errors import CalibrationError

REAL = Path(__file__).parents[3] / "shared" / "real"
OTHER_LABS = REAL / "other_labs"
SIZE_PX, MM_PER_PX = (1100, 900), 0.3
SQUARE = GridPhantom("square", "square", 10.0, 2.5, "dark", rows=21, columns=21, rotation_deg=0.0)
WIDE = replace(SQUARE, rows=18, columns=24)
STAGGERED = replace(WIDE, lattice="hexagonal")
ROUND = replace(SQUARE, outline_mm=205.0)
CUT = replace(SQUARE, cut_corner=5)
MARKED = replace(SQUARE, rotation_deg=None, extra=((21, 3),), missing=((2, 2),))
PLATE = GridPhantom("plate", "hexagonal", 6.0, 3.0, "bright", rotation_deg=0.0, origin="nearest_to_center")


def seen(phantom, degrees=0.0, shift_mm=(0.0, 0.0), radius_mm=170.0, hidden=lambda x, y: np.zeros(len(x), bool)):
    """Spots of a phantom as they would be found in a round field, and the index of each."""
    index = phantom.index
    if not phantom.bounded:
        index = np.indices((121, 121)).reshape(2, -1).T - 60
    mm = rotated(phantom.positions_mm(index), degrees) + shift_mm
    bent_mm = mm * (1 + 1e-6 * (mm**2).sum(axis=1, keepdims=True))
    px = (np.array(SIZE_PX) - 1) / 2 + bent_mm * (1, -1) / MM_PER_PX
    field = np.zeros((SIZE_PX[1], SIZE_PX[0]), np.uint8)
    cv2.circle(field, (SIZE_PX[0] // 2, SIZE_PX[1] // 2), int(radius_mm / MM_PER_PX), (1,), -1)
    depth_px = cv2.distanceTransform(np.pad(field, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    beads = Beads(px, np.full(len(px), 0.01), depth_px, SIZE_PX, MM_PER_PX, 5.0)
    there = np.flatnonzero(beads.visible(px) & ~hidden(*mm.T))
    return replace(beads, center_px=px[there], std_px=beads.std_px[there]), index[there]


@pytest.mark.parametrize("number", range(4))
def test_the_round_grid_is_indexed_through_real_distortions(number):
    path = REAL / "distortion_of_a_real_intensifier.json"
    if not path.exists():
        pytest.skip("distortions of a real intensifier are not part of the project")
    real, phantom = json.loads(path.read_text())["frames"][number], load_grid_phantom("round_grid")
    u, v = phantom.spots_mm.T / 180
    terms = np.stack([u**a * v**b for a, b in real["powers"]], axis=1)
    px = terms @ np.array(real["mm_to_px"]).T
    beads = Beads(px, np.full(len(px), 0.05), np.full((160, 166), 99.0, np.float32), (1664, 1600), 0.2255, 7.0)
    found = index_beads(beads, phantom)
    np.testing.assert_array_equal(found.phantom_index, phantom.index[found.bead])
    assert len(found.bead) >= 0.99 * len(px)


def assert_indexed(phantom, **how):
    beads, index = seen(phantom, **how)
    found = index_beads(beads, phantom)
    np.testing.assert_array_equal(found.phantom_index, index[found.bead])
    assert len(found.bead) >= 0.99 * len(index)


@pytest.mark.parametrize("phantom", [SQUARE, WIDE, STAGGERED, ROUND, CUT], ids=lambda phantom: phantom.lattice)
@given(off=st.floats(-20, 20), quarter=st.integers(0, 5), shift=st.tuples(st.floats(-9, 9), st.floats(-9, 9)))
@settings(max_examples=8)
def test_a_stated_rotation_decides_where_nothing_marks_it(phantom, off, quarter, shift):
    stated = 360 / phantom.fold * (quarter % phantom.fold)
    assert_indexed(replace(phantom, rotation_deg=stated), degrees=stated + off, shift_mm=shift)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [-170.0, -62.0, 12.0, 88.0])
def test_marks_decide_in_any_rotation(mirrored, degrees):
    assert_indexed(replace(MARKED, mirrored=mirrored), degrees=degrees)


def refusal(phantom, **how):
    with pytest.raises(CalibrationError) as caught:
        index_beads(seen(phantom, **how)[0], phantom)
    return str(caught.value)


def test_a_rotation_that_contradicts_the_file_is_refused():
    assert "is rotated by -135 or -45 or 45 or 135 degrees in the frame" in refusal(SQUARE, degrees=45)
    assert "`rotation_deg: 0` is not within 85 degrees" in refusal(WIDE, degrees=90)


def test_refusals_name_what_the_phantom_has():
    assert "spots look like holes, at least" in refusal(PLATE, radius_mm=20.0)
    assert "spots look like beads, the phantom has" in refusal(SQUARE, radius_mm=20.0)


def test_marks_that_are_not_seen_do_not_decide():
    without = seen(replace(MARKED, extra=(), missing=()))[0]
    with pytest.raises(CalibrationError, match="orientation of the grid cannot be determined"):
        index_beads(without, MARKED)


def test_a_border_that_is_not_seen_is_refused_and_the_way_out_works():
    """The field is smaller than the grid: every shift by a row would look the same."""
    large = replace(SQUARE, rows=40, columns=40)
    message = refusal(replace(large, rows=34, columns=34), degrees=5)
    assert message.startswith("the position of the grid is ambiguous: ") or message.startswith(
        "only part of the grid"
    )
    if message.startswith("the position"):
        assert message.endswith(
            "; or state `center_px`, the pixel of its centre, in the phantom's file, or another `origin`"
        )
    center = tuple(((np.array(SIZE_PX) - 1) / 2).tolist())
    assert_indexed(replace(large, center_px=center), degrees=5, radius_mm=130.0)


def test_a_strip_of_faint_spots_is_not_taken_for_the_border():
    """The grid is a little larger than the field, and three rows at the left of it are too dark to be found."""
    for edge_mm in (-146.0, -136.0, -126.0):
        message = refusal(replace(SQUARE, rows=31, columns=31), radius_mm=152.0, hidden=lambda x, y: x < edge_mm)  # noqa: B023
        assert "ambiguous" in message or "only part" in message


def test_a_stated_center_must_be_one():
    center = (np.array(SIZE_PX) - 1) / 2
    assert_indexed(replace(SQUARE, center_px=tuple((center + (6, -5)).tolist())))
    off = replace(SQUARE, center_px=tuple((center + 5.0 / MM_PER_PX).tolist()))
    assert "is not the centre of the phantom: it lies 0.7" in refusal(off)
    beyond = replace(SQUARE, center_px=tuple((center + 10.0 / MM_PER_PX * np.array([1, 0])).tolist()))
    assert "is not the centre of the phantom" in refusal(beyond)


@pytest.mark.parametrize("phantom", [PLATE, replace(PLATE, lattice="square")], ids=lambda phantom: phantom.lattice)
def test_where_no_border_is_seen_mm_count_from_the_center_of_the_image(phantom):
    beads, index = seen(phantom, degrees=8, shift_mm=(13.0, -20.0))
    found = index_beads(beads, phantom)
    apart = found.phantom_index - index[found.bead]
    assert (apart == apart[0]).all()
    origin_px = beads.center_px[found.bead[(found.phantom_index == 0).all(axis=1)]]
    assert np.hypot(*(origin_px[0] - (np.array(SIZE_PX) - 1) / 2)) < 0.6 * phantom.pitch_mm / MM_PER_PX


@pytest.mark.parametrize(
    ("name", "polarity", "seed"), [("round_grid", "bright", 1), ("perforated_plate", "bright", 2)]
)
def test_drawn_frames_are_fitted(name, polarity, seed):
    grid = OwnGrid.drawn(load_grid_phantom(name), seed)
    grid = replace(grid, phantom=replace(grid.phantom, polarity=polarity))
    fit = fit_bead_grid(grid.frame(800), grid.phantom)
    wrong, share = grid.graded(fit)
    assert wrong == 0
    assert share >= 0.98
    assert fit.residual_mm_rms < 0.06


def test_a_frame_of_any_shape_is_fitted_in_pixels_of_the_largest():
    """A frame that is cut to a rectangle and halved: the map is the same one, of the cut frame's pixels."""
    grid = OwnGrid(replace(CUT, diameter_mm=3.0), drawn_distortion(3))
    whole = grid.frame(1600)
    cut = cv2.resize(whole[200:1400, 64:1600], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    fit = fit_bead_grid(cut, grid.phantom)
    assert fit.beads_found == len(grid.phantom.index)
    in_cut_px = (fit.beads_px + 0.5) / (1664, 1600) * (1536, 1200) - 0.5
    off_mm = grid.distortion.to_mm(in_cut_px + (64, 200)) - fit.true_mm
    assert np.hypot(*off_mm.T).max() < 0.3
    assert fit.rotation_deg == pytest.approx(0, abs=3)


def test_a_blank_or_patternless_frame_is_refused():
    noise = np.random.default_rng(0).integers(0, 255, (500, 700)).astype(np.uint8)
    for frame, message in ((noise, "no regular pattern"), (noise[:100], "too small"), (noise * 0, "blank")):
        with pytest.raises(CalibrationError, match=message):
            fit_bead_grid(frame, PLATE)


@pytest.mark.parametrize(
    ("name", "ratio", "residual_px"), [("dot_pattern_01.jpg", 0.48, None), ("dot_pattern_02.jpg", 0.28, 1.5)]
)
def test_dot_targets_of_another_laboratory_are_fitted_or_refused(name, ratio, residual_px):
    """Their border is out of the image, and many dots of the second are missing."""
    path = OTHER_LABS / name
    if not path.exists():
        pytest.skip("frames of other laboratories are not part of the project")
    frame = read_frame(path)
    dots = GridPhantom("dots", "square", 1.0, ratio, "dark", rotation_deg=0.0, origin="nearest_to_center")
    try:
        fit = fit_bead_grid(frame, dots)
    except CalibrationError as error:
        assert residual_px is None and "do not fit a smooth distortion" in str(error)
        return
    px_per_mm = float(np.hypot(*np.ptp(fit.beads_px, axis=0)) / np.hypot(*np.ptp(fit.true_mm, axis=0)))
    assert fit.residual_mm_rms * px_per_mm < (residual_px or 1.0)
    assert fit.beads_found > 0.9 * fit.beads_expected
    with pytest.raises(CalibrationError, match="cannot show the raw field"):
        fit_bead_grid(frame)
