"""Data sets are loaded where torch is not installed, and what is not there is said."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest

from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.load import load_meshes, load_split, load_split_or_all, load_splits, stream_splits
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import DataSetError

_WITHOUT_TORCH = """
import sys

class Finder:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Finder)

from veriserum_hf.dataset.load import load_meshes, load_split_or_all
from veriserum_hf.evaluation.metrics import sample_points
from veriserum_hf.reports import sources
from veriserum_hf.dataset import selection
print(len(load_split_or_all(sys.argv[1], "calibrated", "all")), len(sample_points(load_meshes(sys.argv[1]))))
"""


@pytest.fixture(scope="module")
def dataset(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "OUT"
    return str(convert_archive(tiny.root, folder, options=Options(size=64), workers=1).output)


def test_all_is_every_split_one_after_another(dataset):
    splits = load_splits(dataset, "calibrated")
    every = load_split_or_all(dataset, "calibrated", "all")["measurement_id"]
    assert list(every) == [id for rows in splits.values() for id in rows["measurement_id"]]
    for name, rows in splits.items():
        for same in (load_split_or_all, load_split):
            assert list(same(dataset, "calibrated", name)["measurement_id"]) == list(rows["measurement_id"])


def test_streamed_rows_are_the_same(dataset):
    stored, streamed = load_splits(dataset, "calibrated"), stream_splits(dataset, "calibrated")
    assert stored.keys() == streamed.keys()
    assert list(stored["test"]) == list(streamed["test"])
    own, other = load_meshes(dataset), load_meshes(dataset, streaming=True)
    assert own.keys() == other.keys()
    for id, mesh in own.items():
        np.testing.assert_array_equal(mesh.vertices, other[id].vertices)


@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_not_there_is_said(dataset, tmp_path, streaming):
    with pytest.raises(DataSetError, match=r"^cannot load the split tset of .* Expected a folder that"):
        load_split(dataset, "calibrated", "tset", streaming=streaming)
    with pytest.raises(DataSetError, match=r"^cannot load .*none anatomies: .* its README\.md tells its splits and"):
        load_meshes(str(tmp_path / "none"), streaming=streaming)


def test_data_sets_are_loaded_where_torch_is_not_installed(dataset):
    command = [sys.executable, "-c", _WITHOUT_TORCH, dataset]
    # Where torch is installed, datasets looks for it; this tells it not to.
    environment = os.environ | {"USE_TORCH": "0"}
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    frames, implants = map(int, printed.split())
    assert frames == len(load_split_or_all(dataset, "calibrated", "all")) and implants == len(load_meshes(dataset))


def test_a_folder_that_was_converted_again_is_not_loaded_from_the_cache(tiny, tmp_path):
    archive, out = tmp_path / "archive", tmp_path / "OUT"
    shutil.copytree(tiny.root, archive)
    convert_archive(archive, out, workers=1)
    before = load_splits(str(out), "calibrated")["train"][0]["femur"]["translation_mm"]
    shutil.rmtree(out)
    (database,) = archive.glob("*.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE poses SET tx = tx + 5")
    convert_archive(archive, out, workers=1)
    after = load_splits(str(out), "calibrated")["train"][0]["femur"]["translation_mm"]
    np.testing.assert_allclose(np.subtract(after, before), (5, 0, 0), atol=1e-9)
