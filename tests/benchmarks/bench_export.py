"""A pose model in ONNX and in half precision: ``python -m tests.benchmarks.bench_export [--model RUN]``.

Without RUN, the network of robust_small.yaml with random weights: whose poses show how exact arithmetic is, but not
how a trained network takes less exact one.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import onnxruntime
import torch

from tests.benchmarks.table import COMPARISON, Row, write_table
from veriserum_hf.core import CAMERA_OF, COMPONENTS, IMAGE_OF, PLANES, FloatArray
from veriserum_hf.inference import export_onnx
from veriserum_hf.modeling import VeriserumPoseModel
from veriserum_hf.simulation import WorldRanges
from veriserum_hf.training.model import make_model
from veriserum_hf.training.settings import parse_settings
from veriserum_hf.training.worlds import validation_worlds

_CONFIG = Path(__file__).parents[2] / "training" / "configs" / "robust_small.yaml"
_RANGES = WorldRanges(shapes=1)  # two drawn implants beside the simulator's own
_FRAMES, _BATCHES = 16, (1, 8)
_ROUNDS = {1: 15, 8: 5}
_TIMES, _SAME_MM = 2.0, 1e-4
_HALF_MM, _HALF_DEG = 0.05, 0.1


def _model(run: str | None, folder: Path) -> str:
    """Folder of the model: with random weights, one is written."""
    if run is not None:
        return run
    torch.manual_seed(0)
    settings = parse_settings(["--config", str(_CONFIG), "--output_dir", str(folder)])
    make_model(settings.model, [], settings.data.size).save_pretrained(folder)
    return str(folder)


def _frames(size: int) -> dict[str, torch.Tensor]:
    """Frames of randomised worlds, by the names of a graph's inputs."""
    (batch,) = validation_worlds(_RANGES, _FRAMES, batch_size=_FRAMES, size=size)
    found = {IMAGE_OF[plane]: batch[IMAGE_OF[plane]] for plane in PLANES}  # type: ignore[literal-required]
    for plane in PLANES:
        camera = batch[CAMERA_OF[plane]]  # type: ignore[literal-required]
        found |= {f"{CAMERA_OF[plane]}_{name}": value for name, value in camera.items()}
    # Drawn shapes lie in the axes of their files.
    axes = torch.eye(4, dtype=torch.float64).expand(_FRAMES, len(COMPONENTS), 4, 4)
    return found | {"implant_points": batch["implant_points"], "implant_axes": axes.clone()}


def _poses(model: VeriserumPoseModel, frames: Mapping[str, torch.Tensor]) -> FloatArray:
    """Poses by torch, (B, 2, 4, 4)."""
    given: dict[str, object] = {name: frames[name] for name in ("implant_points", "implant_axes")}
    for plane in PLANES:
        camera = CAMERA_OF[plane]
        given[IMAGE_OF[plane]] = frames[IMAGE_OF[plane]]
        given[camera] = {name: frames[f"{camera}_{name}"] for name in ("intrinsics", "world_to_camera")}
    with torch.inference_mode():
        T: FloatArray = model(**given).T_world_implant.numpy()
    return T


def _apart(T: FloatArray, T_other: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distances of the implants' origins, mm, and angles, deg, both (B, 2)."""
    mm: FloatArray = np.linalg.norm(T[..., :3, 3] - T_other[..., :3, 3], axis=-1)
    chord = np.linalg.norm(T[..., :3, :3] - T_other[..., :3, :3], axis=(-2, -1)) / np.sqrt(8)
    return mm, np.degrees(2 * np.arcsin(chord.clip(max=1)))


def _alternating_ms(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Processor time of each, in rounds of all."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for name in [*ways, *list(ways) * rounds]:
        began = time.process_time()
        ways[name]()
        found[name].append(1000 * (time.process_time() - began))
    return {name: times[1:] for name, times in found.items()}  # the first one allocates


def rows(run: str | None, folder: Path) -> Iterator[Row]:
    """Exactness, then speed."""
    model = _model(run, folder / "run")
    eager = VeriserumPoseModel.from_pretrained(model)
    export_onnx(eager, folder / "pose.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "pose.onnx", options, providers=["CPUExecutionProvider"])
    frames = _frames(eager.config.image_size)

    def by_runtime(some: Mapping[str, FloatArray]) -> FloatArray:
        T: FloatArray = session.run(["T_world_implant"], some)[0]
        return T

    expected = _poses(eager, frames)
    mm, deg = _apart(by_runtime({name: value.numpy() for name, value in frames.items()}), expected)
    yield Row(
        "ONNX Runtime: off from torch, largest",
        f"{mm.max():.1g} mm, {deg.max():.1g} deg",
        f"at most {_SAME_MM:g} mm",
        float(mm.max()) <= _SAME_MM,
    )
    half = VeriserumPoseModel.from_pretrained(model, dtype=torch.bfloat16)
    mm, deg = _apart(_poses(half, frames), expected)
    required = f"at most {_HALF_MM:g} mm, {_HALF_DEG:g} deg"
    for name, part in (("median", 0.5), ("largest", 1.0)):
        off_mm, off_deg = (float(np.quantile(values, part)) for values in (mm, deg))
        met = off_mm <= _HALF_MM and off_deg <= _HALF_DEG
        yield Row(f"bfloat16: off from float32, {name}", f"{off_mm:.2g} mm, {off_deg:.2g} deg", required, met)
    last = torch.nn.Module.to(VeriserumPoseModel.from_pretrained(model), memory_format=torch.channels_last)
    for batch in _BATCHES:
        some = {name: value[:batch] for name, value in frames.items()}
        arrays = {name: value.numpy() for name, value in some.items()}
        ways = {
            "torch": lambda some=some: _poses(eager, some),
            "torch, channels last": lambda some=some: _poses(last, some),
            "ONNX Runtime": lambda arrays=arrays: by_runtime(arrays),
        }
        times = _alternating_ms(ways, _ROUNDS[batch])
        for name, ms in times.items():
            ratio = median(slow / fast for slow, fast in zip(times["torch"], ms, strict=True))
            measured = f"{median(ms) / batch:.1f} CPU-ms" + ("" if name == "torch" else f", {ratio:.2f} times faster")
            limited = (f"at least {_TIMES:g} times", ratio >= _TIMES) if "ONNX" in name else (COMPARISON, None)
            yield Row(f"A frame, {batch} at once, {name}", measured, *limited)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="RUN", help="a trained model that is given meshes")
    run = parser.parse_args(arguments).model
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        network = "random weights" if run is None else f"the weights of {Path(run).name}"
        about = (
            "processor time of one process on one thread, median of rounds that alternate; ratios are medians of the "
            f"rounds' ratios. torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}; network of "
            f"robust_small.yaml with {network}; {_FRAMES} frames of randomised worlds, 256 px"
        )
        write_table("Export", rows(run, Path(name)), about, Path(__file__).with_name("RESULTS_EXPORT.md"))


if __name__ == "__main__":
    main()
