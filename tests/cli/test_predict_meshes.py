"""``veriserum predict`` and evaluation with a model that is given the meshes of implants."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import pipeline

from tests.cli.commands import outcome
from tests.modeling.frames import config
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.inference.models import NamedImplants, fit_to, load_model
from veriserum_hf.inference.parts import predict_elsewhere
from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseModel

SIZE = 64


@pytest.fixture(scope="module")
def dataset(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "OUT"
    options = Options(size=SIZE, encoding="png")
    return convert_archive(tiny.root, folder, configs=("calibrated", "anatomies"), options=options, workers=1).output


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    VeriserumPoseModel(config(implants="mesh", anatomies=[])).save_pretrained(folder)
    VeriserumImageProcessor(size=SIZE).save_pretrained(folder)
    return folder


@pytest.fixture
def predict(run_folder):
    """Exit status, standard output and standard error of the command."""
    return partial(outcome, "predict", run_folder)


@pytest.fixture(scope="module")
def frame(tiny):
    """Raw files of a frame, and the ids of its implants."""
    rows = VeriserumArchive(tiny.root).frames.to_pylist()
    row = next(row for row in rows if row["measurement_id"] == 8)
    return (Path(row["path_bs"]), Path(row["path_fs"])), tiny.frames[8]


def test_a_data_set_gives_its_meshes(predict, run_folder, dataset, tmp_path):
    status, _, stderr = predict("--dataset", dataset, "--output", tmp_path / "poses.parquet")
    assert status == 0, stderr
    rows = open_rows(str(dataset), "calibrated")
    frames = rows.joined("all")
    poses = pq.read_table(tmp_path / "poses.parquet").to_pylist()
    assert len(poses) == 2 * len(frames)
    shown = {row["measurement_id"]: (row["femur"]["anatomy_id"], row["tibia"]["anatomy_id"]) for row in frames.rows}
    for femur, tibia in zip(poses[::2], poses[1::2], strict=True):
        assert (femur["anatomy_id"], tibia["anatomy_id"]) == shown[femur["measurement_id"]]
        assert 0 <= femur["confidence"] <= 1


def test_a_frame_of_an_archive_and_mesh_files_have_the_same_poses(predict, tiny, frame, tmp_path):
    paths, truth = frame
    status, printed, stderr = predict(*paths, "--archive", tiny.root, "--json")
    assert status == 0, stderr
    archive = VeriserumArchive(tiny.root)
    files = [tmp_path / f"{name}.stl" for name in ("femur", "tibia")]
    for file, id in zip(files, (truth.femur_id, truth.tibia_id), strict=True):
        shutil.copy(archive.anatomies[id].path, file)
    meshes = ("--femur-mesh", files[0], "--tibia-mesh", files[1])
    _, by_files, _ = predict(*paths, "--archive", tiny.root, *meshes, "--femur", -1, "--json")
    assert [one["translation_mm"] for one in json.loads(by_files)] == [
        one["translation_mm"] for one in json.loads(printed)
    ]
    assert [one["anatomy_id"] for one in json.loads(by_files)] == [-1, truth.tibia_id]
    status, _, stderr = predict(*paths, "--archive", tiny.root, "--femur", -1)
    assert status == 2
    assert "there is none of the femur, whose id is unknown: give --femur-mesh STL" in stderr


def test_parts_that_other_processes_predict_have_the_same_poses(predict, run_folder, dataset, tmp_path):
    model = load_model(str(run_folder), "cpu")
    rows = open_rows(str(dataset), "calibrated")
    frames = rows.joined("all")
    fit_to(model, frames, rows)
    predict("--dataset", dataset, "--output", tmp_path / "here.parquet")
    with ThreadPoolExecutor(1) as thread:
        predict_elsewhere(
            str(run_folder),
            frames,
            tmp_path / "there.parquet",
            about={},
            batch_size=16,
            implants=NamedImplants.of(model),
            executor=thread,
        )
    here, there = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("here", "there"))
    np.testing.assert_allclose(
        here["translation_mm"].to_pylist(), there["translation_mm"].to_pylist(), rtol=0, atol=1e-3
    )


def test_a_pipeline_needs_the_meshes(run_folder, dataset):
    estimate = pipeline("dual-plane-pose-estimation", model=str(run_folder))
    rows = open_rows(str(dataset), "calibrated")
    row = rows.joined("all").rows[0]
    poses = estimate(row, meshes=rows.meshes)
    assert [pose["anatomy_id"] for pose in poses] == [row["femur"]["anatomy_id"], row["tibia"]["anatomy_id"]]
    with pytest.raises(ValueError, match="give meshes, by anatomy id"):
        estimate(row)


def test_a_model_with_a_table_takes_no_mesh_files(tiny, frame, tmp_path):
    torch.manual_seed(0)
    VeriserumPoseModel(config()).save_pretrained(tmp_path)
    paths, _ = frame
    file = VeriserumArchive(tiny.root).anatomies[1].path
    status, _, stderr = outcome("predict", tmp_path, *paths, "--archive", tiny.root, "--femur-mesh", file)
    assert status == 2 and "remove --femur-mesh and --tibia-mesh" in stderr
