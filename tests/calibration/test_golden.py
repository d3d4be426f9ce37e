"""The authors' own transform, run on known input: positions and grey levels agree with ours."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry import px_to_mm

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN = SHARED / "golden" / "distortion" / "golden_public.npz"
pytestmark = pytest.mark.skipif(
    not GOLDEN.exists(), reason="the golden data are made from the authors' files and not part of the project"
)
IDS = range(1, 6)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def distortions():
    with (SHARED / "upstream" / "distortion_calibration_reloaded.csv").open() as file:
        return {
            (int(row["id"]), plane): Distortion.from_string(row[f"distortion_result_{plane}"])
            for row in csv.DictReader(file)
            for plane in PLANES
        }


@pytest.fixture(scope="module")
def image():
    """The golden data's test image, 16-bit."""
    y, x = np.mgrid[:1600, :1664].astype(np.float64)
    v = 0.45 + 0.15 * np.sin(2 * np.pi * x / 97 + 0.3) * np.sin(2 * np.pi * y / 83 + 0.7)
    v += 0.10 * np.sin(2 * np.pi * (x + 2 * y) / 211 + 0.1)
    v += 0.15 / (1 + np.exp((np.hypot(x - 832, y - 800) - 620) / 8))
    v -= 0.12 / (1 + np.exp((np.hypot(x - 1150, y - 420) - 90) / 5))
    return v


def as_uint16(values):
    return np.round(values * 65535).astype(np.uint16)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("id", IDS)
def test_positions(id, plane, golden, distortions):
    distortion = distortions[id, plane]
    probes = golden["fwd_xy_px"]
    mm = distortion.to_mm(probes)
    assert np.abs(mm - golden[f"fwd_mm_{id:02d}_{plane}"]).max() <= 1e-9
    assert np.abs(distortion.to_px(mm) - probes).max() <= 1e-4

    interior = golden[f"interior_{id:02d}_{plane}"]
    out_rc = golden["out_rc"][interior]
    ours_xy = distortion.to_px(px_to_mm(out_rc[:, ::-1], 1600))
    off = ours_xy[:, ::-1] - golden[f"src_rc_{id:02d}_{plane}"][interior]
    assert np.abs(off).max() <= 0.8
    assert np.abs(off.mean(axis=0)).max() <= 0.03
    assert ((off.std(axis=0) >= 0.27) & (off.std(axis=0) <= 0.31)).all()


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("id", IDS)
def test_grey_levels_at_native_size(id, plane, golden, distortions, image):
    distortion = distortions[id, plane]
    interior = golden[f"interior_{id:02d}_{plane}"]
    rows, columns = golden["out_rc"][interior].T
    reference = golden[f"val_{id:02d}_{plane}"][interior]
    corrected = distortion.correct(as_uint16(image), 1600, "fast")[rows, columns] / 65535
    off = np.abs(corrected - reference)
    assert off.max() <= 0.02
    assert np.median(off) <= 0.003

    x, y = distortion.to_px(px_to_mm(np.stack([columns, rows], 1), 1600)).T
    formula = 0.45 + 0.15 * np.sin(2 * np.pi * x / 97 + 0.3) * np.sin(2 * np.pi * y / 83 + 0.7)
    formula += 0.10 * np.sin(2 * np.pi * (x + 2 * y) / 211 + 0.1)
    formula += 0.15 / (1 + np.exp((np.hypot(x - 832, y - 800) - 620) / 8))
    formula -= 0.12 / (1 + np.exp((np.hypot(x - 1150, y - 420) - 90) / 5))
    assert np.abs(corrected - formula).max() <= 0.001

    nearest = distortion.correct(as_uint16(image), 1600, "nearest")[rows, columns] / 65535
    # The authors look for the nearest raw pixel in mm, we in pixels: the same one but for near ties.
    assert np.mean(np.abs(nearest - reference) <= 2e-5) >= 0.96


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("id", [1, 2])
@pytest.mark.parametrize("mode", ["fast", "exact", "nearest"])
def test_grey_levels_at_512(id, plane, mode, golden, distortions, image):
    distortion = distortions[id, plane]
    inner = cv2.erode(distortion.valid(512).astype(np.uint8), np.ones((7, 7), np.uint8), borderValue=0).astype(bool)
    corrected = distortion.correct(as_uint16(image / image.max()), 512, mode) / 65535
    references = [golden[f"ref512_{id:02d}_{plane}"]]
    if id == 1:
        references.append(golden[f"area512_{id:02d}_{plane}"])
    for reference in references:
        off = (corrected - reference / 4095)[inner]
        assert np.abs(off).max() <= 0.02
        assert np.sqrt(np.mean(off**2)) <= 0.004
