"""Pages about calibrations: written as promised, with the fit's own numbers."""

import importlib
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from tests.fixtures.calibrations import START, drawn_rig, observed
from veriserum_hf.calibration.bead_grid import fit_bead_grid
from veriserum_hf.calibration.observations import pair_frames
from veriserum_hf.calibration.source import fit_rig, fit_source
from veriserum_hf.calibration.summary import grid_lines, source_lines
from veriserum_hf.errors import VeriserumError
from veriserum_hf.reports.calibration_report import distortion_page, draw_distortion_report, draw_source_report
from veriserum_hf.reports.pages import PAGE_PX, magnification
from veriserum_hf.reports.source_page import source_page
from veriserum_hf.simulation.calibrations import moved_fs
from veriserum_hf.simulation.marker_phantom import phantom_poses
from veriserum_hf.simulation.scenario import draw_grid
from veriserum_hf.simulation.settings import Settings


@pytest.fixture(scope="module")
def grid():
    frame = draw_grid(Settings(height_px=800), 1, "fs")
    return frame, fit_bead_grid(frame)


@pytest.fixture(scope="module")
def rig():
    """What both planes saw in 12 frames, one pair of markers of the fourth named wrongly, and the fit."""
    rng = np.random.default_rng(3)
    truth = drawn_rig(rng, moved_fs((1.2, -1.0, 1.25), (0.3, 0.3, -0.3)))
    seen = observed(truth, phantom_poses(12, rng), rng, noise_mm=0.014)
    wrong = seen["bs"][3].detector_mm
    wrong[[5, 9]] = wrong[[9, 5]]
    frames = pair_frames(seen["bs"], seen["fs"])
    return frames, fit_rig(frames, START)


def words(page):
    """Everything that is written on a page, with single spaces."""
    return " ".join(" ".join(text.get_text().split()) for text in page.findobj(Text))


def assert_states(page, lines):
    for line in lines:
        assert " ".join(line.split()) in words(page)


def assert_nothing_overlaps(page):
    """Titles, labels and lines of text lie on the page and clear of each other."""
    page.draw_without_rendering()
    boxes = []
    for ax in page.axes:
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts):
            if text.get_text():
                box = text.get_window_extent()
                assert 0 <= box.x0 <= box.x1 <= PAGE_PX[0], text
                assert 0 <= box.y0 <= box.y1 <= PAGE_PX[1], text
                for other, another in boxes:
                    wide = min(box.x1, another.x1) - max(box.x0, another.x0)
                    high = min(box.y1, another.y1) - max(box.y0, another.y0)
                    assert min(wide, high) < 1, (text, other)
                boxes.append((text, box))
    assert len(boxes) > 20


def assert_page(path):
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", PAGE_PX)
        assert np.asarray(image.convert("L")).std() > 10  # something is drawn


def test_a_distortion_report_states_the_fit(grid, tmp_path):
    frame, fit = grid
    draw_distortion_report(frame, fit, tmp_path / "page.png", title="fs, 2023-04-14")
    assert_page(tmp_path / "page.png")
    page = distortion_page(frame, fit, title="fs, 2023-04-14")
    assert_states(page, ["fs, 2023-04-14", f"{fit.residual_mm_rms:.4f} mm RMS", f"{fit.beads_found} fitted"])
    assert_states(page, grid_lines(fit)[:-1])
    assert fit.distortion.to_string() not in words(page)
    assert "NOT UPRIGHT" not in words(page)
    assert_nothing_overlaps(page)


def test_a_phantom_that_is_not_upright_is_a_warning(grid):
    frame = grid[0][:, ::-1].copy()
    page = distortion_page(frame, fit_bead_grid(frame), title="mirrored")
    assert_states(page, ["NOT UPRIGHT: mm are along the phantom's axes, not the intensifier's"])
    assert_nothing_overlaps(page)


def test_residuals_are_drawn_with_the_stated_magnification(grid):
    frame, fit = grid
    axes = distortion_page(frame, fit, title="").axes
    (ax,) = (ax for ax in axes if ax.get_title().startswith("residuals: fitted"))
    arrows, _ = ax.collections
    factor = float(ax.get_title().split(", ")[1].split()[0])
    assert arrows.scale == pytest.approx(1 / factor)
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], axis=1), fit.residuals_mm)
    np.testing.assert_allclose(arrows.XY, fit.distortion.to_mm(fit.beads_px) - fit.residuals_mm, atol=1e-9)


def test_a_rig_report_states_the_fit(rig, tmp_path):
    frames, fit = rig
    draw_source_report(fit, frames, tmp_path / "page.png", title="Rig")
    assert_page(tmp_path / "page.png")
    page = source_page(fit, frames, title="Rig")
    assert_states(page, ["Rig", f"{fit.residual_mm_rms:.4f} mm RMS", "2 off by over 5 RMS", *source_lines(fit)])
    shift_mm = fit.T_world_fs[0, 3] - 360
    assert_states(page, [f"{shift_mm:.3f} ± {1.96 * fit.standard_deviations[6]:.3f}"])
    lines = [" ".join(text.get_text().split()) for text in page.findobj(Text)]
    values = re.findall(r"\w+ -?[\d.]+ \+- [\d.]+", "\n".join(source_lines(fit)))
    assert len(values) == 12
    assert all(any(value in line for line in lines) for value in values)  # no value is broken by a wrapped line
    assert_nothing_overlaps(page)


def test_a_source_report_states_the_fit(rig, tmp_path):
    observations = [both.fs for both in rig[0]]
    fit = fit_source(observations, START["fs"])
    draw_source_report(fit, observations, tmp_path / "page.png", title="Source of fs")
    assert_page(tmp_path / "page.png")
    page = source_page(fit, observations, title="Source of fs")
    assert_states(page, ["Source of fs", *source_lines(fit)])
    assert "nominal" not in words(page)
    assert_nothing_overlaps(page)


def ellipse(page):
    """Centre and half axes of the last drawn source's ellipse, as drawn, and how many times it is magnified."""
    (ax,) = (ax for ax in page.axes if ax.get_title().startswith("from above"))
    corners = ax.patches[-1].get_xy()
    half = np.ptp(corners, axis=0) / 2
    return corners.min(axis=0) + half, half, float(ax.get_title().split("\n")[1].split()[0])


def test_ellipses_are_95_percent_regions_of_a_source(rig):
    observations = [both.bs for both in rig[0]]
    fit = fit_source(observations, START["bs"])
    center_mm, half_mm, factor = ellipse(source_page(fit, observations, title=""))
    # Of bs, h is the world's x and the distance its z.
    np.testing.assert_allclose(center_mm, fit.plane.source_mm[[0, 2]], atol=0.5)
    np.testing.assert_allclose(half_mm / factor, np.sqrt(5.991) * fit.standard_deviations[[0, 2]], rtol=0.01)


def test_the_ellipse_of_fs_includes_its_pose(rig):
    """By moving each number of the fit a little."""
    frames, fit = rig
    by_setting = np.zeros((3, 12))
    plane, step = fit.rig["fs"], 1e-3
    center_mm, half_mm, factor = ellipse(source_page(fit, frames, title=""))
    for axis in range(3):
        by_setting[:, 3 + axis] = plane.T_world_intensifier[:3, axis]
        by_setting[axis, 6 + axis] = 1
        rotation = moved_fs((0, 0, 0), step * np.eye(3)[axis])[:3, :3] @ moved_fs((0, 0, 0), (0, 0, 0))[:3, :3].T
        lever_mm = plane.source_mm - plane.T_world_intensifier[:3, 3]
        by_setting[:, 9 + axis] = (rotation @ lever_mm - lever_mm) / step
    std_mm = np.sqrt(np.diag(by_setting @ fit.covariance @ by_setting.T))
    np.testing.assert_allclose(center_mm, plane.source_mm[[0, 2]], atol=0.5)
    np.testing.assert_allclose(half_mm / factor, np.sqrt(5.991) * std_mm[[0, 2]], rtol=0.01)


def test_magnifications_are_round():
    assert magnification(0.0121, 5) == 200
    assert magnification(0.01, 5) == 500
    assert magnification(1.0, 5) == 5
    assert magnification(40.0, 5) == 0.1


def test_a_page_that_cannot_be_written_is_one_message(grid, tmp_path):
    with pytest.raises(VeriserumError, match=r"cannot write .*/none/page.png: No such file or directory; give a"):
        draw_distortion_report(*grid, tmp_path / "none" / "page.png", title="")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)  # which is looked for first
    for name in ("calibration_report", "pages"):
        monkeypatch.delitem(sys.modules, f"veriserum_hf.reports.{name}")
    with pytest.raises(VeriserumError, match=r'^a report needs matplotlib: pip install "veriserum-hf\[viz\]"$'):
        importlib.import_module("veriserum_hf.reports.calibration_report")


def test_the_figures_of_pyplot_are_left_alone():
    script = "import sys, veriserum_hf.reports.calibration_report; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
