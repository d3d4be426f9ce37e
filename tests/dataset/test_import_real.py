"""Real frames, cameras and meshes of other laboratories, imported; skipped where they are not at hand."""

import time

import cv2
import numpy as np
import pytest

from tests.fixtures.real_studies import (
    REAL,
    ROWS_OF_POSES,
    biplane_frames,
    frames_of,
    image,
    mask_overlaps,
    real_studies,
)
from tests.fixtures.studies import converted_rows
from veriserum_hf.core import PLANES
from veriserum_hf.dataset import import_study
from veriserum_hf.geometry import Camera

pytestmark = pytest.mark.skipif(not REAL.exists(), reason="real frames of other laboratories are not at hand")
_MOST_CPU_S = 20.0


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Rows and meshes of every study, and the processor time that its import took."""
    root = tmp_path_factory.mktemp("real")
    found = {}
    for name, study in real_studies(root).items():
        before = time.process_time()
        out = import_study(study, root / name, workers=1).output
        cpu_s = time.process_time() - before
        anatomies = converted_rows(out, "anatomies") if name != "other_labs" else []
        found[name] = converted_rows(out), anatomies, cpu_s
    return found


def test_every_study_takes_little_time(imported):
    assert all(cpu_s < _MOST_CPU_S for _, _, cpu_s in imported.values()), {k: v[2] for k, v in imported.items()}


@pytest.mark.parametrize("name", ROWS_OF_POSES)
def test_outlines_of_the_published_poses_lie_on_the_masks(imported, name):
    """Drawn with the rows alone: image, camera and pose of a row, and the mesh of its implant."""
    rows, anatomies, _ = imported[name]
    frames = frames_of(name)
    for row, frame in zip(rows, frames, strict=True):
        assert row["image_fs"] is None and row["camera_fs"] is None
        np.testing.assert_array_equal(image(row, "bs"), cv2.imread(str(frame), cv2.IMREAD_GRAYSCALE))
    overlaps = mask_overlaps(name, rows, anatomies)
    assert len(overlaps) == 2 * len(frames) and min(overlaps) >= 0.99, overlaps


def test_two_planes_with_poses_of_some_frames(imported):
    rows, anatomies, _ = imported["biplane_tka"]
    frames = biplane_frames()
    assert [row["measurement_id"] for row in rows] == list(range(1, len(frames) + 1))
    with_pose = [frame for frame, row in zip(frames, rows, strict=True) if row["femur"]]
    assert with_pose == [40, 60, 80, *range(100, 110), 120, 140, 160]
    assert {row["anatomy_id"] for row in anatomies} == {1, 2}
    for row in rows:
        cameras = {plane: Camera.from_row(row[f"camera_{plane}"], image(row, plane).shape) for plane in PLANES}
        assert row["camera_bs"]["pixel_size_mm"] is None and len(cameras) == 2


def test_two_planes_without_implants(imported):
    (row,), anatomies, _ = imported["other_labs"]
    assert not anatomies and row["femur"] is None and row["implant_pair"] == "none-none"
    for number, plane in enumerate(PLANES, 1):
        stored = cv2.imread(str(REAL / f"other_labs/L_Hop_Cam{number}_001_UND.0138.tif"), cv2.IMREAD_UNCHANGED)
        shown = image(row, plane)
        assert shown.shape == stored.shape[:2] == (1760, 1760)
