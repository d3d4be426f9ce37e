"""Planes of a row that can be drawn: the image, its size and its camera."""

from dataclasses import dataclass

import numpy as np

from veriserum_hf.core import (
    CAMERA_OF,
    IMAGE_OF,
    ByteImage,
    CameraRow,
    FileRow,
    FloatArray,
    FrameRow,
    PlaneName,
    cameras_of,
    image_size,
)
from veriserum_hf.errors import CalibrationError, FrameError, VeriserumError
from veriserum_hf.geometry import Camera, detector_mm


@dataclass(frozen=True, eq=False)
class View:
    """One plane of a row, without the levels of its image.

    Attributes
    ----------
    camera : of the row's image.
    size : of this image, (rows, columns) px.
    detector_mm : distance of source and detector; None where it is unknown.

    """

    camera: Camera
    size: tuple[int, int]
    detector_mm: float | None

    @property
    def columns_rows(self) -> FloatArray:
        """Size of the image as (columns, rows), px."""
        return np.array(self.size[::-1], dtype=np.float64)

    def mm_per_px(self, distance_mm: float) -> FloatArray:
        """Edges of a pixel, (along columns, along rows), (2,) mm, at a distance from the source."""
        return distance_mm / self.camera.intrinsics.diagonal()[:2]

    def fitted(self, edge_px: int) -> tuple[int, int]:
        """Size of the image that fits into a square, (rows, columns) px, resized so that its pixels are square."""
        shown = self.columns_rows * self.mm_per_px(1.0)
        columns, rows = np.maximum(np.rint(shown / shown.max() * edge_px), 1).astype(int).tolist()
        return rows, columns


def views_of(row: FrameRow | FileRow) -> dict[PlaneName, View]:
    """Planes of a row that have a camera; of files, only headers of images are read.

    Raises
    ------
    VeriserumError
        If no plane has a camera, a plane has an image or a camera alone, or a camera contradicts itself or the size
        of its image.

    """
    cameras = cameras_of(row)
    for plane, name in IMAGE_OF.items():
        if row[name] is not None and plane not in cameras:
            raise VeriserumError(f"measurement {row['measurement_id']} has an {name} but no {CAMERA_OF[plane]}")
    if not cameras:
        raise VeriserumError(f"measurement {row['measurement_id']} has no camera; expected that of one plane or two")
    return {plane: _view_of(row, plane, camera) for plane, camera in cameras.items()}


def _view_of(row: FrameRow | FileRow, plane: PlaneName, stored: CameraRow) -> View:
    image = row[IMAGE_OF[plane]]
    if image is None:
        raise VeriserumError(
            f"measurement {row['measurement_id']} has no {IMAGE_OF[plane]}; expected the image of its "
            f"{CAMERA_OF[plane]}"
        )
    try:
        size = image_size(image)
        camera = Camera.from_row(stored, size)
    except FrameError as error:
        raise VeriserumError(
            f"measurement {row['measurement_id']} cannot be decoded: {IMAGE_OF[plane]}: {error.detail}"
        ) from error
    except CalibrationError as error:
        raise VeriserumError(f"measurement {row['measurement_id']}, {CAMERA_OF[plane]}: {error}") from error
    return View(camera, size, detector_mm(stored, camera.intrinsics))


def grey_of(row: FrameRow, plane: PlaneName) -> ByteImage:
    """Corrected image of a row of `views_of` in eight bits; sixteen bits are scaled to the brightest pixel."""
    image = np.asarray(row[IMAGE_OF[plane]])
    grey = image if image.dtype == np.uint8 else np.clip(image / max(image.max(), 1) * 255, 0, 255)
    return grey.astype(np.uint8)
