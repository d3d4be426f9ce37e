"""The planes of a row with outlines of its implants, close-ups of these, and a legend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import trimesh
from scipy.spatial import KDTree

from veriserum_hf.core import COMPONENTS, ByteImage, FloatArray, FrameRow, PlaneName
from veriserum_hf.viewer.captions import DARK, frame_name, legend, wrapped, write
from veriserum_hf.viewer.crops import Crop, Scale, choose_crops
from veriserum_hf.viewer.outlines import PoseSet, Trace, Traced, draw_traces, trace_planes
from veriserum_hf.viewer.views import grey_of

SIZE_PX = 900  # of a plane in the image
CLOSE_UP_PX = 225  # four below a plane with both implants; with one, two of twice the size
CLOSE_UP_MM = 9.0  # edge, at least
_ABOUT_LINES = 1.5  # edge of a close-up, at least, relative to the distance of its outlines
_BARS_MM, _LEAST_BAR_PX = (1, 10), 5
_LETTERS = 0.6  # of the legend


@dataclass(frozen=True, eq=False)
class Spot:
    """Location of a close-up.

    Attributes
    ----------
    number : shown in the image.
    component : the implant.
    at_px : (column, row) of its centre in the plane's image.
    edge_mm : of the close-up.

    """

    number: int
    component: str
    at_px: FloatArray
    edge_mm: float


def draw_outlines(row: FrameRow, sets: Sequence[PoseSet], meshes: Mapping[int, trimesh.Trimesh]) -> ByteImage:
    """Every plane cropped to the outlines, below each two close-ups per implant, and a legend: BGR, uint8.

    One close-up is where an outline is farthest from the label's (with one kind of pose, at its leftmost point), the
    other at the point of the outline farthest from that. Both show the outlines of all kinds of pose. Lengths are
    those on the detector, or where its distance is unknown, at the depth of the implants.

    Parameters
    ----------
    row : a row of ``calibrated``, ``manual`` or ``target``, images decoded.
    sets : the row's label (`veriserum_hf.viewer.outlines.label_of`) and other poses of the same frame.
    meshes : of the implants by anatomy id, mm.

    Raises
    ------
    VeriserumError
        If an implant has no mesh or cannot be drawn, a camera contradicts itself or its image, or there are more
        kinds of pose than colours.

    """
    planes = trace_planes(row, sets, meshes)
    scale = Scale.of({plane: [traced] for plane, traced in planes.items()})
    crops = choose_crops({plane: [traced] for plane, traced in planes.items()}, SIZE_PX, scale)
    spots = {plane: choose_spots(traced, crops[plane].mm_per_px) for plane, traced in planes.items()}
    most = max(map(len, spots.values()))
    close_up_px = 4 * CLOSE_UP_PX // most if most else 0
    images = [
        _draw_plane(row, plane, traced, crops[plane], spots[plane], close_up_px) for plane, traced in planes.items()
    ]
    about = scale.stated(crops)
    if scale.where and most:
        about += " above; close-ups have scale bars"
        if len(sets) > 1:
            about += " and show the largest difference of outlines, and the opposite side"
    width = len(images) * SIZE_PX
    lines = [line for text in (frame_name(row), about) for line in wrapped(text, width, _LETTERS)]
    return np.vstack([np.hstack(images), legend(lines, sets, width, _LETTERS)])


def choose_spots(plane: Traced, mm_per_px: FloatArray) -> list[Spot]:
    """Two close-ups per implant, see `draw_outlines`; nothing for an implant outside the image.

    Parameters
    ----------
    plane : one plane of a frame.
    mm_per_px : edges of a pixel of its image, (along columns, along rows) mm.

    """
    spots: list[Spot] = []
    for component in COMPONENTS:
        points = [plane.points(traced) * mm_per_px for traced in plane.traces if traced.component == component]
        first, *others = [each for each in points if len(each)] or [np.empty((0, 2))]
        if not len(first):
            continue
        nearest = [KDTree(each).query(first) for each in others]
        at = np.argmax(np.max([apart for apart, _ in nearest], axis=0)) if others else np.argmin(first[:, 0])
        away = np.argmax(np.linalg.norm(first - first[at], axis=1))
        for index in (at, away):
            shown = [first[index], *(each[near[index]] for each, (_, near) in zip(others, nearest, strict=True))]
            low, high = np.min(shown, axis=0), np.max(shown, axis=0)
            edge_mm = max(CLOSE_UP_MM, _ABOUT_LINES * float((high - low).max()))
            spots.append(Spot(len(spots) + 1, component, (low + high) / 2 / mm_per_px, edge_mm))
    return spots


def _draw_plane(
    row: FrameRow, plane: PlaneName, traced: Traced, crop: Crop, spots: Sequence[Spot], close_up_px: int
) -> ByteImage:
    """One plane and the strip of its close-ups, which has no rows where there are none in any plane."""
    grey = grey_of(row, plane)
    image = crop.cut(grey)
    draw_traces(image, traced.traces, crop.scale, crop.shift_px)
    strip = np.full((close_up_px, SIZE_PX, 3), DARK, np.uint8)
    for spot in spots:
        _mark(image, spot, crop)
        left = (spot.number - 1) * close_up_px
        strip[:, left : left + close_up_px] = _close_up(grey, traced.traces, spot, crop.mm_per_px, close_up_px)
    write(image, plane, (14, 34), 0.9)
    return np.vstack([image, strip])


def _mark(image: ByteImage, spot: Spot, crop: Crop) -> None:
    center_px, half = spot.at_px * crop.scale + crop.shift_px, spot.edge_mm * crop.px_per_mm / 2
    low, high = (tuple(np.rint(center_px + side * half).astype(int).tolist()) for side in (-1, 1))
    for outwards, shade in ((1, DARK), (0, 255)):  # visible on any grey
        first, last = (low[0] - outwards, low[1] - outwards), (high[0] + outwards, high[1] + outwards)
        cv2.rectangle(image, first, last, (shade,) * 3, 1)
    write(image, str(spot.number), (low[0] + 4, low[1] - 8), 0.45)


def _close_up(grey: ByteImage, traces: Sequence[Trace], spot: Spot, mm_per_px: FloatArray, size_px: int) -> ByteImage:
    crop = Crop(spot.at_px, mm_per_px, spot.edge_mm, size_px)
    image = crop.cut(grey)
    draw_traces(image, traces, crop.scale, crop.shift_px)
    right = row = size_px - 12
    bar_mm = next((mm for mm in _BARS_MM if mm * crop.px_per_mm >= _LEAST_BAR_PX), _BARS_MM[-1])
    left = right - round(bar_mm * crop.px_per_mm)
    for width, shade in ((5, DARK), (2, 255)):
        cv2.line(image, (left, row), (right, row), (shade,) * 3, width)
    write(image, f"{bar_mm} mm", (right - 44, row - 8), 0.4)
    image[:, -1] = DARK
    write(image, f"{spot.number} {spot.component}", (6, 18), 0.45)
    return image
