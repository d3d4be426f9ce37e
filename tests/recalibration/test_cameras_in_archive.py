"""Refined cameras in an archive: they hold for the trials of their rig, and nothing that was there changes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.fixtures.refined_cameras import refined, stored_cameras
from tests.jobs.processes import run_here
from tests.recalibration.test_write_calibration import content, files
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.refined_sources import REFINED_CAMERAS
from veriserum_hf.calibration import RefinedCameras, read_refined_cameras, refined_cameras_json
from veriserum_hf.core import CAMERA_OF, PLANES
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.dataset.replaced_cameras import plan_with_cameras
from veriserum_hf.geometry import Camera
from veriserum_hf.recalibration.cameras_in_archive import new_cameras, write_cameras

POSE = {"shift_mm": (0.4, -0.2, 0.7), "rotation_deg": (0.1, 0.05, -0.2), "center_mm": (5.0, 10.0, 380.0)}
MOVED = {**POSE, "foot_px": (0.5, -0.3), "focal": 1.001}


def trials_by_source(archive):
    """Trials of each source calibration."""
    trial_of = dict(zip(*(archive.frames[n].to_pylist() for n in ("measurement_id", "trial_id")), strict=True))
    found = {}
    for row in archive.poses.to_pylist():
        if not row["obsolete"]:
            found.setdefault(row["source_calibration_id"], set()).add(trial_of[row["measurement_id"]])
    return {id: sorted(trials) for id, trials in sorted(found.items())}


def rigs_of(archive, **change):
    """Refined cameras of each calibration: the first of its trials is not improved, if it has several."""
    rigs = []
    for id, trials in trials_by_source(archive).items():
        stored = stored_cameras(archive.source_calibrations[id])
        groups = (
            [(trials[1:], change), (trials[:1], {"verdict": "no evidence"})] if trials[1:] else [(trials, change)]
        )
        rigs += [refined(stored, trials=of, **moved).rigs[0] for of, moved in groups]
    return RefinedCameras(tuple(rigs), "session")


def cameras_of_rows(plan):
    """Cameras of every row, by measurement and plane."""
    return {
        (row["measurement_id"], plane): row[CAMERA_OF[plane]]
        for table in plan.splits.values()
        for row in table.to_pylist()
        for plane in PLANES
    }


def largest_difference(found, expected):
    """Between rows of cameras, px and mm."""
    assert found.keys() == expected.keys()
    return max(
        float(np.abs(np.subtract(found[key][name], expected[key][name])).max())
        for key in found
        for name in expected[key]
    )


@pytest.mark.parametrize("kind", ["download", "csv_download"])
@pytest.mark.parametrize("change", [POSE, MOVED])
def test_the_written_archive_has_the_cameras_of_the_file(request, kind, change):
    download = request.getfixturevalue(kind)
    before, was = download.read(), content(download)
    cameras = rigs_of(before, **change)
    calibrated = Options(config="calibrated")
    expected = cameras_of_rows(plan_with_cameras(make_plan(before, calibrated), cameras))
    stored = cameras_of_rows(make_plan(before, calibrated))
    assert largest_difference(expected, stored) > 0.1
    changes = new_cameras(before, cameras)
    ids = write_cameras(before, cameras, changes)
    after = download.read()
    assert after.problems == before.problems
    found = cameras_of_rows(make_plan(after, calibrated))
    assert largest_difference(found, expected) < 1e-9
    for (_, plane), row in found.items():
        Camera.from_row(row, (512, 512))  # nothing contradicts
        assert plane in PLANES
    assert after.poses.drop(["source_calibration_id"]) == before.poses.drop(["source_calibration_id"])
    by_source = {each.source: each for each in after.refined_sources}
    assert sorted(by_source) == ids
    np.testing.assert_allclose(by_source[ids[0]].plane_covariance, cameras.rigs[0].plane_covariance)
    assert after.decisions["cameras"].answer.startswith("refined ones")
    kept = (
        set(was) - set(content(download))
        if kind == "download"
        else {name for name, text in was.items() if not files(download.root)[name].startswith(text)}
    )
    assert not kept  # all that was there is there


def test_cameras_are_refined_again(download):
    first = rigs_of(download.read(), **POSE)
    write_cameras(download.read(), first, new_cameras(download.read(), first))
    archive = download.read()
    again = rigs_of(archive, **MOVED)
    expected = cameras_of_rows(plan_with_cameras(make_plan(archive, Options(config="calibrated")), again))
    write_cameras(archive, again, new_cameras(archive, again))
    found = cameras_of_rows(make_plan(download.read(), Options(config="calibrated")))
    assert largest_difference(found, expected) < 1e-9


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("plane_covariance = '[[1]]'", "not a covariance of 6 x 6"),
        ("plane_covariance = 'no'", "plane_covariance is 'no'"),
        ("bs_tx = 9e999", "expected finite mm"),
        ("replaced_id = 4000", "expected a trial, and ids that are there"),
    ],
)
def test_an_invalid_row_is_named_and_not_used(download, damage, message):
    before = download.read()
    cameras = rigs_of(before, **POSE)
    write_cameras(before, cameras, new_cameras(before, cameras))
    download.sql(f"UPDATE {REFINED_CAMERAS} SET {damage}")
    after = download.read()
    found = [problem for problem in after.problems if problem.kind == "refined cameras not used"]
    assert found and all(message in problem.what for problem in found)
    assert after.poses == before.poses
    assert after.refined_sources == []


def test_two_rows_for_one_trial_are_named(download):
    before = download.read()
    cameras = rigs_of(before, **POSE)
    write_cameras(before, cameras, new_cameras(before, cameras))
    write_cameras(before, cameras, new_cameras(before, cameras))  # read before the first were there
    details = {problem.what for problem in download.read().problems}
    assert any("2 rows replace source_int_calibration id" in detail for detail in details)
    assert download.read().poses == before.poses


def written(path, cameras):
    path.write_text(refined_cameras_json(cameras))
    return read_refined_cameras(path)


def test_the_command_states_what_changes_and_writes_it_once(download, tmp_path):
    file, archive = tmp_path / "cameras.json", download.read()
    cameras = written(file, rigs_of(archive, **MOVED))
    before = content(download)
    dry = run_here("calibrate", "cameras", download.root, file)
    assert dry.returncode == 3, dry.stderr  # a rig is not improved
    assert "a new row would replace source_int_calibration id" in dry.stdout
    assert "nothing was written: run again with --write" in dry.stdout
    assert "fs shift             x +0.400 +- 0.030, y -0.200 +- 0.020, z +0.700 +- 0.400 mm" in dry.stdout
    assert "bs source            principal point h +0.352, v +0.211 mm, SID +1." in dry.stdout
    assert "unchanged            trials" in dry.stdout
    assert "no evidence" in dry.stderr
    assert content(download) == before
    done = run_here("calibrate", "cameras", download.root, file, "--write", "--json")
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    ids = [each["source_int_calibration_id"] for each in document["calibrations"]]
    assert ids == sorted({each.source for each in download.read().refined_sources})
    assert [rig["verdict"] for rig in document["skipped"]].count("no evidence") == len(cameras.rigs) - len(ids)
    before = content(download)
    again = run_here("calibrate", "cameras", download.root, file, "--write")
    assert again.returncode == 2 and "cameras are replaced only once" in again.stderr
    assert content(download) == before


def test_what_is_stated_is_what_changes(download):
    archive = download.read()
    stored = trials_by_source(archive)
    rigs = [
        replace(refined(stored_cameras(archive.source_calibrations[id]), trials=[trial], **MOVED).rigs[0], **held)
        for id, trials in stored.items()
        for trial, held in zip(trials, ({}, {"unknowns": ("bs sid mm", "fs sid mm")}), strict=False)
    ]
    changes = new_cameras(archive, RefinedCameras(tuple(rigs), "trial"))
    assert any(len(trials) > 1 for trials in stored.values())
    for each in changes:
        assert each.others == tuple(stored[each.replaced][2:])  # not those of the other rig
        posed = each.rig.unknowns[0].startswith("fs shift")
        assert ("fs shift" in each.texts()) == ("fs rotation" in each.texts()) == posed
    assert {len(each.texts()) for each in changes} == {2, 4}


def test_what_cannot_be_written_is_refused(download, tmp_path):
    file, archive = tmp_path / "cameras.json", download.read()
    before = content(download)

    def refusal(cameras):
        written(file, cameras)
        done = run_here("calibrate", "cameras", download.root, file, "--write")
        assert done.returncode == 2, done.stdout
        assert content(download) == before
        return " ".join(done.stderr.split())

    cameras = rigs_of(archive, **POSE)
    improved = next(rig for rig in cameras.rigs if rig.verdict == "improved")
    elsewhere = RefinedCameras((replace(improved, trials=(4000,)),), "session")
    assert "trial 4000: it is not there" in refusal(elsewhere)
    other = stored_cameras()
    assert "is not the camera that is replaced" in refusal(refined(other, trials=improved.trials, **POSE))
    same = replace(improved, verdict="no evidence", after=improved.before)
    assert "no rig is improved" in refusal(RefinedCameras((same,), "session"))
    far = refined(improved.before, trials=improved.trials, shift_mm=(4000.0, 0, 0))
    assert "source_int_calibration id" in refusal(far)
    bs, fs = (improved.before[plane] for plane in ("bs", "fs"))
    rotated = replace(improved, after={"bs": replace(bs, world_to_camera=fs.world_to_camera), "fs": fs})
    assert "bs is rotated" in refusal(RefinedCameras((rotated,), "session"))


def test_an_archive_without_refined_cameras_has_none(pristine):
    archive = VeriserumArchive(pristine.root)
    assert archive.refined_sources == [] and "cameras" not in archive.decisions
