"""Registration for the workbench, and a network, in a process of its own: the page stays alive, it can be stopped."""

import ctypes
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from functools import partial
from multiprocessing.sharedctypes import RawValue
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import trimesh

from veriserum_hf.app.helper import Helper
from veriserum_hf.core import COMPONENTS, FloatArray, PoseFileRow, Poses
from veriserum_hf.dataset import Frames, Rows, frame_of_row
from veriserum_hf.errors import FrameError, MatchError
from veriserum_hf.jobs import single_threaded_opencv

if TYPE_CHECKING:
    from veriserum_hf.modeling import VeriserumPoseModel

_MeshArrays = Mapping[int, tuple[np.ndarray, np.ndarray]]  # vertices in mm and faces by anatomy id
Found = Future[list[PoseFileRow] | None]  # poses, or None where it was stopped


class Progress(NamedTuple):
    """Frames that are done, and whether to stop; shared by both processes.

    Without locks, which a process that is killed would keep; the one is written there, the other here.
    """

    done: ctypes.c_long
    stop: ctypes.c_bool


class Refiner:
    """A process that registers frames, and predicts poses in them.

    Parameters
    ----------
    source : data set with its implants.
    model : network, see `veriserum_hf.inference.load_model`; None for none.

    Attributes
    ----------
    ready : done when everything is loaded; its exception is a TrainingError where the model cannot be loaded, or does
        not fit the data set.

    """

    def __init__(self, source: Rows[Frames], model: str | None = None) -> None:
        self.progress, self.model = Progress(RawValue(ctypes.c_long, 0), RawValue(ctypes.c_bool, False)), model
        arrays = {id: (np.asarray(mesh.vertices), np.asarray(mesh.faces)) for id, mesh in source.meshes.items()}
        # Not read again there. Frames of other splits travel for the network alone.
        there = replace(
            source,
            splits=source.splits if model else {},
            open_meshes=partial(_meshes_of, arrays),
            open_components=partial(dict, source.components),
        )
        self._there = there
        self._running: Found | None = None
        self._start()

    def _start(self) -> None:
        """Begin with a new process, which loads what it needs at once.

        What a process begins with it is given while everybody waits, so that is little: meshes are its first work.
        """
        self._helper = Helper(partial(_begin, self.progress))
        self.ready = self._helper.submit(_load, self._there, self.model)

    def register(self, frames: Frames, starts: Mapping[int, Poses], plane_covariance: FloatArray | None) -> Found:
        """Register frames of one trial, in their order, from initial poses by measurement id.

        The result has rows of `veriserum_hf.poses.REGISTERED_SCHEMA`.

        Raises
        ------
        MatchError
            If other work is under way.

        """
        return self._submit(partial(_register, frames, starts, plane_covariance))

    def predict(self, frames: Frames, known: Mapping[int, Poses]) -> Found:
        """Predict poses in frames, of the implants that are known to be there, by measurement id.

        The result has rows of `veriserum_hf.poses.PREDICTED_SCHEMA`; frames of several that cannot be read have none.

        Raises
        ------
        MatchError
            If other work is under way.

        """
        return self._submit(partial(_predict, frames, known))

    def _submit(self, work: Callable[[], list[PoseFileRow] | None]) -> Found:
        if self._running is not None and not self._running.done():
            raise MatchError("another registration is under way; try again when it has ended")
        self.progress.done.value, self.progress.stop.value = 0, False
        try:
            self._running = self._helper.submit(work)
        except BrokenExecutor:  # its process was killed
            self._start()
            self._running = self._helper.submit(work)
        return self._running

    def stop(self) -> None:
        """Stop after the frame that is being worked on."""
        self.progress.stop.value = True

    def close(self) -> None:
        """End the process, also while it works."""
        self._helper.end()


class _StoppedError(Exception):
    """Somebody wants no more of it."""


_here: dict[str, object] = {}  # of the worker process


def _begin(progress: Progress) -> None:
    _here["progress"] = progress


def _meshes_of(arrays: _MeshArrays) -> tuple[dict[int, trimesh.Trimesh], dict[int, str]]:
    return {id: trimesh.Trimesh(*each, process=False) for id, each in arrays.items()}, {}


def _load(source: Rows[Frames], model: str | None) -> None:
    _here.update(source=source, model=model)
    import torch

    from veriserum_hf.registration import register_trial  # noqa: F401 - loaded before it is needed

    torch.set_num_threads(1)  # the other cores are the page's
    if model:
        _network()


def _network() -> "VeriserumPoseModel":
    from veriserum_hf.inference import fit_to, load_model

    if "network" not in _here:
        source: Rows[Frames] = _here["source"]  # type: ignore[assignment]
        network = load_model(str(_here["model"]), "cpu")
        for frames in source.splits.values():
            fit_to(network, frames.at_size(network.config.image_size), source)
        _here["network"] = network
    return _here["network"]  # type: ignore[return-value]


def _advance(units: int) -> None:
    progress: Progress = _here["progress"]  # type: ignore[assignment]
    progress.done.value += units
    if progress.stop.value:
        raise _StoppedError


def _register(
    frames: Frames, starts: Mapping[int, Poses], plane_covariance: FloatArray | None
) -> list[PoseFileRow] | None:
    from veriserum_hf.registration import Deviations, register_trial

    source: Rows[Frames] = _here["source"]  # type: ignore[assignment]
    deviations = Deviations() if plane_covariance is None else Deviations(plane_covariance=plane_covariance)
    try:
        with single_threaded_opencv():
            return register_trial(frames, starts, source.meshes, _advance, deviations=deviations)
    except _StoppedError:
        return None


def _predict(frames: Frames, known: Mapping[int, Poses]) -> list[PoseFileRow] | None:
    from veriserum_hf.inference import predict_frames

    source: Rows[Frames] = _here["source"]  # type: ignore[assignment]
    network, found = _network(), list[PoseFileRow]()
    size = network.config.image_size
    try:
        for row in frames.at_size(size).read():
            if not isinstance(row, FrameError):
                frame = frame_of_row(row, size)
                there = known[row["measurement_id"]]
                frame["anatomy_id"] = [there[each]["anatomy_id"] if each in there else -1 for each in COMPONENTS]
                poses = next(predict_frames(network, [frame], 1))
                found += [pose for pose in poses if pose["anatomy_id"] in source.meshes]  # a network may know more
            elif len(frames) == 1:
                raise row
            _advance(1)
    except _StoppedError:
        return None
    return found
