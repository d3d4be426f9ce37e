"""``load_dataset("veriserum", ...)`` in all its forms, from real files into a real cache."""

import json
import os
import sqlite3
import textwrap

import numpy as np
import pytest
import trimesh
from datasets import load_dataset, load_dataset_builder

import veriserum_hf
from tests.fixtures.archives import write_archive
from tests.jobs.processes import run_here
from tests.training.processes import Started
from veriserum_hf.dataset.plugin import SOURCES_OF_ROWS
from veriserum_hf.errors import ArchiveError, ConversionError
from veriserum_hf.jobs.provenance import source_hash


@pytest.fixture
def load(tiny, tmp_path):
    def load_tiny(*args, **kwargs):
        kwargs = {"data_files": str(tiny.database)} | kwargs
        return load_dataset("veriserum", *args, cache_dir=str(tmp_path / "cache"), **kwargs)

    return load_tiny


def ids(dataset):
    return sorted(
        row["measurement_id"] for split in dataset.values() for row in split.remove_columns(["image_bs", "image_fs"])
    )


def test_a_row_holds_what_the_schema_promises(load, tiny):
    dataset = load()
    assert {"train", "validation", "test"} >= set(dataset)
    assert ids(dataset) == sorted(tiny.frames)
    row = dataset["train"][0]
    assert set(row) == {
        *("measurement_id", "trial_id", "frame_index", "task", "subject", "implant_pair"),
        *("image_bs", "image_fs", "camera_bs", "camera_fs", "femur", "tibia"),
    }
    assert row["image_bs"].size == (512, 512)
    assert row["image_bs"].mode == "L"
    assert np.shape(row["camera_bs"]["intrinsics"]) == (3, 3)
    assert np.shape(row["camera_fs"]["world_to_camera"]) == (4, 4)
    assert row["camera_bs"]["pixel_size_mm"] == 360 / 512
    assert len(row["femur"]["quaternion_xyzw"]) == 4
    assert row["femur"]["kind"] == "refined"
    assert row["trial_id"] == tiny.frames[row["measurement_id"]].trial_id


def test_frames_of_a_trial_are_numbered_in_order_and_stay_together(load):
    sides = {}
    for side, split in load().items():
        for row in split.remove_columns(["image_bs", "image_fs"]):
            sides.setdefault(row["trial_id"], []).append((side, row["frame_index"]))
    for found in sides.values():
        assert len({side for side, _ in found}) == 1
        assert [index for _, index in found] == [0, 1, 2]


def test_folder_streaming_and_processes_give_the_same_rows(load, tiny, monkeypatch):
    monkeypatch.setattr("veriserum_hf.dataset.builder._ROWS_PER_SHARD", 2)
    dataset = load()
    streamed = load(streaming=True)
    assert streamed["train"].num_shards > 1
    by_folder = load(data_files=None, data_dir=str(tiny.root), size=256, num_proc=2)
    for side, split in dataset.items():
        images = [np.asarray(row["image_bs"]) for row in split]
        for row, expected, again in zip(streamed[side], images, by_folder[side], strict=True):
            np.testing.assert_array_equal(np.asarray(row["image_bs"]), expected)
            assert again["image_bs"].size == (256, 256)


def test_every_configuration_loads(load, tiny):
    raw = load("raw")["train"][0]
    assert raw["image_bs"].size == (416, 400)
    distortion = veriserum_hf.Distortion.from_string(raw["distortion_bs"])
    calibrated = next(row for row in load()["train"] if row["measurement_id"] == raw["measurement_id"])
    corrected = distortion.correct(np.asarray(raw["image_bs"]), 512)
    assert np.abs(corrected.astype(int) - np.asarray(calibrated["image_bs"])).mean() < 1.5  # JPEG
    assert raw["camera_bs"] == calibrated["camera_bs"]

    manual = load("manual")
    assert set(manual) == {"test"}
    assert [row["femur"]["kind"] for row in manual["test"]] == ["manual"]
    assert {row["tibia"]["kind"] for split in load("target").values() for row in split} == {"target"}

    anatomies = load("anatomies")["train"]
    assert [row["component"] for row in anatomies] == ["femur"] * 2 + ["tibia"] * 3
    assert isinstance(anatomies[0]["mesh"], trimesh.Trimesh)
    assert 40 < anatomies[0]["mesh"].extents.max() < 90  # mm

    phantoms = load("calibration")["train"]
    assert {row["plane"] for row in phantoms} == {"bs", "fs"}
    assert all(row["phantom"] for row in phantoms)


def test_options_shape_the_rows(load, tiny):
    deep = load(size=256, bits=16, encoding="png")["train"][0]["image_bs"]
    assert np.asarray(deep).dtype == np.uint16
    assert deep.size == (256, 256)
    with_implant = load(anatomy_id=3)
    assert {row["tibia"]["anatomy_id"] for split in with_implant.values() for row in split} == {3}
    assert len(ids(load(anatomy_id=[3, 4]))) > len(ids(with_implant))
    by_implant = load(split_by="implant")
    tibias = [{row["tibia"]["anatomy_id"] for row in split} for split in by_implant.values()]
    assert len(tibias) == 3
    assert sum(map(len, tibias)) == len(set.union(*tibias)) == 3
    assert len(load("manual", split_by="implant")["test"]) == 1


def test_obsolete_poses_are_included_only_on_request(damaged, tmp_path):
    with sqlite3.connect(damaged / "veriserumSqlite3_refined.db") as database:
        database.execute("UPDATE poses SET obsolete = 1 WHERE measurement_id = 5")

    def load(**k):
        return load_dataset(
            "veriserum",
            data_files=str(damaged / "veriserumSqlite3_refined.db"),
            cache_dir=str(tmp_path / "cache"),
            **k,
        )

    assert 5 not in ids(load())
    assert 5 in ids(load(include_obsolete=True))


def test_the_cache_follows_the_archive_and_the_options(damaged, tmp_path):
    def folder(**options):
        builder = load_dataset_builder(
            "veriserum", data_files=str(damaged / "veriserumSqlite3_refined.db"), cache_dir=str(tmp_path), **options
        )
        return builder.cache_dir

    first = folder()
    assert folder() == first
    assert folder(size=256) != first
    assert folder(anatomy_id=3) != first
    for options in ({"bits": 16, "encoding": "png"}, {"split_by": "implant"}, {"include_obsolete": True}):
        assert folder(**options) != first
    frame = next((damaged / "veriserum_collection_compressed").glob("bs_*"))
    os.utime(frame, ns=(1, 1))
    touched = folder()
    assert touched != first
    with sqlite3.connect(damaged / "veriserumSqlite3_refined.db") as database:
        database.execute("UPDATE poses SET tx = tx + 0.001 WHERE id = 1")
    assert folder() not in (first, touched)
    source = source_hash(*SOURCES_OF_ROWS)
    assert len(source) == 64
    assert source in first


def test_workers_of_a_torch_loader_read_the_stream(tiny, tmp_path):
    """In a process of its own, as a training script would."""
    script = f"""
        import veriserum_hf, torch
        import veriserum_hf.dataset.builder as builder
        builder._ROWS_PER_SHARD = 2
        from datasets import load_dataset
        if __name__ == "__main__":
            stream = load_dataset("veriserum", data_files={str(tiny.database)!r}, streaming=True)["train"]
            loader = torch.utils.data.DataLoader(stream.with_format("torch"), batch_size=2, num_workers=2)
            batches = list(loader)
            assert batches[0]["image_bs"].shape[1:] == (1, 512, 512), batches[0]["image_bs"].shape
            assert batches[0]["femur"]["translation_mm"].shape[1:] == (3,)
            print(sorted(id for batch in batches for id in batch["measurement_id"].tolist()))
    """
    (tmp_path / "train.py").write_text(textwrap.dedent(script))
    started = Started(tmp_path / "train.py")
    assert started.end() == [0], started.written("errors")
    expected = load_dataset("veriserum", data_files=str(tiny.database), cache_dir=str(tmp_path / "cache"))["train"]
    assert json.loads(started.written("output")) == expected["measurement_id"]


def test_bad_frames_are_excluded_and_reported(damaged, tmp_path, caplog):
    frames = damaged / "veriserum_collection_compressed"
    (frames / "bs_000004.jpg").write_bytes(b"")
    dataset = load_dataset("veriserum", data_dir=str(damaged), cache_dir=str(tmp_path / "cache"))
    assert ids(dataset) == [id for id in range(1, 25) if id != 4]
    assert "rejected measurement_id 4: zero bytes" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be a whole number of pixels from 32 to 4096; got 0"),
        ({"encoding": "webp"}, "encoding must be one of jpeg, png, raw; got 'webp'"),
        ({"bits": 16}, 'JPEG holds 8 bits: for bits=16 choose encoding="png" or "raw"'),
        ({"split_by": "frame"}, "split_by must be one of trial, implant; got 'frame'"),
        ({"anatomy_id": 99}, r"No frame shows anatomy 99; the archive's poses are of anatomies \[1, 2, 3, 4, 5\]"),
    ],
)
def test_impossible_options_are_refused(load, options, message):
    with pytest.raises(ConversionError, match=message):
        load(**options)


def test_an_archive_without_target_poses_reports_what_it_has(tmp_path):
    archive = write_archive(tmp_path / "archive", trials=1, csv=True, frame_size=(104, 100))
    with pytest.raises(
        ConversionError, match=r"no target pose in use; it has .*refined.*Choose another configuration"
    ):
        load_dataset("veriserum", "target", data_files=str(archive.database), cache_dir=str(tmp_path / "cache"))


def test_structural_problems_stop_before_anything_is_cached(damaged, tmp_path):
    (damaged / "veriserumSqlite3_refined.db").write_text("hello")
    with pytest.raises(ArchiveError, match="SQLite cannot read it"):
        load_dataset("veriserum", data_dir=str(damaged), cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A user who has chosen nothing yet."""
    monkeypatch.delenv("VERISERUM_ARCHIVE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


@pytest.mark.usefixtures("settings")
def test_without_an_archive_the_ways_in_are_named(tmp_path, monkeypatch):
    for name in ("a.db", "b.db"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ArchiveError, match=r"finds no archive\. Set VERISERUM_ARCHIVE .* or run `veriserum use PATH` once; or give"
    ):
        load_dataset("veriserum", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ArchiveError, match=r"takes one archive; got 2 data files\. Give data_files="):
        load_dataset("veriserum", data_files=["a.db", "b.db"], cache_dir=str(tmp_path / "cache"))


@pytest.mark.usefixtures("settings")
def test_the_name_alone_loads_the_chosen_archive_which_is_converted_once(load, tiny, tmp_path, monkeypatch):
    assert run_here("use", tiny.root).returncode == 0
    assert ids(load(data_files=None)) == sorted(tiny.frames)
    converted = sorted((tmp_path / "cache").rglob("*.arrow"))
    written = [path.stat().st_mtime_ns for path in converted]
    assert ids(load(data_files=None)) == sorted(tiny.frames)
    assert sorted((tmp_path / "cache").rglob("*.arrow")) == converted
    assert [path.stat().st_mtime_ns for path in converted] == written

    other = write_archive(tmp_path / "other", trials=1, frame_size=(104, 100))
    monkeypatch.setenv("VERISERUM_ARCHIVE", str(other.database))
    assert ids(load(data_files=None)) == sorted(other.frames)
    assert ids(load()) == sorted(tiny.frames)  # what is given takes precedence


@pytest.mark.usefixtures("settings")
def test_a_choice_is_shown_kept_and_forgotten(tiny, tmp_path, monkeypatch):
    ways = "Set VERISERUM_ARCHIVE to the folder of the download, or run `veriserum use PATH` once\n"
    nothing = run_here("use")
    assert nothing.returncode == 2 and nothing.stderr == f"error: no archive is chosen. {ways}"
    monkeypatch.chdir(tiny.root.parent)
    assert run_here("use", tiny.root.name).stdout == f'load_dataset("veriserum") takes {tiny.root}\n'
    for year in ("2023", "2024"):
        (tmp_path / "others" / year).mkdir(parents=True)
        (tmp_path / "others" / year / "bs_000001.jpg").write_bytes(b"not of an archive")
    for path, what in ((tmp_path / "others", "found no SQLite database"), (tmp_path / "no", "there is nothing here")):
        refused = run_here("use", path)
        assert refused.returncode == 2 and refused.stderr.startswith(f"error: {path}: {what}")
        assert refused.stderr.count("\n") == 1
        assert run_here("use").stdout == f"{tiny.root} (of `veriserum use`)\n"

    monkeypatch.setenv("VERISERUM_ARCHIVE", str(tmp_path / "gone"))
    gone = run_here("use")
    assert gone.returncode == 2
    assert gone.stderr.startswith(f"error: there is nothing at {tmp_path / 'gone'}, which VERISERUM_ARCHIVE states.")
    monkeypatch.setenv("VERISERUM_ARCHIVE", str(tiny.database))
    assert run_here("use", tiny.root).stderr.startswith("VERISERUM_ARCHIVE is set, and takes precedence")
    monkeypatch.delenv("VERISERUM_ARCHIVE")

    assert run_here("use", "--forget", tiny.root).returncode == 2
    assert run_here("use", "--forget").stdout == "no archive is remembered\n"
    assert run_here("use").returncode == 2
