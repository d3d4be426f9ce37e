"""From rows of the data set, or own images and cameras, to the inputs of the pose model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor  # without Pillow transformers has it here only

from .configuration_veriserum import COMPONENTS, PLANES

_MOST_PX = 16384
FIELD_MM = 360.0  # edge of every corrected image
_ORIGIN_MM = FIELD_MM / 2 + FIELD_MM / 1600 / 2  # from the first pixel's corner to 0 mm
Frame = Mapping[str, Any]  # a row of the data set, or what has the same images and cameras


class VeriserumImageProcessor(BaseImageProcessor):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """Checks corrected images against their cameras, and stacks them.

    The model normalises images itself: grey levels stay unchanged.

    Parameters
    ----------
    size : edge of the images, px, that the model takes.

    Raises
    ------
    ValueError
        If the size is invalid.

    """

    model_input_names = ["image_bs", "image_fs", "camera_bs", "camera_fs", "anatomy_id"]  # noqa: RUF012

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
            arrays (N, N) of one grey channel) with ``camera_bs`` and ``camera_fs``; the same planes in all of them.
            The implants' ids are taken from ``femur`` and ``tibia`` where these are given, or from ``anatomy_id``,
            (femur, tibia), and are unknown otherwise; poses are never used.

        Returns
        -------
        The model's arguments: images (B, 1, N, N), cameras (B, ...) in float64, anatomy_id (B, 2).

        Raises
        ------
        ValueError
            If a frame has no plane with a camera, an image another size than its camera or the model, or a camera
            contradicts itself.

        """
        frames = [images] if isinstance(images, Mapping) else list(images)
        if not frames:
            raise ValueError("no frame was given: expected at least one")
        planes = [plane for plane in PLANES if frames[0].get(f"image_{plane}") is not None]
        data: dict[str, torch.Tensor | dict[str, torch.Tensor]] = {
            "anatomy_id": torch.tensor([_anatomy_id(frame) for frame in frames])
        }
        for number, frame in enumerate(frames):
            if planes != [plane for plane in PLANES if frame.get(f"image_{plane}") is not None] or not planes:
                raise ValueError(
                    f"frame {number} does not have the planes {' and '.join(planes) or 'bs or fs'}: expected "
                    "image_bs and image_fs, or the same one of them, in every frame of a batch"
                )
        for plane in planes:
            stacked = np.stack([self._image(frame, plane, number) for number, frame in enumerate(frames)])
            data[f"image_{plane}"] = torch.from_numpy(stacked)[:, None]
            data[f"camera_{plane}"] = {
                name: torch.tensor([frame[f"camera_{plane}"][name] for frame in frames], dtype=torch.float64)
                for name in ("intrinsics", "world_to_camera")
            }
        return BatchFeature(data)

    def _image(self, frame: Frame, plane: str, number: int) -> np.ndarray:
        image, camera = np.asarray(frame[f"image_{plane}"]), frame.get(f"camera_{plane}")
        if camera is None:
            raise ValueError(f"frame {number}: image_{plane} has no camera_{plane}; a row's own camera is needed")
        if image.shape != (self.size, self.size):
            raise ValueError(
                f"frame {number}: image_{plane} is {' x '.join(map(str, image.shape))} px, this model takes "
                f"corrected images of {self.size} x {self.size} px and one grey channel; convert with --size "
                f"{self.size}, or Distortion.correct(frame, size={self.size})"
            )
        expected = round(FIELD_MM / camera["pixel_size_mm"]) if "pixel_size_mm" in camera else self.size
        if expected != self.size:
            raise ValueError(
                f"frame {number}: image_{plane} is {self.size} px, but its camera is that of an image of {expected} "
                "px; do not resize images, take the camera of this size"
            )
        _check_camera(camera, f"frame {number}: camera_{plane}")
        # torch supports few operations on 16-bit unsigned numbers.
        return image.astype(np.float32) if image.dtype == np.uint16 else image


def _check_camera(camera: Mapping[str, Any], name: str) -> None:
    """Refuse intrinsics that contradict what describes them, where that is given; intrinsics are what counts."""
    (f, skew, column), (_, f_other, row), _ = camera["intrinsics"]
    pixel_mm, sid_mm = camera.get("pixel_size_mm"), camera.get("source_to_intensifier_mm")
    if pixel_mm and sid_mm and not max(abs(f - sid_mm / pixel_mm), abs(f_other - f)) <= 1e-3 * f:
        raise ValueError(
            f"{name}: intrinsics has focal lengths of {f:.2f} and {f_other:.2f} px, but source_to_intensifier_mm "
            f"{sid_mm:.2f} and pixel_size_mm {pixel_mm:.4f} give {sid_mm / pixel_mm:.2f} px; correct the wrong ones"
        )
    if pixel_mm and camera.get("principal_point_mm"):
        h, v = camera["principal_point_mm"]
        expected = ((h + _ORIGIN_MM) / pixel_mm - 0.5, (_ORIGIN_MM - v) / pixel_mm - 0.5)
        if not max(abs(column - expected[0]), abs(row - expected[1])) <= 1 / pixel_mm or skew:
            raise ValueError(
                f"{name}: intrinsics has its principal point at ({column:.2f}, {row:.2f}) px and a skew of {skew:g}, "
                f"but principal_point_mm gives ({expected[0]:.2f}, {expected[1]:.2f}) px and no skew; the model "
                "takes the image of the whole intensifier, not a part of it"
            )


def _anatomy_id(frame: Frame) -> list[int]:
    if frame.get("anatomy_id") is not None:
        return [int(id) for id in frame["anatomy_id"]]
    poses = [frame.get(component) for component in COMPONENTS]
    return [-1 if pose is None else int(pose["anatomy_id"]) for pose in poses]
