"""The image shows the implants' axes where the rig projects them."""

import numpy as np
import pytest

from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.geometry import project
from veriserum_hf.viewer.overlay import AXIS_LENGTH_MM, axes_world_mm, draw_axes


@pytest.fixture(scope="module")
def row(tiny):
    plan = make_plan(VeriserumArchive(tiny.root), Options())
    row = plan.splits["train"].slice(0, 1).to_pylist()[0]
    return row | {"image_bs": np.full((512, 512), 200, np.uint8), "image_fs": np.full((512, 512), 3000, np.uint16)}


def test_axes_start_at_the_implant_and_have_their_length(row, tiny):
    axes = axes_world_mm(row["femur"])
    T = tiny.frames[row["measurement_id"]].T_world_femur
    np.testing.assert_allclose(axes[0], T[:3, 3], atol=1e-9)
    np.testing.assert_allclose(axes[1:] - axes[0], AXIS_LENGTH_MM * T[:3, :3].T, atol=1e-9)


@pytest.mark.parametrize(("plane", "left"), [("bs", 0), ("fs", 640)])
def test_origins_are_marked_in_both_planes(row, plane, left):
    image = draw_axes(row)
    assert image.shape == (684, 1280, 3)
    for component in ("femur", "tibia"):
        camera = row[f"camera_{plane}"]
        px = project(axes_world_mm(row[component]), camera["intrinsics"], camera["world_to_camera"])
        column, line = (px[0] + 0.5) * 640 / 512 - 0.5
        assert image[round(line), left + round(column)].tolist() == [0, 220, 255]


def test_axes_behind_a_source_are_left_out(row):
    behind = row["femur"] | {"translation_mm": [0.0, 0.0, 3000.0]}
    without = draw_axes(row | {"femur": None})
    assert np.array_equal(draw_axes(row | {"femur": behind})[:640, :640], without[:640, :640])


def test_a_frame_with_one_implant_is_drawn(row):
    assert draw_axes(row | {"tibia": None}).shape == (684, 1280, 3)


def test_axes_are_named_where_there_are_any(row, monkeypatch):
    written = []
    monkeypatch.setattr("veriserum_hf.viewer.overlay.write", lambda image, text, *_: written.append(text))
    draw_axes(row)
    assert any("axes of the implants, 40 mm" in text for text in written)
    written.clear()
    draw_axes(row | {"femur": None, "tibia": None})
    assert "axes" not in "".join(written) and written[-1].endswith("no pose of this frame")
