"""Beads are identified by their centres alone: correctly, or refused; never wrongly."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.fixtures.calibrations import drawn_distortion, rotated
from tests.fixtures.phantoms import BEAD_PITCH_MM, SIPLA, grid_beads_mm
from veriserum_hf.calibration.beads import Beads
from veriserum_hf.calibration.distortion_map import RAW_HEIGHT_PX, RAW_WIDTH_PX
from veriserum_hf.calibration.placement import index_beads
from veriserum_hf.errors import CalibrationError

PHANTOM_MM = grid_beads_mm()
NOMINAL_MM_PER_PX, BLUR_MM = 0.2255, 0.24
INDEX = np.rint(PHANTOM_MM / BEAD_PITCH_MM).astype(int) + 22
ORIENTATION = len(INDEX) - 1
CENTER_PX = np.array([(RAW_WIDTH_PX - 1) / 2, (RAW_HEIGHT_PX - 1) / 2])
SMALL = 4  # raw pixels to one of the field's mask
DISTORTIONS = [drawn_distortion(seed) for seed in range(5)]


def straight(mm):
    """Raw px (n, 2) of a camera without distortion; pixels count downwards."""
    return CENTER_PX + np.asarray(mm) * (1, -1) / NOMINAL_MM_PER_PX


def seen(center_px, lit=lambda x, y: np.hypot(x, y) < 175, order=None):
    """Beads as found in a frame that is lit where ``lit`` is true, mm, in any order; and which of those given."""
    rows, columns = np.indices((RAW_HEIGHT_PX // SMALL, RAW_WIDTH_PX // SMALL))
    px = np.stack([columns, rows], axis=-1) * SMALL + (SMALL - 1) / 2
    field = lit(*((px - CENTER_PX) * (1, -1) * NOMINAL_MM_PER_PX).transpose(2, 0, 1))
    depth_px = SMALL * cv2.distanceTransform(np.pad(field.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    which = np.arange(len(center_px)) if order is None else order
    needed_px = (1 + 2 * BLUR_MM) / NOMINAL_MM_PER_PX
    size_px = (RAW_WIDTH_PX, RAW_HEIGHT_PX)
    beads = Beads(center_px, np.full(len(center_px), 0.01), depth_px, size_px, NOMINAL_MM_PER_PX, needed_px)
    which = which[beads.visible(center_px[which])]
    return replace(beads, center_px=center_px[which], std_px=beads.std_px[which]), which


def indexed(beads, which):
    """Index of each bead of the phantom that was given one, by its number."""
    found = index_beads(beads, SIPLA)
    assert len(np.unique(found.bead)) == len(found.bead)
    assert len(np.unique(found.phantom_index, axis=0)) == len(found.phantom_index)
    return which[found.bead], found.phantom_index


def test_every_bead_of_an_upright_phantom_is_identified():
    number, index = indexed(*seen(straight(PHANTOM_MM)))
    assert len(number) == len(PHANTOM_MM)
    np.testing.assert_array_equal(index, INDEX[number])


@given(
    distortion=st.sampled_from(DISTORTIONS),
    degrees=st.floats(-180, 180),
    shift_mm=st.tuples(st.floats(-6, 6), st.floats(-6, 6)),
    missing=st.floats(0, 0.06),
    noise_px=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60)
def test_a_phantom_is_identified_in_any_pose(distortion, degrees, shift_mm, missing, noise_px, seed):
    """Rotated, shifted, distorted, with beads that are missing or found a little off, in any order."""
    rng = np.random.default_rng(seed)
    center_px = distortion.to_px(rotated(PHANTOM_MM, degrees) + shift_mm) + rng.normal(0, noise_px, PHANTOM_MM.shape)
    there = np.flatnonzero((rng.random(len(PHANTOM_MM)) >= missing) | (np.arange(len(PHANTOM_MM)) == ORIENTATION))
    beads, which = seen(center_px, order=rng.permutation(there))
    if ORIENTATION not in which:
        with pytest.raises(CalibrationError, match="the orientation of the grid cannot be determined"):
            index_beads(beads, SIPLA)
        return
    number, index = indexed(beads, which)
    np.testing.assert_array_equal(index, INDEX[number])
    assert len(number) >= 0.99 * len(which)


@given(quarters=st.integers(0, 3), degrees=st.floats(-40, 40))
@settings(max_examples=12)
def test_a_mirrored_phantom_is_numbered_as_one_that_is_rotated(quarters, degrees):
    """It looks the same: the mirror is along the diagonal through the orientation bead."""
    mirrored_mm = rotated(PHANTOM_MM * (-1, 1), 90 * quarters + degrees)
    number, index = indexed(*seen(straight(mirrored_mm)))
    np.testing.assert_array_equal(index, 44 - INDEX[number][:, ::-1])


@given(st.integers(0, 2**16))
@settings(max_examples=12)
def test_spots_that_are_no_beads_of_the_phantom_get_no_number(seed):
    rng = np.random.default_rng(seed)
    others_mm = rotated(np.stack([rng.uniform(110, 160, 8), rng.uniform(-3, 3, 8)], axis=1), rng.uniform(0, 360))
    beyond_mm = others_mm * (165 / np.hypot(*others_mm.T))[:, None]
    number, index = indexed(*seen(straight(np.vstack([PHANTOM_MM, beyond_mm]))))
    assert number.max() < len(PHANTOM_MM)
    np.testing.assert_array_equal(index, INDEX[number])


def test_a_hole_or_a_row_that_is_missing_does_not_shift_the_others():
    hole = np.hypot(*(PHANTOM_MM - (20, -30)).T) < 30
    row = np.abs(PHANTOM_MM[:, 1] - 21) < 1
    for without in (hole, row):
        number, index = indexed(*seen(straight(PHANTOM_MM), order=np.flatnonzero(~without)))
        assert len(number) == np.count_nonzero(~without)
        np.testing.assert_array_equal(index, INDEX[number])


def without_the_orientation_bead():
    return seen(straight(PHANTOM_MM[:-1]))[0]


def with_two_orientation_beads():
    return seen(straight(np.vstack([PHANTOM_MM, PHANTOM_MM[-1] * (-1, 1)])))[0]


def a_few():
    return seen(straight(PHANTOM_MM[:90]))[0]


def of_a_finer_grid():
    return seen(straight(0.8 * PHANTOM_MM))[0]


def of_a_hexagonal_grid():
    first, second = np.indices((40, 40)).reshape(2, -1) - 20
    return seen(straight(BEAD_PITCH_MM * np.stack([first + second / 2, second * np.sqrt(0.75)], axis=1)))[0]


def at_random():
    """About as far apart as those of the phantom."""
    rng = np.random.default_rng(0)
    return seen(straight(PHANTOM_MM + rng.uniform(-2.5, 2.5, PHANTOM_MM.shape)))[0]


def of_a_larger_grid():
    places = np.indices((51, 51)).reshape(2, -1).T - 25
    return seen(straight(BEAD_PITCH_MM * places))[0]


def of_half_the_phantom():
    return seen(straight(PHANTOM_MM), order=np.flatnonzero(PHANTOM_MM[:, 0] > 0))[0]


def in_a_narrow_field():
    return seen(straight(PHANTOM_MM), lit=lambda x, y: np.hypot(x, y) < 100)[0]


def in_a_field_that_hides_the_upper_and_lower_edge():
    """By 5 rows each, and the slanted edges: a row up or down is all the same."""

    def lit(x, y):
        return (np.abs(y) < 16.5 * BEAD_PITCH_MM) & (np.abs(x) + np.abs(y) < 31.5 * BEAD_PITCH_MM)

    return seen(straight(PHANTOM_MM), lit=lit)[0]


@pytest.mark.parametrize(
    ("beads", "message"),
    [
        (
            without_the_orientation_bead,
            "orientation of the grid cannot be determined: expected the orientation bead .* seen at 0, and 0",
        ),
        (
            with_two_orientation_beads,
            "orientation of the grid cannot be determined: expected the orientation bead .* seen at 2, and 0",
        ),
        (a_few, "no grid in the frame: 90 spots look like beads, the phantom has 1762"),
        (of_a_finer_grid, r"frame of another phantom: 1762 beads about 5\.6 mm apart, expected 7 mm"),
        (of_a_hexagonal_grid, r"frame of another phantom: none of \d+ beads has four neighbours at right angles"),
        (at_random, "frame of another phantom|no grid in the frame"),
        (of_a_larger_grid, r"frame of another phantom, or only part of the grid: .*\d+ of \d+ beads lie outside"),
        (of_half_the_phantom, r"only part of the grid: .* and \d+ of its \d+ places in the field are empty"),
        (in_a_narrow_field, r"only part of the grid: \d+ of the phantom's 1761 places .* at least 75% are needed"),
        (in_a_field_that_hides_the_upper_and_lower_edge, "the position of the grid is ambiguous: 1373 beads fit"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_ambiguous_is_refused(beads, message):
    with pytest.raises(CalibrationError, match=message):
        index_beads(beads(), SIPLA)
