"""Frames as input of a network, from rows or raw files: raw frames are corrected, with matching cameras."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from veriserum_hf.archive import RawFormat, highest_level, read_frame, white_level
from veriserum_hf.calibration import RAW_HEIGHT_PX, RAW_WIDTH_PX
from veriserum_hf.core import (
    CAMERA_OF,
    COMPONENTS,
    DISTORTION_OF,
    IMAGE_OF,
    PLANES,
    CameraRow,
    FloatArray,
    FrameRow,
    Grey,
    PlaneName,
)
from veriserum_hf.dataset.convert import corrected, parsed_distortion
from veriserum_hf.dataset.frame_calibration import WAYS, FrameCalibration, check_names
from veriserum_hf.dataset.frames import is_raw
from veriserum_hf.dataset.whole_camera import whole_camera
from veriserum_hf.errors import CalibrationError, FrameError

_FIELD = RawFormat(255, RAW_WIDTH_PX / RAW_HEIGHT_PX)


class Frame(TypedDict):
    """Images of one frame without distortion, and their cameras; a plane may be missing."""

    measurement_id: int | None  # these three: None for a frame that is in no archive
    trial_id: int | None
    frame_index: int | None
    anatomy_id: Sequence[int]  # of femoral and tibial component, -1 if unknown
    image_bs: NotRequired[Grey]
    image_fs: NotRequired[Grey]
    camera_bs: NotRequired[CameraRow]
    camera_fs: NotRequired[CameraRow]
    implant_points: NotRequired[FloatArray]  # (2, n, 6) of both surfaces, for a model that is given meshes
    implant_axes: NotRequired[FloatArray]  # (2, 4, 4) T_implant_axes of both, mm


def frame_of_files(paths: Mapping[PlaneName, Path], calibration: FrameCalibration, size: int) -> Frame:
    """Correct the raw files of one frame to images of ``size`` x ``size`` px.

    Raises
    ------
    FrameError
        If a file cannot be used.
    CalibrationError
        If a file's name states the other plane, or a plane has no distortion.

    """
    check_names(paths)
    raw = {plane: _read(path, plane, calibration) for plane, path in paths.items()}
    white = calibration.white_level
    if white is None:
        deep = [highest_level(each) for each in raw.values() if each.dtype == np.uint16]
        white = white_level(deep) if deep else 255
    frame: Frame = {
        "measurement_id": calibration.measurement_id,
        "trial_id": calibration.trial_id,
        "frame_index": calibration.frame_index,
        "anatomy_id": calibration.anatomy_id,
    }
    for plane, each in raw.items():
        frame[IMAGE_OF[plane]] = corrected(each, calibration.distortions[plane], size, white)
        frame[CAMERA_OF[plane]] = calibration.rig[plane].camera(size)
    return frame


def _read(path: Path, plane: PlaneName, calibration: FrameCalibration) -> Grey:
    """Raw frame of a file that the user named."""
    if plane not in calibration.distortions:
        raise CalibrationError(f"the calibration has no distortion of {plane}; {WAYS}")
    if not path.is_file():
        raise FrameError("missing", f"there is no file {path}")
    try:
        raw = read_frame(path)
        _FIELD.check_shape(raw)
    except FrameError as error:
        raise FrameError(error.reason, f"{path}: {error.detail}") from error
    return raw


def frame_of_row(row: FrameRow, size: int, white_level: int = 255) -> Frame:
    """Frame of a data set's row; raw images are corrected, others unchanged, a plane without one is skipped.

    Parameters
    ----------
    row : images as arrays.
    size : edge of the images that raw ones are corrected to, px.
    white_level : grey level that counts as white in raw images of 16 bits.

    Raises
    ------
    CalibrationError
        If the camera of a raw frame contradicts itself, or its distortion is invalid.
    FrameError
        If a raw frame does not have the ratio of raw frames.

    """
    poses = (row[component] for component in COMPONENTS)
    frame: Frame = {
        "measurement_id": row["measurement_id"],
        "trial_id": row["trial_id"],
        "frame_index": row["frame_index"],
        "anatomy_id": [-1 if pose is None else pose["anatomy_id"] for pose in poses],
    }
    for plane in PLANES:
        given, camera = row[IMAGE_OF[plane]], row[CAMERA_OF[plane]]
        if given is None or camera is None:
            continue
        image: Grey = np.asarray(given)
        if is_raw(row.keys()):
            where = f"measurement {row['measurement_id']}"
            try:
                camera = whole_camera(camera, size)
            except CalibrationError as error:
                raise CalibrationError(f"{where}, {CAMERA_OF[plane]}: {error}") from error
            try:
                _FIELD.check_shape(image)
                distortion = parsed_distortion(row[DISTORTION_OF[plane]])
            except FrameError as error:
                raise FrameError(error.reason, f"{where}, {IMAGE_OF[plane]}: {error.detail}") from error
            except CalibrationError as error:
                raise CalibrationError(f"{where}, {DISTORTION_OF[plane]}: {error}") from error
            image = corrected(image, distortion, size, white_level)
        frame[IMAGE_OF[plane]], frame[CAMERA_OF[plane]] = image, camera
    return frame
