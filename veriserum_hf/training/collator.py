"""Rows of a data set to batches of a pose model, for training loops other than this package's."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from veriserum_hf.core import FrameRow
from veriserum_hf.training.batches import Cameras, collate, model_inputs, sample_of


@dataclass(frozen=True)
class PoseCollator:
    """``data_collator`` of a ``transformers.Trainer``, or ``collate_fn`` of a loader, for rows of ``load_dataset``.

    Attributes
    ----------
    size : edge of the model's images, px, ``model.config.image_size``, to which a row's images are fitted.

    """

    size: int

    def __call__(self, rows: Sequence[FrameRow]) -> dict[str, torch.Tensor | Cameras]:
        """Return what a model's forward takes of B rows, labels included.

        Returns
        -------
        ``image_bs``, ``image_fs`` (B, 1, N, N) uint8; ``camera_bs``, ``camera_fs``: ``intrinsics`` (B, 3, 3) px and
        ``world_to_camera`` (B, 4, 4) mm, float64; ``anatomy_id`` (B, 2), -1 where a row has no pose; ``labels``
        (B, 2, 4, 4) float64 ``T_world_implant``, mm, NaN where a row has none.

        Raises
        ------
        TrainingError
            If a row has no corrected images, one contradicts its camera, or rows have other planes than the first.

        """
        return model_inputs(collate([sample_of(row, self.size) for row in rows]))
