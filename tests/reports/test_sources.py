"""Sources of poses have short, unique names, and metadata that people can read."""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from veriserum_hf.errors import TrainingError
from veriserum_hf.reports.sources import about_file, source_names


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["runs/best", "a/registered.parquet"], ["best", "registered"]),
        (["org/model-1.5", "poses.v2.parquet"], ["model-1.5", "poses.v2"]),
        (["a/poses.parquet", "b/poses.parquet", "c.parquet"], ["a/poses.parquet", "b/poses.parquet", "c"]),
        (["runs/first", "first.parquet"], ["runs/first", "first.parquet"]),
    ],
)
def test_names(given, names):
    assert source_names(given) == names


def test_the_same_source_twice_is_refused():
    with pytest.raises(TrainingError, match=r"a\.parquet is given twice; expected each file and model once"):
        source_names(["a.parquet", "b.parquet", "a.parquet"])


def test_metadata_of_any_writer_can_be_read(tmp_path):
    path = tmp_path / "poses.parquet"
    metadata = {b"start": b"target", b"pandas": b"{" + 600 * b" " + b"}", b"caf\xe9": b"\xff"}
    pq.write_table(pa.table({"measurement_id": [1]}).replace_schema_metadata(metadata), path)
    assert about_file(path) == {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "caf\ufffd": "\ufffd",
        "pandas": "602 bytes, not shown",
        "start": "target",
    }


def test_a_csv_has_a_hash_alone(tmp_path):
    (tmp_path / "poses.csv").write_text("measurement_id\n1\n")
    assert list(about_file(tmp_path / "poses.csv")) == ["sha256"]
