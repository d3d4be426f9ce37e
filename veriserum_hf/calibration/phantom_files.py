"""Phantoms as YAML files: those that are shipped, by name, and a laboratory's own, by path."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from veriserum_hf.calibration.phantom_fields import Fields, number_in, shipped_phantoms, whole_in
from veriserum_hf.calibration.phantoms import GridPhantom, MarkerPhantom, RawFrame
from veriserum_hf.calibration.symmetry import is_symmetric
from veriserum_hf.errors import CalibrationError

SIPLA_GRID, CYLINDER = "sipla_grid", "cylinder"  # those that are taken where no other is named

_FEWEST_SPOTS, _MOST_SPOTS = 49, 40_000
_FEWEST_MARKERS, _MOST_MARKERS = 24, 2000
_LARGE = (5, 20)
_WIDEST = 0.9  # of the pitch: wider spots would touch
_MOST_MM, _MOST_PX = 10_000.0, 100_000.0
_OF_THE_BORDER = ("rows", "columns", "outline", "extra", "missing", "center_px")

T = TypeVar("T")


def load_grid_phantom(name: str | Path) -> GridPhantom:
    """Grid phantom by the name of a shipped one, or from the path of a YAML file.

    Raises
    ------
    CalibrationError
        If there is no such phantom, or the file is not one of a grid; the message names the field, what was found and
        what was expected.

    """
    return _shipped_grid(str(name)) if str(name) in shipped_phantoms() else _grid(Fields.read(Path(name), "grid"))


def load_marker_phantom(name: str | Path) -> MarkerPhantom:
    """Marker phantom by the name of a shipped one, or from the path of a YAML file.

    Raises
    ------
    CalibrationError
        As `load_grid_phantom`, and if its markers cannot be recognised with certainty in every pose.

    """
    if str(name) in shipped_phantoms():
        return _shipped_markers(str(name))
    return _markers(Fields.read(Path(name), "markers"))


@lru_cache
def _shipped_grid(name: str) -> GridPhantom:
    return _grid(Fields.shipped(name))


@lru_cache
def _shipped_markers(name: str) -> MarkerPhantom:
    return _markers(Fields.shipped(name), checked=False)  # its tests check it


def _grid(fields: Fields) -> GridPhantom:
    """Grid phantom of a file's fields."""
    fields.only(
        "grid",
        ("lattice", "pitch_mm", "diameter_mm", "polarity", "rows", "columns", "outline", "extra", "missing")
        + ("rotation_deg", "mirrored", "field", "origin", "center_px", "raw_frame"),
    )
    values = fields.values
    pitch_mm = fields.number("pitch_mm", 0, _MOST_MM)
    origin = fields.choice("origin", "border", "nearest_to_center")
    bounded = origin == "border"
    if not bounded:
        for field in _OF_THE_BORDER:
            if field in values:
                raise fields.fault(field, "no such field beside `origin: nearest_to_center`, where no border is seen")
    count = "a whole number from 2 to 500; or `origin: nearest_to_center` and neither rows nor columns"
    rows, columns = (
        fields.get(field, count, lambda value: whole_in(value, 2, 500)) if bounded else None
        for field in ("rows", "columns")
    )
    cut_corner, outline_mm = _outline(fields)
    rotation = "a number from -360 to 360, the rotation of the phantom in the frame, or extra or missing spots"
    rotation_deg = None
    if "rotation_deg" in values or not (values.get("extra") or values.get("missing")):
        rotation_deg = fields.get("rotation_deg", rotation, lambda value: number_in(value, -360.001, 360))
    center_px = None
    if "center_px" in values:
        expected = "[x, y], the column and row of the phantom's centre in the frame"
        center_px = fields.get("center_px", expected, _pixel)
    phantom = GridPhantom(
        name=values["name"],
        lattice=cast("Any", fields.choice("lattice", "square", "hexagonal")),
        pitch_mm=pitch_mm,
        diameter_mm=fields.number("diameter_mm", 0, _WIDEST * pitch_mm),
        polarity=cast(
            "Any", fields.get("polarity", "dark or bright", lambda v: v if v in ("dark", "bright") else None)
        ),
        rows=rows,
        columns=columns,
        cut_corner=cut_corner,
        outline_mm=outline_mm,
        extra=fields.places("extra"),
        missing=fields.places("missing"),
        rotation_deg=rotation_deg,
        mirrored=fields.get("mirrored", "true or false", lambda v: v if isinstance(v, bool) else None, False),
        field=cast("Any", fields.choice("field", "lit", "image")),
        origin=cast("Any", origin),
        center_px=center_px,
        raw_frame=_raw_frame(fields),
    )
    _check_places(fields, phantom)
    return phantom


def _pixel(value: Any) -> tuple[float, float] | None:
    x, y = (number_in(each, -_MOST_PX, _MOST_PX) for each in value)
    return None if x is None or y is None else (x, y)


def _outline(fields: Fields) -> tuple[int, float | None]:
    """Cut corners and diameter of a round outline."""

    def check(value: Any) -> tuple[int, float] | None:
        if value == "full":
            return 0, math.inf
        ((kind, size),) = value.items()
        if kind == "cut_corner":
            return whole_in(size, 1, 500), math.inf
        size_mm = number_in(size, 0, _MOST_MM)
        return (0, size_mm) if kind == "round_mm" and size_mm is not None else None

    expected = "full, {cut_corner: spots that the first row of a corner lacks} or {round_mm: diameter}"
    cut_corner, outline_mm = fields.get("outline", expected, check, (0, math.inf))
    return cut_corner, outline_mm if outline_mm < math.inf else None


def _raw_frame(fields: Fields) -> RawFrame | None:
    """The frames that a phantom is always taken in."""
    if "raw_frame" not in fields.values:
        return None

    def check(value: Any) -> RawFrame | None:
        if set(value) != {"width_px", "height_px", "mm_per_px", "blur_mm"}:
            return None
        scale, blur = number_in(value["mm_per_px"], 0, _MOST_MM), number_in(value["blur_mm"], 0, _MOST_MM)
        size = whole_in(value["width_px"], 200, int(_MOST_PX)), whole_in(value["height_px"], 200, int(_MOST_PX))
        return None if scale is None or blur is None else RawFrame(size, scale, blur)

    return fields.get("raw_frame", "width_px and height_px of at least 200, mm_per_px and blur_mm", check)


def _check_places(fields: Fields, phantom: GridPhantom) -> None:
    """Refuse too few or too many spots, and extra or missing ones that contradict the outline."""
    if not phantom.bounded:
        return
    outline = set(map(tuple, phantom.outline_index.tolist()))
    extra, missing = (
        set(map(tuple, phantom.indices(places).tolist())) for places in (phantom.extra, phantom.missing)
    )
    if extra & outline:
        raise fields.fault("extra", "places outside the outline only: all within it have a spot")
    if missing - outline:
        raise fields.fault("missing", "places within the outline only")
    count = len(phantom.index)
    if not _FEWEST_SPOTS <= count <= _MOST_SPOTS:
        raise CalibrationError(
            f"{fields.file}: rows, columns and outline: found {count} spots, expected {_FEWEST_SPOTS} to "
            f"{_MOST_SPOTS}"
        )


def _markers(fields: Fields, *, checked: bool = True) -> MarkerPhantom:
    """Marker phantom of a file's fields."""
    fields.only("markers", ("markers",))

    def check(value: Any) -> tuple[tuple[float, float, float, float], ...] | None:
        if not isinstance(value, list) or not _FEWEST_MARKERS <= len(value) <= _MOST_MARKERS:
            return None
        rows = []
        for x, y, z, diameter in value:
            at = [number_in(each, -_MOST_MM, _MOST_MM) for each in (x, y, z)]
            rows.append((*at, number_in(diameter, 0, _MOST_MM)))
        return None if any(None in row for row in rows) else cast("Any", tuple(rows))

    count = f"{_FEWEST_MARKERS} to {_MOST_MARKERS} markers"
    phantom = MarkerPhantom(
        fields.values["name"], fields.get("markers", f"a list of {count} [x, y, z, diameter], mm", check)
    )
    if checked:
        _check_markers(fields.file, phantom)
    return phantom


def _check_markers(file: str, phantom: MarkerPhantom) -> None:
    """Refuse markers that could be confused."""
    low, high = _LARGE
    if not low <= len(phantom.large) <= high:
        raise CalibrationError(
            f"{file}: markers: found {len(phantom.large)} that are at least 1.5 times as wide as the median, "
            f"expected {low} to {high}: a projection is recognised by its few large markers"
        )
    spread = np.linalg.svd(phantom.markers_mm - phantom.markers_mm.mean(axis=0), compute_uv=False)
    if spread[2] < 0.02 * spread[0]:
        raise CalibrationError(
            f"{file}: markers: they lie in one plane or on a line, which does not determine a source; expected a "
            "phantom with depth"
        )
    if is_symmetric(phantom):
        raise CalibrationError(
            f"{file}: markers: a rotation maps them onto one another, so projections are ambiguous; "
            "expected places without such a symmetry, such as a few markers more at one side"
        )
