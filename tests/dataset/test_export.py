"""``veriserum convert``: a whole folder or none, the same to the byte, nothing dropped silently."""

import json
import sqlite3

import cv2
import numpy as np
import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import DatasetCard

from tests.dataset.conftest import SHARD_BYTES, content
from tests.fixtures.archives import write_archive
from tests.jobs.processes import run_here
from veriserum_hf import VeriserumArchive
from veriserum_hf.dataset.export import convert_archive, parse_size
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import ArchiveError, ConversionError


def test_the_folder_holds_what_the_hub_needs(converted, tiny):
    names = set(content(converted))
    assert {"README.md", "splits.json", "conversion.json", "rejected.jsonl"} <= names
    assert any(name.startswith("calibrated/train-00000-of-0000") for name in names)
    assert "anatomies/train-00000-of-00001.parquet" in names
    assert sum(name.startswith("calibrated/") for name in names) > 3
    record = json.loads((converted / "conversion.json").read_text())
    assert sum(record["counts"]["calibrated"]["rows"].values()) == len(tiny.frames)
    assert set(record["decisions"]) >= {"frame_id", "rotation", "pose_frame", "kinds"}
    assert record["archive"]["fingerprint"]
    assert str(tiny.root) not in (converted / "conversion.json").read_text()
    assert (converted / "rejected.jsonl").read_text() == ""
    splits = json.loads((converted / "splits.json").read_text())
    assert set(splits["trials"]) == {str(frame.trial_id) for frame in tiny.frames.values()}


def test_it_loads_by_path_by_name_and_as_a_stream_with_the_builders_features(converted, tiny, tmp_path, monkeypatch):
    cache = str(tmp_path / "cache")
    built = load_dataset("veriserum", data_files=str(tiny.database), cache_dir=cache)
    loaded = load_dataset(str(converted), cache_dir=cache)
    streamed = load_dataset(str(converted), streaming=True)
    monkeypatch.chdir(converted.parent)
    by_name = load_dataset("out", cache_dir=cache)
    for side, split in built.items():
        assert loaded[side].features == split.features == by_name[side].features == streamed[side].features
        for row, same, stream in zip(split, loaded[side], streamed[side], strict=True):
            assert row["femur"] == same["femur"] == stream["femur"]
            np.testing.assert_array_equal(np.asarray(row["image_fs"]), np.asarray(same["image_fs"]))
    assert loaded["train"].info.config_name == "calibrated"
    assert loaded["train"].info.version is not None
    anatomies = load_dataset(str(converted), "anatomies", cache_dir=cache)["train"]
    assert anatomies[0]["mesh"].is_volume or len(anatomies[0]["mesh"].faces) > 100


def test_the_card_is_valid_and_describes_the_data(converted):
    card = DatasetCard.load(converted / "README.md")
    head = yaml.safe_load((converted / "README.md").read_text().split("---")[1])
    assert card.data.license == "other"
    assert head["license_link"].startswith("https://")
    assert [config["config_name"] for config in head["configs"]] == ["anatomies", "calibrated"]
    assert next(c for c in head["configs"] if c["config_name"] == "calibrated")["default"] is True
    assert {info["config_name"] for info in head["dataset_info"]} == {"anatomies", "calibrated"}
    for words in ("mm, right-handed", "(x, y, z, w)", "By trial, never by frame", "Non-Commercial", "@inproceedings"):
        assert words in card.content
    assert "{" not in card.text.split("```bibtex")[0]  # nothing left to fill in


@pytest.mark.parametrize("encoding", ["jpeg", "png", "raw"])
@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_encodings_and_formats(tiny, tmp_path, encoding, format):
    out = tmp_path / "out"
    options = Options(size=128, encoding=encoding, bits=8 if encoding == "jpeg" else 16)
    convert_archive(
        tiny.root, out, configs=("calibrated", "raw", "manual"), options=options, format=format, workers=1
    )
    row = load_dataset(str(out), "calibrated", cache_dir=str(tmp_path / "c"))["train"][0]
    assert row["image_bs"].format == {"jpeg": "JPEG", "png": "PNG", "raw": "TIFF"}[encoding]
    assert np.asarray(row["image_bs"]).dtype == (np.uint8 if encoding == "jpeg" else np.uint16)
    assert load_dataset(str(out), "raw", cache_dir=str(tmp_path / "c"))["train"][0]["image_bs"].size == (416, 400)
    assert len(load_dataset(str(out), "manual", cache_dir=str(tmp_path / "c"))["test"]) == 1


def test_every_row_has_its_own_cameras_however_many_rows_there_are(tmp_path):
    archive = write_archive(tmp_path / "archive", trials=8, frames_per_trial=12, frame_size=(104, 100))
    rigs = VeriserumArchive(archive.root).source_calibrations
    convert_archive(archive.root, tmp_path / "out", workers=1)
    loaded = [
        load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")),
        load_dataset("veriserum", data_dir=str(archive.root), cache_dir=str(tmp_path / "cache")),
    ]
    for splits in loaded:
        rows = [row for split in splits.values() for row in split]
        assert len(rows) == 96
        assert max(map(len, splits.values())) > 30  # several groups of rows
        for row in rows:
            rig = rigs[archive.frames[row["measurement_id"]].source_id]
            assert (row["camera_bs"], row["camera_fs"]) == (rig["bs"].camera(512), rig["fs"].camera(512))


def test_the_same_command_again_changes_nothing(converted, tiny):
    before = {path: path.stat().st_mtime_ns for path in converted.rglob("*")}
    result = convert_archive(tiny.root, converted, shard_size_bytes=SHARD_BYTES, workers=1)
    assert sum(result.counts["calibrated"]["rows"].values()) == len(tiny.frames)
    assert {path: path.stat().st_mtime_ns for path in converted.rglob("*")} == before


def break_frames(frames):
    """One frame of each kind of bad input; returns measurement id to the reason expected."""
    image = cv2.imread(str(frames / "bs_000002.jpg"), cv2.IMREAD_UNCHANGED)
    (frames / "bs_000002.jpg").unlink()
    (frames / "bs_000003.jpg").unlink()
    (frames / "fs_000003.jpg").unlink()
    whole = (frames / "fs_000005.jpg").read_bytes()
    (frames / "fs_000005.jpg").write_bytes(whole[: len(whole) // 2])
    (frames / "bs_000007.jpg").write_bytes(b"")
    cv2.imwrite(str(frames / "bs_000011.jpg"), np.dstack([image, image, 255 - image]))
    cv2.imwrite(str(frames / "fs_000013.jpg"), np.zeros_like(image))
    (frames / "fs_000017.jpg").write_bytes(b"no image at all")
    return {
        2: "one plane only",
        3: "missing",
        5: "truncated",
        7: "zero bytes",
        11: "wrong channel count",
        13: "all black",
        17: "unreadable",
    }


def test_bad_frames_are_written_down_and_the_rest_is_converted(damaged, tiny, tmp_path):
    """To the same bytes, whatever the number of workers."""
    expected = break_frames(damaged / "veriserum_collection_compressed")
    ran = run_here("convert", damaged, tmp_path / "out", "--shard-size", SHARD_BYTES, "--workers", 2)
    assert ran.returncode == 3, ran.stderr
    assert "7 rows were rejected" in ran.stderr
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert {row["measurement_id"]: row["reason"] for row in rejected} == expected
    assert all(row["config"] == "calibrated" and row["split"] and row["detail"] for row in rejected)
    counts = json.loads((tmp_path / "out" / "conversion.json").read_text())["counts"]["calibrated"]
    assert sum(counts["rows"].values()) + len(rejected) == len(tiny.frames) == counts["measurements"]
    assert sum(counts["rejected"].values()) == len(rejected)
    rows = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "c"))
    kept = {id for split in rows.values() for id in split["measurement_id"]}
    assert kept == set(tiny.frames) - set(expected)
    one = convert_archive(damaged, tmp_path / "one", shard_size_bytes=SHARD_BYTES, workers=1).output
    assert content(tmp_path / "out") == content(one)


def test_rejects_can_be_allowed_and_the_finished_folder_still_reports_them(damaged, tmp_path):
    break_frames(damaged / "veriserum_collection_compressed")
    assert run_here("convert", damaged, tmp_path / "out", "--workers", 1, "--allow-rejects").returncode == 0
    again = run_here("convert", damaged, tmp_path / "out", "--workers", 1, "--json")
    assert again.returncode == 3
    assert len(json.loads(again.stdout)["rejected"]) == 7


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_where_a_whole_run_or_split_is_bad_the_rest_still_loads(damaged, tiny, tmp_path, format, monkeypatch):
    frames = damaged / "veriserum_collection_compressed"
    splits = json.loads((convert_archive(damaged, tmp_path / "whole", workers=1).output / "splits.json").read_text())[
        "trials"
    ]
    side = {id: splits[str(frame.trial_id)] for id, frame in tiny.frames.items()}
    train = [id for id in side if side[id] == "train"]
    bad = train[:4] + [id for id in side if side[id] == "validation"]
    for id in bad:
        (frames / f"bs_{id:06d}.jpg").write_bytes(b"")
    monkeypatch.setattr("veriserum_hf.dataset.shards._MOST_ROWS_PER_GROUP", 2)
    result = convert_archive(damaged, tmp_path / "out", workers=1, format=format)
    assert len(result.rejected) == len(bad)
    for streaming in (False, True):
        rows = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "c"), streaming=streaming)
        assert set(rows) == {"train", "test"}
        assert [row["measurement_id"] for row in rows["train"]] == train[4:]


def test_without_one_good_frame_there_is_no_data_set(damaged, tmp_path):
    for frame in (damaged / "veriserum_collection_compressed").iterdir():
        frame.write_bytes(b"")
    with pytest.raises(ConversionError, match="no row could be made: 24 were rejected"):
        convert_archive(damaged, tmp_path / "out", configs=("calibrated",), workers=1)
    assert not (tmp_path / "out").exists()


def test_an_archive_that_goes_away_is_not_a_row_of_bad_frames(damaged, tmp_path):
    frames = damaged / "veriserum_collection_compressed"

    def unplug(done, total):
        if done > 2 and frames.exists():
            frames.rename(tmp_path / "elsewhere")

    options = {"configs": ("calibrated",), "shard_size_bytes": 100_000, "workers": 1}
    with pytest.raises(ArchiveError, match=r"\.jpg: No such file.*The archive has changed or its disk has failed"):
        convert_archive(damaged, tmp_path / "out", progress=unplug, **options)
    assert not (tmp_path / "out").exists()
    (tmp_path / "elsewhere").rename(frames)
    assert convert_archive(damaged, tmp_path / "out", **options).rejected == []


def test_an_archive_that_changes_meanwhile_is_not_published(damaged, tmp_path):
    frame = damaged / "veriserum_collection_compressed" / "bs_000024.jpg"

    def overwrite(done, total):
        if done == 1:
            frame.write_bytes((frame.with_name("bs_000001.jpg")).read_bytes())

    with pytest.raises(ConversionError, match="has changed while it was converted"):
        convert_archive(
            damaged, tmp_path / "out", configs=("calibrated",), shard_size_bytes=1, workers=1, progress=overwrite
        )
    assert not (tmp_path / "out").exists()


def test_broken_meshes_are_rejected_and_bones_without_file_are_no_implants(damaged, tmp_path):
    meshes = damaged / "veriserum_anatomies"
    whole = (meshes / "ana_000001.stl").read_bytes()
    (meshes / "ana_000001.stl").write_bytes(whole[: len(whole) // 2])
    (meshes / "ana_000002.stl").write_bytes(whole[:80] + bytes(4))
    (meshes / "ana_000003.stl").unlink()
    with sqlite3.connect(damaged / "veriserumSqlite3_refined.db") as database:
        database.execute("INSERT INTO anatomies (id, category) VALUES (50, 'femur')")
    result = convert_archive(damaged, tmp_path / "out", configs=("anatomies",), workers=1)
    assert {row["anatomy_id"]: row["reason"] for row in result.rejected} == {
        1: "unreadable",
        2: "unreadable",
        3: "missing",
    }
    assert result.counts["anatomies"]["rows"] == {"train": 2}


def test_sixteen_bits_mean_the_same_from_every_source(tmp_path):
    levels = {}
    for name, kind in {"jpg": {}, "tif": {"extension": "tif", "bit_depth": 16}}.items():
        archive = write_archive(tmp_path / name, trials=1, frames_per_trial=1, frame_size=(416, 400), **kind)
        for bits in (8, 16):
            options = Options(bits=bits, encoding="png")
            out = convert_archive(
                archive.root, tmp_path / f"{name}{bits}", configs=("calibrated",), options=options, workers=1
            ).output
            (rows,) = load_dataset(str(out), cache_dir=str(tmp_path / "c")).values()
            levels[name, bits] = np.median(np.asarray(rows[0]["image_bs"])[200:300, 200:300]) / (2**bits - 1)
    assert max(levels.values()) - min(levels.values()) < 0.01


def test_frames_without_a_pose_are_counted(damaged, tmp_path):
    with sqlite3.connect(damaged / "veriserumSqlite3_refined.db") as database:
        database.execute("DELETE FROM poses WHERE measurement_id = 9 AND method = 'REFINED'")
        database.execute("DELETE FROM poses WHERE measurement_id = 12 AND anatomy_id >= 3 AND method = 'REFINED'")
    result = convert_archive(damaged, tmp_path / "out", configs=("calibrated",), workers=1)
    assert result.counts["calibrated"]["without_pose"] == 1
    rows = [
        row for split in load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "c")).values() for row in split
    ]
    one_implant = next(row for row in rows if row["measurement_id"] == 12)
    assert one_implant["tibia"] is None
    assert one_implant["femur"]["anatomy_id"] in (1, 2)
    assert one_implant["implant_pair"].endswith("-none")


def test_nothing_that_exists_is_overwritten(tiny, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(
        ConversionError, match=r"exists and is not the result of this conversion.*Nothing was changed"
    ):
        convert_archive(tiny.root, out)
    assert content(tmp_path) == {"out/thesis.txt": b"precious"}


def test_an_empty_folder_is_taken(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    convert_archive(tiny.root, tmp_path / "out", configs=("anatomies",), workers=1)
    assert (tmp_path / "out" / "README.md").exists()


@pytest.mark.parametrize("output", ["/proc/veriserum", "/dev/null/out"])
def test_where_nothing_can_be_written_it_fails_before_reading_frames(tiny, output):
    ran = run_here("convert", tiny.root, output)
    assert ran.returncode == 2
    assert f"Cannot write below {output}.incomplete" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_structural_problem_stops_before_a_frame_is_read(damaged, tmp_path):
    with sqlite3.connect(damaged / "veriserumSqlite3_refined.db") as database:
        database.execute("UPDATE poses SET distortion_calibration_id = 77 WHERE id = 3")
    with pytest.raises(ArchiveError, match=r"table poses, id 3: refers to distortion_calibration id 77"):
        convert_archive(damaged, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_reading_changes_nothing_in_the_archive(damaged, tmp_path):
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in damaged.rglob("*")}
    convert_archive(damaged, tmp_path / "out", workers=1)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in damaged.rglob("*")} == before


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 500_000_000), ("1.5 gb", 1_500_000_000), ("300000", 300_000), ("20K", 20_000)]
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "-3MB", "0", "1.2.3GB"])
def test_other_sizes_are_refused(text):
    with pytest.raises(ConversionError, match="expected a size such as 500MB"):
        parse_size(text)
