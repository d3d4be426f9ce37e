"""``veriserum kinematics`` on poses of a simulated archive's implants."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.commands import outcome
from tests.knee.motions import placed, table_of
from tests.knee.test_axes import landmarks, written
from veriserum_hf.simulation import Settings, simulate


@pytest.fixture
def poses(tmp_path):
    """Two trials of a right knee in a file."""
    values = [(4.0 * k, 1, 2, 0.5, -3, 30) for k in range(10)]
    tables = [table_of(*placed(values, "right"), trial_id=trial, first_id=100 * trial) for trial in (1, 2)]
    path = tmp_path / "poses.parquet"
    pq.write_table(pa.concat_tables(tables), path)
    return path


@pytest.fixture(scope="module")
def simulated_archive(tmp_path_factory):
    """Small frames of each implant pair that two trials have."""
    folder = tmp_path_factory.mktemp("simulated") / "archive"
    return simulate(folder, Settings(trials=2, frames_per_trial=1, height_px=800, marker_frames=0), workers=1)


@pytest.fixture
def axes(tmp_path):
    return written(tmp_path, landmarks())


def test_a_csv_with_the_columns_of_a_paper(poses, axes, tmp_path):
    out = tmp_path / "knee.csv"
    status, printed, error = outcome("kinematics", poses, "--axes", axes, "--frame-rate", 30, "--output", out)
    assert (status, error) == (0, "")
    assert "20 of 20 frames; right knee" in printed
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert float(rows[5]["flexion_deg"]) == pytest.approx(20, abs=0.5)
    assert float(rows[5]["time_s"]) == pytest.approx(5 / 30)


def test_one_trial_for_opensim_and_json(poses, axes, tmp_path):
    out = tmp_path / "knee.mot"
    options = "kinematics", poses, "--axes", axes, "--frame-rate", 30, "--output", out
    status, _, error = outcome(*options)
    assert status == 2
    assert "poses are of 2: 1, 2. Choose one with --trial" in error
    status, printed, _ = outcome(*options, "--trial", 2, "--json")
    assert status == 0
    document = json.loads(printed)
    assert [frame["trial_id"] for frame in document["frames"]] == [2] * 10
    assert document["frames"][0]["flexion_deg_sd"] is None
    assert "nRows=10" in out.read_text()


def test_axes_from_the_meshes_of_a_data_set(tmp_path, simulated_archive):
    """The archive's truth, without a file of axes."""
    truth = simulated_archive / "truth.parquet"
    status, printed, _ = outcome("kinematics", truth, "--side", "right", "--dataset", simulated_archive, "--json")
    assert status == 0
    expected = {row["measurement_id"]: row for row in pq.read_table(truth).to_pylist()}
    for frame in json.loads(printed)["frames"]:
        motion = expected[frame["measurement_id"]]
        for name in ("flexion_deg", "adduction_deg", "internal_rotation_deg"):
            assert frame[name] == pytest.approx(motion[name], abs=3 if frame["tibia_anatomy_id"] == 7 else 0.3)
        assert frame["medial_lowest_superior_mm"] is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give the axes of the implants: either a file"),
        (("--side", "right"), "axes of femur 1: there are no landmarks and no mesh of it"),
        (("--axes", "{axes}", "--trial", 9), "has no trial 9; it has the trials 1, 2"),
        (("--axes", "{axes}", "--output", "knee.xlsx"), "expected a name in .csv, .parquet, .mot, .sto"),
        (("--axes", "{axes}", "--cycles", "max_flexion"), "cycles need the time of every frame"),
        (("--axes", "{axes}", "--cycles", "maximum"), "--cycles is maximum; expected min_flexion"),
        (("--axes", "{axes}", "--smooth"), "no frame that counts has a covariance"),
        (("--axes", "{axes}", "--compare", "other.parquet"), "give --figures FOLDER"),
        (("--axes", "missing.yaml"), "missing.yaml cannot be read: No such file"),
    ],
)
def test_what_is_refused_is_named(poses, axes, options, message):
    given = [str(option).format(axes=axes) for option in options]
    status, printed, error = outcome("kinematics", poses, *given)
    assert (status, printed) == (2, "")
    assert message in error
