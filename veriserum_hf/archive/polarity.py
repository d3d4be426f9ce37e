"""Whether X-rays are bright in the raw frames, as they must be, or dark."""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.stats import spearmanr

from veriserum_hf.archive.files import read_bytes
from veriserum_hf.archive.frames import RawFormat, decode_frame
from veriserum_hf.archive.problems import Findings
from veriserum_hf.core import Grey
from veriserum_hf.errors import FrameError

_SAMPLED_FRAMES = 24
_CORNER, _FIELD = 0.03, 0.5  # edges of the squares in the corners and of the one at the centre, of the frame's edges
_BLOCK_PX = 16
_LEAST_CORRELATION = 0.1
_FEWEST = 0.9  # of the frames, for a decision


def decide_polarity(paths: Sequence[str], raw: RawFormat, where: str, findings: Findings) -> None:
    """Decide by some frames whether they are inverted, and record a problem if they are.

    No X-rays arrive outside the round field of an intensifier: its rim is black and even. Within the field, more
    X-rays are noisier. Only where both contradict what is expected, the frames are inverted: the corners of a flat
    panel may see air, and processing may even out the noise.

    Parameters
    ----------
    paths : of all frames.
    raw : what they have in common.
    where : the archive, for the message.
    findings : takes decision and problem.

    """
    signs = []
    for path in paths[:: max(1, len(paths) // _SAMPLED_FRAMES)]:
        try:
            frame = decode_frame(read_bytes(path))
        except FrameError:  # reported by itself
            continue
        signs.append(_signs(frame, 255 if frame.dtype == np.uint8 else raw.white_level))
    dark, bright = (sum(rim == sign for rim, _ in signs) for sign in (1, -1))
    rising, falling = (sum(sign * noise > _LEAST_CORRELATION for _, noise in signs) for sign in (1, -1))
    evidence = (
        f"of {len(signs)} sampled frames, the corners are black in {dark} and white in {bright}; the noise rises "
        f"with the grey level in {rising} and falls in {falling}"
    )
    fewest = max(1, _FEWEST * len(signs))
    if bright >= fewest and falling >= fewest:
        answer = "no: the frames are inverted"
        findings.problem("inverted", where, f"0 is white in the frames: {evidence}", "Invert their grey levels.")
    else:
        answer = "yes" if dark >= fewest else "not decidable, taken as yes"
    findings.decide("polarity", "Is metal dark in the raw frames?", answer, evidence)


def _signs(frame: Grey, white: int) -> tuple[int, float]:
    """1 where the corners are black and -1 where they are white; rank correlation of noise and grey level."""
    height, width = frame.shape
    rows, columns = max(1, int(_CORNER * height)), max(1, int(_CORNER * width))
    corners = [np.median(frame[row, column]) / white for row in _ends(rows) for column in _ends(columns)]
    top, left = int((1 - _FIELD) / 2 * height), int((1 - _FIELD) / 2 * width)
    field = frame[top : height - top, left : width - left].astype(np.float32) / white
    level = float(np.median(field))
    rim = 1 if np.median(corners) < level / 3 else -1 if np.median(corners) > 1 - (1 - level) / 3 else 0
    # Differences of neighbours, as edges are few.
    noise = cv2.absdiff(field[:, 1:], field[:, :-1])
    size = field.shape[1] // _BLOCK_PX, field.shape[0] // _BLOCK_PX
    if min(size) < 4:
        return rim, 0.0
    levels, noises = (cv2.resize(each, size, interpolation=cv2.INTER_AREA).ravel() for each in (field, noise))
    return rim, float(spearmanr(levels, noises).statistic) if np.ptp(levels) and np.ptp(noises) else 0.0


def _ends(length: int) -> tuple[slice, slice]:
    return slice(None, length), slice(-length, None)
