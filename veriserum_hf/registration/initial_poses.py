"""Initial poses of a registration: those of the data set, of a file, or of a model."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from veriserum_hf.core import COMPONENTS, INITIAL, Component, LabelRow, PoseFileRow, Poses, listed
from veriserum_hf.dataset import Frame, Frames, Rows, frame_of_row
from veriserum_hf.errors import FrameError, RegistrationError
from veriserum_hf.jobs import parquet_bytes, write_listed
from veriserum_hf.poses import check_same_frame, poses_by_frame, read_poses
from veriserum_hf.registration.implant import implant_of

Starts = Mapping[int, Poses]  # by measurement id
MODEL, NONE = "model", "none"
CONFIG_OF_START = {"target": "target", "refined": "calibrated", "manual": "manual", INITIAL: "calibrated"}
_WITH_IMAGES = ("calibrated", "target", "manual")
_BATCH_SIZE = 16


def configs_for(start: str) -> tuple[str, ...]:
    """Configurations, the best first, whose frames can be registered from these initial poses."""
    return (CONFIG_OF_START[start],) if start in CONFIG_OF_START else _WITH_IMAGES


def check_start(start: str, model: str | None) -> None:
    """Raise RegistrationError for an unknown start, or one that contradicts the model."""
    if (start == MODEL) != (model is not None):
        raise RegistrationError("--start model and --model RUN go together: give both, or another start")
    if start not in (MODEL, NONE, *CONFIG_OF_START) and not Path(start).is_file():
        raise RegistrationError(
            f"there is no start {start}; expected {', '.join(CONFIG_OF_START)}, {MODEL}, {NONE}, or a Parquet or CSV "
            "file of poses such as `veriserum predict` writes"
        )


def identity_of_start(start: str, model: str | None) -> dict[str, str | None]:
    """Identity of initial poses, independent of paths and of the data set."""
    if model is not None:
        from veriserum_hf.inference import weights_sha256

        weights = weights_sha256(model)
        return {"start": start, "weights_sha256": weights} if weights else {"start": start, "model": model}
    if start in (NONE, *CONFIG_OF_START):
        return {"start": start}
    with Path(start).open("rb") as file:
        return {"start": "file", "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def starts_of(source: Rows[Frames], chosen: Mapping[str, Frames], start: str) -> Starts:
    """Initial poses of the chosen frames.

    Parameters
    ----------
    source : data set or archive of the frames.
    chosen : frames by split.
    start : refined, target, manual or initial for the frames' own poses, or a file of poses.

    Raises
    ------
    RegistrationError
        If no frame has an initial pose, the frames' own are not of the kind initial where these are wanted, or an
        implant has no mesh, or one that cannot be rendered.
    TrainingError
        If the file cannot be used, or is of another data set.

    """
    rows = label_rows(chosen)
    if start == INITIAL:
        _check_initial(source, rows)
    if start in CONFIG_OF_START:
        starts: Starts = {row["measurement_id"]: _own_poses(row) for row in rows}
    else:
        of_file = poses_by_frame(read_poses(Path(start)))
        for row in rows:
            check_same_frame(of_file.get(row["measurement_id"], {}), row, Path(start))
        starts = {id: of_file[id] for row in rows if (id := row["measurement_id"]) in of_file}
    _check_implants(source, starts)
    if not any(starts.values()):
        raise RegistrationError(
            f"{start} has no pose of the requested frames of {source.dataset} {source.config}; expected poses of "
            "this data set"
        )
    return starts


def label_rows(chosen: Mapping[str, Frames]) -> list[LabelRow]:
    """Ids and own poses of frames."""
    names = ("measurement_id", "trial_id", "frame_index", *COMPONENTS)
    return [row for frames in chosen.values() for row in frames.table(*names).to_pylist()]


def _own_poses(row: LabelRow) -> Poses:
    return {component: pose for component in COMPONENTS if (pose := row[component])}


def _check_initial(source: Rows[Frames], rows: Sequence[LabelRow]) -> None:
    """Raise RegistrationError where poses of rows are no initial poses."""
    kinds = {pose.get("kind") for row in rows for pose in _own_poses(row).values()} - {INITIAL}
    if kinds:
        found = listed(sorted(kind or "unknown" for kind in kinds))
        raise RegistrationError(
            f"{source.dataset} {source.config} has poses of the kind {found}; --start initial expects the initial "
            "poses of own frames that were imported. Give --start refined for these poses"
        )


def _check_implants(source: Rows[Frames], starts: Starts) -> None:
    """Raise RegistrationError for an implant that has no mesh, or one that cannot be rendered."""
    shown = {(component, pose["anatomy_id"]) for poses in starts.values() for component, pose in poses.items()}
    check_meshes(source, shown)


def check_meshes(source: Rows[Frames], shown: Collection[tuple[Component, int]]) -> None:
    """Raise RegistrationError for an implant that has no mesh, or one that cannot be rendered."""
    for component, id in sorted(shown):
        if id not in source.meshes:
            why = f" ({source.without_mesh[id]})" if id in source.without_mesh else ""
            raise RegistrationError(
                f"the initial poses include {component} {id}, but {source.dataset} has no mesh of it{why}, only of "
                f"{listed(sorted(source.meshes), 20) or 'none'}"
            )
        implant_of(id, source.meshes[id])


class StartingModel:
    """A model that predicts initial poses, and frames at its image size.

    Parameters
    ----------
    name : run folder or hub name.
    source, chosen : data set or archive, and frames of it by split.

    Raises
    ------
    TrainingError
        If there is no such model, or it is for other images or implants.
    RegistrationError
        If an implant of the frames' poses cannot be rendered.

    """

    def __init__(self, name: str, source: Rows[Frames], chosen: Mapping[str, Frames]) -> None:
        from veriserum_hf.inference import fit_to, load_model

        self.model = load_model(name)
        # The model takes images of its own size, the registration larger ones.
        chosen = {split: frames.at_size(self.model.config.image_size) for split, frames in chosen.items()}
        self.source, self.chosen = source, chosen
        for frames in chosen.values():
            fit_to(self.model, frames, source)
        # Early, not after the prediction of every frame.
        _check_implants(source, {row["measurement_id"]: _own_poses(row) for row in label_rows(chosen)})

    def starts(self, kept: Path, progress: Callable[[int, int], None] | None = None) -> Starts:
        """Predicted poses of all readable frames, for the implants that the model recognises.

        Parameters
        ----------
        kept : Parquet file in a folder of unfinished work that they are written to, or read from if it exists.
        progress : called with the number of frames predicted, and of all.

        Raises
        ------
        TrainingError
            If the model refuses a frame, or no frame can be read.
        RegistrationError
            If an implant has no mesh, or one that cannot be rendered.

        """
        if not kept.exists():
            self._write(kept, progress)
        starts = poses_by_frame(read_poses(kept))
        _check_implants(self.source, starts)
        return starts

    def _write(self, output: Path, progress: Callable[[int, int], None] | None) -> None:
        from veriserum_hf.inference import predict_frames
        from veriserum_hf.poses import PREDICTED_SCHEMA as SCHEMA

        total, read, reported = sum(map(len, self.chosen.values())), 0, 0

        def readable() -> Iterator[Frame]:
            nonlocal read
            for frames in self.chosen.values():
                for row in frames.read():
                    read += 1
                    if not isinstance(row, FrameError):
                        yield frame_of_row(row, self.model.config.image_size)

        poses: list[PoseFileRow] = []
        for batch in predict_frames(self.model, readable(), _BATCH_SIZE):
            poses += batch
            if progress:
                progress(reported := read, total)
        if progress and reported < total:  # the last frames cannot be read
            progress(total, total)
        write_listed(output.parent, output, parquet_bytes(pa.Table.from_pylist(poses, SCHEMA)))
