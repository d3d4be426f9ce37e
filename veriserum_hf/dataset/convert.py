"""The one function that makes a shard: a slice of a plan in, finished rows and rejected frames out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from veriserum_hf.archive import RawFormat, decode_frame, read_bytes, read_stl
from veriserum_hf.calibration import Distortion, Grey
from veriserum_hf.core import PLANES
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import FrameError
from veriserum_hf.jobs import one_quiet_thread

_EXTENSIONS = {"jpeg": ".jpg", "png": ".png", "raw": ".tif"}
_PARAMETERS = {
    "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    "raw": [cv2.IMWRITE_TIFF_COMPRESSION, 1],
}


@dataclass(frozen=True)
class Rejected:
    """A row that could not be made.

    Attributes
    ----------
    id : measurement, anatomy or calibration measurement id, by the configuration.
    reason : short, fixed words; see `veriserum_hf.archive.frames.read_frame`, and ``one plane only``.
    detail : what was found, for each file.

    """

    id: int
    reason: str
    detail: str


def convert(plan: pa.Table, options: Options, raw: RawFormat) -> tuple[pa.Table, list[Rejected]]:
    """Finished rows of a slice of a plan, and the rows that could not be made.

    Parameters
    ----------
    plan : rows of `veriserum_hf.dataset.plan.make_plan`.
    options : the options the plan was made with.
    raw : what all raw frames of the archive have in common, ``archive.raw_format``.

    Returns
    -------
    Arrow table by ``options.features``, and one `Rejected` for each row of the plan that is not in it.

    """
    rejected: list[Rejected] = []
    finished: list[dict[str, Any]] = []
    schema = options.features.arrow_schema
    with one_quiet_thread():
        # As Python values: of nested lists of fixed length in a slice, Arrow 26 takes other rows' numbers.
        for row in plan.to_pylist():
            try:
                finished.append(row | _row_pictures(row, options, raw))
            except FrameError as error:
                rejected.append(Rejected(row[plan.column_names[0]], error.reason, error.detail))
    columns = [pa.array([row[field.name] for row in finished], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema), rejected


def _row_pictures(row: dict[str, Any], options: Options, raw: RawFormat) -> dict[str, dict[str, Any]]:
    """The binary columns of one row."""
    if options.config == "anatomies":
        return {"mesh": _mesh(row["path"], row["anatomy_id"])}
    if options.config == "calibration":
        data = read_bytes(row["path"])
        decode_frame(data)
        return {"image": {"bytes": data, "path": Path(row["path"]).name}}
    pictures, errors = {}, {}
    for plane in PLANES:
        path = row[f"path_{plane}"]
        try:
            data = read_bytes(path) if path else _no_file(plane)
            frame = decode_frame(data)
            raw.check_shape(frame)
        except FrameError as error:
            errors[plane] = error
            continue
        if options.config == "raw":
            pictures[f"image_{plane}"] = {"bytes": data, "path": Path(path).name}
        else:
            corrected = _corrected(frame, row[f"distortion_{plane}"], options, raw)
            pictures[f"image_{plane}"] = _encoded(corrected, Path(path).stem, options)
    if errors:
        raise _both_planes(errors)
    return pictures


def _no_file(plane: str) -> bytes:
    raise FrameError("missing", f"the archive has no {plane} file of this frame")


def _both_planes(errors: dict[Any, FrameError]) -> FrameError:
    """One error for a frame, whichever of its planes failed."""
    detail = "; ".join(f"{plane} {error}" for plane, error in errors.items())
    reasons = [error.reason for error in errors.values()]
    return FrameError("one plane only" if reasons == ["missing"] else reasons[0], detail)


def _corrected(frame: Grey, distortion: str, options: Options, raw: RawFormat) -> Grey:
    """Corrected image in which white is 255, or 65535 where 16 bits are asked for."""
    white_level = raw.white_level
    if options.bits == 16 and frame.dtype == np.uint8:
        frame = frame.astype(np.uint16) * np.uint16(257)  # before the lookup, whose means fall between grey levels
        white_level = 65535
    corrected = Distortion.from_string(distortion).correct(frame, options.size)
    white = 2**options.bits - 1
    if corrected.dtype == np.uint16 and white_level != white:
        scaled = np.rint(corrected * (white / white_level))  # what is brighter than white is white
        corrected = np.minimum(scaled, white).astype(np.uint8 if options.bits == 8 else np.uint16)
    return corrected


def _encoded(image: Grey, stem: str, options: Options) -> dict[str, Any]:
    extension = _EXTENSIONS[options.encoding]
    _, data = cv2.imencode(extension, image, _PARAMETERS[options.encoding])
    return {"bytes": data.tobytes(), "path": stem + extension}


def _mesh(path: str | None, anatomy_id: int) -> dict[str, Any]:
    if path is None:
        raise FrameError("missing", f"the archive has no ana_{anatomy_id:06d}.stl")
    return {"bytes": read_stl(path), "path": Path(path).name}
