"""Scores of templates at all positions of an image, or of two images that must agree on a position in space."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.registration.from_images.edge_maps import DIRECTIONS, FULL
from veriserum_hf.rendering import compiled

STRIDE = 2  # of positions, px
_BLOCK = 5  # positions; the best of each block of a plane is looked up along its epipolar line
_LOOKED_UP = 24  # blocks of a plane, for each template

_Accumulate = Callable[..., None]
_inlined: Callable[[_Accumulate], _Accumulate] = numba.njit(inline="never")


@dataclass(frozen=True, eq=False)
class ScoreGrid:
    """Responses of an image, laid out so that a template is scored at all positions of a grid at once.

    Positions are STRIDE px apart, the first at pixel (0, 0). An outline point reads the responses at its offset from
    all positions: one run through contiguous memory (Hinterstoisser et al. 2012, section 3.5). Outside the image
    there is no response.

    Attributes
    ----------
    memory : (DIRECTIONS, STRIDE**2, n) responses, of each phase of the stride, row by row.
    width : number of columns in a row of the memory.
    margin : around the image, px.
    shape : rows and columns of the grid.

    """

    memory: NDArray[np.uint8]
    width: int
    margin: int
    shape: tuple[int, int]

    @classmethod
    def of_responses(cls, responses: NDArray[np.uint8], points_px: FloatArray) -> "ScoreGrid":
        """Grid of responses (DIRECTIONS, rows, columns) for outlines (..., 2), rotated by any angle."""
        _, rows, columns = responses.shape
        margin = STRIDE * math.ceil((float(np.hypot(points_px[..., 0], points_px[..., 1]).max()) + 1) / STRIDE)
        shape = (-(-rows // STRIDE), -(-columns // STRIDE))
        # A run over all positions reads a row's width beyond the last.
        height, width = (STRIDE * count + 2 * margin for count in shape)
        padded = np.zeros((DIRECTIONS, height + STRIDE, width), np.uint8)
        padded[:, margin : margin + rows, margin : margin + columns] = responses
        phases = [padded[:, y::STRIDE, x::STRIDE] for y in range(STRIDE) for x in range(STRIDE)]
        memory = np.ascontiguousarray(np.stack(phases, axis=1)).reshape(DIRECTIONS, STRIDE**2, -1)
        return cls(memory, phases[0].shape[2], margin, shape)

    def positions_px(self) -> FloatArray:
        """Pixels (column, row) of the positions, (rows * columns, 2)."""
        row, column = np.divmod(np.arange(self.shape[0] * self.shape[1]), self.shape[1])
        return np.stack([column, row], axis=1) * float(STRIDE)

    def best(
        self, points_px: FloatArray, normals: FloatArray, angles: FloatArray, wanted: BoolArray
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """Best scores, 0 to 1, and their positions, (D, A) each, of outlines rotated in the image.

        Parameters
        ----------
        points_px, normals : (D, P, 2) outlines and their normals.
        angles : (A,) rotations in the image, radians.
        wanted : (rows * columns,) positions that count.

        """
        best, places = _best(self.memory, self.width, self.margin, self.shape, points_px, normals, angles, wanted)
        return best / (FULL * points_px.shape[1]), places


@_inlined
def _accumulate(
    scores: NDArray[np.uint16],
    memory: NDArray[np.uint8],
    width: int,
    margin: int,
    points_px: FloatArray,
    normals: FloatArray,
    angle: float,
) -> None:
    """Add up the responses of an outline, (P, 2), that is rotated in the image; scores are overwritten."""
    cosine, sine = math.cos(angle), math.sin(angle)
    scores[:] = 0
    for p in range(points_px.shape[0]):
        x = cosine * points_px[p, 0] - sine * points_px[p, 1]
        y = sine * points_px[p, 0] + cosine * points_px[p, 1]
        towards = math.atan2(normals[p, 1], normals[p, 0]) + angle
        direction = math.floor(towards / (2 * math.pi) * DIRECTIONS + 0.5) % DIRECTIONS
        column, row = math.floor(x + 0.5) + margin, math.floor(y + 0.5) + margin
        phase = (row % STRIDE) * STRIDE + column % STRIDE
        first = (row // STRIDE) * width + column // STRIDE
        run = memory[direction, phase, first : first + scores.size]
        for i in range(scores.size):
            scores[i] += run[i]


@compiled
def _best(
    memory: NDArray[np.uint8],
    width: int,
    margin: int,
    shape: tuple[int, int],
    points_px: FloatArray,
    normals: FloatArray,
    angles: FloatArray,
    wanted: BoolArray,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """See `ScoreGrid.best`; scores are sums of responses."""
    best = np.zeros((len(points_px), len(angles)), np.int64)
    places = np.zeros((len(points_px), len(angles)), np.int64)
    scores = np.zeros(shape[0] * width, np.uint16)
    for d in range(len(points_px)):
        for a in range(len(angles)):
            _accumulate(scores, memory, width, margin, points_px[d], normals[d], angles[a])
            for row in range(shape[0]):
                for column in range(shape[1]):
                    place = row * shape[1] + column
                    if scores[row * width + column] > best[d, a] and wanted[place]:
                        best[d, a], places[d, a] = scores[row * width + column], place
    return best, places


@compiled
def best_of_pairs(
    memories: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    widths: tuple[int, int],
    margins: tuple[int, int],
    shapes: tuple[tuple[int, int], tuple[int, int]],
    points_px: tuple[FloatArray, FloatArray],
    normals: FloatArray,
    templates: NDArray[np.int64],
    angles: FloatArray,
    lines: tuple[NDArray[np.int32], NDArray[np.int32]],
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Best sum of scores of orientations in two planes, at positions that one point in space projects to.

    Parameters
    ----------
    memories, widths, margins, shapes : of the two `ScoreGrid`.
    points_px, normals : (D, P, 2) outlines of the templates, in pixels of each plane, and their normals.
    templates, angles : (N, 2) of each orientation in each plane.
    lines : (positions of one plane, S) positions in the other that the points of a ray project to, -1 outside; from
        the first plane to the second, and back.

    Returns
    -------
    scores : (N, 2), sums of scores of 0 to 1, the best where the first plane leads, and where the second does.
    places : (N, 2, 2) position in the leading plane, and number of the point on its ray.

    """
    count = len(templates)
    best, places = np.zeros((count, 2), np.int64), np.zeros((count, 2, 2), np.int64)
    first = np.zeros(shapes[0][0] * widths[0], np.uint16)
    second = np.zeros(shapes[1][0] * widths[1], np.uint16)
    for n in range(count):
        d, e = templates[n]
        _accumulate(first, memories[0], widths[0], margins[0], points_px[0][d], normals[d], angles[n, 0])
        _accumulate(second, memories[1], widths[1], margins[1], points_px[1][e], normals[e], angles[n, 1])
        _along_lines(first, widths[0], shapes[0], second, widths[1], shapes[1], lines[0], best[n, :1], places[n, 0])
        _along_lines(second, widths[1], shapes[1], first, widths[0], shapes[0], lines[1], best[n, 1:], places[n, 1])
    return best / (FULL * normals.shape[1]), places


@_inlined
def _along_lines(
    leading: NDArray[np.uint16],
    width: int,
    shape: tuple[int, int],
    other: NDArray[np.uint16],
    other_width: int,
    other_shape: tuple[int, int],
    lines: NDArray[np.int32],
    best: NDArray[np.int64],
    place: NDArray[np.int64],
) -> None:
    """Best sum of a leading score, one of the best of all blocks, and another along its epipolar line."""
    blocks = (-(-shape[0] // _BLOCK), -(-shape[1] // _BLOCK))
    peaks = np.zeros(blocks[0] * blocks[1], np.int64)
    at = np.zeros(blocks[0] * blocks[1], np.int64)
    for row in range(shape[0]):
        for column in range(shape[1]):
            block = (row // _BLOCK) * blocks[1] + column // _BLOCK
            score = leading[row * width + column]
            if score > peaks[block]:
                peaks[block], at[block] = score, row * shape[1] + column
    for block in np.argsort(-peaks)[:_LOOKED_UP]:
        for s in range(lines.shape[1]):
            position = lines[at[block], s]
            if position >= 0:
                total = peaks[block] + other[(position // other_shape[1]) * other_width + position % other_shape[1]]
                if total > best[0]:
                    best[0], place[0], place[1] = total, at[block], s
