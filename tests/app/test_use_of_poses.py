"""What other commands make of accepted poses."""

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from tests.cli.commands import outcome
from veriserum_hf.app.own_pose import OwnPose, transform_of


@pytest.fixture
def accepted(opened, trial):
    """Two frames of a trial, matched exactly."""
    session = opened("A. Reader")
    for step in (0, 3):
        session.step(step)
        for name, pose in trial.truth[session.place.measurement_id].items():
            exact = OwnPose(pose["anatomy_id"], transform_of(pose), "near")
            session._own[session.place.measurement_id][name] = exact
        session.accept(["femur", "tibia"])
    opened.close()
    return session.place.trial_id, opened.path


@pytest.mark.slow
def test_a_registration_begins_from_them_and_tracks_the_frames_between(accepted, trial, tmp_path):
    trial_id, path = accepted
    output = tmp_path / "registered.parquet"
    options = ("--start", path, "--trial", trial_id, "--output", output, "--workers", "1")
    status, _, said = outcome("register", trial.dataset, *options)
    assert status in (0, 3), said
    rows = pq.read_table(output).to_pylist()
    assert len(rows) == 20
    origins = Counter(row["start"] for row in rows if row["verdict"] == "converged")
    assert origins["given"] == 4
    assert origins["previous frame"] + origins["next frame"] > 8


def test_reports_images_and_other_formats_take_them(accepted, trial, tmp_path):
    _, path = accepted
    page = tmp_path / "report.html"
    status, printed, said = outcome(
        "report", trial.dataset, "--split", "all", "--poses", path, "--labels", path, "--output", page
    )
    assert (status, "compared with labels: manual in 2 of" in printed) == (0, True), said
    measurement = pq.read_table(path)["measurement_id"][0].as_py()
    image = tmp_path / "frame.png"
    status, _, said = outcome("show", trial.dataset, "--measurement", measurement, "--poses", path, "--output", image)
    assert (status, image.exists()) == (0, True), said
    table = tmp_path / "manual.csv"
    status, _, said = outcome("poses", "convert", path, table)
    assert status == 0, said
    assert "observer" in table.read_text().splitlines()[0]
    assert "A. Reader" in table.read_text()
    # And a CSV of them can be gone on with, and shown in the workbench again.
    status, _, said = outcome("poses", "convert", table, tmp_path / "again.parquet")
    assert status == 0, said


@pytest.mark.slow
def test_kinematics_and_the_check_of_labels_take_them(accepted, trial, trials, tmp_path):
    trial_id, path = accepted
    knee = tmp_path / "knee.parquet"
    status, _, said = outcome("kinematics", path, "--side", "right", "--dataset", trial.dataset, "--output", knee)
    assert status == 0, said
    assert pq.read_table(knee)["verdict"].to_pylist() == ["converged"] * 2
    checked = tmp_path / "checked.parquet"
    split = trials.of_trial[trial_id][0].split
    options = ("--manual", path, "--output", checked, "--split", split, "--workers", "1", "--json")
    status, printed, said = outcome("check-labels", trial.dataset, *options)
    assert status in (0, 1, 3), said
    of_label = json.loads(printed)["automatic_minus_manual"]["label"]
    assert {name: each["poses"] for name, each in of_label.items()} == {"femur": 2, "tibia": 2}
