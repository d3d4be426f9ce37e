"""Sources of poses have short names, as long as these tell them apart."""

import pytest

from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation.sources import source_names


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
