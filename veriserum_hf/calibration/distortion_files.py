"""Distortions in files: what ``veriserum calibrate distortion --json`` prints, or a text of either form."""

import json
from pathlib import Path

from veriserum_hf.calibration.distortion_map import DistortionMap
from veriserum_hf.core import PlaneName, read_text
from veriserum_hf.errors import CalibrationError

_EXPECTED = "expected the output of `veriserum calibrate distortion --json`, or the text of a distortion"


def read_distortion(path: Path, plane: PlaneName | None = None) -> DistortionMap:
    """Read the distortion of one plane from a file.

    Parameters
    ----------
    path : the output of ``veriserum calibrate distortion --json``, or a file that holds nothing but the text of a
        distortion, the lab's or a `PolynomialDistortion`'s.
    plane : the plane to take where a file holds the fits of several frames; None where it holds one.

    Raises
    ------
    CalibrationError
        If the file cannot be read, is none of these, or does not hold exactly one distortion of the plane.

    """
    try:
        text = read_text(path).strip()
        return DistortionMap.from_string(_only_text(text, plane) if text.startswith("[") else text)
    except UnicodeDecodeError:
        raise CalibrationError(f"{path}: it is not text in UTF-8; {_EXPECTED}") from None
    except (OSError, CalibrationError) as error:
        raise CalibrationError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _only_text(text: str, plane: PlaneName | None) -> str:
    """Text of the one distortion of a list of fits."""
    try:
        entries = json.loads(text)
        fits = [
            (entry.get("plane"), text_of_entry(entry))
            for entry in entries
            if "distortion" in entry and plane in (None, entry.get("plane"))
        ]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CalibrationError(f"it begins with [ but is no list of fits ({error}); {_EXPECTED}") from None
    if len(fits) != 1:
        found = f"{len(fits)} distortions{f' of {plane}' if plane else ''}"
        raise CalibrationError(f"found {found}, expected one; give a file with the fit of one frame")
    return fits[0][1]


def text_of_entry(entry: dict[str, object]) -> str:
    """Text of the distortion to be used of one fit that ``veriserum calibrate distortion --json`` prints."""
    chosen = entry.get("chosen")
    text = chosen.get("distortion") if isinstance(chosen, dict) else entry["distortion"]
    if not isinstance(text, str):
        raise CalibrationError(f'"distortion" holds {text!r:.60}, expected the text of a distortion')
    return text
