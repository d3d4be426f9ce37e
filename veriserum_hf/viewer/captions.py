"""Text in images: labels, names of frames, legends."""

from collections.abc import Sequence

import cv2
import numpy as np

from veriserum_hf.core import ByteImage, LabelRow, PoseRow
from veriserum_hf.viewer.outlines import PoseSet, draw_sample

DARK = 20  # of what is around images


def write(image: ByteImage, text: str, at: tuple[int, int], scale: float) -> None:
    """White letters on a dark background, readable on any grey; ``at`` is the lower left corner, (column, row)."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    cv2.rectangle(image, (at[0] - 4, at[1] - height - 4), (at[0] + width + 4, at[1] + below), (DARK,) * 3, -1)
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)


def frame_name(row: LabelRow) -> str:
    """Name of a frame in captions."""
    return (
        f"measurement {row['measurement_id']}, trial {row['trial_id']}, frame {row['frame_index']}, "
        f"{row['task'] or 'unknown task'}"
    )


def legend(lines: Sequence[str], sets: Sequence[PoseSet], width: int, scale: float) -> ByteImage:
    """Lines of text, then each kind of pose: its line, name and implants, with verdict or confidence."""
    step = round(50 * scale)
    strip = np.full((step * (len(lines) + len(sets)) + step // 2, width, 3), DARK, np.uint8)
    for number, text in enumerate(lines):
        write(strip, _fitted(text, scale, width - 2 * step), (step // 2, step * (number + 1)), scale)
    for kind, poses in enumerate(sets):
        below = step * (len(lines) + kind + 1)
        draw_sample(strip, kind, step // 2, below - step // 5, 3 * step)
        text = _fitted(f"{poses.name}: {_implants(poses)}", scale, width - 5 * step)
        write(strip, text, (4 * step, below), scale)
    return strip


def wrapped(text: str, width: int, scale: float) -> list[str]:
    """Lines of a text that `legend` shows in full in an image of a width, px."""
    words = text.split()
    lines = words[:1]
    for word in words[1:]:
        longer = f"{lines[-1]} {word}"
        if _width(longer, scale) <= width - 2 * round(50 * scale):
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _implants(poses: PoseSet) -> str:
    named = [
        " ".join(filter(None, (component, str(pose["anatomy_id"]), _assessment(pose))))
        for component, pose in poses.poses.items()
    ]
    return ", ".join(named) or "no pose of this frame"


def _assessment(pose: PoseRow) -> str | None:
    """Confidence of a network's pose, or verdict of a registration."""
    confidence = pose.get("confidence")
    return pose.get("verdict") if confidence is None else f"(confidence {confidence:.2f})"


def _fitted(text: str, scale: float, width: int) -> str:
    """Text, truncated to a width in px."""
    kept = len(text)
    while _width(shown := text if kept == len(text) else f"{text[:kept]}...", scale) > width:
        kept -= 1
    return shown


def _width(text: str, scale: float) -> int:
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]
