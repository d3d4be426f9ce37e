"""What a deep audit looks for in a frame that can be decoded."""

from veriserum_hf.archive.files import read_bytes
from veriserum_hf.archive.frames import RawFormat, decode_raw
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.sampled import note_above_white, note_orientation
from veriserum_hf.archive.white import MOST_ABOVE_WHITE, share_above


def check_frame(path: str, where: str, raw: RawFormat | None) -> Findings:
    """Decode a frame and look for what does not keep it from being used.

    Parameters
    ----------
    path, where : the file, and its name for messages.
    raw : what the frames have in common; None for a phantom frame, whose grey levels and shape are its own.

    Raises
    ------
    FrameError
        If the frame cannot be used.

    """
    found = Findings()
    frame = decode_raw(read_bytes(path))
    note_orientation(frame.orientation, where, found)
    if raw is not None:
        raw.check_shape(frame.levels)
        if (share := share_above(frame.levels, raw.white_level)) > MOST_ABOVE_WHITE:
            note_above_white(where, f"{share:.1%} of its pixels are brighter than white", raw.white_level, found)
    return found
