"""Distortions in files."""

import json

import numpy as np
import pytest

from tests.calibration.test_polynomial_distortion import drawn
from veriserum_hf.calibration import read_distortion
from veriserum_hf.errors import CalibrationError
from veriserum_hf.simulation.calibrations import random_distortion

STORED, CLOSER = random_distortion(np.random.default_rng(0)), drawn(0)
ENTRY = {"frame": "grid.tif", "distortion": STORED.to_string()}


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_texts_and_fits_are_read(tmp_path):
    path = tmp_path / "distortion"
    for distortion in (STORED, CLOSER):
        assert read_distortion(written(path, distortion.to_string() + "\n")) == distortion
        chosen = {"distortion": distortion.to_string(), "form": "any"}
        assert read_distortion(written(path, [ENTRY | {"plane": "fs", "chosen": chosen}])) == distortion
    assert read_distortion(written(path, [ENTRY | {"plane": "fs"}])) == STORED
    both = [ENTRY | {"plane": "bs"}, ENTRY | {"plane": "fs", "chosen": {"distortion": CLOSER.to_string()}}]
    assert read_distortion(written(path, both), "fs") == CLOSER


@pytest.mark.parametrize(
    ("content", "stated"),
    [
        ([ENTRY | {"plane": "bs"}, ENTRY | {"plane": "fs"}], "found 2 distortions, expected one"),
        ([{"frame": "x", "error": "no grid"}], "found 0 distortions"),
        ([1], "no list of fits"),
        ("[", "no list of fits"),
        ([ENTRY | {"distortion": 3}], "holds 3"),
        ([ENTRY | {"chosen": {"distortion": None}}], "holds None"),
        ("1;2", "expected four parts"),
        ("{}", '"form"'),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, stated):
    path = written(tmp_path / "distortion", content)
    with pytest.raises(CalibrationError, match="distortion: ") as error:
        read_distortion(path)
    assert stated in str(error.value)


def test_files_that_cannot_be_read_are_refused_by_name(tmp_path):
    with pytest.raises(CalibrationError, match="none: No such file"):
        read_distortion(tmp_path / "none")
    with pytest.raises(CalibrationError, match="a folder"):
        read_distortion(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(CalibrationError, match="not text in UTF-8"):
        read_distortion(tmp_path / "bytes")
