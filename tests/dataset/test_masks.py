"""Masks of implants: the pixels that they cover, stored in one bit, and how much of an outline can be seen."""

import io
import sqlite3

import cv2
import numpy as np
import PIL.Image
import pytest
from datasets import Image, load_dataset
from scipy.spatial.transform import Rotation

from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.masks import hidden_share
from veriserum_hf.dataset.plan import Options
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

NAMES = [f"{component}_{plane}" for component in ("femur", "tibia") for plane in ("bs", "fs")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    settings = Settings(trials=2, frames_per_trial=2, pairs=1, height_px=300, marker_frames=0)
    return simulate(tmp_path_factory.mktemp("simulated") / "archive", settings, workers=1)


@pytest.fixture(scope="module")
def out(archive, tmp_path_factory):
    return convert_archive(
        archive,
        tmp_path_factory.mktemp("masks") / "OUT",
        configs=("masks", "anatomies"),
        options=Options(size=128),
        workers=1,
    ).output


def rows_of(path, **options):
    loaded = load_dataset(str(path), "masks", **options)
    return [row for rows in loaded.values() for row in rows]


def test_white_pixels_are_those_whose_ray_meets_the_implant(out):
    """By another program's ray tracing."""
    meshes = {row["anatomy_id"]: row["mesh"] for row in load_dataset(str(out), "anatomies", split="train")}
    row = rows_of(out)[0]
    rows, columns = np.mgrid[:128, :128]
    for name in NAMES:
        component, plane = name.split("_")
        camera, pose, mask = row[f"camera_{plane}"], row[component], np.asarray(row[f"mask_{name}"])
        K, T = np.array(camera["intrinsics"]), np.array(camera["world_to_camera"])
        rays = np.stack([columns.ravel(), rows.ravel(), np.ones(128 * 128)], axis=1) @ np.linalg.inv(K).T
        R_implant = Rotation.from_quat(pose["quaternion_xyzw"]).as_matrix().T
        source = R_implant @ (-T[:3, :3].T @ T[:3, 3] - pose["translation_mm"])
        directions = rays @ T[:3, :3] @ R_implant.T
        met = meshes[pose["anatomy_id"]].ray.intersects_any(np.tile(source, (len(rays), 1)), directions)
        assert met.sum() > 100
        assert (mask != met.reshape(128, 128)).sum() <= 2  # rays that graze an edge


def test_masks_are_files_of_one_bit_beside_the_images(out):
    loaded = load_dataset(str(out), "masks")
    for rows in loaded.values():
        assert {f"mask_{name}" for name in NAMES} | {"image_bs", "camera_fs", "femur"} <= set(rows.column_names)
        for row in rows.cast_column("mask_femur_bs", Image(decode=False)):
            content = row["mask_femur_bs"]["bytes"]
            assert content[24] == 1 and len(content) < 1000  # bit depth of the PNG
            assert PIL.Image.open(io.BytesIO(content)).mode == "1"
    row = next(iter(loaded.values())).with_format("torch")[0]
    assert row["mask_tibia_fs"].shape == row["image_fs"].shape == (1, 128, 128)
    assert row["mask_tibia_fs"].unique().numel() == 2
    assert 0 <= float(row["hidden_tibia_fs"]) < 0.5


def test_they_load_from_an_archive_and_without_one_as_from_a_conversion(archive, out, tmp_path):
    options = {"size": 128, "cache_dir": str(tmp_path)}
    direct = load_dataset("veriserum", "masks", data_dir=str(archive), **options)
    simulated = load_dataset(
        "veriserum", "masks", trials=2, frames_per_trial=2, pairs=1, height_px=300, streaming=True, **options
    )
    expected = {row["measurement_id"]: row for row in rows_of(out)}
    for found in (direct, simulated):
        rows = [row for split in found.values() for row in split]
        assert len(rows) == len(expected) == 4
        for row in rows:
            for name in NAMES:
                np.testing.assert_array_equal(row[f"mask_{name}"], expected[row["measurement_id"]][f"mask_{name}"])
                assert row[f"hidden_{name}"] == expected[row["measurement_id"]][f"hidden_{name}"]


def test_an_implant_without_a_pose_has_no_mask_and_one_without_a_file_rejects_its_rows(damaged, tmp_path):
    with sqlite3.connect(damaged / "veriserumSqlite3_refined.db") as database:
        database.execute("DELETE FROM poses WHERE measurement_id = 5 AND anatomy_id > 2")
    missing = next(damaged.rglob("ana_000003.stl"))
    missing.unlink()
    result = convert_archive(damaged, tmp_path / "OUT", configs=("masks",), options=Options(size=64), workers=1)
    rows = {row["measurement_id"]: row for row in rows_of(tmp_path / "OUT")}
    for plane in ("bs", "fs"):
        assert rows[5][f"mask_tibia_{plane}"] is None and rows[5][f"hidden_tibia_{plane}"] is None
        assert rows[5][f"mask_femur_{plane}"] is not None
    assert result.rejected and {row["measurement_id"] for row in result.rejected} == set(range(1, 25)) - set(rows)
    assert {(row["reason"], row["detail"]) for row in result.rejected} == {
        ("no mask", "the archive has no ana_000003.stl")
    }


def test_the_hidden_share_is_that_of_the_outline_beside_something_dark():
    mask = cv2.circle(np.zeros((512, 512), np.uint8), (250, 260), 90, 1, -1) > 0
    clear = cv2.GaussianBlur(np.where(mask, 30, 180).astype(np.float32), (0, 0), 1.5)
    clear = np.clip(clear + np.random.default_rng(0).normal(0, 4, clear.shape), 0, 255).astype(np.uint8)
    assert hidden_share(clear, mask) == 0
    assert hidden_share(clear.astype(np.uint16) * 257, mask) == 0
    behind_bar = clear.copy()
    behind_bar[:260] = np.minimum(behind_bar[:260], 32)  # opaque, down to the centre
    assert hidden_share(behind_bar, mask) == pytest.approx(0.5, abs=0.03)
    plastic = clear.copy()
    plastic[:260] = plastic[:260] * 0.7  # darkens both
    assert hidden_share(plastic, mask) == 0
    assert hidden_share(np.full_like(clear, 5), mask) == 1
    assert hidden_share(clear, np.zeros_like(mask)) is None


def test_an_implant_that_leaves_the_image_has_no_outline_at_its_edge():
    mask = np.zeros((256, 256), bool)
    mask[100:] = True
    image = np.where(mask, 20, 200).astype(np.uint8)
    assert hidden_share(image, mask) == 0
