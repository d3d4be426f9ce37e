"""Every check of an archive in one report."""

import json

import cv2
import numpy as np
import pytest

from tests.fixtures.archives import ANATOMIES_FOLDER, FRAMES_FOLDER, write_archive
from tests.fixtures.downloads import SIZE
from veriserum_hf.archive.audit import audit_archive as audit


def problems(report):
    return [(problem.kind, problem.where) for problem in report.findings.problems]


def test_a_clean_archive_has_status_0_and_its_counts(pristine):
    report = audit(pristine.root, deep=True)
    assert (report.exit_status, problems(report)) == (0, [])
    assert report.counts == {
        "measurements": 12,
        "trials": 4,
        "tasks": {"gait": 3, "ramp_down": 3, "stair_descent": 3, "chair_sit": 3},
        "frame_files": {"bs": 12, "fs": 12},
        "frames_with_both_planes": 12,
        "poses": {"manual": 2, "refined": 24, "target": 24},
        "obsolete_poses": 6,
        "implants": {"1": "femur", "2": "femur", "3": "tibia", "4": "tibia", "5": "tibia"},
        "distortion_calibrations": 2,
        "source_calibrations": 2,
        "calibration_frames": 4,
    }
    unclipped = {"frames": 12, "median": 0.0, "p95": 0.0, "max": 0.0, "frames_above_5_percent": 0}
    assert report.as_json()["clipped"] == {"bs": unclipped, "fs": unclipped}


def remove_both_planes(download):
    download.frame("bs_000005").unlink()
    download.frame("fs_000005").unlink()


def remove_one_plane(download):
    download.frame("fs_000005").unlink()


def empty_a_frame(download):
    download.frame("fs_000005").write_bytes(b"")


def add_a_frame(download):
    download.frame("bs_000777").write_bytes(download.frame("bs_000005").read_bytes())


def remove_an_implant(download):
    (download.root / ANATOMIES_FOLDER / "ana_000004.stl").unlink()


@pytest.mark.parametrize(
    ("damage", "kind", "where", "text"),
    [
        (remove_both_planes, "missing", "measurement 5", "neither plane has a frame"),
        (remove_one_plane, "one plane only", "measurement 5", "there is no fs frame"),
        (empty_a_frame, "zero bytes", f"{FRAMES_FOLDER}/fs_000005.jpg", "the file is empty"),
        (add_a_frame, "file without row", f"{FRAMES_FOLDER}/bs_000777.jpg", "no measurement has the id 777"),
        (remove_an_implant, "no implant file", "ana_000004.stl", "anatomy 4 has poses but no STL file"),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_a_fault_of_one_file_is_reported_once_with_its_place(download, damage, kind, where, text, deep):
    damage(download)
    report = audit(download.root, deep=deep)
    assert (report.exit_status, problems(report)) == (1, [(kind, where)])
    (problem,) = report.findings.problems
    assert text in problem.what and problem.remedy and not problem.structural


def test_a_frame_that_has_no_pose_need_not_be_there(download):
    download.sql("DELETE FROM poses WHERE measurement_id = 5")
    remove_both_planes(download)
    assert audit(download.root).exit_status == 0


def cut_off(path):
    path.write_bytes(path.read_bytes()[:3000])


def black(path):
    assert cv2.imwrite(str(path), np.zeros((400, 416), np.uint8))


def in_colour(path):
    grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert cv2.imwrite(str(path), np.dstack([grey, grey, 255 - grey]))


def no_image(path):
    path.write_bytes(b"<html>404 Not Found</html>")


def test_a_deep_audit_states_how_much_of_the_frames_is_clipped(download):
    path = download.frame("fs_000004")
    levels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    brighter = np.minimum(1.6 * levels, 255).astype(np.uint8)
    assert cv2.imwrite(str(path), brighter, (cv2.IMWRITE_JPEG_QUALITY, 90))
    report = audit(download.root, deep=True)
    assert report.exit_status == 0 and report.clipped["bs"]["max"] == 0
    found = report.clipped["fs"]
    dark = cv2.blur(brighter, (3, 3)) < 0.08 * 255
    expected = (brighter == 255).sum() / (~dark).sum()
    assert found["max"] == pytest.approx(expected, rel=0.15) and expected > 0.1
    assert (found["frames"], found["frames_above_5_percent"], found["median"]) == (12, 1, 0)
    assert 0 < found["p95"] < found["max"]
    shallow = audit(download.root)
    assert shallow.clipped is None and "clipped" not in shallow.as_json()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(cut_off, "truncated"), (black, "all black"), (in_colour, "wrong channel count"), (no_image, "unreadable")],
)
def test_only_a_deep_audit_finds_what_is_wrong_inside_a_frame(download, damage, reason):
    damage(download.frame("bs_000004"))
    assert audit(download.root).exit_status == 0
    report = audit(download.root, deep=True)
    assert (report.exit_status, problems(report)) == (1, [(reason, f"{FRAMES_FOLDER}/bs_000004.jpg")])


def test_a_deep_audit_decodes_calibration_frames_too(download):
    path = next(download.root.rglob("cal_fs_*.tif"))
    path.write_bytes(path.read_bytes()[:3000])
    assert problems(audit(download.root, deep=True)) == [("truncated", path.relative_to(download.root).as_posix())]


def test_progress_counts_every_frame_and_mesh(pristine):
    steps = []
    audit(pristine.root, deep=True, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 33) for done in range(1, 34)]


def test_frames_named_by_pose_are_audited_by_pose(tmp_path):
    root = tmp_path / "veriserum"
    write_archive(root, trials=2, frame_size=SIZE, ids="pose")
    assert audit(root, deep=True).exit_status == 0
    (root / FRAMES_FOLDER / "bs_009999.jpg").write_bytes((root / FRAMES_FOLDER / "bs_000001.jpg").read_bytes())
    (problem,) = audit(root).findings.problems
    assert (problem.kind, problem.what) == ("file without row", "no pose has the id 9999")


def test_every_problem_is_listed_not_only_the_first(download):
    download.sql(
        "UPDATE poses SET tx = NULL WHERE id IN (5, 7);"
        "UPDATE poses SET anatomy_id = 99 WHERE id = 20;"
        "UPDATE trials SET path = '/etc/passwd' WHERE id = 18;"
        "UPDATE distortion_calibration SET distortion_result_fs = '1,2;3' WHERE id = 8"
    )
    remove_one_plane(download)
    report = audit(download.root)
    assert report.exit_status == 2
    table = "veriserumSqlite3_refined.db, table"
    assert set(problems(report)) >= {
        ("pose not finite", f"{table} poses, id 5"),
        ("pose not finite", f"{table} poses, id 7"),
        ("dangling id", f"{table} poses, id 20"),
        ("path outside", f"{table} trials, id 18"),
        ("unusable calibration", f"{table} distortion_calibration, id 8"),
        ("one plane only", "measurement 5"),
    }
    assert report.as_json()["problem_counts"]["pose not finite"] == 2


def test_an_archive_without_any_pose_is_not_clean(download):
    download.sql("DELETE FROM poses")
    assert audit(download.root).exit_status > 0


@pytest.mark.parametrize("damage", ["DROP TABLE trials", "UPDATE poses SET tx = NULL WHERE id = 7"])
def test_an_unusable_archive_has_status_2(download, damage):
    download.sql(damage)
    report = audit(download.root)
    assert report.exit_status == 2
    assert report.as_json()["status"] == "unusable"


def test_nothing_at_the_path_has_status_2(tmp_path):
    report = audit(tmp_path / "nowhere")
    assert report.exit_status == 2
    assert problems(report) == [("no archive", str(tmp_path / "nowhere"))]


@pytest.mark.parametrize(
    "damage", ["", "DROP TABLE trials", "UPDATE poses SET tx = NULL, r1 = 9e999", "DELETE FROM poses"]
)
def test_the_report_is_json(download, damage):
    download.sql(damage)
    document = audit(download.root).as_json()
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text) == document
    assert document.keys() == {"archive", "status", "counts", "problem_counts", "decisions", "problems"}
    for problem in document["problems"]:
        assert problem.keys() == {"kind", "where", "what", "remedy", "structural"}


def test_an_audit_leaves_no_trace_in_the_folder(download):
    before = download.listing()
    audit(download.root, deep=True)
    assert download.listing() == before


@pytest.mark.parametrize("table", ["measurements", "trials", "anatomies"])
def test_an_id_in_two_rows_makes_the_archive_unusable(download, table):
    download.sql(f"CREATE TABLE copy AS SELECT * FROM {table}")
    download.sql(f"INSERT INTO copy SELECT * FROM {table} LIMIT 1")
    download.sql(f"DROP TABLE {table}")
    download.sql(f"ALTER TABLE copy RENAME TO {table}")
    first = download.rows(f"SELECT id FROM {table} LIMIT 1")[0][0]
    assert f"table {table}, id {first}: this id occurs in 2 rows" in str(audit(download.root).findings.unusable())
