"""Registration for the workbench, in a process of its own: the page stays alive, and it can be stopped."""

import ctypes
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, Future
from functools import partial
from multiprocessing.sharedctypes import RawValue
from typing import NamedTuple

import numpy as np
import trimesh

from veriserum_hf.app.helper import Helper
from veriserum_hf.core import FloatArray, PoseFileRow, Poses
from veriserum_hf.dataset import Frames
from veriserum_hf.errors import MatchError
from veriserum_hf.jobs import single_threaded_opencv

_MeshArrays = Mapping[int, tuple[np.ndarray, np.ndarray]]  # vertices in mm and faces by anatomy id


class Progress(NamedTuple):
    """Frames that are done, and whether to stop; shared by both processes.

    Without locks, which a process that is killed would keep; the one is written there, the other here.
    """

    done: ctypes.c_long
    stop: ctypes.c_bool


class Refiner:
    """A process that registers frames.

    Parameters
    ----------
    meshes : implants by anatomy id, mm.

    """

    def __init__(self, meshes: Mapping[int, trimesh.Trimesh]) -> None:
        self.progress = Progress(RawValue(ctypes.c_long, 0), RawValue(ctypes.c_bool, False))
        arrays = {id: (np.asarray(mesh.vertices), np.asarray(mesh.faces)) for id, mesh in meshes.items()}
        self._first = partial(_begin, arrays, self.progress)
        self._running: Future[list[PoseFileRow] | None] | None = None
        self._start()

    def _start(self) -> None:
        """Begin with a new process, which loads what it needs at once."""
        self._helper = Helper(self._first)
        self._helper.submit(_ready)

    def submit(
        self, frames: Frames, starts: Mapping[int, Poses], plane_covariance: FloatArray | None
    ) -> "Future[list[PoseFileRow] | None]":
        """Register frames of one trial, in their order, from initial poses by measurement id.

        The result has rows of `veriserum_hf.poses.REGISTERED_SCHEMA`, or is None if it was stopped.

        Raises
        ------
        MatchError
            If another registration is under way.

        """
        if self._running is not None and not self._running.done():
            raise MatchError("another registration is under way; try again when it has ended")
        self.progress.done.value, self.progress.stop.value = 0, False
        try:
            self._running = self._helper.submit(_register, frames, starts, plane_covariance)
        except BrokenExecutor:  # its process was killed
            self._start()
            self._running = self._helper.submit(_register, frames, starts, plane_covariance)
        return self._running

    def stop(self) -> None:
        """Stop after the frame that is being registered."""
        self.progress.stop.value = True

    def close(self) -> None:
        """End the process, also while it registers."""
        self._helper.end()


class _StoppedError(Exception):
    """Somebody wants no more of it."""


_here: dict[str, object] = {}  # of the worker process


def _begin(arrays: _MeshArrays, progress: Progress) -> None:
    _here["meshes"] = {id: trimesh.Trimesh(*each, process=False) for id, each in arrays.items()}
    _here["progress"] = progress


def _ready() -> None:
    import torch

    from veriserum_hf.registration import register_trial  # noqa: F401 - loaded before it is needed

    torch.set_num_threads(1)  # the other cores are the page's


def _register(
    frames: Frames, starts: Mapping[int, Poses], plane_covariance: FloatArray | None
) -> list[PoseFileRow] | None:
    from veriserum_hf.registration import Deviations, register_trial

    progress: Progress = _here["progress"]  # type: ignore[assignment]
    meshes: Mapping[int, trimesh.Trimesh] = _here["meshes"]  # type: ignore[assignment]

    def advance(units: int) -> None:
        progress.done.value += units
        if progress.stop.value:
            raise _StoppedError

    deviations = Deviations() if plane_covariance is None else Deviations(plane_covariance=plane_covariance)
    try:
        with single_threaded_opencv():
            return register_trial(frames, starts, meshes, advance, deviations=deviations)
    except _StoppedError:
        return None
