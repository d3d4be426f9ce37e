"""Archives of any size that weigh what the real one does: the fixture's frames, noisier, many times over.

Frames are hard links to a few dozen files, so that an archive of 110,990 frames needs no more room than they do.
"""

import os
import shutil
import sqlite3
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.fixtures.archives import ANATOMIES_FOLDER, DATABASE_NAME, FRAMES_FOLDER, write_archive
from veriserum_hf.core.domain import PLANES

_BASE_TRIALS, _BASE_FRAMES_PER_TRIAL = 6, 4
_STARTED = datetime(2023, 4, 14, 9, 30)
_NOISE_LEVELS = 3.0  # on top of the fixture's own: a frame then takes about 0.8 MB


def write_base(root: Path) -> float:
    """Write the few dozen distinct frames, and return their mean size in MB."""
    write_archive(root, trials=_BASE_TRIALS, frames_per_trial=_BASE_FRAMES_PER_TRIAL)
    rng = np.random.default_rng(0)
    paths = sorted((root / FRAMES_FOLDER).glob("*.jpg"))
    for path in paths:
        frame = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        noisy = frame + _NOISE_LEVELS * rng.standard_normal(frame.shape, dtype=np.float32)
        rounded = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        cv2.imwrite(str(path), rounded, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return float(np.mean([path.stat().st_size for path in paths])) / 1e6


def write_large(root: Path, base: Path, *, pairs: int, trials: int) -> Path:
    """Write an archive of so many frame pairs, two refined poses each, and return its database.

    A trial repeats one of the base archive's, with its implants and calibrations.
    """
    (root / FRAMES_FOLDER).mkdir(parents=True)
    (root / ANATOMIES_FOLDER).mkdir()
    for mesh in (base / ANATOMIES_FOLDER).iterdir():
        os.link(mesh, root / ANATOMIES_FOLDER / mesh.name)
    database = root / DATABASE_NAME
    shutil.copyfile(base / DATABASE_NAME, database)
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    base_trials = _base_trials(connection)
    rows: dict[str, list[dict[str, Any]]] = {"trials": [], "measurements": [], "poses": []}
    for number in range(1, pairs + 1):
        trial = (number - 1) * trials // pairs
        trial_row, measurements = base_trials[trial % len(base_trials)]
        measurement, poses = measurements[number % len(measurements)]
        if not rows["trials"] or rows["trials"][-1]["id"] != trial + 1:
            rows["trials"].append({**trial_row, "id": trial + 1})
        moment = (_STARTED + timedelta(seconds=number / 30)).isoformat(" ", "milliseconds")
        rows["measurements"].append({**measurement, "id": number, "trials_id": trial + 1, "datetime": moment})
        for pose in poses:
            rows["poses"].append({**pose, "id": len(rows["poses"]) + 1, "measurement_id": number})
        for plane in PLANES:
            original = base / FRAMES_FOLDER / f"{plane}_{measurement['id']:06d}.jpg"
            os.link(original, root / FRAMES_FOLDER / f"{plane}_{number:06d}.jpg")
    with connection:
        for table, of_table in rows.items():
            marks = ", ".join(f":{column}" for column in of_table[0])
            connection.execute(f"DELETE FROM {table}")
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", of_table)
    connection.close()
    return database


def _base_trials(connection: sqlite3.Connection) -> list[tuple[dict[str, Any], list[tuple[Any, list[Any]]]]]:
    """Every trial's row with its measurements, each with its two refined poses."""

    def select(query: str) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute(query)]

    query = "SELECT * FROM poses WHERE method = 'REFINED' AND obsolete = 0 ORDER BY measurement_id, id"
    poses = {id: list(group) for id, group in groupby(select(query), lambda pose: pose["measurement_id"])}
    measurements = select("SELECT * FROM measurements ORDER BY id")
    return [
        (trial, [(each, poses[each["id"]]) for each in measurements if each["trials_id"] == trial["id"]])
        for trial in select("SELECT * FROM trials ORDER BY id")
    ]
