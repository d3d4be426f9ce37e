"""One table of required and measured figures, with a sentence on the hardware."""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import cv2

from veriserum_hf.core import Table

CORES = os.cpu_count() or 1
COMPARISON = "for comparison"  # instead of a requirement


class Row(NamedTuple):
    """One line of the table."""

    what: str
    measured: str
    required: str
    met: bool | None  # None: for comparison, or this machine has not what it takes


def cpu_s(function: Callable[[], object], repeats: int = 1) -> float:
    """Processor time of a call, all threads together; the median of some."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return median(times)


def setting(with_what: str) -> str:
    """A sentence on what this ran on, and with what."""
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in facts if "model name" in line), platform.machine())
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"Measured in one run on {CORES} cores ({model}) with {memory_gb:.0f} GB of memory, Python "
        f"{platform.python_version()}, OpenCV {cv2.__version__} on one thread a process; {with_what}."
    )


def write_table(title: str, rows: Iterable[Row], with_what: str, path: Path, *, before: str = "") -> None:
    """Print every row as it is measured, write the table, and exit with 1 where a figure is missed.

    ``before`` is written above the table.
    """
    table = Table(["what", "measured", "required", ""], [], alignment="l")
    print(table.markdown(), flush=True)
    verdicts = {True: "met", False: "MISSED", None: "no GPU here"}
    for row in rows:
        verdict = "" if row.required == COMPARISON else verdicts[row.met]
        table = replace(table, rows=[*table.rows, [*row[:-1], verdict]])
        print(table.markdown().splitlines()[-1], flush=True)
    sentence = setting(with_what)
    print(f"\n{sentence}")
    above = [f"# {title}", "", "Written by `make bench`.", "", *([before, ""] if before else [])]
    path.write_text("\n".join((*above, table.markdown(), "", sentence, "")))
    if "MISSED" in table.markdown():
        sys.exit(1)
