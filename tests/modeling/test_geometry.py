"""The model's geometry is the rig's, to the last digits, and differentiable."""

import numpy as np
import pytest
import torch

from tests.modeling.frames import cameras, rig
from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry import pixel_size_mm
from veriserum_hf.modeling import geometry_veriserum as geometry

SEEDS = range(8)
SIZES = (128, 512, 1600)


def scene(seed, count=20):
    """A rig, points about the centre of its planes, and its cameras as tensors of two planes."""
    rng = np.random.default_rng(seed)
    one, size = rig(rng), SIZES[seed % len(SIZES)]
    points_mm = rng.uniform((-120, -120, 250), (120, 120, 500), (count, 3))
    intrinsics = torch.tensor(np.stack([one[plane].intrinsics(size) for plane in PLANES]))
    world_to_camera = torch.tensor(np.stack([one[plane].world_to_camera for plane in PLANES]))
    return one, size, points_mm, intrinsics, world_to_camera


@pytest.mark.parametrize("seed", SEEDS)
def test_projection_is_the_rigs(seed):
    one, size, points_mm, intrinsics, world_to_camera = scene(seed)
    px = geometry.project(torch.tensor(points_mm).expand(2, -1, -1), intrinsics, world_to_camera)
    for index, plane in enumerate(PLANES):
        np.testing.assert_allclose(px[index].numpy(), one[plane].project(points_mm, size), atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_triangulation_of_rays_that_miss_is_the_rigs(seed):
    one, size, points_mm, intrinsics, world_to_camera = scene(seed)
    noise_px = np.random.default_rng(seed).normal(0, 2, (2, len(points_mm), 2))
    px = np.stack([one[plane].project(points_mm, size) for plane in PLANES]) + noise_px
    found_mm = geometry.triangulate(torch.tensor(px).transpose(0, 1), intrinsics, world_to_camera)
    np.testing.assert_allclose(found_mm.numpy(), one.triangulate(*px, size), atol=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_point_at_its_depth_on_its_ray_is_the_point(seed):
    one, size, points_mm, intrinsics, world_to_camera = scene(seed)
    for index, plane in enumerate(PLANES):
        px = torch.tensor(one[plane].project(points_mm, size))
        depth_mm = points_mm @ one[plane].world_to_camera[2, :3] + one[plane].world_to_camera[2, 3]
        found_mm = geometry.at_depth(px, torch.tensor(depth_mm), intrinsics[index], world_to_camera[index])
        np.testing.assert_allclose(found_mm.numpy(), points_mm, atol=1e-8)
        source_mm, directions = one[plane].rays(px.numpy(), size)
        along = found_mm.numpy() - source_mm
        np.testing.assert_allclose(along / np.linalg.norm(along, axis=1, keepdims=True), directions, atol=1e-11)


def test_slopes_are_millimetres_aside_for_every_millimetre_of_depth():
    intrinsics = cameras(np.random.default_rng(0), 1, 512)["camera_bs"]["intrinsics"][0]
    one_px = geometry.slopes(intrinsics[:2, 2] + torch.tensor([1.0, 0.0]), intrinsics)
    focal_mm = float(intrinsics[0, 0]) * pixel_size_mm(512)
    np.testing.assert_allclose(one_px.numpy(), (pixel_size_mm(512) / focal_mm, 0), atol=1e-15)


def test_all_of_it_has_the_gradients_that_finite_differences_have():
    _, _, points_mm, intrinsics, world_to_camera = scene(1, count=2)
    points = torch.tensor(points_mm)
    px = geometry.project(points.expand(2, -1, -1), intrinsics, world_to_camera).transpose(0, 1)
    px = (px + torch.tensor([[1.0, 2.0], [-1.0, 0.5]])).clone().requires_grad_()
    camera = (intrinsics[0].clone().requires_grad_(), world_to_camera[0].clone().requires_grad_())
    depth_mm = torch.tensor([1400.0, 1500.0], dtype=torch.float64, requires_grad=True)
    six = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    check = torch.autograd.gradcheck
    assert check(geometry.project, (points.clone().requires_grad_(), *camera))
    assert check(lambda px: geometry.triangulate(px, intrinsics, world_to_camera), (px,))
    assert check(
        lambda px, depth_mm: geometry.at_depth(px[:, 0], depth_mm, intrinsics[0], world_to_camera[0]), (px, depth_mm)
    )
    assert check(geometry.rotation_from_6d, (six,))


def test_six_numbers_are_the_first_two_columns_of_a_rotation():
    generator = torch.Generator().manual_seed(0)
    R = geometry.rotation_from_6d(torch.randn(100, 6, dtype=torch.float64, generator=generator))
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=R.dtype).expand_as(R), atol=1e-12, rtol=0)
    assert (torch.linalg.det(R) > 0).all()
    columns = R[:, :, :2].mT.flatten(1)
    torch.testing.assert_close(geometry.rotation_from_6d(columns), R, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_crop_holds_the_stored_pixels_and_zero_outside(size, dtype):
    rng = np.random.default_rng(size)
    images = torch.tensor(rng.integers(1, 256, (3, 32, 32), dtype=np.uint8)).to(dtype)
    center_px = torch.tensor(rng.uniform(-6, 38, (3, 5, 2)), dtype=torch.float32)
    crops, crop_center_px = geometry.crop(images, center_px, size)
    assert crops.dtype == dtype and crops.shape == (3, 5, size, size)
    assert ((crop_center_px - center_px).abs() <= 0.5 + 1e-5).all()
    padded = np.pad(images.numpy(), ((0, 0), (64, 64), (64, 64)))
    for image in range(3):
        for number in range(5):
            column, row = (crop_center_px[image, number].numpy() - (size - 1) / 2 + 64).astype(int)
            expected = padded[image, row : row + size, column : column + size]
            np.testing.assert_array_equal(crops[image, number].numpy(), expected)
