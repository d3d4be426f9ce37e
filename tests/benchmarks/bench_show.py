"""Trials as recordings and as films: how long they take, how large they are, and whether the cameras are the same.

``python -m tests.benchmarks.bench_show``
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.benchmarks.table import COMPARISON, Row, write_table
from tests.fixtures.studies import converted_rows
from tests.viewer.recordings import POINTS, Recording, verified
from veriserum_hf.dataset import Options, convert_archive
from veriserum_hf.poses import read_poses, write_poses
from veriserum_hf.simulation import Settings, simulate
from veriserum_hf.viewer import label_of

_FRAMES, _SIZE = 30, 512
_MOST_CPU_S, _MOST_PX = 20.0, 1e-3
_FILES = 4  # the most that can be shown with the labels


def _shown(dataset: Path, *arguments: object) -> float:
    """CPU-s of `veriserum show`, its start and what it starts included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "veriserum_hf", "show", dataset, *arguments]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _rows(folder: Path) -> Iterator[Row]:
    simulate(
        folder / "archive", Settings(trials=1, frames_per_trial=_FRAMES, pairs=1, height_px=800, marker_frames=0)
    )
    dataset = folder / "out"
    convert_archive(folder / "archive", dataset, options=Options(size=_SIZE), configs=("calibrated", "anatomies"))
    rows = converted_rows(dataset)
    files: list[object] = []
    for number in range(_FILES):
        write_poses(folder / f"{number}.parquet", read_poses(folder / "archive/truth.parquet"))
        files += ["--poses", folder / f"{number}.parquet"]
    trial = f"{len(rows)} frames of two planes, {_SIZE} px"
    path = folder / "trial.rrd"
    required = f"at most {_MOST_CPU_S:.0f} CPU-s"
    for count, what in ((1, "labels and one file"), (_FILES, f"labels and {_FILES} files")):
        cpu_s = _shown(dataset, "--rrd", path, *files[: 2 * count])
        only = (required, cpu_s <= _MOST_CPU_S) if count == 1 else (COMPARISON, None)
        measured = f"{cpu_s:.1f} CPU-s, {path.stat().st_size / 1e6:.1f} MB"
        yield Row(f"`show --rrd`, {trial}, poses of {what}", measured, *only)
    (folder / "home").mkdir()
    status, reported = verified(path, folder / "home")
    sound = status == 0 and "1 file verified without error" in reported
    yield Row("`rerun rrd verify` of this recording", "no error" if sound else reported, "no error", sound)
    recording = Recording(path)
    off_px = np.concatenate([recording.projections_off_px(row, label_of(row)) for row in rows])
    worst_px = float(np.abs(off_px).max())
    what = f"Its cameras / ours: {len(off_px):,} projections of {POINTS} points of each implant, largest difference"
    yield Row(what, f"{worst_px:.1e} px", f"at most {_MOST_PX:g} px", worst_px <= _MOST_PX)
    for name in ("trial.mp4", "trial.gif"):
        cpu_s = _shown(dataset, "--trial", rows[0]["trial_id"], *files[:2], "--output", folder / name)
        measured = f"{cpu_s:.1f} CPU-s, {(folder / name).stat().st_size / 1e6:.2f} MB"
        yield Row(f"`show --output {name}`, the same trial, labels and one file", measured, COMPARISON, None)


def main() -> None:
    """Measure, and write the table beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        what = "a simulated trial; CPU-s with the start of the program; the film is H.264"
        path = Path(__file__).with_name("RESULTS_SHOW.md")
        write_table("Trials as recordings and films", _rows(Path(folder)), what, path)


if __name__ == "__main__":
    main()
