"""Poses predicted by a model: rows with the columns of `truth.parquet`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from veriserum_hf.core import IMAGE_OF, NOT_ASSESSED, FloatArray, PoseFileRow, __version__
from veriserum_hf.dataset import Frame, StoredFrames, frame_of_row, is_raw
from veriserum_hf.errors import FrameError, TrainingError
from veriserum_hf.geometry import matrix_to_quaternion
from veriserum_hf.jobs import atomic_path, parquet_file, writing
from veriserum_hf.poses import PREDICTED_SCHEMA

try:
    import torch

    from veriserum_hf.core import COMPONENTS
    from veriserum_hf.inference.onnx_model import OnnxModel
    from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseModel
except ImportError as error:
    raise ImportError('a model needs torch: pip install "veriserum-hf[train]"') from error

Tensors = torch.Tensor | Mapping[str, torch.Tensor]  # an image, or a camera
Progress = Callable[[int, int], None]


def predict_frames(
    model: VeriserumPoseModel | OnnxModel, frames: Iterable[Frame], batch_size: int
) -> Iterator[list[PoseFileRow]]:
    """Predict poses batch by batch: two rows for every frame, femoral component first, by `PREDICTED_SCHEMA`.

    Parameters
    ----------
    model : in evaluation mode, on the device that is to be used; or run by ONNX Runtime.
    frames : of `veriserum_hf.dataset.frame_of_row` or `veriserum_hf.dataset.frame_of_files`; images of any size and
        shape, with both planes or one.
    batch_size : frames at once.

    Raises
    ------
    TrainingError
        If the model refuses a frame.

    """
    processor = VeriserumImageProcessor(size=model.config.image_size)
    for batch in _batches(frames, batch_size):
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
        _check_found(T, batch)
        quaternions = matrix_to_quaternion(T[..., :3, :3])
        yield [
            {
                "measurement_id": frame["measurement_id"],
                "trial_id": frame["trial_id"],
                "frame_index": frame["frame_index"],
                "anatomy_id": int(output.anatomy_id[number, implant]),
                "component": component,
                "translation_mm": T[number, implant, :3, 3].tolist(),
                "quaternion_xyzw": quaternions[number, implant].tolist(),
                "covariance": None,
                "verdict": NOT_ASSESSED,
                "confidence": _or_none(float(output.confidence[number, implant])),
                "doubt": None if output.doubt is None else float(output.doubt[number, implant]),
                "trusted": None if output.trusted is None else bool(output.trusted[number, implant]),
            }
            for number, frame in enumerate(batch)
            for implant, component in enumerate(COMPONENTS)
        ]


def _check_found(T: FloatArray, batch: Sequence[Frame]) -> None:
    """Raise TrainingError where a model was given no mesh of an implant of a frame, and has no pose."""
    lacking = np.argwhere(~np.isfinite(T).all(axis=(2, 3)))
    if len(lacking):
        number, implant = lacking[0].tolist()
        raise TrainingError(
            f"measurement {batch[number]['measurement_id']}: it is unknown which {COMPONENTS[implant]} it shows, and "
            "the model finds an implant by its mesh alone. Name it, or give the mesh of one only"
        )


def _batches(frames: Iterable[Frame], batch_size: int) -> Iterator[list[Frame]]:
    """Frames in their order, at most so many at once, and of the same planes."""
    for _, same in groupby(frames, key=lambda frame: [name in frame for name in IMAGE_OF.values()]):
        while batch := list(islice(same, batch_size)):
            yield batch


def _moved(value: Tensors, device: torch.device) -> Tensors:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    return {name: each.to(device) for name, each in value.items()}


def _or_none(confidence: float) -> float | None:
    return None if confidence != confidence else confidence  # a pooled head's is NaN


def predict_table(
    model: VeriserumPoseModel | OnnxModel, frames: StoredFrames, *, batch_size: int, progress: Progress | None = None
) -> pa.Table:
    """Predict the poses of a data set's frames; a table by `PREDICTED_SCHEMA`.

    Parameters
    ----------
    model : in evaluation mode, on the device that is to be used.
    frames : that it fits, see `veriserum_hf.inference.fit_to`; raw ones are corrected to its size.
    batch_size : frames at once.
    progress : called with the number of frames done and of all.

    Raises
    ------
    TrainingError
        If a frame cannot be used.

    """
    tables = _counted(tables_of(model, frames, white_level_of(frames), batch_size), len(frames), progress)
    return pa.concat_tables([PREDICTED_SCHEMA.empty_table(), *tables])


def write_predictions(
    model: VeriserumPoseModel | OnnxModel,
    frames: StoredFrames,
    output: Path,
    *,
    about: Mapping[str, str],
    batch_size: int,
    progress: Progress | None = None,
) -> int:
    """Write the poses of a data set's frames to a Parquet file, which appears in one step when it is whole.

    Parameters
    ----------
    model, frames, batch_size, progress : see `predict_table`.
    output : the file.
    about : model and data, for the file's metadata.

    Returns
    -------
    Number of poses.

    Raises
    ------
    TrainingError
        If a frame cannot be used or the file cannot be written.

    """
    schema, count = predicted_schema(about), 0
    tables = tables_of(model, frames, white_level_of(frames), batch_size)
    with writing(output, TrainingError), atomic_path(output) as partial, parquet_file(partial, schema) as write:
        for poses in _counted(tables, len(frames), progress):
            write(poses.cast(schema))
            count += len(poses)
    return count


def predicted_schema(about: Mapping[str, str]) -> pa.Schema:
    """Schema of a file of predictions, with the model and the data that they are of."""
    return PREDICTED_SCHEMA.with_metadata({"veriserum_hf": __version__, **about, **PREDICTED_SCHEMA.metadata})


def white_level_of(frames: StoredFrames) -> int:
    """Grey level that is white in frames."""
    return frames.white_level if is_raw(frames.column_names) else 255


def tables_of(
    model: VeriserumPoseModel | OnnxModel, frames: StoredFrames, white_level: int, batch_size: int
) -> Iterator[pa.Table]:
    """Poses batch by batch, so that memory does not grow with the data set; TrainingError for an unusable frame."""
    try:
        for poses in predict_frames(model, _shown(frames, model.config.image_size, white_level), batch_size):
            yield pa.Table.from_pylist(poses, PREDICTED_SCHEMA)
    except OSError as error:  # errors of who takes the tables are not raised here
        raise TrainingError(f"cannot read the frames: {error}") from error


def _counted(tables: Iterable[pa.Table], total: int, progress: Progress | None) -> Iterator[pa.Table]:
    done = 0
    for poses in tables:
        yield poses
        done += len(poses) // len(COMPONENTS)
        if progress:
            progress(done, total)


def _shown(frames: StoredFrames, size: int, white_level: int) -> Iterator[Frame]:
    """Frames as the model takes them."""
    ids = frames.table("measurement_id")["measurement_id"].to_pylist()
    for measurement_id, row in zip(ids, frames.read(), strict=True):
        if isinstance(row, FrameError):
            raise TrainingError(f"measurement {measurement_id} cannot be used: {row}") from row
        yield frame_of_row(row, size, white_level)
