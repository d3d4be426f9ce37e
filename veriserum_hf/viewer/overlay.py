"""Both planes of a row with its implants' axes, drawn by the row's own cameras alone."""

import cv2
import numpy as np

from veriserum_hf.core import (
    CAMERA_OF,
    COMPONENTS,
    IMAGE_OF,
    PLANES,
    ByteImage,
    CameraRow,
    FloatArray,
    FrameRow,
    PlaneName,
    PoseRow,
)
from veriserum_hf.errors import CalibrationError, VeriserumError
from veriserum_hf.geometry import Camera, make_transform, project, quaternion_to_matrix, transform_points

AXIS_LENGTH_MM = 40.0
# x red, y green, z blue, by convention; BGR.
_AXIS_COLORS = ((60, 60, 240), (60, 200, 60), (240, 140, 40))
_IMAGE_PX = 640


def axes_world_mm(pose: PoseRow) -> FloatArray:
    """Origin and the ends of the x, y and z axis of a row's ``femur`` or ``tibia``, (4, 3) mm."""
    T_world_implant = make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])
    return transform_points(T_world_implant, np.vstack([np.zeros(3), AXIS_LENGTH_MM * np.eye(3)]))


def draw_axes(row: FrameRow) -> ByteImage:
    """Both corrected images of a row side by side, with the axes of its implants: BGR, uint8.

    Parameters
    ----------
    row : a row of ``calibrated``, ``manual`` or ``target``, images decoded.

    Raises
    ------
    VeriserumError
        If a camera contradicts itself or its image.

    """
    images = []
    for plane in PLANES:
        camera = row[CAMERA_OF[plane]]
        if camera is None:
            continue
        grey = grey_of(row, plane)
        try:
            Camera.from_row(camera, grey.shape)
        except CalibrationError as error:
            raise VeriserumError(f"measurement {row['measurement_id']}, camera_{plane}: {error}") from error
        scale = _IMAGE_PX / len(grey)
        image = np.repeat(cv2.resize(grey, (_IMAGE_PX, _IMAGE_PX))[:, :, None], 3, axis=2).astype(np.uint8)
        for component in COMPONENTS:
            if (pose := row[component]) is not None:
                _draw(image, camera, pose, component, scale)
        write(image, plane, (14, 34), 0.9)
        images.append(image)
    caption = np.full((44, len(images) * _IMAGE_PX, 3), 20, np.uint8)
    frame = f"measurement {row['measurement_id']}, trial {row['trial_id']}, {row['task']}"
    axes = f"axes of the implants, {AXIS_LENGTH_MM:.0f} mm: x red, y green, z blue"
    write(caption, f"{frame}    {axes}", (14, 29), 0.6)
    return np.vstack([np.hstack(images), caption])


def _draw(image: ByteImage, camera: CameraRow, pose: PoseRow, label: str, scale: float) -> None:
    px = (project(axes_world_mm(pose), camera["intrinsics"], camera["world_to_camera"]) + 0.5) * scale - 0.5
    if np.isnan(px).any():  # at or behind the source
        return
    origin, *ends = [(round(float(x) * 16), round(float(y) * 16)) for x, y in px]
    for end, color in zip(ends, _AXIS_COLORS, strict=True):
        cv2.line(image, origin, end, color, 2, cv2.LINE_AA, shift=4)
    cv2.circle(image, origin, 16 * 4, (0, 220, 255), -1, cv2.LINE_AA, shift=4)
    write(image, f"{label} {pose['anatomy_id']}", (origin[0] // 16 - 80, origin[1] // 16 + 24), 0.5)


def grey_of(row: FrameRow, plane: PlaneName) -> ByteImage:
    """Corrected image of a row in eight bits; sixteen bits are scaled to the brightest pixel.

    Raises
    ------
    VeriserumError
        If the row has no image of this plane.

    """
    if row[IMAGE_OF[plane]] is None:
        raise VeriserumError(f"measurement {row['measurement_id']} has no {IMAGE_OF[plane]}; expected both planes")
    image = np.asarray(row[IMAGE_OF[plane]])
    grey = image if image.dtype == np.uint8 else np.clip(image / max(image.max(), 1) * 255, 0, 255)
    return grey.astype(np.uint8)


def write(image: ByteImage, text: str, at: tuple[int, int], scale: float) -> None:
    """White letters on a dark background, readable on any grey; ``at`` is the lower left corner, (column, row)."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    cv2.rectangle(image, (at[0] - 4, at[1] - height - 4), (at[0] + width + 4, at[1] + below), (20, 20, 20), -1)
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
