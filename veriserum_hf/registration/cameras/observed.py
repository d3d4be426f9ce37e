"""One frame of an adjustment, at the poses and cameras reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from veriserum_hf.core import FloatArray, PlaneName
from veriserum_hf.geometry import Camera
from veriserum_hf.registration.frame import Frame
from veriserum_hf.registration.outline.evidence import NEAR_PX, shares_near
from veriserum_hf.registration.outline.levels import Body, Level
from veriserum_hf.registration.outline.residuals import Residuals
from veriserum_hf.registration.outline.search import ASSESSED, FINE
from veriserum_hf.registration.outline.solver import OutlineSolver, OutlineState
from veriserum_hf.registration.scene import DOF, View

# On the detector, around the implants as registered by the stored cameras: several times farther than outlines move
# when cameras are refined.
_AROUND_MM = 20.0


@dataclass(frozen=True, eq=False)
class Observed:
    """One frame at the state reached.

    Attributes
    ----------
    trial_id, measurement_id : of the frame.
    views : by plane, with the stored cameras; without pixels.
    levels : by plane, of the finest scale, with the cameras reached: the part of the image around the implants.
    bodies : K implants.
    state : their poses and attenuations.
    velocity : (K, 6) mm/ms, steps of the poses per time; zero where it is of no interest.
    late_ms : by how much later the second plane is exposed than the first.

    """

    trial_id: int
    measurement_id: int
    views: Mapping[PlaneName, View]
    levels: Mapping[PlaneName, Level]
    bodies: Sequence[Body]
    state: OutlineState
    velocity: FloatArray
    late_ms: float = 0.0

    @classmethod
    def of(
        cls,
        trial_id: int,
        measurement_id: int,
        frame: Frame,
        state: OutlineState,
        velocity: FloatArray | None = None,
    ) -> "Observed":
        """A frame whose outlines are registered."""
        if velocity is None:
            velocity = np.zeros((len(frame.implants), DOF))
        views = {plane: view.without_pixels() for plane, view in frame.views.items()}
        fine, levels = frame.outlines.solver(FINE), {}
        for plane, level in fine.levels.items():
            poses = zip(fine.bodies, state.T_world_implant, strict=True)
            shadows = [level.render(body, T) for body, T in poses]
            levels[plane] = level.around(shadows, int(_AROUND_MM / level.view.pixel_mm.min()))
        return cls(trial_id, measurement_id, views, levels, fine.bodies, state, velocity)

    @property
    def solver(self) -> OutlineSolver:
        """Solver of the frame."""
        motions_mm = {plane: self.late_ms * self.velocity for plane in list(self.levels)[1:] if self.late_ms}
        return OutlineSolver(self.levels, self.bodies, motions_mm)

    def with_cameras(self, cameras: Mapping[PlaneName, Camera], late_ms: float = 0.0) -> "Observed":
        """The same seen by other cameras, of the images as stored, the second exposed so much later."""
        levels = {}
        for plane, level in self.levels.items():
            shape = self.views[plane].image.shape
            levels[plane] = level.with_camera(cameras[plane].resized(shape, self.size(plane)))
        return replace(self, levels=levels, late_ms=late_ms)

    def size(self, plane: PlaneName) -> tuple[int, int]:
        """Rows and columns of the whole image at the finest scale."""
        return self.views[plane].size_at(FINE.pixel_mm)

    def residuals(self) -> dict[PlaneName, list[Residuals]]:
        """Residuals of all implants by plane."""
        return self.solver.residuals(self.state, ASSESSED)

    def converged(self) -> "Observed":
        """The frame with its poses registered by the cameras reached, which stay."""
        return replace(self, state=self.solver.converge(self.state, ASSESSED)[0])

    def share_on_edges(self) -> float:
        """Share of the outline with an edge within a pixel, of the worst implant, in the plane that agrees better.

        With wrong cameras no pose agrees with both planes.
        """
        by_plane = self.residuals()
        shares = [
            shares_near({plane: of_plane[k] for plane, of_plane in by_plane.items()}, NEAR_PX)
            for k in range(len(self.bodies))
        ]
        return min(max(each.values(), default=0.0) for each in shares)
