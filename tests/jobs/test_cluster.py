"""Work on a Dask cluster: the same bytes as on one machine, whatever is lost in the middle, and one clear message."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.commands import outcome
from tests.jobs.clusters import DaskCluster, process_at_work, wait_for
from tests.jobs.processes import at_work
from tests.jobs.squares import Square
from tests.registration.sources import save_untrained
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.errors import WorkerError
from veriserum_hf.jobs import dask_cluster, pool
from veriserum_hf.jobs.dask_cluster import dask_executor
from veriserum_hf.jobs.folder import incomplete_folder
from veriserum_hf.jobs.pool import run_jobs
from veriserum_hf.jobs.worker import run_in_worker

SMALL = ("--trials", 6, "--frames-per-trial", 1, "--pairs", 1, "--size", 200, "--marker-frames", 0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler with two workers."""
    made = DaskCluster(tmp_path_factory.mktemp("cluster"))
    made.start(2)
    yield made
    made.stop()


@pytest.fixture
def own_cluster(tmp_path_factory):
    """Another one, to be lost: clients of the others would wait for it."""
    made = DaskCluster(tmp_path_factory.mktemp("cluster"))
    made.start(2)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def executor(cluster):
    with dask_executor(cluster.file) as found:
        yield found


@pytest.fixture(scope="module")
def archive(cluster, tmp_path_factory):
    """Simulated by the cluster."""
    folder = tmp_path_factory.mktemp("archive") / "archive"
    assert outcome("simulate", folder, *SMALL, "--scheduler-file", cluster.file)[0] == 0
    return folder


@pytest.fixture(scope="module")
def dataset(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "dataset"
    assert outcome("convert", archive, folder, "--size", 128, "--workers", 1)[0] == 0
    return folder


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def begun(folder):
    return len((folder / "order").read_text().split())


def kill_at_work(folder):
    """Kill the process that writes below a folder, if one is seen within 20 s."""
    with suppress(AssertionError):
        os.kill(process_at_work(folder, latest_s=20), signal.SIGKILL)


def test_every_job_is_done_by_a_worker_and_nothing_else_is_left(executor, tmp_path):
    seen = []
    jobs = [Square(tmp_path, number, units=1 + number % 3, what="slow") for number in range(12)]
    run_jobs(jobs, None, lambda *counts: seen.append(counts), executor=executor, folder=tmp_path)
    assert all(job.done for job in jobs) and begun(tmp_path) == 12
    assert str(os.getpid()) not in {path.read_text() for path in tmp_path.glob("*.process")}
    assert seen == sorted(seen) and seen[0] == (0, 24) and seen[-1] == (24, 24)
    assert not list(tmp_path.glob(".*"))


def test_any_executor_will_do(tmp_path):
    with ThreadPoolExecutor(2) as threads:
        jobs = [Square(tmp_path, number) for number in range(5)]
        run_jobs(jobs, None, None, executor=threads, folder=tmp_path)
    assert all(job.done for job in jobs)


def test_an_error_of_a_job_is_the_error_of_all_and_the_others_end(executor, tmp_path):
    jobs = [Square(tmp_path, 0, units=900, what="slow"), Square(tmp_path, 1, units=2, what="fails")]
    with pytest.raises(ValueError, match="job 1 cannot be done"):
        run_jobs(jobs, None, None, executor=executor, folder=tmp_path)
    after = Square(tmp_path, 2, units=3), Square(tmp_path, 3, units=3)
    started = time.monotonic()
    run_jobs(after, None, None, executor=executor, folder=tmp_path)  # both workers are free
    assert time.monotonic() - started < 9 and not jobs[0].done


KILLED = """
import sys
from pathlib import Path
from tests.jobs.squares import Square
from veriserum_hf.jobs import dask_executor, run_jobs

folder = Path(sys.argv[1])
with dask_executor(sys.argv[2]) as executor:
    jobs = [Square(folder, number, units=20, what="slow") for number in range(40)]
    run_jobs(jobs, None, None, executor=executor, folder=folder)
"""


def test_workers_have_nothing_to_do_when_the_command_is_killed(cluster, executor, tmp_path):
    command = (sys.executable, "-c", KILLED, tmp_path, cluster.file)
    with at_work(*command, until=lambda: list(tmp_path.glob("*.txt")), environment=dict(os.environ)) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(2)
    last = begun(tmp_path)
    assert last < 40
    run_jobs([Square(tmp_path, 100), Square(tmp_path, 101)], None, None, executor=executor, folder=tmp_path)
    assert begun(tmp_path) == last + 2


def test_simulate_register_and_predict_give_the_same_bytes_as_on_one_machine(cluster, archive, dataset, tmp_path):
    def both(name, *arguments):
        """Outputs of a command that the cluster runs, and of the same one here."""
        outputs = tmp_path / "there" / name, tmp_path / "here" / name
        for output, where in zip(outputs, (("--scheduler-file", cluster.file), ()), strict=True):
            output.parent.mkdir(exist_ok=True)
            status, _, printed = outcome(*(output if word == "OUT" else word for word in arguments), *where)
            assert status in (0, 3), printed
        assert [path.name for path in outputs[0].parent.iterdir()] == [
            path.name for path in outputs[1].parent.iterdir()
        ]
        return outputs

    assert outcome("simulate", tmp_path / "archive", *SMALL, "--workers", 1)[0] == 0
    assert content(archive) == content(tmp_path / "archive")
    poses = "--trial", str(open_rows(str(dataset), "calibrated").joined("all").rows[0]["trial_id"])
    there, here = both("registered.parquet", "register", dataset, "-o", "OUT", "--start", "refined", *poses)
    assert there.read_bytes() == here.read_bytes()
    save_untrained(open_rows(str(dataset), "calibrated"), tmp_path / "run")
    there, here = both("predicted.parquet", "predict", tmp_path / "run", "--dataset", dataset, "-o", "OUT")
    assert there.read_bytes() == here.read_bytes()


def test_a_worker_that_is_killed_in_a_shard_leaves_no_trace(cluster, archive, dataset, tmp_path):
    for attempt in range(9):  # a shard may be finished before it is seen
        output = tmp_path / str(attempt) / "OUT"
        output.parent.mkdir()
        killer = threading.Thread(target=kill_at_work, args=[incomplete_folder(output) / "data"])
        killer.start()
        status, _, printed = outcome("convert", archive, output, "--size", 128, "--scheduler-file", cluster.file)
        killer.join()
        assert status == 0, printed
        if killed := [worker for worker in cluster.workers if worker.poll() == -signal.SIGKILL]:
            break
    cluster.add_worker()
    assert len(killed) == 1
    assert content(output) == content(dataset)  # which was converted here
    assert list(output.parent.iterdir()) == [output]


def test_a_worker_of_another_version_is_named(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "versions", lambda: {"veriserum_hf": "0.0.1", "numpy": "1"})
    with pytest.raises(
        WorkerError, match=r"worker process \d+ on \S+ has veriserum_hf \S+ instead of 0\.0\.1, numpy"
    ):
        run_jobs([Square(tmp_path, 0)], None, None, executor=executor, folder=tmp_path)


def test_a_worker_that_does_not_see_a_folder_is_named(executor, tmp_path):
    with pytest.raises(WorkerError, match=r"worker process \d+ on \S+ does not see /not/shared, which is read"):
        run_jobs([Square(tmp_path, 0)], None, None, executor=executor, folder=tmp_path, reads=[Path("/not/shared")])
    with pytest.raises(WorkerError, match=r"worker process \d+ on \S+ does not see /not/shared\. The folders of"):
        executor.submit(run_in_worker, b"", Path("/not/shared/board/0"), None).result()


def test_files_that_a_worker_has_written_elsewhere_are_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "_LATEST_S", 0.2)
    monkeypatch.setattr(Square, "done", False)
    with (
        ThreadPoolExecutor(1) as thread,
        pytest.raises(WorkerError, match="has finished a job, but its files are not here"),
    ):
        run_jobs([Square(tmp_path, 0)], None, None, executor=thread, folder=tmp_path)


@pytest.mark.parametrize("text", [None, "", "[]", '{"address": 3}', "{}"])
def test_a_file_of_no_scheduler_is_named(tmp_path, text):
    file = tmp_path / "scheduler.json"
    if text is not None:
        file.write_text(text)
    status, _, printed = outcome("simulate", tmp_path / "OUT", "--scheduler-file", file)
    assert status == 2 and str(file) in printed
    assert "expected the file that `dask scheduler --scheduler-file FILE` writes" in printed
    assert not (tmp_path / "OUT.incomplete").exists()


def test_a_scheduler_that_has_ended_and_a_missing_extra_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_SCHEDULER_S", 0.5)
    file = tmp_path / "scheduler.json"
    file.write_text('{"address": "tcp://127.0.0.1:9"}')
    status, _, printed = outcome("simulate", tmp_path / "OUT", "--scheduler-file", file)
    assert status == 2
    assert printed.startswith(f"error: the scheduler of {file} does not answer at tcp://127.0.0.1:9 within 0 s")
    monkeypatch.setitem(sys.modules, "distributed", None)
    status, _, printed = outcome("simulate", tmp_path / "OUT", "--scheduler-file", file)
    assert status == 2 and 'pip install "veriserum-hf[cluster]"' in printed


def test_a_single_frame_is_not_predicted_on_a_cluster(tmp_path):
    status, _, printed = outcome("predict", "RUN", "bs.jpg", "fs.jpg", "--scheduler-file", "s.json")
    assert status == 2 and "--scheduler-file needs --dataset" in printed


def test_a_lost_scheduler_is_one_message_and_the_same_command_resumes(own_cluster, tmp_path):
    frames = ("--trials", 4, "--frames-per-trial", 5, "--pairs", 1, "--size", 100, "--marker-frames", 0)
    command = ("simulate", tmp_path / "there", *frames, "--scheduler-file", own_cluster.file)
    unfinished = incomplete_folder(tmp_path / "there")

    def lose():
        wait_for(lambda: list(unfinished.rglob("*.jpg")), "a first frame")
        own_cluster.lose_scheduler()

    killer = threading.Thread(target=lose)
    killer.start()
    status, out, printed = outcome(*command)
    killer.join()
    assert (status, out) == (2, "") and "Traceback" not in printed
    assert printed.partition("error: ")[2] == (
        "The jobs were cancelled, as they are when the connection to the scheduler is lost. What is finished is "
        "kept: run the same command again to resume, when there is a scheduler."
    )
    assert unfinished.exists()
    own_cluster.stop()
    own_cluster.start(1)
    assert outcome(*command)[0] == 0
    assert outcome("simulate", tmp_path / "here", *frames, "--workers", 1)[0] == 0
    assert content(tmp_path / "there") == content(tmp_path / "here")
