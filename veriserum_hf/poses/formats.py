"""Tables of poses as Parquet and as CSV, by the suffix of the file; their rows are not checked here."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from veriserum_hf.errors import TrainingError
from veriserum_hf.jobs import parquet_bytes, write_file
from veriserum_hf.poses.csv_poses import csv_of_poses, read_csv_poses
from veriserum_hf.poses.schema import CSV_SUFFIX, TRAJECTORY_SUFFIXES

_PARQUET = b"PAR1"  # begins such a file
_MOST_POSES = 500_000  # twice those of the data set, with its manual ones


def read_table(path: Path) -> pa.Table:
    """Table of a Parquet file of poses, or of a CSV whose name ends in .csv.

    Raises
    ------
    TrainingError
        If there is no such file, it is of another format, or it holds too many poses.

    """
    if not path.is_file():
        raise TrainingError(f"there is no file {path}; expected the Parquet file of `veriserum predict` or the like")
    if path.suffix.lower() in TRAJECTORY_SUFFIXES:
        raise TrainingError(
            f"{path} holds poses of one implant without ids; make a Parquet or CSV file of it with "
            "`veriserum poses convert`"
        )
    try:
        return read_csv_poses(path, _MOST_POSES) if is_csv(path) else _read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise TrainingError(
            f"{path} cannot be read as Parquet: {error}. Expected what `veriserum predict` or `veriserum register` "
            "writes, an archive's truth.parquet, or a CSV of poses whose name ends in .csv"
        ) from error


def is_csv(path: Path) -> bool:
    """Whether a file of poses is CSV: its name ends so, and it is not Parquet of that name."""
    if path.suffix.lower() != CSV_SUFFIX:
        return False
    with path.open("rb") as file:
        return file.read(len(_PARQUET)) != _PARQUET


def write_poses(path: Path, poses: pa.Table) -> None:
    """Write poses as CSV where the name ends in .csv, otherwise as Parquet; the file appears whole or not at all.

    Raises
    ------
    TrainingError
        If a CSV cannot hold a column.

    """
    write_file(path, csv_of_poses(poses) if path.suffix.lower() == CSV_SUFFIX else parquet_bytes(poses))


def _read_parquet(path: Path) -> pa.Table:
    count = pq.read_metadata(path).num_rows
    if count > _MOST_POSES:
        raise TrainingError(f"{path} holds {count:,} poses, expected at most {_MOST_POSES:,} of one data set")
    return pq.read_table(path)
