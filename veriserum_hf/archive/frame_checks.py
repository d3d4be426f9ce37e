"""What a deep audit looks for in a frame, and keeps of it to compare it with others."""

from dataclasses import dataclass

from veriserum_hf.archive.clipped_frames import share_clipped
from veriserum_hf.archive.files import read_bytes
from veriserum_hf.archive.frames import RawFormat, decode_raw
from veriserum_hf.archive.neighbours import Thumbnail, thumbnail
from veriserum_hf.archive.odd_frames import Stored
from veriserum_hf.archive.problems import Findings, Problem
from veriserum_hf.archive.sampled import note_above_white, note_orientation
from veriserum_hf.archive.white import MOST_ABOVE_WHITE, share_above
from veriserum_hf.errors import FrameError


@dataclass(frozen=True)
class CheckedFrame:
    """Problems of one frame; how it is stored, looks and is clipped, where it can be used and is no phantom frame."""

    problems: list[Problem]
    stored: Stored | None = None
    thumbnail: Thumbnail | None = None
    clipped: float | None = None


def check_frame(path: str, where: str, raw: RawFormat | None) -> CheckedFrame:
    """Decode a frame and look for what keeps it from being used, or does not but is unusual.

    Parameters
    ----------
    path, where : the file, and its name for messages.
    raw : what the frames have in common; None for a phantom frame, whose grey levels and shape are its own.

    """
    found = Findings()
    try:
        frame = decode_raw(read_bytes(path))
        if raw is not None:
            raw.check_shape(frame.levels)
    except FrameError as error:
        remedy = "Restore the file from the download; until then it is rejected."
        return CheckedFrame([Problem(error.reason, where, error.detail, remedy)])
    note_orientation(frame.orientation, where, found)
    if raw is None:
        return CheckedFrame(found.problems)
    if (share := share_above(frame.levels, raw.white_level)) > MOST_ABOVE_WHITE:
        note_above_white(where, f"{share:.1%} of its pixels are brighter than white", raw.white_level, found)
    height, width = frame.levels.shape
    stored = Stored(width, height, 8 * frame.levels.dtype.itemsize)
    clipped = share_clipped(frame.levels, raw.white_level)
    return CheckedFrame(found.problems, stored, thumbnail(frame.levels), clipped)
