"""Two workers of a Dask cluster, and two local processes: ``python -m tests.benchmarks.bench_cluster``.

Bytes, what is left when a worker or the scheduler is killed, and processor time: of the command, the scheduler and
the workers together, in alternating runs. Writes RESULTS_CLUSTER.md.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import pyarrow.parquet as pq

from tests.benchmarks.table import COMPARISON, Row, write_table
from tests.jobs.clusters import DaskCluster, process_at_work
from veriserum_hf.jobs import incomplete_folder
from veriserum_hf.simulation import Settings, simulate
from veriserum_hf.simulation.tables import FRAMES_FOLDER

RESULTS = Path(__file__).with_name("RESULTS_CLUSTER.md")
_ROUNDS = 3
_WARMED_UP = {"simulate": 1, "convert": 3, "register": 1}  # runs; a conversion of so few frames has few jobs
_LEAST_EFFICIENCY = 0.9
_SETTLED_S, _IDLE_S = 8, 20
_WRITTEN = ("data/calibrated", f"archive/{FRAMES_FOLDER}")  # by workers alone, below the unfinished work
_FRAMES = ("--trials", "4", "--frames-per-trial", "5", "--pairs", "2", "--size", "800", "--marker-frames", "1")


@dataclass(frozen=True)
class Ended:
    """What a command printed and ended with, and its processor time with that of its processes."""

    status: int
    error: str
    cpu_s: float


def _run(*command: object) -> Ended:
    words = [sys.executable, "-m", "veriserum_hf", *map(str, command)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (
        tempfile.TemporaryFile() as err,
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=err, env=environment) as process,
    ):
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        return Ended(process.returncode, err.read().decode(), used.ru_utime + used.ru_stime)


def _cluster_cpu_s(cluster: DaskCluster) -> float:
    """Processor time of scheduler, nannies and workers so far."""
    pids = [process.pid for process in (cluster.scheduler, *cluster.workers) if process]
    processes = [
        each for pid in pids for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    ]
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def _content(output: Path) -> dict[str, object]:
    """Bytes of every file; of a Parquet file alone, its rows and what it states of itself."""
    if output.is_file():
        return {"bytes": output.read_bytes(), "rows": pq.read_table(output).num_rows}
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def _idle_share(cluster: DaskCluster) -> float:
    """Processor time that a cluster without work takes in a second."""
    time.sleep(_SETTLED_S)
    before = _cluster_cpu_s(cluster)
    time.sleep(_IDLE_S)
    return (_cluster_cpu_s(cluster) - before) / _IDLE_S


class Commands:
    """The three commands, each with its own folder for every output."""

    def __init__(self, folder: Path, cluster: DaskCluster) -> None:
        self.idle = _idle_share(cluster)
        self.folder, self.cluster, self.count = folder, cluster, 0
        simulate(folder / "archive", Settings(trials=2, frames_per_trial=2, pairs=1, height_px=800, marker_frames=0))
        if _run("convert", folder / "archive", folder / "dataset", "--workers", 1).status:
            raise RuntimeError("the data set could not be made")
        self.large = folder / "large"
        if _run("simulate", self.large, *_FRAMES).status:
            raise RuntimeError("the archive could not be made")

    def output(self) -> Path:
        """A new output, alone in a folder."""
        self.count += 1
        folder = self.folder / f"output_{self.count}"
        folder.mkdir()
        return folder / "out"

    def words(self, name: str, output: Path) -> tuple[object, ...]:
        """Words of a command."""
        return {
            "simulate": ("simulate", output, *_FRAMES),
            "convert": ("convert", self.large, output),
            "register": ("register", self.folder / "dataset", "--start", "refined", "-o", output),
        }[name]

    def here(self, name: str) -> tuple[Path, float]:
        """Output of two local processes, and the processor time."""
        output = self.output()
        ended = _run(*self.words(name, output), "--workers", 2)
        return _checked(output, ended), ended.cpu_s

    def there(self, name: str) -> tuple[Path, float, float]:
        """Output of the cluster, and the processor time of everything: less what it takes without work, and with."""
        before, output, started = _cluster_cpu_s(self.cluster), self.output(), time.monotonic()
        ended = _run(*self.words(name, output), "--scheduler-file", self.cluster.file)
        idle_s = self.idle * (time.monotonic() - started)
        cpu_s = ended.cpu_s + _cluster_cpu_s(self.cluster) - before
        return _checked(output, ended), cpu_s - idle_s, cpu_s

    def there_while(self, name: str, then: Callable[[Path], None]) -> tuple[Path, Ended]:
        """Run on the cluster while something happens."""
        output = self.output()
        thread = threading.Thread(target=then, args=(output,), daemon=True)
        thread.start()
        ended = _run(*self.words(name, output), "--scheduler-file", self.cluster.file)
        thread.join()
        return output, ended


def _checked(output: Path, ended: Ended) -> Path:
    if ended.status not in (0, 3):
        raise RuntimeError(f"{output}: {ended}")
    if left := [path for path in output.parent.iterdir() if path != output]:
        raise RuntimeError(f"left: {left}")
    return output


def _rows(commands: Commands) -> Iterator[Row]:
    expected = {}
    yield Row("CPU of two workers and scheduler without work", f"{commands.idle:.3f} cores", COMPARISON, None)
    for name in ("simulate", "convert", "register"):
        for _ in range(_WARMED_UP[name]):  # each worker imports what it needs with its first job
            commands.there(name)
        outputs: list[dict[str, object]] = []
        local: list[float] = []
        remote: list[tuple[float, float]] = []
        for _ in range(_ROUNDS):
            output, cpu_s = commands.here(name)
            outputs.append(_content(output))
            local.append(cpu_s)
            output, *both = commands.there(name)
            outputs.append(_content(output))
            remote.append((both[0], both[1]))
        working, everything = (
            median(here / there for here, there in zip(local, times, strict=True))
            for times in zip(*remote, strict=True)
        )
        working_s = median(times[0] for times in remote)
        expected[name] = outputs[0]
        same = sum(each == outputs[0] for each in outputs)
        yield Row(
            f"{name}: runs with the same bytes, local pool and cluster", f"{same} of {len(outputs)}", "all",
            same == len(outputs),
        )  # fmt: skip
        yield Row(
            f"{name}: CPU efficiency, local pool / cluster (median of {_ROUNDS})",
            f"{working:.2f} ({median(local):.1f} s / {working_s:.1f} s); {everything:.2f} with what it takes idle",
            f"at least {_LEAST_EFFICIENCY}",
            working >= _LEAST_EFFICIENCY,
        )
    for name in ("simulate", "convert", "register"):
        output, ended = commands.there_while(name, _killer(commands.cluster))
        left = [path.name for path in output.parent.iterdir() if path != output]
        same = ended.status in (0, 3) and _content(output) == expected[name]
        found = f"{'same bytes' if same else f'other bytes, exit status {ended.status}'}, {len(left)} leftovers"
        yield Row(f"{name}: a worker killed (SIGKILL) in a job", found, "same bytes, 0 leftovers", same and not left)
    yield from _lost_scheduler(commands, expected["convert"])


def _killer(cluster: DaskCluster) -> Callable[[Path], None]:
    def kill(output: Path) -> None:
        """Kill the process that writes a file of the result; of a registration, one that is at work."""
        unfinished = incomplete_folder(output)
        while True:
            folders = [folder for name in _WRITTEN if (folder := unfinished / name).exists()]
            if folders:
                os.kill(process_at_work(*folders), signal.SIGKILL)
                return
            with suppress(FileNotFoundError, ValueError):
                notes = [int(note.read_text()) for note in unfinished.glob(".jobs.*.partial/*")]
                if len(notes) == 2 and all(notes):  # both workers are busy
                    children = psutil.Process(cluster.workers[0].pid).children()
                    max(children, key=lambda child: child.memory_info().rss).kill()
                    return
            time.sleep(0.01)

    return kill


def _lost_scheduler(commands: Commands, expected: dict[str, object]) -> Iterator[Row]:
    def lose(output: Path) -> None:
        while not list((incomplete_folder(output) / "data").rglob("*.parquet")):
            time.sleep(0.001)
        commands.cluster.lose_scheduler()

    output, ended = commands.there_while("convert", lose)
    lines = [line for line in ended.error.splitlines() if "error" in line.lower() or "Traceback" in line]
    yield Row(
        "convert: scheduler killed", f"exit status {ended.status}, {len(lines)} message", "2, 1 message",
        ended.status == 2 and len(lines) == 1 and "run the same command again to resume" in lines[0],
    )  # fmt: skip
    commands.cluster.stop()
    commands.cluster.start(2)
    ended = _run(*commands.words("convert", output), "--scheduler-file", commands.cluster.file)
    same = ended.status == 0 and _content(_checked(output, ended)) == expected
    yield Row("convert: the same command with a new scheduler", "same bytes" if same else "other", "same bytes", same)


def main() -> None:
    """Measure and write the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cluster = DaskCluster(folder, nanny=True)
        try:
            cluster.start(2)
            write_table(
                "A Dask cluster",
                _rows(Commands(folder, cluster)),
                "two workers of one thread on this machine, joined by a scheduler file; 20 simulated dual-plane "
                "frames with 800 rows; 4 others registered",
                RESULTS,
                before="Processor time is that of the command, the scheduler and the workers together, less what the "
                "cluster takes in the same time without work. The cluster's workers run before the command and have "
                "imported what they need; the local pool starts its own processes in every run, which makes up much "
                "of its time with so little work: figures above 1 show that the cluster costs little, and not that "
                "it saves anything.",
            )
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
