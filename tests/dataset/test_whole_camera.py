"""The camera of a whole Veriserum image follows its size, and what describes it stays right."""

import numpy as np
import pytest

from veriserum_hf.dataset.whole_camera import whole_camera
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import Camera, DualPlaneRig

PLANE = DualPlaneRig.from_calibration(
    principal_point_bs_mm=(3.0, -5.0), sid_bs_mm=1850.0, principal_point_fs_mm=(-4.0, 2.0), sid_fs_mm=1840.0
)["bs"]


@pytest.mark.parametrize(("size", "to"), [(512, 64), (96, 1600), (300, 300)])
def test_it_is_that_of_the_plane_in_the_other_size(size, to):
    found, expected = whole_camera(PLANE.camera(size), to), PLANE.camera(to)
    np.testing.assert_allclose(found["intrinsics"], expected["intrinsics"], rtol=1e-12)
    assert {**found, "intrinsics": 0} == {**expected, "intrinsics": 0}
    Camera.from_row(found, to)


def test_a_camera_without_the_size_of_a_pixel_is_not_that_of_a_whole_image():
    with pytest.raises(CalibrationError, match=r"^pixel_size_mm is null; expected the pixel of an image that"):
        whole_camera(PLANE.at(64).to_row(64), 128)
    with pytest.raises(CalibrationError, match=r"^intrinsics has a focal length of .*px, but source_to"):
        whole_camera({**PLANE.camera(64), "pixel_size_mm": 3.0}, 128)
