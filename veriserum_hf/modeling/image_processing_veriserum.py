"""From rows of the data set, or own images and cameras, to the inputs of the pose model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor  # without Pillow transformers has it here only

from .canvas_veriserum import fit
from .configuration_veriserum import COMPONENTS, PLANES

_MOST_PX = 16384
Frame = Mapping[str, Any]  # a row of the data set, or what has the same images and cameras


class VeriserumImageProcessor(BaseImageProcessor):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """Checks images against their cameras, fits both to the model's size, and stacks them.

    Images may have any size and shape, and come from any rig: see `canvas_veriserum.fit`. Those of whole Veriserum
    intensifiers in the model's size stay unchanged. The model normalises grey levels itself.

    Parameters
    ----------
    size : edge of the images, px, that the model takes.

    Raises
    ------
    ValueError
        If the size is invalid.

    """

    model_input_names = [  # noqa: RUF012
        *("image_bs", "image_fs", "camera_bs", "camera_fs"),
        *("anatomy_id", "implant_points", "implant_axes"),
    ]

    def __init__(self, size: int = 512, **kwargs: Any) -> None:
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= _MOST_PX:
            raise ValueError(f"size must be a whole number of 1 to {_MOST_PX} px, got {size!r}")
        super().__init__(**kwargs)
        self.size = size

    def preprocess(self, images: Frame | Sequence[Frame], **_: object) -> BatchFeature:
        """Stack frames into a batch.

        Parameters
        ----------
        images : one frame or several, each like a row of the data set: ``image_bs`` and ``image_fs`` (PIL images or
            arrays (rows, columns) of one grey channel) with ``camera_bs`` and ``camera_fs``; the same planes in all
            of them, those without an image are None or missing.
            The implants' ids are taken from ``femur`` and ``tibia`` where these are given, or from ``anatomy_id``,
            (femur, tibia), and are unknown otherwise; poses are never used. For a model that is given meshes,
            ``implant_points`` (2, n, 6) are those of `surface_points`, and ``implant_axes`` (2, 4, 4), mm, are the
            implants' axes in these coordinates, see `VeriserumPoseModel`.

        Returns
        -------
        The model's arguments: images (B, 1, N, N), their cameras (B, ...) in float64, anatomy_id (B, 2), and
        implant_points (B, 2, n, 6) and implant_axes (B, 2, 4, 4) where the frames have them.

        Raises
        ------
        ValueError
            If a frame has no plane with a camera, an image is not grey or contradicts its camera, or a camera
            contradicts itself.

        """
        frames = [images] if isinstance(images, Mapping) else list(images)
        if not frames:
            raise ValueError("no frame was given: expected at least one")
        planes = _planes(frames[0])
        for number, frame in enumerate(frames):
            if planes != _planes(frame) or not planes:
                raise ValueError(
                    f"frame {number} does not have the planes {' and '.join(planes) or 'bs or fs'}: expected "
                    "image_bs and image_fs, or the same one of them, in every frame of a batch"
                )
        fitted = [self._fitted(frame, planes, number) for number, frame in enumerate(frames)]
        data: dict[str, torch.Tensor | dict[str, torch.Tensor]] = {
            "anatomy_id": torch.tensor([_anatomy_id(frame) for frame in frames])
        }
        for name in ("implant_points", "implant_axes"):
            if all(frame.get(name) is not None for frame in frames):
                data[name] = torch.from_numpy(np.stack([frame[name] for frame in frames]))
        for plane in planes:
            views = [_supported(each[plane][0]) for each in fitted]
            data[f"image_{plane}"] = torch.from_numpy(np.stack(views))[:, None]
            data[f"camera_{plane}"] = {
                "intrinsics": torch.from_numpy(np.stack([each[plane][1] for each in fitted])),
                "world_to_camera": torch.tensor(
                    [frame[f"camera_{plane}"]["world_to_camera"] for frame in frames], dtype=torch.float64
                ),
            }
        return BatchFeature(data)

    def _fitted(self, frame: Frame, planes: Sequence[str], number: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Images (N, N) of a frame and their intrinsics, by plane."""
        for plane in planes:
            if frame.get(f"camera_{plane}") is None:
                raise ValueError(f"frame {number}: image_{plane} has no camera_{plane}; a row's own camera is needed")
        images = {plane: np.asarray(frame[f"image_{plane}"]) for plane in planes}
        try:
            return fit(images, {plane: frame[f"camera_{plane}"] for plane in planes}, self.size)
        except ValueError as error:
            raise ValueError(f"frame {number}: {error}") from error


def _supported(image: np.ndarray) -> np.ndarray:
    """Grey levels of a type that torch supports: it has few operations on 16-bit unsigned numbers."""
    return image.astype(np.float32) if image.dtype == np.uint16 else image


def _planes(frame: Frame) -> list[str]:
    return [plane for plane in PLANES if frame.get(f"image_{plane}") is not None]


def _anatomy_id(frame: Frame) -> list[int]:
    if frame.get("anatomy_id") is not None:
        return [int(id) for id in frame["anatomy_id"]]
    poses = [frame.get(component) for component in COMPONENTS]
    return [-1 if pose is None else int(pose["anatomy_id"]) for pose in poses]
