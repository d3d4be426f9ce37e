"""Registration of real frames of other laboratories: ``python -m tests.benchmarks.bench_real FOLDER``.

The frames are not part of this project; without them nothing is measured. FOLDER keeps every result, so that a run
that was interrupted resumes. ``--only GROUP ...`` and ``--every N`` print some of the rows, of every Nth frame, and
write no table. ``--method intensity`` measures what the table compares with, into ``real_before.json``.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks.real_figures import GROUPS, Figure
from tests.benchmarks.real_frames import TWO_PLANES, Measured, prepared
from tests.benchmarks.real_runs import Bench, in_view
from tests.benchmarks.table import setting
from tests.fixtures.real_studies import REAL, biplane_frames
from veriserum_hf.core import Table

_BEFORE = Path(__file__).with_name("real_before.json")
_DETAILS = [
    "study",
    "frame",
    "component",
    "start",
    "grey",
    "method",
    "used",
    "verdict",
    "score",
    "mm",
    "deg",
    "depth_mm",
    "share",
    "edges",
    "expected",
    "seconds",
    "detail",
]


def _write_details(bench: Bench) -> None:
    """Every registered implant of this run, for looking at."""
    path = bench.folder / "details.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(_DETAILS)
        for each in {(one.task, one.component): one for one in bench.seen}.values():
            task, found = each.task, each.found
            frame = biplane_frames()[task.number] if task.study == TWO_PLANES else task.number
            names = (task.study, frame, each.component, *task[2:], found.method, found.verdict, f"{found.score:.2f}")
            mm, deg = each.apart(each.initial)
            moved = (f"{mm:.3f}", f"{deg:.3f}", f"{in_view(bench, each)[1]:+.3f}")
            edges = (f"{found.share:.2f}", _by_plane(found.edges), _by_plane(found.expected))
            table.writerow((*names, *moved, *edges, f"{found.seconds:.1f}", found.detail))
    print(f"every implant: {path}", file=sys.stderr)


def _by_plane(edges: Mapping[str, Measured]) -> str:
    return " ".join(f"{plane} {px:.2f} {signed:+.2f} {share:.2f}" for plane, (_, px, signed, share) in edges.items())


def _line(figure: Figure, before: Mapping[str, str]) -> list[str]:
    verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
    return [figure.what, figure.measured, figure.required, verdict, before.get(figure.what, "")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the table where everything was measured; 1 where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--method", choices=("auto", "outline", "intensity"), default="auto")
    options = parser.parse_args(arguments)
    if not REAL.exists():
        print("nothing was measured: the real frames of other laboratories are not at hand (shared/real)")
        return 0
    folder = options.folder / "real"
    prepared(folder)
    bench = Bench(folder, options.method, options.every)
    before = json.loads(_BEFORE.read_text()) if _BEFORE.exists() else {"commit": "", "figures": {}}
    figures = []
    for name in options.only:
        for figure in GROUPS[name](bench):
            figures.append(figure)
            print(" | ".join(_line(figure, before["figures"])), flush=True)
    _write_details(bench)
    if options.method == "intensity":
        # The last commit that changed the package.
        command = ["git", "log", "-1", "--format=%h", "--", "veriserum_hf"]
        commit = subprocess.run(command, cwd=_BEFORE.parents[2], capture_output=True, text=True, check=True)
        kept = before["figures"] | {figure.what: figure.measured for figure in figures}
        _BEFORE.write_text(json.dumps({"commit": commit.stdout.strip(), "figures": kept}, indent=1) + "\n")
    elif options.every == 1 and options.method == "auto" and len(options.only) == len(GROUPS):
        _write(figures, before)
    return 1 if any(figure.met is False for figure in figures) else 0


def _write(figures: Sequence[Figure], before: Mapping[str, Mapping[str, str]]) -> None:
    header = ["what", "measured", "required", "", f"intensity alone, commit {before['commit']}"]
    table = Table(header, [_line(figure, before["figures"]) for figure in figures], alignment="l").markdown()
    sentence = setting(
        "real frames, cameras and meshes of two laboratories, which are not part of this project. Edges are measured "
        "independently of the registration; the reference is the published pose in one plane, and in two planes the "
        "pose that most initial poses lead to. The last column is of some of the frames"
    )
    text = "\n".join(
        ("# Registration of real frames", "", "Written by `make bench-real`.", "", table, "", sentence, "")
    )
    Path(__file__).with_name("RESULTS_REAL.md").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
