"""Registration against an earlier commit, on the same frames in one run: ``... bench_speed FOLDER BEFORE``.

BEFORE is a checkout of that commit. Every run is a process of its own, and the commits take turns; FOLDER keeps the
frames.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.pose_errors import held, moved, pose_error
from tests.benchmarks.table import Row, write_table
from veriserum_hf.core import Table
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.geometry import make_transform, matrix_to_quaternion, quaternion_to_matrix
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests/benchmarks/RESULTS_SPEED.md"
DRAWN = Settings(trials=6, frames_per_trial=20, seed=23)  # consecutive frames, 30 a second
_OFF_MM, _OFF_DEG = 5.0, 5.0
_DANGEROUS_MM, _DANGEROUS_DEG = 1.0, 1.0
KINDS = {
    "alone": "each frame alone, from 5 mm and 5 deg off",
    "trial": "trials, from 5 mm and 5 deg off in every frame",
    "labels": "check-labels",
    "fine": "each frame alone, femora of 16 times the triangles",
}
_REQUIRED = {"alone": 5, "trial": 8, "labels": 8}


class Run(NamedTuple):
    """Processor time of a frame, errors (n, 6) and deviations (n, 6) of implants, mm and deg; their verdicts."""

    cpu_s: float
    errors: np.ndarray[Any, Any]
    sigmas: np.ndarray[Any, Any]
    verdicts: list[str]

    @property
    def off(self) -> np.ndarray[Any, Any]:
        """Distances in mm and angles in deg, (n, 2)."""
        return np.stack([np.linalg.norm(self.errors[:, part], axis=1) for part in (slice(0, 3), slice(3, 6))], axis=1)

    @property
    def dangerous(self) -> int:
        """Converged poses that are wrong."""
        wrong = (self.off > (_DANGEROUS_MM, _DANGEROUS_DEG)).any(axis=1)
        return sum(verdict == "converged" for verdict in np.array(self.verdicts)[wrong])


Truth = dict[tuple[int, str], np.ndarray[Any, Any]]


def prepared(folder: Path) -> tuple[Path, Path, Truth]:
    """Data set, file of initial poses, and true poses by measurement and component; made if they are not there."""
    archive, dataset, starts = folder / "archive", folder / "dataset", folder / "starts.parquet"
    if not dataset.exists():
        simulate(archive, DRAWN)
        convert_archive(archive, dataset)
    rows = pq.read_table(archive / "truth.parquet").to_pylist()
    truth = {
        (row["measurement_id"], row["component"]): make_transform(
            quaternion_to_matrix(row["quaternion_xyzw"]), row["translation_mm"]
        )
        for row in rows
    }
    shown = set(pq.read_table(dataset / "calibrated", columns=["measurement_id"])["measurement_id"].to_pylist())
    rng, moved_rows = np.random.default_rng(5), []
    for row in rows:
        if row["measurement_id"] not in shown:
            continue
        T = moved(truth[row["measurement_id"], row["component"]], row["anatomy_id"], rng, _OFF_MM, _OFF_DEG)
        pose = {name: row[name] for name in ("measurement_id", "component", "anatomy_id")}
        pose |= {"translation_mm": T[:3, 3].tolist(), "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist()}
        moved_rows.append(pose)
    pq.write_table(pa.Table.from_pylist(moved_rows), starts)
    return dataset, starts, {key: T for key, T in truth.items() if key[0] in shown}


def measured(root: Path, kind: str, dataset: Path, starts: Path, truth: Truth) -> Run:
    """Run a commit's registration in a process of its own."""
    command = [sys.executable, "-P", str(ROOT / "tests/benchmarks/speed_runs.py"), kind, str(dataset), str(starts)]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    errors, sigmas, verdicts = [], [], []
    for each in result["found"]:
        T = make_transform(quaternion_to_matrix(each["quaternion_xyzw"]), each["translation_mm"])
        errors.append(pose_error(T, truth[each["id"], each["component"]]))
        sigmas.append([np.nan] * 6 if each["sigma"] is None else each["sigma"])
        verdicts.append(each["verdict"])
    return Run(2 * result["cpu_s"] / len(verdicts), np.array(errors), np.array(sigmas), verdicts)


def accuracy_table(runs: dict[tuple[str, str], Run]) -> str:
    """One line for each kind and commit."""
    header = ["what", "commit", "CPU-s a frame", "mm: median (p95)", "deg: median (p95)"]
    header += ["converged / ambiguous / failed", "95 % intervals that hold the truth", "dangerous"]
    rows = []
    for (kind, commit), run in runs.items():
        spread = [f"{np.median(axis):.4f} ({np.percentile(axis, 95):.3f})" for axis in run.off.T]
        counts = " / ".join(str(run.verdicts.count(word)) for word in ("converged", "ambiguous", "failed"))
        stated = np.isfinite(run.sigmas).all(axis=1)
        share = held(run.errors[stated], run.sigmas[stated])
        rows.append([KINDS[kind], commit, f"{run.cpu_s:.2f}", *spread, counts, f"{share:.1%}", str(run.dangerous)])
    return Table(header, rows, alignment="l").markdown()


def requirements(runs: dict[tuple[str, str], Run]) -> Iterator[Row]:
    """The required ratios."""
    for kind, least in _REQUIRED.items():
        ratio = runs[kind, "before"].cpu_s / runs[kind, "now"].cpu_s
        yield Row(f"{KINDS[kind]}: times less CPU", f"{ratio:.1f}", f"at least {least}", ratio >= least)
    cost = runs["fine", "now"].cpu_s / runs["alone", "now"].cpu_s
    yield Row("CPU with femora of 16 times the triangles", f"{cost:.2f} times", "at most 1.3 times", cost <= 1.3)
    more = {kind: runs[kind, "now"].dangerous - runs[kind, "before"].dangerous for kind in _REQUIRED}
    yield Row("dangerous verdicts more than before", str(sum(more.values())), "none", max(more.values()) <= 0)


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("before", type=Path, help="checkout of the commit to compare with")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    folder = options.folder / "speed"
    folder.mkdir(parents=True, exist_ok=True)
    dataset, starts, truth = prepared(folder)
    runs = {}
    for kind in KINDS:
        for commit, root in (("before", options.before), ("now", ROOT)):
            if (kind, commit) == ("fine", "before"):
                continue  # half an hour
            runs[kind, commit] = measured(root.absolute(), kind, dataset, starts, truth)
            print(accuracy_table({(kind, commit): runs[kind, commit]}).splitlines()[-1], flush=True)
    revision = ["git", "-C", str(options.before), "rev-parse", "--short", "HEAD"]
    before = subprocess.run(revision, capture_output=True, text=True, check=True).stdout.strip()
    write_table(
        "Speed of registration",
        requirements(runs),
        f"the commit before is {before}; {len(truth) // 2} frames of the simulator, with holders, in {DRAWN.trials} "
        "trials at 30 Hz; one process; times contain reading frames and the start of numba's functions",
        options.results,
        before=accuracy_table(runs),
    )


if __name__ == "__main__":
    main()
