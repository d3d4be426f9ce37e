"""Speed and memory against the required figures: ``python -m tests.benchmarks.bench_conversion``.

Prints one table, writes it to ``RESULTS.md`` beside this file with a sentence on the hardware, and exits with 1
where a figure is missed. Times of one image are processor time; ratios are what counts.
"""

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import cv2
import numpy as np
import psutil
import pyarrow as pa

from tests.benchmarks import authors_method
from tests.benchmarks.large_archives import write_base, write_large
from tests.benchmarks.processes import run_export, run_load, run_watched
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.frames import decode_frame
from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.dataset.convert import convert
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.geometry.rig import PLANES

_IMAGES_BY_AUTHORS, _REPEATS = 3, 30
_PAIRS_AT_ONCE, _ROUNDS = 8, 6
_SMALL_SHARDS, _LARGE_SHARDS = 6_000_000, 500_000_000  # bytes; the large ones are the default
_IDLE_PERCENT = 10.0


class Row(NamedTuple):
    """One line of the table."""

    what: str
    measured: str
    required: str
    met: bool


def _cpu_s(function: Callable[[], object], repeats: int = 1) -> float:
    """Processor time of a call, all threads together; the median of some."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return median(times)


def _times(values: list[tuple[float, float]]) -> tuple[float, str]:
    """Median ratio of (authors', ours) seconds, and how to put it."""
    ratio = median(theirs / ours for theirs, ours in values)
    theirs, ours = (median(column) for column in zip(*values, strict=True))
    return ratio, f"{ratio:,.0f} times ({theirs:.2f} s / {1e3 * ours:.2f} ms)"


def against_authors(rows: pa.Table) -> Iterator[Row]:
    """One image, by our method and by the authors'."""
    correcting, converting = [], []
    stride = rows.num_rows // _IMAGES_BY_AUTHORS
    for row in rows.take(pa.array(range(0, stride * _IMAGES_BY_AUTHORS, stride))).to_pylist():
        jpeg, distortion = Path(row["path_bs"]).read_bytes(), Distortion.from_string(row["distortion_bs"])
        frame = decode_frame(jpeg)
        authors_method.prepare(distortion)
        nearest = distortion.correct(frame, mode="nearest")  # also builds the maps that all frames share
        distortion.correct(frame)
        difference = authors_method.correct(frame, distortion) - nearest * (255.0 / frame.max())
        if np.quantile(np.abs(difference[distortion.valid()]), 0.9) > 2:
            raise RuntimeError("the authors' method, as written here, shows another picture than ours")

        def ours(jpeg: bytes = jpeg, distortion: Distortion = distortion) -> None:
            corrected = distortion.correct(decode_frame(jpeg))
            cv2.imencode(".jpg", corrected, [cv2.IMWRITE_JPEG_QUALITY, 95])

        correcting.append(
            (
                _cpu_s(lambda: authors_method.correct(frame, distortion)),
                _cpu_s(lambda: distortion.correct(frame), _REPEATS),
            )
        )
        converting.append((_cpu_s(lambda: authors_method.convert(jpeg, distortion)), _cpu_s(ours, _REPEATS)))
    ratio, text = _times(correcting)
    yield Row(
        "Correction alone, CPU of one image: authors' method / ours", text, "at least 1,000 times", ratio >= 1000
    )
    ratio, text = _times(converting)
    yield Row("Decode, correct, encode one image: authors' method / ours", text, "at least 250 times", ratio >= 250)


def pair_against_decoding(rows: pa.Table) -> Row:
    """Conversion to Arrow against OpenCV's decoding of the same JPEGs, one after the other, many times."""
    measured = []
    for first in list(range(0, rows.num_rows, _PAIRS_AT_ONCE)) * _ROUNDS:
        some = rows.slice(first, _PAIRS_AT_ONCE)
        jpegs = [np.fromfile(path, np.uint8) for plane in PLANES for path in some[f"path_{plane}"].to_pylist()]
        decoding = _cpu_s(lambda jpegs=jpegs: [cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED) for jpeg in jpegs])
        measured.append(
            (_cpu_s(lambda some=some: convert(some, Options(), 255)) / some.num_rows, decoding / some.num_rows)
        )
    ratio = median(ours / decoding for ours, decoding in measured[1:])
    ours, decoding = (1e3 * median(column) for column in zip(*measured[1:], strict=True))
    text = f"{ratio:.2f} times ({ours:.1f} ms / {decoding:.1f} ms)"
    return Row("Conversion of a pair to Arrow / decoding its two JPEGs, CPU", text, "at most 1.5 times", ratio <= 1.5)


def workers_and_memory(base: Path, folder: Path) -> Iterator[Row]:
    """Whole conversions with one and two workers, few frames and many."""
    thousand, hundred = folder / "thousand", folder / "hundred"
    write_large(thousand, base, pairs=1000, trials=50)
    write_large(hundred, base, pairs=100, trials=5)

    def run(archive: Path, workers: int, shard_bytes: int) -> tuple[float, float]:
        output = folder / "out"
        watched = run_export(archive, output, workers=workers, shard_bytes=shard_bytes, cache=folder / "cache")
        shutil.rmtree(output)
        return watched.wall_s, watched.peak_mb

    busy = psutil.cpu_percent(interval=2)
    (one_s, _), (two_s, two_mb) = run(thousand, 1, _SMALL_SHARDS), run(thousand, 2, _SMALL_SHARDS)
    idle = "idle" if busy < _IDLE_PERCENT else f"NOT idle, {busy:.0f} % busy before"
    text = f"{one_s / two_s:.2f} times ({one_s:.1f} s / {two_s:.1f} s; {os.cpu_count()} cores, {idle})"
    yield Row("1,000 pairs, wall time: one worker / two", text, "at least 1.7 times", one_s / two_s >= 1.7)
    (_, few_mb), (_, many_mb) = run(hundred, 1, _LARGE_SHARDS), run(thousand, 1, _LARGE_SHARDS)
    text = f"{many_mb:.0f} MB; {two_mb:.0f} MB where there are two"
    yield Row("Peak memory of a worker, 1,000 pairs", text, "at most 500 MB", max(many_mb, two_mb) <= 500)
    text = f"{many_mb / few_mb:.2f} times ({many_mb:.0f} MB / {few_mb:.0f} MB)"
    yield Row("The same: 1,000 pairs / 100 pairs", text, "1 to 5 %", abs(many_mb / few_mb - 1) <= 0.05)


def audit(base: Path, folder: Path) -> Row:
    """``veriserum audit`` of as many poses and frames as the real archive has."""
    write_large(folder, base, pairs=55_495, trials=1600)
    command = Path(sys.executable).with_name("veriserum")
    watched = run_watched(str(command), "audit", str(folder), cache=folder / "cache")
    text = f"{watched.wall_s:.1f} s, {watched.peak_mb:.0f} MB"
    met = watched.wall_s <= 5 and watched.peak_mb <= 1000
    return Row("Audit of 110,990 poses and frames, from the command line", text, "at most 5 s and 1 GB", met)


def start_of_loading(base: Path, folder: Path) -> Row:
    """``load_dataset`` until there is something to see."""
    database = write_large(folder, base, pairs=10_000, trials=300)
    prepared_s, streaming_s = (run_load(database, how, cache=folder / "cache") for how in ("prepared", "streaming"))
    text = f"{prepared_s:.1f} s; streaming, until its first row {streaming_s:.1f} s"
    met = max(prepared_s, streaming_s) <= 5
    return Row("`load_dataset` on 20,000 frame files until it generates", text, "at most 5 s", met)


def measure(folder: Path) -> tuple[float, Iterator[Row]]:
    """Size of the frames in MB, and every row of the table as it is measured."""
    base = folder / "base"
    frame_mb = write_base(base)
    rows = pa.concat_tables(make_plan(VeriserumArchive(base), Options()).splits.values())

    def all_rows() -> Iterator[Row]:
        yield from against_authors(rows)
        yield pair_against_decoding(rows)
        yield from workers_and_memory(base, folder / "workers")
        yield audit(base, folder / "audit")
        yield start_of_loading(base, folder / "loading")

    return frame_mb, all_rows()


def hardware() -> str:
    """A sentence on what this ran on."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    python, memory_gb = platform.python_version(), psutil.virtual_memory().total / 1e9
    return (
        f"Measured in one run on {os.cpu_count()} cores of an {model} with {memory_gb:.0f} GB of memory, files in the "
        f"system's cache, Python {python}, OpenCV {cv2.__version__} with one thread a process"
    )


def main() -> None:
    """Measure, print, and write the table."""
    cv2.setNumThreads(1)
    lines = ["| what | measured | required | |", "|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        frame_mb, rows = measure(Path(folder))
        for row in rows:
            missed += not row.met
            lines.append(f"| {row.what} | {row.measured} | {row.required} | {'met' if row.met else 'MISSED'} |")
            print(lines[-1], flush=True)
    sentence = f"{hardware()}; frames of 1664 x 1600 pixels, JPEG quality 95, {frame_mb:.2f} MB each."
    print(f"\n{sentence}")
    text = "\n".join(("# Speed and memory", "", "`make bench` writes this file.", "", *lines, "", sentence, ""))
    Path(__file__).with_name("RESULTS.md").write_text(text)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
