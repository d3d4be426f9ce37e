"""Jobs are each done once, in this process or in several, and what ends one of them is reported."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.processes import at_work
from tests.jobs.squares import Square
from veriserum_hf.errors import WorkerError
from veriserum_hf.jobs.files import write_file
from veriserum_hf.jobs.interrupts import exit_status, heed_signals
from veriserum_hf.jobs.pool import run_jobs


def content(folder):
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


def begun(folder):
    return [int(line) for line in (folder / "order").read_text().split()]


def processes(folder):
    return {int(path.read_text()) for path in folder.glob("*.process")}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_once_whatever_the_number_of_processes(tmp_path, workers):
    seen = []
    jobs = [Square(tmp_path, number, units=1 + number % 3) for number in range(12)]
    run_jobs(jobs, workers, lambda *counts: seen.append(counts))
    assert content(tmp_path) == {f"{number}.txt": str(number**2) for number in range(12)}
    assert sorted(begun(tmp_path)) == list(range(12))
    assert (os.getpid() in processes(tmp_path)) == (workers == 1)
    assert seen == sorted(seen) and seen[0] == (0, 24) and seen[-1] == (24, 24)


def test_the_long_ones_come_first_and_the_others_as_they_were_given(tmp_path):
    units = [1, 5, 2, 5, 3, 1]
    run_jobs([Square(tmp_path, number, units=size) for number, size in enumerate(units)], 1, None)
    assert begun(tmp_path) == [1, 3, 4, 2, 0, 5]


def test_what_is_done_is_not_done_again_and_counts_as_done(tmp_path):
    jobs = [Square(tmp_path, number, units=3) for number in range(4)]
    for number in (0, 2):
        write_file(jobs[number].file, "before")
    seen = []
    run_jobs(jobs, 1, lambda *counts: seen.append(counts))
    assert begun(tmp_path) == [1, 3] and content(tmp_path)["2.txt"] == "before"
    assert seen[0] == (6, 12) and seen[-1] == (12, 12)
    run_jobs(jobs, 2, lambda *counts: seen.append(counts))
    assert begun(tmp_path) == [1, 3] and seen[-1] == (12, 12)


def test_no_jobs_are_no_work():
    seen = []
    run_jobs([], 2, lambda *counts: seen.append(counts))
    assert seen == [(0, 0)]


def test_one_job_alone_needs_no_process_of_its_own(tmp_path):
    run_jobs([Square(tmp_path, 3)], 8, None)
    assert processes(tmp_path) == {os.getpid()}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_job_is_the_error_of_all_and_what_is_finished_is_kept(tmp_path, workers):
    jobs = [Square(tmp_path, 0, units=9), Square(tmp_path, 1, units=8, what="fails")]
    jobs += [Square(tmp_path, number, units=4, what="slow") for number in range(2, 20)]
    with pytest.raises(ValueError, match="job 1 cannot be done"):
        run_jobs(jobs, workers, None)
    assert len(begun(tmp_path)) < len(jobs)  # the others are not begun
    assert content(tmp_path).items() <= {f"{number}.txt": str(number**2) for number in range(20)}.items()
    if workers == 1:
        assert list(content(tmp_path)) == ["0.txt"]
    mended = [Square(tmp_path, job.number) for job in jobs]
    run_jobs(mended, 1, None)
    assert all(job.done for job in mended)


def test_a_worker_that_is_killed_is_a_message(tmp_path):
    jobs = [Square(tmp_path, 0, units=2, what="killed"), *(Square(tmp_path, number) for number in (1, 2, 3))]
    with pytest.raises(WorkerError, match=r"killed, perhaps for lack of memory\. What is finished is kept: run the"):
        run_jobs(jobs, 2, None)
    assert not jobs[0].done


INTERRUPTED = """
import sys
from pathlib import Path
from tests.jobs.squares import Square
from veriserum_hf.jobs.pool import run_jobs

try:
    run_jobs([Square(Path(sys.argv[1]), number, units=20, what="slow") for number in range(40)], 2, None)
except KeyboardInterrupt:
    sys.exit("interrupted")
"""


def test_the_signal_of_a_closed_terminal_ends_every_process_as_an_interrupt_does(tmp_path):
    script = INTERRUPTED.replace("except KeyboardInterrupt:", "except KeyboardInterrupt as interrupt:")
    script = script.replace('sys.exit("interrupted")', "sys.exit(exit_status(interrupt))")
    script = script.replace("    run_jobs(", "    with heed_signals():\n        run_jobs(")
    script = f"from veriserum_hf.jobs import exit_status, heed_signals\n{script}"
    with at_work(
        sys.executable, "-c", script, tmp_path, until=lambda: content(tmp_path), environment=dict(os.environ)
    ) as process:
        os.killpg(process.pid, signal.SIGHUP)
        _, printed = process.communicate(timeout=120)
    assert (process.returncode, printed) == (129, "")
    assert content(tmp_path) and len(content(tmp_path)) < 40
    for worker in processes(tmp_path):
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_a_signal_that_is_ignored_stays_ignored():
    """As `nohup` starts a program."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heed_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt) as stopped:
                os.kill(os.getpid(), signal.SIGTERM)
        assert exit_status(stopped.value) == 143 and exit_status(KeyboardInterrupt()) == 130
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_script_without_a_guard_is_not_run_again_in_the_workers(tmp_path):
    (tmp_path / "script.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom tests.jobs.squares import Square\n"
        "from veriserum_hf.jobs.pool import run_jobs\nprint('run')\n"
        "run_jobs([Square(Path(sys.argv[1]), number) for number in range(4)], 2, None)\n"
    )
    command = [sys.executable, tmp_path / "script.py", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "run\n", "")
    assert len(content(tmp_path)) == 4


def test_an_interrupt_ends_every_process_and_what_is_finished_is_kept(tmp_path):
    command = (sys.executable, "-c", INTERRUPTED, tmp_path)
    with at_work(*command, until=lambda: content(tmp_path), environment=dict(os.environ)) as process:
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the workers too
        _, printed = process.communicate(timeout=120)
    assert process.returncode == 1 and printed == "interrupted\n"
    assert content(tmp_path) and len(content(tmp_path)) < 40
    for worker in processes(tmp_path):
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
