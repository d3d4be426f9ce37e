"""Which reading of labels and images would make them agree, of the rows of a data set or an archive."""

from collections.abc import Mapping, Sequence

import numpy as np
import trimesh
from numpy.typing import NDArray

from veriserum_hf.archive import (
    CorrectedFields,
    Implant,
    VeriserumArchive,
    agreement,
    disagree,
    disagreement,
    judge,
    surface,
)
from veriserum_hf.core import COMPONENTS, IMAGE_OF, FrameRow, cameras_of
from veriserum_hf.dataset import Frames, Rows, is_archive
from veriserum_hf.errors import FrameError
from veriserum_hf.geometry import Camera
from veriserum_hf.jobs import single_threaded_opencv

_FRAMES = 12


def disagreement_of_labels(source: Rows[Frames], split: str) -> str | None:
    """How labels and images disagree, and the reading in which they would agree; None where nothing is found.

    An archive's raw frames are compared as a whole, by `veriserum_hf.archive.disagreement`; of a data set, some
    corrected images.
    """
    if is_archive(source.dataset):
        return disagreement(VeriserumArchive(source.dataset))
    return _of_rows(source.of_split(split), source.meshes)


def _of_rows(splits: Mapping[str, Frames], meshes: Mapping[int, trimesh.Trimesh]) -> str | None:
    surfaces = {id: surface(mesh) for id, mesh in meshes.items()}
    found = []
    with single_threaded_opencv():
        for frames in splits.values():
            for row in frames.taken(spread_over_trials(_trials(frames), _FRAMES)).read():
                if isinstance(row, FrameError):
                    continue
                implants = [
                    Implant(surfaces[pose["anatomy_id"]], pose["translation_mm"], pose["quaternion_xyzw"])
                    for component in COMPONENTS
                    if (pose := row[component]) and pose["anatomy_id"] in surfaces
                ]
                if implants:
                    found.append(agreement(_fields(row, implants), implants))
    reading = judge(found).reading
    return f"the outlines of the labels {disagree(reading)}" if reading is not None and reading.changes else None


def _fields(row: FrameRow, implants: Sequence[Implant]) -> CorrectedFields:
    """Images of a row, of any size, with its own cameras."""
    images = {plane: np.asarray(image) for plane, name in IMAGE_OF.items() if (image := row[name]) is not None}
    cameras = {
        plane: Camera.from_row(camera, images[plane].shape)
        for plane, camera in cameras_of(row).items()
        if plane in images
    }
    return CorrectedFields({plane: images[plane] for plane in cameras}, cameras, implants)


def _trials(frames: Frames) -> NDArray[np.int64]:
    return np.asarray(frames.table("trial_id")["trial_id"])


def spread_over_trials(trials: NDArray[np.int64], count: int) -> list[int]:
    """Indices of at most that many frames, of as many trials as possible, by the trial ids of all."""
    _, first, trial = np.unique(trials, return_index=True, return_inverse=True)
    # The first of each trial, then the second, and so on.
    order = np.lexsort((trial, np.arange(len(trials)) - first[trial]))
    chosen = order[:count] if len(first) < count else first[np.linspace(0, len(first) - 1, count).astype(int)]
    return sorted(chosen.tolist())
