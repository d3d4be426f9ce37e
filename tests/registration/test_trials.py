"""``veriserum register`` as a laboratory uses it: whole trials, from several starts, interrupted, with bad frames."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.modeling.frames import config
from veriserum_hf import cli
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.dataset.export import export
from veriserum_hf.dataset.plan import Options
from veriserum_hf.evaluation.pose_files import poses_by_frame, read_poses, transforms
from veriserum_hf.geometry.pose import angle_between_deg
from veriserum_hf.jobs.folder import incomplete_folder
from veriserum_hf.modeling import VeriserumPoseModel
from veriserum_hf.registration.frames import is_archive, open_frames
from veriserum_hf.registration.starts import StartingModel, starts_of
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
    with pytest.raises(Exception, match=r"exists and is not the result of this registration .* Nothing was changed"):
        register_dataset(str(dataset), interrupted, start="refined", workers=1)
    assert interrupted.read_bytes() == before


def test_an_unfinished_registration_with_another_start_is_refused(register, dataset, interrupted, tmp_path):
    output = tmp_path / "poses.parquet"
    left = incomplete_folder(output)
    left.mkdir()
    (left / "record.json").write_text("{}")
    status, _, said = register(dataset, "--start", "refined", "--output", output)
    assert status == 2 and f"{left} holds an unfinished registration with other input, options or versions" in said


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
    assert helped[0]["moved_mm"] > 90 and helped[1]["moved_mm"] is None
    assert status in (0, 3) and len(rows) == 2 * FRAMES
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


def test_a_model_tells_starts_of_an_archive_as_of_its_data_set_and_is_asked_once(tiny, tmp_path):
    """Frames of the archive are corrected to the model's size, whatever size they are registered at."""
    options = Options(size=64, encoding="png")
    dataset = export(tiny.root, tmp_path / "OUT", configs=("calibrated", "anatomies"), options=options, workers=1)
    sources = [open_frames(str(path), ("calibrated",)) for path in (tiny.root, dataset.output)]
    shown = {(part, pose["anatomy_id"]) for row in rows_of(sources[0]) for part in PARTS if (pose := row[part])}
    torch.manual_seed(0)
    model = VeriserumPoseModel(config(anatomies=[{"id": id, "component": part} for part, id in sorted(shown)]))
    model.set_anatomies({id: torch.tensor(np.array(mesh.vertices)) for id, mesh in sources[0].meshes.items()})
    model.save_pretrained(tmp_path / "run")
    found = []
    for number, source in enumerate(sources):
        kept, calls = tmp_path / f"{number}.parquet", []
        chosen = source.of_split("train")
        asked = StartingModel(str(tmp_path / "run"), source, chosen)
        for _ in range(2):
            asked.write_starts(kept, lambda *numbers, calls=calls: calls.append(numbers))
        assert calls == [(len(chosen["train"]), len(chosen["train"]))]
        found.append(starts_of(source, chosen, str(kept)))
        assert len(found[-1]) == len(chosen["train"])
    assert found[0].keys() == found[1].keys()
    for id, poses in found[0].items():
        for part, pose in poses.items():
            np.testing.assert_allclose(pose["translation_mm"], found[1][id][part]["translation_mm"], atol=1e-3)


def test_what_cannot_be_done_is_said_in_one_message(register, dataset, archive, tmp_path):
    stray = tmp_path / "stray.parquet"
    pose = {"measurement_id": 999, "anatomy_id": 1, "component": "femur"}
    pose |= {"translation_mm": [0.0, 0.0, 380.0], "quaternion_xyzw": [0.0, 0.0, 0.0, 1.0]}
    pq.write_table(pa.Table.from_pylist([pose]), stray)
    unknown = tmp_path / "unknown.parquet"
    pq.write_table(pa.Table.from_pylist([pose | {"measurement_id": 1, "anatomy_id": 77}]), unknown)
    (tmp_path / "text.parquet").write_text("no poses")
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
        (dataset, "--start", unknown): "the start has poses of femur 77, but",
        (archive, "--start", tmp_path / "text.parquet"): "text.parquet cannot be read as Parquet",
        (tmp_path / "none", "--start", "refined"): "cannot load",
    }
    output = tmp_path / "poses.parquet"
    for arguments, message in refused.items():
        status, printed, said = register(*arguments, "--output", output)
        assert status == 2 and printed == "", (arguments, said)
        assert message in said and "Traceback" not in said, said
        assert not output.exists() and not incomplete_folder(output).exists()
