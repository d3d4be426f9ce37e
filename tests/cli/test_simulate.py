"""``veriserum simulate``, as a user runs it."""

import os
import signal

import pytest

from tests.jobs.processes import VERISERUM, at_work, run_here, written
from veriserum_hf import VeriserumArchive

SMALL = ("--trials", "2", "--frames-per-trial", "3", "--pairs", "2", "--size", "208x200", "--workers", "1")
MARKERS = ("--marker-frames", "2")


def test_it_prints_where_the_archive_is(tmp_path):
    ran = run_here("simulate", tmp_path / "out", *SMALL, *MARKERS)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"written to {tmp_path / 'out'}\n"
    archive = VeriserumArchive(tmp_path / "out")
    assert archive.frames.num_rows == 6
    assert archive.calibration_frames["phantom"].to_pylist().count("sipla_cylinder") == 3 * 2 * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trials", "0"), "error: trials must be a whole number from 1 to 100000, got 0"),
        (("--pairs", "12"), "error: pairs must be a whole number from 1 to 10, got 12"),
        (("--size", "300x300"), "error: raw frames have the shape of 1664x1600: 300 rows go with 312 columns"),
        (("--bit-depth", "12"), "error: bit_depth must be 8 or 16, got 12"),
        (("--csv", "--rotation", "quaternion"), "error: the CSV files of the download hold Euler angles"),
    ],
)
def test_impossible_options_are_one_message(tmp_path, options, message):
    ran = run_here("simulate", tmp_path / "out", *options)
    assert ran.returncode == 2
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    ran = run_here("simulate", tmp_path, *SMALL)
    assert ran.returncode == 2
    assert f"error: {tmp_path} exists already and is not an empty folder. Nothing was changed." in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_interrupt_is_a_message_and_the_same_command_resumes(tmp_path):
    out, options = tmp_path / "out", ("--trials", 4, "--frames-per-trial", 8, "--size", 200)
    options += ("--marker-frames", 1, "--pairs", 2)
    incomplete, frames = tmp_path / "out.incomplete" / "archive", "veriserum_collection_compressed/*.jpg"
    command = (VERISERUM, "simulate", out, *options, "--workers", 2)
    with at_work(*command, until=lambda: len(written(incomplete, frames)) >= 4) as process:
        os.killpg(process.pid, signal.SIGINT)
        error = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert "finished work is kept; run the same command again to resume" in error
    assert "Traceback" not in error
    assert not out.exists()
    before = written(incomplete, frames)
    assert len(before) >= 4
    assert run_here("simulate", out, *options, "--workers", 1).returncode == 0
    after = written(out, frames)
    assert before.items() <= after.items()
    assert len(after) == 64
