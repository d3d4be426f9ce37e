"""Rows of the data set as tensors, alone and in batches."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch.utils.data import default_collate

from veriserum_hf.core import (
    CAMERA_OF,
    COMPONENTS,
    IMAGE_OF,
    CameraRow,
    FrameRow,
    ImageArray,
    PlaneName,
    PoseRow,
    cameras_of,
)
from veriserum_hf.dataset import holds_images
from veriserum_hf.errors import CalibrationError, TrainingError
from veriserum_hf.geometry import (
    FIELD_MM,
    NATIVE_SIZE,
    Camera,
    first_px_of_whole,
    make_transform,
    quaternion_to_matrix,
)
from veriserum_hf.modeling import fit

Sample = dict[str, Any]
_LEAST_PX = 32  # edge of a model's images; the most is that of native ones


class Cameras(TypedDict):
    """Cameras of B frames, float64: ``intrinsics`` (B, 3, 3), px; ``world_to_camera`` (B, 4, 4), mm."""

    intrinsics: torch.Tensor
    world_to_camera: torch.Tensor


class Batch(TypedDict):
    """B frames of the same planes, stacked.

    Attributes
    ----------
    image_bs, image_fs : (B, 1, N, N) uint8; missing where the frames have no image of that plane.
    camera_bs, camera_fs : see `Cameras`.
    anatomy_id : (B, 2) int64 of femoral and tibial component, -1 where a frame has no pose of it.
    labels : (B, 2, 4, 4) float64 ``T_world_implant``, mm; NaN where a frame has none.
    implant_points : (B, 2, n, 6) float32 of the implants' surfaces, with normals; missing where the model knows the
        implants by their ids.
    image_px : (B, planes, 4) int64, of randomised worlds alone: column and row of each image's first pixel, its
        columns and its rows; what is around it continues its rim.
    measurement_id, trial_id : (B,) int64. task : B names.

    """

    image_bs: NotRequired[torch.Tensor]
    image_fs: NotRequired[torch.Tensor]
    camera_bs: NotRequired[Cameras]
    camera_fs: NotRequired[Cameras]
    anatomy_id: torch.Tensor
    labels: torch.Tensor
    implant_points: NotRequired[torch.Tensor]
    image_px: NotRequired[torch.Tensor]
    measurement_id: torch.Tensor
    trial_id: torch.Tensor
    task: list[str]


def sample_of(row: FrameRow, size: int | None = None) -> Sample:
    """Convert a row of the configurations with images free of distortion into tensors.

    Parameters
    ----------
    row : with one plane or both; images of any size and shape.
    size : edge N of the images that a model takes, px, to which they are fitted as in use; see
        `veriserum_hf.modeling.fit`. If not given, `image_size_of` the row.

    Returns
    -------
    image_bs, image_fs : (1, N, N) uint8; of 16-bit images the upper byte. A plane without an image is missing.
    camera_bs, camera_fs : ``intrinsics`` (3, 3) and ``world_to_camera`` (4, 4), float64.
    anatomy_id : (2,) int64 of femoral and tibial component, -1 where the row has no pose of it.
    labels : (2, 4, 4) float64 ``T_world_implant``, NaN where the row has none.
    measurement_id, trial_id : int64. task : str.

    Raises
    ------
    TrainingError
        If the row has no images, one contradicts its camera, or a camera contradicts itself.

    """
    images, cameras = _views(row), cameras_of(row)
    try:
        fitted = fit(images, cameras, size or _edge_px(images, cameras))
    except ValueError as error:
        raise TrainingError(f"measurement {row['measurement_id']}: {error}") from error
    sample: Sample = {}
    for plane, (image, intrinsics) in fitted.items():
        sample[IMAGE_OF[plane]] = torch.from_numpy(image.copy())[None]
        sample[CAMERA_OF[plane]] = Cameras(
            intrinsics=torch.from_numpy(intrinsics),
            world_to_camera=torch.tensor(cameras[plane]["world_to_camera"], dtype=torch.float64),
        )
    poses = [row[component] for component in COMPONENTS]
    sample["anatomy_id"] = torch.tensor([-1 if pose is None else pose["anatomy_id"] for pose in poses])
    sample["labels"] = torch.stack([_transform(pose) for pose in poses])
    sample["measurement_id"] = torch.tensor(row["measurement_id"])
    sample["trial_id"] = torch.tensor(row["trial_id"])
    sample["task"] = row["task"] or "unknown"
    return sample


def image_size_of(row: FrameRow) -> int:
    """Edge, px, of the square images that a model takes a row's images in.

    The longest edge of its images; of a part of a Veriserum image, that of the whole. It is 32 to 1600 px.

    Raises
    ------
    TrainingError
        See `sample_of`.

    """
    return _edge_px(_views(row), cameras_of(row))


def _edge_px(views: Mapping[PlaneName, ImageArray], cameras: Mapping[PlaneName, CameraRow]) -> int:
    edges = [_whole_px(image.shape, cameras[plane]) for plane, image in views.items()]
    return min(max(_LEAST_PX, *edges), NATIVE_SIZE)


def _whole_px(rows_columns: tuple[int, ...], camera: CameraRow) -> int:
    """Longer edge of an image, or of the whole Veriserum image that it is a part of."""
    rows, columns = rows_columns
    pixel_mm = camera.get("pixel_size_mm")
    if pixel_mm is None or first_px_of_whole(camera, (rows, columns)) is None:
        return max(rows, columns)
    return round(FIELD_MM / pixel_mm)


def _views(row: FrameRow) -> dict[PlaneName, ImageArray]:
    """Images (rows, columns) uint8 of a row by plane, which do not contradict their cameras."""
    if not holds_images(row.keys()):
        raise TrainingError(
            f"expected rows with corrected images, cameras and poses, got the fields {', '.join(row)}; use the "
            "configuration calibrated, target or manual"
        )
    views: dict[PlaneName, ImageArray] = {}
    for plane, camera in cameras_of(row).items():
        where = f"measurement {row['measurement_id']}"
        if row[IMAGE_OF[plane]] is None:
            raise TrainingError(f"{where} has {CAMERA_OF[plane]}, but no {IMAGE_OF[plane]}; expected both or neither")
        image = np.asarray(row[IMAGE_OF[plane]])
        if image.ndim != 2:
            raise TrainingError(
                f"{where}: {IMAGE_OF[plane]} is {' x '.join(map(str, image.shape))} px, expected rows and columns of "
                "one grey channel"
            )
        try:
            Camera.from_row(camera, image.shape)
        except CalibrationError as error:
            raise TrainingError(f"{where}, {CAMERA_OF[plane]}: {error}") from error
        views[plane] = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image
    if not views:
        raise TrainingError(f"measurement {row['measurement_id']} has no camera; expected that of a plane at least")
    return views


def _transform(pose: PoseRow | None) -> torch.Tensor:
    if pose is None:
        return torch.full((4, 4), torch.nan, dtype=torch.float64)
    return torch.from_numpy(make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"]))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; tasks become a list.

    Raises
    ------
    TrainingError
        If the samples do not have the same planes.

    """
    first = samples[0]
    for sample in samples:
        for name in IMAGE_OF.values():
            if (name in sample) != (name in first):
                ids = [int(each["measurement_id"]) for each in (first, sample)]
                has, lacks = ids if name in first else ids[::-1]
                raise TrainingError(
                    f"measurement {has} has {name}, measurement {lacks} has not; a batch takes frames of the same "
                    "planes: use rows with both planes, or rows with one, alone"
                )
    batch: Batch = default_collate(list(samples))
    return batch


def check_rendered(batch_size: int, size: int, rank: int, world_size: int, start: int, seed: int) -> None:
    """Raise ValueError where a number that batches are rendered by is out of its range."""
    if batch_size < 1:
        raise ValueError(f"a batch needs at least 1 frame, got batch_size {batch_size}")
    if not _LEAST_PX <= size <= NATIVE_SIZE:
        raise ValueError(f"size must be from {_LEAST_PX} to {NATIVE_SIZE} px, got {size}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be from 0 to world_size - 1, got {rank} of {world_size}")
    for name, number in (("start", start), ("seed", seed)):
        if number < 0:
            raise ValueError(f"{name} must be zero or positive, got {number}")


def model_inputs(batch: Batch) -> dict[str, torch.Tensor | Cameras]:
    """The part of a batch that a model's forward takes, labels included."""
    names = ("image_bs", "image_fs", "camera_bs", "camera_fs", "anatomy_id", "labels", "implant_points")
    return {name: batch[name] for name in names if name in batch}  # type: ignore[literal-required]
