"""Poses by a model, with labels or without: rows of the form that `truth.parquet` has too."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from veriserum_hf.core import NOT_ASSESSED, __version__
from veriserum_hf.dataset import Frame, frame_of_row
from veriserum_hf.errors import FrameError, TrainingError
from veriserum_hf.geometry import matrix_to_quaternion
from veriserum_hf.jobs import atomic_path
from veriserum_hf.poses import PREDICTED_SCHEMA

try:
    import torch

    from veriserum_hf.core import COMPONENTS
    from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseModel
except ImportError as error:
    raise ImportError('a model needs torch: pip install "veriserum-hf[train]"') from error

Row = dict[str, Any]
Progress = Callable[[int, int], None]


def predict_frames(model: VeriserumPoseModel, frames: Iterable[Frame], batch_size: int) -> Iterator[list[Row]]:
    """Predict poses batch by batch: two rows for every frame, femoral component first, by `PREDICTED_SCHEMA`.

    Parameters
    ----------
    model : in evaluation mode, on the device that is to be used.
    frames : of `veriserum_hf.dataset.raw_frames`.
    batch_size : frames at once.

    Raises
    ------
    TrainingError
        If the model refuses a frame.

    """
    processor = VeriserumImageProcessor(size=model.config.image_size)
    source = iter(frames)
    while batch := list(islice(source, batch_size)):
        try:
            inputs = processor.preprocess(batch)
            with torch.inference_mode():
                output = model(**{name: _moved(value, model.device) for name, value in inputs.items()})
        except ValueError as error:
            ids = [frame["measurement_id"] for frame in batch if frame["measurement_id"] is not None]
            others = f" or one of the {len(ids) - 1} after it" if len(ids) > 1 else ""
            of = f"measurement {ids[0]}{others}" if ids else "the frame"
            raise TrainingError(f"the model refuses {of}: {error}") from error
        T = output.T_world_implant.double().cpu().numpy()
        quaternions = matrix_to_quaternion(T[..., :3, :3])
        yield [
            {
                **{name: frame[name] for name in ("measurement_id", "trial_id", "frame_index")},
                "anatomy_id": int(output.anatomy_id[number, implant]),
                "component": component,
                "translation_mm": T[number, implant, :3, 3].tolist(),
                "quaternion_xyzw": quaternions[number, implant].tolist(),
                "covariance": None,
                "verdict": NOT_ASSESSED,
                "confidence": _or_none(float(output.confidence[number, implant])),
            }
            for number, frame in enumerate(batch)
            for implant, component in enumerate(COMPONENTS)
        ]


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Mapping):
        return {name: _moved(each, device) for name, each in value.items()}
    return value.to(device)


def _or_none(confidence: float) -> float | None:
    return None if confidence != confidence else confidence  # a pooled head's is NaN


def predict_table(
    model: VeriserumPoseModel, rows: datasets.Dataset, *, batch_size: int, progress: Progress | None = None
) -> pa.Table:
    """Predict the poses of a data set's rows; a table by `PREDICTED_SCHEMA`.

    Parameters
    ----------
    model, rows : of `load_rows`.
    batch_size : frames at once.
    progress : called with the number of frames done and of all.

    Raises
    ------
    TrainingError
        If a frame cannot be used.

    """
    return pa.concat_tables([PREDICTED_SCHEMA.empty_table(), *_tables(model, rows, batch_size, progress)])


def write_predictions(
    model: VeriserumPoseModel,
    rows: datasets.Dataset,
    output: Path,
    *,
    about: Mapping[str, str],
    batch_size: int,
    progress: Progress | None = None,
) -> int:
    """Write the poses of a data set's rows to a Parquet file, which appears in one step when it is whole.

    Parameters
    ----------
    model, rows, batch_size, progress : see `predict_table`.
    output : the file.
    about : what was looked at by which model, for the file's metadata.

    Returns
    -------
    Number of poses.

    Raises
    ------
    TrainingError
        If a frame cannot be used or the file cannot be written.

    """
    schema = PREDICTED_SCHEMA.with_metadata({"veriserum_hf": __version__, **about, **PREDICTED_SCHEMA.metadata})
    count = 0
    with _writing(output), atomic_path(output) as partial, pq.ParquetWriter(partial, schema) as writer:
        for poses in _tables(model, rows, batch_size, progress):
            writer.write_table(poses.cast(schema))
            count += len(poses)
    return count


def _tables(
    model: VeriserumPoseModel, rows: datasets.Dataset, batch_size: int, progress: Progress | None
) -> Iterator[pa.Table]:
    """Poses batch by batch, so that memory does not grow with the rows."""
    frames, done = _frames(rows, model.config.image_size), 0
    for poses in predict_frames(model, frames, batch_size):
        yield pa.Table.from_pylist(poses, PREDICTED_SCHEMA)
        done += len(poses) // len(COMPONENTS)
        if progress:
            progress(done, len(rows))


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(f"cannot write {output}: {error.strerror or error}") from error


def _frames(rows: datasets.Dataset, size: int) -> Iterator[Frame]:
    source = iter(rows)
    for measurement_id in rows["measurement_id"]:
        try:
            frame = frame_of_row(next(source), size)
        # The kinds that Pillow raises, which decodes pictures that are not raw; pyarrow's are ValueError or OSError.
        except (FrameError, OSError, SyntaxError, ValueError) as error:
            raise TrainingError(f"measurement {measurement_id} cannot be used: {error}") from error
        yield frame
