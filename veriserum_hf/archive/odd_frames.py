"""Frames whose size or bit depth differs from that of the frames around them."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.problems import Findings
from veriserum_hf.core import PLANES

_FEWEST = 3  # frames of a trial and plane, of which most can be right


class Stored(NamedTuple):
    """Size and bit depth in which a frame is stored."""

    width_px: int
    height_px: int
    bits: int

    def __str__(self) -> str:
        return f"{self.width_px} x {self.height_px} px of {self.bits} bits"


def report_odd_frames(stored: Mapping[str, Stored], frames: pa.Table, layout: Layout, findings: Findings) -> None:
    """Report frames that are stored in another size or depth than most of their trial and plane.

    Whole trials may differ from others: they were read out or exported in another way. A trial of fewer than three
    frames, or without a majority, is compared with all frames of the plane.

    Parameters
    ----------
    stored : of the frames that can be used, by path.
    frames : of the archive, by ``FRAME_SCHEMA``.
    layout : for messages.
    findings : takes the problems.

    """
    for plane in PLANES:
        by_trial: defaultdict[int, list[str]] = defaultdict(list)
        for trial, path in zip(frames["trial_id"].to_pylist(), frames[f"path_{plane}"].to_pylist(), strict=True):
            if path in stored:
                by_trial[trial].append(path)
        whole = _most(Counter(stored[path] for paths in by_trial.values() for path in paths))
        for paths in by_trial.values():
            expected = _most(Counter(stored[path] for path in paths)) or whole
            for path in paths if expected else ():
                if stored[path] != expected:
                    findings.problem(
                        "stored differently",
                        layout.relative(path),
                        f"it has {stored[path]}, expected {expected} as most {plane} frames around it have",
                        "Restore the file from the download. It is kept, and scaled by its own size and depth.",
                    )


def _most(counts: Counter[Stored]) -> Stored | None:
    """What more than half of at least three frames have."""
    most, count = counts.most_common(1)[0] if counts else (None, 0)
    return most if 2 * count > counts.total() >= _FEWEST else None
