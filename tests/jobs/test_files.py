"""A file or a folder appears whole or not at all, also where a process is killed or several write at once."""

import errno
import os
import signal
from pathlib import Path

import pytest

from tests.forked import FORKED
from tests.jobs.processes import killed_at
from veriserum_hf.errors import VeriserumError
from veriserum_hf.jobs.disk import writing
from veriserum_hf.jobs.files import _place, atomic_path, remove_abandoned, write_file, write_new
from veriserum_hf.jobs.folder import staging_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_folder(path, content):
    with atomic_path(path) as partial:
        partial.mkdir()
        for name in ("a", "b"):
            (partial / name).write_text(content)


def write_half(path):
    """Begin a file and a folder, and be killed."""
    with atomic_path(path) as partial, atomic_path(path.with_name("folder")) as folder:
        partial.write_text("half")
        folder.mkdir()
        (folder / "a").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def write_often(path, letter):
    for _ in range(200):
        write_file(path, letter * 10_000)


def started(work, *arguments):
    process = FORKED.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.txt"
    for content in ("first", b"second"):
        write_file(path, content)
    assert path.read_bytes() == b"second" and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_put_in_place_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "a.txt", "content")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").is_dir()


def test_a_folder_that_is_not_there_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "none" / "a.txt", "content")


def test_an_error_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as partial:
        partial.write_text("half")
        assert path.read_text() == "before"
        raise KeyboardInterrupt
    assert path.read_text() == "before" and names(tmp_path) == ["a.txt"]


def test_the_path_is_hidden_next_to_the_target_and_ends_as_requested(tmp_path):
    path = tmp_path / "trial.mp4"
    with atomic_path(path, suffix=".mp4") as partial, atomic_path(path, suffix=".mp4") as another:
        assert partial.parent == tmp_path and partial.name.startswith(".") and partial.suffix == ".mp4"
        assert partial != another
        for each in (partial, another):
            each.touch()
    assert names(tmp_path) == ["trial.mp4"]


def test_a_file_has_the_rights_that_any_new_file_has(tmp_path):
    (tmp_path / "other").touch()
    write_file(tmp_path / "a.txt", "content")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_folder_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "folder"
    for content in ("first", "second"):
        write_folder(path, content)
        (path / "of an earlier one").touch()
    write_folder(path, "third")
    assert names(tmp_path) == ["folder"] and names(path) == ["a", "b"]
    assert (path / "a").read_text() == "third"
    with pytest.raises(ValueError, match="half"), atomic_path(path) as partial:
        partial.mkdir()
        raise ValueError("half")
    assert names(tmp_path) == ["folder"] and (path / "a").read_text() == "third"


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_folder_is_whole_whenever_a_process_is_killed(tmp_path, step):
    """Before the old one is moved aside, before the new one is put in place, before the old one is removed."""
    path = tmp_path / "folder"
    write_folder(path, "first")
    assert killed_at(step, write_folder, path, "second")
    content = {each.read_text() for each in path.glob("*")}
    assert content == [{"first"}, set(), {"second"}][step - 1]
    remove_abandoned(tmp_path)
    assert names(tmp_path) == ["folder"]
    assert (path / "a").read_text() == ("second" if step == 3 else "first")


def test_a_folder_that_cannot_take_the_place_of_another_leaves_it(tmp_path, monkeypatch):
    path, rename = tmp_path / "folder", Path.rename
    write_folder(path, "first")

    def refused(self, target):
        if self.name.endswith(".partial"):
            raise PermissionError(13, "refused")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(PermissionError):
        write_folder(path, "second")
    assert names(tmp_path) == ["folder"] and (path / "a").read_text() == "first"


def test_what_a_killed_process_leaves_is_found_and_nothing_else(tmp_path):
    below = tmp_path / "below"
    below.mkdir()
    kept = [".hidden", "a.partial", "a.partial.txt", "of .a partial", "folder"]
    for name in kept:
        (below / name).write_text("precious")
    process = started(write_half, below / "a.txt")
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and len(names(below)) == len(kept) + 2
    remove_abandoned(tmp_path)
    assert names(below) == sorted(kept)
    remove_abandoned(tmp_path / "not there")


def test_two_processes_that_write_the_same_file_leave_a_whole_one(tmp_path):
    path = tmp_path / "a.txt"
    processes = [started(write_often, path, letter) for letter in "ab"]
    while any(process.is_alive() for process in processes):
        if path.exists():
            assert path.read_text() in ("a" * 10_000, "b" * 10_000)
    assert [process.exitcode for process in processes] == [0, 0] and names(tmp_path) == ["a.txt"]


def test_unfinished_work_that_goes_on_is_cleared_of_what_was_left_half_written(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), staging_folder(target, {"seed": 1}, "work", VeriserumError) as folder:
        (folder / "data").mkdir()
        (folder / "data" / "whole").touch()
        (folder / "data" / ".half.0a1b2c3d.partial").touch()
        _ = 1 / 0
    with staging_folder(target, {"seed": 1}, "work", VeriserumError) as folder:
        assert names(folder / "data") == ["whole"]


def test_what_an_ended_process_left_is_removed_by_the_next_one_that_writes_there(tmp_path):
    """Of this machine: the number of a process of another one says nothing. And not what a living one writes."""
    process = started(write_half, tmp_path / "a.txt")
    process.join(60)
    left = names(tmp_path)
    elsewhere = [name.replace(f".{_place()}-", ".00000000-") for name in left]
    for name in elsewhere:
        (tmp_path / name).touch()
    assert len(left) == 2 and not set(left) & set(elsewhere)
    with atomic_path(tmp_path / "c.txt") as living:
        living.touch()
        write_file(tmp_path / "b.txt", "content")
        assert names(tmp_path) == sorted([*elsewhere, "b.txt", living.name])


def test_content_and_name_are_on_the_disk_before_the_work_goes_on(tmp_path, monkeypatch):
    synced, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda *paths: (synced.append("renamed"), replace(*paths)))
    write_file(tmp_path / "a.txt", "content")
    content, renamed, folder = synced
    assert content.endswith(".partial") and renamed == "renamed" and folder == str(tmp_path)
    synced.clear()
    write_folder(tmp_path / "folder", "content")
    renamed = synced.index("renamed")
    assert {Path(path).name for path in synced[:renamed]} >= {"a", "b"} and synced[-1] == str(tmp_path)


def test_a_planted_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "a.txt").symlink_to(tmp_path / "victim")
    write_file(tmp_path / "a.txt", "content")
    assert (tmp_path / "victim").read_text() == "precious" and not (tmp_path / "a.txt").is_symlink()
    with pytest.raises(FileExistsError), atomic_path(tmp_path / "b.txt") as partial:
        partial.symlink_to(tmp_path / "victim")
        write_new(partial, "content")
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("name", ["x" * 250, "\u00fc" * 120, "a [1] *?#%20.txt", "-rf", "a\nb"])
def test_any_name_that_the_disk_takes_can_be_written(tmp_path, name):
    write_file(tmp_path / name, "content")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(
    ("number", "way"),
    [
        (errno.ENOSPC, "; free disk space, then run the same command again"),
        (errno.EACCES, "; grant yourself permission, or choose another place"),
        (errno.ENOENT, "; give a path in a folder that exists"),
        (errno.EIO, ""),
    ],
)
def test_an_output_that_the_disk_does_not_take_is_named_with_the_way_out(number, way):
    with pytest.raises(VeriserumError, match=f"^cannot write out.png: reason{way}"), writing("out.png"):
        raise OSError(number, "reason")
