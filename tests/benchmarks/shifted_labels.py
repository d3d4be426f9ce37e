"""Some labels of a simulated archive shifted by 1 to 3 mm, for ``veriserum check-labels`` to find."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np

from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

SETTINGS = Settings(trials=50, frames_per_trial=5, seed=12)  # 500 labels, two in each frame
SHIFTED = 20
_MM = (1.0, 3.0)


def check_shifted_labels(folder: Path) -> tuple[int, int, int, int]:
    """Shifted labels that the command finds, how many there are, others that it flags, and labels in all."""
    shutil.rmtree(folder, ignore_errors=True)
    simulate(folder / "archive", SETTINGS)
    wrong = _shift(folder / "archive")
    veriserum = Path(sys.executable).with_name("veriserum")
    command = [str(veriserum), "check-labels", str(folder / "archive"), "--output", str(folder / "labels.parquet")]
    printed = subprocess.run([*command, "--json"], check=False, stdout=subprocess.PIPE, text=True).stdout
    document = json.loads(printed)
    flagged = {(label["measurement_id"], label["component"]) for label in document["flagged"]}
    return len(flagged & wrong), len(wrong), len(flagged - wrong), document["labels"]


def _shift(archive: Path) -> set[tuple[int, str]]:
    """Shift some of the refined poses, in random directions; which, by measurement and component."""
    rng = np.random.default_rng(5)
    refined = [
        row for row in VeriserumArchive(archive).poses.to_pylist() if row["kind"] == "refined" and not row["obsolete"]
    ]
    wrong = set()
    (database,) = archive.glob("*.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        for index in rng.choice(len(refined), SHIFTED, replace=False).tolist():
            direction = rng.normal(size=3)
            shift_mm = rng.uniform(*_MM) * direction / np.linalg.norm(direction)
            row = refined[index]
            update = "UPDATE poses SET tx = tx + ?, ty = ty + ?, tz = tz + ? WHERE id = ?"
            if connection.execute(update, (*shift_mm.tolist(), row["pose_id"])).rowcount != 1:
                raise RuntimeError(f"the database has no pose {row['pose_id']}")
            wrong.add((row["measurement_id"], row["component"]))
    return wrong
