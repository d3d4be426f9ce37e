"""``veriserum convert``, killed, interrupted or without disk space: finished work is kept, the rest is done later."""

import os
import signal
from functools import partial
from itertools import count

import psutil
import pytest
from filelock import FileLock

from tests.dataset.conftest import SHARD_BYTES, content
from tests.jobs.processes import VERISERUM, at_work, killed_at, run_here, small_disk, veriserum, written
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.errors import ConversionError

SHARDS = "*/[!.]*.parquet"


def finished(out):
    """When each shard was written, wherever it lies by now."""
    return written(out, SHARDS) or written(out.with_name("out.incomplete") / "data", SHARDS)


@pytest.fixture
def command(tiny, tmp_path):
    return ("convert", tiny.root, tmp_path / "out", "--shard-size", SHARD_BYTES)


@pytest.mark.parametrize("configs", [("calibrated", "anatomies"), ("anatomies",)], ids=["nine shards", "one shard"])
def test_killed_at_any_moment_and_run_again_it_is_the_same_to_the_byte(tiny, tmp_path, configs):
    """Before its first step, then before the second of what is left, and so on, until one run comes through."""
    options = {"configs": configs, "shard_size_bytes": SHARD_BYTES, "workers": 1}
    expected = content(convert_archive(tiny.root, tmp_path / "expected", **options).output)
    out, kept = tmp_path / "out", {}
    for kills in count():
        if not killed_at(1 + kills, convert_archive, tiny.root, out, **options):
            break
        assert not out.exists() or content(out) == expected
        before, kept = kept, finished(out)
        assert before.items() <= kept.items()
    assert kills >= 5
    assert kept.items() <= finished(out).items()
    assert content(out) == expected
    assert not (tmp_path / "out.incomplete").exists()


def check_resumed(out, tiny, converted):
    """What was stopped is not there yet, and the next conversion resumes from its shards, with the same result."""
    assert not out.exists()
    kept = finished(out)
    assert kept
    convert_archive(tiny.root, out, shard_size_bytes=SHARD_BYTES, workers=1)
    assert kept.items() <= finished(out).items()
    assert content(out) == content(converted)


def test_workers_end_when_their_parent_is_killed_and_what_they_finished_is_kept(converted, tiny, command, tmp_path):
    out = tmp_path / "out"
    with at_work(VERISERUM, *command, "--workers", 2, until=partial(finished, out)) as process:
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(workers, timeout=300)
    assert len(workers) >= 2
    assert not alive
    check_resumed(out, tiny, converted)


def test_an_interrupt_is_a_message_and_keeps_what_is_finished(converted, tiny, command, tmp_path):
    out = tmp_path / "out"
    with at_work(VERISERUM, *command, "--workers", 2, until=partial(finished, out)) as process:
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the workers too
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted; finished work is kept" in stderr
    assert "Traceback" not in stderr
    check_resumed(out, tiny, converted)


@pytest.mark.parametrize(("workers", "run"), [(1, run_here), (2, veriserum)], ids=["1", "2"])
def test_a_full_disk_is_a_message_and_leaves_nothing_that_looks_whole(
    converted, tiny, command, tmp_path, workers, run
):
    with small_disk(60_000):
        ran = run(*command, "--workers", workers)
    assert ran.returncode == 2, ran.stderr
    assert "Cannot write below" in ran.stderr
    assert "File too large" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.incomplete").rglob("*.partial*"))
    convert_archive(tiny.root, tmp_path / "out", shard_size_bytes=SHARD_BYTES, workers=1)
    assert content(tmp_path / "out") == content(converted)


def test_another_conversion_does_not_mix_with_an_unfinished_one(tiny, tmp_path):
    incomplete = tmp_path / "out.incomplete"
    incomplete.mkdir()
    (incomplete / "record.json").write_text('{"options": "others"}')
    with pytest.raises(ConversionError, match="holds an unfinished conversion with other input, options or versions"):
        convert_archive(tiny.root, tmp_path / "out")


def test_two_conversions_at_once_are_refused(tiny, tmp_path):
    (tmp_path / "out.incomplete").mkdir()
    with (
        FileLock(tmp_path / "out.incomplete" / "lock"),
        pytest.raises(ConversionError, match="Another conversion is writing"),
    ):
        convert_archive(tiny.root, tmp_path / "out")
