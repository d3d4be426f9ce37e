"""Data sets are loaded without torch, and errors name what is missing."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import datasets
import numpy as np
import pytest

from tests.cli.commands import WITHOUT_TORCH
from tests.jobs.processes import run_here
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import DataSetError

_OPEN_WITHOUT_TORCH = f"""{WITHOUT_TORCH}
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.evaluation.metrics import sample_points
from veriserum_hf.reports import sources
from veriserum_hf.dataset import selection
rows = open_rows(sys.argv[1], "calibrated")
print(len(rows.joined("all")), len(sample_points(rows.meshes)))
"""


def ids(frames):
    return frames.table("measurement_id")["measurement_id"].to_pylist()


@pytest.fixture(scope="module")
def dataset(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "OUT"
    return str(convert_archive(tiny.root, folder, options=Options(size=64), workers=1).output)


def test_all_is_every_split_concatenated(dataset):
    rows = open_rows(dataset, "calibrated")
    assert ids(rows.joined("all")) == [id for frames in rows.splits.values() for id in ids(frames)]
    for name, frames in rows.splits.items():
        alone = open_rows(dataset, "calibrated", split=name)
        assert list(alone.splits) == [name]
        assert ids(alone.splits[name]) == ids(rows.joined(name)) == ids(frames)


def test_streamed_rows_are_the_same(dataset):
    stored, streamed = (open_rows(dataset, "calibrated", streaming=streaming) for streaming in (False, True))
    assert stored.splits.keys() == streamed.splits.keys()
    assert list(stored.splits["test"].rows) == list(streamed.splits["test"].rows)
    own, other = stored.meshes, streamed.meshes
    assert own.keys() == other.keys()
    for id, mesh in own.items():
        np.testing.assert_array_equal(mesh.vertices, other[id].vertices)


@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_missing_is_reported(dataset, tmp_path, streaming):
    with pytest.raises(DataSetError, match=r"^cannot load the split tset of .* Expected a folder that"):
        open_rows(dataset, "calibrated", split="tset", streaming=streaming)
    with pytest.raises(DataSetError, match=r"^cannot load .*none anatomies: .* its README\.md lists its splits and"):
        open_rows(str(tmp_path / "none"), "anatomies", streaming=streaming)


def test_data_sets_are_loaded_where_torch_is_not_installed(dataset):
    command = [sys.executable, "-c", _OPEN_WITHOUT_TORCH, dataset]
    # Where torch is installed, datasets looks for it; this prevents it.
    environment = os.environ | {"USE_TORCH": "0"}
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    frames, implants = map(int, printed.split())
    rows = open_rows(dataset, "calibrated")
    assert frames == len(rows.joined("all")) and implants == len(rows.meshes)


def test_a_folder_that_was_converted_again_is_not_loaded_from_the_cache(tiny, tmp_path):
    archive, out = tmp_path / "archive", tmp_path / "OUT"
    shutil.copytree(tiny.root, archive)
    convert_archive(archive, out, workers=1)
    before = open_rows(str(out), "calibrated").splits["train"].rows[0]["femur"]["translation_mm"]
    shutil.rmtree(out)
    (database,) = archive.glob("*.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE poses SET tx = tx + 5")
    convert_archive(archive, out, workers=1)
    after = open_rows(str(out), "calibrated").splits["train"].rows[0]["femur"]["translation_mm"]
    np.testing.assert_allclose(np.subtract(after, before), (5, 0, 0), atol=1e-9)


def test_a_path_is_not_looked_for_on_the_hub_and_a_hub_without_address_not_asked(tmp_path, monkeypatch):
    for name in (str(tmp_path / "nowhere"), "./nowhere", "nowhere"):
        with pytest.raises(DataSetError, match=r"there is no such folder, and on the hub: names there are ORG/NAME"):
            open_rows(name, "calibrated")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "htp://user:secret@hub")
    for opened in ("calibrated", ("calibrated",)):
        with pytest.raises(DataSetError, match=r"'htp://\*\*\*@hub' is not the address of a hub"):
            open_rows("my-lab/knees", opened, **({} if opened == "calibrated" else {"archive_px": 64}))


@pytest.mark.parametrize("name", ["knees [1]", "a*?", "-#%20 \u00fc", "a\nb"])
@pytest.mark.parametrize("streaming", [False, True], ids=["stored", "streamed"])
def test_a_folder_may_have_any_name(dataset, tmp_path, monkeypatch, name, streaming):
    shutil.copytree(dataset, tmp_path / name)
    rows = open_rows(str(tmp_path / name), "calibrated", streaming=streaming)
    assert sorted(rows.splits) == sorted(open_rows(dataset, "calibrated", streaming=streaming).splits)
    assert rows.meshes


def test_a_name_that_the_library_cannot_load_is_reported(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "a::b")
    with pytest.raises(DataSetError, match=r"takes :: in a path for a file within another one\. Rename the folder"):
        open_rows(str(tmp_path / "a::b"), "calibrated")


def test_a_cache_that_cannot_be_written_to_is_named(dataset, tmp_path, monkeypatch):
    (tmp_path / "home").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
    with pytest.raises(DataSetError, match=r"home/datasets, cannot be written to: .* Set HF_HOME to a folder"):
        open_rows(dataset, "calibrated")


def test_convert_says_that_others_cannot_load_a_folder_of_this_name(tiny, tmp_path):
    ran = run_here("convert", tiny.root, tmp_path / "a[1]", "--config", "anatomies", "--workers", 1)
    assert ran.returncode == 0 and "rename the folder before you load it with anything but" in ran.stderr
