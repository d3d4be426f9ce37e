"""A row of a data set: one frame, of two planes or one, with its cameras and poses."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from veriserum_hf.core.domain import PLANES, Component, PlaneName

if TYPE_CHECKING:
    from PIL.Image import Image

    from veriserum_hf.core.arrays import Grey

# The fields of a plane.
IMAGE_OF: Mapping[PlaneName, Literal["image_bs", "image_fs"]] = {"bs": "image_bs", "fs": "image_fs"}
CAMERA_OF: Mapping[PlaneName, Literal["camera_bs", "camera_fs"]] = {"bs": "camera_bs", "fs": "camera_fs"}
DISTORTION_OF: Mapping[PlaneName, Literal["distortion_bs", "distortion_fs"]] = {
    "bs": "distortion_bs",
    "fs": "distortion_fs",
}


class CameraRow(TypedDict):
    """One plane as an OpenCV camera, for the row's image: a row's ``camera_bs``, ``camera_fs``.

    The last three describe the intrinsics, for people to read; null where a calibration knows pixels only.
    """

    intrinsics: list[list[float]]  # (3, 3), px
    world_to_camera: list[list[float]]  # (4, 4), mm
    pixel_size_mm: float | None
    source_to_intensifier_mm: float | None
    principal_point_mm: list[float] | None


class PoseRow(TypedDict):
    """One implant's pose: a row's ``femur``, ``tibia``, or a row of a pose file."""

    anatomy_id: int
    translation_mm: list[float]
    quaternion_xyzw: list[float]
    kind: NotRequired[str | None]
    # Of a data set.
    pose_id: NotRequired[int]
    # Of a pose file.
    trial_id: NotRequired[int | None]
    frame_index: NotRequired[int | None]
    covariance: NotRequired[list[list[float]] | None]
    image_covariance: NotRequired[list[list[float]] | None]
    cross_covariance: NotRequired[list[list[float]] | None]
    method: NotRequired[str | None]
    verdict: NotRequired[str | None]
    confidence: NotRequired[float | None]
    doubt: NotRequired[float | None]
    trusted: NotRequired[bool | None]
    score: NotRequired[float | None]
    detail: NotRequired[str | None]
    planes_apart_mm: NotRequired[float | None]
    planes_apart_sd_mm: NotRequired[float | None]
    observer: NotRequired[str | None]
    accepted_utc: NotRequired[datetime | None]
    start: NotRequired[str | None]


class PoseFileRow(PoseRow):
    """A row of a pose file: one implant in one frame."""

    measurement_id: int | None  # None for a frame that is in no archive
    component: Component
    moved_mm: NotRequired[float | None]
    moved_deg: NotRequired[float | None]


Poses = Mapping[Component, PoseRow]  # of one frame


class LabelRow(TypedDict):
    """A row without its images; with one plane only, the second camera is null."""

    measurement_id: int
    trial_id: int
    frame_index: int
    task: str | None
    subject: int | None
    implant_pair: str
    camera_bs: CameraRow | None
    camera_fs: CameraRow | None
    femur: PoseRow | None
    tibia: PoseRow | None
    distortion_bs: NotRequired[str]  # of raw frames only
    distortion_fs: NotRequired[str]
    white_level: NotRequired[int]


def cameras_of(row: LabelRow) -> dict[PlaneName, CameraRow]:
    """Cameras of a row by plane; a row of a single-plane study has that of the first plane only."""
    return {plane: camera for plane in PLANES if (camera := row[CAMERA_OF[plane]]) is not None}


class FrameRow(LabelRow):
    """A row with its images: arrays (rows, columns), or as ``load_dataset`` decodes them; None without an image."""

    image_bs: "Grey | Image | None"
    image_fs: "Grey | Image | None"


class ImageFile(TypedDict):
    """Content and name of an image's file."""

    bytes: bytes
    path: str | None


class MeshFile(TypedDict):
    """File of an implant's mesh, None where the archive has none, and the implant's category."""

    path: str | None
    category: str


class FileRow(LabelRow):
    """A row with the files of its images, not decoded."""

    image_bs: ImageFile | None
    image_fs: ImageFile | None
