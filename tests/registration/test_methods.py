"""Registration by outlines, by intensities, or by whichever of the two holds."""

import numpy as np
import pytest

from tests.registration.opaque import opaque
from tests.registration.scenes import changed, drawn, error, rig_of, starts, transform
from veriserum_hf.core.domain import PLANES
from veriserum_hf.errors import RegistrationError
from veriserum_hf.registration.refine import register

PARTS = ("femur", "tibia")


@pytest.fixture(scope="module")
def start(rows, coarse_meshes):
    return starts(rows[1], coarse_meshes, 3, 3)


@pytest.fixture(scope="module")
def clear(rows, coarse_meshes):
    return drawn(rows[1], coarse_meshes, rig_of(rows[1]), 256)


@pytest.fixture(scope="module")
def dark(rows, coarse_meshes):
    return opaque(rows[1], coarse_meshes)


@pytest.fixture(scope="module")
def of_dark(dark, coarse_meshes, start):
    return register(dark, coarse_meshes, start)


def test_semi_transparent_implants_are_registered_by_intensity_and_opaque_ones_by_outline(
    clear, coarse_meshes, start, of_dark
):
    found = register(clear, coarse_meshes, start)
    assert {found[name].method for name in PARTS} == {"intensity"}
    assert {of_dark[name].method for name in PARTS} == {"outline"}
    for row, of_row in ((clear, found), (clear, of_dark)):
        for pose in of_row.values():
            off = error(pose, row)
            assert pose.verdict == "converged", pose.detail
            assert np.linalg.norm(off[:3]) < 0.4 and np.linalg.norm(off[3:]) < 0.6
            assert (np.abs(off) < 4 * np.sqrt(np.diag(pose.covariance))).all()


@pytest.mark.parametrize("method", ["outline", "intensity"])
def test_a_method_that_is_requested_is_used(method, clear, coarse_meshes, start):
    assert {pose.method for pose in register(clear, coarse_meshes, start, method=method).values()} == {method}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: image**0.5, id="gamma 0.5"),
        pytest.param(lambda image: image**2, id="gamma 2"),
        pytest.param(lambda image: 0.2 + 0.5 * image, id="less contrast"),
        pytest.param(lambda image: 1 - image, id="inverted"),
    ],
)
def test_other_grey_values_give_the_same_poses_within_the_stated_deviations(
    change, dark, coarse_meshes, start, of_dark
):
    found = register(changed(dark, change), coarse_meshes, start, method="outline")
    for name in PARTS:
        assert found[name].verdict == "converged", found[name].detail
        T = {"femur": None, "tibia": None} | {
            name: {
                "translation_mm": of_dark[name].translation_mm,
                "quaternion_xyzw": of_dark[name].quaternion_xyzw,
            }
        }
        assert (np.abs(error(found[name], T)) < 3 * np.sqrt(np.diag(of_dark[name].covariance))).all()
        assert np.linalg.norm(transform(T[name])[:3, 3] - found[name].translation_mm) < 0.5


@pytest.mark.parametrize("method", ["auto", "outline"])
def test_images_without_any_edge_give_no_pose(method, clear, coarse_meshes, start):
    rng = np.random.default_rng(0)
    rows, columns = np.indices((256, 256))
    smooth = np.rint(120 + rows / 8 + columns / 16 + rng.normal(0, 2, (256, 256))).astype(np.uint8)
    for pose in register(
        clear | {f"image_{p}": smooth for p in PLANES}, coarse_meshes, start, method=method
    ).values():
        assert pose.verdict == "failed" and np.isnan(pose.covariance).all()
        initial = transform(start[pose.component])
        np.testing.assert_allclose(pose.T_world_implant, initial, atol=1e-9)


def test_an_unknown_method_is_refused(clear, coarse_meshes):
    with pytest.raises(RegistrationError, match="method is 'edges'; expected auto, outline, intensity"):
        register(clear, coarse_meshes, method="edges")
