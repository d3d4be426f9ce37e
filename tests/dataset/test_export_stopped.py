"""``veriserum convert``, killed, interrupted or without disk space: finished work is kept, the rest is done later."""

import os
import re
import shutil
import signal
import subprocess
from functools import partial
from itertools import count

import psutil
import pytest
from filelock import FileLock

from tests.dataset.conftest import SHARD_BYTES, content
from tests.jobs.processes import (
    VERISERUM,
    at_work,
    killed_at,
    killed_at_event,
    run_here,
    small_disk,
    written,
)
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


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_a_message_and_leaves_nothing_that_looks_whole(converted, tiny, command, tmp_path, workers):
    with small_disk(60_000):
        ran = run_here(*command, "--workers", workers)
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


def stopped_half_way(tiny, out):
    """An unfinished conversion with some shards."""

    def progress(done, all):
        if done * 2 > all:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_archive(tiny.root, out, shard_size_bytes=SHARD_BYTES, workers=1, progress=progress)


def test_after_a_power_cut_in_any_file_the_result_is_the_same(converted, tiny, tmp_path):
    """A file of each kind of the unfinished folder is empty, half there, or all zeros."""
    stopped_half_way(tiny, tmp_path / "half")
    incomplete = tmp_path / "half.incomplete"
    shard = sorted(incomplete.rglob("*.parquet"))[0]
    record = incomplete / f"{shard.parent.name}-{shard.name}.json"
    files = [shard, record, *(incomplete / name for name in ("shards.json", "record.json", "SHA256SUMS"))]
    damages = (lambda old: b"", lambda old: old[: len(old) // 2], lambda old: bytes(len(old)))
    for number, path in enumerate(files):
        out = tmp_path / f"out{number}"
        again = tmp_path / f"out{number}.incomplete"
        shutil.copytree(incomplete, again)
        damaged = again / path.relative_to(incomplete)
        damaged.write_bytes(damages[number % 3](path.read_bytes()))
        convert_archive(tiny.root, out, shard_size_bytes=SHARD_BYTES, workers=1)
        assert content(out) == content(converted), path
        assert not again.exists()


@pytest.mark.parametrize("damage", ["deleted", "emptied", "zeroed", "flipped"])
def test_a_finished_folder_that_is_damaged_is_refused_by_name(converted, tiny, tmp_path, damage):
    out = tmp_path / "out"
    shutil.copytree(converted, out)
    options = {"shard_size_bytes": SHARD_BYTES, "workers": 1}
    (out / "README.md").write_text("edited by its owner")
    assert convert_archive(tiny.root, out, **options).output == out
    shard = sorted(out.rglob("*.parquet"))[0]
    whole = shard.read_bytes()
    shard.unlink()
    if damage != "deleted":
        flipped = whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]
        shard.write_bytes({"emptied": b"", "zeroed": bytes(len(whole)), "flipped": flipped}[damage])
    with pytest.raises(ConversionError, match=rf"but damaged: .*{re.escape(shard.name)} .*Remove the folder and run"):
        convert_archive(tiny.root, out, **options)
    assert shard.exists() == (damage != "deleted")


def test_a_link_to_an_empty_folder_is_followed(converted, tiny, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    convert_archive(tiny.root, tmp_path / "link", shard_size_bytes=SHARD_BYTES, workers=1)
    assert (tmp_path / "link").is_symlink() and content(tmp_path / "elsewhere") == content(converted)


def test_places_that_cannot_be_taken_are_refused_before_any_work(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for output, reason in (
        (".", "is the current folder"),
        (tiny.root, "is or holds"),
        (tiny.root / "below" / "out", "is within"),
        (tiny.root.parent, "is or holds"),
    ):
        ran = run_here("convert", tiny.root, output)
        assert ran.returncode == 2 and reason in ran.stderr
    assert not list(tmp_path.iterdir()) and not list(tiny.root.parent.glob("*.incomplete"))


@pytest.fixture
def tmpfs(tmp_path):
    """Mounts a real disk of so many bytes; only root can."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size):
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("this machine mounts no disk")
        return folder

    yield mount
    subprocess.run(["umount", folder], check=False, capture_output=True)


def test_on_a_full_disk_arrow_does_not_abort_and_with_space_the_same_command_resumes(converted, tiny, tmpfs):
    disk = tmpfs(100_000)
    command = ("convert", tiny.root, disk / "out", "--shard-size", SHARD_BYTES, "--workers", 1)
    ran = run_here(*command)
    assert ran.returncode == 2 and "No space left on device. What is finished is kept" in ran.stderr
    subprocess.run(["mount", "-o", "remount,size=100M", disk], check=True)
    assert run_here(*command).returncode == 0
    assert content(disk / "out") == content(converted)
    assert [path.name for path in disk.iterdir()] == ["out"]


def test_killed_at_some_event_of_the_file_system_it_is_the_same(converted, tiny, tmp_path):
    """At every one: `tests.benchmarks.bench_kill`."""
    out, options = tmp_path / "out", {"shard_size_bytes": SHARD_BYTES, "workers": 1}
    assert killed_at_event(50, tmp_path, convert_archive, tiny.root, out, **options)
    convert_archive(tiny.root, out, **options)
    assert content(out) == content(converted) and [path.name for path in tmp_path.iterdir()] == ["out"]
