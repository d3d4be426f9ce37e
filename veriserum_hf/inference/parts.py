"""Predictions of a data set in parts, which other machines make; an interrupted run is resumed."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow.parquet as pq

from veriserum_hf.core import COMPONENTS, Engine, __version__
from veriserum_hf.dataset import StoredFrames
from veriserum_hf.errors import TrainingError
from veriserum_hf.inference.models import NamedImplants, load_model, weights_sha256
from veriserum_hf.inference.onnx_model import OnnxModel
from veriserum_hf.inference.predictions import Progress, predicted_schema, tables_of, white_level_of
from veriserum_hf.jobs import (
    keep_whole,
    library_versions,
    listed_path,
    parquet_file,
    put_in_place,
    run_jobs,
    source_hash,
    staging_folder,
)
from veriserum_hf.modeling import VeriserumPoseModel, located
from veriserum_hf.poses import PREDICTED_SCHEMA

# What shapes predictions, in addition to frames, model and options.
_SOURCES = (
    "dataset.image_files",
    "dataset.model_frames",
    "dataset.stored",
    "dataset.whole_camera",
    "geometry",
    "inference",
    "modeling",
)
_FRAMES_OF_A_PART = 512  # on one core, ten seconds
_MERGED = "poses.parquet"  # below the folder of unfinished work


@dataclass(frozen=True, eq=False)
class PartJob:
    """A few hundred frames to predict the poses of, on the device of the process that runs it.

    Attributes
    ----------
    model, weights, engine : name of the model, hash of its weights, and what runs it.
    implants : those of `named_implants`.
    frames, white_level, batch_size : see `veriserum_hf.inference.predictions.tables_of`.
    file : Parquet file to write, a row group for each batch.
    unfinished : folder above it that lists finished files.

    """

    model: str
    weights: str | None
    engine: Engine
    implants: NamedImplants
    frames: StoredFrames
    white_level: int
    batch_size: int
    file: Path
    unfinished: Path

    @property
    def units(self) -> int:
        """Dual-plane frames."""
        return len(self.frames)

    @property
    def done(self) -> bool:
        """Whether the file exists."""
        return self.file.exists()

    def run(self, advance: Callable[[int], None]) -> None:
        """Predict batch by batch, and write the file in one step."""
        model = _loaded(self.model, self.weights, self.engine)
        self.implants.give_to(model.model if isinstance(model, OnnxModel) else model)
        with listed_path(self.unfinished, self.file) as partial, parquet_file(partial, PREDICTED_SCHEMA) as write:
            for poses in tables_of(model, self.frames, self.white_level, self.batch_size):
                write(poses)
                advance(len(poses) // len(COMPONENTS))


@lru_cache(maxsize=1)
def _loaded(name: str, weights: str | None, engine: Engine) -> VeriserumPoseModel | OnnxModel:
    """Load the model once in a process, and again when its weights have changed."""
    return OnnxModel(load_model(name, "cpu")) if engine == "onnx" else load_model(name)


def predict_elsewhere(
    model: str,
    frames: StoredFrames,
    output: Path,
    *,
    about: Mapping[str, str],
    batch_size: int,
    executor: Executor,
    engine: Engine = "torch",
    implants: NamedImplants,
    progress: Progress | None = None,
) -> int:
    """Write the same file as `veriserum_hf.inference.write_predictions`, whose parts an executor makes.

    Where frames lack a plane, other frames are in a batch together, and the numbers differ by rounding.

    Parameters
    ----------
    model : see `veriserum_hf.inference.load_model`.
    frames, about, batch_size, progress : see `veriserum_hf.inference.write_predictions`.
    output : the file, which must not exist.
    executor : see `veriserum_hf.jobs.run_jobs`.
    implants : of the model, see `NamedImplants`.
    engine : ``"torch"``, or ``"onnx"`` for ONNX Runtime on the CPU.

    Returns
    -------
    Number of poses.

    Raises
    ------
    TrainingError
        If a frame or the model cannot be used, or the file cannot be written.
    WorkerError
        If the executor is lost, or its processes do not see the folders.

    """
    target, model = output.absolute(), located(model)
    weights = weights_sha256(model)
    record = {
        "versions": {"veriserum_hf": __version__, "source": source_hash(*_SOURCES)} | library_versions("torch"),
        "frames": frames.digest(),
        "about": dict(about),
        "weights_sha256": weights,
        "batch_size": batch_size,
        "engine": engine,
        "implants": implants.digest(),
    }
    schema, count = predicted_schema(about), 0
    with staging_folder(target, record, "prediction", TrainingError) as incomplete:
        keep_whole(incomplete)
        white_level, step = white_level_of(frames), batch_size * max(1, _FRAMES_OF_A_PART // batch_size)
        jobs = [
            PartJob(
                str(Path(model).absolute()) if Path(model).is_dir() else model,
                weights,
                engine,
                implants,
                frames.taken(range(first, min(first + step, len(frames)))),
                white_level,
                batch_size,
                incomplete / f"part-{first:07d}.parquet",
                incomplete,
            )
            for first in range(0, len(frames), step)
        ]
        reads = [Path(model).absolute()] if Path(model).is_dir() else []
        run_jobs(jobs, None, progress, executor=executor, folder=incomplete, reads=reads)
        merged = incomplete / _MERGED
        merged.unlink(missing_ok=True)
        with parquet_file(merged, schema) as write:
            for job in jobs:
                part = pq.ParquetFile(job.file)
                for group in range(part.num_row_groups):
                    poses = part.read_row_group(group)
                    write(poses.cast(schema))
                    count += len(poses)
        put_in_place(merged, target)
    return count
