"""From a simulation to an outline on an image: simulate, convert, and project with the row's own cameras."""

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from scipy import ndimage

from veriserum_hf import Camera
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.geometry.pose import make_transform, quaternion_to_matrix
from veriserum_hf.rendering.contours import outline
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

PLANES = ("bs", "fs")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Rows by measurement, meshes by anatomy, exact poses; full-size frames with all solids in the beam."""
    folder = tmp_path_factory.mktemp("end-to-end")
    archive = simulate(folder / "archive", Settings(trials=10, frames_per_trial=1, marker_frames=0), workers=1)
    convert_archive(archive, folder / "out", workers=1)
    splits = load_dataset(str(folder / "out"), "calibrated", cache_dir=str(folder / "cache"))
    implants = load_dataset(str(folder / "out"), "anatomies", split="train", cache_dir=str(folder / "cache"))
    meshes = {row["anatomy_id"]: row["mesh"] for row in implants}
    for mesh in meshes.values():
        mesh.merge_vertices()
    rows = {row["measurement_id"]: row for split in splits.values() for row in split}
    return rows, meshes, pq.read_table(archive / "truth.parquet").to_pylist()


def drawn_outlines(loaded, plane):
    """Of every implant in every frame: the image, and the points of its outer contour."""
    rows, meshes, truth = loaded
    for exact in truth:
        row = rows[exact["measurement_id"]]
        T = make_transform(quaternion_to_matrix(exact["quaternion_xyzw"]), exact["translation_mm"])
        contours = outline(meshes[exact["anatomy_id"]], T, Camera.from_row(row[f"camera_{plane}"]), 512)
        yield np.asarray(row[f"image_{plane}"]), max(contours, key=len), exact


@pytest.mark.parametrize("plane", PLANES)
def test_outlines_by_the_rows_cameras_lie_on_strong_edges(loaded, plane):
    """Of half the implants, half the outline is within 0.7 px of an edge, though holders hide some of it."""
    medians = []
    for image, contour, _ in drawn_outlines(loaded, plane):
        edges = cv2.Canny(cv2.GaussianBlur(image, (0, 0), 1.0), 40, 100)
        distance_px = ndimage.distance_transform_edt(edges == 0)
        medians.append(np.median(ndimage.map_coordinates(distance_px, contour[:, ::-1].T, order=1)))
    assert len(medians) == 20
    assert np.median(medians) <= 0.7


@pytest.mark.parametrize("plane", PLANES)
def test_it_is_darker_inside_the_outline_than_around_it(loaded, plane):
    for image, contour, exact in drawn_outlines(loaded, plane):
        inside = cv2.fillPoly(np.zeros_like(image), [np.rint(contour).astype(np.int32)], 1).astype(bool)
        around = ndimage.binary_dilation(inside, iterations=8) & ~ndimage.binary_dilation(inside, iterations=3)
        core = ndimage.binary_erosion(inside, iterations=3)
        assert np.median(image[core]) < 0.8 * np.median(image[around]), exact
