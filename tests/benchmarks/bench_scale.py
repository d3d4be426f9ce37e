"""Cost and memory of every command by the number of frames: ``python -m tests.benchmarks.bench_scale FOLDER``.

Archives of 100 to 10,000 dual-plane frames, hard links to those of a simulated archive. What is measured is kept in
the folder, so that the same command resumes. Writes RESULTS_SCALE.md: what was measured, and what follows from it for
as many frames as the real data set has, and for a million.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.large_archives import write_large
from tests.benchmarks.processes import run_watched
from tests.benchmarks.table import CORES, setting
from veriserum_hf.core import Table

RESULTS = Path(__file__).with_name("RESULTS_SCALE.md")
VERISERUM = str(Path(sys.executable).with_name("veriserum"))
FEW, SOME, MANY = 100, 1_000, 10_000
_ALL, _SLOW = (FEW, SOME, MANY), (FEW, SOME)
TARGETS = (1_000, 55_495, 1_000_000)
_MOST_MB = 1_000
_MEMORY = (
    "Memory is what a process holds itself (`RssAnon` and `RssShmem` of Linux, looked up 50 times a second). A data "
    "set is read from files that are mapped into memory: their pages count as resident too, up to the size of the "
    "data set, but the system drops them when another program needs the memory."
)
_FRAMES_PER_TRIAL = 20
_SIMULATED = ("--trials", "6", "--frames-per-trial", "4", "--pairs", "3", "--marker-frames", "0", "--size", "1000")


@dataclass(frozen=True)
class Command:
    """A command of ``veriserum``, of ``FOLDER/{frames}``, and what limits it.

    Attributes
    ----------
    words : with the names of its files.
    bottleneck : what takes the time.
    frames : that it is run with; of slow commands few, since every frame costs the same.
    output : folder of its result.

    """

    words: tuple[str, ...]
    bottleneck: str
    frames: tuple[int, ...] = _ALL
    output: str | None = None


COMMANDS = {
    "simulate": Command(
        ("simulate", "{folder}/simulated", "--trials", "{trials}", "--frames-per-trial", "20", "--pairs", "3"),
        "rendering: all cores",
        _SLOW,
        "simulated",
    ),
    "audit": Command(("audit", "{archive}"), "SQLite and the names of the files: one process"),
    "audit --deep": Command(("audit", "{archive}", "--deep"), "decoding: all cores"),
    "convert": Command(
        ("convert", "{archive}", "{folder}/data", "--workers", "2"), "decoding and encoding: all cores", output="data"
    ),
    "train, 3 steps": Command(
        ("train", "--config", "training/configs/demo.yaml", "--dataset", "{folder}/data", "--max_train_steps", "3")
        + ("--eval_steps", "99", "--output_dir", "{folder}/run"),
        "the network, whose batch of 32 frames takes the memory: a GPU; afterwards decoding (`--cache`)",
        output="run",
    ),
    "predict": Command(
        ("predict", "{few}/run", "--dataset", "{folder}/data", "--output", "{folder}/predicted.parquet"),
        "the network: a GPU, ONNX Runtime, or a cluster",
    ),
    "register": Command(
        ("register", "{folder}/data", "--start", "refined", "--output", "{folder}/registered.parquet")
        + ("--workers", "2"),
        "rendering and outlines: all cores, or a cluster",
        _SLOW,
    ),
    "check-labels": Command(
        ("check-labels", "{folder}/data", "--output", "{folder}/labels.parquet", "--workers", "2"),
        "rendering and outlines: all cores, or a cluster",
        _SLOW,
    ),
    "refine-cameras": Command(
        ("refine-cameras", "{folder}/data", "--poses", "{folder}/registered.parquet")
        + ("--output", "{folder}/cameras.json"),
        "bundle adjustment of some hundred chosen frames, however many there are",
        _SLOW,
    ),
    "report": Command(
        ("report", "{folder}/data", "--split", "all", "--poses", "{folder}/predicted.parquet")
        + ("--output", "{folder}/report.html"),
        "drawing of the figures: one process",
    ),
    "show, a trial": Command(
        ("show", "{folder}/data", "--trial", "1", "--output", "{folder}/trial.gif"), "one trial, whatever there is"
    ),
}


def measure(name: str, command: Command, frames: int, root: Path) -> dict[str, float]:
    """Processor seconds of a command, and the memory of its largest process, MB: without mapped files, and with."""
    folder = root / str(frames)
    if command.output:
        shutil.rmtree(folder / command.output, ignore_errors=True)
    names: dict[str, Any] = {"folder": folder, "archive": folder / "archive", "few": root / str(FEW)}
    words = [word.format(**names, trials=frames // _FRAMES_PER_TRIAL) for word in command.words]
    script = (sys.executable, "training/train.py") if words[0] == "train" else (VERISERUM, words[0])
    ended = run_watched(*script, *words[1:], cache=root / "cache", statuses=(0, 1, 3))
    found = {"cpu_s": ended.cpu_s, "held_mb": ended.held_mb, "peak_mb": max(ended.peak_mb, ended.worker_peak_mb)}
    print(f"{name}, {frames} frames: {_measured(found)}; with mapped files {found['peak_mb']:.0f} MB")
    return found


def measurements(root: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Measure what has not been measured yet; by command and number of frames."""
    kept = root / "measured.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    if not (root / "base").exists():
        subprocess.run([VERISERUM, "simulate", root / "base", *_SIMULATED], check=True)
    by_name: dict[str, dict[int, dict[str, float]]] = {name: {} for name in COMMANDS}
    for frames in _ALL:
        archive = root / str(frames) / "archive"
        if not archive.exists():
            write_large(archive, root / "base", pairs=frames, trials=frames // _FRAMES_PER_TRIAL)
        for name, command in COMMANDS.items():
            if frames in command.frames:
                key = f"{name}/{frames}"
                if "held_mb" not in found.get(key, {}):
                    found[key] = measure(name, command, frames, root)
                    kept.write_text(json.dumps(found, indent=1))
                by_name[name][frames] = found[key]
    return by_name


def per_frame(by_frames: dict[int, dict[str, float]], what: str) -> float:
    """Growth a frame, of the two largest numbers of frames; 0 where it is smaller than the noise."""
    (few, one), (many, other) = sorted(by_frames.items())[-2:]
    return max(0.0, (other[what] - one[what]) / (many - few))


def tables(measured: dict[str, dict[int, dict[str, float]]]) -> Iterator[Table]:
    """What was measured; what follows from it."""
    rows, follow = [], []
    for name, by_frames in measured.items():
        cells = [_measured(by_frames.get(frames)) for frames in _ALL]
        largest_mb = max(found["held_mb"] for found in by_frames.values())
        cost = f"{1e3 * per_frame(by_frames, 'cpu_s'):.1f} ms"
        rows.append([name, *cells, cost, "met" if largest_mb <= _MOST_MB else "MISSED"])
        follow.append([name, *(_expected(by_frames, frames) for frames in TARGETS), COMMANDS[name].bottleneck])
    header = ["command", *(f"{frames:,} frames" for frames in _ALL), "CPU a frame", "at most 1,000 MB"]
    yield Table(header, rows, alignment="lrrrrl")
    header = ["command", *(f"{frames:,} frames" for frames in TARGETS), "what takes the time, and what helps"]
    yield Table(header, follow, alignment="lrrrl")


def _measured(found: dict[str, float] | None) -> str:
    return f"{found['cpu_s']:.1f} s, {found['held_mb']:.0f} MB" if found else "-"


def _expected(by_frames: dict[int, dict[str, float]], frames: int) -> str:
    """Processor time and memory of the largest process; as measured, or continued by the growth a frame.

    Memory grows between few frames for other reasons, such as loaded libraries: from them it is not continued.
    """
    nearest = by_frames.get(frames, by_frames[max(by_frames)])
    more = 0 if frames in by_frames else frames - max(by_frames)
    cpu_s, held_mb = (nearest[what] + more * per_frame(by_frames, what) for what in ("cpu_s", "held_mb"))
    return _duration(cpu_s) + (f", {held_mb / 1e3:.1f} GB" if more == 0 or MANY in by_frames else "")


def _duration(cpu_s: float) -> str:
    if cpu_s < 600:
        return f"{cpu_s:.0f} CPU-s"
    return f"{cpu_s / 60:.0f} CPU-min" if cpu_s < 36_000 else f"{cpu_s / 3600:.0f} CPU-h"


def main() -> None:
    """Measure what is not there yet, and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    written, follows = tables(measurements(arguments.folder.resolve()))
    sentence = setting(
        "hard links to 24 simulated frame pairs of 1000 px; of each command the processor time with its workers, and "
        f"the peak memory of its largest process, with {CORES} workers where it has any"
    )
    parts = ["# Scale", "Written by `make bench-scale`.", _MEMORY, written.markdown(), follows.markdown(), sentence]
    text = "\n\n".join(parts) + "\n"
    print(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()
