"""``veriserum simulate``, as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from veriserum_hf import VeriserumArchive

COMMAND = Path(sys.executable).with_name("veriserum")
SMALL = ("--trials", "2", "--frames-per-trial", "3", "--pairs", "2", "--size", "208x200", "--workers", "1")
MARKERS = ("--marker-frames", "2")


def _heed_interrupts():
    """In a new process: programs that are started in the background are told to ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments):
    return subprocess.run(
        [COMMAND, "simulate", *map(str, arguments)], capture_output=True, text=True, check=False, env=os.environ
    )


def test_it_says_where_the_archive_is(tmp_path):
    ran = run(tmp_path / "out", *SMALL, *MARKERS)
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
    ran = run(tmp_path / "out", *options)
    assert ran.returncode == 2
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    ran = run(tmp_path, *SMALL)
    assert ran.returncode == 2
    assert f"error: {tmp_path} is there already and not an empty folder. Nothing was changed." in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_interrupt_is_a_message_and_the_same_command_goes_on(tmp_path):
    out, options = tmp_path / "out", ("--trials", "4", "--frames-per-trial", "30", "--size", "400", "--workers", "2")
    frames = tmp_path / "out.incomplete" / "archive" / "veriserum_collection_compressed"
    arguments = [COMMAND, "simulate", out, *options]
    with subprocess.Popen(
        arguments,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509
    ) as process:
        while len(list(frames.glob("*.jpg"))) < 4:
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        error = process.communicate()[1]
    assert process.returncode == 130
    assert "what is finished is kept, the same command goes on from there" in error
    assert "Traceback" not in error
    assert not out.exists()
    before = {path.name: path.stat().st_mtime_ns for path in frames.glob("*.jpg")}
    assert run(out, *options).returncode == 0
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*/*.jpg")}
    assert before.items() <= after.items()
    assert len(after) == 240
