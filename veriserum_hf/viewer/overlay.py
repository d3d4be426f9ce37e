"""The planes of a row with its implants' axes, drawn by the row's own cameras alone."""

import cv2
import numpy as np

from veriserum_hf.core import COMPONENTS, ByteImage, FloatArray, FrameRow, PlaneName, PoseRow
from veriserum_hf.geometry import Camera, make_transform, quaternion_to_matrix, transform_points
from veriserum_hf.viewer.captions import DARK, wrapped, write
from veriserum_hf.viewer.views import View, grey_of, views_of

AXIS_LENGTH_MM = 40.0
# x red, y green, z blue, by convention; BGR.
_AXIS_COLORS = ((60, 60, 240), (60, 200, 60), (240, 140, 40))
_IMAGE_PX, _LETTERS = 640, 0.6
_FARTHEST_PX = 1e5  # from an image, of what can be drawn


def axes_world_mm(pose: PoseRow) -> FloatArray:
    """Origin and the ends of the x, y and z axis of a row's ``femur`` or ``tibia``, (4, 3) mm."""
    T_world_implant = make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])
    return transform_points(T_world_implant, np.vstack([np.zeros(3), AXIS_LENGTH_MM * np.eye(3)]))


def draw_axes(row: FrameRow) -> ByteImage:
    """Corrected images of a row side by side, with the axes of its implants: BGR, uint8.

    Each is fitted into a square of its own, with square pixels.

    Parameters
    ----------
    row : a row of ``calibrated``, ``manual`` or ``target``, images decoded.

    Raises
    ------
    VeriserumError
        If no plane has a camera, a plane has an image or a camera alone, or a camera contradicts itself or its image.

    """
    images = [_draw_plane(row, plane, view) for plane, view in views_of(row).items()]
    width = len(images) * _IMAGE_PX
    frame = f"measurement {row['measurement_id']}, trial {row['trial_id']}, {row['task'] or 'unknown task'}"
    axes = f"axes of the implants, {AXIS_LENGTH_MM:.0f} mm: x red, y green, z blue"
    if not any(row[component] for component in COMPONENTS):
        axes = "no pose of this frame"
    lines = [f"{frame}    {axes}"] if len(images) > 1 else [frame, *wrapped(axes, width, _LETTERS)]
    caption = np.full((15 + 29 * len(lines), width, 3), DARK, np.uint8)
    for number, line in enumerate(lines, 1):
        write(caption, line, (14, 29 * number), _LETTERS)
    return np.vstack([np.hstack(images), caption])


def _draw_plane(row: FrameRow, plane: PlaneName, view: View) -> ByteImage:
    rows, columns = view.fitted(_IMAGE_PX)
    shown = cv2.resize(grey_of(row, plane), (columns, rows), interpolation=cv2.INTER_LINEAR)
    top, left = (_IMAGE_PX - rows) // 2, (_IMAGE_PX - columns) // 2
    image = np.full((_IMAGE_PX, _IMAGE_PX, 3), DARK, np.uint8)
    image[top : top + rows, left : left + columns] = shown[:, :, None]
    camera = view.camera.resized(view.size, (rows, columns)).cropped((-left, -top))
    for component in COMPONENTS:
        if (pose := row[component]) is not None:
            _draw(image, camera, pose, component)
    write(image, plane, (14, 34), 0.9)
    return image


def _draw(image: ByteImage, camera: Camera, pose: PoseRow, label: str) -> None:
    px = camera.project(axes_world_mm(pose))
    if not (np.abs(px) < _FARTHEST_PX).all():  # NaN at or behind the source
        return
    origin, *ends = [(round(float(x) * 16), round(float(y) * 16)) for x, y in px]
    for end, color in zip(ends, _AXIS_COLORS, strict=True):
        cv2.line(image, origin, end, color, 2, cv2.LINE_AA, shift=4)
    cv2.circle(image, origin, 16 * 4, (0, 220, 255), -1, cv2.LINE_AA, shift=4)
    write(image, f"{label} {pose['anatomy_id']}", (origin[0] // 16 - 80, origin[1] // 16 + 24), 0.5)
