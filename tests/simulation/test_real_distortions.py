"""Fields like those of real intensifiers, and archives that are drawn through them."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from tests.fixtures.calibrations import drawn_distortion, map_error_mm
from tests.fixtures.phantoms import grid_beads_mm
from veriserum_hf.calibration import Distortion, DistortionMap, fit_bead_grid
from veriserum_hf.core.domain import PLANES
from veriserum_hf.errors import SimulationError
from veriserum_hf.simulation.intensifier_torch import raw_positions
from veriserum_hf.simulation.real_distortions import real_distortion, stored_form
from veriserum_hf.simulation.scenario import draw_grid, session
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.tables import DATABASE_NAME
from veriserum_hf.simulation.write import write_all_but_images

SETTINGS = Settings(trials=1, frames_per_trial=1, pairs=1, height_px=800, distortion="real")


def test_the_stored_form_misses_them_as_it_misses_real_ones():
    missed_mm, most_mm = [], []
    for seed in range(6):
        base = drawn_distortion(seed)
        field = real_distortion(base, np.random.default_rng(seed))
        stored = stored_form(field, base)
        assert not field.folds() and not stored.folds()
        off_mm = np.linalg.norm(stored.to_mm(field.to_px(grid_beads_mm())) - grid_beads_mm(), axis=1)
        missed_mm.append(np.sqrt((off_mm**2).mean()))
        most_mm.append(off_mm.max())
    assert min(missed_mm) > 0.1 and 0.15 < np.median(missed_mm) < 0.35 and max(missed_mm) < 0.5
    assert min(most_mm) > 0.4 and max(most_mm) < 2.5


def test_the_same_seed_gives_the_same_field_and_others_others():
    base = drawn_distortion(0)
    one, again, other = (real_distortion(base, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == again != other
    assert session(SETTINGS, 0).distortions["bs"] != session(SETTINGS, 0).distortions["fs"]
    # The rest of an archive does not depend on it.
    lab = session(Settings(trials=1, frames_per_trial=1, pairs=1, height_px=800), 0)
    assert lab.source == session(SETTINGS, 0).source and lab.distortions == lab.stored


def test_tables_hold_the_stored_form_and_the_record_the_field(tmp_path):
    write_all_but_images(tmp_path, SETTINGS)
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as database:
        query = "SELECT id, distortion_result_bs, distortion_result_fs FROM distortion_calibration"
        texts = {id: dict(zip(("bs", "fs"), of_planes, strict=True)) for id, *of_planes in database.execute(query)}
    record = json.loads((tmp_path / "simulation.json").read_text())["distortion_by_calibration"]
    for index in range(3):
        day = session(SETTINGS, index)
        for plane in PLANES:
            assert texts[day.distortion_id][plane] == day.stored[plane].to_string()
            assert isinstance(day.stored[plane], Distortion)
            assert DistortionMap.from_string(record[str(day.distortion_id)][plane]) == day.distortions[plane]


def test_the_grid_of_such_an_archive_gives_the_field_back():
    fit = fit_bead_grid(draw_grid(SETTINGS, 0, "fs"))
    truth = session(SETTINGS, 0).distortions["fs"]
    assert fit.chosen.form in ("degree 7", "degree 8", "degree 9")
    assert map_error_mm(fit, truth) > 0.1
    off_mm = fit.chosen.distortion.to_mm(fit.beads_px) - truth.to_mm(fit.beads_px)
    assert np.sqrt((off_mm**2).sum(axis=1).mean()) <= 0.02


def test_raw_positions_on_the_gpu_path_follow_the_field():
    field = session(SETTINGS, 0).distortions["bs"]
    x, y = raw_positions(field, 512)
    along = (np.linspace(0, 511, len(x)) + 0.5) * 360 / 512 - 180 - 0.1125
    h_mm, v_mm = np.meshgrid(along, -along)
    px = field.to_px(np.stack([h_mm.ravel(), v_mm.ravel()], axis=1))
    inner = np.hypot(h_mm, v_mm).ravel() < 165
    off_px = np.hypot(x.ravel() - px[:, 0], y.ravel() - px[:, 1])[inner]
    assert np.nanmax(off_px) < 8  # of the field's rim, which is 800 px from its centre


def test_other_fields_are_refused():
    with pytest.raises(SimulationError, match="distortion must be 'lab' or 'real', got 'none'"):
        Settings(distortion="none")
