"""Run by every process of a launcher: estimate the poses of 101 frames with a model that reads them off the images.

``python gathering.py FOLDER`` writes what each process got to ``FOLDER/RANK.npz``.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from tests.poses.made import RIG, poses
from veriserum_hf.core.domain import PLANES
from veriserum_hf.inference.labelled import predict_labelled
from veriserum_hf.training.batches import collate

FRAMES = 101
TIBIA_MISSING = 50  # the frame without a label of its tibia


def labels():
    """Poses (FRAMES, 2, 4, 4)."""
    return poses(2 * FRAMES, np.random.default_rng(0)).reshape(FRAMES, 2, 4, 4)


def samples():
    cameras = {
        f"camera_{plane}": {
            "intrinsics": torch.tensor(RIG[plane].intrinsics(512)),
            "world_to_camera": torch.tensor(RIG[plane].world_to_camera),
        }
        for plane in PLANES
    }
    true = torch.tensor(labels())
    true[TIBIA_MISSING, 1] = torch.nan
    return [
        cameras
        | {
            "image_bs": torch.full((1, 4, 4), index, dtype=torch.uint8),
            "image_fs": torch.full((1, 4, 4), 255 - index, dtype=torch.uint8),
            "anatomy_id": torch.tensor([1 + index % 2, -1 if index == TIBIA_MISSING else 3 + index % 5]),
            "labels": true[index],
            "measurement_id": torch.tensor(2**60 + index),
            "trial_id": torch.tensor(index // 7),
            "task": f"task {index}",
        }
        for index in range(FRAMES)
    ]


class ReadsTheNumber(torch.nn.Module):
    """Puts both implants at (frame, 0, 0) mm, the frame being the grey level of ``image_bs``."""

    def forward(self, image_bs, image_fs, camera_bs, camera_fs, anatomy_id):
        number = image_bs[:, 0, 0, 0].double()
        T = torch.eye(4, dtype=torch.float64).repeat(len(number), 2, 1, 1)
        T[:, :, 0, 3] = number[:, None]
        confidence = (number[:, None] / 1000).expand(-1, 2).float()
        return SimpleNamespace(T_world_implant=T, confidence=confidence)


def main(folder):
    accelerator = Accelerator(cpu=True)
    loader = accelerator.prepare(DataLoader(samples(), batch_size=8, collate_fn=collate))
    found = predict_labelled(ReadsTheNumber(), loader, accelerator)
    arrays = {name: value for name, value in vars(found).items() if name != "cameras"}
    np.savez(folder / f"{accelerator.process_index}.npz", **arrays)
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
