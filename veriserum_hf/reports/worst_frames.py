"""Section of a report: the frames with the largest errors, with outlines of label and estimate."""

from base64 import b64encode

import cv2
import numpy as np

from veriserum_hf.core import ByteImage, FrameRow, Table
from veriserum_hf.errors import TrainingError, VeriserumError
from veriserum_hf.poses import poses_by_frame
from veriserum_hf.reports.blocks import Block, heading, image, note, number, table
from veriserum_hf.reports.sources import PoseSource, Reference
from veriserum_hf.viewer import PoseSet, draw_outlines, label_of

WORST = 10
_ERRORS = {
    "rotation_deg": "rotation, deg",
    "translation_mm": "translation, mm",
    "mtre_mm": "mTRE, mm",
    "bs_depth_mm": "along bs depth, mm",
    "fs_depth_mm": "along fs depth, mm",
}
_STATED = ("verdict", "confidence", "score", "detail")
# Subsampled colours would make thin lines grey.
_JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    80,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


def worst_frames_blocks(reference: Reference, source: PoseSource) -> list[Block]:
    """Up to `WORST` frames by the larger mTRE of their implants, worst first, each with errors and an image.

    Raises
    ------
    TrainingError
        If a frame cannot be decoded.

    """
    rows_of: dict[int, list[int]] = {}
    for number_of_row, id in enumerate(source.estimates.measurement_id.tolist()):
        rows_of.setdefault(id, []).append(number_of_row)
    mtre_mm = source.errors["mtre_mm"].to_numpy()
    worst = sorted(rows_of, key=lambda id: (-mtre_mm[rows_of[id]].max(), id))[:WORST]
    place = {id: index for index, id in enumerate(reference.rows["measurement_id"][:])}
    labels = {} if reference.labels is None else poses_by_frame(reference.labels)
    stated = {name: source.column(name) for name in _STATED}
    stated = {name: values for name, values in stated.items() if any(value is not None for value in values)}
    shown = {name: title for name, title in _ERRORS.items() if name in source.errors.column_names}
    blocks = [
        note(
            "Sorted by the larger mTRE of a frame's implants. Depth errors are positive where the estimate is too "
            "far from the source."
        )
    ]
    for id in worst:
        row = _decoded(reference, place[id], id)
        header = ["", *shown.values(), *stated]
        cells = [
            [
                f"{source.estimates.component[n]} {source.estimates.anatomy_id[n]}",
                *(_cell(source.errors[name][n].as_py()) for name in shown),
                *(_cell(values[n]) for values in stated.values()),
            ]
            for n in rows_of[id]
        ]
        label = label_of(row) if reference.labels is None else PoseSet("label", labels.get(id, {}))
        task = row["task"] or "unknown task"
        blocks += [
            heading(f"Measurement {id}, trial {row['trial_id']}, frame {row['frame_index']}, {task}"),
            table(Table(header, cells)),
            _overlay(reference, row, label, PoseSet(source.name, source.poses[id])),
        ]
    return blocks


def _decoded(reference: Reference, place: int, measurement_id: int) -> FrameRow:
    try:
        row: FrameRow = reference.rows[place]
    # Raised by Pillow for damaged files.
    except (OSError, SyntaxError, ValueError) as error:
        raise TrainingError(f"measurement {measurement_id} cannot be decoded: {error}") from error
    return row


def _overlay(reference: Reference, row: FrameRow, label: PoseSet, estimate: PoseSet) -> Block:
    try:
        drawn = draw_outlines(row, [label, estimate], reference.meshes)
    except VeriserumError as error:
        return note(f"No image: {error}")
    return image(_jpeg(drawn), f"outlines of {reference.kind} and {estimate.name}")


def _jpeg(drawn: ByteImage) -> str:
    _, data = cv2.imencode(".jpg", drawn, _JPEG)
    return f"data:image/jpeg;base64,{b64encode(np.asarray(data).tobytes()).decode()}"


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN, of a plane that the frame does not have
        return "-"
    return number(value) if isinstance(value, float) else str(value)
