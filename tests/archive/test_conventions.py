"""Units of poses, order of quaternions, flips and swaps: read rightly, or refused by their names."""

import shutil

import datasets
import numpy as np
import pytest

from tests.fixtures.archives import write_archive
from tests.fixtures.misread import execute, flip_frames, invert_frames, store_in, store_scalar_first, swap_planes
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.audit import audit_archive as audit
from veriserum_hf.archive.readings import READINGS, Reading, contradicting, judge
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.errors import ArchiveError
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

KIND = "labels and images disagree"


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    """Three trials of two frames; not to be changed."""
    folder = tmp_path_factory.mktemp("knees") / "archive"
    return simulate(
        folder, Settings(trials=3, frames_per_trial=2, pairs=1, height_px=320, marker_frames=0), workers=1
    )


@pytest.fixture
def archive(knees, tmp_path):
    return shutil.copytree(knees, tmp_path / "archive")


def structural(root):
    return [problem for problem in audit(root, deep=True).findings.problems if problem.structural]


def test_labels_that_agree_are_accepted_with_the_scores_of_every_reading(knees):
    report = audit(knees, deep=True)
    decision = report.findings.decisions["labels_and_images"]
    assert report.exit_status == 0 and decision.answer == "yes, as they are read"
    assert "refined: mean cosine between outlines and images in 6 frames of 3 trials: 0.8" in decision.evidence
    for other in ("quaternions scalar first", "files swapped", "images flipped upside down", "grey levels inverted"):
        assert other in decision.evidence


@pytest.mark.parametrize(
    ("scalar_first", "flip", "planes", "swapped", "name"),
    [
        (True, 0, "", False, r"the quaternions are scalar first, (r0, r1, r2, r3) = (w, x, y, z)"),
        (False, 1, ("bs", "fs"), False, "the images of both planes are flipped upside down"),
        (False, 2, ("fs",), False, "the images in the fs files are mirrored left to right"),
        (
            True,
            3,
            ("bs", "fs"),
            True,
            "the quaternions are scalar first, (r0, r1, r2, r3) = (w, x, y, z) and the bs and fs files are swapped "
            "and the images of both planes are rotated by 180 degrees",
        ),
    ],
)
def test_another_convention_is_refused_by_its_name(archive, scalar_first, flip, planes, swapped, name):
    flip_frames(archive, flip, planes)
    if swapped:
        swap_planes(archive)
    if scalar_first:
        store_scalar_first(archive)
    (problem,) = structural(archive)
    assert problem.kind == KIND and problem.what.endswith(f"as both are read; they agree if {name}")
    assert ("reorder the columns r0" in problem.remedy.lower()) == scalar_first
    assert ("restore the images" in problem.remedy.lower()) == (flip > 0 or swapped)


def test_inverted_grey_levels_are_named(archive):
    invert_frames(archive)
    (problem,) = structural(archive)
    assert problem.what.endswith("the grey levels are inverted (metal is bright)")


def test_a_single_trial_is_named(archive):
    frames = VeriserumArchive(archive).frames.to_pylist()
    trial = frames[2]["trial_id"]
    flip_frames(archive, 2, ids={row["measurement_id"] for row in frames if row["trial_id"] == trial})
    (problem,) = structural(archive)
    assert f"trial {trial}: the outlines of the refined" in problem.what and "mirrored left to right" in problem.what
    assert "mark the poses of these trials obsolete" in problem.remedy


def test_nothing_is_written_from_labels_that_do_not_agree(archive, tmp_path):
    flip_frames(archive, 1)
    assert audit(archive).exit_status == 0  # no image is compared
    with pytest.raises(ArchiveError, match="they agree if the images of both planes are flipped upside down"):
        convert_archive(archive, tmp_path / "OUT", workers=1)
    with pytest.raises(ArchiveError, match="they agree if the images of both planes are flipped upside down"):
        datasets.load_dataset("veriserum", data_dir=str(archive), cache_dir=str(tmp_path / "cache"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("OUT")] == []


def test_inaccurate_labels_are_not_refused(archive):
    rng = np.random.default_rng(0)
    for (id,) in {(row["pose_id"],) for row in VeriserumArchive(archive).poses.to_pylist()}:
        x, y, z = 8 * rng.choice((-1, 1), 3)
        execute(archive, f"UPDATE poses SET tx = tx + {x}, ty = ty + {y}, tz = tz + {z} WHERE id = {id}")
    assert structural(archive) == []


def test_images_that_do_not_show_the_labels_decide_nothing(pristine, archive):
    decision = audit(pristine.root, deep=True).findings.decisions["labels_and_images"]
    assert decision.answer.startswith("could not be assessed")
    for mesh in archive.rglob("*.stl"):
        mesh.unlink()
    decision = audit(archive, deep=True).findings.decisions["labels_and_images"]
    assert decision.answer == "could not be assessed" and "labelled implants have a mesh" in decision.evidence


def test_an_order_of_quaternions_that_nothing_determines_is_named(tmp_path):
    root = tmp_path / "archive"
    write_archive(root, trials=2, frames_per_trial=1, frame_size=(208, 200), rotation="quaternion")
    plain = audit(root)
    assert plain.exit_status == 0
    assert "no Euler angles confirm it. `audit --deep` and every" in plain.findings.decisions["rotation"].evidence
    (problem,) = audit(root, deep=True).findings.problems
    assert problem.kind == "order of quaternions" and not problem.structural
    assert "read as documented: (x, y, z, w), scalar last. Add the Euler angles rz, rx, ry, or" in str(problem)
    for _ in range(2):  # the second finds the result of the first
        assert convert_archive(root, tmp_path / "OUT", workers=1).problems == [str(problem)]


@pytest.mark.parametrize("unit", [("metres", 1000), ("centimetres", 10), ("inches", 25.4), ("micrometres", 0.001)])
def test_another_unit_is_refused_by_its_name(download, unit):
    name, mm = unit
    store_in(download.root, mm)
    report = audit(download.root)
    assert report.exit_status == 2
    with pytest.raises(
        ArchiveError,
        match=rf" 0 of \d+ \w+ poses .* if in {name}.*check the unit, which seems to be {name}: multiply",
    ):
        download.read()


def test_another_unit_is_named_where_poses_have_the_source_as_origin(download):
    download.sql("UPDATE poses SET tx = tx / 1000, ty = ty / 1000, tz = (tz - 1860) / 1000")
    with pytest.raises(ArchiveError, match="which seems to be metres"):
        download.read()


def table(**readings):
    """Agreement of one frame: by chance, but in some readings, as (order, file, flip) of bs and fs."""
    found = np.random.default_rng(len(readings)).uniform(-0.3, 0.3, (2, 2, 2, 4))
    for plane, (at, score) in readings.items():
        found[(("bs", "fs").index(plane), *at)] = score
    return found


def test_one_frame_or_a_narrow_margin_contradicts_nothing():
    flipped = table(bs=((0, 0, 1), 0.8), fs=((0, 0, 1), 0.8))
    assert judge([flipped]).reading is None
    assert judge([flipped] * 2).reading == Reading(flips=(1, 1))
    as_read = table(bs=((0, 0, 0), 0.8), fs=((0, 0, 0), 0.8))
    assert judge([flipped, as_read] * 2).reading is None
    both = table(bs=((0, 0, 1), 0.8), fs=((0, 0, 1), 0.8))
    both[:, 0, 0, 0] = 0.6
    assert judge([both] * 9).reading == Reading()
    assert contradicting([flipped] * 2 + [as_read] * 3) == Reading(flips=(1, 1))
    assert contradicting([flipped] + [as_read] * 3) is None
    assert judge([table()] * 9).reading is None
    assert judge([]).reading is None


def test_a_plane_that_shows_nothing_leaves_the_decision_to_the_other():
    assert judge([table(bs=((0, 0, 0), 0.8))] * 3).reading == Reading()
    assert judge([table(bs=((1, 0, 2), 0.8))] * 3).reading == Reading(scalar_first=True, flips=(2, 0))
    assert judge([table(bs=((1, 0, 0), 0.8))] * 3, scalar_first=False).reading is None


def test_every_reading_has_a_name_of_its_own():
    assert len({str(reading) for reading in READINGS}) == len(READINGS) == 128


def test_a_single_frame_of_a_trial_without_neighbours_is_named_by_its_labels(archive):
    flip_frames(archive, 3, ("fs",), (4,))
    report = audit(archive, deep=True)
    assert report.exit_status == 1
    (problem,) = report.findings.problems
    assert (problem.kind, problem.where[-13:]) == ("label and image disagree", "fs_000004.jpg")
    assert "if it is rotated by 180 degrees, expected 0.5 or more" in problem.what
