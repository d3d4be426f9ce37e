"""Speed and memory against the required figures: ``python -m tests.benchmarks.bench_conversion``.

Prints one table, writes it to ``RESULTS.md`` in this folder with a sentence on the hardware, and exits with 1
where a figure is missed. Times of one image are processor time; ratios are what counts.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import psutil
import pyarrow as pa

from tests.benchmarks import authors_method
from tests.benchmarks.large_archives import write_base, write_large
from tests.benchmarks.processes import Watched, run_export, run_load, run_watched
from tests.benchmarks.table import CORES, Row, cpu_s, write_table
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.frames import RawFormat, decode_frame
from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.core.domain import PLANES
from veriserum_hf.dataset.convert import convert
from veriserum_hf.dataset.plan import Options, make_plan

_IMAGES_BY_AUTHORS, _REPEATS = 3, 30
_PAIRS_AT_ONCE, _ROUNDS = 8, 8
_SMALL_SHARDS, _LARGE_SHARDS = 6_000_000, 500_000_000  # bytes; the large ones are the default


def _medians(pairs: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Median of first / second, of first and of second."""
    first, second = zip(*pairs, strict=True)
    return median(a / b for a, b in pairs), median(first), median(second)


def _one_image(path: str, distortion: Distortion) -> tuple[tuple[float, float], tuple[float, float]]:
    """Seconds (authors', ours) of correcting one image, and of decoding, correcting and encoding it."""
    jpeg = Path(path).read_bytes()
    frame = decode_frame(jpeg)
    nearest = distortion.correct(frame, mode="nearest") * (255 / frame.max())
    distortion.correct(frame)  # builds the maps that every frame of a calibration shares
    difference = np.abs(authors_method.correct(frame, distortion) - nearest)[distortion.valid()]
    if np.quantile(difference, 0.9) > 2:
        raise RuntimeError("the authors' method, as written here, makes another image than ours")

    def convert_ours() -> None:
        corrected = distortion.correct(decode_frame(jpeg))
        cv2.imencode(".jpg", corrected, [cv2.IMWRITE_JPEG_QUALITY, 95])

    corrections = (
        cpu_s(lambda: authors_method.correct(frame, distortion)),
        cpu_s(lambda: distortion.correct(frame), _REPEATS),
    )
    return corrections, (cpu_s(lambda: authors_method.convert(jpeg, distortion)), cpu_s(convert_ours, _REPEATS))


def against_authors(rows: pa.Table) -> Iterator[Row]:
    """One image, by our method and by the authors'."""
    chosen = np.linspace(0, rows.num_rows - 1, _IMAGES_BY_AUTHORS).astype(int)
    images = [
        _one_image(row["path_bs"], Distortion.from_string(row["distortion_bs"]))
        for row in rows.take(pa.array(chosen)).to_pylist()
    ]
    corrections, conversions = map(list, zip(*images, strict=True))
    for what, seconds, required in (
        ("Correction alone, one image, CPU: authors' method / ours", corrections, 1000),
        ("Decode, correct, encode one image, CPU: authors' method / ours", conversions, 250),
    ):
        ratio, theirs, ours = _medians(seconds)
        measured = f"{ratio:,.0f} times ({theirs:.2f} s / {1e3 * ours:.2f} ms)"
        yield Row(what, measured, f"at least {required:,} times", ratio >= required)


def pair_against_decoding(rows: pa.Table) -> Row:
    """Conversion to Arrow against OpenCV's decoding of the same JPEGs, one after the other, many times."""
    seconds = []
    for first in list(range(0, rows.num_rows, _PAIRS_AT_ONCE)) * _ROUNDS:
        some = rows.slice(first, _PAIRS_AT_ONCE)
        jpegs = [np.fromfile(path, np.uint8) for plane in PLANES for path in some[f"path_{plane}"].to_pylist()]
        converting = cpu_s(lambda some=some: convert(some, Options(), RawFormat(255, 1664 / 1600)))
        decoding = cpu_s(lambda jpegs=jpegs: [cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED) for jpeg in jpegs])
        seconds.append((converting / some.num_rows, decoding / some.num_rows))
    distinct = -(-rows.num_rows // _PAIRS_AT_ONCE)
    ratio, ours, decoding = _medians(seconds[distinct:])  # the first round builds the maps
    measured = f"{ratio:.2f} times ({1e3 * ours:.1f} ms / {1e3 * decoding:.1f} ms)"
    return Row("Conversion of a pair to Arrow / decoding its JPEGs, CPU", measured, "at most 1.5 times", ratio <= 1.5)


def _busy_s() -> tuple[float, float]:
    """Processor seconds so far of the whole machine, and of this process and its finished children."""
    machine = psutil.cpu_times()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time() + children.ru_utime + children.ru_stime
    return sum(machine) - machine.idle - machine.iowait, own


def workers_and_memory(base: Path, folder: Path) -> Iterator[Row]:
    """Whole conversions with one and two workers, of few frames and many."""
    archives = {pairs: folder / str(pairs) for pairs in (100, 1000, 4000)}
    for pairs, archive in archives.items():
        write_large(archive, base, pairs=pairs, trials=pairs // 20)

    def run(pairs: int, workers: int, shard_bytes: int) -> Watched:
        output = folder / "out"
        watched = run_export(
            archives[pairs], output, workers=workers, shard_bytes=shard_bytes, cache=folder / "cache"
        )
        shutil.rmtree(output)
        return watched

    before, started = _busy_s(), time.perf_counter()
    one, two = run(4000, 1, _SMALL_SHARDS), run(4000, 2, _SMALL_SHARDS)
    wall_s, after = time.perf_counter() - started, _busy_s()
    others = ((after[0] - before[0]) - (after[1] - before[1])) / (wall_s * CORES)
    ratio = one.wall_s / two.wall_s
    idle = f"{CORES} cores, other programs on {max(0, others):.0%} of them"
    measured = f"{ratio:.2f} times ({one.wall_s:.1f} s / {two.wall_s:.1f} s; {idle})"
    yield Row("4,000 pairs, wall time: one worker / two", measured, "at least 1.7 times on idle cores", ratio >= 1.7)
    few_mb, many_mb = (run(pairs, 2, _LARGE_SHARDS).worker_peak_mb for pairs in (100, 1000))
    measured = f"{many_mb:.0f} MB; {one.peak_mb:.0f} MB where one process does 4,000"
    yield Row("Peak memory of a worker, 1,000 pairs", measured, "at most 500 MB", max(many_mb, one.peak_mb) <= 500)
    growth = many_mb / few_mb
    measured = f"{growth:.2f} times ({many_mb:.0f} MB / {few_mb:.0f} MB)"
    yield Row("Peak memory of a worker: 1,000 pairs / 100 pairs", measured, "1 within 5 %", abs(growth - 1) <= 0.05)


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


def starting() -> Iterator[Row]:
    """What a process costs before it does anything, against the libraries that it cannot do without."""
    command = str(Path(sys.executable).with_name("veriserum"))
    compared = (
        ("`veriserum --help` / importing typer and rich", (command, "--help"), "import typer, rich", 3.0),
        (
            "`import veriserum_hf, datasets` / `import datasets`",
            (sys.executable, "-c", "import veriserum_hf, datasets"),
            "import datasets",
            1.1,
        ),
    )
    for what, ours, libraries, most in compared:
        ours_s, libraries_s = _process_cpu_s(*ours), _process_cpu_s(sys.executable, "-c", libraries)
        text = f"{ours_s / libraries_s:.2f} times ({1000 * ours_s:.0f} ms / {1000 * libraries_s:.0f} ms)"
        yield Row(f"{what}, CPU of a process", text, f"at most {most:g} times", ours_s <= most * libraries_s)


def _process_cpu_s(*command: str) -> float:
    """Processor time of a process, the median of nine."""
    times = []
    for _ in range(9):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return median(times)


def every_row(base: Path, folder: Path) -> Iterator[Row]:
    """The table, row by row as it is measured."""
    rows = pa.concat_tables(make_plan(VeriserumArchive(base), Options()).splits.values())
    yield from against_authors(rows)
    yield pair_against_decoding(rows)
    yield from workers_and_memory(base, folder / "workers")
    yield audit(base, folder / "audit")
    yield start_of_loading(base, folder / "loading")
    yield from starting()


def main() -> None:
    """Measure, print, and write the table."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frame_mb = write_base(folder / "base")
        frames = f"frames of 1664 x 1600 px, JPEG quality 95, {frame_mb:.2f} MB each, in the system's file cache"
        write_table(
            "Speed and memory", every_row(folder / "base", folder), frames, Path(__file__).with_name("RESULTS.md")
        )


if __name__ == "__main__":
    main()
