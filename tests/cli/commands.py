"""The program as a user runs it, who may not be root: in a process of its own, or in this one."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from tests.jobs.processes import run_here

VERISERUM = Path(sys.executable).with_name("veriserum")
# To be put before a script: torch cannot be imported there.
WITHOUT_TORCH = """
import sys

class Finder:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Finder)
"""


def run(*arguments, **environment):
    """What a command printed and ended with; `run_here` takes a fraction of the time."""
    return subprocess.run(
        [VERISERUM, *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "80"} | environment,
    )


def outcome(*arguments):
    """Exit status, standard output, and standard error in one line, of a command run in this process."""
    ran = run_here(*arguments)
    return ran.returncode, ran.stdout, " ".join(ran.stderr.split())


def heed_permissions():
    """Take root's licence to write everywhere from the process to come, as its ``preexec_fn``; Linux only."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
