"""Poses as long CSV: the same as Parquet, and what is refused."""

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from tests.poses.test_files import POSE
from veriserum_hf.errors import TrainingError
from veriserum_hf.poses import read_poses, write_poses
from veriserum_hf.poses.schema import MANUAL_SCHEMA, REGISTERED_SCHEMA, TRUTH_SCHEMA

CSV = (
    "measurement_id,anatomy_id,component,x_mm,y_mm,z_mm,qx,qy,qz,qw,verdict\n"
    "8,1,femur,1,2.0,380,0,0.6,0,0.8,converged\n8,2,tibia,1,2,340,0,-0.6,0,0.8,\n"
)


def file(folder, text, name="poses.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def full(schema, seed):
    """Rows with a value in every column, and in some of them nothing where that is allowed."""
    random = np.random.default_rng(seed)
    rows = []
    made = {
        pa.string(): lambda: 'a, "b"\nc;',
        pa.timestamp("us", "UTC"): lambda: datetime(2026, 11, 27, tzinfo=UTC) + timedelta(seconds=random.uniform()),
    }
    for number in range(4):
        row = {
            field.name: made[field.type]() if field.type in made else random.normal() if number else None
            for field in schema
        }
        quaternion = random.normal(size=4)
        covariance = random.normal(size=(6, 6))
        rows.append(
            row
            | POSE
            | {"measurement_id": 2**52 + number, "trial_id": 3, "frame_index": number or None}
            | {"translation_mm": random.normal(size=3).tolist()}
            | {"quaternion_xyzw": (quaternion / np.linalg.norm(quaternion)).tolist()}
            | {
                name: matrix.tolist() if number else None
                for name, matrix in (
                    ("covariance", covariance @ covariance.T),
                    ("image_covariance", covariance @ covariance.T / 10),
                    ("cross_covariance", covariance),
                )
                if name in schema.names
            }
        )
    return pa.Table.from_pylist(rows, schema)


@pytest.mark.parametrize("schema", [TRUTH_SCHEMA, REGISTERED_SCHEMA, MANUAL_SCHEMA])
def test_a_csv_holds_every_column_of_a_parquet_file_to_the_last_digit(tmp_path, schema):
    poses = full(schema, 0)
    write_poses(tmp_path / "poses.parquet", poses)
    write_poses(tmp_path / "poses.csv", read_poses(tmp_path / "poses.parquet"))
    found = read_poses(tmp_path / "poses.csv")
    assert found.select(poses.column_names).cast(schema).to_pylist() == poses.to_pylist()
    write_poses(tmp_path / "again.csv", found)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "poses.csv").read_bytes()
    assert "cov_x_x_mm2,cov_x_y_mm2" in (tmp_path / "poses.csv").read_text()


def test_a_file_of_before_the_method_was_written_is_still_read(tmp_path):
    poses = full(REGISTERED_SCHEMA, 2).drop_columns(["method", "image_covariance", "cross_covariance"])
    write_poses(tmp_path / "poses.parquet", poses)
    write_poses(tmp_path / "poses.csv", read_poses(tmp_path / "poses.parquet"))
    assert read_poses(tmp_path / "poses.csv").select(poses.column_names).to_pylist() == poses.to_pylist()


@pytest.mark.parametrize(
    "text",
    [
        CSV.replace(",", ";").replace("\n", "\r\n"),
        "\ufeff" + CSV.replace(",", "\t").rstrip("\n"),
        CSV + ",,,,,,,,,,\n\n",
        CSV.replace("\n8,", "\n8.0,").replace("_mm,", "_mm ,"),
    ],
    ids=range(4),
)
def test_a_csv_of_a_spreadsheet_reads_the_same(tmp_path, text):
    found = read_poses(file(tmp_path, text))
    assert found.to_pylist() == read_poses(file(tmp_path, CSV)).to_pylist()
    first, second = found.to_pylist()
    assert first["translation_mm"] == [1.0, 2.0, 380.0] and first["measurement_id"] == 8
    assert (first["verdict"], second["verdict"]) == ("converged", None)


def test_a_time_of_another_zone_is_read_as_utc(tmp_path):
    text = CSV.replace("verdict", "accepted_utc").replace("converged", "2026-11-27T17:30:00+01:00")
    times = read_poses(file(tmp_path, text))["accepted_utc"].to_pylist()
    assert times == [datetime(2026, 11, 27, 16, 30, tzinfo=UTC), None]


def test_columns_of_others_are_kept_as_text(tmp_path):
    text = CSV.replace("verdict", "reader").replace("converged", "7")
    write_poses(tmp_path / "again.csv", read_poses(file(tmp_path, text)))
    assert [row["reader"] for row in read_poses(tmp_path / "again.csv").to_pylist()] == ["7", None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column measurement_id, anatomy_id, .*; its first line names . Expected a CSV of poses with"),
        (CSV.replace("qw", "w"), "has no column qw; its first line names measurement_id"),
        (CSV.replace("x_mm", "x_m"), "has no column x_mm"),
        (CSV.replace("verdict", "z_mm"), "has the column z_mm more than once"),
        (
            CSV.replace("verdict", "covariance"),
            "has the column 'covariance'; expected its numbers alone: cov_x_x",
        ),
        (CSV.replace("verdict", "cov_x_x_mm2"), "has 1 columns of a covariance; expected all 21 or none"),
        (CSV.replace("verdict", "image_cov_x_x_mm2"), "has 1 columns of a covariance; .* none: image_cov_x_x_mm2, "),
        (CSV.replace("2.0,", ""), "line 2: found 10 values; expected 11, as the first line has names"),
        (CSV.replace("\n8,2", "\n\n8,2"), "line 3: found no values"),
        (
            CSV.replace("380", "3_80"),
            "line 2: z_mm is '3_80'; expected a number in ASCII digits with a dec",
        ),
        (CSV.replace("380", '"380,5"'), "line 2: z_mm is '380,5'; expected a number"),
        (CSV.replace("380", ""), "line 2: z_mm is missing"),
        (CSV.replace("8,1", "8.5,1"), "line 2: measurement_id is '8.5'; expected a whole number"),
        (CSV.replace("8,1", "1e999,1"), "line 2: measurement_id is '1e999'; expected a whole number"),
        (CSV.replace("380", "nan"), r"row 0 .*translation_mm is \[1.0, 2.0, nan\], expected three finite numbers"),
        (CSV.replace("0.6,0,0.8,c", "0.6,0,0.9,c"), "row 0 .*length 1, scalar last"),
        (CSV.replace("tibia", "femur"), "row 1 .*row 0 is of the same implant in the same frame"),
        (
            CSV.replace("verdict", "accepted_utc").replace("converged", "2026-11-27 17:30"),
            "line 2: accepted_utc is '2026-11-27 17:30'; expected a time with its zone",
        ),
        (
            CSV.replace("verdict", "accepted_utc"),
            "line 2: accepted_utc is 'converged'; expected a time with its zone",
        ),
        (CSV.splitlines()[0], "holds no pose"),
        (CSV.replace("converged", '"converged'), "this is not CSV"),
        (CSV.replace("converged", "\0"), "is not text: it holds NUL bytes"),
    ],
)
def test_another_csv_is_refused_by_what_is_wrong_with_it(tmp_path, text, message):
    path = file(tmp_path, text)
    with pytest.raises(TrainingError, match=f"^{re.escape(str(path))}.*{message}"):
        read_poses(path)


def test_half_a_covariance_and_nested_columns_are_refused(tmp_path):
    text = (tmp_path / "poses.csv", full(TRUTH_SCHEMA, 1))
    write_poses(*text)
    row = text[0].read_text().splitlines()
    names = row[0].split(",")
    assert names.count("cov_rz_rz_deg2") == 1
    nested = full(TRUTH_SCHEMA, 1).append_column("note", pa.array([[1], [2], [], None]))
    with pytest.raises(TrainingError, match=r"the column 'note' holds list<.*>, which CSV cannot"):
        write_poses(tmp_path / "nested.csv", nested)
    header = CSV.splitlines()[0].replace("verdict", ",".join(n for n in names if n.startswith("cov_")))
    path = file(tmp_path, f"{header}\n8,1,femur,1,2,380,0,0.6,0,0.8{',1' * 20},\n")
    with pytest.raises(TrainingError, match="line 2: 1 numbers of a covariance are missing"):
        read_poses(path)


@pytest.mark.parametrize("name", ["poses.jts", "poses.TRA"])
def test_a_file_without_ids_is_refused_with_the_way_out(tmp_path, name):
    with pytest.raises(TrainingError, match=r"holds poses of one implant without ids; .*`veriserum poses convert`"):
        read_poses(file(tmp_path, "", name))


def test_parquet_of_such_a_name_is_read_as_what_it_is(tmp_path):
    write_poses(tmp_path / "poses.parquet", full(TRUTH_SCHEMA, 0))
    renamed = (tmp_path / "poses.parquet").rename(tmp_path / "renamed.csv")
    assert read_poses(renamed).schema.names == TRUTH_SCHEMA.names
