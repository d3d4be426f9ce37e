"""Outlines of implants at poses of several kinds: a row's labels, and poses from files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import trimesh
from numpy.typing import ArrayLike

from veriserum_hf.core import CAMERA_OF, COMPONENTS, ByteImage, Component, FloatArray, LabelRow, PlaneName, Poses
from veriserum_hf.errors import CalibrationError, VeriserumError
from veriserum_hf.geometry import Plane, make_transform, quaternion_to_matrix
from veriserum_hf.rendering import outline

# Of Okabe and Ito, safe for colour-blind readers: sky blue, vermilion, yellow, reddish purple, bluish green; BGR.
COLORS = ((233, 180, 86), (0, 94, 213), (66, 228, 240), (167, 121, 204), (115, 158, 0))
# Lengths of dash and gap, px: where outlines coincide, the label's solid one is visible in the gaps of the others.
_DASHES_PX: tuple[tuple[float, float] | None, ...] = (None, (24, 16), (12, 14), (6, 12), (4, 12))
_SUBPIXEL_BITS = 4
_TOLERANCE_PX = 0.1  # of a simplified outline, well below what is visible


@dataclass(frozen=True)
class PoseSet:
    """Poses of one kind in one frame.

    Attributes
    ----------
    name : in the legend.
    poses : by component (``"femur"``, ``"tibia"``), each with ``anatomy_id``, ``translation_mm``,
        ``quaternion_xyzw`` and, if its file has one, ``verdict``.

    """

    name: str
    poses: Poses


@dataclass(frozen=True, eq=False)
class Trace:
    """One implant's outline in one plane.

    Attributes
    ----------
    kind : number of its `PoseSet`, which determines its colour and dashes.
    component : ``"femur"`` or ``"tibia"``.
    contours_px : closed, each (n, 2) as (column, row) in an image of the traced size.

    """

    kind: int
    component: Component
    contours_px: list[FloatArray]


def label_of(row: LabelRow) -> PoseSet:
    """Poses of a row itself; their name in the legend states their kind."""
    poses = {component: pose for component in COMPONENTS if (pose := row[component]) is not None}
    kinds = sorted({pose["kind"] for pose in poses.values()})
    return PoseSet(f"label ({', '.join(kinds)})" if kinds else "label", poses)


def check_pose_sets(sets: int) -> None:
    """Raise VeriserumError if there are more kinds of pose than colours."""
    if sets > len(COLORS):
        raise VeriserumError(
            f"{sets - 1} files of poses cannot be distinguished in one image; give at most {len(COLORS) - 1}"
        )


def trace(
    row: LabelRow,
    plane: PlaneName,
    sets: Sequence[PoseSet],
    meshes: Mapping[int, trimesh.Trimesh],
    size: int,
) -> list[Trace]:
    """Outlines of all poses of a row in one plane, in pixels of its corrected image at ``size`` x ``size``.

    Parameters
    ----------
    row : a row of ``calibrated``, ``manual`` or ``target``.
    plane : ``"bs"`` or ``"fs"``.
    sets : the poses; at most as many as `COLORS`.
    meshes : of the implants by anatomy id, mm.
    size : edge of the image, px.

    Raises
    ------
    VeriserumError
        If an implant has no mesh or cannot be drawn, or the camera contradicts itself or is that of a cropped image.

    """
    check_pose_sets(len(sets))
    stored = row[CAMERA_OF[plane]]
    if stored is None:
        return []
    try:
        camera = Plane.from_camera(stored)
    except CalibrationError as error:
        raise VeriserumError(f"measurement {row['measurement_id']}, camera_{plane}: {error}") from error
    return [
        Trace(kind, component, _contours(camera, plane, poses, component, meshes, size))
        for kind, poses in enumerate(sets)
        for component in COMPONENTS
        if component in poses.poses
    ]


def _contours(
    camera: Plane,
    plane: PlaneName,
    poses: PoseSet,
    component: Component,
    meshes: Mapping[int, trimesh.Trimesh],
    size: int,
) -> list[FloatArray]:
    pose = poses.poses[component]
    name = f"{component} {pose['anatomy_id']} of {poses.name}"
    if pose["anatomy_id"] not in meshes:
        raise VeriserumError(
            f"{name}: the data set has no mesh of this implant; its configuration anatomies holds "
            f"{', '.join(map(str, sorted(meshes))) or 'none'}"
        )
    T_world_implant = make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])
    try:
        return outline(meshes[pose["anatomy_id"]], T_world_implant, camera, size)
    except ValueError as error:
        raise VeriserumError(f"{name} cannot be drawn in {plane}: {error}") from error


def draw_traces(image: ByteImage, traces: Sequence[Trace], scale: float = 1.0, shift_px: ArrayLike = (0, 0)) -> None:
    """Draw thin lines: the label's solid and first, then the dashed ones of the others on top.

    Parameters
    ----------
    image : (rows, columns, 3) BGR, drawn into.
    traces : their pixels times ``scale`` plus ``shift_px`` are pixels of the image.
    scale, shift_px : as above; shift as (column, row).

    """
    for traced in traces:
        for contour in traced.contours_px:
            line = _simplified(contour * scale + np.asarray(shift_px, dtype=np.float64))
            _draw_line(image, line, traced.kind)


def draw_sample(image: ByteImage, kind: int, left: int, row: int, width: int) -> None:
    """Draw a straight piece of a kind's line, for a legend."""
    _draw_line(image, np.array([[left, row], [left + width, row]], dtype=np.float64), kind)


def _draw_line(image: ByteImage, line: FloatArray, kind: int) -> None:
    dashes = _DASHES_PX[kind]
    for piece in [line] if dashes is None else _dashed(line, *dashes):
        points = np.rint(piece * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.polylines(image, [points], False, COLORS[kind], 1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _simplified(contour: FloatArray) -> FloatArray:
    """Closed line simplified to few points: many short antialiased lines would add up to a thick one."""
    corners = cv2.approxPolyDP(contour.astype(np.float32)[:, None], _TOLERANCE_PX, True)[:, 0]
    return np.concatenate([corners, corners[:1]]).astype(np.float64)


def _dashed(line: FloatArray, dash_px: float, gap_px: float) -> list[FloatArray]:
    """Dashes of one length along a line (n, 2)."""
    at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    pieces = []
    for start in np.arange(0.0, at[-1], dash_px + gap_px):
        end = min(start + dash_px, at[-1])
        along = np.concatenate([[start], at[(at > start) & (at < end)], [end]])
        pieces.append(np.stack([np.interp(along, at, line[:, axis]) for axis in (0, 1)], axis=1))
    return pieces
