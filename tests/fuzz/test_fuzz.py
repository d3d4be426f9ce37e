"""Some cases of the fuzzer, drawn over all groups, and what it must notice itself."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_no_damage_ends_in_a_traceback_a_hang_or_a_change_of_other_rows(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz", "--quick", "--folder", tmp_path]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    entries = [json.loads(line) for line in (tmp_path / "quick.jsonl").read_text().splitlines()[1:]]
    assert len(entries) == 30, ran.stderr
    assert len({entry["group"] for entry in entries}) == 30  # every one
    fatal = ("TRACEBACK", "HANG", "MEMORY", "CODE RAN", "ROWS CHANGED", "GOOD REFUSED", "FUZZER")
    assert [entry for entry in entries if entry["outcome"] in fatal] == []


def _misbehave(how):
    if how == "sleeps":
        time.sleep(60)
    elif how == "eats":
        kept = []
        while True:
            kept.append(bytearray(os.urandom(1_000_000) * 30))
    elif how == "dies":
        os.abort()
    elif how == "raises":
        raise ValueError("here")
    return how


def test_a_process_that_hangs_eats_memory_dies_or_raises_is_known(tmp_path):
    script = (
        "import json, sys; from pathlib import Path\n"
        "from tests.fuzz.processes import each_forked; from tests.fuzz.test_fuzz import _misbehave\n"
        f"ends = each_forked(['sleeps', 'eats', 'dies', 'raises', 'is well'], _misbehave, Path({str(tmp_path)!r}), "
        "limit_s=1, limit_mb=600)\n"
        "print(json.dumps([each._asdict() for each in ends]))"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    ends = {end["key"]: end for end in json.loads(ran.stdout)}
    assert ends["sleeps"]["hung"]
    assert not ends["eats"]["hung"] and ends["eats"]["peak_mb"] > 600
    assert ends["dies"]["signal"] == 6
    assert "ValueError: here" in ends["raises"]["failed"]
    assert ends["is well"]["result"] == "is well"
