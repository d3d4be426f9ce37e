"""Poses that do not fit the frames around them, or their partner, are named by trial and measurement."""

import numpy as np
import pyarrow as pa
import pytest

from tests.fixtures.archives import FRAMES_FOLDER
from veriserum_hf.archive.audit import audit_archive as audit
from veriserum_hf.archive.measurements import FRAME_SCHEMA
from veriserum_hf.archive.motion import check_motion
from veriserum_hf.archive.poses import POSE_SCHEMA
from veriserum_hf.archive.problems import Findings
from veriserum_hf.geometry.pose import matrix_to_quaternion
from veriserum_hf.simulation.scenario import trial
from veriserum_hf.simulation.settings import Settings

LONG = Settings(trials=4, frames_per_trial=24, pairs=2, height_px=100, seed=5)
SHORT = Settings(trials=3, frames_per_trial=2, pairs=2, height_px=100)


def tracks(settings):
    """Poses, {component: (frames, 4, 4)}, of every trial."""
    return [
        {
            component: np.stack([trial(settings, n).pose(component, k) for k in range(settings.frames_per_trial)])
            for component in ("femur", "tibia")
        }
        for n in range(settings.trials)
    ]


def found(of_trials, outside=()):
    """What is reported of trials 10, 11, ..., whose measurements are 100, 101, ... and 200, 201, ..."""
    poses, frames = [], []
    for n, by_component in enumerate(of_trials):
        for k in range(len(by_component["femur"])):
            measurement = 100 * (n + 1) + k
            frames.append({"measurement_id": measurement, "trial_id": 10 + n})
            for number, (component, T) in enumerate(by_component.items()):
                poses.append(
                    {
                        "pose_id": 2 * measurement + number,
                        "measurement_id": measurement,
                        "anatomy_id": 2 * (n % 2) + number,
                        "component": component,
                        "kind": "refined",
                        "obsolete": False,
                        "translation_mm": T[k, :3, 3].tolist(),
                        "quaternion_xyzw": matrix_to_quaternion(T[k, :3, :3]).tolist(),
                    }
                )
    findings = Findings()
    check_motion(
        pa.Table.from_pylist(poses, POSE_SCHEMA),
        np.array(outside, dtype=np.int64),
        pa.Table.from_pylist(frames, FRAME_SCHEMA),
        "table poses",
        findings,
    )
    assert not any(problem.structural for problem in findings.problems)
    return [(problem.where, problem.what) for problem in findings.problems]


def exchange(of_trials, n, k):
    femur, tibia = of_trials[n]["femur"], of_trials[n]["tibia"]
    femur[k], tibia[k] = tibia[k].copy(), femur[k].copy()


@pytest.mark.parametrize("seed", range(3))
def test_simulated_motion_is_plausible_at_every_rate(seed):
    for step in (1, 2):  # 30 and 15 frames a second
        settings = Settings(trials=4, frames_per_trial=40, pairs=2, height_px=100, seed=seed)
        assert found([{c: T[::step] for c, T in each.items()} for each in tracks(settings)]) == []


@pytest.mark.parametrize(
    ("settings", "n", "k"), [(LONG, 1, 7), (LONG, 2, 0), (LONG, 3, 23), (SHORT, 1, 0), (SHORT, 2, 1)]
)
def test_femur_and_tibia_exchanged_in_one_frame(settings, n, k):
    of_trials = tracks(settings)
    exchange(of_trials, n, k)
    problems = found(of_trials)
    assert {where for where, _ in problems} == {f"table poses, trial {10 + n}"}
    assert any(
        f"lies below that of the tibia (+y is up) in measurements {100 * (n + 1) + k}, above" in what
        for _, what in problems
    )


@pytest.mark.parametrize(("settings", "n", "k"), [(LONG, 0, 11), (LONG, 1, 0), (LONG, 2, 23), (SHORT, 1, 0)])
@pytest.mark.parametrize("axis", range(3))
def test_one_femur_100_mm_off(settings, n, k, axis):
    of_trials = tracks(settings)
    of_trials[n]["femur"][k, axis, 3] += 100
    problems = found(of_trials)
    assert {where for where, _ in problems} == {f"table poses, trial {10 + n}"}
    worst = 100 * (n + 1) + k
    assert any(
        "poses of the femur in measurements" in what
        and (settings is SHORT or f"in measurements {worst} do not fit" in what)
        and f"measurement {worst if settings is LONG else 200} is " in what
        for _, what in problems
    )


def test_two_frames_rotated_by_90_degrees():
    of_trials = tracks(LONG)
    of_trials[2]["tibia"][8:10, :3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]] @ of_trials[2]["tibia"][8:10, :3, :3]
    ((where, what),) = found(of_trials)
    assert where == "table poses, trial 12" and "tibia in measurements 308, 309 do not fit" in what
    assert "usual are " in what


def test_a_trial_whose_second_half_lies_elsewhere():
    of_trials = tracks(LONG)
    for T in of_trials[0].values():
        T[12:, 0, 3] += 80
    problems = found(of_trials)
    assert [where for where, _ in problems] == ["table poses, trial 10"] * 2
    assert all("jumps after measurements 111: by " in what and "from 111 to 112" in what for _, what in problems)


def test_all_femurs_below_their_tibias():
    of_trials = [{"femur": each["tibia"], "tibia": each["femur"]} for each in tracks(LONG)]
    assert found(of_trials) == [
        (
            "table poses",
            "the refined pose of the femoral component lies below that of the tibial one (+y is up) in 96 of 96 "
            "frames, expected above",
        )
    ]


def test_poses_that_are_reported_for_lying_outside_are_omitted():
    of_trials = tracks(LONG)
    of_trials[0]["femur"][5, 0, 3] += 900
    assert found(of_trials) and found(of_trials, outside=[2 * 105]) == []


def test_sparse_and_static_poses_are_no_motion():
    """Every tenth measurement has a pose, far from the one before, as manual poses may."""
    of_trials = [{c: T[::6] + 0 for c, T in each.items()} for each in tracks(LONG)]
    assert found(of_trials) == []


def test_the_audit_names_what_moves_implausibly(download):
    (before,) = download.rows("SELECT tz FROM poses WHERE id = 7")
    download.sql("UPDATE poses SET tz = tz + 100 WHERE id = 7")
    report = audit(download.root)
    assert report.exit_status == 1 and before
    assert {problem.kind for problem in report.findings.problems} == {"implausible motion"}
    assert "the refined poses of the femur in measurements 2" in report.findings.problems[0].what


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "UPDATE measurements SET datetime = '2020-01-01 00:00:00' WHERE id = 5",
            r"trial 18: measurement 5 was taken at 2020-01-01 00:00:00, before measurement 4 at 2023-",
        ),
        (
            "UPDATE measurements SET datetime = -id",
            r"trial 11: measurement 2 was taken at -2, before measurement 1 at -1",
        ),
        (
            "UPDATE measurements SET datetime = 'noon' WHERE id = 5",
            r"id 5: datetime is 'noon', expected a time as in",
        ),
    ],
)
def test_the_order_of_frames_by_time_is_that_of_their_ids(download, change, message):
    download.sql(change)
    report = audit(download.root)
    assert {problem.kind for problem in report.findings.problems} == {"order of frames"} and report.exit_status == 1
    assert message in str(report.findings.problems[0])


@pytest.mark.parametrize(
    "change",
    [
        "datetime = NULL",
        "datetime = '2023-04-14 14:42:48'",
        "datetime = 1681475000 + id",
        "datetime = strftime('%Y-%m-%dT%H:%M:%SZ', 1681475000 + id, 'unixepoch')",
    ],
)
def test_times_may_be_absent_equal_or_written_in_other_ways(download, change):
    download.sql(f"UPDATE measurements SET {change}")
    assert download.read().problems == []


def test_times_that_cannot_be_read_are_a_decision(download):
    download.sql("UPDATE measurements SET datetime = '14.4.2023, noon'")
    archive = download.read()
    assert (
        archive.problems == [] and "could not be read: '14.4.2023, noon'" in archive.decisions["frame_order"].evidence
    )


def test_frames_that_are_copies_of_each_other_are_named(download):
    download.frame("bs_000004").write_bytes(download.frame("fs_000009").read_bytes())
    assert audit(download.root).exit_status == 0
    (problem,) = audit(download.root, deep=True).findings.problems
    assert (problem.kind, problem.where) == ("identical frames", f"{FRAMES_FOLDER}/bs_000004.jpg")
    assert f"the same bytes as {FRAMES_FOLDER}/fs_000009.jpg" in problem.what and not problem.structural
