"""Commands in the process of a case: what they print, how they end, and the rows that they make."""

import hashlib
import json
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from tests.fuzz.cases import Case
from veriserum_hf.archive import open_stack
from veriserum_hf.cli.app import app, main
from veriserum_hf.errors import ArchiveError, FrameError

SIZE = "128"


@dataclass(frozen=True)
class Ran:
    """How one command ended; ``error`` is the traceback, or a breach of what the help promises, if any."""

    command: str
    status: int
    output: str
    errors: str
    error: str


@dataclass(frozen=True)
class Row:
    """One row of a result: a hash of its values without images, and the images' files."""

    values: str
    images: list[bytes]


@dataclass
class Seen:
    """What became of a case's data: commands, rows by key, and the keys of rows that were rejected by name."""

    ran: list[Ran] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)

    def run(self, case: Case, *arguments: object) -> Ran:
        """Run one command."""
        self.ran.append(run(case, *arguments))
        return self.ran[-1]


def run(case: Case, *arguments: object) -> Ran:
    """Run ``veriserum`` here, its output in files as a shell would write them."""
    command = [str(argument) for argument in arguments]
    sys.argv = ["veriserum", *command]
    status, error = 0, ""
    out, err = case.folder / "stdout", case.folder / "stderr"
    with _into(1, out), _into(2, err):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:  # noqa: BLE001 - this is what is looked for
            status, error = 1, traceback.format_exc()
    output, errors = out.read_text(errors="replace"), err.read_text(errors="replace")
    name = " ".join(command[: 2 if command[0] in ("calibrate", "poses") else 1])
    if not error and "Traceback (most recent call last)" in errors:
        error = errors[errors.index("Traceback (most recent call last)") :]
    if not error and "Exception ignored" in errors:
        error = errors[errors.index("Exception ignored") :]
    if not error and status not in _promised(name):
        error = f"exit status {status}, which the help of {name} does not list: {errors[-500:]}"
    if not error and status == 2 and "error:" not in errors.lower() and '"unusable"' not in output:
        error = f"exit status 2 without an error: {errors[-500:]}"
    return Ran(name, status, output, errors, error)


@contextmanager
def _into(descriptor: int, path: Path) -> Iterator[None]:
    stream = {1: sys.stdout, 2: sys.stderr}[descriptor]
    stream.flush()
    before = os.dup(descriptor)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, descriptor)
    os.close(file)
    try:
        yield
    finally:
        stream.flush()
        os.dup2(before, descriptor)
        os.close(before)


def _promised(name: str) -> set[int]:
    """Exit statuses that a command's help lists."""
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    listed = re.search(r"Exit status:(.*?)\.(?:\s|$)", command.help, re.DOTALL)
    return {int(number) for number in re.findall(r"(?<![\w])([0-3])(?= )", listed[1])} if listed else {0, 2}


def rows_of_folder(folder: Path) -> dict[str, Row]:
    """Rows of every Parquet shard of a converted folder that can be read, by configuration and id."""
    found = {}
    for path in sorted(folder.glob("*/*.parquet")):
        try:
            rows = _pylist(path)
        except (OSError, ValueError):  # its rows are missing
            continue
        for row in rows:
            key = row.get("measurement_id", row.get("anatomy_id"))
            found[f"{path.parent.name} {key}"] = _row(row | {"split": path.name.split("-")[0]})
    return found


def rows_of_poses(path: Path) -> dict[str, Row]:
    """Rows of a file of poses, by the frame and the implant."""
    if not path.exists():
        return {}
    return {f"calibrated {row['measurement_id']} {row['anatomy_id']}": _row(row) for row in _pylist(path)}


def _pylist(path: Path) -> list[dict[str, Any]]:
    table: pa.Table = pq.read_table(path)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _row(row: dict[str, Any]) -> Row:
    images = [value["bytes"] for name, value in row.items() if name.startswith("image_") and value]
    rest = {name: value for name, value in row.items() if not name.startswith("image_")}
    return Row(hashlib.sha256(repr(sorted(rest.items())).encode()).hexdigest(), images)


def check_archive(case: Case) -> Seen:
    """Audit an archive in full, and convert it."""
    seen = Seen()
    seen.run(case, "audit", "--deep", "--json", case.data)
    out = case.folder / "OUT"
    done = seen.run(case, "convert", case.data, out, "--size", SIZE, "--workers", 1, "--json")
    if done.status in (0, 3) and not done.error:
        for row in json.loads(done.output)["rejected"]:
            number = row.get("measurement_id", row.get("anatomy_id"))
            seen.rejected.add(f"{row['config']} {number}")
        seen.rows = rows_of_folder(out)
    return seen


def check_again(case: Case) -> Seen:
    """Run conversions again whose folders are finished, or not."""
    seen = Seen()
    for name in ("OUT", "DONE"):
        out = case.data / name
        options = ("--size", SIZE, "--shard-size", "100000", "--workers", 1, "--json")
        done = seen.run(case, "convert", case.data / "archive", out, *options)
        if done.status in (0, 3) and not done.error:
            seen.rows |= {f"{name} {key}": row for key, row in rows_of_folder(out).items()}
    return seen


def check_dataset(case: Case) -> Seen:
    """Use a converted data set: predict its poses, draw a frame, list what a push would upload."""
    seen = Seen()
    dataset, model, out = case.data / "dataset", case.data / "model", case.folder / "predicted.parquet"
    seen.run(case, "predict", model, "--dataset", dataset, "--output", out)
    seen.rows = rows_of_poses(out)
    seen.run(case, "show", dataset, "--outline", "--output", case.folder / "frame.png")
    seen.run(case, "push-dataset", dataset, "fuzz/veriserum", "--dry-run")
    return seen


def check_raw_dataset(case: Case) -> Seen:
    """Predict poses from the raw frames of a converted data set."""
    seen = Seen()
    out = case.folder / "predicted.parquet"
    seen.run(case, "predict", case.data / "model", "--dataset", case.data / "dataset", "--config", "raw", "-o", out)
    seen.rows = rows_of_poses(out)
    return seen


def check_arrow(case: Case) -> Seen:
    """Predict poses of a data set in Arrow files, and draw a frame."""
    seen = Seen()
    dataset, out = case.data / "arrow", case.folder / "predicted.parquet"
    seen.run(case, "predict", case.data / "model", "--dataset", dataset, "--output", out)
    seen.rows = rows_of_poses(out)
    seen.run(case, "show", dataset, "--outline", "--output", case.folder / "frame.png")
    return seen


def check_simulation(case: Case) -> Seen:
    """Simulate an archive."""
    seen = Seen()
    options = json.loads((case.data / "options.json").read_text())
    given = [part for name, value in options.items() for part in (name, value) if part is not None]
    seen.run(case, "simulate", case.folder / "simulated", *given)
    return seen


def check_model(case: Case) -> Seen:
    """Predict with a model."""
    seen = Seen()
    out = case.folder / "predicted.parquet"
    seen.run(case, "predict", case.data / "model", "--dataset", case.data / "dataset", "--output", out)
    seen.rows = rows_of_poses(out)
    return seen


def check_poses(case: Case) -> Seen:
    """Draw the poses of a file; every sixteenth time, report on them."""
    seen = Seen()
    poses = next(iter(sorted(case.data.glob("poses.*"))))
    dataset = case.data / "dataset"
    seen.run(case, "show", dataset, "--poses", poses, "--output", case.folder / "frame.png")
    if case.number % 16 == 15:
        page = case.folder / "report.html"
        seen.run(case, "report", dataset, "--poses", poses, "--split", "all", "--output", page)
    return seen


def check_settings(case: Case) -> Seen:
    """Train one step with a file of settings."""
    seen = Seen()
    settings, run_folder = case.data / "settings.yaml", case.folder / "run"
    seen.run(case, "train", "--config", settings, "--dataset", case.data / "dataset", "--output-dir", run_folder)
    return seen


def check_stacks(case: Case) -> Seen:
    """Read every frame of every file, as an import does."""
    seen = Seen()
    for path in sorted(case.data.iterdir()):
        status, said, error = 0, "", ""
        try:
            stack = open_stack(path)
            for index in range(stack.count):
                levels = stack.read(index)
                seen.rows[f"{path.name} {index}"] = Row(hashlib.sha256(levels.tobytes()).hexdigest(), [])
        except (FrameError, ArchiveError) as refused:
            status, said = 2, f"error: {refused}"
        except BaseException:  # noqa: BLE001 - this is what is looked for
            status, error = 1, traceback.format_exc()
        seen.ran.append(Ran(f"stack {path.name}", status, "", said, error))
    return seen


def check_own_phantoms(case: Case) -> Seen:
    """Calibrate with the files of phantoms of one's own."""
    seen, grid, markers = Seen(), case.data / "grid.yaml", case.data / "markers.yaml"
    frames = sorted(path for path in case.data.iterdir() if path.name.startswith("cal_bs"))
    seen.run(case, "calibrate", "distortion", frames[0], "--phantom", grid, "--json")
    distortion = ("--distortion", case.data / "distortion.txt")
    seen.run(case, "calibrate", "source", frames[-1], *distortion, "--phantom", markers, "--json")
    return seen


def check_phantoms(case: Case) -> Seen:
    """Calibrate from frames of the phantoms, and predict with what came of it."""
    seen = Seen()
    frames = sorted(path for path in case.data.iterdir() if path.name.startswith("cal_bs"))
    seen.run(case, "calibrate", "distortion", frames[0], "--json")
    seen.run(case, "calibrate", "source", frames[-1], "--distortion", case.data / "distortion.txt", "--json")
    return seen


def check_formats(case: Case) -> Seen:
    """Convert poses and cameras of other programs' files to tables."""
    seen = Seen()
    data, implant = case.data, ("--component", "femur", "--anatomy", "1")
    for name, source, options in (
        ("mayacam", "femur.jts", ("--camera", data / "camera.txt", *implant)),
        ("jointtrack", "femur.jts", ("--camera", data / "calibration.txt", *implant)),
        ("autoscoper", "femur.tra", implant),
        ("table", "poses.csv", ()),
    ):
        out = case.folder / f"{name}.parquet"
        seen.run(case, "poses", "convert", data / source, out, *options)
        seen.rows |= {f"{name} {key}": row for key, row in rows_of_poses(out).items()}
    return seen


def check_study(case: Case) -> Seen:
    """Import own frames."""
    seen = Seen()
    out = case.folder / "OUT"
    done = seen.run(case, "import", case.data / "study.yaml", out, "--workers", 1, "--json")
    if done.status in (0, 3) and not done.error:
        for row in json.loads(done.output)["rejected"]:
            seen.rejected.add(f"{row['config']} {row.get('measurement_id', row.get('anatomy_id'))}")
        seen.rows = rows_of_folder(out)
    return seen
