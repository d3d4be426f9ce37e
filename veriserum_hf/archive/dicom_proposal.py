"""What a DICOM file says of the camera that made it: shown to people, never taken without them."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

TAGS = (
    "ImagerPixelSpacing",
    "PixelSpacing",
    "DetectorElementSpacing",
    "DetectorBinning",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
    "EstimatedRadiographicMagnificationFactor",
    "FrameTime",
    "FrameTimeVector",
    "CineRate",
    "RecommendedDisplayFrameRate",
    "PixelIntensityRelationship",
    "SharedFunctionalGroupsSequence",
    "InstanceNumber",
)
_NOTHING = "it states neither pixel size nor distances nor frame rate"


@dataclass(frozen=True)
class CameraProposal:
    """Camera and frame rate as a DICOM file states them.

    These are figures of the device, not a calibration: the principal point is unknown, and distances are often those
    of a display or of the last position.

    Attributes
    ----------
    pixel_size_mm : at the detector, between rows and between columns; None if it is not stated.
    source_to_detector_mm : distance; None if it is not stated.
    frame_rate_hz : None if it is not stated.
    text : all of it in sentences.
    instance_number : place of the file in its series; None if it is not stated.

    """

    pixel_size_mm: tuple[float, float] | None
    source_to_detector_mm: float | None
    frame_rate_hz: float | None
    text: str
    instance_number: int | None = None

    @property
    def states_nothing(self) -> bool:
        """Whether the file states nothing of its camera."""
        return self.text == _NOTHING


def proposal_of(ds: "Dataset") -> CameraProposal:
    """Camera and frame rate by a data set without pixels; what is missing or no positive number is left out."""
    found = _Found(ds)
    said: list[str] = []
    spacing = found.pair("ImagerPixelSpacing")
    if spacing:
        said.append(f"Imager Pixel Spacing {_pair(spacing)} mm")
    elements, binning = found.pair("DetectorElementSpacing"), found.pair("DetectorBinning") or (1.0, 1.0)
    if elements:
        said.append(f"Detector Element Spacing {_pair(elements)} mm, binned {_pair(binning)}")
    pixel_mm = spacing or (elements and (elements[0] * binning[0], elements[1] * binning[1]))
    if not pixel_mm and (plane := found.pair("PixelSpacing")):
        said.append(f"Pixel Spacing {_pair(plane)} mm, which may be that of a plane in the patient: not proposed")
    distances = {
        "DistanceSourceToDetector": "Distance Source to Detector {:g} mm",
        "DistanceSourceToPatient": "Distance Source to Patient {:g} mm",
        "EstimatedRadiographicMagnificationFactor": "Estimated Radiographic Magnification Factor {:g}",
    }
    said += [form.format(value) for keyword, form in distances.items() if (value := found.number(keyword))]
    rate, how = _frame_rate(found)
    if rate:
        said.append(f"{rate:g} frames a second ({how})")
    if relation := str(found.value("PixelIntensityRelationship") or ""):
        said.append(f"Pixel Intensity Relationship {relation}")
    text = "; ".join(said) if said else _NOTHING
    instance = found.number("InstanceNumber")
    return CameraProposal(
        pixel_mm or None,
        found.number("DistanceSourceToDetector"),
        rate,
        text,
        None if instance is None else int(instance),
    )


def _frame_rate(found: "_Found") -> tuple[float | None, str]:
    if time_ms := found.number("FrameTime"):
        return 1000 / time_ms, "Frame Time"
    times_ms = found.numbers("FrameTimeVector", 2, at_least=True)
    if times_ms and np.ptp(times_ms[1:]) <= 0.01 * np.median(times_ms[1:]):  # the first one is 0
        return 1000 / float(np.median(times_ms[1:])), "Frame Time Vector"
    for keyword, name in (
        ("CineRate", "Cine Rate"),
        ("RecommendedDisplayFrameRate", "Recommended Display Frame Rate"),
    ):
        if rate := found.number(keyword):
            return rate, name
    return None, ""


class _Found:
    """Numbers of a data set, also of an enhanced one, in whose shared functional groups they lie."""

    def __init__(self, ds: "Dataset") -> None:
        self._parts = [ds]
        for shared in (ds.get("SharedFunctionalGroupsSequence") or [])[:1]:
            for element in shared:
                if element.VR == "SQ":
                    self._parts += list(element.value[:1])

    def value(self, keyword: str) -> object:
        return next((value for part in self._parts if (value := part.get(keyword)) not in (None, "")), None)

    def number(self, keyword: str) -> float | None:
        numbers = self.numbers(keyword, 1)
        return numbers[0] if numbers else None

    def pair(self, keyword: str) -> tuple[float, float] | None:
        numbers = self.numbers(keyword, 2)
        return (numbers[0], numbers[1]) if numbers else None

    def numbers(self, keyword: str, count: int, *, at_least: bool = False) -> tuple[float, ...] | None:
        """Positive numbers, of which the first of a vector may be 0."""
        value = self.value(keyword)
        values: Any = [value] if isinstance(value, (str, float, int)) or value is None else value
        try:
            numbers = tuple(float(each) for each in values)
        except (TypeError, ValueError):
            return None
        fits = len(numbers) >= count if at_least else len(numbers) == count
        positive = all(math.isfinite(each) and each > 0 for each in numbers[1 if at_least else 0 :])
        return numbers if fits and positive else None


def _pair(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{each:g}" for each in numbers)
