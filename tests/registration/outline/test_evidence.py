"""Shares of outlines with edges, against what chance gives."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from veriserum_hf.registration.outline.evidence import (
    NEAR_PX,
    above_chance,
    chance,
    shares_near,
    without_shared_error,
)
from veriserum_hf.registration.outline.search import ASSESSED, FINE
from veriserum_hf.registration.outline.solver import OutlineState

shares = st.floats(0, 1)


@given(shares, shares)
def test_shares_above_chance_are_shares(share, by_chance):
    found = above_chance(share, by_chance)
    assert 0 <= found <= 1 and found <= share + 1e-9
    assert above_chance(by_chance, by_chance) == 0
    assert above_chance(share, 0) == share


@given(shares, shares, shares)
def test_more_edges_and_less_chance_never_count_less(share, more, by_chance):
    low, high = sorted((share, more))
    assert above_chance(low, by_chance) <= above_chance(high, by_chance)


def by_plane(frame, state, k):
    fine, found = frame.outlines.solver(FINE), {}
    for plane, own in frame.outlines.of_implant(FINE, state, k).items():
        level, poses = fine.levels[plane], zip(fine.bodies, state.T_world_implant, strict=True)
        shadows = [level.render(body, T) for body, T in poses]
        found[plane] = (
            shares_near({plane: own}, NEAR_PX)[plane],
            chance(level, own, shadows, ASSESSED.window_px),
        )
    return found


def test_a_true_pose_has_edges_everywhere_and_a_smooth_background_few_by_chance(frame, true_poses):
    state = frame.outlines.with_attenuations(true_poses, None)
    for k in (0, 1):
        for share, by_chance in by_plane(frame, state, k).values():
            assert share > 0.85 and by_chance < 0.3


def test_noise_supports_an_outline_only_as_chance_does(frame_of, row, true_poses):
    rng = np.random.default_rng(0)
    noise = {f"image_{plane}": rng.integers(40, 200, (256, 256), dtype=np.uint8) for plane in ("bs", "fs")}
    frame = frame_of(row | noise)
    state = OutlineState(true_poses, frame.outlines.initial_state(true_poses).log_per_mm)
    for k in (0, 1):
        for share, by_chance in by_plane(frame, state, k).values():
            assert by_chance > 0.2
            assert above_chance(share, by_chance) < 0.35


def test_planes_that_show_none_of_an_outline_are_skipped(frame, true_poses):
    own = frame.outlines.of_implant(FINE, frame.outlines.initial_state(true_poses), 0)
    own["bs"].visible[:] = False
    assert list(shares_near(own, NEAR_PX)) == ["fs"]
    assert shares_near(own, 3)["fs"] >= shares_near(own, 0.5)["fs"] == pytest.approx(shares_near(own, 0.5)["fs"])


def test_an_error_of_all_edges_is_no_error_of_a_pose_in_two_planes_and_may_be_one_in_one(frame, true_poses):
    own = frame.outlines.of_implant(FINE, frame.outlines.with_attenuations(true_poses, None), 0)
    own = without_shared_error(own)

    def outside(by_px):
        return {plane: replace(each, residual_px=each.residual_px + by_px) for plane, each in own.items()}

    for by_px, left_px in ((0.4, 0), (-0.3, 0), (1, 0.6)):  # larger ones are no errors of edges
        for plane, left in without_shared_error(outside(by_px)).items():
            np.testing.assert_allclose(left.residual_px, own[plane].residual_px + left_px, atol=1e-9)
    alone = {"bs": outside(0.4)["bs"]}
    assert without_shared_error(alone)["bs"] is alone["bs"]
    own["bs"].residual_px[:] = np.nan
    assert np.isnan(without_shared_error(own)["bs"].residual_px).all()


def test_edges_inside_the_shadow_that_the_image_has_not_are_no_evidence_against_a_pose(frame, true_poses):
    own = frame.outlines.of_implant(FINE, frame.outlines.with_attenuations(true_poses, None), 1)
    hidden = {
        plane: replace(each, residual_px=np.where(each.ends, each.residual_px, np.nan)) for plane, each in own.items()
    }
    assert all(0.05 < (~each.ends).mean() < 0.5 for each in own.values())
    assert shares_near(hidden, NEAR_PX) == pytest.approx(shares_near(own, NEAR_PX))
    ends = {
        plane: replace(each, residual_px=np.where(each.ends, np.nan, each.residual_px)) for plane, each in own.items()
    }
    assert set(shares_near(ends, NEAR_PX).values()) == {0.0}
