"""Outlines of implants at poses of several kinds: a row's labels, and poses from files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import trimesh
from numpy.typing import ArrayLike

from veriserum_hf.core import (
    COMPONENTS,
    INITIAL,
    ByteImage,
    Component,
    FileRow,
    FloatArray,
    FrameRow,
    LabelRow,
    PlaneName,
    PoseRow,
    Poses,
)
from veriserum_hf.errors import VeriserumError
from veriserum_hf.geometry import make_transform, quaternion_to_matrix, transform_points
from veriserum_hf.rendering import outline
from veriserum_hf.viewer.views import View, views_of

# Of Okabe and Ito, safe for colour-blind readers: sky blue, vermilion, yellow, reddish purple, bluish green; BGR.
COLORS = ((233, 180, 86), (0, 94, 213), (66, 228, 240), (167, 121, 204), (115, 158, 0))
# Lengths of dash and gap, px: where outlines coincide, the label's solid one is visible in the gaps of the others.
_DASHES_PX: tuple[tuple[float, float] | None, ...] = (None, (24, 16), (12, 14), (6, 12), (4, 12))
_SUBPIXEL_BITS = 4
_TOLERANCE_PX = 0.1  # of a simplified outline, well below what is visible
_FINE_PX = 900  # longer edge of the image with square pixels that outlines are traced in, to an eighth of these
_BORDER_PX = 2.0  # of that image: an outline that leaves it is closed along its border


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
    contours_px : closed, each (n, 2) as (column, row) in the plane's image.
    depth_mm : of the centre of the implant's bounding box, from the source along the camera's axis.

    """

    kind: int
    component: Component
    contours_px: list[FloatArray]
    depth_mm: float


@dataclass(frozen=True, eq=False)
class Traced:
    """One plane of a frame with the outlines of all poses."""

    view: View
    traces: list[Trace]

    def points(self, traced: Trace) -> FloatArray:
        """Points of an outline (n, 2), except those on the border of the image."""
        points = np.concatenate([np.empty((0, 2)), *traced.contours_px])
        border_px = _BORDER_PX * self.view.columns_rows / self.view.fitted(_FINE_PX)[::-1]
        inside = (points > border_px) & (points < self.view.columns_rows - 1 - border_px)
        return np.asarray(points[inside.all(axis=1)])


def label_of(row: LabelRow) -> PoseSet:
    """Poses of a row itself; their name in the legend states their kind: initial poses are no labels."""
    poses = {component: pose for component in COMPONENTS if (pose := row[component]) is not None}
    kinds = sorted({kind for pose in poses.values() if (kind := pose.get("kind"))})
    if kinds == [INITIAL]:
        return PoseSet("initial pose", poses)
    return PoseSet(f"label ({', '.join(kinds)})" if kinds else "label", poses)


def check_pose_sets(sets: int) -> None:
    """Raise VeriserumError if there are more kinds of pose than colours."""
    if sets > len(COLORS):
        raise VeriserumError(
            f"{sets - 1} files of poses cannot be distinguished in one image; give at most {len(COLORS) - 1}"
        )


def trace_planes(
    row: FrameRow | FileRow, sets: Sequence[PoseSet], meshes: Mapping[int, trimesh.Trimesh]
) -> dict[PlaneName, Traced]:
    """Outlines of all poses of a row in every plane that it has, in pixels of the plane's image.

    Parameters
    ----------
    row : a row of ``calibrated``, ``manual`` or ``target``; its images need not be decoded.
    sets : the poses; at most as many as `COLORS`.
    meshes : of the implants by anatomy id, mm.

    Raises
    ------
    VeriserumError
        If an implant has no mesh or cannot be drawn, a camera contradicts itself or its image, or there are more
        kinds of pose than colours.

    """
    check_pose_sets(len(sets))
    return {plane: Traced(view, _trace(view, plane, sets, meshes)) for plane, view in views_of(row).items()}


def _trace(
    view: View, plane: PlaneName, sets: Sequence[PoseSet], meshes: Mapping[int, trimesh.Trimesh]
) -> list[Trace]:
    found = []
    for kind, poses in enumerate(sets):
        for component in COMPONENTS:
            if (pose := poses.poses.get(component)) is None:
                continue
            name = f"{component} {pose['anatomy_id']} of {poses.name}"
            mesh = _mesh_of(pose, name, meshes)
            T_world_implant = make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])
            try:
                contours_px = _contours(view, mesh, T_world_implant)
            except ValueError as error:
                raise VeriserumError(f"{name} cannot be drawn in {plane}: {error}") from error
            centre_mm = transform_points(T_world_implant, mesh.bounds.mean(axis=0)[None])
            found.append(Trace(kind, component, contours_px, float(view.camera.depths_mm(centre_mm)[0])))
    return found


def _mesh_of(pose: PoseRow, name: str, meshes: Mapping[int, trimesh.Trimesh]) -> trimesh.Trimesh:
    if pose["anatomy_id"] not in meshes:
        raise VeriserumError(
            f"{name}: the data set has no mesh of this implant; its configuration anatomies holds "
            f"{', '.join(map(str, sorted(meshes))) or 'none'}"
        )
    return meshes[pose["anatomy_id"]]


def _contours(view: View, mesh: trimesh.Trimesh, T_world_implant: FloatArray) -> list[FloatArray]:
    """Outlines of equal precision whatever the size of the image: traced at one size, in pixels of the image."""
    fine = view.fitted(_FINE_PX)
    traced = outline(mesh, T_world_implant, view.camera.resized(view.size, fine), fine)
    step = view.columns_rows / fine[::-1]
    return [(contour + 0.5) * step - 0.5 for contour in traced]


def draw_traces(
    image: ByteImage, traces: Sequence[Trace], scale: ArrayLike = 1.0, shift_px: ArrayLike = (0, 0)
) -> None:
    """Draw thin lines: the label's solid and first, then the dashed ones of the others on top.

    Parameters
    ----------
    image : (rows, columns, 3) BGR, drawn into.
    traces : their pixels times ``scale`` plus ``shift_px`` are pixels of the image.
    scale, shift_px : as above, (column, row).

    """
    for traced in traces:
        for contour in traced.contours_px:
            line = _simplified(contour * np.asarray(scale) + np.asarray(shift_px, dtype=np.float64))
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
