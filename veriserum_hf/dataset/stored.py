"""Frames of a converted data set, on this machine or the hub: with random access, or streamed."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self, TypeVar

import datasets
import numpy as np
import pyarrow as pa

from veriserum_hf.archive import decode_frame, highest_level, white_level
from veriserum_hf.calibration import RefinedCameras
from veriserum_hf.core import (
    CAMERA_OF,
    COMPONENTS,
    IMAGE_OF,
    PLANES,
    FileRow,
    FrameRow,
    Grey,
    ImageFile,
    masked,
)
from veriserum_hf.dataset.frames import IDS, Frames, is_raw
from veriserum_hf.dataset.image_files import decoded_image
from veriserum_hf.dataset.replaced_cameras import with_cameras
from veriserum_hf.errors import DataSetError, FrameError

_AT_ONCE = 64  # rows whose images are held to be hashed
_METADATA = (*IDS, "task", *CAMERA_OF.values(), *COMPONENTS)
_JPEG = b"\xff\xd8\xff"
_SAMPLED_ROWS = 16
_Opened = TypeVar("_Opened", datasets.Dataset, datasets.IterableDataset)


@dataclass(frozen=True, eq=False)
class StoredFrames(Frames):
    """Frames with random access.

    Attributes
    ----------
    rows : of ``load_dataset``.

    """

    rows: datasets.Dataset

    @property
    def column_names(self) -> list[str]:
        """Fields of a row."""
        names: list[str] = self.rows.column_names
        return names

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def table(self, *names: str) -> pa.Table:
        """Return some columns of every row; images are not read."""
        return self.rows.select_columns(list(names)).with_format("arrow")[:]

    def taken(self, indices: Sequence[int]) -> "StoredFrames":
        """Return these rows in this order."""
        return StoredFrames(self.rows.select(indices))

    def at_size(self, size: int) -> "StoredFrames":
        """Return the frames unchanged: their images have the size of the conversion."""
        return self

    def with_cameras(self, cameras: RefinedCameras) -> Self:
        """Return the frames with refined cameras, where their trial has some; CalibrationError if they are others."""
        table = with_cameras(self.table("measurement_id", "trial_id", *CAMERA_OF.values()), cameras)
        rows, features = self.rows, self.rows.features
        for name in CAMERA_OF.values():
            rows = rows.remove_columns(name).add_column(name, table[name].to_pylist(), feature=features[name])
        return replace(self, rows=rows.select_columns(list(features)))

    def read(self) -> Iterator[FrameRow | FrameError]:
        """Every row with its images as arrays, or why they cannot be read."""
        rows = files_of(self.rows)
        for index in range(len(rows)):
            try:
                row: FileRow = rows[index]
                found: FrameRow | FrameError = decoded(row)
            except FrameError as error:
                found = error
            except (OSError, ValueError) as error:  # pyarrow's are one of these
                found = FrameError("unreadable", str(error))
            yield found

    def digest(self) -> str:
        """Hash of the input of a registration: ids, cameras, poses and the images' files."""
        digest = hashlib.sha256(json.dumps(self.table(*_METADATA).to_pylist()).encode())
        images = self.rows.select_columns(list(IMAGE_OF.values())).with_format("arrow")
        for batch in images.iter(_AT_ONCE):
            for name in IMAGE_OF.values():
                for image in batch[name].to_pylist():
                    content = b"" if image is None else image["bytes"]
                    digest.update(b"%d|" % len(content) + content)
        return digest.hexdigest()

    @cached_property
    def white_level(self) -> int:
        """White level of raw frames of 16 bits: that of their conversion, or estimated as for an archive's files."""
        if "white_level" in self.column_names and len(self):
            return int(self.rows[0]["white_level"])
        sample = range(0, len(self), max(1, len(self) // _SAMPLED_ROWS))
        deep = []
        for row in files_of(self.rows.select(sample)):
            for plane in PLANES:
                file: ImageFile | None = row[IMAGE_OF[plane]]
                if file is None or file["bytes"].startswith(_JPEG):  # 8 bits
                    continue
                try:
                    frame = decode_frame(file["bytes"])
                except FrameError:  # reported when the row is read
                    continue
                if frame.dtype == np.uint16:
                    deep.append(highest_level(frame))
        return white_level(deep) if deep else 255


@dataclass(frozen=True, eq=False)
class StreamedFrames:
    """Frames that are read on demand, and never stored.

    Attributes
    ----------
    rows : of ``load_dataset(..., streaming=True)``.
    where : a column and its value: other rows are skipped; None for all rows.

    """

    rows: datasets.IterableDataset
    where: tuple[str, int] | None = None

    @property
    def column_names(self) -> list[str]:
        """Fields of a row."""
        names: list[str] = self.rows.column_names
        return names

    def files(self) -> Iterator[FileRow]:
        """Every row with the files of its images, for `decoded`; DataSetError where a shard cannot be read."""
        rows = files_of(self.rows)
        if self.where is not None:
            column, value = self.where
            rows = rows.filter(lambda row: row[column] == value)
        try:
            yield from rows
        except (OSError, ValueError, TypeError, pa.ArrowException, datasets.exceptions.DatasetsError) as error:
            why = " ".join(masked(str(error)).split()).rstrip(".")
            raise DataSetError(f"a shard cannot be read: {why}. Copy or convert the data set again") from error


def decoded(row: FileRow) -> FrameRow:
    """The same row with its images decoded; FrameError if one cannot be, which it names, or an id is null."""
    if missing := [name for name in IDS if row.get(name, 0) is None]:  # as in an Arrow file without that column
        raise FrameError("unreadable", f"{' and '.join(missing)} is null, expected a whole number")
    raw = is_raw(row.keys())
    bs, fs = (_decoded(row[IMAGE_OF[plane]], IMAGE_OF[plane], raw=raw) for plane in PLANES)
    found: FrameRow = row | {"image_bs": bs, "image_fs": fs}  # type: ignore[assignment]
    return found


def _decoded(file: ImageFile | None, name: str, *, raw: bool) -> Grey | None:
    if not file:
        return None
    try:
        return decode_frame(file["bytes"]) if raw else decoded_image(file)
    except FrameError as error:
        raise FrameError(error.reason, f"{name}: {error.detail}") from error


def concatenated(parts: Sequence[StoredFrames]) -> StoredFrames:
    """Frames of several splits, concatenated."""
    return StoredFrames(datasets.concatenate_datasets([part.rows for part in parts]))


def files_of(rows: _Opened) -> _Opened:
    """The same rows with the files of their images instead of the images."""
    for name in IMAGE_OF.values():
        rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows
