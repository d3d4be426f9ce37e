"""Speed of the differentiable renderer, on the GPU where there is one."""

import time
from collections.abc import Callable
from statistics import median

import roma
import torch
import trimesh

from veriserum_hf.geometry.rig import DualPlaneRig
from veriserum_hf.rendering.differentiable import TensorMesh, path_length

_DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ON_GPU = _DEVICE.type == "cuda"
BATCH = 64 if ON_GPU else 8
_WARM_UP, _REPEATS = 3, 20


def _images_per_s(render: Callable[[], object], batch: int) -> float:
    """Images by the wall clock, waiting for the device; the median of some calls after the first few."""
    seconds = []
    for _ in range(_WARM_UP + _REPEATS):
        _wait()
        started = time.perf_counter()
        render()
        _wait()
        seconds.append(time.perf_counter() - started)
    return batch / median(seconds[_WARM_UP:])


def _wait() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def images_per_s(mesh: trimesh.Trimesh, size: int, batch: int = BATCH) -> tuple[float, float]:
    """Images of a mesh a second, float32, random poses: forward, and forward with the gradient in the pose."""
    part = TensorMesh.from_mesh(mesh, _DEVICE)
    generator = torch.Generator().manual_seed(batch)
    R = roma.unitquat_to_rotmat(torch.nn.functional.normalize(torch.randn(batch, 4, generator=generator), dim=1))
    center_mm = torch.tensor([0.0, 20.0, 381.0]) + 40 * (torch.rand(batch, 3, generator=generator) - 0.5)
    poses = roma.Rigid(R, center_mm).to_homogeneous()[:, None].to(_DEVICE).requires_grad_()
    plane = DualPlaneRig.from_calibration(
        principal_point_bs_mm=(2.7, -6.1), sid_bs_mm=1860.5, principal_point_fs_mm=(-10.1, 2.0), sid_fs_mm=1851.3
    )["bs"]
    camera = [
        torch.tensor(matrix, dtype=torch.float32, device=_DEVICE)
        for matrix in (plane.intrinsics(size), plane.world_to_camera)
    ]
    weights = torch.rand(size, size, device=_DEVICE)

    def forward() -> None:
        with torch.no_grad():
            path_length([part], poses, *camera, size)

    def forward_backward() -> None:
        poses.grad = None
        (path_length([part], poses, *camera, size) * weights).sum().backward()

    return _images_per_s(forward, batch), _images_per_s(forward_backward, batch)


def device() -> str:
    """What it runs on."""
    return torch.cuda.get_device_name() if ON_GPU else f"{torch.get_num_threads()} CPU threads"
