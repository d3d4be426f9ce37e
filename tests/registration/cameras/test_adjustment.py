"""Cameras adjusted together with poses, from frames of the simulator whose stored cameras are wrong."""

from dataclasses import replace

import numpy as np

from tests.registration.scenes import transform
from veriserum_hf.geometry import angle_between_deg, transform_points
from veriserum_hf.registration.cameras.adjustment import Observed, adjust
from veriserum_hf.registration.cameras.unknowns import Rig, Tolerances, Unknowns
from veriserum_hf.registration.frame import Frame
from veriserum_hf.registration.inputs import views_of
from veriserum_hf.registration.scene import Implant


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
