"""What a few raw frames show of all: their shape, and which grey level is white."""

from collections import Counter

import numpy as np

from veriserum_hf.archive.files import read_bytes
from veriserum_hf.archive.frames import RawFormat, decode_frame, read_header
from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.white import ABOVE_WHITE, depth, highest_level, white_level
from veriserum_hf.calibration import RAW_HEIGHT_PX, RAW_WIDTH_PX
from veriserum_hf.core import listed
from veriserum_hf.errors import FrameError

ORIENTATION = "orientation tag"
_SAMPLED_FRAMES = 24
_VIEWERS = {
    2: "mirror it",
    3: "rotate it by 180 degrees",
    4: "mirror it upside down",
    5: "transpose it",
    6: "rotate it by 90 degrees",
    7: "transpose it across the other diagonal",
    8: "rotate it by 270 degrees",
}


def sample_frames(paths: list[str], layout: Layout, findings: Findings, white: int | None = None) -> RawFormat:
    """What the raw frames of an archive have in common, by some of them; frames that cannot be read say nothing.

    Parameters
    ----------
    paths : of all frames.
    layout : of the archive, for messages.
    findings : takes the decisions and problems.
    white : grey level that is white in frames of 16 bits, if it is known.

    """
    sizes: Counter[tuple[int, int]] = Counter()
    for path in _sampled(paths):
        try:
            header = read_header(read_bytes(path))
        except FrameError:  # the conversion rejects it with its reason
            continue
        sizes[header.width, header.height] += 1
        note_orientation(header.orientation, layout.relative(path), findings)
    # Frames of 16 bits are never JPEG, and may be few.
    deep: dict[str, int] = {}
    for path in _sampled([path for path in paths if not path.lower().endswith((".jpg", ".jpeg"))]):
        try:
            frame = decode_frame(read_bytes(path))
        except FrameError:
            continue
        if frame.dtype == np.uint16:
            deep[layout.relative(path)] = highest_level(frame)
    aspect = _decide_aspect(sizes, layout, findings)
    return RawFormat(_decide_white_level(deep, len(paths), findings, white), aspect)


def note_orientation(orientation: int, where: str, findings: Findings) -> None:
    """Record a problem where a tag asks viewers to show a frame otherwise than it is stored."""
    if orientation != 1:
        findings.problem(
            ORIENTATION,
            where,
            f"its orientation tag is {orientation}: viewers {_VIEWERS[orientation]}, here it is read as stored",
            "Compare the frame with its poses; remove the tag, or rotate the pixels themselves.",
        )


def _sampled(paths: list[str]) -> list[str]:
    return paths[:: max(1, len(paths) // _SAMPLED_FRAMES)]


def _decide_aspect(sizes: Counter[tuple[int, int]], layout: Layout, findings: Findings) -> float:
    """Width / height of most of some frames, by their headers, and whether it is that of the whole raw field."""
    findings.decide(
        "frame_size",
        "What do raw frames show?",
        f"the whole raw field of {RAW_WIDTH_PX} x {RAW_HEIGHT_PX} px, at any pixel size",
        listed(f"{count} of {sizes.total()} sampled are {w} x {h} px" for (w, h), count in sizes.most_common()),
    )
    for width, height in sizes:
        if abs(width / height / (RAW_WIDTH_PX / RAW_HEIGHT_PX) - 1) > 0.01:
            findings.problem(
                "frame shape",
                str(layout.root),
                f"there are frames of {width} x {height} px, another shape than {RAW_WIDTH_PX} x {RAW_HEIGHT_PX}",
                "Resized frames are read correctly; the geometry of cropped or rotated ones would be wrong.",
            )
    width, height = sizes.most_common(1)[0][0] if sizes else (RAW_WIDTH_PX, RAW_HEIGHT_PX)
    return width / height


def _decide_white_level(deep: dict[str, int], frames: int, findings: Findings, stated: int | None) -> int:
    """White of the raw frames: 255, or of 16-bit files what is stated, or the depth that most of a sample use.

    Parameters
    ----------
    deep : `highest_level` of the sampled frames of 16 bits.
    frames : number of all.

    """
    depths = Counter(map(depth, deep.values()))
    if not deep:
        white = 255 if stated is None else stated
        answer, evidence = "8-bit, white is 255", f"{frames} files are JPEG or hold 8 bits"
    else:
        white = white_level(deep.values()) if stated is None else stated
        answer = f"{white.bit_length()} of 16 bits, white is {white}" + (", as stated" if stated is not None else "")
        used = listed(f"{count} use {bits} bits" for bits, count in depths.most_common())
        evidence = (
            f"the highest of {len(deep)} sampled frames is {max(deep.values())}, but for 1 pixel in 1,000; {used}"
        )
    findings.decide("grey_levels", "Which grey level is white in the raw frames?", answer, evidence)
    for where, level in deep.items():
        if level > white:
            note_above_white(where, f"all but 1 in 1,000 of its pixels reach up to {level}", white, findings)
    return white


def note_above_white(where: str, what: str, white: int, findings: Findings) -> None:
    """Record a problem where more than 0.1 % of a frame's pixels are brighter than white."""
    findings.problem(
        ABOVE_WHITE,
        where,
        f"{what}, expected at most {white}: brighter pixels are clipped",
        "State the grey level of white with --white where the frame is right; restore the file where it is not.",
    )
