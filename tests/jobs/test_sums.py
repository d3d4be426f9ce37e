"""Files of unfinished and finished work are trusted by their hashes alone."""

import hashlib
import json
import subprocess

import pytest

from veriserum_hf.errors import VeriserumError
from veriserum_hf.jobs.folder import check_place, keep_whole, put_in_place, staging_folder
from veriserum_hf.jobs.sums import SUMS, damaged_files, listed_files, write_listed, write_sums

NAMES = ("a.txt", "below/b.txt")


@pytest.fixture
def unfinished(tmp_path):
    """A folder of unfinished work with two files below ``data``."""
    root = tmp_path / "out.incomplete"
    (root / "data" / "below").mkdir(parents=True)
    for name in NAMES:
        write_listed(root, root / "data" / name, f"content of {name}")
    return root


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_folder_is_one_that_sha256sum_accepts(unfinished, tmp_path):
    write_sums(unfinished, unfinished / "data")
    put_in_place(unfinished / "data", tmp_path / "out")
    assert (tmp_path / "out" / SUMS).read_text().splitlines() == [
        f"{hashlib.sha256(f'content of {name}'.encode()).hexdigest()}  {name}" for name in NAMES
    ]
    assert damaged_files(tmp_path / "out") == [] and not unfinished.exists()
    checked = subprocess.run(["sha256sum", "-c", SUMS], cwd=tmp_path / "out", check=False, capture_output=True)
    assert checked.returncode == 0


@pytest.mark.parametrize("content", [None, b"", b"\0" * 18, b"content of a.txu", b"content of a.tx"])
def test_a_file_that_is_missing_or_changed_is_named_and_of_unfinished_work_removed(unfinished, tmp_path, content):
    changed = unfinished / "data" / "a.txt"
    changed.unlink()
    if content is not None:
        changed.write_bytes(content)
    write_sums(unfinished, unfinished / "data")
    keep_whole(unfinished)
    assert files(unfinished / "data") == {"below/b.txt"}  # the list of the result is made again, too
    for name in NAMES:
        write_listed(unfinished, unfinished / "data" / name, f"content of {name}")
    write_sums(unfinished, unfinished / "data")
    put_in_place(unfinished / "data", tmp_path / "out")
    (tmp_path / "out" / "a.txt").unlink()
    if content is not None:
        (tmp_path / "out" / "a.txt").write_bytes(content)
    assert damaged_files(tmp_path / "out") == ["a.txt"]


@pytest.mark.parametrize("cut", [0, 1, 40, 66, 70, 80, -1])
def test_half_a_list_is_good_for_the_files_of_its_whole_lines(unfinished, cut):
    whole = (unfinished / SUMS).read_bytes()
    (unfinished / SUMS).write_bytes(whole[:cut])
    known = {name.removeprefix("data/") for name in listed_files(unfinished)}
    keep_whole(unfinished)
    assert (files(unfinished / "data") <= known and len(known) < 2) or cut == -1
    write_listed(unfinished, unfinished / "data" / "a.txt", "again")
    assert "data/a.txt" in listed_files(unfinished)


def test_a_planted_link_is_neither_followed_nor_kept(unfinished, tmp_path):
    (tmp_path / "victim").write_text("precious")
    (unfinished / "data" / "a.txt").unlink()
    for name in ("data/a.txt", "data/c.txt"):
        (unfinished / name).symlink_to(tmp_path / "victim")
    keep_whole(unfinished)
    assert files(unfinished / "data") == {"below/b.txt"}
    (unfinished / SUMS).unlink()
    (unfinished / SUMS).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        write_listed(unfinished, unfinished / "data" / "a.txt", "content")
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("record", ["", "{", '{"seed"', "\0\0\0"])
def test_a_record_that_a_power_cut_left_half_written_is_made_again_with_all_else(tmp_path, record):
    target = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), staging_folder(target, {"seed": 1}, "work", VeriserumError) as folder:
        write_listed(folder, folder / "a.txt", "of a seed that is not known any more")
        _ = 1 / 0
    (tmp_path / "out.incomplete" / "record.json").write_text(record)
    with staging_folder(target, {"seed": 2}, "work", VeriserumError) as folder:
        assert not (folder / "a.txt").exists()
        assert json.loads((folder / "record.json").read_text()) == {"seed": 2}


def test_a_folder_of_somebody_else_is_not_taken_for_unfinished_work(tmp_path):
    other = tmp_path / "out.incomplete"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with (
        pytest.raises(VeriserumError, match="is not a folder of unfinished work"),
        staging_folder(tmp_path / "out", {}, "work", VeriserumError),
    ):
        pass
    assert (other / "thesis.txt").read_text() == "precious"


def test_a_place_that_cannot_be_taken_is_refused_at_once(tmp_path, monkeypatch):
    read, here = tmp_path / "archive", tmp_path / "here" / "below"
    for folder in (read, here):
        folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(read)
    monkeypatch.chdir(here)
    for place, reason in (
        (here, "is the current folder"),
        (here.parent, "is the current folder, or one above it"),
        (read, "is or holds .*archive, which is read"),
        (read / "out", "is within .*archive, which is read and not changed"),
    ):
        with pytest.raises(VeriserumError, match=reason):
            check_place(place, VeriserumError, tmp_path / "link")
    check_place(tmp_path / "out", VeriserumError, read)


def test_a_folder_in_the_place_of_a_listed_file_is_removed(unfinished):
    taken = unfinished / "data" / "a.txt"
    taken.unlink()
    (taken / "below").mkdir(parents=True)
    (taken / "below" / "inside").touch()
    keep_whole(unfinished)
    assert files(unfinished / "data") == {"below/b.txt"} and not taken.exists()
