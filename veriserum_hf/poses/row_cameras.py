"""Cameras of the rows that poses are compared in."""

import json
from collections.abc import Sequence

import datasets
import numpy as np

from veriserum_hf.core import CAMERA_OF, IMAGE_OF, CameraRow, FloatArray, LabelRow, PlaneName, cameras_of, image_size
from veriserum_hf.errors import CalibrationError, FrameError, TrainingError
from veriserum_hf.geometry import Camera


class CheckedCameras:
    """Cameras of rows, each compared with every size of image once: those of a trial are mostly the same."""

    def __init__(self, rows: datasets.Dataset) -> None:
        self._images = {plane: rows.select_columns([name]).with_format("arrow") for plane, name in IMAGE_OF.items()}
        self._known: set[tuple[str, tuple[int, int] | None]] = set()

    def check(self, number: int, row: LabelRow) -> None:
        """Raise TrainingError where a camera of a row contradicts itself or its image."""
        for plane, camera in cameras_of(row).items():
            size = self._size(number, plane)
            key = json.dumps([plane, camera]), size
            if key in self._known:
                continue
            try:
                Camera.from_row(camera, size)
            except CalibrationError as error:
                raise TrainingError(f"measurement {row['measurement_id']}, {CAMERA_OF[plane]}: {error}") from error
            self._known.add(key)

    def _size(self, number: int, plane: PlaneName) -> tuple[int, int] | None:
        """Size that the header of a row's image states; None where there is none."""
        [image] = self._images[plane][number : number + 1][IMAGE_OF[plane]].to_pylist()
        try:
            return None if image is None else image_size(image)
        except FrameError:  # poses are compared without the images
            return None


def matrices(cameras: Sequence[CameraRow | None]) -> tuple[FloatArray, FloatArray]:
    """Intrinsics (n, 3, 3) and world_to_camera (n, 4, 4); NaN where there is no camera."""
    intrinsics = [np.full((3, 3), np.nan) if each is None else each["intrinsics"] for each in cameras]
    world_to_camera = [np.full((4, 4), np.nan) if each is None else each["world_to_camera"] for each in cameras]
    return np.array(intrinsics), np.array(world_to_camera)
