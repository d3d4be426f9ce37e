"""Derivatives of modelled gradients, against differences of whole renderings."""

import math

import pytest
import torch

from veriserum_hf.core.domain import PLANES
from veriserum_hf.registration.inputs import scene_of
from veriserum_hf.registration.intensity.boxes import Box
from veriserum_hf.registration.intensity.derivatives import by_attenuations, by_poses
from veriserum_hf.registration.intensity.filters import bands, kernels
from veriserum_hf.registration.intensity.gradients import PlaneGradients
from veriserum_hf.registration.intensity.scales import SCALES
from veriserum_hf.registration.intensity.solver import Solver
from veriserum_hf.registration.intensity.state import initial_state
from veriserum_hf.registration.scene import DOF

DIFFERENCE_PX = 0.8


@pytest.fixture(scope="module")
def solver(rows, coarse_meshes):
    """Two frames at their poses, at the finest scale."""
    scene, T = scene_of(rows[:2], coarse_meshes, None, PLANES, torch.device("cpu"))
    return Solver(scene, SCALES[3], initial_state(scene, T))


def rendered_in_torch(view, component, T_world_implant, within_mm=0.0):
    return Box(0, 0, *view._shape), view._render_in_torch(component, T_world_implant)


def light_through(solver, plane, T, k, per_mm):
    """Gradients of the light through the implants, one of them at M poses, (F, M, 2S)."""
    view, fit = solver.planes[plane], solver.fits[plane]
    lengths = view.lengths(list(solver.scene.implants)[k], T)
    exponent = fit.exponent + per_mm * lengths - solver.state.log_per_mm[plane][0, 0].exp().float() * fit.lengths[k]
    return view.gradients(view.light(fit.coefficients) * view.pixels(torch.exp(-exponent))).flatten(2)


@pytest.mark.parametrize("in_torch", [False, True])
@pytest.mark.parametrize("plane", PLANES)
def test_derivatives_by_poses_are_differences_of_renderings(solver, plane, in_torch, monkeypatch):
    if in_torch:
        monkeypatch.setattr(PlaneGradients, "lengths_around", rendered_in_torch)
    view, fit, T = solver.planes[plane], solver.fits[plane], solver.state.T_world_implant
    per_mm = solver.state.log_per_mm[plane].exp()
    half_mm = DIFFERENCE_PX * math.sqrt(view.views[0].pixel_mm.prod()) / 2
    for k, found in enumerate(by_poses(solver.scene, view, fit, T, per_mm)):
        steps_mm = torch.zeros(2, 2 * DOF, 2, DOF).to(T)
        steps_mm[:, :, k] = half_mm * torch.cat([torch.eye(DOF), -torch.eye(DOF)]).to(T)
        seen = light_through(solver, plane, solver.scene.moved(T, steps_mm)[:, :, k], k, per_mm[0, k].float())
        expected = (seen[:, :DOF] - seen[:, DOF:]) / (2 * half_mm)
        apart = (found - expected).norm(dim=2)
        assert (apart < 0.05 * expected.norm(dim=2).amax(dim=1, keepdim=True)).all()


@pytest.mark.parametrize("plane", PLANES)
def test_derivatives_by_attenuations_are_differences_too(solver, plane):
    view, fit, T = solver.planes[plane], solver.fits[plane], solver.state.T_world_implant
    per_mm = solver.state.log_per_mm[plane].exp()
    found = by_attenuations(view, fit, per_mm)
    for k in range(2):
        more, less = (
            light_through(solver, plane, T[:, None, k], k, per_mm[0, k].float() * factor) for factor in (1.01, 0.99)
        )
        expected = ((more - less) / math.log(1.01 / 0.99))[:, 0]
        assert (found[:, k] - expected).norm() < 0.01 * expected.norm()


def test_bands_filter_as_a_convolution_does():
    smooth, slope = kernels(1.8, torch.device("cpu"))
    line = torch.rand(40, generator=torch.Generator().manual_seed(0))
    found = bands(torch.stack([smooth, slope]), 40, 2) @ line
    expected = torch.nn.functional.conv1d(line[None, None], torch.stack([smooth, slope])[:, None], stride=2)[0]
    torch.testing.assert_close(found, expected)
