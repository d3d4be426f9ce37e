"""Trials without initial poses, or with failed ones: implants found in the images of a frame, and tracked."""

import json
import shutil
from dataclasses import replace
from functools import partial

import pyarrow.parquet as pq
import pytest

from tests.cli.commands import outcome
from tests.fixtures.other_cameras import rewrite
from tests.registration.sources import PARTS, truth_of
from tests.registration.test_trials import first_frames
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.errors import RegistrationError
from veriserum_hf.poses.files import read_poses
from veriserum_hf.registration.trials import trial as trials_module
from veriserum_hf.registration.trials.searched_implants import implants_to_find
from veriserum_hf.registration.trials.trial import MOST_SEARCHES, register_trial

FAR = [0.0, 0.0, 5000.0]


@pytest.fixture
def search(monkeypatch):
    """Stand-in for the search: known poses by measurement; the frames and implants it was called with."""
    known, calls = {}, []

    def find_poses(row, implants, meshes):
        assert set(implants.values()) <= set(meshes)
        calls.append((row["measurement_id"], dict(implants)))
        if row["measurement_id"] not in known:
            raise RegistrationError("nothing looks like it")
        return {component: known[row["measurement_id"]][component] for component in implants}

    monkeypatch.setattr(trials_module, "find_poses", find_poses)
    return known, calls


def implants_of(starts):
    return {id: {part: pose["anatomy_id"] for part, pose in poses.items()} for id, poses in starts.items()}


def test_a_trial_without_initial_poses_is_tracked_from_a_frame_that_was_searched(coarse_dataset, archive, search):
    frames, starts, meshes, ids = first_frames(coarse_dataset, archive, 3)
    known, calls = search
    known |= starts
    done = []
    rows = register_trial(frames, {}, meshes, done.append, searched=implants_of(starts), method="intensity")
    assert [row["start"] for row in rows] == ["search"] * 2 + ["previous frame"] * 4 and done == [3]
    assert calls == [(ids[0], implants_of(starts)[ids[0]])]
    assert {row["verdict"] for row in rows} <= {"converged", "ambiguous"}
    assert {row["method"] for row in rows} == {"intensity"} and {row["moved_mm"] for row in rows} == {None}
    assert all(row["image_covariance"] for row in rows)


def test_all_that_follows_from_a_pose_with_a_rival_is_ambiguous(coarse_dataset, archive, search):
    frames, starts, meshes, ids = first_frames(coarse_dataset, archive, 3)
    known, _ = search
    why = "another pose, 30 deg away, agrees with 84 % of its outline, this one with 90 %"
    tibia = {**starts[ids[0]]["tibia"], "verdict": "ambiguous", "detail": why}
    known[ids[0]] = {**starts[ids[0]], "tibia": tibia}
    rows = register_trial(frames, {}, meshes, searched=implants_of(starts), method="intensity")
    assert [row["start"] for row in rows] == ["search"] * 2 + ["previous frame"] * 4
    assert {row["verdict"] for row in rows if row["component"] == "tibia"} == {"ambiguous"}
    assert all(why in row["detail"] for row in rows if row["component"] == "tibia")
    assert "converged" in {row["verdict"] for row in rows if row["component"] == "femur"}


def test_a_frame_without_a_rival_decides_for_the_others(coarse_dataset, archive, search):
    frames, starts, meshes, ids = first_frames(coarse_dataset, archive, 3)
    known, calls = search
    tibia = {**starts[ids[0]]["tibia"], "verdict": "ambiguous", "detail": "another pose, 30 deg away"}
    known |= {ids[0]: {**starts[ids[0]], "tibia": tibia}, ids[2]: starts[ids[2]]}
    rows = register_trial(frames, {}, meshes, searched=implants_of(starts), method="intensity")
    assert [id for id, _ in calls[:2]] == [ids[0], ids[2]]
    assert all("another pose" not in (row["detail"] or "") for row in rows)


def test_where_the_first_search_fails_another_frame_is_searched(coarse_dataset, archive, search):
    frames, starts, meshes, ids = first_frames(coarse_dataset, archive, 3)
    known, calls = search
    known[ids[2]] = starts[ids[2]]
    rows = register_trial(frames, {}, meshes, searched=implants_of(starts))
    assert [id for id, _ in calls] == [ids[0], ids[2]]
    assert [row["start"] for row in rows] == ["next frame"] * 4 + ["search"] * 2


def test_where_nothing_is_found_there_is_no_row_and_searches_are_limited(coarse_dataset, archive, search):
    frames, starts, meshes, ids = first_frames(coarse_dataset, archive, 3)
    _, calls = search
    many = frames.taken([0, 1, 2] * 3)
    assert register_trial(many, {}, meshes, searched=implants_of(starts)) == []
    assert len(calls) == MOST_SEARCHES and calls[0][0] == ids[0]


def test_poses_that_are_not_to_be_trusted_come_last(coarse_dataset, archive, search):
    frames, starts, meshes, ids = first_frames(coarse_dataset, archive, 2)
    marked = {id: {part: {**pose, "trusted": False} for part, pose in poses.items()} for id, poses in starts.items()}
    known, calls = search
    known |= starts
    rows = register_trial(frames, marked, meshes, searched=implants_of(starts), method="intensity")
    assert [id for id, _ in calls] == ids[:1]
    assert [row["start"] for row in rows] == ["search"] * 2 + ["previous frame"] * 2
    without_search = register_trial(frames, marked, meshes, method="intensity")
    assert [row["start"] for row in without_search] == ["given"] * 4
    assert {row["verdict"] for row in (*rows, *without_search)} <= {"converged", "ambiguous"}


def test_a_failed_pose_without_a_neighbour_is_searched_for(coarse_dataset, archive, search):
    """As with a network's poses; the other implant, which has converged, is not."""
    frames, starts, meshes, ids = first_frames(coarse_dataset, archive, 2)
    known, calls = search
    known |= {ids[0]: {"femur": starts[ids[0]]["femur"]}}
    implants = implants_of(starts)
    given = {id: {part: dict(pose) for part, pose in poses.items()} for id, poses in starts.items()}
    for poses in given.values():
        poses["femur"]["translation_mm"] = FAR
    rows = register_trial(frames, given, meshes, searched=implants)
    assert calls == [(ids[0], {"femur": implants[ids[0]]["femur"]})]
    assert [row["start"] for row in rows] == ["search", "given", "previous frame", "given"]
    assert rows[0]["moved_mm"] > 1000


def test_the_command_finds_poses_in_the_images(short_trials, knees, search, tmp_path):
    known, calls = search
    known |= truth_of(knees)
    shutil.copytree(short_trials, tmp_path / "ROWS")
    register, output = partial(outcome, "register", tmp_path / "ROWS", "--start", "none"), tmp_path / "poses.parquet"
    (measurement, trial) = (
        pq.read_table(next((tmp_path / "ROWS" / "calibrated").glob("*.parquet")))
        .select(["measurement_id", "trial_id"])
        .to_pylist()[0]
        .values()
    )
    arguments = ("--trial", trial, "-o", output, "--workers", "1", "--json")
    status, printed, said = register("--method", "intensity", *arguments)
    assert status in (0, 3), said
    rows = read_poses(output).to_pylist()
    assert [row["measurement_id"] for row in rows] == [measurement] * 2 and [id for id, _ in calls] == [measurement]
    assert all(row["start"] == "search" and row["method"] == "intensity" for row in rows)
    metadata = pq.read_schema(output).metadata
    assert metadata[b"start"] == b"none" and metadata[b"method"] == b"intensity"
    summary = json.loads(printed)["by_component"]
    assert all(summary[part]["from_search"] == 1 and summary[part]["from_neighbour"] == 0 for part in PARTS)
    status, _, said = register(*arguments)
    assert status == 2 and "is not the result of this registration" in said
    status, _, said = register("--method", "edges", *arguments)
    assert status == 2 and "'auto', 'outline', 'intensity'" in said
    known.clear()
    status, _, said = register(*arguments[:2], "-o", tmp_path / "other.parquet", "--workers", "1")
    assert status == 2 and "no implant was found in the images of 1 frame" in said


def test_implants_of_frames_without_poses_are_the_only_ones_there(short_trials, tmp_path):
    shutil.copytree(short_trials, tmp_path / "ROWS")
    rewrite(tmp_path / "ROWS", lambda row: row | dict.fromkeys(PARTS))
    source = open_rows(str(tmp_path / "ROWS"), ("calibrated",), archive_px=512)
    assert set(source.components) == set(source.meshes) and set(source.components.values()) == set(PARTS)
    with pytest.raises(RegistrationError, match=r"which implants trial \d+ shows .* it has no pose, and .* femur \d"):
        implants_to_find(source, source.splits)
    femur, tibia = (next(id for id, part in source.components.items() if part == name) for name in PARTS)
    two = replace(source, open_components=lambda: {femur: "femur", tibia: "tibia"})
    assert set(map(str, implants_to_find(two, source.splits).values())) == {str({"femur": femur, "tibia": tibia})}
    none = replace(source, open_components=dict)
    with pytest.raises(RegistrationError, match="the anatomies are no implant"):
        implants_to_find(none, source.splits)


def test_a_frame_without_poses_shows_the_implants_of_its_trial(coarse_dataset, archive, tmp_path):
    shutil.copytree(coarse_dataset, tmp_path / "ROWS")
    rewrite(tmp_path / "ROWS", lambda row: row | ({} if row["frame_index"] else dict.fromkeys(PARTS)))
    source = open_rows(str(tmp_path / "ROWS"), ("calibrated",), archive_px=512)
    expected = implants_of(truth_of(archive))
    assert implants_to_find(source, source.splits) == expected
    archived = open_rows(str(archive), ("calibrated",), archive_px=512)
    assert implants_to_find(archived, archived.splits) == expected
