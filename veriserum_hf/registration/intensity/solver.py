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
Numer. Anal. 1973). Derivatives (`veriserum_hf.registration.intensity.derivatives`) are most of the work, and hardly
change over a fraction of a pixel: they are kept until an implant or its attenuation has changed by more (chord
method; Ortega and Rheinboldt 1970).
"""

import math
from collections.abc import Mapping

from veriserum_hf.core import PlaneName
from veriserum_hf.registration.intensity.derivatives import by_attenuations, by_poses
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
_MAX_STEP_PX = 5.0  # in pixels of the scale
# Robust weights follow the residuals, so that a step of fixed weights leaves a quarter of what is to go; a longer one
# leaves less than a tenth.
_RELAXATION = 1.3
_CONVERGED_STEP_PX = 0.03  # below it an implant has converged; in pixels of the scale
# Derivatives are kept until an implant has moved so far, or the logarithm of an attenuation has
# changed so much.
_KEPT_PX = 0.25
_KEPT_LOG = 0.4
_ATTENUATION_STEPS = 6  # with the initial poses, before these move
_NEGLIGIBLE_LOG = 0.1  # such a step is left to those of the poses


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
        self.fits = self._fits(state, None, _INITIAL_REWEIGHTINGS)
        self._linearised: tuple[State, dict[PlaneName, Equations]] | None = None
        self._kept: tuple[State, dict[PlaneName, Tensor]] | None = None  # derivatives, and where they are

    def run(self) -> tuple[State, Tensor]:
        """Optimise; the state reached, and whether each implant has converged, (F, K) bool."""
        T = self.state.T_world_implant
        damping = torch.full_like(T[:, 0, 0, 0], _INITIAL_DAMPING)
        converged = torch.zeros_like(T[..., 0, 0], dtype=torch.bool)
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
            derivatives = self._derivatives()
            found = {plane: self._equations(plane, derivatives[plane]) for plane in self.planes}
            self._linearised = (self.state, found)
        return self._linearised[1]

    def _derivatives(self) -> Mapping[PlaneName, Tensor]:
        """Those kept, and of frames whose state is farther than they hold, those at the current one.

        With respect to the steps of the implants, then to the logarithms of attenuations, (F, 7K, 2S).
        """
        if self._kept is None:
            self._kept = (self.state, self._derivatives_here())
        state, kept = self._kept
        near = self._is_near(state)
        if not near.all():
            here = {plane: where(near, kept[plane], each) for plane, each in self._derivatives_here().items()}
            self._kept = (state.where(near, self.state), here)
        return self._kept[1]

    def _derivatives_here(self) -> dict[PlaneName, Tensor]:
        found = {}
        for plane, view in self.planes.items():
            fit, per_mm = self.fits[plane], self.state.log_per_mm[plane].exp()
            of_poses = by_poses(self.scene, view, fit, self.state.T_world_implant, per_mm)
            found[plane] = torch.cat([*of_poses, by_attenuations(view, fit, per_mm)], dim=1)
        return found

    def _is_near(self, other: State) -> Tensor:
        """Whether frames are so near a state that its derivatives hold, (F,) bool."""
        steps_mm = self.scene.steps_between(other.T_world_implant, self.state.T_world_implant)
        near = steps_mm.abs().amax((1, 2)) < _KEPT_PX * self._pixel_mm
        for plane, each in other.log_per_mm.items():
            near &= (self.state.log_per_mm[plane] - each).abs().amax(1) < _KEPT_LOG
        return near

    def _equations(self, plane: PlaneName, derivatives: Tensor) -> Equations:
        """Equations with derivatives (F, N, 2S), the last of them with respect to logarithms of attenuations."""
        fit, poses = self.fits[plane], derivatives.shape[1] - self._implants
        unknowns = torch.cat([derivatives, fit.regressors], dim=1)
        weighted = unknowns * (fit.weight / fit.scale[:, None] ** 2).repeat(1, 2)[:, None]
        gram = weighted @ unknowns.mT
        right = weighted @ fit.residual.flatten(1)[..., None]
        stiffness = torch.zeros(gram.shape[1] - poses, dtype=gram.dtype, device=gram.device)
        stiffness[: self._implants] = _LOG_STIFFNESS
        others = gram[:, poses:, poses:]
        others = others + torch.diag_embed(stiffness + 1e-6 * others.diagonal(dim1=1, dim2=2) + _DIAGONAL_LOADING)
        return Equations(
            gram[:, :poses, :poses], gram[:, poses:, :poses], others, right[:, :poses], right[:, poses:], unknowns
        )

    def adjust_attenuations(self) -> None:
        """Estimate attenuations with the poses held, so that derivatives with respect to these are worth keeping."""
        done = torch.zeros(self._frames, dtype=torch.bool, device=self.scene.device)
        for _ in range(_ATTENUATION_STEPS):
            log_per_mm, longest = {}, []
            for plane, before in self.state.log_per_mm.items():
                each = self._equations(plane, by_attenuations(self.planes[plane], self.fits[plane], before.exp()))
                step = torch.linalg.solve(each.others, each.right_others)[:, : self._implants, 0]
                log_per_mm[plane] = _limited(before, step)
                longest.append(step.abs().amax(1))
            done |= torch.stack(longest).amax(0) < _NEGLIGIBLE_LOG
            if done.all():
                break
            tried = State(self.state.T_world_implant, log_per_mm)
            fits = self._fits(tried, self.fits, 1)
            better = ~done & (_cost(fits) < _cost(self.fits))
            done |= ~better
            kept = tried.where(better, self.state)
            self.state = State(self.state.T_world_implant, kept.log_per_mm)
            self.fits = {plane: each.where(better, self.fits[plane]) for plane, each in fits.items()}

    def _step(self, equations: Mapping[PlaneName, Equations], damping: Tensor) -> tuple[State, Tensor]:
        """State after a damped step, and the step, (F, K, 6) mm."""
        matrix, right = normal_equations(equations.values())
        damped = matrix + torch.diag_embed(damping[:, None] * matrix.diagonal(dim1=1, dim2=2) + _DIAGONAL_LOADING)
        step = _RELAXATION * torch.linalg.solve(damped, right)
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

    def _fit(self, plane: PlaneName, state: State, before: Fit | None, reweightings: int) -> Fit:
        view, lengths = self.planes[plane], self.planes[plane].all_lengths(state.T_world_implant)
        per_mm = state.log_per_mm[plane].exp().float()
        exponent = torch.stack([per_mm[:, k, None, None, None] * each for k, each in enumerate(lengths)]).sum(0)
        rows = view.fields(view.pixels(torch.exp(-exponent))).double().flatten(2)
        weight = view.used if before is None else before.weight
        for _ in range(reweightings):
            weighted = rows * weight.repeat(1, 2)[:, None]
            gram = weighted @ rows.mT
            ridge = 1e-6 * gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None].expand(gram.shape[:2])
            right = weighted @ view.observed.flatten(1)[..., None]
            coefficients = torch.linalg.solve(gram + torch.diag_embed(ridge + _DIAGONAL_LOADING), right)[..., 0]
            residual = view.observed - (coefficients[:, None] @ rows).view_as(view.observed)
            squared = residual.square().sum(1)
            scale = _residual_scale(squared, view.used) if before is None else before.scale
            ratio = squared / (self.scale.cutoff * scale[:, None]) ** 2
            weight = view.used / (1 + ratio) ** 2
        cost = self.scale.cutoff**2 * (view.used * ratio / (1 + ratio)).sum(1)
        return Fit(lengths, exponent, rows, coefficients, residual, weight, scale, cost)


def _limited(log_per_mm: Tensor, step: Tensor) -> Tensor:
    """Logarithms of attenuations after a step, both within their limits."""
    return (log_per_mm + step.clamp(-_MAX_LOG_STEP, _MAX_LOG_STEP)).clamp(*map(math.log, _PER_MM_RANGE))


def _residual_scale(squared: Tensor, used: Tensor) -> Tensor:
    """Robust scale, (F,), from the median of squared residuals: the standard deviation for normal ones."""
    median = torch.where(used > 0, squared, torch.nan).nanmedian(dim=1).values
    return (median.nan_to_num(0.0) / (2 * math.log(2))).sqrt().clamp(min=1e-6)


def _cost(fits: Mapping[PlaneName, Fit]) -> Tensor:
    return torch.stack([fit.cost for fit in fits.values()]).sum(0)
