"""Saturated and underexposed pixels: which they are in a view, and how many are near an implant."""

import cv2
import numpy as np
import pytest

from tests.fixtures.other_cameras import cropped
from tests.registration.scenes import transform
from veriserum_hf.registration.scene import Implant, View


def exposed(row, gain):
    """The row with images that are so many times brighter, clipped and compressed as a detector's are."""
    made = dict(row)
    for name in ("image_bs", "image_fs"):
        levels = np.rint(np.minimum(gain * np.asarray(row[name], float), 255)).astype(np.uint8)
        encoded = cv2.imencode(".jpg", levels, (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
        made[name] = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    return made


def view_of(row, plane="bs"):
    return View.from_row(np.asarray(row[f"image_{plane}"]), row[f"camera_{plane}"])


def test_only_saturated_pixels_of_the_field_are_clipped(rows):
    view = view_of(exposed(rows[0], 2))
    beyond = 2 * np.asarray(rows[0]["image_bs"], float) / 255
    assert view.clipped[beyond > 1.05].mean() > 0.97 and (beyond > 1.05).mean() > 0.1
    assert view.clipped[beyond < 0.95].mean() < 0.01
    assert not view.clipped[~view.in_field].any() and not view.in_field[0, 0]
    assert not view_of(rows[0]).clipped.any()


def test_a_larger_pixel_is_clipped_where_a_quarter_of_it_is(rows):
    view = view_of(exposed(rows[0], 2))
    share = view.clipped.reshape(128, 4, 128, 4).mean(axis=(1, 3))
    reduced = view.reduced(4 * view.pixel_mm[0])
    assert reduced.image.shape == (128, 128)
    np.testing.assert_array_equal(reduced.clipped, share > 0.25)
    assert not view_of(rows[0]).reduced(4 * view.pixel_mm[0]).clipped.any()


@pytest.mark.parametrize("part", [None, ((100, 120), (300, 330))])
def test_the_share_near_an_outline_is_that_of_the_pixels_within_seven_mm_of_it(rows, meshes, part):
    row = rows[0] if part is None else cropped(rows[0], "bs", *part)
    implant, T = Implant(row["tibia"]["anatomy_id"], meshes[row["tibia"]["anatomy_id"]]), transform(row["tibia"])
    view = view_of(row)
    assert view.share_clipped(implant, T) == 0
    outline_px = view.camera.project(T[:3, :3].dot(implant.mesh.vertices.T).T + T[:3, 3])
    column = int(np.median(outline_px[:, 0]))
    half = np.zeros_like(view.clipped)
    half[:, column:] = True
    shares = []
    for clipped in (half, ~half, half | ~half):
        clipped_view = View(view.image, view.camera, view.pixel_mm, view.in_field, clipped & view.in_field)
        shares.append(clipped_view.share_clipped(implant, T))
    assert shares[0] + shares[1] == pytest.approx(1) and 0.2 < shares[0] < 0.8 and shares[2] == 1
    outside = View(view.image, view.camera, view.pixel_mm, np.zeros_like(half), np.zeros_like(half))
    assert outside.share_clipped(implant, T) == 0
