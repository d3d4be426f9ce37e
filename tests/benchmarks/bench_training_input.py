"""Training input and inference, before and after: ``python -m tests.benchmarks.bench_training_input``.

The code of before is that of a commit, taken from the repository. Both are measured alternately, by processor time of
one process on one thread; a ratio is the median of the ratios of each round.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from transformers import AutoConfig

from tests.benchmarks.table import COMPARISON, Row, write_table
from veriserum_hf.core import COMPONENTS
from veriserum_hf.dataset import Options, convert_archive, open_rows
from veriserum_hf.modeling import VeriserumPoseConfig, VeriserumPoseModel
from veriserum_hf.simulation import Settings, simulate

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("RESULTS_TRAINING_INPUT.md")
BEFORE = "c7e82d4"
ROUNDS = 3
BATCHES = (1, 16)


def measured_ms(code: Path, *arguments: object) -> Any:
    """What a process with this code prints."""
    script = Path(__file__).with_name("training_input_work.py")
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-P", str(script), *map(str, arguments)],
        env=environment,
        cwd=code,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def code_of(commit: str, folder: Path) -> Path:
    """The package as it was."""
    packed = subprocess.run(["git", "archive", commit, "veriserum_hf"], cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def untrained(dataset: Path, folder: Path) -> Path:
    """A run's folder with the network of demo.yaml, random weights."""
    settings = yaml.safe_load((ROOT / "training/configs/demo.yaml").read_text())
    backbone = settings["backbone_config"]
    rows = open_rows(str(dataset), "anatomies", split="train")
    table = rows.splits["train"].table("anatomy_id", "component").to_pylist()
    anatomies = [{"id": row["anatomy_id"], "component": row["component"]} for row in table]
    config = VeriserumPoseConfig(
        backbone_config=AutoConfig.for_model(backbone.pop("model_type"), **backbone),
        anatomies=sorted(anatomies, key=lambda row: COMPONENTS.index(row["component"])),
        image_size=512,
        crop_size=settings["crop_size"],
    )
    torch.manual_seed(0)
    model = VeriserumPoseModel(config)
    model.set_anatomies({id: torch.tensor(mesh.vertices) for id, mesh in rows.meshes.items()})
    model.save_pretrained(folder)
    return folder


def training_input(dataset: Path, before: Path, cache: Path) -> Iterator[Row]:
    """Pairs of a process that loads."""
    ways = {"before": (before,), "now": (ROOT,), "now, with cache": (ROOT, cache)}
    measured_ms(ROOT, "load", dataset, cache)  # compiles, and makes the cache
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (code, *more) in ways.items():
            found[name].append(measured_ms(code, "load", dataset, *more))
    for name, times in found.items():
        ms = median(times)
        what = f"Training input, {name}, 512 px, default augmentation"
        yield Row(what, f"{1000 / ms:.0f} pairs/s a worker ({ms:.2f} CPU-ms)", COMPARISON, None)
    for name in ("now", "now, with cache"):
        ratio = median(old / new for old, new in zip(found["before"], found[name], strict=True))
        required = ("at least 4 times", ratio >= 4) if "cache" in name else (COMPARISON, None)
        yield Row(f"Training input, {name} / before", f"{ratio:.1f} times the pairs/s", *required)
    yield Row("Share of a training step that a GPU waits for its batch", "not measured", "at most 2 %", None)


def inference(dataset: Path, run: Path, before: Path) -> Iterator[Row]:
    """Rows to poses by the network of demo.yaml."""
    ways = {
        "before": (before, "torch"),
        "channels last": (ROOT, "torch"),
        "ONNX Runtime": (ROOT, "onnx"),
    }
    measured_ms(ROOT, "infer", run, dataset, "onnx", 1)  # exports
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (code, engine) in ways.items():
            found[name].append(measured_ms(code, "infer", run, dataset, engine, *BATCHES))
    for index, batch in enumerate(BATCHES):
        times = {name: [each[index] for each in rounds] for name, rounds in found.items()}
        for name, ms in times.items():
            ratio = median(old / new for old, new in zip(times["before"], ms, strict=True))
            faster = "" if name == "before" else f", {ratio:.2f} times faster"
            what = f"Prediction of a pair, batches of {batch}, {name}"
            yield Row(what, f"{median(ms):.1f} CPU-ms{faster}", COMPARISON, None)


def every_row(folder: Path) -> Iterator[Row]:
    """The table, row by row as it is measured."""
    archive = simulate(folder / "archive", Settings(trials=24, frames_per_trial=4, pairs=2, height_px=800), workers=1)
    dataset = folder / "dataset"
    convert_archive(archive, dataset, options=Options(), workers=1)
    before = code_of(BEFORE, folder / "before")
    yield from training_input(dataset, before, folder / "cache")
    yield from inference(dataset, untrained(dataset, folder / "run"), before)


def main() -> None:
    """Measure, print, and write the table."""
    with tempfile.TemporaryDirectory() as name:
        about = (
            f"before: commit {BEFORE}. Processor time of one process on one thread, from the file to the batch and "
            "from the row to the poses, median of three rounds that alternate; ratios are medians of the rounds' "
            f"ratios. torch {torch.__version__}; network of demo.yaml with random weights; simulated frames, JPEG"
        )
        write_table("Training input and inference", every_row(Path(name)), about, RESULTS)


if __name__ == "__main__":
    main()
