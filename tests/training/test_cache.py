"""A cache of decoded images: the same samples as without, kept whole, found by content, and refused if damaged."""

import shutil
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch

from tests.inference.test_any_camera import SIZE, rows
from tests.training.runs import run
from tests.training.test_loaders import EPOCH, assert_same, loaded
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import TrainingError
from veriserum_hf.training import cache as caches, loaders
from veriserum_hf.training.cache import cached
from veriserum_hf.training.samples import FrameSamples


@pytest.fixture(scope="module")
def any_rows():
    """Two planes or one, of several sizes."""
    return datasets.Dataset.from_list(rows(), features=Options(config="calibrated", encoding="png").features)


def made(any_rows, folder, size=SIZE):
    return cached(any_rows, size, folder, FrameSamplesOnce(any_rows, size))


class FrameSamplesOnce:
    """Samples of rows; how often they were read is counted."""

    read = 0

    def __init__(self, some_rows, size):
        self.samples = FrameSamples(some_rows, size=size)

    def __iter__(self):
        FrameSamplesOnce.read += 1
        return (self.samples[index] for index in range(len(self.samples)))


@pytest.fixture(autouse=True)
def _count():
    FrameSamplesOnce.read = 0


def test_samples_are_those_of_the_rows(any_rows, tmp_path):
    found, expected = made(any_rows, tmp_path), FrameSamples(any_rows, size=SIZE)
    assert len(found) == len(expected) == 5
    for index in range(5):
        one, other = found[index], expected[index]
        assert list(one) == list(other)
        for name in one.keys() - {"task"}:
            values = one[name] if isinstance(one[name], dict) else {"": one[name]}
            others = other[name] if isinstance(other[name], dict) else {"": other[name]}
            for part, value in values.items():
                assert value.dtype == others[part].dtype
                assert torch.equal(value.nan_to_num(-1), others[part].nan_to_num(-1))
        assert one["task"] == other["task"]


def test_it_is_made_once_for_the_same_content(any_rows, tmp_path):
    made(any_rows, tmp_path)
    made(any_rows.select(range(5)), tmp_path)
    assert FrameSamplesOnce.read == 1
    (folder,) = tmp_path.iterdir()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    others = any_rows.map(lambda row: row | {"measurement_id": row["measurement_id"] + 10})
    for some, size in ((others, SIZE), (any_rows, 96), (any_rows.select([1, 0, 2, 3, 4]), SIZE)):
        made(some, tmp_path, size)
    assert FrameSamplesOnce.read == 4 and len(list(tmp_path.iterdir())) == 4
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_error_while_it_is_made_leaves_nothing(any_rows, tmp_path):
    def broken():
        yield FrameSamples(any_rows, size=SIZE)[0]
        raise TrainingError("measurement 2 cannot be used")

    with pytest.raises(TrainingError, match=r"^measurement 2 cannot be used$"):
        cached(any_rows, SIZE, tmp_path, broken())
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_refused_before(any_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=20_000))
    with pytest.raises(
        TrainingError, match=r"the cache of these frames takes 0\.0 GB, but .* has 0\.0 GB left: free"
    ):
        made(any_rows, tmp_path)
    assert FrameSamplesOnce.read == 0 and not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to(any_rows, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=f"^cannot write {tmp_path}/file/"):
        made(any_rows, tmp_path / "file")


@pytest.mark.parametrize(("name", "place"), [("images.bin", 70), ("images.bin", -1), ("samples.npz", 700)])
@pytest.mark.parametrize("how", ["changed", "cut", "removed"])
def test_damage_is_reported(any_rows, tmp_path, name, place, how):
    whole = made(any_rows, tmp_path)
    (folder,) = tmp_path.iterdir()
    path = folder / name
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(content if how == "changed" else content[:place])
    del whole
    with pytest.raises(TrainingError, match=f"^the cache {folder} is damaged: .* Remove this folder; the next"):
        again = made(any_rows, tmp_path)
        for index in range(len(again)):
            again[index]
    shutil.rmtree(folder)
    made(any_rows, tmp_path)


def test_the_checksum_notices_every_byte():
    image = np.random.default_rng(0).integers(1, 256, (45, 45), dtype=np.uint8)
    for index in range(image.size):
        changed = image.copy()
        changed.reshape(-1)[index] ^= 1 << index % 8
        assert caches._checksum(changed) != caches._checksum(image)
    assert caches._checksum(np.zeros_like(image)) != caches._checksum(image)


def test_batches_are_the_same_with_a_cache_and_by_any_process(dataset, tmp_path):
    plain = loaded(dataset, num_workers=0)
    assert_same(loaded(dataset, num_workers=0, cache=str(tmp_path)), plain)
    # Another process reads what the first has made, from within an epoch on.
    assert_same(loaded(dataset, (1, 2), EPOCH, num_workers=2, cache=str(tmp_path)), plain[EPOCH + 2 : 2 * EPOCH + 2])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_gpu_augments_whole_batches_to_the_same_grey_levels(dataset, monkeypatch):
    """By its code, on the CPU."""
    plain = loaded(dataset, num_workers=0, count=3)
    monkeypatch.setattr(loaders, "_changes_batches", lambda device: True)
    found = loaded(dataset, num_workers=0, count=3)
    assert found[0].keys() == plain[0].keys()
    assert_same(found, plain)


def test_a_run_with_a_cache(config, dataset, tmp_path):
    settings = ("--config", config, "--dataset", dataset, "--max_train_steps", 2, "--cache", tmp_path / "cache")
    run("train", *settings, "--output_dir", tmp_path / "run")
    assert len(list((tmp_path / "cache").iterdir())) == 2  # training and validation
    images = max((tmp_path / "cache").glob("*/images.bin"), key=lambda path: path.stat().st_size)
    content = bytearray(images.read_bytes())
    for place in range(0, len(content), 1000):
        content[place] ^= 1
    images.write_bytes(content)
    _, errors = run("train", *settings, "--output_dir", tmp_path / "again", status=2)
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: the cache {images.parent} is damaged: image ") and "Traceback" not in errors
