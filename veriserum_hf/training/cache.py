"""A cache of a data set's samples, decoded once: images as plain bytes in one file, which every process maps.

A cache is a folder below the one that is given, named by a hash of what shapes it: ids, cameras, poses and image
files of the rows, the size of the images, and the modules that decode and fit them. Another data set, another size or
another version makes another cache; nothing is ever changed in one. It is written under another name, and renamed
when it is whole.
"""

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from veriserum_hf.core import CAMERA_OF, IMAGE_OF, PLANES
from veriserum_hf.dataset import StoredFrames
from veriserum_hf.errors import TrainingError
from veriserum_hf.jobs import atomic_path, source_hash, writing
from veriserum_hf.training.batches import Cameras, Sample

_IMAGES, _SAMPLES = "images.bin", "samples.npz"
# What shapes a sample in addition to its row.
_SOURCES = (
    "dataset.image_files",
    "dataset.stored",
    "training.batches",
    "training.cache",
    "modeling.canvas_veriserum",
)
_MOST_LEFT = 1.02  # bytes on the disk for one of images: the rest of the samples, and names of files
_NONE = -1  # instead of the number of an image


class _Table(NamedTuple):
    """All of n samples except the images, as arrays.

    Attributes
    ----------
    image : (n, 2) int64 number of the image of each plane, -1 where there is none.
    intrinsics, world_to_camera : (n, 2, 3, 3) and (n, 2, 4, 4) float64; zero where there is no image.
    anatomy_id, labels : (n, 2) int64 and (n, 2, 4, 4) float64.
    measurement_id, trial_id, task : (n,) int64 and text.
    checksum : (images,) uint64 of `_checksum`.

    """

    image: NDArray[np.int64]
    intrinsics: NDArray[np.float64]
    world_to_camera: NDArray[np.float64]
    anatomy_id: NDArray[np.int64]
    labels: NDArray[np.float64]
    measurement_id: NDArray[np.int64]
    trial_id: NDArray[np.int64]
    task: NDArray[np.str_]
    checksum: NDArray[np.uint64]


class SampleCache:
    """Samples of a data set in a folder, in the order of its rows, as `veriserum_hf.training.batches.sample_of`.

    Parameters
    ----------
    folder : that `cached` has made.
    size : edge N of the images, px.

    Raises
    ------
    TrainingError
        If files are missing, incomplete or damaged.

    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        try:
            with np.load(folder / _SAMPLES) as file:  # compares checksums of its own
                self._table = _Table(**{name: file[name] for name in _Table._fields})
            expected, found = len(self._table.checksum) * size**2, (folder / _IMAGES).stat().st_size
        except (OSError, ValueError, KeyError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
            raise self._damaged(str(error)) from error
        if found != expected:
            raise self._damaged(f"{_IMAGES} has {found} bytes, expected {expected}")
        self._images: NDArray[np.uint8] | None = None  # mapped by each process that reads

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._table.task)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample; TrainingError if an image is damaged."""
        table, sample = self._table, Sample()
        for plane, number in enumerate(table.image[index].tolist()):
            if number == _NONE:
                continue
            sample[IMAGE_OF[PLANES[plane]]] = self._image(number)
            sample[CAMERA_OF[PLANES[plane]]] = Cameras(
                intrinsics=torch.from_numpy(table.intrinsics[index, plane]),
                world_to_camera=torch.from_numpy(table.world_to_camera[index, plane]),
            )
        for name in ("anatomy_id", "labels"):
            sample[name] = torch.from_numpy(getattr(table, name)[index])
        for name in ("measurement_id", "trial_id"):
            sample[name] = torch.tensor(getattr(table, name)[index])
        return sample | {"task": str(table.task[index])}

    def _image(self, number: int) -> torch.Tensor:
        """Image (1, N, N), compared with its checksum."""
        if self._images is None:
            count = len(self._table.checksum)
            self._images = np.memmap(self._folder / _IMAGES, mode="r", shape=(count, self._size, self._size))
        image = np.array(self._images[number])
        if _checksum(image) != self._table.checksum[number]:
            raise self._damaged(f"image {number} of {_IMAGES} is not the one that was written")
        return torch.from_numpy(image)[None]

    def _damaged(self, why: str) -> TrainingError:
        return TrainingError(
            f"the cache {self._folder} is damaged: {why}. Remove this folder; the next training makes it again"
        )


def cached(rows: datasets.Dataset, size: int, folder: Path, samples: Iterable[Sample]) -> SampleCache:
    """The cache of a data set's rows below a folder; it is made if it is not there.

    Parameters
    ----------
    rows : of ``load_dataset``.
    size : edge N of the images, px.
    folder : that holds caches.
    samples : of all rows in their order, read only if the cache is to be made.

    Raises
    ------
    TrainingError
        If a sample cannot be made, the disk has no room for the cache or cannot be written to, or the cache that is
        there is damaged.

    """
    frames = StoredFrames(rows)
    shaped_by = [frames.digest(), size, source_hash(*_SOURCES)]
    target = folder.expanduser().absolute() / hashlib.sha256(json.dumps(shaped_by).encode()).hexdigest()[:16]
    if not target.exists():
        with writing(target, TrainingError):
            target.parent.mkdir(parents=True, exist_ok=True)
            _check_room(target.parent, _image_count(frames) * size**2)
            with atomic_path(target) as temporary:
                temporary.mkdir()
                _write(temporary, tqdm(samples, desc="caching", unit="frame", total=len(rows)))
    return SampleCache(target, size)


def _image_count(frames: StoredFrames) -> int:
    table = frames.table(*CAMERA_OF.values())
    return sum(len(table) - table[name].null_count for name in CAMERA_OF.values())


def _check_room(folder: Path, images_bytes: int) -> None:
    needed, free = _MOST_LEFT * images_bytes, shutil.disk_usage(folder).free
    if needed > free:
        raise TrainingError(
            f"the cache of these frames takes {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB left: free "
            "disk space, choose another folder, or train without cache"
        )


def _write(folder: Path, samples: Iterable[Sample]) -> None:
    rows: list[dict[str, object]] = []
    checksums: list[int] = []
    with (folder / _IMAGES).open("xb") as file:
        for sample in samples:
            image = np.full(len(PLANES), _NONE)
            intrinsics, world_to_camera = np.zeros((len(PLANES), 3, 3)), np.zeros((len(PLANES), 4, 4))
            for plane, name in enumerate(PLANES):
                if IMAGE_OF[name] not in sample:
                    continue
                levels, camera = sample[IMAGE_OF[name]].numpy(), sample[CAMERA_OF[name]]
                image[plane] = len(checksums)
                checksums.append(_checksum(levels))
                file.write(levels.tobytes())
                intrinsics[plane], world_to_camera[plane] = camera["intrinsics"], camera["world_to_camera"]
            ids = {name: np.asarray(sample[name]) for name in ("anatomy_id", "labels", "measurement_id", "trial_id")}
            arrays = {"image": image, "intrinsics": intrinsics, "world_to_camera": world_to_camera}
            rows.append(ids | arrays | {"task": sample["task"]})
    columns = {name: np.array([row[name] for row in rows]) for name in _Table._fields if name != "checksum"}
    np.savez(folder / _SAMPLES, allow_pickle=False, checksum=np.array(checksums, np.uint64), **columns)


def _checksum(image: NDArray[np.uint8]) -> int:
    """Sum of an image's bytes in words of 8, modulo 2^64: a tenth of the time of a CRC."""
    data = image.reshape(-1)
    whole = len(data) // 8 * 8
    words = data[:whole].view(np.uint64)
    with np.errstate(over="ignore"):
        return int(words.sum(dtype=np.uint64) + data[whole:].sum(dtype=np.uint64))
