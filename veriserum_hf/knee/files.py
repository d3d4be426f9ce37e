"""Files of kinematics: CSV, Parquet, and OpenSim's .mot and .sto."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa

from veriserum_hf.core import listed
from veriserum_hf.errors import KinematicsError
from veriserum_hf.jobs import parquet_bytes, write_file
from veriserum_hf.knee.coordinates import COORDINATES
from veriserum_hf.knee.frames import counted

TABLE_SUFFIXES = (".csv", ".parquet")
OPENSIM_SUFFIXES = (".mot", ".sto")


def check_suffix(path: Path, suffixes: tuple[str, ...] = (*TABLE_SUFFIXES, *OPENSIM_SUFFIXES)) -> None:
    """Raise KinematicsError unless a file has one of these suffixes and its folder exists."""
    if path.suffix.lower() not in suffixes:
        raise KinematicsError(f"{path}: expected a name in {', '.join(suffixes)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise KinematicsError(f"{path}: expected a file in a folder that exists")


def write_kinematics(path: Path, table: pa.Table, *, all_verdicts: bool = False) -> None:
    """Write the table of `kinematics`, or of cycles, in the format that its suffix names; whole or not at all.

    Parameters
    ----------
    path : .csv, .parquet, .mot or .sto.
    table : to write; of one trial with known times for OpenSim.
    all_verdicts : for OpenSim, which knows no verdicts: write frames of every verdict, not only those that have
        converged. Smoothed values take the place of none: they are further columns.

    Raises
    ------
    KinematicsError
        If the suffix is another one, or OpenSim's formats cannot hold the table.

    """
    check_suffix(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        write_file(path, parquet_bytes(table))
    elif suffix == ".csv":
        write_file(path, _csv(table))
    else:
        write_file(path, _opensim(path, table, all_verdicts))


def _csv(table: pa.Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return text.getvalue()


def _opensim(path: Path, table: pa.Table, all_verdicts: bool) -> str:
    """Storage of OpenSim: a header, then time and columns by tabs, lengths in m. Frames in gaps have no row."""
    trials = sorted(set(table["trial_id"].to_pylist()), key=str)
    if len(trials) > 1:
        raise KinematicsError(
            f"{path} holds one trial, but the poses are of {len(trials)}: {listed(trials)}. Choose one with --trial, "
            "or write CSV or Parquet"
        )
    time_s = table["time_s"].to_numpy()
    if np.isnan(time_s).any():
        raise KinematicsError(f"{path} needs the time of every frame; give the frame rate with --frame-rate")
    groups = [COORDINATES, tuple(f"smoothed_{name}" for name in COORDINATES)]
    names = [name for group in groups for name in group if name in table.column_names]
    is_length = np.array([name.endswith("_mm") for name in names])
    values = np.column_stack([table[name].to_numpy() for name in names]) / np.where(is_length, 1000, 1)
    known = np.isfinite(values).all(axis=1) & (all_verdicts | counted(table["verdict"].to_pylist()))
    if not known.any():
        raise KinematicsError(f"{path}: no frame has converged, so that there is nothing to write")
    header = [
        path.stem,
        "version=1",
        f"nRows={known.sum()}",
        f"nColumns={len(names) + 1}",
        "inDegrees=yes",
        f"side={table['side'][0].as_py()}",
        f"convention={table['convention'][0].as_py()}",
        # As OpenSim writes them itself.
        "Units are S.I. units (second, meters, Newtons, ...)",
        "Angles are in degrees.",
        "endheader",
        "\t".join(["time", *(re.sub("_mm$", "_m", name) for name in names)]),
    ]
    rows = np.column_stack([time_s, values])[known].tolist()
    return "\n".join([*header, *("\t".join(map(repr, row)) for row in rows)]) + "\n"
