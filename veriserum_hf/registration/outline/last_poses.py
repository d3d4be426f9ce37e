"""Initial poses from the frames before: an implant that moves evenly is nearly where its last poses lead to."""

from collections.abc import Sequence

import numpy as np

from veriserum_hf.core import Component, FloatArray
from veriserum_hf.geometry import invert_transform


class LastPoses:
    """Poses of implants in the last two frames of a trial, as outlines alone give them."""

    def __init__(self) -> None:
        self._last: dict[Component, tuple[FloatArray, ...]] = {}

    def predicted(self, components: Sequence[Component], T_world_implant: FloatArray) -> list[FloatArray]:
        """Initial poses in addition to those given, (K, 4, 4) each: the last ones, and with the last motion again.

        Of an implant without such a pose, the one given.
        """
        found = []
        for with_motion in (False, True):
            T = T_world_implant.copy()
            for k, name in enumerate(components):
                *before, last = self._last.get(name, (T[k],))
                T[k] = last @ invert_transform(before[0]) @ last if with_motion and before else last
            found.append(T)
        return found

    def add(self, components: Sequence[Component], T_world_implant: FloatArray) -> None:
        """Add the poses (K, 4, 4) of the next frame."""
        for name, T in zip(components, np.array(T_world_implant), strict=True):
            self._last[name] = (*self._last.get(name, ())[-1:], T)
