"""Candidates of initial poses from the images alone, without any knowledge of where the implants are.

Outlines of an implant from all directions are compared with the edges of the images: the direction of each edge
counts, grey values do not. In two planes, positions must agree in space; in one plane, the size of
the outline gives the depth. The best hypotheses are moved onto the edges near them at three scales, and ranked by the
share of their outlines that lies on edges. The implant with the better score is found first, the other one once more
near it.

Limits: poses are within some tenths of a millimetre and a degree in two planes. In one plane, depths are off by some
centimetres, and rotations by up to 20 degrees where an outline hardly depends on them. Poses that images hardly
distinguish, such as mirror poses of nearly symmetric trays, are separate candidates with nearly the same score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import trimesh

from veriserum_hf.core import PLANES, Component, FloatArray, FrameRow, PlaneName
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import make_transform
from veriserum_hf.registration.from_images.coarse_fit import CHANCE, CoarseFit
from veriserum_hf.registration.from_images.edge_maps import EdgeMap
from veriserum_hf.registration.from_images.hypotheses import (
    Hypotheses,
    Region,
    from_one_plane,
    from_two_planes,
    meeting_point,
)
from veriserum_hf.registration.from_images.templates import ReducedMesh
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.inputs import name_of, views_of
from veriserum_hf.registration.scene import View

CANDIDATES = 8
_DIRECTIONS, _FEW_DIRECTIONS = 320, 80
_KNEE_MM = 110.0  # at most, between the centres of the implants of a knee
# Of each scale: longer side of the image, half-widths of the search for edges in px, and the number of hypotheses.
_SCALES_PX = (160, 320, 640)
_WINDOWS_PX = ((5, 5, 4, 4, 3, 3, 2, 2), (5, 4, 4, 3, 3, 2), (4, 3, 3, 2))
_COUNTS = (80, 24, 12)
# Hypotheses this near to each other are refined to the same pose; candidates this near are one.
_SAME_HYPOTHESIS = (6.0, 12.0)  # mm, deg
_SAME_CANDIDATE = (4.0, 8.0)
_CONVINCING = 0.8  # below it, an implant may be outside the field of one of the planes


@dataclass(frozen=True, eq=False)
class CandidatePose:
    """A pose of an implant that agrees with the images.

    Attributes
    ----------
    anatomy_id : of the implant.
    T_world_implant : (4, 4) mm.
    score : agreement of its outlines with edges of the images, 0 to 1: the mean over the planes. A pose by chance
        has 0.6 to 0.75.

    """

    anatomy_id: int
    T_world_implant: FloatArray
    score: float


def candidate_poses(
    row: FrameRow,
    implants: Mapping[Component, int],
    meshes: Mapping[int, trimesh.Trimesh],
    *,
    planes: Sequence[PlaneName] = PLANES,
) -> dict[Component, list[CandidatePose]]:
    """Find poses of each implant that agree with the images, at most `CANDIDATES`, the best first.

    Parameters
    ----------
    row, meshes, planes : as for `veriserum_hf.registration.register`; poses of the row are not used.
    implants : anatomy id of each component that the frame shows.

    Raises
    ------
    RegistrationError
        If no implant is given, one has no mesh or one that is not closed or not in mm, there is no image, or a camera
        is missing, invalid or contradicts its image.

    """
    if not implants:
        raise RegistrationError(
            f"{name_of(row)}: no implant to find; give the anatomy id of a femur, a tibia or both"
        )
    if missing := sorted(set(implants.values()) - set(meshes)):
        raise RegistrationError(f"{name_of(row)}: there is no mesh of implant {missing}, only of {sorted(meshes)}")
    views = views_of(row, planes)
    searches = {
        component: _Search(Implant(id, meshes[id]), list(views.values())) for component, id in implants.items()
    }
    sign = _sign(list(searches.values()))
    found = {component: search.candidates(sign) for component, search in searches.items()}
    if len(found) > 1 and all(len(each.scores) for each in found.values()):
        first, *others = sorted(found, key=lambda component: -found[component].scores[0])
        region = Region(found[first].centers_mm[0], _KNEE_MM)
        for component in others:
            near = searches[component].candidates(sign, region)
            # Whatever is elsewhere comes last: metal edges of tables and screws agree with thin outlines.
            elsewhere = found[component]
            elsewhere = elsewhere.taken(np.flatnonzero(~region.contains(elsewhere.centers_mm)))
            found[component] = near.followed_by(elsewhere) if len(near.scores) else found[component]
    return {component: searches[component].poses(each) for component, each in found.items()}


class _Search:
    """Search for one implant in the planes of a frame."""

    def __init__(self, implant: Implant, views: Sequence[View]) -> None:
        self._implant, self._mesh = implant, ReducedMesh(implant)
        self._scales = [[EdgeMap.of_view(view, px) for view in views] for px in _SCALES_PX]
        self._detectors_mm = [float(view.pixel_mm[0] * view.camera.intrinsics[0, 0]) for view in views]

    def hypotheses(
        self, sign: float, directions: int = _DIRECTIONS, region: Region | None = None, together: bool = True
    ) -> Hypotheses:
        """Hypotheses from two planes together, or from each alone."""
        planes = self._scales[0]
        if together and len(planes) == 2 and np.isfinite(meeting_point(planes)).all():
            return from_two_planes(planes, self._mesh, sign, directions, region)
        first, *others = (
            from_one_plane(plane, self._mesh, detector_mm, sign, directions, region)
            for plane, detector_mm in zip(planes, self._detectors_mm, strict=True)
        )
        return sum(others, first)

    def candidates(self, sign: float, region: Region | None = None) -> Hypotheses:
        """Refined hypotheses, the best first."""
        found = self._refined(self.hypotheses(sign, region=region), sign)
        if len(self._scales[0]) > 1 and not (found.scores[:1] > _CONVINCING).any():
            found += self._refined(self.hypotheses(sign, region=region, together=False), sign)
        found = found.taken(np.flatnonzero(found.scores > CHANCE))
        return found.distinct(CANDIDATES, *_SAME_CANDIDATE, [plane.camera for plane in self._scales[0]])

    def poses(self, found: Hypotheses) -> list[CandidatePose]:
        """Candidates of refined hypotheses."""
        T = make_transform(found.rotations, found.centers_mm - found.rotations @ self._implant.center_mm)
        pairs = zip(T, found.scores.tolist(), strict=True)
        return [CandidatePose(self._implant.anatomy_id, pose, score) for pose, score in pairs][:CANDIDATES]

    def _refined(self, found: Hypotheses, sign: float) -> Hypotheses:
        cameras = [plane.camera for plane in self._scales[0]]
        for planes, windows, count in zip(self._scales, _WINDOWS_PX, _COUNTS, strict=True):
            fit = CoarseFit(self._mesh, planes, sign)
            best = found.distinct(count, *_SAME_HYPOTHESIS, cameras)
            moved = [fit.refined(*pose, windows) for pose in zip(best.rotations, best.centers_mm, strict=True)]
            scores = np.array([fit.score(*pose) for pose in moved])
            found = Hypotheses.best_first(
                np.array([rotation for rotation, _ in moved]).reshape(-1, 3, 3),
                np.array([center for _, center in moved]).reshape(-1, 3),
                scores,
            )
        return found


def _sign(searches: Sequence[_Search]) -> float:
    """1 where implants are darker than what surrounds them, -1 where the images are inverted."""
    best = {
        sign: max(search.hypotheses(sign, _FEW_DIRECTIONS).scores.max(initial=0.0) for search in searches)
        for sign in (1.0, -1.0)
    }
    return max(best, key=best.__getitem__)
