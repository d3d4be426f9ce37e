"""Exact poses of an archive's frames, and an untrained model."""

import numpy as np
import torch

from tests.modeling.frames import config
from veriserum_hf.modeling import VeriserumPoseModel
from veriserum_hf.poses.files import poses_by_frame, read_poses

PARTS = ("femur", "tibia")


def truth_of(archive):
    return poses_by_frame(read_poses(archive / "truth.parquet"))


def rows_of(source):
    return [row for frames in source.splits.values() for row in frames.table(*PARTS).to_pylist()]


def save_untrained(source, folder):
    """Save a tiny model with random weights that knows the implants of some frames."""
    shown = {(part, pose["anatomy_id"]) for row in rows_of(source) for part in PARTS if (pose := row[part])}
    torch.manual_seed(0)
    model = VeriserumPoseModel(config(anatomies=[{"id": id, "component": part} for part, id in sorted(shown)]))
    model.set_anatomies({id: torch.tensor(np.array(mesh.vertices)) for id, mesh in source.meshes.items()})
    model.save_pretrained(folder)
