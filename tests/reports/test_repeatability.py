"""``veriserum report`` of poses that observers matched by hand: who made them, and how well they repeat."""

import json
import re
from datetime import UTC, datetime, timedelta

import datasets
import numpy as np
import pyarrow as pa
import pytest

from tests.poses.made import own_pose
from tests.reports.test_run_report import PARTS, Page, write_report
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.plan import Options
from veriserum_hf.knee import COORDINATES
from veriserum_hf.poses import MANUAL_SCHEMA, write_poses

FIRST_DAY = datetime(2026, 11, 26, 23, 30, tzinfo=UTC)
SHIFT_MM = {"anna": (0.0, 0.0, 0.0), "again": (0.1, 0.0, 0.0), "ben": (0.0, -0.4, 0.0)}


@pytest.fixture(scope="module")
def dataset(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "OUT"
    options = Options(size=64)
    return convert_archive(tiny.root, folder, configs=("calibrated", "anatomies"), options=options, workers=1).output


@pytest.fixture(scope="module")
def rows(dataset):
    return list(datasets.load_dataset(str(dataset), "calibrated", split="validation"))


def by_hand(rows, observer, shift_mm):
    """Poses of an observer: those of the rows, alternately 0.1 mm to both sides of a shift."""
    poses = []
    for number, row in enumerate(rows):
        for part in PARTS:
            moved = np.add(row[part]["translation_mm"], shift_mm) + (0.1, 0, 0) * np.array(1 if number % 2 else -1)
            about = {"kind": "manual", "observer": observer, "accepted_utc": FIRST_DAY + timedelta(hours=number)}
            poses.append(own_pose(row, part) | {"translation_mm": moved.tolist(), "verdict": "not assessed"} | about)
    return pa.Table.from_pylist(poses, MANUAL_SCHEMA)


@pytest.fixture(scope="module")
def reported(dataset, rows, tmp_path_factory):
    """What the command prints, and the page, of two files by Anna and one by Ben, who left two frames out."""
    folder = tmp_path_factory.mktemp("poses")
    write_poses(folder / "anna.parquet", by_hand(rows, "Anna", SHIFT_MM["anna"]))
    write_poses(folder / "again.csv", by_hand(rows, "Anna", SHIFT_MM["again"]))
    write_poses(folder / "ben.parquet", by_hand(rows[2:], "Ben <b>", SHIFT_MM["ben"]))
    files = [
        argument for name in ("anna.parquet", "again.csv", "ben.parquet") for argument in ("--poses", folder / name)
    ]
    printed, text = write_report(dataset, folder / "report.html", *files, "--json", split="validation")
    return json.loads(printed)["agreements"], Page(text)


def test_who_made_the_poses_and_when_is_on_the_page(reported):
    _, page = reported
    assert page.row("made by")[1] == "Anna, accepted 2026-11-26 to 2026-11-27 (UTC)"
    assert page.row("made by", 2)[1] == "Ben <b>, accepted 2026-11-26 to 2026-11-27 (UTC)"


def test_every_two_files_are_compared(reported, rows):
    agreements, page = reported
    assert [(each["first"], each["second"], each["comparison"], each["frames"]) for each in agreements] == [
        ("anna", "again.csv", "intra-observer", len(rows)),
        ("anna", "ben", "inter-observer", len(rows) - 2),
        ("again.csv", "ben", "inter-observer", len(rows) - 2),
    ]
    assert "Agreement of the sources" in page.headings
    assert f"anna minus again.csv, intra-observer: {len(rows)} frames of 2 trials" in page.headings


def test_the_table_states_bias_and_limits_by_implant(reported, rows):
    agreements, page = reported
    by_implant = agreements[1]["by_implant"]
    implants = sorted({f"{part} {row[part]['anatomy_id']}" for row in rows for part in PARTS})
    assert list(by_implant) == ["all", *implants]
    y = next(each for each in by_implant["all"] if each["name"] == "world_y_mm")
    assert y["pairs"] == 2 * (len(rows) - 2) and y["bias"] == pytest.approx(0.4)
    assert y["limits_95"] == pytest.approx([0.4, 0.4])
    cells = [row for row in page.rows if row[:2] == ["all", "world x, mm"]][len(SHIFT_MM)]  # after the labels'
    assert cells[2:4] == [str(2 * len(rows)), "2"] and cells[5] == "0.000" and float(cells[7]) == 0.1
    numbers = [float(value) for value in re.findall(r"-?[\d.]+", f"{cells[4]} {cells[6]}")]
    assert numbers == [-0.1] * 9
    names = [each["name"] for each in by_implant["all"]]
    assert {"bs_depth_mm", "fs_h_mm", "rotation_z_deg", "mtpm_mm"} <= set(names) and len(names) == 13
    mtpm = next(each for each in by_implant["all"] if each["name"] == "mtpm_mm")
    assert mtpm["bias"] == pytest.approx(0.4) == mtpm["rms"]


def test_the_same_in_the_axes_of_the_joint(reported, rows):
    """Both implants are shifted alike, which the joint does not see."""
    agreements, page = reported
    assert [each["name"] for each in agreements[1]["joint"]] == list(COORDINATES)
    assert all(each["pairs"] == len(rows) - 2 and each["rms"] < 1e-9 for each in agreements[1]["joint"])
    assert "side of the knee was not stated" in agreements[1]["about_joint"]
    assert page.row("joint")[1:4] == ["flexion, deg", str(len(rows)), "2"]


def test_a_single_file_is_compared_with_the_labels_alone(dataset, rows, tmp_path):
    write_poses(tmp_path / "anna.parquet", by_hand(rows, "Anna", SHIFT_MM["anna"]))
    printed, text = write_report(
        dataset, tmp_path / "report.html", "--poses", tmp_path / "anna.parquet", "--json", split="validation"
    )
    assert json.loads(printed)["agreements"] == [] and "Agreement of the sources" not in text
