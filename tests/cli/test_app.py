"""What every command has in common: help, version, log, completion, and how it ends."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import VERISERUM, run
from tests.jobs.processes import run_here
from veriserum_hf.cli.ending import ending
from veriserum_hf.core import __version__
from veriserum_hf.jobs.interrupts import Stopped

COMMANDS = [
    (),
    ("audit",),
    ("convert",),
    ("import",),
    ("simulate",),
    ("calibrate",),
    ("calibrate", "distortion"),
    ("calibrate", "source"),
    ("calibrate", "rig"),
    ("show",),
    ("predict",),
    ("register",),
    ("check-labels",),
    ("report",),
    ("poses",),
    ("poses", "convert"),
    ("push-dataset",),
    ("push-model",),
]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_help_fits_the_terminal_and_ends_with_examples_of_this_command(command, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    done = run_here(*command, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= columns
    assert "Exit status: 0" in done.stdout
    _, _, examples = done.stdout.partition("\n  Examples:\n")
    assert examples.splitlines()[0].startswith(f"    {' '.join(('veriserum', *command))} ")


def test_commands_are_listed_with_their_whole_first_sentence():
    listed = " ".join(run_here("--help").stdout.split())
    assert "Convert an archive to a folder that every Hugging Face tool reads." in listed
    assert "..." not in listed.partition("Commands:")[2]


def test_the_version_is_that_of_the_package():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"veriserum {__version__}\n")


def test_the_package_can_be_run(pristine):
    command = [sys.executable, "-m", "veriserum_hf", "audit", pristine.root, "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["status"] == "clean"


def test_a_shell_completes_commands():
    words = {"_VERISERUM_COMPLETE": "complete_bash", "COMP_WORDS": "veriserum re", "COMP_CWORD": "1"}
    assert run(**words).stdout.split() == ["register", "refine-cameras", "report"]


def test_errors_have_a_traceback_only_on_request():
    command = ("report", "OUT", "--output", "report.html")  # of no poses
    quiet, loud, loudest = (run_here(*more, *command) for more in ((), ("-v",), ("-vv",)))
    assert [done.returncode for done in (quiet, loud, loudest)] == [2] * 3
    assert [done.stdout for done in (quiet, loud, loudest)] == [""] * 3
    assert quiet.stderr.startswith("error: ") and quiet.stderr.count("\n") == 1
    assert f"INFO veriserum_hf.cli.app: veriserum {__version__}, " in loud.stderr
    assert "Traceback" not in loud.stderr and "Traceback" in loudest.stderr
    assert loud.stderr.splitlines()[-1] == quiet.stderr.rstrip() == loudest.stderr.splitlines()[-1]


@pytest.mark.parametrize("arguments", [("audit",), ("audit", "--json"), ("--help",)], ids=" ".join)
def test_a_reader_that_has_enough_is_no_error(arguments, pristine):
    read, write = os.pipe()
    os.close(read)
    command = [VERISERUM, *arguments, *([pristine.root] if arguments[0] == "audit" else [])]
    done = subprocess.run(command, check=False, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("arguments", [("audit",), ("audit", "--json"), ("--help",)], ids=" ".join)
def test_a_full_disk_behind_the_output_is_a_message(arguments, pristine):
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has it")
    with Path("/dev/full").open("w") as full:
        command = [VERISERUM, *arguments, *([pristine.root] if arguments[0] == "audit" else [])]
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: standard output or a file: No space left")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.txt"), 2, "error: a.txt: No space left on device; free"),
        (OSError(errno.EROFS, "Read-only file system", "/home"), 2, "set NUMBA_CACHE_DIR, HF_HOME or MPLCONFIGDIR"),
        (MemoryError("Unable to allocate 3 GiB"), 2, "error: out of memory: Unable to allocate 3 GiB. Free memory"),
        (Stopped(signal.SIGTERM), 143, "interrupted"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=["full", "read-only", "memory", "SIGTERM", "Ctrl-C"],
)
def test_what_stops_any_command_is_a_message(error, status, message, monkeypatch):
    def stopped(*arguments, **options):
        raise error

    # The face first: it may load the function only now, and would keep what stands in for it.
    monkeypatch.setattr("veriserum_hf.archive.audit_archive", stopped)
    monkeypatch.setattr("veriserum_hf.archive.audit.audit_archive", stopped)
    done = run_here("audit", "ARCHIVE")
    assert done.returncode == status and message in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


@pytest.mark.parametrize("limit_gb", [0.8, 1.4])
def test_little_memory_is_a_message(tmp_path, limit_gb):
    def limited():
        limit = round(limit_gb * 1e9)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    command = [VERISERUM, "simulate", tmp_path / "out", "--trials", "1", "--size", "100", "--workers", "1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=limited)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "Free memory, or use fewer --workers" in done.stderr and f"{limit_gb} GB: ulimit -v" in done.stderr


def test_with_little_memory_whatever_fails_is_a_message(monkeypatch, capsys):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_600_000_000, resource.RLIM_INFINITY))
    with pytest.raises(SystemExit) as ended, ending():
        raise RuntimeError("can't start new thread")
    said = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2 and "can't start new thread. Free memory" in said and "1.6 GB: ulimit -v" in said


def test_with_much_memory_a_mistake_of_the_program_is_not_hidden_by_a_limit(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (60_000_000_000, resource.RLIM_INFINITY))
    with pytest.raises(KeyError), ending():
        raise KeyError("a mistake")
