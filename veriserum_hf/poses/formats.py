"""Tables of poses as Parquet and as CSV, by the suffix of the file; their rows are not checked here."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from veriserum_hf.errors import TrainingError
from veriserum_hf.jobs import parquet_bytes, write_file
from veriserum_hf.poses.csv_poses import csv_of_poses, read_csv_poses
from veriserum_hf.poses.schema import CSV_SUFFIX, TRAJECTORY_SUFFIXES

_MOST_POSES = 500_000  # twice those of the data set, with its manual ones


def read_table(path: Path) -> pa.Table:
    """Table of a Parquet file of poses, or of a CSV whose name ends in .csv.

    Raises
    ------
    TrainingError
        If there is no such file, it is of another format, or it holds too many poses.

    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise TrainingError(f"there is no file {path}; expected the Parquet file of `veriserum predict` or the like")
    if suffix in TRAJECTORY_SUFFIXES:
        raise TrainingError(
            f"{path} holds poses of one implant without ids; make a Parquet or CSV file of it with "
            "`veriserum poses convert`"
        )
    return read_csv_poses(path, _MOST_POSES) if suffix == CSV_SUFFIX else _read_parquet(path)


def write_poses(path: Path, poses: pa.Table) -> None:
    """Write poses as CSV where the name ends in .csv, otherwise as Parquet; the file appears whole or not at all.

    Raises
    ------
    TrainingError
        If a CSV cannot hold a column.

    """
    is_csv = path.suffix.lower() == CSV_SUFFIX
    write_file(path, csv_of_poses(poses) if is_csv else parquet_bytes(poses))


def _read_parquet(path: Path) -> pa.Table:
    try:
        count = pq.read_metadata(path).num_rows
        if count > _MOST_POSES:
            raise TrainingError(f"{path} holds {count:,} poses, expected at most {_MOST_POSES:,} of one data set")
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise TrainingError(
            f"{path} cannot be read as Parquet: {error}. Expected what `veriserum predict` or `veriserum register` "
            "writes, an archive's truth.parquet, or a CSV of poses whose name ends in .csv"
        ) from error
