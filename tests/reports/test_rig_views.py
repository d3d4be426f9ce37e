"""A refined rig's points, against the cameras that the unknowns give."""

import numpy as np
import pytest

from tests.fixtures.refined_cameras import RIG, stored_cameras
from veriserum_hf.calibration import RefinedRig, SizedCamera
from veriserum_hf.registration import FREE, Tolerances
from veriserum_hf.registration.cameras.unknowns import Rig, Unknowns
from veriserum_hf.reports.rig_views import directions, points

CENTER_MM = np.array([12.0, -8.0, 370.0])
SIZE_PX = 512


@pytest.fixture(scope="module")
def unknowns():
    cameras = {plane: each.camera for plane, each in stored_cameras(RIG, SIZE_PX).items()}
    pixel_mm = {plane: np.full(2, 360 / SIZE_PX) for plane in cameras}
    return Unknowns(Rig(cameras, pixel_mm, CENTER_MM), [], FREE, Tolerances())


def refined(unknowns, values):
    """A rig whose stored cameras have these values of the unknowns."""
    cameras = {
        plane: SizedCamera(each.intrinsics, each.world_to_camera, (SIZE_PX, SIZE_PX))
        for plane, each in unknowns.cameras(values).items()
    }
    names = np.array(unknowns.names)[unknowns.is_free].tolist()
    sid_mm = {
        plane: float(each.intrinsics[0, 0] * unknowns.rig.pixel_mm[plane][0]) for plane, each in cameras.items()
    }
    n = len(names)
    return RefinedRig(
        trials=(1,),
        before=cameras,
        after=cameras,
        center_mm=CENTER_MM,
        verdict="no evidence",
        unknowns=names,
        estimate=np.zeros(n),
        covariance=np.eye(n),
        plane_covariance=np.eye(6),
        details={"sid_mm": sid_mm},
    )


def test_directions_of_the_laboratory_are_its_axes(unknowns):
    across, along, up = directions(refined(unknowns, np.zeros(len(unknowns.names))))
    assert across @ (1, 0, 0) > 0.99 and along @ (0, 0, -1) > 0.99 and up @ (0, 1, 0) > 0.99


def test_points_move_as_those_of_the_changed_cameras(unknowns):
    stored = refined(unknowns, np.zeros(len(unknowns.names)))
    basis, step = directions(stored), 1e-3
    seen = {plane: points(stored, plane) for plane in ("bs", "fs")}
    for n, index in enumerate(np.flatnonzero(unknowns.is_free)):
        changed = refined(unknowns, step * np.eye(len(unknowns.names))[index])
        basis_of_changed = directions(changed)
        for plane, each in seen.items():
            moved = points(changed, plane)
            for before, after in zip(each.places, moved.places, strict=True):
                world_mm = basis_of_changed.T @ after.at_mm
                found = (basis @ world_mm - before.at_mm) / step
                np.testing.assert_allclose(before.by_unknown[:, n], found, atol=2e-3, err_msg=stored.unknowns[n])
