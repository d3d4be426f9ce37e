"""Files of kinematics, read back by others: CSV, Parquet, OpenSim; and figures."""

import csv
import importlib.util
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.knee.motions import FEMUR, TIBIA, placed, table_of
from veriserum_hf.errors import KinematicsError
from veriserum_hf.knee import COORDINATES, kinematics, write_kinematics
from veriserum_hf.knee.figure_files import draw_all
from veriserum_hf.simulation import implant_mesh

IN_OPENSIM = [name.replace("_mm", "_m") for name in COORDINATES]  # its lengths are in m


@pytest.fixture(scope="module")
def found():
    """A trial of 12 frames of which one has failed."""
    values = [(5.0 * k, 1, 2, 0.5, -3, 30) for k in range(12)]
    verdicts = ["converged"] * 12
    verdicts[6] = "failed"
    meshes = {id: implant_mesh(id) for id in (FEMUR, TIBIA)}
    poses = table_of(*placed(values, "right"), 0.04 * np.eye(6), verdicts)
    return kinematics(poses, "right", meshes=meshes, frame_rate_hz=10)


def test_csv_and_parquet_hold_the_same_numbers(tmp_path, found):
    for name in ("k.csv", "k.parquet"):
        write_kinematics(tmp_path / name, found.table)
    stored = pq.read_table(tmp_path / "k.parquet")
    assert stored.equals(found.table)
    assert b"axes" in stored.schema.metadata
    with (tmp_path / "k.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == found.table.column_names
    for name in COORDINATES:
        assert [float(row[name]) for row in rows] == found.table[name].to_pylist()
    assert rows[6]["flexion_deg_s"] == ""


def test_opensim_files_have_what_its_readers_expect(tmp_path, found):
    write_kinematics(tmp_path / "k.mot", found.table)
    lines = (tmp_path / "k.mot").read_text().splitlines()
    end = lines.index("endheader")
    header = dict(line.split("=", 1) for line in lines[1:end] if "=" in line)
    assert (header["nRows"], header["nColumns"], header["inDegrees"]) == ("11", "7", "yes")
    assert lines[end - 2 : end] == ["Units are S.I. units (second, meters, Newtons, ...)", "Angles are in degrees."]
    assert lines[end + 1].split("\t") == ["time", *IN_OPENSIM]
    rows = np.array([[float(value) for value in line.split("\t")] for line in lines[end + 2 :]])
    kept = [k for k in range(12) if k != 6]
    np.testing.assert_array_equal(rows[:, 1], found.table["flexion_deg"].to_numpy()[kept])
    np.testing.assert_array_equal(rows[:, 6], found.table["superior_mm"].to_numpy()[kept] / 1000)
    write_kinematics(tmp_path / "all.sto", found.table, all_verdicts=True)
    assert "nRows=12" in (tmp_path / "all.sto").read_text()


@pytest.mark.skipif(importlib.util.find_spec("opensim") is None, reason="the wheel opensim (72 MB) is not installed")
@pytest.mark.parametrize("suffix", ["mot", "sto"])
def test_opensim_reads_the_same_numbers(tmp_path, found, suffix):
    import opensim

    path = tmp_path / f"k.{suffix}"
    write_kinematics(path, found.table, all_verdicts=True)
    table = opensim.TimeSeriesTable(str(path))
    assert list(table.getColumnLabels()) == IN_OPENSIM
    np.testing.assert_allclose(table.getIndependentColumn(), found.table["time_s"].to_numpy())
    for name, there in zip(COORDINATES, IN_OPENSIM, strict=True):
        values = found.table[name].to_numpy() / (1000 if there.endswith("_m") else 1)
        np.testing.assert_array_equal(table.getDependentColumn(there).to_numpy(), values)
    assert opensim.Storage(str(path)).isInDegrees()


def test_what_a_format_cannot_hold_is_refused(tmp_path, found):
    other = found.table.set_column(1, "trial_id", pa.array([1] * 6 + [2] * 6))
    with pytest.raises(KinematicsError, match=r"holds one trial, but the poses are of 2: 1, 2\. Choose one"):
        write_kinematics(tmp_path / "k.mot", other)
    untimed = found.table.set_column(3, "time_s", pa.nulls(12, pa.float64()))
    with pytest.raises(KinematicsError, match="needs the time of every frame"):
        write_kinematics(tmp_path / "k.mot", untimed)
    with pytest.raises(KinematicsError, match=r"expected a name in \.csv, \.parquet, \.mot, \.sto"):
        write_kinematics(tmp_path / "k.xlsx", found.table)
    assert not list(tmp_path.iterdir())


def test_figures_are_drawn_as_svg_and_png(tmp_path, found):
    meshes = {id: implant_mesh(id) for id in (FEMUR, TIBIA)}
    written = draw_all(tmp_path / "figures", {"one": found, "two": found}, meshes, {1: "gait"}, {1: [0.0, 0.5]})
    names = {path.name for path in written}
    expected = {"trial_1", "contact_1", "cycles_gait", "axes_1", "axes_3"}
    assert names == {f"{name}.{suffix}" for name in expected for suffix in ("svg", "png")}
    for path in written:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            assert np.asarray(Image.open(path).convert("L")).std() > 5
