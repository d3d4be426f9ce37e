"""The one way from raw frames to images, and the one function that makes rows of a shard from a plan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from datasets import Features

from veriserum_hf.archive import MOST_ABOVE_WHITE, RawFormat, RawFrame, decode_raw, read_bytes, read_mesh, share_above
from veriserum_hf.calibration import DistortionMap
from veriserum_hf.core import DISTORTION_OF, IMAGE_OF, PLANES, Encoding, Grey, ImageFile, PlaneName
from veriserum_hf.dataset.plan import PATH_OF, Options, PlanRow
from veriserum_hf.errors import FrameError
from veriserum_hf.jobs import single_threaded_opencv

_EXTENSIONS = {"jpeg": ".jpg", "png": ".png", "raw": ".tif"}
_PARAMETERS = {
    "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    "raw": [cv2.IMWRITE_TIFF_COMPRESSION, 1],
}
# An archive has one for each plane and day of calibration.
parsed_distortion = lru_cache(maxsize=512)(DistortionMap.from_string)


@dataclass(frozen=True)
class _Content:
    """A raw file: its bytes and what they decode to."""

    path: Path
    data: bytes
    frame: RawFrame


@dataclass(frozen=True)
class Rejected:
    """A row that could not be made.

    Attributes
    ----------
    id : measurement, anatomy or calibration measurement id, by the configuration.
    reason : a fixed short phrase; see `veriserum_hf.archive.read_frame`, and ``one plane only``.
    detail : what was found, for each file.

    """

    id: int
    reason: str
    detail: str


@dataclass(frozen=True)
class AboveWhite:
    """A frame with more than 0.1 % of its pixels above white, which are clipped in the corrected image.

    Attributes
    ----------
    measurement_id, plane : of the frame.
    share : of the pixels.

    """

    measurement_id: int
    plane: PlaneName
    share: float

    def __str__(self) -> str:
        return f"{self.measurement_id} {self.plane}: {self.share:.1%} of the pixels are brighter than white"


def convert(
    plan: pa.Table, options: Options, raw: RawFormat, bright: list[AboveWhite] | None = None
) -> tuple[pa.Table, list[Rejected]]:
    """Finished rows of a slice of a plan, and the rows that could not be made.

    Parameters
    ----------
    plan : rows of `veriserum_hf.dataset.plan.make_plan`.
    options : the options the plan was made with.
    raw : what all raw frames of the archive have in common, ``archive.raw_format``.
    bright : takes the frames that are brighter than white; they are converted all the same.

    Returns
    -------
    Arrow table by ``options.features``, and one `Rejected` for each row of the plan that is not in it.

    """
    above_white = [] if bright is None else bright
    return finished_rows(plan, options.features, lambda row: _files(row, options, raw, above_white))


@dataclass(frozen=True)
class ArchiveRows:
    """Makes rows of one configuration of an archive; see `convert`."""

    options: Options
    raw: RawFormat

    @property
    def features(self) -> Features:
        """Features of the finished rows."""
        return self.options.features

    def make(self, plan: pa.Table, bright: list[AboveWhite]) -> tuple[pa.Table, list[Rejected]]:
        """Finished rows, and those that could not be made; adds to the frames that are brighter than white."""
        return convert(plan, self.options, self.raw, bright)


def finished_rows(
    plan: pa.Table, features: Features, files: Callable[[Any], Mapping[str, ImageFile | float | None]]
) -> tuple[pa.Table, list[Rejected]]:
    """Finished rows of a slice of any plan, and the rows that could not be made.

    Parameters
    ----------
    plan : the other columns of the rows; the first is their id.
    features : of the finished rows.
    files : the columns of a row that its files make; raises FrameError where they cannot be made.

    """
    rejected: list[Rejected] = []
    finished: list[dict[str, object]] = []
    schema = features.arrow_schema
    with single_threaded_opencv():
        # As Python values: of nested lists of fixed length in a slice, Arrow 26 takes other rows' numbers.
        for row in plan.to_pylist():
            try:
                finished.append({**row, **files(row)})
            except FrameError as error:
                rejected.append(Rejected(row[plan.column_names[0]], error.reason, error.detail))
    columns = [pa.array([row[field.name] for row in finished], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema), rejected


def images_of(row: PlanRow, options: Options, raw: RawFormat) -> dict[PlaneName, Grey]:
    """Images of a row of a plan: corrected, or unchanged for the configuration ``raw``.

    Parameters
    ----------
    row : of a configuration of frames.
    options, raw : as of `convert`.

    Raises
    ------
    FrameError
        If a file cannot be used; it states what is wrong with each.

    """
    return _images(row, _raw_frames(row, raw), options, raw)


def _images(
    row: PlanRow, raw_frames: Mapping[PlaneName, _Content], options: Options, raw: RawFormat
) -> dict[PlaneName, Grey]:
    frames = {plane: each.frame.levels for plane, each in raw_frames.items()}
    if options.config == "raw":
        return frames
    return {
        plane: corrected(
            frame, parsed_distortion(row[DISTORTION_OF[plane]]), options.size, raw.white_level, options.bits
        )
        for plane, frame in frames.items()
    }


def corrected(frame: Grey, distortion: DistortionMap, size: int, white_level: int, bits: int = 8) -> Grey:
    """Corrected image of a raw frame, (size, size), in which white is 255, or 65535 for 16 bits.

    Parameters
    ----------
    frame : (rows, columns) uint8 or uint16, the whole raw field.
    distortion : of its plane.
    size : edge of the image, px.
    white_level : grey level that counts as white in raw frames of 16 bits.
    bits : depth of the image, 8 or 16.

    """
    return with_white(frame, white_level, bits, lambda levels: distortion.correct(levels, size))


def with_white(frame: Grey, white_level: int, bits: int, changed: Callable[[Grey], Grey]) -> Grey:
    """Image of a raw frame in which white is 255, or 65535 for 16 bits.

    Parameters
    ----------
    frame : (rows, columns) uint8 or uint16.
    white_level : grey level that counts as white in frames of 16 bits.
    bits : depth of the image, 8 or 16.
    changed : the image with its distortion corrected; it may interpolate between grey levels.

    """
    if bits == 16 and frame.dtype == np.uint8:
        frame, white_level = frame.astype(np.uint16) * np.uint16(257), 65535  # before levels are interpolated
    image = changed(frame)
    white = 2**bits - 1
    if image.dtype == np.uint16 and white_level != white:
        scaled = np.rint(image * (white / white_level))  # brighter values are clipped
        image = np.minimum(scaled, white).astype(np.uint8 if bits == 8 else np.uint16)
    return image


def _raw_frames(row: PlanRow, raw: RawFormat) -> dict[PlaneName, _Content]:
    """The raw files of both planes."""
    frames: dict[PlaneName, _Content] = {}
    errors: dict[PlaneName, FrameError] = {}
    for plane in PLANES:
        path = row[PATH_OF[plane]]
        try:
            content = _content(path) if path else _no_file(plane)
            raw.check_shape(content.frame.levels)
        except FrameError as error:
            errors[plane] = error
            continue
        frames[plane] = content
    if errors:
        raise _both_planes(errors)
    return frames


def _content(path: str) -> _Content:
    data = read_bytes(path)
    return _Content(Path(path), data, decode_raw(data))


def _no_file(plane: PlaneName) -> _Content:
    raise FrameError("missing", f"the archive has no {plane} file of this frame")


def _both_planes(errors: Mapping[PlaneName, FrameError]) -> FrameError:
    """One error for a frame, whichever of its planes failed."""
    detail = "; ".join(f"{plane} {error}" for plane, error in errors.items())
    reasons = [error.reason for error in errors.values()]
    return FrameError("one plane only" if reasons == ["missing"] else reasons[0], detail)


def _files(
    row: Any, options: Options, raw: RawFormat, bright: list[AboveWhite]
) -> Mapping[str, ImageFile | float | None]:
    """The columns that the files of one row of any configuration make; adds to ``bright``."""
    if options.config == "anatomies":
        return {"mesh": _mesh(row["path"], row["anatomy_id"], row["category"])}
    if options.config == "calibration":
        return {"image": _stored(_content(row["path"]))}
    frames = _raw_frames(row, raw)
    for plane, each in frames.items():
        if (share := share_above(each.frame.levels, raw.white_level)) > MOST_ABOVE_WHITE:
            bright.append(AboveWhite(row["measurement_id"], plane, share))
    if options.config == "raw":
        return {IMAGE_OF[plane]: _stored(each) for plane, each in frames.items()}
    images = _images(row, frames, options, raw)
    files: dict[str, ImageFile | float | None] = {
        IMAGE_OF[plane]: encoded(images[plane], each.path.stem, options.encoding) for plane, each in frames.items()
    }
    if options.config != "masks":
        return files
    from veriserum_hf.dataset.masks import masks_of  # its compiler takes a second to import

    return files | masks_of(row, images)


def _stored(content: _Content) -> ImageFile:
    """A raw file as it is, or where readers would decode other levels than these, a PNG of the levels."""
    if content.frame.plain:
        return {"bytes": content.data, "path": content.path.name}
    _, data = cv2.imencode(".png", content.frame.levels, _PARAMETERS["png"])
    return {"bytes": data.tobytes(), "path": f"{content.path.stem}.png"}


def encoded(image: Grey, stem: str, encoding: Encoding) -> ImageFile:
    """File of an image, named ``stem`` with the ending of its format."""
    extension = _EXTENSIONS[encoding]
    _, data = cv2.imencode(extension, image, _PARAMETERS[encoding])
    return {"bytes": data.tobytes(), "path": stem + extension}


def _mesh(path: str | None, anatomy_id: int, category: str) -> ImageFile:
    if path is None:
        raise FrameError("missing", f"the archive has no ana_{anatomy_id:06d}.stl")
    return {"bytes": read_mesh(path, category).data, "path": Path(path).name}
