"""The renderer in torch against the one in numba, analytic solids and finite differences."""

import importlib
import sys

import numpy as np
import pytest
import roma
import torch
import trimesh

from veriserum_hf.core.domain import PLANES
from veriserum_hf.rendering import rasteriser as on_one_core
from veriserum_hf.rendering.differentiable import TensorMesh, path_length
from veriserum_hf.simulation.implants import implant_mesh

FIELD_CENTER_MM = torch.tensor([0.0, 20.0, 381.0], dtype=torch.float64)
MESHES = {
    "ball": lambda: trimesh.creation.icosphere(subdivisions=4, radius=25),
    "torus": lambda: trimesh.creation.torus(25, 9, major_sections=96, minor_sections=48),
    "plate": lambda: trimesh.creation.box((70, 6, 45)),
    "capsule": lambda: trimesh.creation.capsule(40, 12),
    "femur": lambda: implant_mesh(1),
    "tibia": lambda: implant_mesh(3),
}
every_mesh = pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES.keys())
every_plane = pytest.mark.parametrize("plane", PLANES)


def random_poses(count, seed, reach_mm=40.0):
    """(count, 4, 4) poses, rotated arbitrarily, about where both fields overlap."""
    generator = torch.Generator().manual_seed(seed)
    quaternions = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    offsets = torch.rand(count, 3, generator=generator, dtype=torch.float64) * 2 - 1
    R = roma.unitquat_to_rotmat(torch.nn.functional.normalize(quaternions, dim=1))
    return roma.Rigid(R, FIELD_CENTER_MM + offsets * reach_mm).to_homogeneous()


def camera(plane, size, dtype=torch.float64):
    return torch.tensor(plane.intrinsics(size), dtype=dtype), torch.tensor(plane.world_to_camera, dtype=dtype)


def render(mesh, T_world_implant, plane, size):
    """One part at (B, 4, 4) poses: (B, size, size)."""
    part = TensorMesh.from_mesh(mesh, dtype=T_world_implant.dtype)
    return path_length([part], T_world_implant[:, None], *camera(plane, size, part.vertices_mm.dtype), size)[:, 0]


def blurred(images, sigma_px=3.0):
    """(..., rows, columns) after a Gaussian blur."""
    reach = int(3 * sigma_px)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=images.dtype) / sigma_px) ** 2)
    kernel = kernel / kernel.sum()
    stack = images.reshape(-1, 1, *images.shape[-2:])
    stack = torch.nn.functional.conv2d(stack, kernel.view(1, 1, -1, 1), padding=(reach, 0))
    return torch.nn.functional.conv2d(stack, kernel.view(1, 1, 1, -1), padding=(0, reach)).view(images.shape)


@every_plane
@every_mesh
def test_agrees_with_the_renderer_in_numba(rig, mesh, plane):
    mesh, plane, size = mesh(), rig[plane], 320
    poses = random_poses(6, seed=1)
    expected = np.stack([on_one_core.path_length(mesh, T, plane, size) for T in poses.numpy()])
    assert (expected > 1).sum() > 1000
    np.testing.assert_allclose(render(mesh, poses, plane, size), expected, rtol=0, atol=1e-6)


@every_mesh
def test_single_precision_is_good_to_a_micrometre(rig, mesh):
    mesh, poses = mesh(), random_poses(8, seed=2)
    difference = (render(mesh, poses.float(), rig["fs"], 320) - render(mesh, poses, rig["fs"], 320)).abs()
    seen = difference[difference > 0]
    assert seen.median() < 1e-4
    assert seen.quantile(0.99) < 1e-3
    assert seen.max() < 0.2  # where the surface runs along the ray, a shift of 1e-5 px is felt


@every_plane
def test_a_ball_has_the_chords_of_a_ball(rig, plane):
    radius, size, plane = 20.0, 256, rig[plane]
    T = random_poses(1, seed=3)
    length = render(trimesh.creation.icosphere(subdivisions=5, radius=radius), T, plane, size)[0].numpy()
    source, directions = plane.rays(np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1), size)
    off_axis = np.linalg.norm(np.cross(directions, T[0, :3, 3].numpy() - source), axis=-1)
    chord = 2 * np.sqrt(np.maximum(radius**2 - off_axis**2, 0))
    well_inside = off_axis < 0.95 * radius
    assert np.abs(length - chord)[well_inside].max() < 0.05  # the facets of the ball
    assert (length[off_axis > radius] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_ray_that_enters_leaves_where_edges_run_through_pixels(dtype):
    """With the near face at the focal length, a millimetre is a pixel: edges and corners lie exactly on pixels."""
    part = TensorMesh.from_mesh(trimesh.creation.box((20, 12, 50)), dtype=dtype)
    T = torch.eye(4, dtype=dtype)[None, None].clone()
    T[..., 2, 3] = 525.0
    K = torch.tensor([[500, 0, 32], [0, 500, 32], [0, 0, 1]], dtype=dtype)
    length = path_length([part], T, K, torch.eye(4, dtype=dtype), 64)[0, 0]
    assert (length > 0).sum() <= 20 * 12  # half open: 20 pixels from edge to edge, not 21
    torch.testing.assert_close(length.max(), torch.tensor(50, dtype=dtype), atol=0.02, rtol=0)
    torch.testing.assert_close(length[28:37, 25:40], 50 * obliquity(K, 64)[28:37, 25:40], atol=1e-4, rtol=0)


def obliquity(K, size):
    """Length of each pixel's ray for one mm along the camera's axis."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (((column - K[0, 2]) / K[0, 0]) ** 2 + ((row - K[1, 2]) / K[1, 1]) ** 2 + 1).sqrt()


def test_poses_and_parts_are_rendered_as_if_alone(rig):
    parts = [TensorMesh.from_mesh(MESHES[name](), dtype=torch.float64) for name in ("plate", "torus")]
    poses = random_poses(6, seed=4).view(3, 2, 4, 4)
    planes = [rig["bs"], rig["fs"], rig["bs"]]
    K, W = map(torch.stack, zip(*(camera(plane, 128) for plane in planes), strict=True))
    together = path_length(parts, poses, K, W, 128)
    assert together.shape == (3, 2, 128, 128)
    for b in range(3):
        for p, part in enumerate(parts):
            alone = path_length([part], poses[b, p][None, None], K[b], W[b], 128)[0, 0]
            torch.testing.assert_close(together[b, p], alone, atol=1e-9, rtol=0)


def test_a_window_shows_what_the_whole_image_shows_there(rig):
    T, (K, W) = random_poses(2, seed=5, reach_mm=5)[:, None], camera(rig["bs"], 256)
    part = TensorMesh.from_mesh(MESHES["femur"](), dtype=torch.float64)
    whole = path_length([part], T, K, W, 256)
    column, row = rig["bs"].project(FIELD_CENTER_MM, 256).astype(int)  # cuts through the implant
    moved = K.clone()
    moved[:2, 2] -= torch.tensor([column, row])
    window = path_length([part], T, moved, W, (30, 50))
    assert window[..., 0].any()
    assert window[..., 0, :].any()
    torch.testing.assert_close(window, whole[..., row : row + 30, column : column + 50], atol=1e-6, rtol=0)


def test_outside_the_field_there_is_neither_image_nor_gradient(rig):
    T = random_poses(2, seed=6)
    T[:, 0, 3] += 400
    T.requires_grad_()
    image = render(MESHES["ball"](), T, rig["bs"], 64)
    image.sum().backward()
    assert not image.any()
    assert not T.grad.any()


@pytest.mark.parametrize("name", ["femur", "tibia"])
def test_pose_gradient_agrees_with_finite_differences(rig, name):
    size, poses, lever_mm, step = 256, random_poses(20, seed=7, reach_mm=15), 25.0, 0.05
    part = TensorMesh.from_mesh(MESHES[name](), dtype=torch.float64)
    generator = torch.Generator().manual_seed(8)

    def moved(T, parameters):
        """Shifted by mm and rotated about the implant's origin by mm at the end of a lever."""
        R = roma.rotvec_to_rotmat(parameters[:, 3:] / lever_mm) @ T[:3, :3]
        return roma.Rigid(R, T[:3, 3] + parameters[:, :3]).to_homogeneous()

    cosines = []
    for index, T in enumerate(poses):
        K, W = camera(rig[PLANES[index % 2]], size)

        def image(parameters, T=T, K=K, W=W):
            return blurred(path_length([part], moved(T, parameters)[:, None], K, W, size))

        target = image(torch.randn(1, 6, generator=generator, dtype=torch.float64) * 1.5)
        start = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad((image(start) - target).square().sum(), start)
        with torch.no_grad():
            steps = step * torch.eye(6, dtype=torch.float64)
            ahead, behind = ((image(sign * steps) - target).square().sum((1, 2, 3)) for sign in (1, -1))
        numeric = (ahead - behind) / (2 * step)
        cosines.append(float(torch.cosine_similarity(gradient[0], numeric, dim=0)))
    print(f"{name}: cosine min {min(cosines):.4f}, median {np.median(cosines):.4f}")
    assert min(cosines) >= 0.95
    assert np.median(cosines) >= 0.99


@pytest.mark.parametrize("which", ["vertices_mm", "intrinsics", "world_to_camera"])
def test_gradients_flow_to_camera_and_vertices(rig, which):
    """Along the way to a changed mesh, focal length and principal point, or camera position."""
    size, T = 256, random_poses(1, seed=9, reach_mm=10)[:, None]
    femur = TensorMesh.from_mesh(MESHES["femur"](), dtype=torch.float64)
    K, W = camera(rig["bs"], size)
    inputs = {"vertices_mm": femur.vertices_mm, "intrinsics": K, "world_to_camera": W}
    change = torch.zeros_like(inputs[which])
    if which == "vertices_mm":
        change += femur.vertices_mm * torch.tensor([0.04, -0.02, 0.02], dtype=torch.float64)
    elif which == "intrinsics":
        change[:2] = torch.tensor([[0.02 * K[0, 0], 0, 1.2], [0, 0.02 * K[1, 1], -0.8]])
    else:
        change[:3, 3] = torch.tensor([0.8, 0.6, 5.0])

    def image(fraction):
        changed = inputs | {which: inputs[which] + fraction * change}
        part = TensorMesh(changed["vertices_mm"], femur.faces)
        return blurred(path_length([part], T, changed["intrinsics"], changed["world_to_camera"], size))

    with torch.no_grad():
        target = image(1.0)
        ahead, behind = ((image(fraction) - target).square().sum() for fraction in (0.1, -0.1))
    start = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((image(start) - target).square().sum(), start)
    torch.testing.assert_close(gradient, (ahead - behind) / 0.2, rtol=0.1, atol=0)


def test_a_face_square_to_the_ray_keeps_its_gradient():
    """All its corners have one depth, which rounding must not mistake for the end of the triangle."""
    box = TensorMesh.from_mesh(trimesh.creation.box((60, 60, 50)))
    stretch = torch.ones(3, requires_grad=True)
    T = torch.eye(4)[None, None].clone()
    T[..., :3, 3] = torch.tensor([0.123, 4.567, 1234.5678])
    K = torch.tensor([[2000.0, 0, 33.3], [0, 2000.0, 31.7], [0, 0, 1]])
    length = path_length([TensorMesh(box.vertices_mm * stretch, box.faces)], T, K, torch.eye(4), 64)[0, 0]
    center = length[22:42, 22:42]
    center.sum().backward()
    torch.testing.assert_close(stretch.grad[2], center.detach().sum(), rtol=1e-4, atol=0)


def test_autocast_costs_no_precision(rig):
    T = random_poses(2, seed=10).float()
    expected = render(MESHES["torus"](), T, rig["bs"], 128)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(render(MESHES["torus"](), T, rig["bs"], 128), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gpu_gives_what_the_cpu_gives(rig, dtype):
    mesh, poses = MESHES["femur"](), random_poses(16, seed=11).to(dtype)[:, None]
    K, W = camera(rig["bs"], 256, dtype)
    images, gradients = [], []
    for device in ("cpu", "cuda"):
        T = poses.to(device).detach().requires_grad_()
        image = path_length([TensorMesh.from_mesh(mesh, device, dtype)], T, K.to(device), W.to(device), 256)
        image.square().mean().backward()
        images.append(image.detach().cpu())
        gradients.append(T.grad.cpu())
    single = dtype == torch.float32
    assert (images[0] - images[1]).abs().flatten().quantile(0.999) < (1e-3 if single else 1e-6)
    assert (gradients[0] - gradients[1]).norm() < (1e-2 if single else 1e-6) * gradients[0].norm()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"parts": []}, "nothing to render: parts is empty"),
        ({"T_world_implant": torch.eye(4)}, r"T_world_implant must have shape \(4, 1, 4, 4\), got \(4, 4\)"),
        ({"T_world_implant": torch.eye(4).repeat(2, 3, 1, 1)}, r"shape \(2, 1, 4, 4\), got \(2, 3, 4, 4\)"),
        ({"intrinsics": torch.eye(3).repeat(3, 1, 1)}, r"intrinsics .* \(2, 3, 3\) or \(3, 3\), got \(3, 3, 3\)"),
        ({"world_to_camera": torch.eye(3)}, r"world_to_camera .* \(2, 4, 4\) or \(4, 4\), got \(3, 3\)"),
        ({"intrinsics": torch.eye(3).double()}, "intrinsics must be torch.float32 on cpu like T_world_implant"),
        (
            {"T_world_implant": torch.eye(4).repeat(2, 1, 1, 1).half()},
            "must be float32 or float64, got torch.float16",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(rig, changed, message):
    K, W = camera(rig["bs"], 64, torch.float32)
    part = TensorMesh.from_mesh(trimesh.creation.box((10, 10, 10)))
    arguments = {
        "parts": [part],
        "T_world_implant": random_poses(2, seed=12).float()[:, None],
        "intrinsics": K,
        "world_to_camera": W,
    }
    with pytest.raises(ValueError, match=message):
        path_length(**arguments | changed, size=64)


@pytest.mark.parametrize(("z_mm", "found"), [(1858.0, "the depth -"), (float("nan"), "the depth nan")])
def test_a_part_at_the_source_is_refused_by_name(rig, z_mm, found):
    parts = [TensorMesh.from_mesh(trimesh.creation.box((10, 10, 10)), dtype=torch.float64)] * 2
    T = random_poses(6, seed=13).view(3, 2, 4, 4)
    T[2, 1, 2, 3] = z_mm
    with pytest.raises(ValueError, match=f"part 1 at pose 2 reaches {found}"):
        path_length(parts, T, *camera(rig["bs"], 64), 64)


def test_meshes_that_have_no_inside_are_refused():
    box = trimesh.creation.box((10, 10, 10))
    with pytest.raises(ValueError, match="not closed"):
        TensorMesh.from_mesh(trimesh.Trimesh(box.vertices, box.faces[:-1]))
    with pytest.raises(ValueError, match=r"vertices_mm must have shape \(n, 3\), got \(8, 2\)"):
        TensorMesh(torch.zeros(8, 2), torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"faces must be int64, got torch.int32"):
        TensorMesh(torch.zeros(8, 3), torch.zeros(4, 3, dtype=torch.int32))


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "veriserum_hf.rendering.differentiable")
    with pytest.raises(ImportError, match=r'pip install "veriserum-hf\[train\]"'):
        importlib.import_module("veriserum_hf.rendering.differentiable")
