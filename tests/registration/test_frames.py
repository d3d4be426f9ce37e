"""Frames of an archive and of its data set are the same, and so are the initial poses that a model predicts."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.registration.sources import save_untrained
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import is_archive, open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.registration.initial_poses import StartingModel


def test_an_archive_is_recognised_by_its_tables(archive, dataset, tmp_path):
    nested = tmp_path / "download" / "tables"
    nested.mkdir(parents=True)
    assert not is_archive(str(tmp_path / "download"))
    shutil.copy(next(archive.glob("*.db")), nested)
    assert is_archive(str(tmp_path / "download")) and is_archive(str(next(nested.iterdir())))
    (nested / "predicted").mkdir()
    shutil.copy(archive / "truth.parquet", nested / "predicted")
    assert is_archive(str(nested)) and not is_archive(str(archive / "truth.parquet"))
    stored = tmp_path / "OUT"
    shutil.copytree(dataset, stored)
    (stored / "calibrated" / "Thumbs.db").write_bytes(b"images")
    assert not is_archive(str(stored))


def test_frames_of_an_archive_are_those_of_its_data_set(archive, dataset):
    assert is_archive(str(archive)) and not is_archive(str(dataset)) and not is_archive("a/name")
    raw, stored = (open_rows(str(path), ("calibrated",), archive_px=256) for path in (archive, dataset))
    assert raw.splits.keys() == stored.splits.keys() and raw.meshes.keys() == stored.meshes.keys()
    for split, frames in raw.splits.items():
        for one, other in zip(frames.read(), stored.splits[split].read(), strict=True):
            images = [np.asarray(row.pop("image_bs"), dtype=float) for row in (one, other)]
            assert np.abs(images[0] - images[1]).mean() < 2  # of 255: the data set's are JPEG
            one.pop("image_fs"), other.pop("image_fs")
            assert one == other


def test_frames_are_identified_by_images_and_implants_and_not_by_their_path(dataset, archive, tmp_path):
    options = Options(size=256, encoding="png")
    convert_archive(archive, tmp_path / "PNG", configs=("calibrated", "anatomies"), options=options, workers=1)
    shutil.copytree(dataset, tmp_path / "copy")
    source, moved, other = (
        open_rows(str(path), ("calibrated",), archive_px=512)
        for path in (dataset, tmp_path / "copy", tmp_path / "PNG")
    )
    digest = source.digest(source.splits)
    assert moved.digest(moved.splits) == digest
    assert other.digest(other.splits) != digest  # only the images differ
    id = min(source.meshes)
    corrected = source.meshes[id].copy()
    corrected.invert()
    assert (
        replace(source, open_meshes=lambda: (dict(source.meshes) | {id: corrected}, {})).digest(source.splits)
        != digest
    )


def test_a_model_predicts_the_same_for_an_archive_and_its_data_set_and_runs_once(tiny, tmp_path):
    """Frames of the archive are corrected to the model's size, whatever size they are registered at."""
    options = Options(size=64, encoding="png")
    dataset = convert_archive(
        tiny.root, tmp_path / "OUT", configs=("calibrated", "anatomies"), options=options, workers=1
    )
    sources = [open_rows(str(path), ("calibrated",), archive_px=512) for path in (tiny.root, dataset.output)]
    save_untrained(sources[0], tmp_path / "run")
    found = []
    for number, source in enumerate(sources):
        kept, calls = tmp_path / f"{number}.parquet", []
        chosen = source.of_split("train")
        model = StartingModel(str(tmp_path / "run"), source, chosen)
        for _ in range(2):
            starts = model.starts(kept, lambda *numbers, calls=calls: calls.append(numbers))
        assert calls == [(len(chosen["train"]), len(chosen["train"]))]
        found.append(starts)
        assert len(found[-1]) == len(chosen["train"])
    assert found[0].keys() == found[1].keys()
    for id, poses in found[0].items():
        for part, pose in poses.items():
            np.testing.assert_allclose(pose["translation_mm"], found[1][id][part]["translation_mm"], atol=1e-3)


def test_progress_of_a_model_is_complete_also_if_the_last_frame_cannot_be_read(archive, tmp_path):
    damaged = tmp_path / "archive"
    shutil.copytree(archive, damaged)
    source = open_rows(str(damaged), ("calibrated",), archive_px=512)
    save_untrained(source, tmp_path / "run")
    split, frames = next(iter(source.splits.items()))
    chosen = {split: frames.taken(range(3))}
    first, *last = chosen[split].table("measurement_id")["measurement_id"].to_pylist()
    for row in VeriserumArchive(damaged).frames.to_pylist():
        if row["measurement_id"] in last:
            Path(row["path_fs"]).write_bytes(b"")
    calls = []
    model = StartingModel(str(tmp_path / "run"), source, chosen)
    starts = model.starts(tmp_path / "starts.parquet", lambda *numbers: calls.append(numbers))
    assert calls[-1] == (3, 3) and starts.keys() == {first}
