"""``veriserum poses convert`` as a user runs it: every direction, which frames, and what it refuses."""

from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from tests.cli.commands import outcome
from tests.geometry.test_camera import camera
from tests.geometry.test_camera_files import JOINTTRACK, MAYACAM
from tests.poses.made import own_pose, poses as random_poses
from tests.poses.test_trajectories import JTS
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.geometry import angle_between_deg, write_mayacam
from veriserum_hf.poses import poses_by_frame, read_poses, read_trajectory, transforms, write_poses, write_trajectory

PARTS = ("femur", "tibia")
convert = partial(outcome, "poses", "convert")


@pytest.fixture(scope="module")
def dataset(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "OUT"
    return convert_archive(tiny.root, folder, configs=("calibrated",), options=Options(size=32), workers=1).output


@pytest.fixture(scope="module")
def rows(dataset):
    names = ("measurement_id", "trial_id", "frame_index", "camera_fs", "camera_bs", *PARTS)
    found = [row for frames in open_rows(str(dataset), "calibrated").splits.values() for row in frames.rows]
    return sorted(({name: row[name] for name in names} for row in found), key=lambda row: row["measurement_id"])


@pytest.fixture
def own(rows, tmp_path):
    """The poses of all rows as a file, in another order than theirs."""
    path = tmp_path / "own.parquet"
    write_poses(path, pa.Table.from_pylist([own_pose(row, part) for row in rows[::-1] for part in PARTS]))
    return path


def refused(*arguments):
    status, out, err = convert(*arguments)
    assert (status, out) == (2, "") and err.startswith("error: ")
    return err


def test_tables_are_converted_into_each_other(own, tmp_path):
    status, out, _ = convert(own, tmp_path / "own.csv")
    assert (status, out) == (0, f"written to {tmp_path}/own.csv: {len(read_poses(own))} poses\n")
    assert convert(tmp_path / "own.csv", tmp_path / "again.parquet")[0] == 0
    assert read_poses(tmp_path / "again.parquet").to_pylist() == read_poses(own).to_pylist()
    assert "give no options to convert" in refused(own, tmp_path / "b.csv", "--component", "femur")


@pytest.mark.parametrize("suffix", ["jts", "tra"])
def test_poses_of_a_trial_go_there_and_back(own, rows, dataset, tmp_path, suffix):
    trial = rows[0]["trial_id"]
    of_trial = [row for row in rows if row["trial_id"] == trial]
    chosen = ("--dataset", dataset, "--trial", trial, *(("--plane", "fs") if suffix == "jts" else ()))
    track, back = tmp_path / f"tibia.{suffix}", tmp_path / "back.csv"
    status, out, err = convert(own, track, "--component", "tibia", *chosen)
    assert (status, out, err) == (0, f"written to {track}: 3 poses of 3 frames\n", "")
    assert convert(track, back, "--component", "tibia", *chosen)[0] == 0
    found = poses_by_frame(read_poses(back))
    assert list(found) == [row["measurement_id"] for row in of_trial]
    T, expected = (
        transforms(frames)
        for frames in ([each["tibia"] for each in found.values()], [row["tibia"] for row in of_trial])
    )
    assert np.abs(T - expected)[:, :3, 3].max() < 1e-6
    assert angle_between_deg(T[:, :3, :3], expected[:, :3, :3]).max() < 1e-6
    for row, pose in zip(of_trial, found.values(), strict=True):
        stated = pose["tibia"]
        assert stated["anatomy_id"] == row["tibia"]["anatomy_id"] and stated["verdict"] == "not assessed"
        assert (stated["trial_id"], stated["frame_index"]) == (trial, row["frame_index"])


def test_frames_without_a_pose_keep_their_place(rows, dataset, tmp_path):
    row = rows[1]
    write_poses(tmp_path / "one.csv", pa.Table.from_pylist([own_pose(row, "femur")]))
    chosen = ("--dataset", dataset, "--trial", row["trial_id"])
    assert convert(tmp_path / "one.csv", tmp_path / "one.tra", *chosen)[0] == 0
    T = read_trajectory(tmp_path / "one.tra")
    assert np.isfinite(T).all(axis=(1, 2)).tolist() == [False, True, False]
    assert convert(tmp_path / "one.tra", tmp_path / "back.csv", "--component", "femur", *chosen)[0] == 0
    assert list(poses_by_frame(read_poses(tmp_path / "back.csv"))) == [row["measurement_id"]]


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (("failed", "converged", "converged"), ", of which 2 converged, 1 failed: its initial pose"),
        (("failed", "ambiguous", "failed"), ", of which 1 ambiguous, 2 failed: their initial poses"),
        (("converged", "converged", "converged"), ""),
        (("not assessed", "not assessed", "not assessed"), ""),
    ],
)
def test_verdicts_of_a_registration_are_counted_where_the_file_cannot_hold_them(rows, tmp_path, verdicts, words):
    made = [own_pose(row, "femur") | {"verdict": verdict} for row, verdict in zip(rows, verdicts, strict=False)]
    write_poses(tmp_path / "registered.parquet", pa.Table.from_pylist(made))
    _, out, _ = convert(tmp_path / "registered.parquet", tmp_path / "x.tra")
    assert out == f"written to {tmp_path}/x.tra: 3 poses of 3 frames{words}\n"


def test_camera_files_take_the_place_of_a_data_set(tmp_path):
    T = random_poses(3, np.random.default_rng(0))
    seen_by = camera()
    write_mayacam(tmp_path / "camera.txt", seen_by, (500, 800))
    write_trajectory(tmp_path / "femur.jts", T, seen_by)
    given = ("--camera", tmp_path / "camera.txt")
    assert convert(tmp_path / "femur.jts", tmp_path / "femur.tra", *given)[0] == 0
    np.testing.assert_allclose(read_trajectory(tmp_path / "femur.tra"), T, atol=1e-9)
    table = tmp_path / "femur.parquet"
    assert convert(tmp_path / "femur.jts", table, *given, "--component", "femur", "--anatomy", 4)[0] == 0
    assert [(row["measurement_id"], row["anatomy_id"]) for row in read_poses(table).to_pylist()] == [
        (1, 4),
        (2, 4),
        (3, 4),
    ]
    assert convert(table, tmp_path / "back.jts", *given)[0] == 0
    np.testing.assert_allclose(read_trajectory(tmp_path / "back.jts", seen_by), T, atol=1e-9)
    (tmp_path / "a.jts").write_text(JTS)
    (tmp_path / "jt.txt").write_text(JOINTTRACK)
    assert convert(tmp_path / "a.jts", tmp_path / "a.tra", "--camera", tmp_path / "jt.txt")[0] == 0
    assert read_trajectory(tmp_path / "a.tra")[0, :3, 3].tolist() == [1, 2, -1000]


def test_what_cannot_be_converted_is_refused_with_the_way_out(own, rows, dataset, tmp_path):
    (tmp_path / "a.jts").write_text(JTS)
    (tmp_path / "maya.txt").write_text(MAYACAM)
    jts, new = tmp_path / "a.jts", tmp_path / "new.csv"
    femur, of_set = ("--component", "femur"), ("--dataset", dataset)
    maya = ("--camera", tmp_path / "maya.txt")
    assert "new.mot: expected a name in .parquet, .csv, .jts, .jtak, .tra" in refused(own, tmp_path / "new.mot")
    assert "--plane and --trial choose from a data set" in refused(jts, new, "--plane", "bs")
    assert "give either its file (--camera), or a data set and its plane" in refused(jts, new, *femur, *of_set)
    assert "give either its file" in refused(jts, new, *femur, *of_set, *maya, "--plane", "bs")
    assert "does not state its implant; give --component femur or tibia" in refused(jts, new, *maya)
    assert "nothing states the anatomy id of the femur; give --anatomy" in refused(jts, new, *femur, *maya)
    trial = (*of_set, "--trial", rows[0]["trial_id"])
    assert "expected one: choose it with --component and --anatomy" in refused(own, tmp_path / "new.tra", *trial)
    assert "has no frame of trial 999; it has the trials" in refused(
        own, tmp_path / "new.tra", *of_set, "--trial", 999
    )
    whole = refused(own, tmp_path / "new.jts", "--anatomy", rows[0]["femur"]["anatomy_id"], *of_set, "--plane", "bs")
    assert "have other cameras of plane bs" in whole and "choose a trial with --trial" in whole
    one = rows[:1]
    write_poses(tmp_path / "one.csv", pa.Table.from_pylist([own_pose(one[0], "femur")]))
    write_trajectory(tmp_path / "one.tra", transforms([one[0]["femur"]]))
    fewer = refused(tmp_path / "one.tra", new, *femur, *trial)
    assert "the file has 1 frames, but the data set 3" in fewer
    (tmp_path / "none.tra").write_text((",".join(["NaN"] * 16) + "\n") * 3)
    assert "none of the 3 frames of the file has a pose" in refused(tmp_path / "none.tra", new, *femur, *trial)
    assert not new.exists()


def test_other_commands_name_this_one_for_files_without_ids(dataset, tmp_path):
    (tmp_path / "a.jts").write_text(JTS)
    status, _, err = outcome("show", dataset, "--poses", tmp_path / "a.jts", "--output", tmp_path / "a.png")
    assert status == 2 and "`veriserum poses convert`" in err
