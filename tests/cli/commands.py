"""The program in a process of its own, as a user runs it, who may not be root."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

VERISERUM = Path(sys.executable).with_name("veriserum")


def run(*arguments, **environment):
    """What a command printed and ended with; `run_here` takes a fraction of the time."""
    return subprocess.run(
        [VERISERUM, *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "80"} | environment,
    )


def heed_permissions():
    """Take root's licence to write everywhere from the process to come, as its ``preexec_fn``; Linux only."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
