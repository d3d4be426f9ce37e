"""Images of any camera on the canvas of a model: its size, about the size of its pixels, and the camera that fits.

A model takes N x N images in which implants appear as large as in the image of a whole Veriserum intensifier, 360 mm
wide. An image of another size, shape or pixel is scaled and put into such a canvas, and its intrinsics follow
exactly: implants keep their poses in the world. Pixels are ``(column, row)``, integers at their centres.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn import functional
from transformers.utils import logging

FIELD_MM = 360.0  # edge of the image of a whole Veriserum intensifier
_ORIGIN_MM = FIELD_MM / 2 + FIELD_MM / 1600 / 2  # from the first pixel's corner of this image to 0 mm
# Of the nominal Veriserum rig: from the source to the intensifiers, and to where the central rays cross.
_SID_MM, _DEPTH_MM = 1860.0, 1480.0
# Scales so near to 1 mean less than how implants and rigs differ: then pixels are kept as they are. Without
# pixel_size_mm the scale itself is known no better than that.
_SAME_SCALE, _SAME_ROUGH_SCALE = 0.01, 0.1
_FOCAL_TOLERANCE, _TOLERANCE_MM = 1e-3, 1.0  # what describes intrinsics may be rounded
_LEAST_FIELD = 1 / 6  # of FIELD_MM, 60 mm: a knee implant is larger; the reciprocal is the most
_RIM = 32  # parts of an image's shorter edge, of which one is the width of its rim
_LEAST_SINE = 0.3  # of the angle between two planes whose rays cross at a depth that is certain
_logger = logging.get_logger(__name__)

PlaneT = TypeVar("PlaneT", bound=str)
Camera = Mapping[str, Any]  # of a row


def fit(
    images: Mapping[PlaneT, np.ndarray], cameras: Mapping[PlaneT, Mapping[str, object]], size: int
) -> dict[PlaneT, tuple[np.ndarray, np.ndarray]]:
    """Bring the images of one frame, and their cameras, to a model's canvas.

    An image is scaled, each axis on its own, so that its pixel becomes 360 mm / ``size`` of the detector. Where
    ``pixel_size_mm`` is unknown, an object where the rays through the centres of both images meet becomes as large
    as in the Veriserum rig; with one plane, the focal length becomes that of this rig. Pixels are kept as they are
    where the scale is 1 within 1 %, or 10 % where pixel_size_mm is unknown. An image that would be larger than the
    canvas is reduced as a whole, so that no implant is lost; above 10 %, a warning is logged.

    A part of a Veriserum image is put where it was, any other image into the centre. The rest continues the image's
    rim, so that no edge appears there.

    Parameters
    ----------
    images : by plane, (rows, columns) grey levels.
    cameras : by plane, ``camera_*`` of a row; ``intrinsics`` and ``world_to_camera`` count, the other fields may be
        missing or None.
    size : edge N of the canvas, px.

    Returns
    -------
    By plane, image (N, N) and intrinsics (3, 3); an image that already fits is returned itself, with its intrinsics.
    Images of 8 bits stay so, others become float32 where they are scaled.

    Raises
    ------
    ValueError
        If an image is not grey, its camera contradicts itself or the image's size, or it shows a field in which no
        knee implant can be. The plane and both numbers are named.

    """
    for plane, image in images.items():
        if image.ndim != 2 or not image.size:
            shape = " x ".join(map(str, image.shape))
            raise ValueError(f"image_{plane} is {shape} px, expected rows and columns of one grey channel")
    intrinsics = {plane: _intrinsics(cameras[plane], f"camera_{plane}") for plane in images}
    centers_px = {plane: (np.array(image.shape[::-1]) - 1) / 2 for plane, image in images.items()}
    found: dict[PlaneT, tuple[np.ndarray, np.ndarray]] = {}
    for plane, image in images.items():
        K, shape_px = intrinsics[plane], np.array(image.shape[::-1])
        camera: Camera = cameras[plane]
        corner_px = _corner_px(camera, K, shape_px, plane)
        pixel_mm = camera.get("pixel_size_mm")
        if pixel_mm is not None:
            focal_mm, tolerance = np.sqrt(K[0, 0] * K[1, 1]) * pixel_mm, _SAME_SCALE
        else:
            focal_mm, tolerance = _usual_focal_mm(plane, intrinsics, cameras, centers_px), _SAME_ROUGH_SCALE
        scale = focal_mm * size / FIELD_MM / K.diagonal()[:2]
        to_px = _scaled_px(shape_px, scale, size, tolerance, plane)
        if (to_px == shape_px).all() and (to_px == size).all():
            found[plane] = image, K
            continue
        ratio = to_px / shape_px
        first_px = (size - to_px) // 2 if corner_px is None else np.rint(corner_px * ratio).astype(int)
        first_px = first_px.clip(0, size - to_px)
        found[plane] = _placed(_resized(image, to_px), first_px, size), _moved(K, ratio, first_px)
    return found


def _moved(K: np.ndarray, ratio: np.ndarray, first_px: np.ndarray) -> np.ndarray:
    """Intrinsics of an image after it was scaled from edge to edge, and put at a pixel of a larger one."""
    moved = K.copy()
    moved[[0, 1], [0, 1]] *= ratio
    moved[:2, 2] = (K[:2, 2] + 0.5) * ratio - 0.5 + first_px
    return moved


def _intrinsics(camera: Camera, name: str) -> np.ndarray:
    """Intrinsics (3, 3) of a row's camera, compared with the fields that describe them."""
    K = np.array(camera["intrinsics"], dtype=np.float64)
    if K.shape != (3, 3) or not np.isfinite(K).all() or not (K[0, 0] > 0 and K[1, 1] > 0):
        raise ValueError(f"{name}: intrinsics is {K.tolist()}; expected 3 x 3 finite px and positive focal lengths")
    if K[0, 1] or K[1, 0]:
        raise ValueError(f"{name}: intrinsics has a skew of {K[0, 1]:g} px, expected none")
    for field in ("pixel_size_mm", "source_to_intensifier_mm"):
        value = camera.get(field)
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ValueError(
                f"{name}: {field} is {value}; expected a positive number of mm, or null if it is unknown"
            )
    pixel_mm, sid_mm = camera.get("pixel_size_mm"), camera.get("source_to_intensifier_mm")
    if pixel_mm is not None and sid_mm is not None:
        focal_px, (fx, fy) = sid_mm / pixel_mm, K.diagonal()[:2]
        if not min(fx, fy) * (1 - _FOCAL_TOLERANCE) <= focal_px <= max(fx, fy) * (1 + _FOCAL_TOLERANCE):
            raise ValueError(
                f"{name}: intrinsics has focal lengths of {fx:.2f} and {fy:.2f} px, but source_to_intensifier_mm "
                f"{sid_mm:.2f} and pixel_size_mm {pixel_mm:.4f} give {focal_px:.2f} px; correct the wrong ones"
            )
    return K


def _corner_px(camera: Camera, K: np.ndarray, shape_px: np.ndarray, plane: str) -> np.ndarray | None:
    """First pixel of an image in that of the whole Veriserum intensifier that it is a part of; else None."""
    pixel_mm, foot_mm = camera.get("pixel_size_mm"), camera.get("principal_point_mm")
    if pixel_mm is None or foot_mm is None:
        return None
    tolerance_px, whole_px = _TOLERANCE_MM / pixel_mm, FIELD_MM / pixel_mm
    foot_px = np.asarray(foot_mm, dtype=np.float64) * (1.0, -1.0) / pixel_mm
    in_whole_px, centered_px = foot_px + _ORIGIN_MM / pixel_mm - 0.5, foot_px + (shape_px - 1) / 2
    corner_px: np.ndarray = in_whole_px - K[:2, 2]
    is_whole, moved = (np.abs(shape_px - whole_px) < 0.5).all(), (np.abs(corner_px) >= 0.5).any()
    inside = (corner_px >= -tolerance_px).all() and (corner_px + shape_px <= whole_px + tolerance_px).all()
    if inside and moved and not is_whole:
        return corner_px
    if (np.abs(centered_px - K[:2, 2]) <= tolerance_px).all():
        return None
    columns, rows = shape_px
    if is_whole or (moved and (shape_px > whole_px + tolerance_px).any()):
        expected_px = in_whole_px if is_whole else centered_px
        raise ValueError(
            f"camera_{plane}: intrinsics has its principal point at ({K[0, 2]:.2f}, {K[1, 2]:.2f}) px, but "
            f"principal_point_mm gives ({expected_px[0]:.2f}, {expected_px[1]:.2f}) px in an image of {columns} x "
            f"{rows} px; correct the wrong one"
        )
    raise ValueError(
        f"image_{plane} is {columns} x {rows} px, but its camera is that of an image of {whole_px:.0f} px "
        f"(pixel_size_mm {pixel_mm:.4f}); give the camera of the image as it is: one that was resized has other "
        "intrinsics and another pixel size, one that was cropped another principal point"
    )


def _usual_focal_mm(
    plane: str,
    intrinsics: Mapping[PlaneT, np.ndarray],
    cameras: Mapping[PlaneT, Camera],
    centers_px: Mapping[PlaneT, np.ndarray],
) -> float:
    """Focal length, on a detector of 360 mm, at which implants appear as large as in the nominal rig."""
    if len(intrinsics) == 1:
        return _SID_MM
    rays = {}
    for name, T in ((name, np.asarray(cameras[name]["world_to_camera"], dtype=np.float64)) for name in intrinsics):
        K = intrinsics[name]
        slope = (centers_px[name] - K[:2, 2]) / K.diagonal()[:2]
        rays[name] = -T[:3, 3] @ T[:3, :3], np.append(slope, 1.0) @ T[:3, :3]
    (source, ray), (other_source, other) = (rays[name] for name in sorted(rays, key=lambda name: name != plane))
    # The point source + depth ray, of the camera's own depth since slopes have z = 1, is nearest to the other ray.
    (a, b), c = (ray @ ray, ray @ other), other @ other
    if 1 - b**2 / (a * c) < _LEAST_SINE**2:
        return _SID_MM
    baseline = other_source - source
    depth_mm = float((c * (ray @ baseline) - b * (other @ baseline)) / (a * c - b**2))
    return _SID_MM * depth_mm / _DEPTH_MM if depth_mm > 0 else _SID_MM


def _scaled_px(shape_px: np.ndarray, scale: np.ndarray, size: int, tolerance: float, plane: str) -> np.ndarray:
    """(columns, rows) of an image after scaling that the canvas can hold."""
    columns, rows = shape_px
    field = float((shape_px * scale).max() / size)
    if not _LEAST_FIELD <= field <= 1 / _LEAST_FIELD:
        raise ValueError(
            f"image_{plane} of {columns} x {rows} px shows, by its camera, as much as {field * FIELD_MM:.3g} mm of "
            f"the Veriserum intensifier do, expected {_LEAST_FIELD * FIELD_MM:.0f} to "
            f"{FIELD_MM / _LEAST_FIELD:,.0f} mm; is pixel_size_mm or world_to_camera in another unit?"
        )
    fitting = scale / max(1.0, field)
    if (np.abs(fitting - 1) <= tolerance).all() and (shape_px <= size).all():
        return shape_px
    if field > 1 + _SAME_ROUGH_SCALE:
        _logger.warning_once(
            f"image_{plane} of {columns} x {rows} px shows more than the model's {size} x {size} px do: it is "
            f"reduced to {100 / field:.0f} % of the scale that the model was trained on, so that nothing of it is "
            "lost; poses are more precise where the image is cropped around the implants, with its camera"
        )
    return np.rint(shape_px * fitting).astype(int).clip(1, size)


def _resized(image: np.ndarray, to_px: np.ndarray) -> np.ndarray:
    """An image (rows, columns) of ``to_px`` (columns, rows), from edge to edge, without aliasing."""
    if image.shape == tuple(to_px[::-1]):
        return image
    grey = torch.from_numpy(image.astype(np.float32))[None, None]
    resized = functional.interpolate(grey, tuple(to_px[::-1].tolist()), mode="bilinear", antialias=True)[0, 0].numpy()
    return np.rint(resized).clip(0, 255).astype(np.uint8) if image.dtype == np.uint8 else resized


def _placed(image: np.ndarray, first_px: np.ndarray, size: int) -> np.ndarray:
    """A canvas (size, size) with an image in it, whose rim is continued over the rest, so that no edge appears."""
    (column, row), (rows, columns) = first_px.tolist(), image.shape
    beside = (row, size - rows - row), (column, size - columns - column)
    return np.pad(image, beside, mode="mean", stat_length=max(1, min(rows, columns) // _RIM))
