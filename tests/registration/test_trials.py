"""``veriserum register`` as a laboratory uses it: whole trials, from several starts, interrupted, with bad frames."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import trimesh

from tests.modeling.frames import config
from veriserum_hf import cli
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.dataset.export import export
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import RegistrationError
from veriserum_hf.evaluation.pose_files import poses_by_frame, read_poses, transforms
from veriserum_hf.geometry.pose import angle_between_deg, transform_points
from veriserum_hf.jobs.folder import incomplete_folder
from veriserum_hf.modeling import VeriserumPoseModel
from veriserum_hf.registration.frames import is_archive, open_frames
from veriserum_hf.registration.starts import StartingModel
from veriserum_hf.registration.trials import register_trial
from veriserum_hf.registration.whole import SCHEMA, register_dataset
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

PARTS = ("femur", "tibia")
FRAMES = 3  # of each of two trials
_REGISTER = """
import sys
from veriserum_hf.registration.whole import register_dataset
if __name__ == "__main__":
    register_dataset(sys.argv[1], sys.argv[2], start="target", workers=1)
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registration") / "archive"
    return simulate(folder, Settings(trials=2, frames_per_trial=FRAMES, seed=4, height_px=800, marker_frames=0))


@pytest.fixture(scope="module")
def dataset(archive):
    export(archive, archive.parent / "OUT", configs=("calibrated", "target", "anatomies"), workers=1)
    return archive.parent / "OUT"


@pytest.fixture(scope="module")
def interrupted(dataset, tmp_path_factory):
    """Output of a registration that was killed after its first trial."""
    output = tmp_path_factory.mktemp("interrupted") / "poses.parquet"
    process = subprocess.Popen([sys.executable, "-c", _REGISTER, str(dataset), str(output)])
    trials = incomplete_folder(output) / "trials"
    while not any(trials.glob("*.parquet")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    return output


@pytest.fixture
def register(monkeypatch, capsys):
    """Exit status, standard output and standard error of the command."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["veriserum", "register", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, " ".join(printed.err.split())

    return call


def truth_of(archive):
    return poses_by_frame(read_poses(archive / "truth.parquet"))


def rows_of(source):
    return [row for frames in source.splits.values() for row in frames.table(*PARTS).to_pylist()]


def errors(rows, truth):
    """Distance in mm and angle in degrees of each row from the exact pose."""
    exact = transforms([truth[row["measurement_id"]][row["component"]] for row in rows])
    T = transforms(rows)
    return np.linalg.norm(T[:, :3, 3] - exact[:, :3, 3], axis=1), angle_between_deg(exact[:, :3, :3], T[:, :3, :3])


def test_an_interrupted_registration_goes_on_and_ends_with_one_row_per_implant_and_frame(
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
    assert "world's axes" in about["covariance"] and "mm" in about["frame"]
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


def test_a_finished_registration_is_not_made_again_and_never_replaced_by_another(dataset, interrupted):
    register_dataset(str(dataset), interrupted, start="target", workers=1)
    before, calls = interrupted.read_bytes(), []
    again = register_dataset(
        str(dataset), interrupted, start="target", workers=1, progress=lambda *numbers: calls.append(numbers)
    )
    assert calls == [] and len(again.poses) == 4 * FRAMES and interrupted.read_bytes() == before
    with pytest.raises(
        RegistrationError, match=r"exists and is not the result of this registration .* Nothing was changed"
    ):
        register_dataset(str(dataset), interrupted, start="refined", workers=1)
    assert interrupted.read_bytes() == before


def test_an_unfinished_registration_goes_on_from_the_same_starts_alone_wherever_they_lie(
    register, dataset, archive, tmp_path
):
    output, starts, moved = (tmp_path / f"{name}.parquet" for name in ("poses", "starts", "moved"))
    truth = read_poses(archive / "truth.parquet")
    pq.write_table(truth, starts)
    (trial_id, *_) = truth["trial_id"].to_pylist()

    def interrupt(done, all):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        register_dataset(str(dataset), output, start=str(starts), trials=[trial_id], workers=1, progress=interrupt)
    starts.rename(moved)
    pq.write_table(truth.slice(1), starts)
    arguments = ("--trial", trial_id, "--output", output, "--workers", "1")
    status, _, said = register(dataset, "--start", starts, *arguments)
    left = incomplete_folder(output)
    assert status == 2 and f"{left} holds an unfinished registration with other input, options or versions" in said
    status, _, said = register(dataset, "--start", moved, *arguments)
    assert status in (0, 3) and output.exists() and not left.exists(), said


def test_frames_are_known_by_their_pictures_and_implants_and_not_by_where_they_lie(
    register, dataset, archive, tmp_path
):
    options = Options(encoding="png")
    export(archive, tmp_path / "PNG", configs=("calibrated", "anatomies"), options=options, workers=1)
    shutil.copytree(dataset, tmp_path / "copy")
    source, moved, other = (
        open_frames(str(path), ("calibrated",)) for path in (dataset, tmp_path / "copy", tmp_path / "PNG")
    )
    digest = source.digest(source.splits)
    assert moved.digest(moved.splits) == digest
    assert other.digest(other.splits) != digest  # all but the pictures is the same
    id = min(source.meshes)
    corrected = source.meshes[id].copy()
    corrected.invert()
    assert replace(source, meshes=source.meshes | {id: corrected}).digest(source.splits) != digest


def middle_of(pose, mesh):
    return transform_points(transforms([pose])[0], mesh.bounds.mean(axis=0, keepdims=True))[0]


def test_starts_that_are_missing_or_far_off_are_helped_by_their_neighbours(register, archive, tmp_path):
    """Straight from the archive, one trial: its first start is 60 mm off, its second is missing."""
    truth = [row for row in read_poses(archive / "truth.parquet").to_pylist() if row["measurement_id"] <= FRAMES]
    for row in truth:
        far = row["measurement_id"] == 1 and row["component"] == "femur"
        row["translation_mm"] = [value + 60.0 * far + 0.5 for value in row["translation_mm"]]
    kept = [row for row in truth if (row["measurement_id"], row["component"]) != (2, "tibia")]
    names = ("measurement_id", "anatomy_id", "component", "translation_mm", "quaternion_xyzw")
    starts = tmp_path / "starts.parquet"
    pq.write_table(pa.Table.from_pylist([{name: row[name] for name in names} for row in kept]), starts)
    output = tmp_path / "poses.parquet"
    status, printed, said = register(archive, "--start", starts, "-o", output, "--workers", "1", "--json")
    rows = {(row["measurement_id"], row["component"]): row for row in pq.read_table(output).to_pylist()}
    assert {key: row["start"] for key, row in rows.items() if row["start"] != "given"} == {
        (1, "femur"): "next frame",
        (2, "tibia"): "previous frame",
    }
    helped = [rows[1, "femur"], rows[2, "tibia"]]
    off_mm, off_deg = errors(helped, truth_of(archive))
    assert (off_mm < 1).all() and (off_deg < 1.5).all()
    mesh = open_frames(str(archive), ("calibrated",)).meshes[helped[0]["anatomy_id"]]
    (start,) = (row for row in kept if (row["measurement_id"], row["component"]) == (1, "femur"))
    far_mm = np.linalg.norm(middle_of(helped[0], mesh) - middle_of(start, mesh))
    assert helped[0]["moved_mm"] == pytest.approx(far_mm, abs=1e-6) and far_mm > 90
    assert helped[1]["moved_mm"] is None
    assert status == 0 and len(rows) == 2 * FRAMES
    document = json.loads(printed)
    assert document["frames"] == 2 * FRAMES and document["frames_without_start"] == FRAMES
    assert document["by_component"]["femur"]["from_neighbour"] == 1
    assert f"{FRAMES} of {2 * FRAMES} frames are of trials without any start: left out" in said


def test_a_frame_that_cannot_be_read_is_told_and_nothing_is_lost(register, archive, tmp_path):
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
    assert "poses have not converged; their detail says why" in said
    assert printed.split()[:4] == ["component", "converged", "ambiguous", "failed"]
    assert all(row["verdict"] != "failed" for row in rows if row not in failed)


def first_frames(dataset, archive, count):
    """Frames of the first trial of a data set, starts 0.9 mm from their exact poses, meshes and measurement ids."""
    source = open_frames(str(dataset), ("calibrated",))
    frames = next(iter(source.splits.values())).taken(range(count))
    ids = frames.table("measurement_id")["measurement_id"].to_pylist()
    truth = truth_of(archive)
    starts = {id: {part: dict(truth[id][part]) for part in PARTS} for id in ids}
    for pose in (pose for poses in starts.values() for pose in poses.values()):
        pose["translation_mm"] = [value + 0.5 for value in pose["translation_mm"]]
    return frames, starts, source.meshes, ids


def assert_same_rows(rows, others):
    """The same but for rounding, which is far below what a registration tells."""
    for row, other in zip(rows, others, strict=True):
        for name in ("measurement_id", "component", "anatomy_id", "verdict", "start"):
            assert row[name] == other[name]
        for name in ("translation_mm", "moved_mm", "moved_deg", "score"):
            np.testing.assert_allclose(other[name] or 0, row[name] or 0, rtol=0, atol=1e-3)
        np.testing.assert_allclose(other["quaternion_xyzw"], row["quaternion_xyzw"], rtol=0, atol=1e-5)
        told = [np.array(each["covariance"] or np.zeros((6, 6)), dtype=float) for each in (row, other)]
        np.testing.assert_allclose(*told, rtol=0, atol=1e-3 * np.abs(told[0]).max())


def test_frames_that_are_registered_together_are_found_where_each_is_alone(dataset, archive):
    """Also where one of them has no start of its femur, and cannot be with the others."""
    frames, starts, meshes, ids = first_frames(dataset, archive, FRAMES)
    del starts[ids[1]]["femur"]
    done = [[], []]
    alone = register_trial(frames, starts, meshes, done[0].append)
    together = register_trial(frames, starts, meshes, done[1].append, at_once=32)
    assert done == [[1] * FRAMES, [FRAMES]] and len(alone) == 2 * FRAMES
    assert_same_rows(alone, together)


def test_a_start_that_cannot_be_used_is_not_the_trouble_of_frames_registered_with_it(dataset, archive):
    frames, starts, meshes, ids = first_frames(dataset, archive, 2)
    for poses in starts.values():
        del poses["tibia"]
    starts[ids[1]]["femur"]["translation_mm"] = [0.0, 0.0, 5000.0]
    together = register_trial(frames, starts, meshes, at_once=32)
    assert [row["start"] for row in together] == ["given", "previous frame"]
    assert_same_rows(register_trial(frames, starts, meshes), together)


def test_an_implant_without_start_that_no_neighbour_helps_has_none(dataset, archive):
    frames, starts, meshes, ids = first_frames(dataset, archive, 2)
    for poses in starts.values():
        del poses["femur"]
    starts[ids[1]]["tibia"]["translation_mm"] = [0.0, 0.0, 5000.0]
    del starts[ids[0]]
    alone, far = register_trial(frames, starts, meshes)
    assert alone["verdict"] == far["verdict"] == "failed"
    assert [alone[name] for name in ("start", "moved_mm", "moved_deg", "score", "covariance")] == [None] * 5
    assert alone["detail"] == "this frame has no start, and no other of its trial has converged"
    assert far["start"] == "given" and far["moved_mm"] == 0


def test_an_archive_is_told_by_its_tables(archive, dataset, tmp_path):
    nested = tmp_path / "download" / "tables"
    nested.mkdir(parents=True)
    assert not is_archive(str(tmp_path / "download"))
    shutil.copy(next(archive.glob("*.db")), nested)
    assert is_archive(str(tmp_path / "download")) and is_archive(str(next(nested.iterdir())))
    (nested / "predicted").mkdir()
    shutil.copy(archive / "truth.parquet", nested / "predicted")
    assert is_archive(str(nested)) and not is_archive(str(archive / "truth.parquet"))
    stored = tmp_path / "OUT"
    shutil.copytree(dataset, stored)
    (stored / "calibrated" / "Thumbs.db").write_bytes(b"pictures")
    assert not is_archive(str(stored))


def test_frames_of_an_archive_are_those_of_its_data_set(archive, dataset):
    assert is_archive(str(archive)) and not is_archive(str(dataset)) and not is_archive("a/name")
    raw, stored = open_frames(str(archive), ("calibrated",)), open_frames(str(dataset), ("calibrated",))
    assert raw.splits.keys() == stored.splits.keys() and raw.meshes.keys() == stored.meshes.keys()
    for split, frames in raw.splits.items():
        for one, other in zip(frames.read(), stored.splits[split].read(), strict=True):
            images = [np.asarray(row.pop("image_bs"), dtype=float) for row in (one, other)]
            assert np.abs(images[0] - images[1]).mean() < 2  # of 255: the data set's are JPEG
            one.pop("image_fs"), other.pop("image_fs")
            assert one == other


def save_untrained(source, folder):
    """Save a tiny model with random weights that knows the implants of some frames."""
    shown = {(part, pose["anatomy_id"]) for row in rows_of(source) for part in PARTS if (pose := row[part])}
    torch.manual_seed(0)
    model = VeriserumPoseModel(config(anatomies=[{"id": id, "component": part} for part, id in sorted(shown)]))
    model.set_anatomies({id: torch.tensor(np.array(mesh.vertices)) for id, mesh in source.meshes.items()})
    model.save_pretrained(folder)


def test_a_model_tells_starts_of_an_archive_as_of_its_data_set_and_is_asked_once(tiny, tmp_path):
    """Frames of the archive are corrected to the model's size, whatever size they are registered at."""
    options = Options(size=64, encoding="png")
    dataset = export(tiny.root, tmp_path / "OUT", configs=("calibrated", "anatomies"), options=options, workers=1)
    sources = [open_frames(str(path), ("calibrated",)) for path in (tiny.root, dataset.output)]
    save_untrained(sources[0], tmp_path / "run")
    found = []
    for number, source in enumerate(sources):
        kept, calls = tmp_path / f"{number}.parquet", []
        chosen = source.of_split("train")
        asked = StartingModel(str(tmp_path / "run"), source, chosen)
        for _ in range(2):
            starts = asked.starts(kept, lambda *numbers, calls=calls: calls.append(numbers))
        assert calls == [(len(chosen["train"]), len(chosen["train"]))]
        found.append(starts)
        assert len(found[-1]) == len(chosen["train"])
    assert found[0].keys() == found[1].keys()
    for id, poses in found[0].items():
        for part, pose in poses.items():
            np.testing.assert_allclose(pose["translation_mm"], found[1][id][part]["translation_mm"], atol=1e-3)


def test_a_model_has_looked_at_all_frames_also_where_the_last_cannot_be_read(archive, tmp_path):
    damaged = tmp_path / "archive"
    shutil.copytree(archive, damaged)
    source = open_frames(str(damaged), ("calibrated",))
    save_untrained(source, tmp_path / "run")
    split, frames = next(iter(source.splits.items()))
    chosen = {split: frames.taken(range(FRAMES))}
    first, *last = chosen[split].table("measurement_id")["measurement_id"].to_pylist()
    for row in VeriserumArchive(damaged).frames.to_pylist():
        if row["measurement_id"] in last:
            Path(row["path_fs"]).write_bytes(b"")
    calls = []
    asked = StartingModel(str(tmp_path / "run"), source, chosen)
    starts = asked.starts(tmp_path / "starts.parquet", lambda *numbers: calls.append(numbers))
    assert calls[-1] == (FRAMES, FRAMES) and starts.keys() == {first}


def test_a_registration_from_a_model(register, archive, tmp_path):
    small, run, output = tmp_path / "OUT", tmp_path / "run", tmp_path / "poses.parquet"
    export(archive, small, configs=("calibrated", "anatomies"), options=Options(size=64, encoding="png"), workers=1)
    source = open_frames(str(small), ("calibrated",))
    save_untrained(source, run)
    ids = next(iter(source.splits.values())).table("measurement_id", "trial_id").to_pylist()[:FRAMES]
    asked_for = ("--start", "model", "--model", run, "--trial", ids[0]["trial_id"])
    status, _, said = register(small, *asked_for, "-o", output, "--workers", "1")
    assert status == 3 and "poses have not converged" in said
    rows = read_poses(output).to_pylist()
    assert [row["measurement_id"] for row in rows] == [id["measurement_id"] for id in ids for _ in PARTS]
    assert pq.read_schema(output).metadata[b"model"].decode() == str(run)
    assert [path.name for path in tmp_path.glob("poses*")] == ["poses.parquet"]


def test_an_implant_that_cannot_be_rendered_stops_everything_at_once(register, archive, tmp_path):
    damaged, output = tmp_path / "archive", tmp_path / "poses.parquet"
    shutil.copytree(archive, damaged)
    shown = {
        pose["anatomy_id"] for row in rows_of(open_frames(str(archive), ("calibrated",))) for pose in row.values()
    }
    (stl,) = damaged.rglob(f"ana_{min(shown):06d}.stl")
    whole = trimesh.load_mesh(stl)
    contents = {
        "implant 1: the mesh is 0.0": whole.copy().apply_scale(1e-3).export(file_type="stl"),
        "implant 1: ": whole.submesh([range(len(whole.faces) - 3)], append=True).export(file_type="stl"),
        "has no mesh of it (": b"solid nothing",
    }
    for message, content in contents.items():
        stl.write_bytes(content)
        status, printed, said = register(damaged, "--start", "refined", "--output", output)
        assert status == 2 and printed == "" and message.replace("1:", f"{min(shown)}:") in said, said
        assert not output.exists() and not incomplete_folder(output).exists()


def test_what_cannot_be_done_is_said_in_one_message(register, dataset, archive, tmp_path):
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
        (
            dataset,
            "--start",
            "refind",
        ): "there is no start refind; expected target, refined, manual, model, or",
        (dataset, "--start", "model"): "--start model and --model RUN go together",
        (dataset, "--start", "refined", "--model", "RUN"): "--start model and --model RUN go together",
        (dataset, "--start", "manual"): "has no configuration manual, only anatomies, calibrated, target. Give the",
        (dataset, "--start", "refined", "--split", "tset"): "has no split tset; there are train",
        (dataset, "--start", "refined", "--trial", "5"): "has no trial 5; there are",
        (dataset, "--start", stray): "has no pose of the frames of",
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
