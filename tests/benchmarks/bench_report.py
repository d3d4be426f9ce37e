"""Page of a report on 10,000 frames: ``python -m tests.benchmarks.bench_report``.

Processor time of the command, size of the page, and how long Chromium takes to show it and a trial of it. Writes
RESULTS_REPORT.md.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.app.browsers import CHROMIUM, browser
from tests.benchmarks.bench_kinematics import simulated_poses
from tests.benchmarks.processes import run_watched
from tests.benchmarks.table import Row, write_table
from veriserum_hf.dataset import Options, convert_archive
from veriserum_hf.poses import write_poses
from veriserum_hf.simulation import Settings, simulate

RESULTS = Path(__file__).with_name("RESULTS_REPORT.md")
_TRIALS = 50  # of 200 frames
_FRAMES = 10_000
_IMAGE_KEPT = [cv2.IMWRITE_JPEG_QUALITY, 50]


def _dataset(folder: Path) -> Path:
    """A converted folder whose test split has all these frames: images of a few, poses of simulated trials."""
    simulate(folder / "archive", Settings(trials=4, frames_per_trial=3, height_px=800, marker_frames=0))
    options = Options(size=512)
    configs = ("calibrated", "anatomies")
    converted = convert_archive(folder / "archive", folder / "data", configs=configs, options=options)
    shards = sorted((converted.output / "calibrated").glob("*.parquet"))
    stored = pa.concat_tables([pq.read_table(shard) for shard in shards])
    few = [_smaller(row) for row in stored.to_pylist()]
    truth = simulated_poses(0, _TRIALS).to_pylist()
    rows = []
    for femur, tibia, row in zip(truth[::2], truth[1::2], cycle(few), strict=False):
        ids = {name: femur[name] for name in ("measurement_id", "trial_id", "frame_index")}
        poses = {
            part: row[part] | {name: pose[name] for name in ("anatomy_id", "translation_mm", "quaternion_xyzw")}
            for part, pose in (("femur", femur), ("tibia", tibia))
        }
        rows.append(row | ids | poses)
    (shard,) = (each for each in shards if each.name.startswith("test"))
    before = pq.read_metadata(shard).num_rows
    pq.write_table(pa.Table.from_pylist(rows, stored.schema), shard)
    card = converted.output / "README.md"  # which lists the sizes of splits
    card.write_text(card.read_text().replace(f"num_examples: {before}\n", f"num_examples: {len(rows)}\n"))
    return converted.output


def _smaller(row: dict) -> dict:
    """A row with images of fewer bytes."""
    images = {}
    for name in ("image_bs", "image_fs"):
        image = cv2.imdecode(np.frombuffer(row[name]["bytes"], np.uint8), cv2.IMREAD_GRAYSCALE)
        images[name] = {"bytes": cv2.imencode(".jpg", image, _IMAGE_KEPT)[1].tobytes(), "path": None}
    return row | images


def _rows(folder: Path) -> Iterator[Row]:
    dataset, page = _dataset(folder), folder / "report.html"
    write_poses(folder / "poses.parquet", simulated_poses(0.1, _TRIALS))
    options = ("--poses", f"{folder}/poses.parquet", "--side", "right", "--output", f"{page}")
    command = (sys.executable, "-m", "veriserum_hf", "report", str(dataset), *options)
    run_watched(*command, cache=folder / "cache")  # prepares the rows, once
    ended = run_watched(*command, cache=folder / "cache")
    measured = f"{ended.cpu_s:.1f} CPU-s, {ended.peak_mb:.0f} MB"
    yield Row(f"`veriserum report`, {_FRAMES:,} frames", measured, "at most 60 CPU-s", ended.cpu_s <= 60)
    size_mb = page.stat().st_size / 1e6
    yield Row("size of its page", f"{size_mb:.1f} MB", "at most 10 MB", size_mb <= 10)
    if CHROMIUM is None:
        return
    with browser() as chromium:
        shown = chromium.new_page()
        started = time.perf_counter()
        shown.goto(page.as_uri())
        loaded_s = time.perf_counter() - started
        started = time.perf_counter()
        shown.click("a[href='#trial-7']")
        shown.wait_for_selector("#trial-7 svg:nth-child(6)")
        drawn_s = time.perf_counter() - started
    yield Row("page shown in Chromium", f"{loaded_s:.1f} s", "at most 5 s", loaded_s <= 5)
    yield Row("a trial of 200 frames opened", f"{drawn_s:.1f} s", "at most 2 s", drawn_s <= 2)


def main() -> None:
    """Write the table."""
    with tempfile.TemporaryDirectory() as folder:
        what = f"poses of {_TRIALS} simulated trials with errors of 0.1 mm and deg, images of 512 px"
        write_table("Report", _rows(Path(folder)), what, RESULTS)


if __name__ == "__main__":
    main()
