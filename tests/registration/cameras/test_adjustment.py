"""Cameras adjusted together with poses, from frames of the simulator whose stored cameras are wrong."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.registration.scenes import transform
from veriserum_hf.geometry import Camera, angle_between_deg, invert_transform, make_transform, transform_points
from veriserum_hf.registration.cameras.adjustment import adjust, reduced
from veriserum_hf.registration.cameras.observed import Observed
from veriserum_hf.registration.cameras.unknowns import Rig, Tolerances, Unknowns
from veriserum_hf.registration.frame import Frame
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.inputs import views_of
from veriserum_hf.registration.outline.search import ASSESSED, FINE


def test_rotation_and_vertical_shift_of_the_second_camera_come_back(rows, coarse_meshes):
    """One frame has one rig; what it does not show stays within its deviation."""
    row = rows[0]
    implants = {
        name: Implant(row[name]["anatomy_id"], coarse_meshes[row[name]["anatomy_id"]]) for name in ("femur", "tibia")
    }
    T = np.array([transform(row[name]) for name in implants])
    center_mm = np.mean(
        [transform_points(pose, each.center_mm[None])[0] for pose, each in zip(T, implants.values(), strict=True)],
        axis=0,
    )
    views = views_of(row, ("bs", "fs"))
    pixel_mm = {plane: view.pixel_mm for plane, view in views.items()}
    ids = [each.anatomy_id for each in implants.values()]
    exact = {plane: view.camera for plane, view in views.items()}
    true = Unknowns(Rig(exact, pixel_mm, center_mm), ids, ("fs-pose",), Tolerances())
    off = np.zeros(len(true.names))
    off[:6] = (0.1, 0.3, -0.1, 0.05, -0.05, 0.05)
    cameras = true.cameras(off)
    wrong = {plane: replace(view, camera=cameras[plane]) for plane, view in views.items()}
    unknowns = Unknowns(Rig(cameras, pixel_mm, center_mm), ids, ("fs-pose",), Tolerances(plane_mm=1, plane_deg=0.3))
    frame = Frame(wrong, implants, T)
    observed = Observed.of(1, 1, frame, frame.outlines.initial_state(T))
    found = adjust([observed] * 2, unknowns, np.zeros(len(unknowns.names)))

    assert found.converged
    sd = np.sqrt(np.diag(found.covariance))
    assert (sd[6:] == 0).all() and (found.values[6:] == 0).all()
    z = (found.values[:6] + off[:6]) / sd[:6]
    assert np.abs(z).max() < 3, z
    assert abs(found.values[1] + 0.3) < 0.03  # vertical: both planes see it
    refined = unknowns.cameras(found.values)["fs"]
    before = angle_between_deg(cameras["fs"].world_to_camera[:3, :3], exact["fs"].world_to_camera[:3, :3])
    after = angle_between_deg(refined.world_to_camera[:3, :3], exact["fs"].world_to_camera[:3, :3])
    assert after < 0.8 * before


def test_the_part_of_the_images_that_is_held_has_the_residuals_of_the_whole(rows, coarse_meshes):
    row = rows[0]
    implants = {
        name: Implant(row[name]["anatomy_id"], coarse_meshes[row[name]["anatomy_id"]]) for name in ("femur", "tibia")
    }
    frame = Frame(views_of(row, ("bs", "fs")), implants, np.array([transform(row[name]) for name in implants]))
    state = frame.outlines.initial_state(frame.initial)
    held, whole = Observed.of(1, 1, frame, state), frame.outlines.solver(FINE)
    for plane, of_plane in whole.residuals(state, ASSESSED).items():
        level = held.levels[plane]
        assert level.image.size < 0.7 * whole.levels[plane].image.size
        for own, of_held in zip(of_plane, held.residuals()[plane], strict=True):
            np.testing.assert_allclose(of_held.pieces.px + level.first_px, own.pieces.px, atol=1e-9)
            np.testing.assert_allclose(of_held.residual_px, own.residual_px, atol=1e-6)
            np.testing.assert_array_equal(of_held.visible, own.visible)


def test_time_between_the_planes_comes_back_with_its_sign(rows, coarse_meshes):
    """One motion of both implants between the exposures looks like another camera: the images stay."""
    row, late_ms = rows[0], 4.0
    implants = {
        name: Implant(row[name]["anatomy_id"], coarse_meshes[row[name]["anatomy_id"]]) for name in ("femur", "tibia")
    }
    T = np.array([transform(row[name]) for name in implants])
    centers_mm = [
        transform_points(pose, each.center_mm[None])[0] for pose, each in zip(T, implants.values(), strict=True)
    ]
    center_mm, rotation = np.mean(centers_mm, axis=0), Rotation.from_rotvec([0.3, 0.2, -0.2], degrees=True)
    R = rotation.as_matrix()
    motion = make_transform(R, center_mm + (0.2, 0.6, -0.2) - R @ center_mm)
    views = views_of(row, ("bs", "fs"))
    fs = views["fs"].camera
    views["fs"] = replace(views["fs"], camera=Camera(fs.intrinsics, fs.world_to_camera @ invert_transform(motion)))
    velocity = [
        [*(transform_points(motion, center[None])[0] - center), *(rotation.as_rotvec() * each.radius_mm)]
        for center, each in zip(centers_mm, implants.values(), strict=True)
    ]
    rig = Rig({p: v.camera for p, v in views.items()}, {p: v.pixel_mm for p, v in views.items()}, center_mm)
    ids = [each.anatomy_id for each in implants.values()]
    frame = Frame(views, implants, T)
    state = frame.outlines.initial_state(T)
    observed = Observed.of(1, 1, frame, state, np.array(velocity) / late_ms)
    unknowns = Unknowns(rig, ids, ("time",), Tolerances(plane_mm=0.02, plane_deg=0.01))
    found = adjust([observed] * 2, unknowns, np.zeros(len(unknowns.names)))
    assert found.converged and (found.values[:-1] == 0).all()
    assert unknowns.late_ms(found.values) == pytest.approx(late_ms, abs=0.3)
    assert found.covariance[-1, -1] < 2**2

    still = Unknowns(rig, ids, ("time",), Tolerances())
    found = adjust([Observed.of(1, 1, frame, state)] * 2, still, np.zeros(len(still.names)))
    assert found.values[-1] == 0 and found.covariance[-1, -1] == pytest.approx(10**2)


def test_motion_in_various_directions_separates_time_from_a_shift_of_a_camera(rows, coarse_meshes):
    row = rows[0]
    implants = {
        name: Implant(row[name]["anatomy_id"], coarse_meshes[row[name]["anatomy_id"]]) for name in ("femur", "tibia")
    }
    views = views_of(row, ("bs", "fs"))
    rig = Rig({p: v.camera for p, v in views.items()}, {p: v.pixel_mm for p, v in views.items()}, np.zeros(3))
    ids = [each.anatomy_id for each in implants.values()]
    unknowns = Unknowns(rig, ids, ("fs-pose", "time"), Tolerances(plane_mm=100))
    T = np.array([transform(row[name]) for name in implants])
    frame = Frame(views, implants, T)
    prior = np.diag(1 / unknowns.tolerance[unknowns.is_free] ** 2)
    vertical, up_and_down = np.zeros((2, 6)), np.array([1.0, -1.0])
    vertical[:, 1] = 0.3
    deviations_ms = {}
    for name, signs in (("same", (1, 1)), ("various", up_and_down)):
        matrix = prior.copy()
        for sign in signs:
            observed = Observed.of(1, 1, frame, frame.outlines.initial_state(T), sign * vertical)
            for each in reduced(observed, unknowns):
                matrix += each.matrix[np.ix_(unknowns.is_free, unknowns.is_free)]
        deviations_ms[name] = np.sqrt(np.linalg.inv(matrix)[-1, -1])
    assert deviations_ms["various"] < 0.5 < 5 < deviations_ms["same"]
