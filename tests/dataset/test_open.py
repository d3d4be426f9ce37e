"""Data sets are loaded without torch, and errors name what is missing."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.commands import WITHOUT_TORCH
from tests.jobs.processes import run_here
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import DataSetError

_OPEN_WITHOUT_TORCH = f"""{WITHOUT_TORCH}
import veriserum_hf.poses.files, veriserum_hf.geometry.joint
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


CARDS = {
    "a missing shard": lambda card, folder: next(folder.glob("calibrated/train-*")).unlink() or card,
    "a renamed split": lambda card, folder: card.replace("calibrated/test", "calibrated/exam"),
    "files outside": lambda card, folder: card.replace("path: calibrated/", "path: ../../outside/"),
    "an address": lambda card, folder: card.replace("path: calibrated/", "path: http://127.0.0.1:9/"),
    "a list of names": lambda card, folder: card.replace("- config_name: calibrated", "- config_name: [calibrated]"),
    "configurations that are a number": lambda card, folder: card.replace("configs:", "configs: 3\nx:"),
    "an unknown type": lambda card, folder: card.replace("dtype: int64", "dtype: nothing"),
    "a list": lambda card, folder: "---\n- 1\n---\n",
    "broken YAML": lambda card, folder: "---\n: [\n---\n",
    "deep nesting": lambda card, folder: f"---\n{'[' * 5000}\n---\n",
    "other numbers of rows": lambda card, folder: card.replace("num_examples: ", "num_examples: 9"),
}


@pytest.fixture
def out(dataset, tmp_path, monkeypatch):
    """A copy to damage, which is not loaded from the cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return shutil.copytree(dataset, tmp_path / "OUT")


@pytest.mark.parametrize("damage", CARDS)
@pytest.mark.parametrize("several", [False, True], ids=["predict", "register"])
def test_a_card_that_is_not_as_converted_is_an_error_of_the_data_set(out, damage, several):
    card = out / "README.md"
    card.write_text(CARDS[damage](card.read_text(), out))
    with pytest.raises(DataSetError, match=rf"^cannot load .*{out.name}"):
        if several:
            open_rows(str(out), ("calibrated",), archive_px=64)
        else:
            open_rows(str(out), "calibrated")


def test_rows_without_an_id_are_refused(out):
    shard = next(out.glob("calibrated/train-*"))
    table = pq.read_table(shard)
    ids = pa.array([None, *table["measurement_id"].to_pylist()[1:]], pa.int64())
    pq.write_table(table.set_column(table.column_names.index("measurement_id"), "measurement_id", ids), shard)
    with pytest.raises(DataSetError, match=r"calibrated train: 1 rows have no measurement_id, expected one in each"):
        open_rows(str(out), "calibrated")


def test_a_damaged_shard_of_a_stream_is_an_error_of_the_data_set(out):
    for shard in (next(out.glob("calibrated/train-*")), next(out.glob("anatomies/*.parquet"))):
        content = shard.read_bytes()
        shard.write_bytes(content[:4] + bytes(byte ^ 255 for byte in content[4:-4000]) + content[-4000:])
    with pytest.raises(DataSetError, match=r"a shard cannot be read: .*\. Copy or convert the data set again"):
        list(open_rows(str(out), "calibrated", streaming=True).splits["train"].files())
    with pytest.raises(DataSetError, match=r"cannot read the meshes of|cannot load .* anatomies"):
        print(open_rows(str(out), "calibrated", streaming=True).meshes)


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
