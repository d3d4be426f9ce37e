"""How unknowns of a rig move outlines, against cameras that really change."""

import numpy as np
import pytest

from tests.registration.scenes import transform
from veriserum_hf.geometry import transform_points
from veriserum_hf.registration.cameras.observed import Observed
from veriserum_hf.registration.cameras.unknowns import Rig, Tolerances, Unknowns
from veriserum_hf.registration.frame import Frame
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.inputs import views_of
from veriserum_hf.registration.outline.steps import moved


@pytest.fixture(scope="module")
def frame(rows, coarse_meshes):
    row = rows[0]
    implants = {
        name: Implant(row[name]["anatomy_id"], coarse_meshes[row[name]["anatomy_id"]]) for name in ("femur", "tibia")
    }
    T = np.array([transform(row[name]) for name in implants])
    return Frame(views_of(row, ("bs", "fs")), implants, T)


@pytest.fixture(scope="module")
def unknowns(frame):
    center_mm = np.mean(
        [transform_points(T, each.center_mm[None])[0] for T, each in zip(frame.initial, frame.implants, strict=True)],
        axis=0,
    )
    views = frame.views
    rig = Rig({p: v.camera for p, v in views.items()}, {p: v.pixel_mm for p, v in views.items()}, center_mm)
    return Unknowns(rig, [each.anatomy_id for each in frame.implants], ("fs-pose", "sid"), Tolerances())


def test_names_tolerances_and_what_is_free_belong_together(unknowns):
    free = [name for name, is_free in zip(unknowns.names, unknowns.is_free, strict=True) if is_free]
    assert free == [
        f"fs {what} {axis}"
        for what, unit in (("shift", "mm"), ("rotation", "deg"))
        for axis in (f"x {unit}", f"y {unit}", f"z {unit}")
    ] + ["bs sid mm", "fs sid mm"]
    assert len(unknowns.tolerance) == len(unknowns.names) == len(set(unknowns.names))


def test_time_moves_outlines_of_the_second_plane_by_the_velocity_of_implants(frame, unknowns):
    velocity = np.array([0.1, 0.2, -0.1, 0.05, -0.1, 0.1])
    observed = Observed.of(1, 1, frame, frame.outlines.initial_state(frame.initial), np.array([velocity] * 2))
    values = np.zeros(len(unknowns.names))
    values[unknowns.names.index("fs late ms")] = late_ms = 8.0
    seen = observed.with_cameras(unknowns.cameras(values), unknowns.late_ms(values))
    residuals = seen.residuals()
    implant, T, step_ms = frame.implants[0], frame.initial[0], 1e-3
    for plane, level in seen.levels.items():
        own, T_seen = residuals[plane][0], seen.solver.seen(plane, seen.state.T_world_implant)[0]
        np.testing.assert_allclose(T_seen, moved(implant, T, late_ms * velocity) if plane == "fs" else T)
        found = unknowns.derivatives(plane, own, level, implant, T_seen, velocity)[:, -1]
        later_ms = late_ms + step_ms if plane == "fs" else 0
        later_mm = transform_points(moved(implant, T, later_ms * velocity), own.pieces.points_mm)
        displaced_px = (level.camera.project(later_mm) - own.pieces.px) / step_ms
        along = (displaced_px * own.pieces.normals).sum(axis=1)
        assert np.abs(along).max() > 0.1 or plane == "bs"
        np.testing.assert_allclose(found, along, atol=2e-3 + 1e-3 * np.abs(along).max())


def test_derivatives_are_those_of_cameras_that_change(frame, unknowns):
    """Points of the outlines, projected by changed cameras; what is no camera's is left out."""
    observed = Observed.of(1, 1, frame, frame.outlines.initial_state(frame.initial))
    residuals = observed.residuals()
    step = 1e-3
    for plane, level in observed.levels.items():
        own, implant, T = residuals[plane][0], frame.implants[0], frame.initial[0]
        found = unknowns.derivatives(plane, own, level, implant, T)
        assert found.shape == (len(own.pieces.px), len(unknowns.names))
        world_mm = transform_points(T, own.pieces.points_mm)
        for n, name in enumerate(unknowns.names):
            if name == "scale":
                break
            values = np.zeros(len(unknowns.names))
            values[n] = step
            camera = observed.with_cameras(unknowns.cameras(values)).levels[plane].camera
            moved_px = (camera.project(world_mm) - level.camera.project(world_mm)) / step
            along = (moved_px * own.pieces.normals).sum(axis=1)
            np.testing.assert_allclose(found[:, n], along, atol=2e-3 + 1e-3 * np.abs(along).max(), err_msg=name)
