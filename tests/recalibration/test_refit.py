"""``audit --calibration``: stored calibrations against the phantom frames that are in the archive."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.commands import run
from tests.jobs.processes import run_here
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.recalibration.audit import audit_calibrations


def sql(root, script):
    (database,) = root.glob("*.db")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(script)


def outcomes(report):
    return [(refit.table, refit.id, refit.plane, refit.outcome) for refit in report.calibration]


def every(table, ids, outcome):
    return [(table, id, plane, outcome) for id in ids for plane in ("bs", "fs")]


def test_what_the_frames_were_drawn_with_agrees(pristine):
    steps = []
    report = audit_calibrations(pristine.root, refit_progress=lambda done, total: steps.append((done, total)))
    assert report.exit_status == 0
    assert outcomes(report) == [
        *every("distortion_calibration", (3, 8), "agrees"),
        *every("source_int_calibration", (2, 5), "no frames"),
    ]
    assert steps == [(done, 4) for done in (1, 2, 3, 4)]
    for refit in report.calibration[:4]:
        assert 0 < refit.numbers["mapped_off_mm_median"] < refit.numbers["mapped_off_mm_max"] < 0.1
        assert re.fullmatch(r".*cal_(bs|fs)_\d{6}\.tif", refit.frames[0])


def test_a_distortion_that_maps_elsewhere_is_a_problem_that_stops_nothing(download):
    text = download.rows("SELECT distortion_result_fs FROM distortion_calibration WHERE id = 8")[0][0]
    numbers = text.split(",")
    numbers[4] = str(float(numbers[4]) * 1.004)  # 0.4 % wider: 0.6 mm at the rim
    download.sql(f"UPDATE distortion_calibration SET distortion_result_fs = '{','.join(numbers)}' WHERE id = 8")
    report = audit_calibrations(download.root)
    assert report.exit_status == 1
    (problem,) = report.findings.problems
    assert (problem.kind, problem.structural) == ("calibration differs", False)
    assert problem.where == "veriserumSqlite3_refined.db, table distortion_calibration, id 8, fs"
    found = re.search(
        r"mapped places differ by (\S+) mm \(median\), (\S+) mm at most; expected at most 0.34 mm", problem.what
    )
    median_mm, most_mm = map(float, found.groups())
    assert 0.2 < median_mm < 0.45 and 0.5 < most_mm < 0.8
    assert "new id. Stored poses keep the calibration that they name." in problem.remedy
    assert download.read().distortions.keys() == {3, 8}


def test_a_refit_compares_maps_not_coefficients(download):
    """The same map in other numbers: u and v rotated by 90 degrees, powers and all."""
    archive = download.read()
    stored = archive.distortions[8]["bs"]
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    powers = (-1.0) ** np.arange(4)
    x, y = (np.reshape(c, (4, 4)).T * powers for c in (stored.x_coefficients, stored.y_coefficients))
    other = Distortion(
        tuple(x.ravel()),
        tuple(y.ravel()),
        stored.scale,
        tuple(quarter.T @ stored.translation),
        tuple((quarter.T @ np.reshape(stored.rotation, (2, 2))).ravel()),
    )
    xy_px = np.array([[300.0, 500.0], [1200.0, 900.0]])
    np.testing.assert_allclose(other.to_mm(xy_px), stored.to_mm(xy_px))
    download.sql(f"UPDATE distortion_calibration SET distortion_result_bs = '{other.to_string()}' WHERE id = 8")
    assert audit_calibrations(download.root).exit_status == 0


def test_a_frame_that_cannot_be_fitted_is_a_problem_with_its_reason(download):
    blank, broken = sorted(download.root.rglob("cal_*.tif"))[:2]
    assert cv2.imwrite(str(blank), np.full((400, 416), 200, np.uint8))
    broken.write_bytes(broken.read_bytes()[:5000])
    report = audit_calibrations(download.root)
    assert report.exit_status == 1
    reported = [str(problem) for problem in report.findings.problems if problem.kind == "phantom not fitted"]
    assert len(reported) == 2
    for path, reason in [(blank, "no contrast: the frame is blank"), (broken, "truncated: ")]:
        name = path.relative_to(download.root).as_posix()
        assert any(re.search(rf"id \d, (bs|fs): {name}: {reason}", text) for text in reported), reported
    assert [outcome for *_, outcome in outcomes(report)].count("not fitted") == 2


def test_sources_agree_but_for_a_pose_that_is_only_nominal(pristine_laboratory):
    """The fs intensifier is 2 mm and 0.5 degrees off, which its stored calibrations do not know."""
    report = audit_calibrations(pristine_laboratory)
    by_plane = {
        plane: [refit for refit in report.calibration if refit.table[0] == "s" and refit.plane == plane]
        for plane in ("bs", "fs")
    }
    assert [refit.outcome for refit in by_plane["bs"]] == ["agrees"] * 3
    assert [refit.outcome for refit in by_plane["fs"]] == ["differs"] * 3
    assert {problem.kind for problem in report.findings.problems} == {"calibration differs"}
    assert report.exit_status == 1
    for refit in by_plane["fs"]:
        assert np.linalg.norm(refit.numbers["fs_shift_off_mm"]) == pytest.approx(2.0, abs=0.4)
        assert np.linalg.norm(refit.numbers["fs_turn_off_deg"]) == pytest.approx(0.5, abs=0.1)
        assert "fs centre x " in refit.detail and "degrees" in refit.detail
        assert len(refit.frames) == 4
    assert [refit.numbers["distortion_id"] for refit in by_plane["bs"]] == [2, 5, 8]
    for refit in by_plane["bs"] + by_plane["fs"]:
        off, std = np.array(refit.numbers["source_off_mm"]), np.array(refit.numbers["source_std_mm"])
        assert (np.abs(off) < 5 * std).all() and (std < 1).all()


def test_a_rig_that_is_written_agrees_and_the_old_ones_keep_their_meaning(first_day):
    trial = VeriserumArchive(first_day).source_trials[1]["bs"]
    options = ["--calibration-trial", trial, "--distortion-id", 2, "--write", first_day]
    assert run_here("calibrate", "rig", *options).returncode == 0
    report = audit_calibrations(first_day)
    outcome = {(refit.id, refit.plane): refit.outcome for refit in report.calibration if refit.table[0] == "s"}
    assert (outcome[6, "bs"], outcome[6, "fs"]) == ("agrees", "agrees")
    assert outcome[1, "fs"] == "differs"


@pytest.mark.parametrize("plane", ["bs", "fs"])
def test_a_source_that_is_off_is_a_problem(first_day, plane):
    sql(first_day, f"UPDATE source_int_calibration SET principalp_h_{plane} = principalp_h_{plane} + 6 WHERE id = 1")
    report = audit_calibrations(first_day)
    refit = next(
        refit for refit in report.calibration if refit.table[0] == "s" and (refit.id, refit.plane) == (1, plane)
    )
    assert refit.outcome == "differs"
    assert refit.numbers["source_off_mm"][0] == pytest.approx(-6, abs=1.5)
    where = f"veriserumSqlite3_refined.db, table source_int_calibration, id 1, {plane}"
    assert where in [problem.where for problem in report.findings.problems]


def test_a_small_or_an_uncertain_difference_is_not_reported(first_day):
    sql(first_day, "UPDATE source_int_calibration SET sid_bs = sid_bs + 0.4 WHERE id = 1")
    report = audit_calibrations(first_day)
    refit = next(
        refit for refit in report.calibration if refit.table[0] == "s" and (refit.id, refit.plane) == (1, "bs")
    )
    assert refit.outcome == "agrees"


def test_planes_that_were_recorded_one_after_the_other_are_refitted_each_alone(first_day):
    archive = VeriserumArchive(first_day)
    trial = archive.source_trials[1]["fs"]
    sql(
        first_day,
        f"CREATE TABLE later AS SELECT * FROM calibration_trials WHERE id = {trial}; UPDATE later SET id = 999;"
        "INSERT INTO calibration_trials SELECT * FROM later; DROP TABLE later;"
        "UPDATE source_int_calibration SET calibration_trial_id_fs = 999 WHERE id = 1",
    )
    rows = archive.calibration_frames.to_pylist()
    for row in rows:
        if (row["calibration_trial_id"], row["plane"]) == (trial, "fs"):
            number = 9000 + row["calibration_measurement_id"]
            Path(row["path"]).rename(Path(row["path"]).with_name(f"cal_fs_{number:06d}.tif"))
            sql(
                first_day,
                f"INSERT INTO calibration_measurements (id, calibration_trials_id) VALUES ({number}, 999)",
            )
    report = audit_calibrations(first_day)
    refits = [refit for refit in report.calibration if refit.table[0] == "s" and refit.id == 1]
    assert [(refit.plane, refit.outcome, len(refit.frames)) for refit in refits] == [
        ("bs", "agrees", 4),
        ("fs", "agrees", 4),  # alone it does not determine the pose of the intensifier
    ]
    assert all("fs_shift_off_mm" not in refit.numbers for refit in refits)


def test_frames_of_another_phantom_are_reported_once_for_a_calibration(first_day):
    archive = VeriserumArchive(first_day)
    grid = next(row["path"] for row in archive.calibration_frames.to_pylist() if row["phantom"] == "sipla_grid")
    cylinders = [
        row
        for row in archive.calibration_frames.to_pylist()
        if row["calibration_trial_id"] == archive.source_trials[1]["bs"]
    ]
    beads = cv2.imread(grid, cv2.IMREAD_UNCHANGED)
    beads[300:] = 0  # fewer to look at
    for row in cylinders:
        assert cv2.imwrite(row["path"], beads)
    printed = run_here("audit", first_day, "--calibration").stdout
    assert "source_int_calibration 1 bs not fitted: see below" in printed
    (problem,) = re.search(r"\nphantom not fitted \(1\)\n(.*)", printed, re.DOTALL).groups()
    assert "table source_int_calibration, id 1, bs and fs: no frame can be used, of 8 in all:" in problem
    assert "but only 0 of them are large ones" in problem and "and 3 more" in problem
    assert "and distortion calibration 2, which they were read with" in problem
    assert printed.count("no frame can be used, of 8 in all:") == 1


def test_one_bad_frame_is_a_problem_and_the_others_are_used(first_day):
    archive = VeriserumArchive(first_day)
    row = next(
        row
        for row in archive.calibration_frames.to_pylist()
        if row["calibration_trial_id"] == archive.source_trials[1]["bs"]
    )
    Path(row["path"]).write_bytes(b"")
    report = audit_calibrations(first_day)
    (problem,) = [problem for problem in report.findings.problems if problem.kind == "phantom not fitted"]
    assert "2 of 8 frames cannot be used: " in problem.what and "zero bytes: the file is empty" in problem.what
    refits = [refit for refit in report.calibration if refit.table[0] == "s" and refit.id == 1]
    assert [len(refit.frames) for refit in refits] == [3, 3]


def test_a_source_whose_distortion_is_not_known_is_not_fitted(first_day):
    sql(
        first_day,
        "CREATE TABLE unused AS SELECT * FROM source_int_calibration WHERE id = 1; UPDATE unused SET id = 9;"
        "INSERT INTO source_int_calibration SELECT * FROM unused; DROP TABLE unused;"
        "UPDATE calibration_trials SET calibration_set_id = NULL",
    )
    report = audit_calibrations(first_day)
    problem = next(problem for problem in report.findings.problems if "id 9" in problem.where)
    assert problem.what == "neither a pose nor a calibration set states which distortion goes with it"


def test_the_command_prints_and_counts_what_it_did(download):
    done = run("audit", download.root, "--calibration", "--deep", FORCE_COLOR="1")
    assert done.returncode == 0, done.stderr
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert "A refit does not reproduce stored coefficients; the mapped positions are compared." in plain
    assert re.search(
        r"distortion_calibration 3 bs agrees \(\S+cal_bs_\d+\.tif\): mapped places differ by 0\.0\d\d mm ", plain
    )
    assert "source_int_calibration 2 fs no frames" in plain
    assert "decoding" in done.stderr and "refitting" in done.stderr and "4/4" in done.stderr


def test_json_has_a_list_of_calibrations(download):
    done = run_here("audit", download.root, "--calibration", "--json")
    document = json.loads(done.stdout)
    assert [entry["outcome"] for entry in document["calibration"]] == ["agrees"] * 4 + ["no frames"] * 4
    first = document["calibration"][0]
    assert first.keys() >= {"table", "id", "plane", "frames", "detail", "mapped_off_mm_median", "mapped_off_mm_max"}


def test_without_a_request_nothing_is_refitted(download):
    assert "calibration" not in json.loads(run_here("audit", download.root, "--json").stdout)


def test_an_unusable_archive_is_not_refitted(download):
    download.sql("UPDATE poses SET tx = NULL WHERE id = 7")
    report = audit_calibrations(download.root)
    assert report.exit_status == 2
    assert report.calibration is None
