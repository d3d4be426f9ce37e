"""Simulated archives: the same bytes for the same seed, gone on with where they stopped, and clean."""

import contextlib
import csv
import errno
import hashlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from tests.jobs.processes import killed_at, run_here, small_disk, written
from veriserum_hf import DualPlaneRig, VeriserumArchive
from veriserum_hf.archive.audit import audit_archive as audit
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.errors import SimulationError
from veriserum_hf.geometry.pose import angle_between_deg, quaternion_to_matrix
from veriserum_hf.simulation.settings import Settings, parse_height
from veriserum_hf.simulation.tables import DATABASE_NAME
from veriserum_hf.simulation.write import simulate

SMALL = {"trials": 3, "frames_per_trial": 3, "pairs": 3, "height_px": 200, "marker_frames": 1}
LARGEST_STL_BYTES = 1_500_000  # or a little less
# Frames larger than that.
DEEP = {"trials": 1, "frames_per_trial": 2, "pairs": 1, "height_px": 900, "bit_depth": 16, "marker_frames": 1}


def content(folder):
    """Digest of every file below a folder."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three trials of three frames, not to be changed."""
    return simulate(tmp_path_factory.mktemp("small") / "archive", Settings(**SMALL), workers=1)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Two frames of 16 bits, not to be changed."""
    return simulate(tmp_path_factory.mktemp("deep") / "archive", Settings(**DEEP), workers=1)


@pytest.fixture(scope="module")
def as_csv(tmp_path_factory):
    """Tables in files of CSV, not to be changed."""
    settings = Settings(**SMALL, csv=True, rotation="euler")
    return simulate(tmp_path_factory.mktemp("csv") / "archive", settings, workers=1)


def check_audit(archive, frames):
    report = audit(archive, deep=True)
    assert report.exit_status == 0, report.findings.problems
    assert report.counts["frames_with_both_planes"] == frames
    assert report.counts["poses"]["refined"] == 2 * frames


def test_the_audit_is_clean(small, deep, as_csv):
    for archive, frames in ((small, 9), (deep, 2), (as_csv, 9)):
        check_audit(archive, frames)


@pytest.mark.parametrize("choice", [{"ids": "pose"}, {"rotation": "euler"}], ids=str)
def test_the_audit_is_clean_of_other_ids_and_rotations(tmp_path, choice):
    check_audit(simulate(tmp_path / "out", Settings(**SMALL | {"trials": 2} | choice), workers=1), 6)


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_workers(small, tmp_path):
    first = content(small)
    assert len(first) > 30
    assert sum("/cal_" in name for name in first) == 3 * 2 * 2
    assert content(simulate(tmp_path / "again", Settings(**SMALL), workers=2)) == first
    other = content(simulate(tmp_path / "other", Settings(**SMALL, seed=1), workers=1))
    assert other.keys() == first.keys()
    changed = {name for name in first if other[name] != first[name]}
    assert {name for name in first if not name.endswith(".stl")} == changed  # implants are the same


@pytest.mark.parametrize("step", [2, 12])
def test_it_goes_on_where_it_was_killed(small, tmp_path, step):
    """Before its first image, and among them."""
    out, images = tmp_path / "out", "veriserum_collection_compressed/*.jpg"
    assert killed_at(step, simulate, out, Settings(**SMALL), workers=1)
    assert not out.exists()
    archive = tmp_path / "out.incomplete" / "archive"
    kept = written(archive, images)
    assert len(kept) == max(0, step - 3)  # after the records of what is done and of what was drawn
    (archive / "veriserum_collection_compressed" / ".bs_000009.jpg.0a1b2c3d.partial").write_bytes(b"half")
    assert content(simulate(out, Settings(**SMALL), workers=1)) == content(small)
    assert kept.items() <= written(out, images).items()
    assert not (tmp_path / "out.incomplete").exists()


def test_unfinished_work_with_other_settings_is_not_mixed(tmp_path):
    (tmp_path / "out.incomplete").mkdir()
    (tmp_path / "out.incomplete" / "record.json").write_text('{"settings": "others"}')
    with pytest.raises(SimulationError, match="unfinished simulation with other input, options or versions"):
        simulate(tmp_path / "out", Settings(**SMALL), workers=1)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(SimulationError, match=r"exists already and is not an empty folder\. Nothing was changed\."):
        simulate(tmp_path, Settings(**SMALL))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(SimulationError, match="not an empty folder"):
        simulate(tmp_path / "thesis.txt", Settings(**SMALL))


def test_killed_between_putting_in_place_and_tidying_up_it_is_done(small, tmp_path):
    out, incomplete = tmp_path / "out", tmp_path / "out.incomplete"
    shutil.copytree(small, out)
    incomplete.mkdir()
    record = json.loads((out / "simulation.json").read_text())
    (incomplete / "record.json").write_text(json.dumps({name: record[name] for name in ("versions", "settings")}))
    assert simulate(out, Settings(**SMALL), workers=1) == out
    assert not incomplete.exists()
    assert content(out) == content(small)


def test_run_again_it_is_done_unless_the_result_is_damaged(small, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(small, out)
    options = [
        f"--{'size' if name == 'height_px' else name.replace('_', '-')}={value}" for name, value in SMALL.items()
    ]
    again = run_here("simulate", out, *options)
    assert (again.returncode, again.stdout) == (0, f"written to {out}\n")
    frame = next(out.glob("veriserum_collection_compressed/*.jpg"))
    frame.write_bytes(bytes(frame.stat().st_size))
    damaged = run_here("simulate", out, *options)
    assert damaged.returncode == 2 and f"damaged: veriserum_collection_compressed/{frame.name} " in damaged.stderr
    with pytest.raises(SimulationError, match="is the current folder"), contextlib.chdir(out):
        simulate(".", Settings(**SMALL))


def test_after_a_power_cut_in_any_file_the_result_is_the_same(small, tmp_path):
    """A frame, the list of what is finished, the record."""
    assert killed_at(12, simulate, tmp_path / "half", Settings(**SMALL), workers=1)
    for number, name in enumerate(
        (
            "archive/veriserum_collection_compressed/bs_000001.jpg",
            "SHA256SUMS",
            "record.json",
        )
    ):
        out = tmp_path / f"out{number}"
        shutil.copytree(tmp_path / "half.incomplete", tmp_path / f"out{number}.incomplete")
        path = tmp_path / f"out{number}.incomplete" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert content(simulate(out, Settings(**SMALL), workers=1)) == content(small), name


def test_a_link_to_an_empty_folder_is_followed(tmp_path):
    settings = Settings(trials=1, frames_per_trial=1, pairs=1, height_px=100, marker_frames=0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    simulate(tmp_path / "link", settings, workers=1)
    assert content(tmp_path / "elsewhere") == content(simulate(tmp_path / "out", settings, workers=1))


def test_every_id_leads_to_a_row(small):
    connection = sqlite3.connect(small / DATABASE_NAME)
    links = {
        "poses": {"measurement_id": "measurements", "anatomy_id": "anatomies"}
        | {f"{kind}_calibration_id": f"{kind}_calibration" for kind in ("source_int", "distortion")},
        "measurements": {"trials_id": "trials"},
        "trials": {"study_id": "studies", "subject_id": "subjects", "calibration_set_id": "calibration_set"},
        "anatomies": {"subject_id": "subjects"},
        "calibration_trials": {"calibration_set_id": "calibration_set"},
        "calibration_measurements": {"calibration_trials_id": "calibration_trials"},
        "distortion_calibration": {f"calibration_trial_id_{plane}": "calibration_trials" for plane in ("bs", "fs")},
        "source_int_calibration": {f"calibration_trial_id_{plane}": "calibration_trials" for plane in ("bs", "fs")},
    }
    for table, columns in links.items():
        for column, other in columns.items():
            query = f"SELECT count(*) FROM {table} WHERE {column} NOT IN (SELECT id FROM {other})"
            assert connection.execute(query).fetchone() == (0,), (table, column)
    connection.close()


@pytest.mark.parametrize(
    ("largest_bytes", "choice", "workers", "error"),
    [
        (1_000_000, SMALL, 1, os.strerror(errno.EFBIG)),
        # Smaller than a database of many frames.
        (LARGEST_STL_BYTES, SMALL | {"trials": 40, "frames_per_trial": 50}, 1, f"{DATABASE_NAME}: "),
        (LARGEST_STL_BYTES, DEEP, 1, os.strerror(errno.EFBIG)),
        (LARGEST_STL_BYTES, DEEP, 2, os.strerror(errno.EFBIG)),
    ],
    ids=["implants", "database", "frame", "frame in a worker"],
)
def test_a_full_disk_is_one_message_and_what_is_finished_is_kept(
    small, deep, tmp_path, largest_bytes, choice, workers, error
):
    out, unfinished = tmp_path / "out", tmp_path / "out.incomplete"
    options = {"size" if name == "height_px" else name.replace("_", "-"): value for name, value in choice.items()}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    with small_disk(largest_bytes):
        ran = run_here("simulate", out, "--workers", workers, *arguments)
    assert ran.returncode == 2, ran.stderr
    assert f"error: Cannot write below {unfinished}: {error}" in ran.stderr
    assert "What is finished is kept" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not out.exists()
    assert largest_bytes < LARGEST_STL_BYTES or list(unfinished.rglob("ana_*.stl"))
    if choice.get("trials") != 40:  # it would take a while
        at_once = deep if choice == DEEP else small
        assert content(simulate(out, Settings(**choice), workers=1)) == content(at_once)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"trials": 0}, "trials must be a whole number from 1 to 100000, got 0"),
        ({"frames_per_trial": -3}, "frames_per_trial must be a whole number from 1 to 10000, got -3"),
        ({"pairs": 11}, "pairs must be a whole number from 1 to 10, got 11"),
        ({"seed": -1}, r"seed must be a whole number from 0 to \d+, got -1"),
        ({"height_px": 20}, "height_px \\(--size\\) must be a whole number from 100 to 3200, got 20"),
        ({"ids": "frame"}, "ids must be 'measurement' or 'pose', got 'frame'"),
        ({"bit_depth": 12}, "bit_depth must be 8 or 16, got 12"),
        ({"csv": True}, "the CSV files of the download hold Euler angles and no quaternions"),
    ],
)
def test_impossible_settings_are_refused(choice, message):
    with pytest.raises(SimulationError, match=message):
        Settings(**choice)


def test_sizes_of_frames():
    assert parse_height("1600") == parse_height("1664x1600") == 1600
    assert parse_height("416x400") == 400
    with pytest.raises(SimulationError, match=r"400 rows go with 416 columns, got 400x400"):
        parse_height("400x400")
    with pytest.raises(SimulationError, match="such as 1600, or 1664x1600; got 'large'"):
        parse_height("large")


def test_frames_have_the_size_and_depth_that_was_asked_for(small, deep):
    frame = cv2.imread(str(small / "veriserum_collection_compressed" / "bs_000001.jpg"), cv2.IMREAD_UNCHANGED)
    assert frame.shape == (200, 208)
    assert frame.dtype == np.uint8
    frame = cv2.imread(str(deep / "veriserum_collection_compressed" / "fs_000002.tif"), cv2.IMREAD_UNCHANGED)
    assert frame.shape == (900, 936)
    assert frame.dtype == np.uint16
    assert 2000 < frame.max() <= 4095


def test_truth_has_every_implant_of_every_frame_and_labels_stay_near(small):
    truth = pq.read_table(small / "truth.parquet")
    assert truth.num_rows == 2 * 9
    columns = ["measurement_id", "anatomy_id", "translation_mm", "quaternion_xyzw", "covariance", "verdict"]
    assert set(columns) <= set(truth.column_names)
    exact = {(r["measurement_id"], r["anatomy_id"]): r for r in truth.to_pylist()}
    off = {"refined": [], "target": [], "manual": []}
    poses = VeriserumArchive(small).poses
    for row in poses.filter(poses["obsolete"].cast("bool").to_numpy() == 0).to_pylist():
        true = exact[row["measurement_id"], row["anatomy_id"]]
        R_stored, R_true = (quaternion_to_matrix(r["quaternion_xyzw"]) for r in (row, true))
        distance_mm = np.linalg.norm(np.subtract(row["translation_mm"], true["translation_mm"]))
        off[row["kind"]].append((distance_mm, angle_between_deg(R_stored, R_true)))
    medians = {kind: np.median(errors, axis=0) for kind, errors in off.items()}
    assert len(off["refined"]) == len(off["target"]) == 18
    assert len(off["manual"]) == 2
    assert (medians["refined"] < 0.2).all()
    assert (medians["target"] > 0.5).all()


def test_every_column_of_every_table_is_filled(small):
    connection = sqlite3.connect(small / "veriserumSqlite3_refined.db")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert set(tables) == {
        *("poses", "measurements", "trials", "anatomies", "subjects", "studies", "calibration_trials"),
        *("calibration_measurements", "calibration_set", "distortion_calibration", "source_int_calibration"),
    }
    empty = set()
    for table in tables:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        for column in columns:
            (count,) = connection.execute(f"SELECT count({column}) FROM {table}").fetchone()
            empty |= {(table, column)} if count == 0 else set()
    assert empty == {("subjects", "birthdate")}  # a phantom has none
    assert connection.execute("SELECT count(*) FROM poses WHERE obsolete = 1").fetchone()[0] > 0
    assert {m for (m,) in connection.execute("SELECT DISTINCT method FROM poses")} == {"REFINED", "ROBOT", "MANMATCH"}
    connection.close()


def test_calibrations_differ_and_have_their_bead_grids(small):
    archive = VeriserumArchive(small)
    assert len(archive.distortions) == len(archive.source_calibrations) == 3
    grids = archive.calibration_frames.filter(pc.equal(archive.calibration_frames["phantom"], "sipla_grid"))
    assert grids["plane"].to_pylist() == ["bs", "fs"] * 3
    assert len({d["bs"].to_string() for d in archive.distortions.values()}) == 3
    assert len({tuple(rig["bs"].principal_point_mm) for rig in archive.source_calibrations.values()}) == 3
    assert all(isinstance(rig, DualPlaneRig) for rig in archive.source_calibrations.values())


def test_the_record_says_what_was_simulated(small):
    record = json.loads((small / "simulation.json").read_text())
    assert record["settings"] | SMALL == record["settings"]
    imaging = [by_plane[plane] for by_plane in record["imaging_by_trial"].values() for plane in ("bs", "fs")]
    assert len(imaging) == 6
    assert len({drawn["quanta_per_pixel"] for drawn in imaging}) == 6
    assert {"manifold3d", "numba", "cv2", "source"} <= set(record["versions"])


def test_the_card_of_a_simulated_archive_reports_it(small, tmp_path):
    convert_archive(small, tmp_path / "out", workers=1)
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "mit"
    assert "synthetic" in card.data.tags
    assert "Nothing here was\nmeasured" in card.text
    assert "Non-Commercial" not in card.text


def test_csv_files_are_those_of_the_authors(as_csv):
    assert not list(as_csv.glob("*.db"))
    with (as_csv / "veriserum_pose_reloaded_refined_all.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {"rz", "rx", "ry", "tx", "obsolete"} <= set(rows[0])
    assert len({row["measurement_id"] for row in rows}) == 9


def test_volumes_of_the_implants_come_on_request(tmp_path):
    out = simulate(tmp_path / "out", Settings(**SMALL | {"trials": 1, "pairs": 1}, nifti=True), workers=1)
    names = {path.name for path in (out / "veriserum_anatomies").iterdir()}
    assert {"ana_000001.stl", "ana_000001_HU10000_filled.nii", "ana_000003_HU10000_filled.nii"} <= names
