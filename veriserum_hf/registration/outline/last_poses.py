"""Initial poses from the frames before: an implant that moves evenly is nearly where its last poses lead to."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from veriserum_hf.core import Component, FloatArray
from veriserum_hf.geometry import invert_transform


class LastPoses:
    """Poses of implants in the last three frames of a trial, as outlines alone give them."""

    def __init__(self) -> None:
        self._last: dict[Component, tuple[FloatArray, ...]] = {}

    def predicted(self, components: Sequence[Component], T_world_implant: FloatArray) -> list[FloatArray]:
        """Initial poses in addition to those given, (K, 4, 4) each, of an implant without such a pose the one given.

        First where the last motions lead to, by the change from one to the next; then the last poses themselves.
        """
        moved, held = T_world_implant.copy(), T_world_implant.copy()
        for k, name in enumerate(components):
            poses = self._last.get(name)
            if poses is not None:
                moved[k], held[k] = _next(poses), poses[-1]
        return [moved, held]

    def add(self, components: Sequence[Component], T_world_implant: FloatArray) -> None:
        """Add the poses (K, 4, 4) of the next frame."""
        for name, T in zip(components, np.array(T_world_implant), strict=True):
            self._last[name] = (*self._last.get(name, ())[-2:], T)


def _next(poses: Sequence[FloatArray]) -> FloatArray:
    """Pose after one to three, with the last motion again, or as much faster as it became."""
    motions = [after @ invert_transform(before) for before, after in pairwise(poses)]
    motion = np.eye(4)
    if motions:
        motion = motions[-1] @ invert_transform(motions[0]) @ motions[-1]
    found: FloatArray = motion @ poses[-1]
    return found
