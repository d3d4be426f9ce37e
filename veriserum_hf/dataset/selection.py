"""What pictures are made from: frames of a data set by their place, id or trial; without torch."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import datasets

from veriserum_hf.core import PLANES
from veriserum_hf.dataset.load import ALL, choose_splits, stream_splits
from veriserum_hf.errors import VeriserumError

Row = dict[str, Any]
_IMAGES = tuple(f"image_{plane}" for plane in PLANES)


def load_row(dataset: str, config: str, split: str, number: int) -> Row:
    """Row ``number`` of a split, images decoded.

    Parameters
    ----------
    dataset : folder that ``veriserum convert`` made, or a data set on the hub.
    config : calibrated, manual or target.
    split : one that it has, or all, one after another.
    number : from 0.

    Raises
    ------
    VeriserumError
        If there is no such data set, configuration, split or row, or the rows hold no corrected images.

    """
    splits = _streamed(dataset, config, split).values()
    rows = chain.from_iterable(_undecoded(each, config) for each in splits)
    found = next(islice(rows, number, None), None)
    if found is None:
        raise VeriserumError(f"{dataset} {config} {split} has no row {number}")
    return next(decoded([found]))


def load_measurement(dataset: str, config: str, split: str | None, measurement_id: int) -> Row:
    """Row of a measurement, images decoded; parameters and errors as `load_trial`."""
    found = _matching(dataset, config, split, "measurement_id", measurement_id)
    return next(decoded(found))


def load_trial(dataset: str, config: str, split: str | None, trial_id: int) -> list[Row]:
    """Rows of a trial in the order of its frames, images as their files' bytes, see `decoded`.

    Parameters
    ----------
    dataset, config : as `load_row`.
    split : to look in; None for all.
    trial_id : of the rows.

    Raises
    ------
    VeriserumError
        If there is no such data set, configuration, split or trial, or the rows hold no corrected images.

    """
    found = _matching(dataset, config, split, "trial_id", trial_id)
    return sorted(found, key=lambda row: int(row["frame_index"]))


def decoded(rows: Iterable[Row]) -> Iterator[Row]:
    """The same rows with their images decoded, one at a time."""
    image = datasets.Image()
    for row in rows:
        try:
            yield row | {name: image.decode_example(row[name]) for name in _IMAGES}
        # The kinds that Pillow raises where a file is damaged.
        except (OSError, SyntaxError, ValueError) as error:
            raise VeriserumError(f"measurement {row['measurement_id']} cannot be decoded: {error}") from error


def _matching(dataset: str, config: str, split: str | None, column: str, value: int) -> list[Row]:
    """All rows that have a value, from one or every split, images as their files' bytes."""
    splits = _streamed(dataset, config, split or ALL, where=(column, value))
    found: list[Row] = []
    for rows in splits.values():
        found += _undecoded(rows, config).filter(lambda row: row[column] == value)
    if not found:
        raise VeriserumError(
            f"{dataset} {config} has no {column.removesuffix('_id')} {value} in {', '.join(splits) or 'any split'}"
        )
    return found


def _undecoded(rows: Any, config: str) -> Any:
    """Rows of corrected images, each as its file's bytes; VeriserumError for other rows."""
    if "camera_bs" not in rows.column_names or "distortion_bs" in rows.column_names:
        raise VeriserumError(f"{config} holds no corrected images; choose calibrated, manual or target")
    for name in _IMAGES:
        rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows


def _streamed(
    dataset: str, config: str, split: str, where: tuple[str, int] | None = None
) -> dict[str, datasets.IterableDataset]:
    """Rows of one split or of all, see `veriserum_hf.dataset.load.stream_splits`."""
    return choose_splits(stream_splits(dataset, config, where), split, f"{dataset} {config}")
