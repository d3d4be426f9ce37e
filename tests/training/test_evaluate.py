"""``training/evaluate.py`` as a user runs it, with a small model that was never trained, and what it refuses."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import trimesh
from transformers import AutoConfig

from tests.training.runs import run, run_as_users_do
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation.metrics import POINTS, sample_points
from veriserum_hf.inference.models import check_fit, load_model, planes_seen
from veriserum_hf.modeling.configuration_veriserum import VeriserumPoseConfig
from veriserum_hf.modeling.modeling_veriserum import VeriserumPoseModel

SIZE = 64


@pytest.fixture(scope="module")
def dataset(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "OUT"
    configs = ("calibrated", "anatomies", "raw")
    return str(convert_archive(tiny.root, folder, configs=configs, options=Options(size=SIZE), workers=1).output)


@pytest.fixture(scope="module")
def meshes(dataset):
    return open_rows(dataset, "anatomies").meshes


@pytest.fixture(scope="module")
def frames(dataset):
    return open_rows(dataset, "calibrated").labelled("all")


@pytest.fixture(scope="module")
def anatomies(frames):
    shown = {(part, id) for part in ("femur", "tibia") for id in frames.anatomy_ids(part)}
    return [{"id": id, "component": component} for component, id in sorted(shown)]


@pytest.fixture(scope="module")
def make_model(anatomies, meshes):
    def make(**options):
        torch.manual_seed(0)
        backbone = AutoConfig.for_model("resnet", layer_type="basic", embedding_size=8, hidden_sizes=[8], depths=[1])
        sizes = {"image_size": SIZE, "crop_size": 32, "locator_size": 32, "map_size": 2, "hidden_size": 16}
        model = VeriserumPoseModel(VeriserumPoseConfig(backbone, **{"anatomies": anatomies} | sizes | options))
        known = [entry["id"] for entry in model.config.anatomies]
        model.set_anatomies({id: torch.tensor(np.array(meshes.get(id, meshes[1]).vertices)) for id in known})
        return model

    return make


@pytest.fixture(scope="module")
def run_folder(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_model(plane_dropout=0.0).save_pretrained(folder)
    return str(folder)


def where(run_folder, dataset, split):
    return ("--model", run_folder, "--dataset", dataset, "--split", split, "--batch_size", 5, "--num_workers", 0)


def test_one_document_on_standard_output_and_a_report_in_a_folder(run_folder, dataset, frames, tmp_path):
    written = ("--json", "--output_dir", tmp_path / "report")
    output, errors = run_as_users_do("evaluate", *where(run_folder, dataset, "all"), *written)
    found = json.loads(output)
    assert found["overall"]["frames"] == len(frames)
    assert found["overall"]["rotation_deg"]["median"] > 0
    assert found["evaluated"] == {
        "model": run_folder,
        "dataset": dataset,
        "config": "calibrated",
        "split": "all",
        "planes": ["bs", "fs"],
        "weights_sha256": hashlib.sha256(Path(run_folder, "model.safetensors").read_bytes()).hexdigest(),
    }
    assert "evaluating" in errors
    report = tmp_path / "report"
    assert json.loads((report / "evaluation.json").read_text()) == found
    assert pq.read_table(report / "errors.parquet").num_rows == found["overall"]["count"]
    names = {"evaluation.json", "evaluation.md", "errors.parquet", "cumulative.png", "axes.png", "confidence.png"} | {
        "bland_altman.png"
    }
    assert {path.name for path in report.iterdir()} == names


def test_two_processes_tell_the_same_in_a_table(run_folder, dataset):
    together, _ = run("evaluate", *where(run_folder, dataset, "train"), processes=2)
    alone, _ = run("evaluate", *where(run_folder, dataset, "train"))
    assert together == alone
    assert alone.startswith(f"`{run_folder}` on `{dataset}` (calibrated), split train, planes bs and fs: ")
    assert "\n| femur 1 | " in alone and "\n| fs depth | " in alone


def test_a_model_that_needs_both_planes_says_so(run_folder, dataset):
    bs_alone = ("--planes", "bs", "--json")
    output, errors = run("evaluate", *where(run_folder, dataset, "train"), *bs_alone, status=2)
    assert output == ""
    assert "error: the model refuses measurement " in errors and "Traceback" not in errors
    assert "this model needs image_bs and image_fs, got image_bs; one plane" in errors


def test_a_model_is_shown_its_own_planes_and_no_other(make_model):
    one = make_model(planes=["bs"])
    assert planes_seen(one, None) == ("bs",) and planes_seen(make_model(), None) == ("bs", "fs")
    assert planes_seen(make_model(), ["fs"]) == ("fs",)
    with pytest.raises(TrainingError, match="the model uses bs alone, not fs"):
        planes_seen(one, ["bs", "fs"])


def test_a_loaded_model_is_the_saved_one(run_folder, make_model):
    loaded = load_model(run_folder)
    for name, value in make_model(plane_dropout=0.0).state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value)


def test_points_are_on_the_surface_and_always_the_same(meshes):
    points, again = sample_points(meshes), sample_points(meshes)
    for id, mesh in meshes.items():
        assert points[id].shape == (POINTS, 3)
        np.testing.assert_array_equal(points[id], again[id])
        low, high = mesh.bounds
        assert (points[id] >= low - 1e-6).all() and (points[id] <= high + 1e-6).all()


@pytest.mark.parametrize(
    ("config", "split", "message"),
    [
        ("anatomies", "train", "anatomies holds no corrected images; choose calibrated, manual or target"),
        ("raw", "train", "raw holds no corrected images; choose calibrated, manual or target"),
        ("manual", "test", "cannot load .* manual: BuilderConfig 'manual' not found. Available: "),
    ],
)
def test_configurations_without_corrected_images_are_refused(dataset, config, split, message):
    with pytest.raises(TrainingError, match=message):
        open_rows(dataset, config).labelled(split)


def test_the_error_of_a_missing_split_names_those_that_exist(dataset, tmp_path):
    train = open_rows(dataset, "calibrated").labelled("train").rows
    (tmp_path / "calibrated").mkdir()
    train.to_parquet(str(tmp_path / "calibrated" / "train-00000-of-00001.parquet"))
    with pytest.raises(TrainingError, match=r"default has no split test; there are train and all$"):
        open_rows(str(tmp_path), "default").labelled("test")


def test_frames_without_any_pose_are_refused(dataset, tmp_path):
    train = open_rows(dataset, "calibrated").labelled("train").rows
    features = train.features
    bare = train.map(lambda row: row | {"femur": None, "tibia": None}, features=features)
    bare.to_parquet(str(tmp_path / "train.parquet"))
    with pytest.raises(
        TrainingError, match=rf"split all: none of its {len(train)} frames has a pose to compare with"
    ):
        open_rows(str(tmp_path), "default").labelled("all")


def test_what_is_no_data_set_and_no_model_is_refused(dataset, tmp_path):
    with pytest.raises(
        TrainingError, match=r"cannot load .*nowhere calibrated: .* Expected a folder that `veriserum"
    ):
        open_rows(str(tmp_path / "nowhere"), "calibrated")
    with pytest.raises(TrainingError, match=r"cannot load the model .*nowhere: .* Expected the output folder of a"):
        load_model(str(tmp_path / "nowhere"))
    with pytest.raises(TrainingError, match=r"holds no model: there is no config\.json\. Expected the output folder"):
        load_model(dataset)


def test_weights_that_cannot_be_read_are_refused(run_folder, tmp_path):
    (tmp_path / "config.json").write_text(Path(run_folder, "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(Path(run_folder, "model.safetensors").read_bytes()[:1000])
    with pytest.raises(TrainingError, match="cannot load the model "):
        load_model(str(tmp_path))


def test_a_model_takes_images_of_another_size(make_model, frames, meshes):
    check_fit(make_model(image_size=96), frames, meshes)


def test_a_model_for_other_implants_is_refused(make_model, frames, meshes, anatomies):
    known = [entry for entry in anatomies if entry != {"id": 2, "component": "femur"}]
    with pytest.raises(TrainingError, match=r"shows femur 2, the model knows femur 1, tibia 3.*; evaluate it on the"):
        check_fit(make_model(anatomies=known), frames, meshes)
    other = {"femur": "tibia", "tibia": "femur"}
    swapped = [entry | {"component": other[entry["component"]]} for entry in anatomies]
    with pytest.raises(TrainingError, match="shows femur 1, the model knows tibia 1,"):
        check_fit(make_model(anatomies=swapped), frames, meshes)


def test_the_same_number_for_another_implant_is_noticed(make_model, frames, meshes):
    model = make_model()
    check_fit(model, frames, meshes)
    for other in (trimesh.creation.icosphere(radius=5.0), trimesh.creation.box(bounds=meshes[1].bounds * 1.2)):
        with pytest.raises(
            TrainingError, match=r"femur 1 of the data set is another implant .* mm away from those of the data set's"
        ):
            check_fit(model, frames, meshes | {1: other})


def test_an_implant_without_a_mesh_is_named(make_model, frames, meshes):
    with pytest.raises(
        TrainingError, match="the data set has poses of femur 1, but no mesh of it among its anatomies"
    ):
        check_fit(make_model(), frames, {id: mesh for id, mesh in meshes.items() if id != 1})
