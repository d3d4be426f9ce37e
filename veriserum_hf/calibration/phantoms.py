"""Calibration phantoms: where their beads, holes and markers are, as their files state it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from veriserum_hf.core import BoolArray, FloatArray, IndexArray

# Steps of a lattice, in pitches; the rows of a hexagonal one are staggered by half a pitch.
_STEPS = {"square": ((1.0, 0.0), (0.0, 1.0)), "hexagonal": ((1.0, 0.0), (0.5, np.sqrt(0.75)))}
# A rotation by one step, counter-clockwise, and the reflection of X, of places counted in those steps.
_ROTATION = {"square": ((0, -1), (1, 0)), "hexagonal": ((0, -1), (1, 1))}
_REFLECTION = {"square": ((-1, 0), (0, 1)), "hexagonal": ((-1, -1), (0, 1))}
_FOLD = {"square": 4, "hexagonal": 6}
_LARGE = 1.5  # times the median diameter: the least of a large marker


class RawFrame(NamedTuple):
    """Frames that a phantom is taken in, where they are always the same.

    Attributes
    ----------
    size_px : columns and rows; frames of other sizes must have these proportions.
    mm_per_px : nominal scale.
    blur_mm : standard deviation of a spot's edge.

    """

    size_px: tuple[int, int]
    mm_per_px: float
    blur_mm: float


@dataclass(frozen=True)
class GridPhantom:
    """A plate with beads or holes on a lattice; mm are X right and Y up from its centre, seen from the source.

    Attributes
    ----------
    name : of its file.
    lattice : "square", or "hexagonal" with rows staggered by half a pitch, the second one to the right.
    pitch_mm : between neighbours.
    rows, columns : of places; None where the plate is larger than the field and its border is never seen.
    cut_corner : spots that the first row of a corner lacks; the next lacks one less.
    outline_mm : diameter of a round outline, which holds the centres of all spots; None if it is not round.
    polarity : "dark" beads or "bright" holes.
    diameter_mm : of a bead or hole.
    extra, missing : places (column, row) from the lower left one that have a spot beyond the outline, or none in it.
    rotation_deg : of the phantom in the frame, counter-clockwise, to within some 25 degrees; None where extra or
        missing spots mark it.
    mirrored : whether it is mounted back to front, so that its columns run from right to left.
    field : "lit", the largest lit region of the frame, such as the round field of an intensifier, or the whole
        "image".
    origin : where mm are counted from and how its place is found: "border", the centre of the plate, located by its
        border; "nearest_to_center", the place nearest to the centre of the image.
    center_px : the plate's centre in the frame, which locates it instead of its border.
    raw_frame : see `RawFrame`; None for frames of any size.

    """

    name: str
    lattice: Literal["square", "hexagonal"]
    pitch_mm: float
    diameter_mm: float
    polarity: Literal["dark", "bright"]
    rows: int | None = None
    columns: int | None = None
    cut_corner: int = 0
    outline_mm: float | None = None
    extra: tuple[tuple[int, int], ...] = ()
    missing: tuple[tuple[int, int], ...] = ()
    rotation_deg: float | None = None
    mirrored: bool = False
    field: Literal["lit", "image"] = "lit"
    origin: Literal["border", "nearest_to_center"] = "border"
    center_px: tuple[float, float] | None = None
    raw_frame: RawFrame | None = None

    @property
    def spots(self) -> str:
        """What its spots are, for messages."""
        return "holes" if self.polarity == "bright" else "beads"

    @property
    def fold(self) -> int:
        """Rotations that map the lattice onto itself."""
        return _FOLD[self.lattice]

    @property
    def bounded(self) -> bool:
        """Whether the plate has a known border."""
        return self.rows is not None

    @cached_property
    def steps(self) -> FloatArray:
        """(2, 2) the lattice's two steps, in pitches."""
        return np.array(_STEPS[self.lattice])

    def rotations(self) -> list[IndexArray]:
        """Matrices (2, 2) that map places seen in a frame to those of the phantom, but for a shift."""
        one, reflection = np.array(_ROTATION[self.lattice]), np.array(_REFLECTION[self.lattice])
        start = reflection if self.mirrored else np.eye(2, dtype=np.intp)
        return [start @ np.linalg.matrix_power(one, number) for number in range(self.fold)]

    @cached_property
    def center_index(self) -> FloatArray:
        """Index (2,) of the origin; between places where there are even numbers of them."""
        if self.rows is None or self.columns is None:
            return np.zeros(2)
        stagger = 0.5 if self.lattice == "hexagonal" and self.rows > 1 else 0.0
        center = np.array([(self.columns - 1 + stagger) / 2, (self.rows - 1) / 2])
        return center if self.lattice == "square" else np.array([center[0] - center[1] / 2, center[1]])

    def positions_mm(self, index: IndexArray) -> FloatArray:
        """Positions (n, 2) mm of places (n, 2), counted in the lattice's steps."""
        off = np.asarray(index) - self.center_index
        mm: FloatArray = self.pitch_mm * (off if self.lattice == "square" else off @ self.steps)
        return mm * (-1, 1) if self.mirrored else mm

    def indices(self, column_row: FloatArray | IndexArray | tuple[tuple[int, int], ...]) -> IndexArray:
        """Index (n, 2), in the lattice's steps, of places given by column and row."""
        column, row = np.reshape(np.array(column_row, dtype=np.intp), (-1, 2)).T
        return np.stack([column - row // 2 if self.lattice == "hexagonal" else column, row], axis=1)

    @cached_property
    def outline_index(self) -> IndexArray:
        """Index (n, 2) of all places within the outline, whether they have a spot or not."""
        if self.rows is None or self.columns is None:
            return np.empty((0, 2), dtype=np.intp)
        column, row = np.indices((self.columns, self.rows)).reshape(2, -1)
        to_edge = np.minimum(column, self.columns - 1 - column) + np.minimum(row, self.rows - 1 - row)
        index = self.indices(np.stack([column, row], axis=1)[to_edge >= self.cut_corner])
        if self.outline_mm is not None:
            index = index[np.hypot(*self.positions_mm(index).T) <= self.outline_mm / 2]
        return index

    @cached_property
    def index(self) -> IndexArray:
        """Index (n, 2) of every spot; those beyond the outline come last."""
        gone = set(map(tuple, self.indices(self.missing).tolist()))
        there = [place for place in self.outline_index.tolist() if tuple(place) not in gone]
        return np.array([*there, *self.indices(self.extra).tolist()], dtype=np.intp).reshape(-1, 2)

    @cached_property
    def spots_mm(self) -> FloatArray:
        """Positions (n, 2) mm of every spot; those beyond the outline come last."""
        return self.positions_mm(self.index)

    @cached_property
    def half_mm(self) -> float:
        """Half the larger extent of the spots, between centres."""
        return float(np.abs(self.spots_mm).max()) if self.bounded else 0.0

    def holds(self, index: IndexArray) -> BoolArray:
        """Whether places (n, 2) have a spot."""
        if not self.bounded:
            return np.ones(len(index), dtype=bool)
        spots = set(map(tuple, self.index.tolist()))
        return np.array([tuple(place) in spots for place in index.tolist()], dtype=bool)


@dataclass(frozen=True)
class MarkerPhantom:
    """A phantom with markers at known places, recognised by a few large ones among them.

    Attributes
    ----------
    name : of its file.
    markers : x, y, z and diameter of each, mm, in the phantom's own frame.

    """

    name: str
    markers: tuple[tuple[float, float, float, float], ...]

    @cached_property
    def markers_mm(self) -> FloatArray:
        """Positions (n, 3) mm."""
        return np.array(self.markers)[:, :3]

    @cached_property
    def diameters_mm(self) -> FloatArray:
        """Diameters (n,) mm."""
        return np.array(self.markers)[:, 3]

    @cached_property
    def large(self) -> IndexArray:
        """Numbers of the large markers, which are the code by which a projection is recognised."""
        return np.flatnonzero(self.diameters_mm >= _LARGE * np.median(self.diameters_mm))
