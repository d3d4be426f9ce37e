"""Tables and plots of an evaluation show its numbers."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import trimesh
from PIL import Image

from tests.poses.made import POINTS_MM, in_some_frames, noisy
from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation.metrics import pose_errors
from veriserum_hf.evaluation.summary import summarise
from veriserum_hf.evaluation.tables import summary_tables
from veriserum_hf.reports.evaluation_files import Report
from veriserum_hf.reports.joint import agreements_of, joint_of
from veriserum_hf.reports.plots import save_plots


@pytest.fixture(scope="module")
def errors():
    rng = np.random.default_rng(0)
    return pose_errors(noisy(600, trials=20, frames_per_trial=15, confidence=rng.uniform(size=600)), POINTS_MM)


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


def test_a_summary_has_a_row_for_all_each_implant_each_task_and_each_axis(errors):
    found = summarise(errors)
    rows = cells("\n\n".join(table.markdown() for table in summary_tables(found)))
    first = [row[0] for row in rows]
    assert first[:7] == ["", "---", "all", "femur", "tibia", "femur 1", "femur 2"]
    axes = first.index("axis") + 2
    assert first[axes : axes + 9] == [f"world {a}" for a in "xyz"] + [
        f"{p} {a}" for p in ("bs", "fs") for a in ("h", "v", "depth")
    ]
    rotation = found["overall"]["rotation_deg"]
    low, high = rotation["median_interval_95"]
    assert rows[2][1:4] == [
        "300",
        "20",
        f"{rotation['median']:.2f} [{low:.2f}, {high:.2f}], {rotation['p90']:.2f}, {rotation['p95']:.2f}",
    ]
    share = found["overall"]["success_1mm_1deg"]
    assert rows[2][-2].startswith(f"{100 * share['share']:.1f} % [")
    assert len({len(row) for row in rows[: first.index("axis")]}) == 1  # every line has as many cells


def test_plots_are_written(errors, tmp_path):
    names = [path.name for path in save_plots(errors, tmp_path)]
    assert names == ["cumulative.png", "axes.png", "confidence.png"]
    for name in names:
        image = np.asarray(Image.open(tmp_path / name).convert("L"))
        assert min(image.shape) > 400 and image.std() > 5


@pytest.mark.parametrize(("count", "planes"), [(2, ("bs", "fs")), (1, ("bs",))])
def test_plots_of_few_errors_and_of_zero_errors(tmp_path, count, planes):
    few = pose_errors(
        noisy(count, rotation_deg=0, translation_mm=0, planes=planes, confidence=np.full(count, np.nan)), POINTS_MM
    )
    assert [path.name for path in save_plots(few, tmp_path)] == ["cumulative.png", "axes.png"]


@pytest.mark.parametrize("rows", [[0, 2], []])  # a femur only, none
def test_plots_of_frames_of_which_some_lack_a_plane(tmp_path, rows):
    errors = pose_errors(noisy(8, cameras=in_some_frames(8, rows), confidence=np.full(8, np.nan)), POINTS_MM)
    assert [path.name for path in save_plots(errors, tmp_path)] == ["cumulative.png", "axes.png"]


def test_a_report_holds_every_error_and_the_agreement(errors, tmp_path):
    pairs = noisy(600, trials=20, frames_per_trial=15)
    meshes = {id: trimesh.PointCloud(points).convex_hull for id, points in POINTS_MM.items()}
    joint = joint_of([pairs], meshes)
    of_joint = joint.pairs(pairs)
    agreement = agreements_of(pairs, meshes, joint, of_joint)
    about = {"model": "run", "dataset": "OUT", "config": "calibrated", "split": "test", "planes": ["bs", "fs"]}
    Report(tmp_path / "a" / "b").write(
        errors, summarise(errors) | {"evaluated": about, "agreement": agreement}, of_joint
    )
    written = pa.parquet.read_table(tmp_path / "a" / "b" / "errors.parquet")
    pd.testing.assert_frame_equal(written.to_pandas(), errors.to_pandas())  # for which NaN are equal
    text = (tmp_path / "a" / "b" / "evaluation.md").read_text()
    assert text.startswith("`run` on `OUT` (calibrated), split test, planes bs and fs: 600 poses in 300 frames\n")
    rows = [row for row in cells(text) if row[0] in ("joint", "implants")]
    assert [row[1] for row in rows[:6]] == [
        *("flexion, deg", "adduction, deg", "internal rotation, deg"),
        *("medial, mm", "anterior, mm", "superior, mm"),
    ]
    assert rows[6][:4] == ["implants", "world x, mm", "600", "20"] and rows[-1][1] == "MTPM, mm"
    assert "Axes are those of the files of the implants" in text and "Bland & Altman" in text
    with Image.open(tmp_path / "a" / "b" / "bland_altman.png") as figure:
        assert np.asarray(figure.convert("L")).std() > 10


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot make the folder .*file: File exists"):
        Report(tmp_path / "file")
