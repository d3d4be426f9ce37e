"""Both planes of a row with outlines of its implants, close-ups of these, and a legend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import trimesh
from scipy.spatial import KDTree

from veriserum_hf.core import COMPONENTS, PLANES, ByteImage, FloatArray, FrameRow, LabelRow, PlaneName, PoseRow
from veriserum_hf.geometry import FIELD_MM, pixel_size_mm
from veriserum_hf.viewer.outlines import PoseSet, Trace, draw_sample, draw_traces, trace
from veriserum_hf.viewer.overlay import grey_of, write

SIZE_PX = 900  # of a plane in the image
CLOSE_UP_PX = 225  # four below a plane
CLOSE_UP_MM = 9.0  # on the intensifier, at least
_ABOUT_LINES = 1.5  # edge of a close-up, at least, relative to the distance of its outlines
_BARS_MM, _LEAST_BAR_PX = (1, 10), 5
_FINE_PX = 900  # edge of the image of the whole field that outlines are traced in: to 0.05 mm on the intensifier
_MARGIN, _LEAST_MM = 1.15, 100.0  # of the crop: relative to the outlines, and its least edge
_BORDER_PX = 2.0  # an outline that leaves the field is closed along its border
_DARK = 20


@dataclass(frozen=True, eq=False)
class Crop:
    """A square crop of a plane.

    Attributes
    ----------
    center_px : (column, row) in the image that outlines are traced in.
    edge_mm : of the crop, on the intensifier.
    size : of the resulting image, px.

    """

    center_px: FloatArray
    edge_mm: float
    size: int

    @property
    def px_per_mm(self) -> float:
        """Pixels of the image per mm on the intensifier."""
        return self.size / self.edge_mm

    @property
    def scale(self) -> float:
        """Pixels of the image per pixel that outlines are traced in."""
        return self.px_per_mm * pixel_size_mm(_FINE_PX)

    @property
    def shift_px(self) -> FloatArray:
        """Position in the image of pixel (0, 0) that outlines are traced in; centres are at integers in both."""
        return np.asarray((self.size - 1) / 2 - self.center_px * self.scale)

    def cut(self, grey: ByteImage) -> ByteImage:
        """Part of a corrected image of any size, in BGR, to be drawn into."""
        stored = len(grey) / _FINE_PX
        first = ((0 - self.shift_px) / self.scale + 0.5) * stored - 0.5
        step = stored / self.scale
        to_stored = np.array([[step, 0, first[0]], [0, step, first[1]]])
        how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        shown = cv2.warpAffine(grey, to_stored, (self.size, self.size), flags=how, borderValue=_DARK)
        return np.repeat(shown[:, :, None], 3, axis=2).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Spot:
    """Location of a close-up.

    Attributes
    ----------
    number : shown in the image.
    component : the implant.
    at_px : (column, row) of its centre, as traced.
    edge_mm : of the close-up, on the intensifier.

    """

    number: int
    component: str
    at_px: FloatArray
    edge_mm: float


def draw_outlines(row: FrameRow, sets: Sequence[PoseSet], meshes: Mapping[int, trimesh.Trimesh]) -> ByteImage:
    """Both planes cropped to the outlines, below each two close-ups per implant, and a legend: BGR, uint8.

    One close-up is where an outline is farthest from the label's (with one kind of pose, at its leftmost point), the
    other at the point of the outline farthest from that. Both show the outlines of all kinds of pose.

    Parameters
    ----------
    row : a row of ``calibrated``, ``manual`` or ``target``, images decoded.
    sets : the row's label (`veriserum_hf.viewer.outlines.label_of`) and other poses of the same frame.
    meshes : of the implants by anatomy id, mm.

    Raises
    ------
    VeriserumError
        If an implant has no mesh or cannot be drawn, or there are more kinds of pose than colours.

    """
    traces = trace_planes(row, sets, meshes)
    crops = choose_crops(traces, SIZE_PX)
    images = [_draw_plane(row, plane, traces[plane], crops[plane]) for plane in PLANES]
    px_per_mm = crops["bs"].px_per_mm
    about = f"1 mm on the intensifier is {px_per_mm:.1f} px above; close-ups have scale bars"
    if len(sets) > 1:
        about += " and show the largest difference of outlines, and the opposite side"
    return np.vstack([np.hstack(images), legend([frame_name(row), about], sets, 2 * SIZE_PX, 0.6)])


def trace_planes(
    row: LabelRow, sets: Sequence[PoseSet], meshes: Mapping[int, trimesh.Trimesh]
) -> dict[PlaneName, list[Trace]]:
    """Outlines in both planes, in the pixels of `Crop.center_px`; parameters and errors as `draw_outlines`."""
    return {plane: trace(row, plane, sets, meshes, _FINE_PX) for plane in PLANES}


def choose_crops(traces: Mapping[PlaneName, Sequence[Trace]], size: int) -> dict[PlaneName, Crop]:
    """Crop of each plane: all outlines, both planes at one scale; the whole field without outlines.

    Parameters
    ----------
    traces : of `trace_planes`, of one frame or several.
    size : edge of each plane's image, px.

    """
    corners: dict[PlaneName, tuple[FloatArray, FloatArray]] = {}
    for plane, traced in traces.items():
        points = np.concatenate([np.empty((0, 2)), *(_points(one) for one in traced)])
        if len(points):
            corners[plane] = points.min(axis=0), points.max(axis=0)
    needed_mm = max((float((high - low).max()) for low, high in corners.values()), default=np.inf)
    edge_mm = min(max(_MARGIN * needed_mm * pixel_size_mm(_FINE_PX), _LEAST_MM), FIELD_MM)
    # The crop stays in the field.
    least_px = edge_mm / pixel_size_mm(_FINE_PX) / 2 - 0.5
    crops = {}
    for plane in traces:
        low, high = corners.get(plane, (np.zeros(2), np.full(2, _FINE_PX - 1.0)))
        center_px = np.clip((low + high) / 2, least_px, _FINE_PX - 1 - least_px)
        crops[plane] = Crop(center_px, edge_mm, size)
    return crops


def choose_spots(traces: Sequence[Trace]) -> list[Spot]:
    """Two close-ups per implant, see `draw_outlines`; nothing for an implant outside the field."""
    spots: list[Spot] = []
    for component in COMPONENTS:
        points = [_points(traced) for traced in traces if traced.component == component]
        first, *others = [each for each in points if len(each)] or [np.empty((0, 2))]
        if not len(first):
            continue
        nearest = [KDTree(each).query(first) for each in others]
        at = np.argmax(np.max([apart for apart, _ in nearest], axis=0)) if others else np.argmin(first[:, 0])
        away = np.argmax(np.linalg.norm(first - first[at], axis=1))
        for index in (at, away):
            shown = [first[index], *(each[near[index]] for each, (_, near) in zip(others, nearest, strict=True))]
            spots.append(_spot(len(spots) + 1, component, np.array(shown)))
    return spots


def _spot(number: int, component: str, shown_px: FloatArray) -> Spot:
    """Close-up around points (n, 2) that must be in it."""
    low, high = shown_px.min(axis=0), shown_px.max(axis=0)
    apart_mm = float((high - low).max()) * pixel_size_mm(_FINE_PX)
    return Spot(number, component, (low + high) / 2, max(CLOSE_UP_MM, _ABOUT_LINES * apart_mm))


def _points(traced: Trace) -> FloatArray:
    """Points of an outline (n, 2), except those on the field's border."""
    points = np.concatenate([np.empty((0, 2)), *traced.contours_px])
    inside = (points > _BORDER_PX) & (points < _FINE_PX - 1 - _BORDER_PX)
    return np.asarray(points[inside.all(axis=1)])


def _draw_plane(row: FrameRow, plane: PlaneName, traces: Sequence[Trace], crop: Crop) -> ByteImage:
    """One plane and the strip of its close-ups."""
    grey = grey_of(row, plane)
    image = crop.cut(grey)
    draw_traces(image, traces, crop.scale, crop.shift_px)
    strip = np.full((CLOSE_UP_PX, SIZE_PX, 3), _DARK, np.uint8)
    for spot in choose_spots(traces):
        _mark(image, spot, crop)
        left = (spot.number - 1) * CLOSE_UP_PX
        strip[:, left : left + CLOSE_UP_PX] = _close_up(grey, traces, spot)
    write(image, plane, (14, 34), 0.9)
    return np.vstack([image, strip])


def _mark(image: ByteImage, spot: Spot, crop: Crop) -> None:
    center_px, half = spot.at_px * crop.scale + crop.shift_px, spot.edge_mm * crop.px_per_mm / 2
    low, high = (tuple(np.rint(center_px + side * half).astype(int).tolist()) for side in (-1, 1))
    for outwards, shade in ((1, _DARK), (0, 255)):  # visible on any grey
        first, last = (low[0] - outwards, low[1] - outwards), (high[0] + outwards, high[1] + outwards)
        cv2.rectangle(image, first, last, (shade,) * 3, 1)
    write(image, str(spot.number), (low[0] + 4, low[1] - 8), 0.45)


def _close_up(grey: ByteImage, traces: Sequence[Trace], spot: Spot) -> ByteImage:
    crop = Crop(spot.at_px, spot.edge_mm, CLOSE_UP_PX)
    image = crop.cut(grey)
    draw_traces(image, traces, crop.scale, crop.shift_px)
    right, row = CLOSE_UP_PX - 12, CLOSE_UP_PX - 12
    bar_mm = next((mm for mm in _BARS_MM if mm * crop.px_per_mm >= _LEAST_BAR_PX), _BARS_MM[-1])
    left = right - round(bar_mm * crop.px_per_mm)
    for width, shade in ((5, _DARK), (2, 255)):
        cv2.line(image, (left, row), (right, row), (shade,) * 3, width)
    write(image, f"{bar_mm} mm", (right - 44, row - 8), 0.4)
    image[:, -1] = _DARK
    write(image, f"{spot.number} {spot.component}", (6, 18), 0.45)
    return image


def frame_name(row: LabelRow) -> str:
    """Name of a frame in captions."""
    return (
        f"measurement {row['measurement_id']}, trial {row['trial_id']}, frame {row['frame_index']}, "
        f"{row['task'] or 'unknown task'}"
    )


def legend(lines: Sequence[str], sets: Sequence[PoseSet], width: int, scale: float) -> ByteImage:
    """Lines of text, then each kind of pose: its line, name and implants, with verdict or confidence."""
    step = round(50 * scale)
    strip = np.full((step * (len(lines) + len(sets)) + step // 2, width, 3), _DARK, np.uint8)
    for number, text in enumerate(lines):
        write(strip, _fitted(text, scale, width - 2 * step), (step // 2, step * (number + 1)), scale)
    for kind, poses in enumerate(sets):
        below = step * (len(lines) + kind + 1)
        draw_sample(strip, kind, step // 2, below - step // 5, 3 * step)
        text = _fitted(f"{poses.name}: {_implants(poses)}", scale, width - 5 * step)
        write(strip, text, (4 * step, below), scale)
    return strip


def _implants(poses: PoseSet) -> str:
    named = [
        " ".join(filter(None, (component, str(pose["anatomy_id"]), _assessment(pose))))
        for component, pose in poses.poses.items()
    ]
    return ", ".join(named) or "no pose of this frame"


def _assessment(pose: PoseRow) -> str | None:
    """Confidence of a network's pose, or verdict of a registration."""
    confidence = pose.get("confidence")
    return pose.get("verdict") if confidence is None else f"(confidence {confidence:.2f})"


def _fitted(text: str, scale: float, width: int) -> str:
    """Text, truncated to a width in px."""
    kept = len(text)
    while cv2.getTextSize(shown := text if kept == len(text) else f"{text[:kept]}...", 0, scale, 1)[0][0] > width:
        kept -= 1
    return shown
