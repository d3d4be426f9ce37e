"""Scenes: the solids in the beam."""

from itertools import combinations

import numpy as np
import pytest

from veriserum_hf.simulation.scenario import scene, session, trial
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.solids import solid_of

SETTINGS = Settings(trials=40, frames_per_trial=30, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(0, 40, 3))
def test_no_two_solids_are_in_the_same_place_at_any_time(index):
    bodies = [solid_of(part.mesh) for part in scene(SETTINGS, index, 0)]
    assert len(bodies) == 8
    for frame in (0, 11, 29):  # the central ones are not those that the holders were mounted by
        parts = scene(SETTINGS, index, frame)
        solids = [body.transform(part.T_world_part[:3]) for body, part in zip(bodies, parts, strict=True)]
        shared_mm3 = [(one ^ other).volume() for one, other in combinations(solids, 2)]
        assert max(shared_mm3) < 5


def test_trials_go_through_activities_pairs_and_days():
    trials = [trial(SETTINGS, index) for index in range(40)]
    assert len({(t.trajectory.task, tuple(t.anatomy_ids.values())) for t in trials}) == 40
    assert [t.session.id for t in trials] == sorted(t.session.id for t in trials)
    assert {t.session.id for t in trials} == {1, 2, 3}
    assert session(SETTINGS, 0).rig["bs"].sid_mm == 1860.54


def test_the_imaging_differs_by_trial_and_plane():
    drawn = [trial(SETTINGS, index).imaging[plane] for index in range(4) for plane in ("bs", "fs")]
    assert len({imaging.quanta_per_pixel for imaging in drawn}) == len(drawn)


def test_a_trial_is_the_same_when_it_is_asked_for_again():
    first = trial(SETTINGS, 5)
    trial.cache_clear()
    again = trial(SETTINGS, 5)
    np.testing.assert_array_equal(first.trajectory.T_world_femur, again.trajectory.T_world_femur)
    assert first.imaging == again.imaging
