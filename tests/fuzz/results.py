"""The table of groups and outcomes, and the wrong values that passed one by one."""

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.fuzz.cases import Group
from tests.fuzz.judge import Outcome
from tests.fuzz.processes import LIMIT_MB, LIMIT_S
from veriserum_hf.core import Table

_INTRODUCTION = f"""\
# Fuzzed input

Written by `make fuzz`. Each case is one mutation of good simulated data, in a process of its own with {LIMIT_S:.0f} s
and {LIMIT_MB / 1000:.1f} GB of resident memory; `python -m tests.fuzz GROUP NUMBER` runs one.

- *accepted*: every command was content; *problem named*: the audit found a problem, and rows were made;
  *rows rejected*, *refused*: by a named error, and an exit status that the help lists.
- Faults are in capitals. *ROWS CHANGED*: rows that the mutation does not concern are not those of the good data, or
  are gone without a word. *WRONG PASSED*: it was to be noticed. *GOOD REFUSED*: it was to be accepted."""


#: Why values that are wrong, and could have been known to someone, pass: by mutation.
_PASSES = {
    "bits_flipped": "TIFF has no checksum, and the values are plausible",
    "axes_swapped": "no reading that is tried agrees with the images, as the audit states; check-labels flags it",
    "backbone_absurd": "transformers does not use what is beyond the number of stages",
    "calibrations_of_the_other_plane": "the two planes' values differ less than those of other days",
    "calibrations_swapped": "both are plausible, and differ by less than a mm; `audit --calibration` refits them",
    "date_not_a_date": "a bare number may be a time in seconds",
    "inverse_rotation": "no reading that is tried agrees with the images, as the audit states; check-labels flags it",
    "origin_at_the_source": "read rightly: the values differ by rounding",
    "pages_swapped": "SQLite reads them without a complaint, and the values are plausible",
    "pose_huge": "the pose is marked obsolete, and nothing is made of it",
    "pose_missing": "frames with the pose of one implant are usual",
}


def write_results(path: Path, groups: Mapping[str, Group], entries: Sequence[Mapping[str, Any]]) -> None:
    """Write the table."""
    outcomes = [outcome for outcome in Outcome if outcome != Outcome.FUZZER]
    rows, total = [], Counter[str]()
    for name in groups:
        of_group = [entry for entry in entries if entry["group"] == name]
        counted = Counter(entry["outcome"] for entry in of_group)
        total.update(counted)
        rows.append([name, str(len(of_group)), *(str(counted[outcome] or "") for outcome in outcomes)])
    rows.append(["all", str(len(entries)), *(str(total[outcome]) for outcome in outcomes)])
    table = Table(["group", "cases", *outcomes], rows, alignment="l" + "r" * (1 + len(outcomes)))
    parts = [_INTRODUCTION, table.markdown(), _setting(entries), *_listed(groups, entries)]
    path.write_text("\n\n".join(parts) + "\n", errors="backslashreplace")


def _setting(entries: Sequence[Mapping[str, Any]]) -> str:
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in facts if "model name" in line), platform.machine())
    memory_gb = psutil.virtual_memory().total / 1e9
    seconds, peak_mb = sum(entry["cpu_s"] for entry in entries), max(entry["peak_mb"] for entry in entries)
    slowest = max(entry["wall_s"] for entry in entries)
    return (
        f"Run on {os.cpu_count()} cores ({model}) with {memory_gb:.0f} GB of memory, Python "
        f"{platform.python_version()}; {seconds / 60:.0f} minutes of processor time; the slowest case took "
        f"{slowest:.1f} s, the largest {peak_mb} MB, of which 0.6 GB are imported modules."
    )


def _listed(groups: Mapping[str, Group], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Faults, one by one, by kind."""
    parts = []
    for outcome in Outcome:
        of_kind = [entry for entry in entries if entry["outcome"] == outcome]
        if not outcome.isupper() or not of_kind:
            continue
        lines = [
            f"- `{entry['group']} {entry['number']}` {groups[entry['group']].mutation(entry['number']).what} "
            f"`{_plain(entry['particulars'])}`: {_PASSES.get(entry['mutation'], '') or _plain(entry['detail'])}"
            for entry in of_kind
        ]
        parts.append(f"## {outcome.capitalize()}\n\n" + "\n".join(lines))
    return parts


def _plain(text: str) -> str:
    """Text on one line of printable characters, without the marks of Markdown."""
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain.replace("`", "'").replace("<", "&lt;")[:300]
