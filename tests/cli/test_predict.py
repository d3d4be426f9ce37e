"""``veriserum predict`` as a user runs it: one raw frame, a whole data set, and what it refuses."""

import json
import shutil
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.cli.commands import outcome
from tests.modeling.frames import config
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.geometry.pose import quaternion_to_matrix
from veriserum_hf.modeling import VeriserumPoseModel
from veriserum_hf.poses.schema import TRUTH_SCHEMA
from veriserum_hf.training.batches import collate, sample_of

SIZE = 64
PARTS = ("femur", "tibia")
_OF_MODEL = ("confidence", "doubt", "trusted")  # columns that only predictions have


@pytest.fixture(scope="module")
def dataset(tiny, tmp_path_factory):
    """Without losses, so that images are those of raw frames that are corrected on the way."""
    folder = tmp_path_factory.mktemp("dataset") / "OUT"
    options = Options(size=SIZE, encoding="png")
    return convert_archive(
        tiny.root, folder, configs=("calibrated", "anatomies", "raw"), options=options, workers=1
    ).output


def rows_of(dataset, split="all"):
    return open_rows(str(dataset), "calibrated").joined(split).rows


@pytest.fixture(scope="module")
def run_folder(dataset, tmp_path_factory):
    shown = {(part, row[part]["anatomy_id"]) for row in rows_of(dataset) for part in PARTS}
    torch.manual_seed(0)
    model = VeriserumPoseModel(config(anatomies=[{"id": id, "component": part} for part, id in sorted(shown)]))
    meshes = open_rows(str(dataset), "anatomies").meshes
    model.set_anatomies({id: torch.tensor(np.array(mesh.vertices)) for id, mesh in meshes.items()})
    folder = tmp_path_factory.mktemp("run")
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def predict(run_folder):
    """Exit status, standard output and standard error of the command."""
    return partial(outcome, "predict", run_folder)


def expected_poses(run_folder, rows):
    """Poses by the model itself, (rows, 2, 4, 4)."""
    model = VeriserumPoseModel.from_pretrained(run_folder).eval().to(memory_format=torch.channels_last)
    batch = collate([sample_of(row) for row in rows])
    names = ("image_bs", "image_fs", "camera_bs", "camera_fs", "anatomy_id")
    with torch.inference_mode():
        return model(**{name: batch[name] for name in names}).T_world_implant.numpy()


def transforms(rows):
    T = np.tile(np.eye(4), (len(rows), 1, 1))
    T[:, :3, :3] = quaternion_to_matrix([row["quaternion_xyzw"] for row in rows])
    T[:, :3, 3] = [row["translation_mm"] for row in rows]
    return T


def files_of(archive, measurement_id):
    row = next(row for row in archive.frames.to_pylist() if row["measurement_id"] == measurement_id)
    return Path(row["path_bs"]), Path(row["path_fs"])


def calibration_files(archive, truth, folder):
    """Options that name what `calibrate rig` and `calibrate distortion` print of a frame's calibration."""
    rig, distortions = archive.source_calibrations[truth.source_id], archive.distortions[truth.distortion_id]
    planes = {
        plane: {"principal_point_mm": rig[plane].principal_point_mm.tolist(), "sid_mm": rig[plane].sid_mm}
        for plane in rig
    }
    (folder / "rig.json").write_text(json.dumps(planes | {"T_world_fs": rig["fs"].T_world_intensifier.tolist()}))
    grids = [{"plane": plane, "distortion": each.to_string()} for plane, each in distortions.items()]
    (folder / "grids.json").write_text(json.dumps(grids))
    return ("--calibration", folder / "rig.json", "--calibration", folder / "grids.json")


def test_a_raw_frame_of_an_archive_gets_the_poses_that_its_row_gets(predict, tiny, dataset, run_folder):
    archive = VeriserumArchive(tiny.root)
    row = next(row for row in rows_of(dataset) if row["measurement_id"] == 8)
    status, printed, _ = predict(*files_of(archive, 8), "--archive", tiny.root, "--json")
    predicted = json.loads(printed)
    assert status == 0 and [one["component"] for one in predicted] == ["femur", "tibia"]
    np.testing.assert_allclose(transforms(predicted), expected_poses(run_folder, [row])[0], atol=1e-9)
    for one, part in zip(predicted, PARTS, strict=True):
        assert one["anatomy_id"] == row[part]["anatomy_id"]
        for name in ("measurement_id", "trial_id", "frame_index"):
            assert one[name] == row[name]
        assert one["covariance"] is None and one["verdict"] == "not assessed" and 0 <= one["confidence"] <= 1

    status, printed, _ = predict(*files_of(archive, 8), "--archive", tiny.root)
    assert status == 0 and printed.startswith(f"femur {row['femur']['anatomy_id']}: translation (")


def test_the_name_of_a_raw_frame_is_enough_with_its_archive(predict, tiny, tmp_path, monkeypatch):
    paths = files_of(VeriserumArchive(tiny.root), 8)
    monkeypatch.chdir(tmp_path)
    _, printed, stderr = predict(*(path.name for path in paths), "--archive", tiny.root, "--json")
    assert printed and printed == predict(*paths, "--archive", tiny.root, "--json")[1], stderr


def test_calibration_files_and_the_ids_of_an_archive_are_equivalent(predict, tiny, tmp_path):
    archive = VeriserumArchive(tiny.root)
    paths, truth = files_of(archive, 8), tiny.frames[8]
    files = calibration_files(archive, truth, tmp_path)
    known = ("--femur", truth.femur_id, "--tibia", truth.tibia_id)
    status, printed, _ = predict(*paths, *files, *known, "--json")
    predicted = json.loads(printed)
    assert status == 0 and {one["measurement_id"] for one in predicted} == {None}

    elsewhere = [tmp_path / f"new_{plane}.jpg" for plane in ("bs", "fs")]
    for path, copy in zip(paths, elsewhere, strict=True):
        copy.write_bytes(path.read_bytes())
    ids = ("--source-id", truth.source_id, "--distortion-id", truth.distortion_id)
    for more in ((*paths, "--archive", tiny.root), (*elsewhere, "--archive", tiny.root, *ids, *known)):
        _, printed, _ = predict(*more, "--json")
        np.testing.assert_array_equal(transforms(json.loads(printed)), transforms(predicted))


def test_one_plane_and_unknown_implants_will_do(predict, tiny):
    archive = VeriserumArchive(tiny.root)
    truth = tiny.frames[8]
    ids = ("--source-id", truth.source_id, "--distortion-id", truth.distortion_id)
    status, printed, _ = predict(files_of(archive, 8)[0], "--archive", tiny.root, *ids, "--femur", -1, "--json")
    predicted = json.loads(printed)
    assert status == 0 and predicted[0]["anatomy_id"] in {1, 2} and predicted[1]["anatomy_id"] == truth.tibia_id


@pytest.mark.parametrize("name", ["calibrated", "raw"])
def test_a_whole_data_set_goes_to_a_table_with_the_columns_of_the_truth(predict, dataset, run_folder, tmp_path, name):
    where = ("--dataset", dataset, "--config", name, "--output", tmp_path / "poses.parquet", "--batch-size", 5)
    status, printed, _ = predict(*where, "--json")
    rows = list(rows_of(dataset))
    assert status == 0
    assert json.loads(printed)["frames"] == len(rows) and json.loads(printed)["poses"] == 2 * len(rows)
    table = pq.read_table(tmp_path / "poses.parquet")
    columns = [field for field in TRUTH_SCHEMA if field.name in table.column_names]
    assert [field for field in table.schema if field.name not in _OF_MODEL] == columns
    assert {"covariance", "verdict"} <= set(table.column_names)
    assert table.schema.metadata[b"pose"] == TRUTH_SCHEMA.metadata[b"pose"]
    assert table.schema.metadata[b"frame"].startswith(b"world of the data set's cameras; mm")  # whichever that is
    assert table.schema.metadata[b"dataset"] == str(dataset).encode()
    assert table["measurement_id"].to_pylist() == [row["measurement_id"] for row in rows for _ in PARTS]
    assert table["anatomy_id"].to_pylist() == [row[part]["anatomy_id"] for row in rows for part in PARTS]
    assert table["component"].to_pylist() == list(PARTS) * len(rows)
    assert table["covariance"].null_count == len(table) and set(table["verdict"].to_pylist()) == {"not assessed"}
    predicted = transforms(table.to_pylist()).reshape(-1, 2, 4, 4)
    np.testing.assert_allclose(predicted, expected_poses(run_folder, rows), atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["poses.parquet"]


def test_one_split_alone(predict, dataset, tmp_path):
    where = ("--dataset", dataset, "--split", "test", "-o", tmp_path / "poses.parquet")
    assert predict(*where)[0] == 0
    wanted = {row["measurement_id"] for row in rows_of(dataset, "test")}
    assert set(pq.read_table(tmp_path / "poses.parquet")["measurement_id"].to_pylist()) == wanted


def test_what_cannot_be_done_is_reported_in_one_message(predict, tiny, dataset, tmp_path):
    archive = VeriserumArchive(tiny.root)
    (bs, fs), (_, other) = files_of(archive, 8), files_of(archive, 9)
    stray = tmp_path / "stray.jpg"
    stray.write_bytes(bs.read_bytes())
    (tmp_path / "short.jpg").write_bytes(bs.read_bytes()[:1000])
    (tmp_path / "no.json").write_text("{}")
    ids, output = ("--source-id", 99, "--distortion-id", 99), ("-o", tmp_path / "a.parquet")
    both, again = calibration_files(archive, tiny.frames[8], tmp_path), tmp_path / "again.json"
    again.write_bytes((tmp_path / "rig.json").read_bytes())
    own = ("--source-id", tiny.frames[8].source_id, "--distortion-id", tiny.frames[8].distortion_id)
    refused = {
        (): "give either the raw frames BS and FS with --archive or --calibration, or --dataset with --output; got",
        (bs, fs): "give the calibration of the frames in one way: --archive PATH, or --calibration FILE",
        (bs, other, "--archive", tiny.root): "the files are not of one measurement of",
        (stray, "--archive", tiny.root): "does not contain these files; give --archive PATH, and --source-id N",
        (stray, "--archive", tiny.root, *ids): "has no usable source calibration 99; there are",
        (
            bs,
            fs,
            "--calibration",
            tmp_path / "no.json",
        ): "no.json is not a calibration (KeyError: 'bs'); expected the",
        (bs, fs, "--archive", tiny.root, "--femur", 77): "the model refuses measurement 8: this model knows femur 1,",
        (tmp_path / "short.jpg", "--archive", tiny.root, *own): "short.jpg: the JPEG breaks off after 1000 bytes",
        (tmp_path / "none.jpg", "--archive", tiny.root, *own): "none.jpg",
        (bs, fs, "--archive", tiny.root, "--output", "a.parquet"): "--output needs --dataset",
        ("--dataset", dataset): "--dataset needs --output, the Parquet file to write",
        ("--dataset", dataset, "-o", tmp_path / "no" / "a.parquet"): f"there is no folder {tmp_path / 'no'}",
        ("--dataset", dataset, "-o", stray): "stray.jpg exists and was not changed; choose another output, or remove",
        ("--dataset", tiny.root, *output): f"{tiny.root} is an archive, not a data set: `veriserum convert ",
        ("--dataset", tmp_path / "none", *output): "there is no such folder, and on the hub: ",
        ("--dataset", dataset, "--archive", tiny.root): "got --archive, --dataset",
        ("--dataset", dataset, *ids, *output): "got --source-id, --distortion-id, --dataset",
        (
            fs,
            bs,
            "--archive",
            tiny.root,
        ): "its name states fs, but it was given as the frame of bs; expected the frame",
        (
            fs,
            bs,
            *both,
        ): "its name states fs, but it was given as the frame of bs; expected the frame of bs, then that",
        (
            bs,
            bs,
            *both,
        ): "its name states bs, but it was given as the frame of fs; expected the frame of bs, then that",
        (bs, fs, *both, "--calibration", again): f"rig.json and {again} both give the sources; give it once",
        (bs, fs, *both, *both[2:]): "grids.json both give a distortion of bs; give it once",
        ("--dataset", dataset, "--config", "anatomies", *output): "choose calibrated, raw, manual",
        ("--dataset", dataset, "--split", "tset", *output): "has no split tset; there are train,",
    }
    for arguments, message in refused.items():
        status, printed, stderr = predict(*arguments)
        assert status == 2 and printed == "", (arguments, stderr)
        assert message in stderr and "Traceback" not in stderr, stderr
    assert not list(tmp_path.glob("*.parquet"))


@pytest.mark.parametrize("name", ["calibrated", "raw"])
@pytest.mark.parametrize("damage", [lambda content: content[:-1000], lambda content: b"no image"])
def test_a_row_that_cannot_be_decoded_is_named_and_not_the_output(
    predict, dataset, tmp_path, monkeypatch, name, damage
):
    # The cache of datasets takes a folder with the same card for the same data.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder, output = tmp_path / "OUT", tmp_path / "poses.parquet"
    shutil.copytree(dataset, folder)
    shard = next((folder / name).glob("test-*.parquet"))
    table = pq.read_table(shard)
    row = table.slice(1, 1).to_pylist()[0]
    images = table["image_bs"].to_pylist()
    images[1]["bytes"] = damage(images[1]["bytes"])
    column = table.schema.get_field_index("image_bs")
    pq.write_table(table.set_column(column, table.field(column), pa.array(images, table.field(column).type)), shard)
    status, _, stderr = predict("--dataset", folder, "--config", name, "--split", "test", "-o", output)
    assert status == 2 and f"measurement {row['measurement_id']} cannot be used: " in stderr, stderr
    assert "cannot write" not in stderr and {path.name for path in tmp_path.iterdir()} == {"OUT", "cache"}


def test_an_output_that_cannot_be_written_is_named(predict, dataset, tmp_path):
    output = tmp_path / "poses.parquet"
    output.mkdir()
    status, _, stderr = predict("--dataset", dataset, "--split", "test", "-o", output)
    assert status == 2 and f"cannot write {output}: Is a directory" in stderr, stderr
    assert list(output.iterdir()) == [] and [path.name for path in tmp_path.iterdir()] == ["poses.parquet"]


def test_onnx_runtime_predicts_the_same(predict, tiny, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("veriserum_hf.inference.onnx_model.cached_assets_path", lambda *_: tmp_path)
    tables = {}
    for engine in ("torch", "onnx"):
        output = tmp_path / f"{engine}.parquet"
        status, _, errors = predict("--dataset", dataset, "--output", output, "--engine", engine)
        assert status == 0, errors
        tables[engine] = pq.read_table(output).to_pylist()
    np.testing.assert_allclose(transforms(tables["onnx"]), transforms(tables["torch"]), atol=1e-3)
    archive = VeriserumArchive(tiny.root)
    status, printed, _ = predict(*files_of(archive, 8), "--archive", tiny.root, "--json", "--engine", "onnx")
    of_row = [row for row in tables["onnx"] if row["measurement_id"] == 8]
    assert status == 0
    np.testing.assert_allclose(transforms(json.loads(printed)), transforms(of_row), atol=1e-3)
