"""Rows to draw: of a stream, by number or by an id."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from veriserum_hf.core import FileRow, FrameRow
from veriserum_hf.dataset.rows import ALL, Rows
from veriserum_hf.dataset.splits import SPLITS
from veriserum_hf.dataset.stored import StreamedFrames, decoded
from veriserum_hf.errors import FrameError, VeriserumError


def row_at(rows: Rows[StreamedFrames], split: str | None, number: int) -> FileRow:
    """Row ``number`` (from 0) of a split, or of all splits in sequence.

    Parameters
    ----------
    rows : to look in.
    split : name of it; None for the first that there is, as train, validation, test.
    number : of the row.

    Raises
    ------
    VeriserumError
        If there is no such split or row, or the rows hold no corrected images.

    """
    if split is None:
        split = next((name for name in SPLITS if name in rows.splits), next(iter(rows.splits), ALL))
    every = chain.from_iterable(frames.files() for frames in rows.checked().of_split(split).values())
    found = next(islice(every, number, None), None)
    if found is None:
        raise VeriserumError(f"{rows.name} {split} has no row {number}")
    return found


def rows_found(rows: Rows[StreamedFrames], split: str | None) -> list[FileRow]:
    """All rows that were opened by an id, in the order of their frames.

    Parameters
    ----------
    rows : of `open_rows` with ``where``.
    split : to look in; None for all.

    Raises
    ------
    VeriserumError
        If there is no such split or row, or the rows hold no corrected images.

    """
    splits = rows.checked().of_split(split or ALL)
    found = [row for frames in splits.values() for row in frames.files()]
    if not found:
        column, value = rows.where or ("row", "")
        raise VeriserumError(
            f"{rows.name} has no {column.removesuffix('_id')} {value} in {', '.join(splits) or 'any split'}"
        )
    return sorted(found, key=lambda row: row["frame_index"])


def with_images(rows: Iterable[FileRow]) -> Iterator[FrameRow]:
    """The same rows with their images decoded, one at a time; VeriserumError names one that cannot be decoded."""
    for row in rows:
        try:
            yield decoded(row)
        except FrameError as error:
            raise VeriserumError(f"measurement {row['measurement_id']} cannot be decoded: {error.detail}") from error
