"""The measure of the benchmark of real frames: edges of a drawn sphere whose place is known."""

import cv2
import numpy as np
import pytest
import trimesh

from tests.benchmarks import bench_real
from tests.benchmarks.real_edges import edges_at
from veriserum_hf.geometry import Camera
from veriserum_hf.rendering import path_length

_SIZE, _FOCAL_PX, _DEPTH_MM = 384, 3000.0, 1000.0
CAMERA = Camera([[_FOCAL_PX, 0, 191.5], [0, _FOCAL_PX, 191.5], [0, 0, 1]], np.eye(4))
PX = _DEPTH_MM / _FOCAL_PX  # mm of a pixel at that depth


def sphere(radius_mm=30.0):
    return trimesh.creation.icosphere(5, radius_mm)


def at(x_px=0.0, y_px=0.0):
    T = np.eye(4)
    T[:3, 3] = x_px * PX, y_px * PX, _DEPTH_MM
    return T


@pytest.fixture(scope="module")
def drawn():
    """A dark, opaque sphere, slightly off the pixel grid, on a bright background."""
    fine = 4 * _SIZE
    shadow = (path_length(sphere(), at(0.3, 0.2), CAMERA.resized(_SIZE, fine), fine) > 0).astype(np.float32)
    covered = cv2.resize(shadow, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    return np.rint(200 - 150 * cv2.GaussianBlur(covered, (0, 0), 0.8)).astype(np.uint8)


def measured(image, T, mesh=None, expected=False, **others):
    meshes = {"femur": sphere() if mesh is None else mesh, **{name: sphere(10) for name in others}}
    return edges_at(image, CAMERA, meshes, {"femur": T, **others}, expected=expected)["femur"]


def test_at_the_true_pose_the_edges_are_on_the_outline(drawn):
    edges = measured(drawn, at(0.3, 0.2))
    assert edges.median_px < 0.05 and abs(edges.signed_px) < 0.03 and edges.share == 1
    assert len(edges.offsets_px) > 400


def test_a_shifted_outline_is_off_without_a_sign_and_a_small_one_with_it(drawn):
    shifted = measured(drawn, at(1.3, 0.2))
    assert shifted.median_px == pytest.approx(np.sqrt(0.5), abs=0.05) and abs(shifted.signed_px) < 0.05
    small = measured(drawn, at(0.3, 0.2), sphere(30 - PX))
    assert small.signed_px == pytest.approx(1, abs=0.1)


def test_edges_of_metal_that_is_crossed_are_inside_the_outline_as_a_rendering_expects():
    crossed = np.exp(-0.3 * path_length(sphere(), at(0.3, 0.2), CAMERA, _SIZE))
    image = np.rint(50 + 150 * cv2.GaussianBlur(crossed, (0, 0), 1)).astype(np.uint8)
    assert measured(image, at(0.3, 0.2)).signed_px < -0.1
    assert abs(measured(image, at(0.3, 0.2), expected=True).signed_px) < 0.05


def test_bright_implants_and_edges_beyond_reach_have_no_edge(drawn):
    assert measured(255 - drawn, at(0.3, 0.2)).share == 0
    assert measured(drawn, at(40, 0)).share < 0.2


def test_covered_and_saturated_parts_do_not_count(drawn):
    whole = len(measured(drawn, at(0.3, 0.2)).offsets_px)
    behind = len(measured(drawn, at(0.3, 0.2), tibia=at(90, 0)).offsets_px)
    saturated = drawn.copy()
    saturated[:, :192] = 255
    half = len(measured(saturated, at(0.3, 0.2)).offsets_px)
    assert half < 0.52 * whole and 0.7 * whole < behind < 0.95 * whole


def test_without_the_frames_nothing_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_real, "REAL", tmp_path / "absent")
    assert bench_real.main([str(tmp_path)]) == 0
    assert "nothing was measured" in capsys.readouterr().out
