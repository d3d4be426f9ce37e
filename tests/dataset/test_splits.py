"""No trial on two sides, nothing moves, manual frames in test."""

import pytest
from hypothesis import given, strategies as st

from veriserum_hf.dataset.splits import split_by_implant, split_by_trial
from veriserum_hf.errors import ConversionError

ids = st.sets(st.integers(0, 5000), max_size=60)


@given(ids, ids, ids)
def test_adding_trials_moves_no_old_trial(old, new, manual):
    before = split_by_trial(old, manual)
    after = split_by_trial(old | new, manual)
    assert all(after[trial] == side for trial, side in before.items())


@given(ids, ids)
def test_trials_with_manual_poses_are_in_test(trials, manual):
    splits = split_by_trial(trials, manual)
    assert set(splits) == trials
    assert all(splits[trial] == "test" for trial in trials & manual)


def test_shares_and_values_are_fixed():
    splits = split_by_trial(range(1, 1601), ())
    counts = {side: list(splits.values()).count(side) for side in ("train", "validation", "test")}
    assert counts == pytest.approx({"train": 1280, "validation": 160, "test": 160}, rel=0.15)
    # Published assignments must never change: (t)r(ain), (v)a(lidation), (t)e(st) of the first trials.
    assert "".join(splits[trial][1] for trial in range(1, 31)) == "rrrerrrrerrrarrrraraarerrrarrr"


def test_another_seed_is_another_split():
    assert split_by_trial(range(200), (), seed=1) != split_by_trial(range(200), ())


def test_held_out_implants_are_not_in_train():
    tibias = {trial: [3 + trial % 5] for trial in range(1, 101)}
    splits = split_by_implant(tibias, manual_trial_ids=[7])
    sides = {}
    for trial, side in splits.items():
        sides.setdefault(tibias[trial][0], set()).add(side)
    assert sorted(len(found) for found in sides.values()) == [1] * 5
    assert sorted(next(iter(found)) for found in sides.values()) == ["test", "train", "train", "train", "validation"]
    assert set(tibias) - set(splits) <= {7}
    assert splits.get(7, "test") == "test"  # a manual trial is in test or nowhere


def test_one_implant_cannot_be_held_out():
    with pytest.raises(ConversionError, match=r'needs at least two; found \[3\]\. Use split_by="trial"'):
        split_by_implant({1: [3], 2: [3]}, ())
