"""Registration of one frame: its outlines first, then its intensities where these are explained by their model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from veriserum_hf.core import Component, FloatArray, PlaneName
from veriserum_hf.geometry import angle_between_deg, transform_points
from veriserum_hf.registration.deviations import Deviations, PlanesApart, of_center, of_origin, stated, to_origin
from veriserum_hf.registration.implant import Implant, central_ray
from veriserum_hf.registration.outline.contrast import brighter_inside, explained
from veriserum_hf.registration.outline.evidence import (
    NEAR_PX,
    above_chance,
    chance,
    shares_near,
    without_shared_error,
)
from veriserum_hf.registration.outline.last_poses import LastPoses
from veriserum_hf.registration.outline.residuals import Residuals
from veriserum_hf.registration.outline.search import ASSESSED, COARSE, FINE, MIDDLE, OutlineFit, OutlineFrame, Scale
from veriserum_hf.registration.outline.solver import OutlineState
from veriserum_hf.registration.scene import View
from veriserum_hf.registration.verdicts import Findings

# Of the variance inside an implant that its path lengths must explain, mean of the planes, before intensities are
# fitted: 0.67 to 0.98 in simulated frames, at most 0.69 in real ones of opaque implants.
_EXPLAINED = 0.7
_MUCH_CLIPPED = 0.1  # of the surroundings of an outline
_TIGHT_PX = 0.5
_LOST = 0.15  # share of the outline within that distance of its edge, that intensities may lose against outlines


@dataclass(frozen=True, eq=False)
class IntensityPose:
    """Result of the intensities for one implant: pose (4, 4) mm, covariance of a step, (6, 6) mm^2, convergence."""

    T_world_implant: FloatArray
    covariance: FloatArray
    converged: bool


@dataclass(frozen=True, eq=False)
class Chosen:
    """Poses of all implants of a frame: state, results of intensities or None by implant, and convergence."""

    state: OutlineState
    by_intensity: Sequence[IntensityPose | None]
    converged: Sequence[bool]


class Frame:
    """One frame, its implants and their initial poses, (K, 4, 4) mm."""

    def __init__(
        self, views: Mapping[PlaneName, View], implants: Mapping[Component, Implant], T_world_implant: FloatArray
    ) -> None:
        self.views, self.initial = views, T_world_implant
        self.components, self.implants = list(implants), list(implants.values())
        upright = OutlineFrame(views, self.implants, dict.fromkeys(views, False))
        coarse = upright.solver(COARSE)
        self._brighter = {
            plane: brighter_inside(level, coarse.shadows(plane, T_world_implant))
            for plane, level in coarse.levels.items()
        }
        self.outlines = (
            OutlineFrame(views, self.implants, self._brighter) if any(self._brighter.values()) else upright
        )

    def by_outline(self, last_poses: LastPoses | None = None) -> OutlineFit:
        """Register by outlines from the initial poses, or from those that the frames before lead to."""
        return self.outlines.finish(self.near_outline(last_poses))

    def near_outline(self, last_poses: LastPoses | None = None) -> OutlineFit:
        """The same without the finest scale: near enough for intensities."""
        if last_poses is None:
            return self.outlines.approach(self.initial)
        fit = self.outlines.approach(self.initial, last_poses.predicted(self.components, self.initial))
        last_poses.add(self.components, fit.state.T_world_implant)
        return fit

    def intensities_explained(self, fit: OutlineFit) -> bool:
        """Whether the path lengths of any implant explain the grey values inside it."""
        solver = self.outlines.solver(MIDDLE)
        T = fit.state.T_world_implant
        shares = [explained(level, solver.shadows(plane, T)) for plane, level in solver.levels.items()]
        return bool((np.mean(shares, axis=0) >= _EXPLAINED).any())

    def choose(self, fit: OutlineFit | None, intensities: Sequence[IntensityPose] | None) -> "Chosen":
        """Poses of intensities that keep outlines on their edges, and those of outlines for other implants.

        ``fit`` lacks the finest scale of outlines. No pose near it can have more of an outline on its edges than has
        any edge there: where intensities have nearly that, that scale is not needed.
        """
        if intensities is not None:
            T = np.stack([each.T_world_implant for each in intensities])
            state = self.outlines.with_attenuations(T, None if fit is None else fit.state)
            if fit is None or all(
                each.converged
                and self._share_near(state, k) >= self._share_near(fit.state, k, np.inf, MIDDLE) - _LOST
                for k, each in enumerate(intensities)
            ):
                return Chosen(state, intensities, [each.converged for each in intensities])
        if fit is None:
            raise ValueError("expected poses of outlines or of intensities")
        fit = self.outlines.finish(fit)
        used = [
            each if self._accepts(fit, k, each) else None
            for k, each in enumerate(intensities or [None] * len(self.implants))
        ]
        T = fit.state.T_world_implant
        T = np.stack([T[k] if each is None else each.T_world_implant for k, each in enumerate(used)])
        converged = [bool(fit.converged[k]) if each is None else each.converged for k, each in enumerate(used)]
        return Chosen(OutlineState(T, fit.state.log_per_mm), used, converged)

    def _accepts(self, fit: OutlineFit, k: int, intensity: IntensityPose | None) -> bool:
        """Whether the intensities' pose of an implant keeps its outline on the edges."""
        if intensity is None or not intensity.converged:
            return False
        T = fit.state.T_world_implant.copy()
        T[k] = intensity.T_world_implant
        return self._share_near(OutlineState(T, fit.state.log_per_mm), k) >= self._share_near(fit.state, k) - _LOST

    def _share_near(self, state: OutlineState, k: int, near_px: float = _TIGHT_PX, scale: Scale = FINE) -> float:
        """Share of an implant's outline with an edge so near, in the worse plane."""
        residuals = without_shared_error(self.outlines.of_implant(scale, state, k))
        return min(shares_near(residuals, near_px).values(), default=0.0)

    def findings(
        self,
        state: OutlineState,
        k: int,
        *,
        image_covariance: FloatArray | None,
        converged: bool,
        runner_up_deg: float,
        deviations: Deviations,
    ) -> tuple[Findings, FloatArray, FloatArray, FloatArray]:
        """What is known about the pose of one implant, and its covariances: with errors of the world, and without.

        These are of the origin, mm and deg, (6, 6); ``image_covariance`` of a step, mm^2, replaces that of outlines.
        The last are the effects of the cameras on the origin, (6, 12), see `veriserum_hf.registration.deviations`.
        """
        implant, T = self.implants[k], state.T_world_implant[k]
        levels, residuals = self.outlines.solver(FINE).levels, self._residuals(state, k)
        about = stated(residuals, levels, implant, T, deviations)
        image = total = of_cameras = np.full((6, 6), np.nan)
        effects = np.full((6, 12), np.nan)
        if about is not None:
            image = about.image if image_covariance is None else image_covariance
            total, of_cameras, effects = image + about.world, about.of_cameras, about.camera_effects
        start_mm, center_mm = (transform_points(pose, implant.center_mm[None])[0] for pose in (self.initial[k], T))
        moved_deg = float(angle_between_deg(self.initial[k, :3, :3], T[:3, :3]))
        found = Findings(
            covariance=of_center(total, implant),
            of_cameras=of_center(of_cameras, implant),
            rays={plane: central_ray(view.camera, implant, T) for plane, view in self.views.items()},
            shares_in_field={plane: view.share_in_field(implant, T) for plane, view in self.views.items()},
            score=self._score(state, residuals),
            converged=converged,
            planes_apart=PlanesApart() if about is None else about.planes_apart,
            contradictory=about is not None and about.contradictory,
            runner_up_deg=runner_up_deg,
            moved=(float(np.linalg.norm(center_mm - start_mm)), moved_deg),
        )
        return found, of_origin(total, implant, T), of_origin(image, implant, T), to_origin(implant, T) @ effects

    def clipped_statement(self, k: int, T_world_implant: FloatArray) -> str:
        """Share of the surroundings of an implant's outline that is clipped, where it is large; else empty."""
        shares = {plane: view.share_clipped(self.implants[k], T_world_implant) for plane, view in self.views.items()}
        parts = [f"{share:.0%} in {plane}" for plane, share in shares.items() if share > _MUCH_CLIPPED]
        return f"; of the surroundings of its outline, clipped: {', '.join(parts)}" if parts else ""

    def _score(self, state: OutlineState, residuals: Mapping[PlaneName, Residuals]) -> float:
        """Share of the outline with an edge where it must be, above chance, in the worse plane; 0 without any."""
        scores, fine = [], self.outlines.solver(FINE)
        for plane, share in shares_near(without_shared_error(residuals), NEAR_PX).items():
            shadows = fine.shadows(plane, state.T_world_implant)
            by_chance = chance(fine.levels[plane], residuals[plane], shadows, ASSESSED.window_px)
            scores.append(above_chance(share, by_chance))
        return min(scores, default=0.0)

    def _residuals(self, state: OutlineState, k: int) -> dict[PlaneName, Residuals]:
        return self.outlines.of_implant(FINE, state, k)
