"""Files of an archive are regular and of plausible size, or named and left alone."""

import os
import shutil

import pytest

from tests.fixtures.archives import FRAMES_FOLDER
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.audit import audit_archive as audit
from veriserum_hf.archive.files import MOST_BYTES, MOST_TABLE_BYTES, read_bytes
from veriserum_hf.archive.meshes import read_mesh
from veriserum_hf.errors import ArchiveError, FrameError


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def sparse(path):
    with path.open("wb") as file:
        file.truncate(20_000_000_000)


def padded(path):
    path.write_bytes(b"\xff\xd8\xff")
    os.truncate(path, MOST_BYTES + 1)


STRANGE = [
    (pipe, "it is a named pipe, expected a regular file"),
    (device, "it is a device"),
    (sparse, "it has 20,000 MB, expected at most 256 MB"),
    (padded, "expected at most 256 MB"),
]


@pytest.mark.parametrize(("make", "text"), STRANGE)
@pytest.mark.parametrize("read", [read_bytes, read_mesh])
def test_what_is_no_file_of_plausible_size_is_named_and_not_read(tmp_path, make, text, read):
    make(tmp_path / "bs_000001.jpg")
    with pytest.raises(FrameError) as error:
        read(tmp_path / "bs_000001.jpg")
    assert error.value.reason == "unreadable" and "bs_000001.jpg" in error.value.detail and text in error.value.detail


@pytest.mark.parametrize("make", [pipe, sparse])
def test_such_a_frame_or_implant_is_a_problem_of_an_archive(download, make):
    frame, implant = download.frame("bs_000004"), next(download.root.rglob("ana_000004.stl"))
    for path in (frame, implant):
        path.unlink()
        make(path)
    problems = audit(download.root, deep=True).findings.problems
    found = {(problem.kind, problem.where) for problem in problems}
    assert ("not a file", f"{FRAMES_FOLDER}/bs_000004.jpg") in found
    assert ("not a file", implant.relative_to(download.root).as_posix()) in found
    assert ("one plane only", "measurement 4") in found


@pytest.mark.parametrize("make", [pipe, device])
def test_a_database_or_table_that_is_no_file_stops(download, csv_download, make):
    for folder, table in ((download.root, download.database), (csv_download.root, csv_download.database)):
        table.unlink()
        make(table)
        for path in (folder, table):
            with pytest.raises(ArchiveError, match=r"not a|named pipe|device|no SQLite database"):
                VeriserumArchive(path)


def test_a_database_above_any_plausible_size_is_not_read(download):
    os.truncate(download.database, MOST_TABLE_BYTES + 1)
    with pytest.raises(ArchiveError, match="expected at most 2,000 MB"):
        VeriserumArchive(download.database)


def test_a_link_that_leads_out_of_the_archive_is_not_followed_but_a_linked_folder_is(download, tmp_path):
    frame = download.frame("bs_000004")
    outside = tmp_path / "elsewhere.jpg"
    shutil.move(frame, outside)
    frame.symlink_to(outside)
    within = download.frame("fs_000004")
    within.rename(download.root / "kept.jpg")
    within.symlink_to(download.root / "kept.jpg")
    disk = shutil.move(download.root / FRAMES_FOLDER, tmp_path / "disk")
    (download.root / "frames").symlink_to(disk, target_is_directory=True)
    archive = download.read()
    found = {(problem.kind, problem.where): problem.remedy for problem in archive.problems}
    assert "only ever read from below the archive's folder" in found["link outside", "frames/bs_000004.jpg"]
    (row,) = (row for row in archive.frames.to_pylist() if row["measurement_id"] == 4)
    assert row["path_bs"] is None and row["path_fs"]
