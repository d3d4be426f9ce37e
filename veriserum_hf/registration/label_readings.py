"""Which reading of labels and images would make them agree, of the rows of a data set or an archive."""

from collections.abc import Mapping

import numpy as np
import trimesh

from veriserum_hf.archive import CorrectedFields, Implant, agreement, judge, surface
from veriserum_hf.core import CAMERA_OF, COMPONENTS, IMAGE_OF, PLANES
from veriserum_hf.dataset import Frames
from veriserum_hf.errors import FrameError
from veriserum_hf.geometry import Plane
from veriserum_hf.jobs import single_threaded_opencv

_FRAMES = 12


def reading_that_agrees(splits: Mapping[str, Frames], meshes: Mapping[int, trimesh.Trimesh]) -> str | None:
    """The reading that would make labels and images agree, as text; None where the present one does, or none does.

    Parameters
    ----------
    splits : frames by split; a few of them, of different trials, are read.
    meshes : implants by anatomy id, mm.

    """
    surfaces = {id: surface(mesh) for id, mesh in meshes.items()}
    found = []
    with single_threaded_opencv():
        for frames in splits.values():
            for row in frames.taken(_spread(frames)).read():
                if isinstance(row, FrameError):
                    continue
                implants = [
                    Implant(surfaces[pose["anatomy_id"]], pose["translation_mm"], pose["quaternion_xyzw"])
                    for component in COMPONENTS
                    if (pose := row[component]) and pose["anatomy_id"] in surfaces
                ]
                fields = CorrectedFields({plane: np.asarray(row[IMAGE_OF[plane]]) for plane in PLANES})
                planes = {plane: Plane.from_camera(row[CAMERA_OF[plane]]) for plane in PLANES}
                found.append(agreement(fields, planes, implants))
    reading = judge(found).reading
    return None if reading is None or not reading.changes else str(reading)


def _spread(frames: Frames) -> list[int]:
    """Rows of as many trials as possible."""
    trials = np.asarray(frames.table("trial_id")["trial_id"])
    _, first, trial = np.unique(trials, return_index=True, return_inverse=True)
    # The first of each trial, then the second, and so on.
    order = np.lexsort((trial, np.arange(len(trials)) - first[trial]))
    chosen = order[:_FRAMES] if len(first) < _FRAMES else first[np.linspace(0, len(first) - 1, _FRAMES).astype(int)]
    return sorted(chosen.tolist())
