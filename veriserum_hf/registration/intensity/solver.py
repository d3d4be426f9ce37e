"""Robust Levenberg-Marquardt: minimise the difference of image gradients and those of rendered implants.

All implants of a frame are estimated together, from both planes; frames are solved in batches.

Image model: the image of a plane is light transmitted through the implants, blurred, plus scatter:

    I = (sum_c g_c phi_c) M + b laplacian(M) + sum_c s_c phi_c,    M = exp(-sum_k mu_k L_k)

with path lengths L_k through the implants at their poses (a DRR of path lengths), an attenuation mu_k for each
implant and plane, and an open field and scatter that vary slowly (phi_c: polynomials). The blur term is diffusion for
a short time.

Cost function: the sum over both planes of the residuals between observed and modelled blurred gradients
(`veriserum_hf.registration.intensity.gradients`), divided by their robust scale (from the median) and passed through
the Geman-McClure function (1987), so that what the model does not contain, such as holders, counts as an outlier. It
is minimised by iteratively reweighted least squares with Levenberg-Marquardt damping.

Unknowns: everything except poses and attenuations is linear and solved in closed form. These coefficients and the
attenuations are eliminated from the normal equations of the poses (variable projection; Golub and Pereyra, SIAM J.
Numer. Anal. 1973). Derivatives with respect to pose are central differences of renderings: a path length is
discontinuous where a face is parallel to the ray; a difference captures this step, a derivative does not. They are
most of the work, and hardly change over a fraction of a pixel: they are kept until an implant or its attenuation has
changed by more (chord method; Ortega and Rheinboldt 1970).
"""

import math
from collections.abc import Mapping, Sequence

from veriserum_hf.core import PlaneName
from veriserum_hf.registration.intensity.boxes import box_of_lengths
from veriserum_hf.registration.intensity.equations import Equations, Fit, normal_equations
from veriserum_hf.registration.intensity.gradients import PlaneGradients
from veriserum_hf.registration.intensity.scales import Scale
from veriserum_hf.registration.intensity.state import State, where
from veriserum_hf.registration.scene import DOF, Scene

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

_PER_MM_RANGE = (0.02, 2.0)  # within which attenuations stay
_LOG_STIFFNESS = 1.0  # prior on the logarithm of an attenuation: it stays where the image does not determine it
_MAX_LOG_STEP = 0.3  # of the logarithm of an attenuation, per iteration
_DIAGONAL_LOADING = 1e-12  # keeps normal equations from being singular
_INITIAL_REWEIGHTINGS = 4  # with robust weights, to estimate the scale of the residuals
_MAX_ATTEMPTS = 6  # per iteration, each with more damping
_INITIAL_DAMPING = 1e-3
_DIFFERENCE_PX = 0.8  # step of the central differences, in pixels of the scale
_MAX_STEP_PX = 5.0  # in pixels of the scale
_CONVERGED_STEP_PX = 0.004  # below it an implant has converged; in pixels of the scale
# Derivatives with respect to poses are kept until an implant has moved so far, or the logarithm of an attenuation has
# changed so much.
_KEPT_PX = 0.25
_KEPT_LOG = 0.2
_ATTENUATION_STEPS = 6  # with the initial poses, before these move


class Solver:
    """Levenberg-Marquardt iterations for a batch at one scale.

    Parameters
    ----------
    scene : the frames.
    scale : resolution of their images.
    state : initial.

    """

    def __init__(self, scene: Scene, scale: Scale, state: State) -> None:
        self.scene, self.scale, self.state = scene, scale, state
        self.planes = {plane: PlaneGradients(scene, plane, scale, state.T_world_implant) for plane in scene.views}
        self._pixel_mm = min(math.sqrt(each.views[0].pixel_mm.prod()) for each in self.planes.values())
        self._frames, self._implants = state.T_world_implant.shape[:2]
        self._rendered: dict[PlaneName, tuple[Tensor, tuple[Tensor, ...]]] = {}
        self.fits = self._fits(state, None, _INITIAL_REWEIGHTINGS)
        self._linearised: tuple[State, dict[PlaneName, Equations]] | None = None
        self._by_pose: tuple[State, dict[PlaneName, list[Tensor]]] | None = None

    def run(self) -> tuple[State, Tensor]:
        """Optimise; the state reached, and whether each implant has converged, (F, K) bool."""
        T = self.state.T_world_implant
        damping = torch.full_like(T[:, 0, 0, 0], _INITIAL_DAMPING)
        converged = torch.zeros_like(T[..., 0, 0], dtype=torch.bool)
        self.fits = self._fits(self.state, self.fits, 1)
        self._adjust_attenuations()
        for _ in range(self.scale.iterations):
            equations = self.equations()
            moving, state, fits = ~converged.all(dim=1), self.state, self.fits
            length_mm = torch.zeros_like(T[..., 0, 0])
            for _ in range(_MAX_ATTEMPTS):
                tried, steps_mm = self._step(equations, damping)
                possible = self.scene.in_front(tried.T_world_implant)
                tried = tried.where(possible, self.state)
                tried_fits = self._fits(tried, self.fits, 1)
                better = moving & possible & (_cost(tried_fits) < _cost(self.fits))
                state = tried.where(better, state)
                fits = {plane: each.where(better, fits[plane]) for plane, each in tried_fits.items()}
                length_mm = torch.where(better[:, None], steps_mm.abs().amax(dim=2), length_mm)
                moving = moving & ~better
                damping = torch.where(better, (damping / 5).clamp(min=1e-6), damping)
                damping = torch.where(moving, (damping * 8).clamp(min=1e-3), damping)
                if not moving.any():
                    break
            # Without a better step, the frame is at its minimum, as far as differences of renderings can resolve it.
            self.state, self.fits = state, fits
            converged = converged.all(dim=1, keepdim=True) | (length_mm < _CONVERGED_STEP_PX * self._pixel_mm)
            if converged.all():
                break
        return self.state, converged

    def equations(self) -> Mapping[PlaneName, Equations]:
        """Linearise the residuals of every plane at the current state."""
        if self._linearised is None or self._linearised[0] is not self.state:
            by_pose = self._derivatives_by_pose()
            self._linearised = (self.state, {plane: self._equations(plane, by_pose[plane]) for plane in self.planes})
        return self._linearised[1]

    def _derivatives_by_pose(self) -> Mapping[PlaneName, list[Tensor]]:
        """Those kept, and of frames whose state is farther than they hold, those at the current one."""
        if self._by_pose is None:
            self._by_pose = (self.state, {plane: self._differences(plane) for plane in self.planes})
        state, kept = self._by_pose
        near = self._is_near(state)
        if not near.all():
            here = {plane: self._differences(plane) for plane in self.planes}
            for plane, own in here.items():
                here[plane] = [where(near, *each) for each in zip(kept[plane], own, strict=True)]
            self._by_pose = (state.where(near, self.state), here)
        return self._by_pose[1]

    def _is_near(self, other: State) -> Tensor:
        """Whether frames are so near a state that its derivatives hold, (F,) bool."""
        steps_mm = self.scene.steps_between(other.T_world_implant, self.state.T_world_implant)
        near = steps_mm.abs().amax((1, 2)) < _KEPT_PX * self._pixel_mm
        for plane, each in other.log_per_mm.items():
            near &= (self.state.log_per_mm[plane] - each).abs().amax(1) < _KEPT_LOG
        return near

    def _equations(self, plane: PlaneName, by_pose: Sequence[Tensor]) -> Equations:
        view, fit = self.planes[plane], self.fits[plane]
        columns = [*by_pose, *self._by_attenuation(plane, view.light(fit.coefficients))]
        unknowns = torch.cat([*columns, fit.regressors], dim=1).double().flatten(2)
        weighted = unknowns * (fit.weight / fit.scale[:, None] ** 2).repeat(1, 2)[:, None]
        gram = weighted @ unknowns.mT
        right = weighted @ fit.residual.flatten(1)[..., None]
        poses = DOF * len(by_pose)
        stiffness = torch.zeros(gram.shape[1] - poses, dtype=gram.dtype, device=gram.device)
        stiffness[: self._implants] = _LOG_STIFFNESS
        others = gram[:, poses:, poses:]
        others = others + torch.diag_embed(stiffness + 1e-6 * others.diagonal(dim1=1, dim2=2) + _DIAGONAL_LOADING)
        return Equations(
            gram[:, :poses, :poses], gram[:, poses:, :poses], others, right[:, :poses], right[:, poses:], unknowns
        )

    def _adjust_attenuations(self) -> None:
        """Estimate attenuations with the poses held, so that derivatives with respect to these are worth keeping."""
        done = torch.zeros(self._frames, dtype=torch.bool, device=self.scene.device)
        for _ in range(_ATTENUATION_STEPS):
            log_per_mm = {}
            for plane, before in self.state.log_per_mm.items():
                each = self._equations(plane, [])
                step = torch.linalg.solve(each.others, each.right_others)[:, : self._implants, 0]
                log_per_mm[plane] = _limited(before, step)
            tried = State(self.state.T_world_implant, log_per_mm)
            fits = self._fits(tried, self.fits, 1)
            better = ~done & (_cost(fits) < _cost(self.fits))
            steps = [(log_per_mm[plane] - self.state.log_per_mm[plane]).abs().amax(1) for plane in fits]
            done |= ~better | (torch.stack(steps).amax(0) < _KEPT_LOG / 2)
            kept = tried.where(better, self.state)
            self.state = State(self.state.T_world_implant, kept.log_per_mm)
            self.fits = {plane: each.where(better, self.fits[plane]) for plane, each in fits.items()}
            if done.all():
                break

    def _differences(self, plane: PlaneName) -> list[Tensor]:
        """Derivatives of the gradients with respect to the steps of each implant, (F, 6, 2, S) per mm."""
        view, fit, state = self.planes[plane], self.fits[plane], self.state
        light = view.light(fit.coefficients)
        half_mm = _DIFFERENCE_PX * self._pixel_mm / 2
        both_ways = half_mm * torch.cat([torch.eye(DOF), -torch.eye(DOF)]).to(state.T_world_implant)
        found = []
        for k, component in enumerate(self.scene.implants):
            per_mm = state.log_per_mm[plane][:, k].exp().float()[:, None, None, None]
            steps_mm = torch.zeros(self._frames, 2 * DOF, self._implants, DOF).to(both_ways)
            steps_mm[:, :, k] = both_ways
            moved = self.scene.moved(state.T_world_implant, steps_mm)[:, :, k]
            box, lengths = view.lengths_around(component, moved)
            here, exponent = (box.of(each, self.scale.rays) for each in (fit.lengths[k], fit.exponent))
            through = view.pixels(torch.exp(-(exponent + per_mm * (lengths - here))))
            difference = box.of(light) * (through[:, :DOF] - through[:, DOF:])
            found.append(view.gradients(difference, box) / (2 * half_mm))
        return found

    def _by_attenuation(self, plane: PlaneName, light: Tensor) -> list[Tensor]:
        """Derivatives of the gradients with respect to the logarithm of each attenuation, (F, 1, 2, S)."""
        view, fit = self.planes[plane], self.fits[plane]
        found = []
        for k, lengths in enumerate(fit.lengths):
            box = box_of_lengths(lengths, self.scale.rays)
            per_mm = self.state.log_per_mm[plane][:, k].exp().float()[:, None, None, None]
            here, exponent = (box.of(each, self.scale.rays) for each in (lengths, fit.exponent))
            found.append(view.gradients(box.of(light) * view.pixels(-per_mm * here * torch.exp(-exponent)), box))
        return found

    def _step(self, equations: Mapping[PlaneName, Equations], damping: Tensor) -> tuple[State, Tensor]:
        """State after a damped step, and the step, (F, K, 6) mm."""
        matrix, right = normal_equations(equations.values())
        damped = matrix + torch.diag_embed(damping[:, None] * matrix.diagonal(dim1=1, dim2=2) + _DIAGONAL_LOADING)
        step = torch.linalg.solve(damped, right)
        limit_mm = _MAX_STEP_PX * self._pixel_mm
        step = step * (limit_mm / step.abs().amax(dim=(1, 2), keepdim=True)).clamp(max=1.0)
        log_per_mm = {}
        for plane, each in equations.items():
            others = torch.linalg.solve(each.others, each.right_others - each.mixed @ step)[:, : self._implants, 0]
            log_per_mm[plane] = _limited(self.state.log_per_mm[plane], others)
        steps_mm = step.view(self._frames, self._implants, DOF)
        return State(self.scene.moved(self.state.T_world_implant, steps_mm), log_per_mm), steps_mm

    def _fits(self, state: State, before: Mapping[PlaneName, Fit] | None, reweightings: int) -> dict[PlaneName, Fit]:
        """Fit every plane at a state; weights and scale continue from the fits before, if any."""
        return {
            plane: self._fit(plane, state, before[plane] if before else None, reweightings) for plane in self.planes
        }

    def _path_lengths(self, plane: PlaneName, T_world_implant: Tensor) -> tuple[Tensor, ...]:
        """Path lengths by implant, (F, rows, columns) of rays; rendered once while the poses are the same object."""
        kept = self._rendered.get(plane)
        if kept is None or kept[0] is not T_world_implant:
            view = self.planes[plane]
            of_implants = enumerate(self.scene.implants)
            found = tuple(view.lengths(component, T_world_implant[:, k, None]) for k, component in of_implants)
            kept = self._rendered[plane] = (T_world_implant, found)
        return kept[1]

    def _fit(self, plane: PlaneName, state: State, before: Fit | None, reweightings: int) -> Fit:
        view, lengths = self.planes[plane], self._path_lengths(plane, state.T_world_implant)
        per_mm = state.log_per_mm[plane].exp().float()
        exponent = torch.stack([per_mm[:, k, None, None, None] * each for k, each in enumerate(lengths)]).sum(0)
        regressors = view.fields(view.pixels(torch.exp(-exponent)))
        rows = regressors.double().flatten(2)
        weight = view.used if before is None else before.weight
        for _ in range(reweightings):
            weighted = rows * weight.repeat(1, 2)[:, None]
            gram = weighted @ rows.mT
            ridge = 1e-6 * gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None].expand(gram.shape[:2])
            right = weighted @ view.observed.flatten(1)[..., None]
            coefficients = torch.linalg.solve(gram + torch.diag_embed(ridge + _DIAGONAL_LOADING), right)[..., 0]
            residual = view.observed - (rows * coefficients[..., None]).sum(1).view_as(view.observed)
            squared = residual.square().sum(1)
            scale = _residual_scale(squared, view.used) if before is None else before.scale
            ratio = squared / (self.scale.cutoff * scale[:, None]) ** 2
            weight = view.used / (1 + ratio) ** 2
        cost = self.scale.cutoff**2 * (view.used * ratio / (1 + ratio)).sum(1)
        return Fit(lengths, exponent, regressors, coefficients, residual, weight, scale, cost)


def _limited(log_per_mm: Tensor, step: Tensor) -> Tensor:
    """Logarithms of attenuations after a step, both within their limits."""
    return (log_per_mm + step.clamp(-_MAX_LOG_STEP, _MAX_LOG_STEP)).clamp(*map(math.log, _PER_MM_RANGE))


def _residual_scale(squared: Tensor, used: Tensor) -> Tensor:
    """Robust scale, (F,), from the median of squared residuals: the standard deviation for normal ones."""
    median = torch.where(used > 0, squared, torch.nan).nanmedian(dim=1).values
    return (median.nan_to_num(0.0) / (2 * math.log(2))).sqrt().clamp(min=1e-6)


def _cost(fits: Mapping[PlaneName, Fit]) -> Tensor:
    return torch.stack([fit.cost for fit in fits.values()]).sum(0)
