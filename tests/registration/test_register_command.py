"""``veriserum register`` as a laboratory uses it: whole trials, from several starts, interrupted, with bad frames."""

import json
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trimesh

from tests.cli.commands import outcome
from tests.fixtures.misread import flip_frames
from tests.fixtures.other_cameras import rewrite
from tests.forked import FORKED
from tests.registration.sources import PARTS, rows_of, save_untrained, truth_of
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.errors import ArchiveError, RegistrationError
from veriserum_hf.geometry.pose import angle_between_deg, transform_points
from veriserum_hf.jobs.folder import incomplete_folder
from veriserum_hf.poses.files import read_poses, transforms
from veriserum_hf.poses.schema import REGISTERED_SCHEMA as SCHEMA
from veriserum_hf.registration.data_sets import register_dataset
from veriserum_hf.registration.trials import trial as trials_module

FRAMES = 3  # of each of the archive's two trials


@pytest.fixture
def interrupted(dataset, tmp_path):
    """Output of a registration that was killed after its first trial."""
    output = tmp_path / "poses.parquet"
    options = {"start": "target", "workers": 1}
    process = FORKED.Process(target=register_dataset, args=(str(dataset), output), kwargs=options)
    process.start()
    trials = incomplete_folder(output) / "trials"
    while not any(trials.glob("*.parquet")) and process.is_alive():
        time.sleep(0.02)
    process.kill()
    process.join()
    return output


@pytest.fixture
def register():
    """Exit status, standard output and standard error of the command."""
    return partial(outcome, "register")


def errors(rows, truth):
    """Distance in mm and angle in degrees of each row from the exact pose."""
    exact = transforms([truth[row["measurement_id"]][row["component"]] for row in rows])
    T = transforms(rows)
    return np.linalg.norm(T[:, :3, 3] - exact[:, :3, 3], axis=1), angle_between_deg(exact[:, :3, :3], T[:, :3, :3])


def test_an_interrupted_registration_is_resumed_and_ends_with_one_row_per_implant_and_frame(
    dataset, archive, interrupted
):
    (finished,) = (incomplete_folder(interrupted) / "trials").glob("*.parquet")
    first, calls = finished.read_bytes(), []
    assert not interrupted.exists()
    found = register_dataset(
        str(dataset), interrupted, start="target", workers=1, progress=lambda done, all: calls.append((done, all))
    )
    assert calls[0] == (FRAMES, 2 * FRAMES) and calls[-1] == (2 * FRAMES, 2 * FRAMES)
    assert pq.read_table(pa.BufferReader(first)).to_pylist() == found.poses.to_pylist()[: 2 * FRAMES]
    assert [path.name for path in interrupted.parent.iterdir()] == ["poses.parquet"]

    poses = read_poses(interrupted)
    assert poses.schema.remove_metadata() == SCHEMA.remove_metadata()
    about = {name.decode(): value.decode() for name, value in poses.schema.metadata.items()}
    assert about["start"] == "target" and about["dataset"] == str(dataset)
    assert "world's axes" in about["covariance"] and about["frame"].startswith("world of the data set's cameras; mm")
    rows, truth = poses.to_pylist(), truth_of(archive)
    keys = [(row["trial_id"], row["frame_index"], row["component"]) for row in rows]
    assert keys == sorted(keys) and len(set(keys)) == 4 * FRAMES
    for row in rows:
        exact = truth[row["measurement_id"]][row["component"]]
        assert all(row[name] == exact[name] for name in ("trial_id", "frame_index", "anatomy_id"))
    off_mm, off_deg = errors(rows, truth)
    assert np.median(off_mm) < 0.3 and np.median(off_deg) < 0.5
    moved = np.array([row["moved_mm"] for row in rows])
    assert np.median(moved) > 0.5  # target poses are off by 0.8 mm along each axis


def test_a_finished_registration_is_not_made_again_and_never_replaced_by_another(short_trials, knees, tmp_path):
    output, other_start, calls = tmp_path / "poses.parquet", str(knees / "truth.parquet"), []
    trials = read_poses(knees / "truth.parquet")["trial_id"].to_pylist()[:1]
    register_dataset(str(short_trials), output, trials=trials, workers=1)
    before = output.read_bytes()
    again = register_dataset(
        str(short_trials), output, trials=trials, workers=1, progress=lambda *numbers: calls.append(numbers)
    )
    assert calls == [] and len(again.poses) == 2 and output.read_bytes() == before
    with pytest.raises(
        RegistrationError, match=r"exists and is not the result of this registration .* Nothing was changed"
    ):
        register_dataset(str(short_trials), output, start=other_start, trials=trials, workers=1)
    assert output.read_bytes() == before


def test_an_unfinished_registration_is_resumed_only_from_the_same_initial_poses_at_any_path(
    register, short_trials, knees, tmp_path
):
    output, starts, moved = (tmp_path / f"{name}.parquet" for name in ("poses", "starts", "moved"))
    truth = read_poses(knees / "truth.parquet")
    pq.write_table(truth, starts)
    (trial_id, *_) = truth["trial_id"].to_pylist()

    def interrupt(done, all):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        register_dataset(
            str(short_trials), output, start=str(starts), trials=[trial_id], workers=1, progress=interrupt
        )
    starts.rename(moved)
    pq.write_table(truth.slice(1), starts)
    arguments = ("--trial", trial_id, "--output", output, "--workers", "1")
    status, _, said = register(short_trials, "--start", starts, *arguments)
    left = incomplete_folder(output)
    assert status == 2 and f"{left} holds an unfinished registration with other input, options or versions" in said
    status, _, said = register(short_trials, "--start", moved, *arguments)
    assert status in (0, 3) and output.exists() and not left.exists(), said


def middle_of(pose, mesh):
    return transform_points(transforms([pose])[0], mesh.bounds.mean(axis=0, keepdims=True))[0]


def test_missing_or_wrong_initial_poses_are_taken_from_neighbouring_frames(register, dataset, archive, tmp_path):
    """Of one trial: its first start is 60 mm off along each axis, its second is missing."""
    truth = [row for row in read_poses(archive / "truth.parquet").to_pylist() if row["measurement_id"] <= FRAMES]
    for row in truth:
        far = row["measurement_id"] == 1 and row["component"] == "femur"
        row["translation_mm"] = [value + 60.0 * far + 0.5 for value in row["translation_mm"]]
    kept = [row for row in truth if (row["measurement_id"], row["component"]) != (2, "tibia")]
    names = ("measurement_id", "anatomy_id", "component", "translation_mm", "quaternion_xyzw")
    starts = tmp_path / "starts.parquet"
    pq.write_table(pa.Table.from_pylist([{name: row[name] for name in names} for row in kept]), starts)
    output = tmp_path / "poses.parquet"
    status, printed, said = register(dataset, "--start", starts, "-o", output, "--workers", "1", "--json")
    rows = {(row["measurement_id"], row["component"]): row for row in pq.read_table(output).to_pylist()}
    assert {key: row["start"] for key, row in rows.items() if row["start"] != "given"} == {
        (1, "femur"): "next frame",
        (2, "tibia"): "previous frame",
    }
    helped = [rows[1, "femur"], rows[2, "tibia"]]
    off_mm, off_deg = errors(helped, truth_of(archive))
    assert (off_mm < 1).all() and (off_deg < 1.5).all()
    mesh = open_rows(str(dataset), ("calibrated",), archive_px=512).meshes[helped[0]["anatomy_id"]]
    (start,) = (row for row in kept if (row["measurement_id"], row["component"]) == (1, "femur"))
    far_mm = np.linalg.norm(middle_of(helped[0], mesh) - middle_of(start, mesh))
    assert helped[0]["moved_mm"] == pytest.approx(far_mm, abs=1e-6) and far_mm > 90
    assert helped[1]["moved_mm"] is None
    assert status == 0 and len(rows) == 2 * FRAMES
    document = json.loads(printed)
    assert document["frames"] == 2 * FRAMES and document["frames_without_start"] == FRAMES
    assert document["by_component"]["femur"]["from_neighbour"] == 1
    assert f"{FRAMES} of {2 * FRAMES} frames are in trials without any initial pose: skipped" in said


def test_a_frame_that_cannot_be_read_is_reported_and_nothing_is_lost(register, archive, tmp_path):
    """Straight from the archive."""
    damaged = tmp_path / "archive"
    shutil.copytree(archive, damaged)
    bad = VeriserumArchive(damaged).frames.to_pylist()[1]
    content = Path(bad["path_fs"]).read_bytes()
    Path(bad["path_fs"]).write_bytes(content[: len(content) // 2])
    output = tmp_path / "poses.parquet"
    trial = ("--trial", bad["trial_id"])
    status, printed, said = register(damaged, "--start", "refined", *trial, "-o", output, "--workers", "1")
    rows = read_poses(output).to_pylist()
    assert len(rows) == 2 * FRAMES and status == 3
    failed = [row for row in rows if row["measurement_id"] == bad["measurement_id"]]
    for row in failed:
        assert row["verdict"] == "failed" and row["detail"].startswith("truncated: fs truncated: the JPEG breaks off")
        assert row["covariance"] is None and row["score"] is None and row["moved_mm"] == 0
    ambiguous = sum(row["verdict"] == "ambiguous" for row in rows)
    counts = f"{ambiguous} ambiguous and 2 failed" if ambiguous else "2 failed"
    assert f"{counts} of 6 poses; their detail states why" in said
    assert printed.split()[:4] == ["component", "converged", "ambiguous", "failed"]
    others = [row for row in rows if row not in failed]
    off_mm, off_deg = errors(others, truth_of(archive))
    assert (off_mm < 1).all() and (off_deg < 1.5).all()
    assert all(row["verdict"] != "failed" for row in others)


def test_a_registration_from_a_model(register, short_trials, tmp_path, monkeypatch):
    def find_poses(row, implants, meshes):
        raise RegistrationError("not found")

    monkeypatch.setattr(trials_module, "find_poses", find_poses)
    run, output = tmp_path / "run", tmp_path / "poses.parquet"
    source = open_rows(str(short_trials), ("calibrated",), archive_px=512)
    save_untrained(source, run)
    (chosen, *_) = next(iter(source.splits.values())).table("measurement_id", "trial_id").to_pylist()
    arguments = ("--start", "model", "--model", run, "--trial", chosen["trial_id"])
    status, _, said = register(short_trials, *arguments, "-o", output, "--workers", "1")
    assert status == 3 and "of 2 poses; their detail states why" in said
    rows = read_poses(output).to_pylist()
    assert [(row["measurement_id"], row["component"]) for row in rows] == [
        (chosen["measurement_id"], part) for part in PARTS
    ]
    assert pq.read_schema(output).metadata[b"model"].decode() == str(run)
    assert [path.name for path in tmp_path.glob("poses*")] == ["poses.parquet"]


def test_implants_whose_poses_a_model_says_not_to_trust_are_searched_for_first(
    register, short_trials, tmp_path, monkeypatch
):
    searched = []

    def find_poses(row, implants, meshes):
        searched.append((row["measurement_id"], sorted(implants)))
        raise RegistrationError("not found")

    monkeypatch.setattr(trials_module, "find_poses", find_poses)
    run, output = tmp_path / "run", tmp_path / "poses.parquet"
    source = open_rows(str(short_trials), ("calibrated",), archive_px=512)
    save_untrained(source, run)
    of_signs = {"means": [0.0] * 3, "deviations": [1.0] * 3, "confidence": [0.0] * 4, "doubt": [0.0] * 4}
    trust = {**of_signs, "limit": 0.1, "low": [-9.0] * 3, "high": [9.0] * 3}  # the doubt is 0.5 everywhere
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"trust": trust}))
    (chosen, *_) = next(iter(source.splits.values())).table("measurement_id", "trial_id").to_pylist()
    arguments = ("--start", "model", "--model", run, "--trial", chosen["trial_id"])
    status, _, said = register(short_trials, *arguments, "-o", output, "--workers", "1")
    assert status == 3 and "of 2 poses; their detail states why" in said
    assert searched == [(chosen["measurement_id"], sorted(PARTS))]
    assert [(row["component"], row["start"]) for row in read_poses(output).to_pylist()] == [
        (part, "given") for part in PARTS
    ]


def test_own_frames_are_registered_from_their_initial_poses(register, short_trials, tmp_path):
    def own_frames(row):
        return row | {part: row[part] | {"kind": "initial"} for part in PARTS}

    shutil.copytree(short_trials, tmp_path / "ROWS")
    rewrite(tmp_path / "ROWS", own_frames)
    output, shard = tmp_path / "poses.parquet", next((tmp_path / "ROWS" / "calibrated").glob("*.parquet"))
    trial = ("--trial", pq.read_table(shard)["trial_id"][0].as_py())
    arguments = ("--start", "initial", *trial, "-o", output, "--workers", "1", "--json")
    status, printed, said = register(tmp_path / "ROWS", *arguments)
    assert status in (0, 3), (printed, said)
    assert pq.read_schema(output).metadata[b"start"] == b"initial"
    rows, summary = read_poses(output).to_pylist(), json.loads(printed)["by_component"]
    assert [row["component"] for row in rows] == list(PARTS) and all(row["start"] == "given" for row in rows)
    for row in rows:
        moved = None if row["verdict"] == "failed" else row["moved_mm"]
        assert summary[row["component"]]["median_moved_mm"] == moved


def test_an_implant_that_cannot_be_rendered_stops_everything_at_once(register, archive, tmp_path):
    damaged, output = tmp_path / "archive", tmp_path / "poses.parquet"
    shutil.copytree(archive, damaged)
    shown = {
        pose["anatomy_id"]
        for row in rows_of(open_rows(str(archive), ("calibrated",), archive_px=512))
        for pose in row.values()
    }
    (stl,) = damaged.rglob(f"ana_{min(shown):06d}.stl")
    whole = trimesh.load_mesh(stl)
    contents = {
        " long, expected 30 to 300 mm; in metres it would": whole.copy().apply_scale(1e-3).export(file_type="stl"),
        "implant 1: ": whole.submesh([range(len(whole.faces) - 3)], append=True).export(file_type="stl"),
        "has no mesh of it (": b"solid nothing",
    }
    for message, content in contents.items():
        stl.write_bytes(content)
        status, printed, said = register(damaged, "--start", "refined", "--output", output)
        assert status == 2 and printed == "" and message.replace("1:", f"{min(shown)}:") in said, said
        assert not output.exists() and not incomplete_folder(output).exists()


def test_errors_are_one_message(register, dataset, archive, tmp_path):
    stray = tmp_path / "stray.parquet"
    pose = {"measurement_id": 999, "anatomy_id": 1, "component": "femur"}
    pose |= {"translation_mm": [0.0, 0.0, 380.0], "quaternion_xyzw": [0.0, 0.0, 0.0, 1.0]}
    pq.write_table(pa.Table.from_pylist([pose]), stray)
    unknown = tmp_path / "unknown.parquet"
    pq.write_table(pa.Table.from_pylist([pose | {"measurement_id": 1, "anatomy_id": 77}]), unknown)
    (tmp_path / "text.parquet").write_text("no poses")
    another = tmp_path / "another.parquet"
    pq.write_table(pa.Table.from_pylist([pose | {"measurement_id": 1, "trial_id": 9, "frame_index": 0}]), another)
    refused = {
        (dataset, "--start", "refind"): "no start refind; expected target, refined, manual, initial, model, none, or",
        (dataset, "--start", "none", "--model", "RUN"): "--start model and --model RUN go together",
        (dataset, "--start", "model"): "--start model and --model RUN go together",
        (dataset, "--start", "refined", "--model", "RUN"): "--start model and --model RUN go together",
        (dataset, "--start", "manual"): "has no configuration manual, only anatomies, calibrated, target. Give the",
        (dataset, "--start", "initial"): "has poses of the kind refined; --start initial expects the initial",
        (dataset, "--start", "refined", "--split", "tset"): "has no split tset; there are train",
        (dataset, "--start", "refined", "--trial", "5"): "has no trial 5; there are",
        (dataset, "--start", stray): "has no pose of the requested frames of",
        (dataset, "--start", unknown): "unknown.parquet, measurement 1: the pose is of femur 77, the label of femur",
        (dataset, "--start", another): "trial_id of the femur's pose is 9, the data set's is",
        (archive, "--start", tmp_path / "text.parquet"): "text.parquet cannot be read as Parquet",
        (tmp_path / "none", "--start", "refined"): "cannot load",
    }
    output = tmp_path / "poses.parquet"
    for arguments, message in refused.items():
        status, printed, said = register(*arguments, "--output", output)
        assert status == 2 and printed == "", (arguments, said)
        assert message in said and "Traceback" not in said, said
        assert not output.exists() and not incomplete_folder(output).exists()


def test_an_archive_whose_labels_and_images_do_not_agree_is_refused(archive, tmp_path):
    root = tmp_path / "archive"
    shutil.copytree(archive, root)
    flip_frames(root, 2)
    with pytest.raises(ArchiveError, match="they agree if the images of both planes are mirrored left to right"):
        register_dataset(str(root), tmp_path / "registered.parquet", workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
