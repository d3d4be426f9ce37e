"""Work that is killed (-9) and run again: ``python -m tests.benchmarks.bench_kill FOLDER``.

At random moments, with two worker processes, and before every event of the file system (every request, for a push),
with one. The folder keeps the inputs and what was measured: the same command goes on where it was stopped. In the end
RESULTS_KILL.md holds the table.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from tests.benchmarks.table import setting
from tests.forked import FORKED
from tests.hub.loopback import Loopback
from tests.jobs.processes import killed_at_event
from veriserum_hf.core import Table
from veriserum_hf.dataset import Options, convert_archive
from veriserum_hf.simulation import Settings, simulate

RESULTS = Path(__file__).with_name("RESULTS_KILL.md")
SMALL = Settings(trials=2, frames_per_trial=2, pairs=1, height_px=100, marker_frames=0)
RANDOM_KILLS = 30
REPOSITORY = "my-lab/things"


@dataclass(frozen=True)
class Measured:
    """Kills of one command, and the finished results after them."""

    command: str
    when: str
    kills: int
    results: int
    identical: int
    leftovers: int


@dataclass(frozen=True)
class Work:
    """A command, as a function of its output and its number of worker processes, and what it makes."""

    command: str
    run: Callable[[Path, Path, int], None]

    def outcome(self, folder: Path, output: Path) -> dict[str, str]:
        """Hashes of what is there."""
        if self.command == "push":
            return _pushed(folder)
        if output.is_file():  # equal tables: the metadata holds the path
            return {"poses": hashlib.sha256(json.dumps(pq.read_table(output).to_pylist()).encode()).hexdigest()}
        files = sorted(path for path in output.rglob("*") if path.is_file())
        return {str(f.relative_to(output)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def _simulate(folder: Path, output: Path, workers: int) -> None:
    simulate(output, SMALL, workers=workers)


def _convert(folder: Path, output: Path, workers: int) -> None:
    convert_archive(folder / "archive", output, options=Options(size=64), workers=workers, shard_size_bytes=20_000)


def _register(folder: Path, output: Path, workers: int) -> None:
    from veriserum_hf.registration import register_dataset

    register_dataset(str(folder / "dataset"), output, workers=workers)


def _push(folder: Path, output: Path, workers: int) -> None:
    import huggingface_hub.constants

    from tests.hub.server import TOKEN
    from veriserum_hf.hub import push

    url = (folder / "hub_url").read_text()
    huggingface_hub.constants.ENDPOINT, huggingface_hub.constants.HF_HUB_OFFLINE = url, False
    huggingface_hub.constants.HF_HUB_DISABLE_XET = True
    os.environ["HF_TOKEN"] = TOKEN
    push._MOST_FILES_OF_COMMIT = 2
    files = sorted(path.relative_to(folder / "dataset") for path in (folder / "dataset").rglob("*") if path.is_file())
    push.push_folder(folder / "dataset", REPOSITORY, repo_type="dataset", files=files, version="1.0.0")


def _pushed(folder: Path) -> dict[str, str]:
    """Files of the loopback hub's tag, and how many commits they took."""
    from tests.hub.store import Store

    repository = Store(folder / "hub").load("datasets", REPOSITORY)
    assert repository is not None
    files = repository.commit("1.0.0").files
    return {path: entry.sha256 for path, entry in files.items()} | {
        "main": str(files == repository.commit("main").files)
    }


WORKS = (Work("convert", _convert), Work("push", _push), Work("simulate", _simulate), Work("register", _register))


def main(folder: Path) -> None:
    """Measure what is left to measure, and write the table."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "measured.jsonl"
    simulate(folder / "archive", SMALL)
    _convert(folder, folder / "dataset", 1)
    (folder / "hub").mkdir(exist_ok=True)
    hub = Loopback(folder / "hub")
    (folder / "hub_url").write_text(hub.url)
    try:
        for when, kill in (("every event", _at_every_event), ("random moments", _at_random)):
            for work in WORKS:
                done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
                if not any((each["command"], each["when"]) == (work.command, when) for each in done):
                    measured = kill(work, folder)
                    print(measured, flush=True)
                    with kept.open("a") as file:
                        file.write(json.dumps(asdict(measured)) + "\n")
    finally:
        hub.stop()
    rows = sorted(tuple(json.loads(line).values()) for line in kept.read_text().splitlines())
    table = Table(("command", "killed at", "kills", "finished results", "identical", "with leftovers"), rows)
    RESULTS.write_text(_page(table))


def _page(table: Table) -> str:
    about = (
        "Killed with signal 9, and the same command run again: at random moments with two worker processes, again "
        "and again until it comes through; and before each event of the file system (a file opened to write, a "
        "folder made, something renamed or removed, a wait for the disk; for a push, before and after each request) "
        "with one, the second run to its end."
    )
    written = "Written by `python -m tests.benchmarks.bench_kill FOLDER`."
    lines = ["# Killed and run again", written, about, table.markdown(), setting("tiny data")]
    return "\n\n".join(lines) + "\n"


def _at_random(work: Work, folder: Path) -> Measured:
    """Kill at random moments, again and again, until the work comes through; and so on."""
    generator = random.Random(0)
    started = time.monotonic()
    expected = _completed(work, folder, 2)
    duration_s = time.monotonic() - started
    kills = results = identical = leftovers = 0
    while kills < RANDOM_KILLS:
        output = _new_output(folder)
        while kills < RANDOM_KILLS and _killed_after(generator.uniform(0, duration_s), work, folder, output):
            kills += 1
        found, left = _finished(work, folder, output, 2)
        results, identical, leftovers = results + 1, identical + (found == expected), leftovers + left
    return Measured(work.command, "random moments", kills, results, identical, leftovers)


def _at_every_event(work: Work, folder: Path) -> Measured:
    """Kill before the first event, and finish; then before the second of a new one, and so on."""
    expected = _completed(work, folder, 1)
    identical = leftovers = 0
    for kills in count():
        output = _new_output(folder)
        killed = _killed_at_request if work.command == "push" else killed_at_event
        if not killed(kills + 1, output.parent, work.run, folder, output, 1):
            break
        found, left = _finished(work, folder, output, 1)
        identical, leftovers = identical + (found == expected), leftovers + left
    return Measured(work.command, "every event", kills, kills, identical, leftovers)


def _new_output(folder: Path) -> Path:
    """An output in an empty folder; the hub is emptied, too."""
    shutil.rmtree(folder / "work", ignore_errors=True)
    (folder / "work").mkdir()
    for name in ("repositories", "objects"):
        shutil.rmtree(folder / "hub" / name, ignore_errors=True)
        (folder / "hub" / name).mkdir(parents=True)
    return folder / "work" / "output"


def _completed(work: Work, folder: Path, workers: int) -> dict[str, str]:
    return _finished(work, folder, _new_output(folder), workers)[0]


def _finished(work: Work, folder: Path, output: Path, workers: int) -> tuple[dict[str, str], bool]:
    """What the work makes when it is run to its end, and whether anything else is left."""
    process = FORKED.Process(target=work.run, args=(folder, output, workers))
    process.start()
    process.join()
    left = [path.name for path in output.parent.iterdir() if path != output]
    return (work.outcome(folder, output) if process.exitcode == 0 else {"failed": str(process.exitcode)}), bool(left)


def _killed_after(seconds: float, work: Work, folder: Path, output: Path) -> bool:
    """Whether the work was killed after a time; False if it came to its end before."""
    process = FORKED.Process(target=work.run, args=(folder, output, 2))
    process.start()
    process.join(seconds)
    if process.exitcode is not None:
        return False
    try:
        workers = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        workers = []
    process.kill()
    process.join()
    psutil.wait_procs(workers, timeout=60)  # they end when they see it
    return process.exitcode == -signal.SIGKILL


def _killed_at_request(number: int, _: Path, work: Callable[..., object], *arguments: object) -> bool:
    """Kill before an odd one, or after an even one, has been answered: 1 and 2 are the first request."""
    process = FORKED.Process(target=_work_until_request, args=(number, work, arguments))
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _work_until_request(number: int, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    from huggingface_hub.utils import get_session

    session = get_session()
    send, moments = session.send, count(1)

    def moment() -> None:
        if next(moments) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def sent(*values: object, **options: object) -> object:
        moment()
        answer = send(*values, **options)
        moment()
        return answer

    session.send = sent  # type: ignore[method-assign]
    work(*arguments)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
