"""``load_dataset("veriserum", "simulated", ...)``: the rows of a simulated archive, with no archive at all."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.errors import ArchiveError, SimulationError
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

SMALL = {"trials": 5, "frames_per_trial": 4, "pairs": 2, "seed": 3, "height_px": 200}


@pytest.fixture
def load(tmp_path_factory, tmp_path, monkeypatch):
    cache = tmp_path_factory.getbasetemp() / "simulated-cache"
    monkeypatch.chdir(tmp_path)

    def load(config="simulated", **options):
        return load_dataset("veriserum", config, **{"cache_dir": str(cache)} | options)

    return load


def by_measurement(splits):
    return {row["measurement_id"]: row for rows in splits.values() for row in rows}


def test_the_rows_are_those_of_the_archive_that_the_command_writes(load, tmp_path):
    archive = simulate(tmp_path / "archive", Settings(**SMALL, marker_frames=0), workers=1)
    convert_archive(archive, tmp_path / "out", configs=("calibrated",), workers=1)
    expected = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    rows = load(**SMALL)
    assert {split: len(r) for split, r in rows.items()} == {split: len(r) for split, r in expected.items()}
    found = by_measurement(rows)
    for id, row in by_measurement(expected).items():
        for plane in ("bs", "fs"):
            np.testing.assert_array_equal(found[id].pop(f"image_{plane}"), row.pop(f"image_{plane}"))
        assert found[id] == row


def test_processes_and_streams_give_the_same_rows(load, tmp_path):
    first = by_measurement(load(**SMALL))
    shared = by_measurement(load(**SMALL, num_proc=2, cache_dir=str(tmp_path / "cache")))
    stream = by_measurement(load(**SMALL, streaming=True))
    assert first.keys() == shared.keys() == stream.keys() == set(range(1, 21))
    for id, row in first.items():
        for other in (shared, stream):
            np.testing.assert_array_equal(row["image_bs"], other[id]["image_bs"])
            assert row["femur"] == other[id]["femur"]


def test_options_of_the_rows_go_with_it(load):
    rows = load(**SMALL, size=128, anatomy_id=4)
    found = by_measurement(rows).values()
    assert {row["implant_pair"] for row in found} == {"1-4"}
    assert {row["image_bs"].size for row in found} == {(128, 128)}


def test_other_settings_are_other_data(load):
    one = load(trials=1, frames_per_trial=1, height_px=200, split="all")
    other = load(trials=1, frames_per_trial=1, height_px=200, seed=1, split="all")
    assert one[0]["femur"]["translation_mm"] != other[0]["femur"]["translation_mm"]


def test_the_exact_poses_lie_in_the_cache(load, tmp_path_factory):
    row = load(**SMALL)["train"][0]
    folder = tmp_path_factory.getbasetemp() / "simulated-cache" / "veriserum-simulated"
    truths = [pq.read_table(path).to_pylist() for path in folder.glob("*/truth.parquet")]
    exact = [r for truth in truths if len(truth) == 40 for r in truth if r["measurement_id"] == row["measurement_id"]]
    assert {r["anatomy_id"] for r in exact} == {row["femur"]["anatomy_id"], row["tibia"]["anatomy_id"]}
    for r in exact:
        distance_mm = np.linalg.norm(np.subtract(row[r["component"]]["translation_mm"], r["translation_mm"]))
        assert 0 < distance_mm < 0.4


def test_the_folder_it_is_called_in_does_not_matter(load, tmp_path):
    for name in ("a.csv", "b.db", "train.jsonl"):
        (tmp_path / name).write_text("not for you")
    assert len(load(trials=1, frames_per_trial=1, height_px=200, split="all")) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.db", "train.jsonl"]


def test_other_configurations_can_be_simulated_too(load):
    meshes = {row["anatomy_id"]: row["mesh"] for row in load("anatomies", **SMALL, split="train")}
    calibrated = by_measurement(load(**SMALL))
    assert {row[c]["anatomy_id"] for row in calibrated.values() for c in ("femur", "tibia")} == set(meshes)
    raw = load("raw", **SMALL)["train"][0]
    assert raw["image_bs"].size == (208, 200)
    assert raw["femur"] == calibrated[raw["measurement_id"]]["femur"]
    assert load("target", **SMALL)["train"][0]["femur"]["kind"] == "target"
    assert load("manual", **SMALL)["test"].num_rows == 1


def test_what_does_not_go_together_is_refused(load, tiny):
    with pytest.raises(SimulationError, match=r"'simulated': with this, .* simulates an archive"):
        load(data_files=str(tiny.database))
    with pytest.raises(SimulationError, match=r"trials, seed: with this, .* takes none\. Remove it"):
        load("calibrated", data_files=str(tiny.database), trials=3, seed=1)
    with pytest.raises(SimulationError, match="trials must be a whole number from 1 to 100000, got 0"):
        load(trials=0)
    with pytest.raises(
        ArchiveError, match=r"finds no archive\. Set VERISERUM_ARCHIVE .* give data_files=.* or trials=20"
    ):
        load("calibrated")
