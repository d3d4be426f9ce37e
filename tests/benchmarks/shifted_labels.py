"""Some labels of a simulated data set shifted by 1 to 3 mm, for ``veriserum check-labels`` to find.

Also where all labels, or all second cameras, have a common offset of 0.5 mm.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.fixtures.other_cameras import rewrite
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.core.domain import COMPONENTS
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.plan import Options
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

SETTINGS = Settings(trials=50, frames_per_trial=5, seed=12)  # 500 labels, two in each frame
SHIFTED = 20
OFFSET_MM = 0.5
_MM = (1.0, 3.0)
Row = dict[str, Any]


@dataclass(frozen=True)
class Checked:
    """What the command finds.

    Attributes
    ----------
    hit, shifted : shifted labels that are flagged, and how many there are.
    false, labels : other labels that are flagged, and labels in all.
    looks_like : the likely cause of a common offset, ``"nothing"`` where none is reported.

    """

    hit: int
    shifted: int
    false: int
    labels: int
    looks_like: str


def check_shifted_labels(folder: Path, settings: Settings = SETTINGS, shifted: int = SHIFTED) -> dict[str, Checked]:
    """Results by condition: the exact cameras, and common offsets of all labels and of all second cameras."""
    shutil.rmtree(folder, ignore_errors=True)
    simulate(folder / "archive", settings)
    wrong = _shift(folder / "archive", shifted)
    right = folder / "dataset"
    convert_archive(
        folder / "archive", right, configs=("calibrated", "anatomies"), options=Options(size=512), workers=None
    )
    found = {"exact cameras": _checked(right, wrong)}
    for name, change in {
        f"all labels {OFFSET_MM:g} mm off": labels_off,
        f"all fs cameras {OFFSET_MM:g} mm off": cameras_off,
    }.items():
        found[name] = _checked(_changed(right, folder / change.__name__, change), wrong)
    return found


def labels_off(row: Row) -> Row:
    """The row with both labels shifted along x."""
    shifted = {name: dict(row[name]) for name in COMPONENTS if row[name]}
    for pose in shifted.values():
        pose["translation_mm"] = (np.array(pose["translation_mm"]) + (OFFSET_MM, 0, 0)).tolist()
    return row | shifted


def cameras_off(row: Row) -> Row:
    """The row with the second camera shifted along both axes of its image."""
    world_to_camera = np.array(row["camera_fs"]["world_to_camera"])
    world_to_camera[:2, 3] += OFFSET_MM / np.sqrt(2)
    return row | {"camera_fs": row["camera_fs"] | {"world_to_camera": world_to_camera.tolist()}}


def _changed(dataset: Path, copy: Path, change: Callable[[Row], Row]) -> Path:
    shutil.copytree(dataset, copy)
    rewrite(copy, change)
    return copy


def _checked(dataset: Path, wrong: set[tuple[int, str]]) -> Checked:
    veriserum = Path(sys.executable).with_name("veriserum")
    command = [str(veriserum), "check-labels", str(dataset), "--output", str(dataset.with_suffix(".labels.parquet"))]
    printed = subprocess.run([*command, "--json"], check=False, stdout=subprocess.PIPE, text=True).stdout
    document = json.loads(printed)
    flagged = {(label["measurement_id"], label["component"]) for label in document["flagged"]}
    common = document["common_offset"]
    looks_like = "nothing" if common is None else common["looks_like"] or "undetermined"
    return Checked(len(flagged & wrong), len(wrong), len(flagged - wrong), document["labels"], looks_like)


def _shift(archive: Path, count: int) -> set[tuple[int, str]]:
    """Shift some of the refined poses, in random directions; which, by measurement and component."""
    rng = np.random.default_rng(5)
    refined = [
        row for row in VeriserumArchive(archive).poses.to_pylist() if row["kind"] == "refined" and not row["obsolete"]
    ]
    wrong = set()
    (database,) = archive.glob("*.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        for index in rng.choice(len(refined), count, replace=False).tolist():
            direction = rng.normal(size=3)
            shift_mm = rng.uniform(*_MM) * direction / np.linalg.norm(direction)
            row = refined[index]
            update = "UPDATE poses SET tx = tx + ?, ty = ty + ?, tz = tz + ? WHERE id = ?"
            if connection.execute(update, (*shift_mm.tolist(), row["pose_id"])).rowcount != 1:
                raise RuntimeError(f"the database has no pose {row['pose_id']}")
            wrong.add((row["measurement_id"], row["component"]))
    return wrong
