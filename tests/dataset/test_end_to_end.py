"""The cameras of a row project the world onto its stored images."""

import numpy as np
import pytest
from datasets import load_dataset

from tests.fixtures.archives import write_archive
from tests.fixtures.beads import find_beads
from veriserum_hf.core.domain import PLANES
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.plan import Options
from veriserum_hf.geometry import FIELD_MM
from veriserum_hf.geometry.pose import quaternion_to_matrix

BEAD_RADIUS_MM = 1.9  # on the intensifier, magnified


def projected(camera, points_world_mm):
    """Written as in the documentation, independently of the package."""
    homogeneous = np.c_[points_world_mm, np.ones(len(points_world_mm))]
    x, y, w = np.array(camera["intrinsics"]) @ (np.array(camera["world_to_camera"]) @ homogeneous.T)[:3]
    return np.stack([x / w, y / w], axis=1)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    cache = {}

    def make(frame_size, **options):
        key = (frame_size, *options.items())
        if key not in cache:
            root = tmp_path_factory.mktemp("beads") / "archive"
            cache[key] = write_archive(root, trials=2, frames_per_trial=2, frame_size=frame_size, **options)
        return cache[key]

    return make


@pytest.mark.parametrize("size", [256, 512, 1600])
@pytest.mark.parametrize("frame_size", [(1664, 1600), (832, 800), (416, 400)])
def test_beads_lie_where_the_row_cameras_project_them(archives, tmp_path, size, frame_size):
    archive = archives(frame_size)
    convert_archive(archive.root, tmp_path / "out", configs=("calibrated",), options=Options(size=size), workers=1)
    off = []
    for rows in load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")).values():
        for row in rows:
            beads = archive.frames[row["measurement_id"]].beads_world_mm
            for plane in PLANES:
                image = np.asarray(row[f"image_{plane}"])
                expected = projected(row[f"camera_{plane}"], beads)
                found = find_beads(image, expected, BEAD_RADIUS_MM / (FIELD_MM / size))
                off.append((found - expected) * 512 / size)
    off = np.concatenate(off)
    assert len(off) == 2 * 2 * 2 * 8
    assert np.abs(off).max() <= 0.3  # px at 512; NaN where a bead is not found
    assert np.abs(off.mean(axis=0)).max() <= 0.03  # a half-pixel slip would be a bias


@pytest.mark.parametrize(
    "kind",
    [
        {"ids": "pose"},
        {"rotation": "euler"},
        {"rotation": "both"},
        {"pose_frame": "source"},
        {"nested": True, "extension": "png"},
        {"extension": "tif", "bit_depth": 16},
        {"csv": True},
    ],
    ids=str,
)
def test_every_form_of_the_download_gives_the_same_world(archives, tmp_path, kind):
    archive = archives((416, 400), **kind)
    convert_archive(archive.root, tmp_path / "out", configs=("calibrated",), workers=1)
    rows = [row for split in load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path)).values() for row in split]
    assert sorted(row["measurement_id"] for row in rows) == sorted(archive.frames)
    for row in rows:
        truth = archive.frames[row["measurement_id"]]
        for component, T in (("femur", truth.T_world_femur), ("tibia", truth.T_world_tibia)):
            pose = row[component]
            np.testing.assert_allclose(pose["translation_mm"], T[:3, 3], atol=1e-9)
            np.testing.assert_allclose(quaternion_to_matrix(pose["quaternion_xyzw"]), T[:3, :3], atol=1e-9)
            assert pose["quaternion_xyzw"][3] >= 0
            assert pose["kind"] == "refined"
        assert row["implant_pair"] == f"{truth.femur_id}-{truth.tibia_id}"
        for plane in PLANES:
            image = np.asarray(row[f"image_{plane}"])
            assert image.dtype == np.uint8
            assert 150 < np.median(image[200:300, 200:300]) < 256
            expected = projected(row[f"camera_{plane}"], truth.beads_world_mm)
            found = find_beads(image, expected, BEAD_RADIUS_MM / (FIELD_MM / 512))
            assert np.abs(found - expected).max() <= 0.3


def test_both_planes_triangulate_the_beads(archives, tmp_path):
    """Depth follows from two stored images alone."""
    archive = archives((1664, 1600))
    convert_archive(archive.root, tmp_path / "out", configs=("calibrated",), workers=1)
    for rows in load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")).values():
        for row in rows:
            beads = archive.frames[row["measurement_id"]].beads_world_mm
            lines = []
            for plane in PLANES:
                camera = row[f"camera_{plane}"]
                expected = projected(camera, beads)
                px = find_beads(np.asarray(row[f"image_{plane}"]), expected, BEAD_RADIUS_MM / (FIELD_MM / 512))
                P = np.array(camera["intrinsics"]) @ np.array(camera["world_to_camera"])[:3]
                lines += [px[:, i, None] * P[2] - P[i] for i in (0, 1)]
            for bead, system in zip(beads, np.stack(lines, axis=1), strict=True):
                planes = system / np.linalg.norm(system[:, :3], axis=1, keepdims=True)  # that the point lies in, mm
                triangulated_mm = np.linalg.lstsq(planes[:, :3], -planes[:, 3], rcond=None)[0]
                assert np.linalg.norm(triangulated_mm - bead) < 0.1
