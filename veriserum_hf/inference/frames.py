"""Poses that a model tells of frames without labels, as rows of the form that `truth.parquet` has too."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from veriserum_hf.core import NOT_ASSESSED, PLANES, __version__
from veriserum_hf.dataset import Frame, frame_of_row, load_meshes, load_split_or_all
from veriserum_hf.errors import FrameError, TrainingError
from veriserum_hf.geometry import matrix_to_quaternion
from veriserum_hf.poses import PREDICTED_SCHEMA

try:
    import torch

    from veriserum_hf.core import COMPONENTS
    from veriserum_hf.inference.models import check_fit, check_implants
    from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseModel
except ImportError as error:
    raise ImportError('a model needs torch: pip install "veriserum-hf[train]"') from error

Row = dict[str, Any]


def estimate_frames(model: VeriserumPoseModel, frames: Iterable[Frame], batch_size: int) -> Iterator[list[Row]]:
    """Estimate poses batch by batch: two rows for every frame, femoral component first, by `PREDICTED_SCHEMA`.

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


def load_rows(model: VeriserumPoseModel, dataset: str, config: str, split: str) -> datasets.Dataset:
    """Rows of a data set that a model can look at, with poses or without; raw pictures as their files' bytes.

    Parameters
    ----------
    model : whose images and implants they must be.
    dataset : folder that ``veriserum convert`` made, or a data set on the hub.
    config : calibrated, raw, manual or target.
    split : train, validation, test or all.

    Raises
    ------
    TrainingError
        If there are no such rows, or the model was made for other images or implants.

    """
    rows = load_split_or_all(dataset, config, split)
    needed = {*(f"{what}_{plane}" for what in ("image", "camera") for plane in PLANES), "measurement_id", *COMPONENTS}
    if missing := needed - set(rows.column_names):
        raise TrainingError(
            f"{dataset} {config} has no {', '.join(sorted(missing))}; choose calibrated, raw, manual or target"
        )
    raw = "distortion_bs" in rows.column_names
    (check_implants if raw else check_fit)(model, rows, load_meshes(dataset))
    for plane in PLANES if raw else ():
        rows = rows.cast_column(f"image_{plane}", datasets.Image(decode=False))
    return rows


def write_poses(
    model: VeriserumPoseModel,
    rows: datasets.Dataset,
    output: Path,
    *,
    about: Mapping[str, str],
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the poses of a data set's rows to a Parquet file, which appears in one step when it is whole.

    Parameters
    ----------
    model, rows : of `load_rows`.
    output : the file.
    about : what was looked at by which model, for the file's metadata.
    batch_size : frames at once.
    progress : called with the number of frames done and of all.

    Returns
    -------
    Number of poses.

    Raises
    ------
    TrainingError
        If a frame cannot be used or the file cannot be written.

    """
    metadata = {"veriserum_hf": __version__, **about, **PREDICTED_SCHEMA.metadata}
    partial = output.with_name(f".{output.name}.partial")
    count = 0
    try:
        with _writing(output):
            writer = pq.ParquetWriter(partial, PREDICTED_SCHEMA.with_metadata(metadata))
        try:
            frames = _frames(rows, model.config.image_size)
            for poses in estimate_frames(model, frames, batch_size):
                with _writing(output):
                    writer.write_table(
                        pa.Table.from_pylist(poses, PREDICTED_SCHEMA).replace_schema_metadata(metadata)
                    )
                count += len(poses)
                if progress:
                    progress(count // len(COMPONENTS), len(rows))
        finally:
            with _writing(output):
                writer.close()
        with _writing(output):
            partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return count


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
