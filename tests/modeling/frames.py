"""Tiny models and frames for them."""

import numpy as np
import torch
import trimesh

from tests.fixtures.models import BACKBONE, HEAD
from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry.rig import DualPlaneRig
from veriserum_hf.modeling import VeriserumPoseConfig, VeriserumPoseModel

SIZE = 64
ANATOMIES = [{"id": 3, "component": "femur"}, {"id": 7, "component": "tibia"}, {"id": 9, "component": "tibia"}]
_STAGES = {"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 2, 1]}
_TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 8,
    "image_size": 32,
}
BACKBONES = {
    "convnext": _STAGES,
    "convnextv2": _STAGES,
    "vit": _TRANSFORMER,
    "dinov2": _TRANSFORMER,
    "dinov2_with_registers": _TRANSFORMER,
    "dinov3_vit": _TRANSFORMER,
    "dinov3_convnext": _STAGES,
    "swin": {
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
        "patch_size": 2,
        "image_size": 32,
    },
    "resnet": {name: value for name, value in BACKBONE.items() if name != "model_type"},
}


def config(backbone="resnet", **changed):
    """Settings of a tiny model."""
    small = HEAD | {"image_size": SIZE, "locator_size": 32, "pooled_size": 32, "anatomies": ANATOMIES}
    return VeriserumPoseConfig(backbone_config={"model_type": backbone} | BACKBONES[backbone], **small | changed)


def model(backbone="resnet", **changed):
    """Make a tiny model with random weights, always the same."""
    torch.manual_seed(0)
    made = VeriserumPoseModel(config(backbone, **changed))
    boxes = {3: (60, 40, 50), 7: (70, 45, 30), 9: (75, 50, 30)}
    meshes = {id: trimesh.creation.box(extents).subdivide().subdivide() for id, extents in boxes.items()}
    made.set_anatomies({id: torch.tensor(mesh.vertices) for id, mesh in meshes.items()})
    return made


def rig(rng):
    """Return planes as calibrations have them."""
    return DualPlaneRig.from_calibration(
        principal_point_bs_mm=rng.uniform(-20, 20, 2),
        sid_bs_mm=rng.uniform(1800, 1950),
        principal_point_fs_mm=rng.uniform(-20, 20, 2),
        sid_fs_mm=rng.uniform(1800, 1950),
    )


def cameras(rng, count, size=SIZE):
    """Cameras of ``count`` frames, by plane, each of another rig."""
    rigs = [rig(rng) for _ in range(count)]
    return {
        f"camera_{plane}": {
            "intrinsics": torch.tensor(np.stack([one[plane].intrinsics(size) for one in rigs])),
            "world_to_camera": torch.tensor(np.stack([one[plane].world_to_camera for one in rigs])),
        }
        for plane in PLANES
    }


def batch(count=3, seed=0, size=SIZE):
    """Return frames of noise, with cameras, identities and poses in the centre of both planes."""
    rng = np.random.default_rng(seed)
    inputs = cameras(rng, count, size)
    for plane in PLANES:
        inputs[f"image_{plane}"] = torch.tensor(rng.integers(0, 256, (count, 1, size, size), dtype=np.uint8))
    labels = np.tile(np.eye(4), (count, 2, 1, 1))
    labels[..., :3, :3] = np.linalg.qr(rng.standard_normal((count, 2, 3, 3)))[0]
    labels[..., :3, :3] *= np.linalg.det(labels[..., :3, :3])[..., None, None]
    labels[..., :3, 3] = rng.uniform(-30, 30, (count, 2, 3)) + (0, 0, 381)
    ids = torch.tensor([[3, 7 + 2 * (frame % 2)] for frame in range(count)])
    return inputs | {"anatomy_id": ids, "labels": torch.tensor(labels)}


def without_labels(inputs):
    """What is known in use."""
    return {name: value for name, value in inputs.items() if name != "labels"}
