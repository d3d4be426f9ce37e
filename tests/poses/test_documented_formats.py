"""The examples of the page on file formats are files that the readers accept."""

import re
from pathlib import Path

import pytest

import veriserum_hf as vs
from veriserum_hf.geometry import read_autoscoper, read_jointtrack, read_mayacam
from veriserum_hf.poses import read_poses, read_trajectory

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
READERS = {
    "measurement_id": ("poses.csv", read_poses),
    "JT_EULER": ("poses.jts", lambda path: read_trajectory(path, vs.Camera([[1, 0, 0], [0, 1, 0], [0, 0, 1]], EYE))),
    "0.8,": ("poses.tra", read_trajectory),
    "image size": ("camera.txt", read_mayacam),
    "JT_INTCALIB": ("calibration.txt", lambda path: read_jointtrack(path, 512)),
    "Version": ("trial.cfg", read_autoscoper),
}
EYE = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
EXAMPLES = re.findall(r"^```text\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_every_format_has_an_example():
    assert [next(start for start in READERS if text.startswith(start)) for text in EXAMPLES] == list(READERS)


@pytest.mark.parametrize(("text", "reader"), list(zip(EXAMPLES, READERS.values(), strict=True)), ids=list(READERS))
def test_an_example_is_read(text, reader, tmp_path):
    name, read = reader
    (tmp_path / name).write_text(text)
    assert read(tmp_path / name) is not None
