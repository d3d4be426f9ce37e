"""Checkpoints on the hub: what is published, what the card states, and loading with and without the package."""

import base64
import io
import json
import re
import runpy
import shutil
import subprocess
import sys
import tokenize
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard, ModelCardData, snapshot_download
from safetensors import safe_open

from tests.fixtures.models import BACKBONE, HEAD
from tests.hub.bare_environment import NEEDED, make_environment, run
from tests.hub.server import TOKEN
from tests.jobs.processes import run_here
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.dataset.provenance import data_record
from veriserum_hf.errors import HubError, TrainingError
from veriserum_hf.evaluation.metrics import pose_errors, sample_points
from veriserum_hf.evaluation.summary import summarise
from veriserum_hf.hub.datasets import push_dataset
from veriserum_hf.hub.models import push_model
from veriserum_hf.inference.labelled import predict_labelled
from veriserum_hf.inference.models import load_model, weights_sha256
from veriserum_hf.modeling import VeriserumPoseModel
from veriserum_hf.training.batches import collate
from veriserum_hf.training.publishing import push_run
from veriserum_hf.training.samples import FrameSamples

ROOT = Path(__file__).parents[2]
NAME = "my-lab/knee-poses"
SETTINGS = {
    "backbone_config": BACKBONE,
    **HEAD,
    "max_train_steps": 2,
    "batch_size": 2,
    "warmup_steps": 1,
    "num_workers": 0,
}


@pytest.fixture(scope="module")
def dataset(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "OUT"
    options = Options(size=64, encoding="png")
    return convert_archive(tiny.root, folder, configs=("calibrated", "anatomies"), options=options, workers=1).output


@pytest.fixture(scope="module")
def trained(dataset, running_hub, tmp_path_factory):
    """A training of two steps that pushes itself: its output, its folder, and the repository as it was then."""
    folder = tmp_path_factory.mktemp("training") / "RUN"
    config = folder.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(SETTINGS))
    running_hub.fail()
    done = subprocess.run(
        [sys.executable, str(ROOT / "training" / "train.py"), "--config", str(config), "--dataset", str(dataset)]
        + ["--output_dir", str(folder), "--checkpointing_steps", "1", "--push_to_hub", "--hub_model_id", NAME],
        env=running_hub.environment(folder.parent / "home") | {"OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done, folder, running_hub.repository(NAME, "models"), published(running_hub)


@pytest.fixture(scope="module")
def run_folder(trained):
    return trained[1]


@pytest.fixture(scope="module")
def evaluation(run_folder, dataset, tmp_path_factory):
    """Evaluation of that run as training/evaluate.py writes it."""
    from accelerate import Accelerator

    frames = open_rows(str(dataset), "calibrated").labelled("test").rows
    loader = torch.utils.data.DataLoader(FrameSamples(frames), 4, collate_fn=collate)
    estimates = predict_labelled(load_model(str(run_folder)).eval(), loader, Accelerator(cpu=True))
    points_mm = sample_points(open_rows(str(dataset), "anatomies").meshes)
    document = summarise(pose_errors(estimates, points_mm), resamples=100)
    about = {"model": str(run_folder), "dataset": str(dataset), "config": "calibrated", "split": "test"}
    about["weights_sha256"] = weights_sha256(str(run_folder))
    file = tmp_path_factory.mktemp("report") / "evaluation.json"
    file.write_text(json.dumps(document | {"evaluated": about | {"planes": ["bs", "fs"]}}))
    return file


def published(hub, name=NAME):
    """Content of every file of a repository, by path."""
    files = hub.repository(name, "models").head.files
    return {path: hub.store.object(entry.sha256).read_bytes() for path, entry in files.items()}


def one_frame(dataset, folder):
    """A row of the data set as plain arrays, and the file that holds them."""
    row = open_rows(str(dataset), "calibrated").labelled("test").rows[0]
    frame = {"anatomy_id": np.array([row["femur"]["anatomy_id"], row["tibia"]["anatomy_id"]])}
    for plane in ("bs", "fs"):
        frame[f"image_{plane}"] = np.asarray(row[f"image_{plane}"])
        for name in ("intrinsics", "world_to_camera"):
            frame[f"{name}_{plane}"] = np.array(row[f"camera_{plane}"][name])
    np.savez(folder / "frame.npz", **frame)
    return row, folder / "frame.npz"


def poses_of(model, row):
    from veriserum_hf.training.batches import sample_of

    batch = collate([sample_of(row)])
    views = {name: value for name, value in batch.items() if name.startswith(("image", "camera", "anatomy"))}
    with torch.inference_mode():
        return model.eval()(**views).T_world_implant[0].numpy()


def test_it_loads_where_torch_transformers_numpy_and_roma_are_and_this_package_is_not(
    online, run_folder, dataset, tmp_path
):
    pushed = run_here("push-model", run_folder, NAME, "--json")
    assert pushed.returncode == 0, pushed.stderr
    assert json.loads(pushed.stdout)["already_there"] == []
    row, frame = one_frame(dataset, tmp_path)
    expected = poses_of(load_model(str(run_folder)), row)

    make_environment(tmp_path / "packages")
    variables = {key: value for key, value in online.environment(tmp_path / "other").items() if key.startswith("HF_")}
    there = Path(__file__).with_name("print_poses.py")
    printed = run(tmp_path / "packages", there, NAME, str(frame), variables=variables | {"HOME": str(tmp_path)})
    printed = json.loads(printed)
    assert printed["others"] == []
    np.testing.assert_allclose(printed["T_world_implant"], expected, atol=1e-5)
    for implant, T in zip(printed["pipeline"], expected, strict=True):
        np.testing.assert_allclose(implant["translation_mm"], T[:3, 3], atol=1e-5)
    assert [implant["component"] for implant in printed["pipeline"]] == ["femur", "tibia"]
    assert [implant["anatomy_id"] for implant in printed["pipeline"]] == np.load(frame)["anatomy_id"].tolist()

    # With this package, and without trust_remote_code.
    again = VeriserumPoseModel.from_pretrained(NAME).to(memory_format=torch.channels_last)  # as for use
    np.testing.assert_array_equal(poses_of(again, row), expected)

    everything = [pushed.stdout.encode(), pushed.stderr.encode(), *published(online).values()]
    everything += [path.read_bytes() for where in (run_folder, online.folder) for path in files_below(where)]
    assert not [content for content in everything if TOKEN.encode() in content]


def files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_weights_are_safetensors_and_all_else_is_text(online, run_folder):
    push_model(run_folder, NAME)
    contents = {path.relative_to(run_folder).as_posix(): path.read_bytes() for path in files_below(run_folder)}
    assert any(name.startswith("checkpoints/step_000002/") for name in contents)
    for where in (contents, published(online)):
        assert "model.safetensors" in where
        for name, content in where.items():
            if name.endswith(".safetensors"):
                continue
            assert "\0" not in content.decode("utf-8"), name
    for path in run_folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            assert weights.keys()


def test_no_code_reads_or_writes_a_pickle():
    names = {"pickle", "cPickle", "dill", "cloudpickle", "joblib"}
    for path in [*(ROOT / "veriserum_hf").rglob("*.py"), *(ROOT / "training").rglob("*.py")]:
        text = path.read_text()
        words = [token.string for token in tokenize.generate_tokens(io.StringIO(text).readline)]
        used = names & {word for before, word in pairwise(words) if before in ("import", "from")}
        assert not used, path
        assert "torch.load(" not in text and "torch.save(" not in text, path


def test_the_card_describes_the_run(online, run_folder, dataset, evaluation):
    push_model(run_folder, NAME, evaluation=evaluation)
    files = published(online)
    card = ModelCard(files["README.md"].decode())
    card.validate()
    assert isinstance(card.data, ModelCardData) and card.data.license == "other"
    document = json.loads(evaluation.read_text())
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found["mtre_mm_median"] == document["overall"]["mtre_mm"]["median"]
    assert found["success_1mm_1deg"] == document["overall"]["success_1mm_1deg"]["share"]
    assert {(result.dataset_name, result.dataset_split) for result in card.data.eval_results} == {
        ("OUT (calibrated)", "test")
    }
    low, high = document["overall"]["rotation_deg"]["median_interval_95"]
    assert f"[{low:.0f}, {high:.0f}]" in card.text
    fingerprint = json.loads((dataset / "conversion.json").read_text())["archive"]["fingerprint"]
    assert f"`OUT`, a local folder, configuration `calibrated`; revision `archive {fingerprint}`" in card.text
    assert "Base model: none; a `resnet` from scratch" in card.text
    assert "**A research tool, not a medical device.**" in card.text
    assert "max_train_steps: 2" in card.text and "femur 1, " in card.text
    assert f'from_pretrained("{NAME}", trust_remote_code=True, revision="1.0.0")' in card.text
    assert json.loads(files["evaluation.json"])["evaluated"]["model"] == NAME
    assert not [name for name, content in files.items() if str(run_folder.parent).encode() in content]
    assert not [name for name, content in files.items() if str(dataset.parent).encode() in content]


def test_results_on_the_benchmark_are_in_the_form_by_which_the_hub_lists_them(
    online, run_folder, dataset, evaluation, tmp_path
):
    set_on_hub = "my-lab/veriserum"
    pushed = push_dataset(dataset, set_on_hub)
    tasks = {task["id"]: task for task in yaml.safe_load(hub_text(online, set_on_hub, "eval.yaml"))["tasks"]}
    run = shutil.copytree(run_folder, tmp_path / "RUN")
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"data": data_record(set_on_hub)}))
    document = json.loads(evaluation.read_text())
    document["evaluated"] |= {"model": str(run), "dataset": set_on_hub}
    (run / "evaluation.json").write_text(json.dumps(document))
    push_model(run, NAME)
    files = published(online)
    entries = yaml.safe_load(files[".eval_results/veriserum.yaml"])
    assert {entry["dataset"]["task_id"] for entry in entries} <= set(tasks)
    found = {entry["dataset"]["task_id"]: entry for entry in entries}
    assert found["mtre_mm_median"]["value"] == document["overall"]["mtre_mm"]["median"]
    assert found["success_2mm_2deg"]["dataset"] == {
        "id": set_on_hub,
        "task_id": "success_2mm_2deg",
        "revision": pushed.revision,
    }
    assert all(entry["notes"].startswith("planes bs and fs; ") for entry in entries)
    assert ModelCard(files["README.md"].decode()).data.eval_results is None  # the older form
    assert tasks["mtre_mm_median"] == {"id": "mtre_mm_median", "config": "calibrated", "split": "test"}

    document["evaluated"] |= {"split": "train"}
    (run / "evaluation.json").write_text(json.dumps(document))
    push_model(run, "my-lab/of-train")
    assert not [name for name in published(online, "my-lab/of-train") if name.startswith(".eval_results")]


def hub_text(hub, name, path):
    """Text of a file of a data set on the hub."""
    return hub.store.object(hub.repository(name).head.files[path].sha256).read_text()


def test_the_card_answers_what_reporting_guidelines_ask(online, run_folder, evaluation):
    push_model(run_folder, NAME, evaluation=evaluation)
    card = ModelCard(published(online)["README.md"].decode())
    assert card.data.pipeline_tag == "keypoint-detection"
    section = card.text.partition("## Reporting checklist")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE))
    overall = json.loads(evaluation.read_text())["overall"]
    assert rows["Test"].endswith(
        f"{overall['frames']} frames of {overall['trials']} trials, {overall['count']} poses"
    )
    trials = json.loads((run_folder / "config.json").read_text())["training_data"]["trials"]
    assert rows["Training set"] == f"{len(trials)} trials"
    assert rows["Training"] == "steps 2, seed 0"
    assert rows["Failures"].startswith(f"{1 - overall['success_2mm_2deg']['share']:.1%} of the poses")


def test_the_card_of_a_fine_tuned_model_names_the_one_that_it_began_with(online, run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "tuned")
    settings = yaml.safe_load((run / "training.yaml").read_text())
    settings |= {"model": str(tmp_path / "first"), "backbone_config": None}
    (run / "training.yaml").write_text(yaml.safe_dump(settings))
    push_model(run, NAME)
    card = published(online)["README.md"].decode()
    assert "Base model: `first` (as named at training), with a `resnet`" in card
    assert "those of `first` as initial weights" in card and str(tmp_path) not in card


def test_the_handler_of_an_endpoint_answers_with_the_poses_of_the_model(online, run_folder, dataset, tmp_path):
    push_model(run_folder, NAME)
    folder = snapshot_download(NAME, revision="1.0.0", local_dir=tmp_path / "endpoint")
    row = open_rows(str(dataset), "calibrated").labelled("test").rows[0]
    frame = {"anatomy_id": [row["femur"]["anatomy_id"], row["tibia"]["anatomy_id"]]}
    for plane in ("bs", "fs"):
        content = io.BytesIO()
        row[f"image_{plane}"].save(content, "PNG")
        frame[f"image_{plane}"] = base64.b64encode(content.getvalue()).decode()
        frame[f"camera_{plane}"] = row[f"camera_{plane}"]
    (tmp_path / "frame.json").write_text(json.dumps(frame))
    (tmp_path / "ask.py").write_text(
        "import json, pathlib, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from handler import EndpointHandler\n"
        "handler, frame = EndpointHandler(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())\n"
        "print(json.dumps([handler({'inputs': each}) for each in (frame, [frame], {})]))\n"
    )
    make_environment(tmp_path / "packages", (*NEEDED, "pillow"))
    variables = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    answers = run(
        tmp_path / "packages", tmp_path / "ask.py", folder, str(tmp_path / "frame.json"), variables=variables
    )
    one, several, wrong = json.loads(answers)
    assert several == [one]
    for entry, T in zip(one, poses_of(load_model(str(run_folder)), row), strict=True):
        np.testing.assert_allclose(entry["translation_mm"], T[:3, 3], atol=1e-3)
    assert wrong["error"].startswith("ValueError: ")


def test_without_an_evaluation_the_card_shows_the_validation_split_and_states_it(online, run_folder):
    push_model(run_folder, NAME)
    card = ModelCard(published(online)["README.md"].decode())
    assert "On the validation split, by which this checkpoint was chosen" in card.text
    best = json.loads((run_folder / "metrics.json").read_text())["validation"]
    results = card.data.eval_results
    assert {result.dataset_split for result in results} == {"validation"}
    assert {result.metric_type: result.metric_value for result in results}["rotation_deg_median"] == (
        best["rotation_deg"]["median"]
    )


def test_a_dry_run_needs_no_token(online, run_folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    planned = push_model(run_folder, NAME, dry_run=True)
    assert {"README.md", "config.json", "model.safetensors", "checkpoint_veriserum.py"} <= set(planned.uploaded)
    assert planned.not_compared and online.requests() == []


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1]\nb: *a\n",
        "[" * 5000,
        "- 1\n",
        "dataset: 5\n",
        "dataset: x\n",
        "backbone: [a]\n",
        "when: 2026-01-01\n",
        "a: \x00\n",
        f"a: {'x' * 1_000_001}\n",
    ],
    ids=range(9),
)
def test_malformed_settings_are_refused(run_folder, tmp_path, text):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "training.yaml").write_text(text)
    with pytest.raises(HubError, match=r"training\.yaml"):
        push_model(folder, NAME, dry_run=True)


def test_a_second_push_uploads_nothing_and_a_dry_run_changes_nothing(online, run_folder):
    planned = push_model(run_folder, NAME, dry_run=True)
    assert online.repository(NAME, "models") is None
    first = push_model(run_folder, NAME)
    assert first.uploaded == planned.uploaded and "modeling_veriserum.py" in first.uploaded
    repository = online.repository(NAME, "models")
    assert repository.private and repository.tags == {"1.0.0": repository.head.id}
    before = len(online.requests())
    again = push_model(run_folder, NAME)
    assert again.uploaded == [] and again.already_there == [*sorted(set(first.uploaded) - {"README.md"}), "README.md"]
    assert not [one for one in online.requests()[before:] if one["method"] == "PUT" or "/commit/" in str(one["path"])]


def test_a_changed_model_needs_another_version(online, run_folder, evaluation):
    push_model(run_folder, NAME)
    with pytest.raises(
        HubError, match=r"version 1\.0\.0 already, with other content: evaluation\.json, README\.md\."
    ):
        push_model(run_folder, NAME, evaluation=evaluation)
    push_model(run_folder, NAME, evaluation=evaluation, version="1.1.0")
    assert set(online.repository(NAME, "models").tags) == {"1.0.0", "1.1.0"}


def test_public_weights_of_measured_images_need_their_licence_acknowledged(online, run_folder):
    with pytest.raises(HubError) as raised:
        push_model(run_folder, NAME, public=True)
    assert str(raised.value) == (
        'the images that this model was trained on are "In Copyright - Non-Commercial Use Permitted" (ETH Zurich): '
        "acknowledge that with --accept-data-licence to publish it, or omit --public"
    )
    assert online.repository(NAME, "models") is None
    push_model(run_folder, NAME, public=True, accept_data_licence=True)
    assert not online.repository(NAME, "models").private


def test_weights_of_own_frames_are_under_the_terms_of_their_laboratory(online, run_folder, tmp_path):
    for path in run_folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    data = {"name": "frames", "on_hub": False, "revision": None, "simulated": False, "imported": True}
    metrics = json.loads((tmp_path / "metrics.json").read_text()) | {"data": data}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(HubError, match=r"^the images that this model was trained on are those of a labor"):
        push_model(tmp_path, NAME, public=True)
    push_model(tmp_path, NAME)
    card = ModelCard(published(online)["README.md"].decode())
    assert card.data.license is None
    assert "under the terms of these frames" in card.text and "In Copyright" not in card.text


def test_weights_of_simulated_images_are_free_and_the_card_states_it(online, run_folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    settings = yaml.safe_load((run_folder / "training.yaml").read_text())
    on_the_fly = settings | {"data": "simulated:on-the-fly", "dataset": None}
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(on_the_fly))
    push_model(tmp_path, NAME, public=True)
    card = ModelCard(published(online)["README.md"].decode())
    assert card.data.license == "mit" and "synthetic" in card.data.tags
    assert card.data.eval_results is None
    assert "Trained on frames that were simulated during the training." in card.text and "Not measured." in card.text
    assert "- It was trained on simulated images" in card.text


def test_a_backbone_is_linked_to_only_where_it_was_loaded_from_the_hub(online, run_folder, tmp_path):
    """The name of one may also be that of a folder, seen from where the training ran."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    settings = yaml.safe_load((run_folder / "training.yaml").read_text()) | {"backbone": "my-lab/backbone"}
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(settings))
    push_model(tmp_path, NAME)
    card = ModelCard(published(online)["README.md"].decode())
    assert card.data.base_model is None
    assert "Base model: a `resnet` from `my-lab/backbone` (as named at training)" in card.text

    api = HfApi()
    api.create_repo("my-lab/backbone")
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="my-lab/backbone")
    api.hf_hub_download("my-lab/backbone", "config.json")
    push_model(tmp_path, NAME, version="1.1.0")
    card = ModelCard(published(online)["README.md"].decode())
    assert card.data.base_model == "my-lab/backbone"
    assert "Base model: [my-lab/backbone](https://huggingface.co/my-lab/backbone)" in card.text


def test_a_data_set_is_recorded_with_its_commit_and_a_folder_with_its_archive(online, dataset, tmp_path):
    pushed = push_dataset(dataset, "my-lab/veriserum")
    assert data_record("my-lab/veriserum") == {
        "name": "my-lab/veriserum",
        "on_hub": True,
        "revision": pushed.revision,
        "simulated": False,
    }
    assert data_record(str(dataset))["revision"].startswith("archive ")
    unknown = {"name": "elsewhere", "on_hub": False, "revision": None, "simulated": False}
    assert data_record(str(tmp_path / "elsewhere")) == unknown
    for odd in ([], {"archive": "of old"}, {"archive": {"fingerprint": "of half a record"}}):
        (tmp_path / "conversion.json").write_text(json.dumps(odd))
        assert data_record(str(tmp_path)) == unknown | {"name": tmp_path.name}
    assert data_record("my-lab/nothing")["revision"] is None
    assert data_record(None) is None


def test_names_of_places_on_the_machine_that_trained_stay_there(online, run_folder, tmp_path):
    for name in ("model.safetensors", "training.yaml"):
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    config = json.loads((run_folder / "config.json").read_text())
    config["backbone_config"]["_name_or_path"] = "/home/somebody/secret/backbone"
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = yaml.safe_load((run_folder / "training.yaml").read_text())
    private = {"backbone": "/home/somebody/secret/backbone", "dataset": "/home/somebody/secret/OUT"}
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(settings | private))
    push_model(tmp_path, NAME)
    files = published(online)
    assert not [name for name, content in files.items() if b"somebody" in content or b"secret" in content]
    assert "Base model: a `resnet` from `backbone` (as named at training)" in files["README.md"].decode()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "training.yaml",
            "has no training.yaml: expected the output folder of a finished training. Nothing",
        ),
        ("model.safetensors", "has no model.safetensors: expected the output folder of a finished training"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(online, run_folder, tmp_path, missing, message):
    for name in {"config.json", "model.safetensors", "training.yaml"} - {missing}:
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    with pytest.raises(HubError, match=message):
        push_model(tmp_path, NAME)
    assert online.repository(NAME, "models") is None


def test_weights_that_are_no_safetensors_and_evaluations_of_other_runs_are_refused(
    online, run_folder, evaluation, tmp_path
):
    for name in ("config.json", "training.yaml"):
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(HubError, match=r"holds no weights in safetensors: .*\. Nothing was pushed"):
        push_model(tmp_path, NAME)
    (tmp_path / "model.safetensors").write_bytes((run_folder / "model.safetensors").read_bytes())
    with pytest.raises(HubError, match=r"is the evaluation of .*RUN, not of .*: evaluate this run, or give its own"):
        push_model(tmp_path, NAME, evaluation=evaluation)
    document = json.loads(evaluation.read_text())
    document["evaluated"] |= {"model": str(tmp_path), "weights_sha256": "of weights that are gone"}
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    with pytest.raises(
        HubError, match=r"evaluation\.json is the evaluation of other weights than .*model\.safetensors"
    ):
        push_model(tmp_path, NAME)
    with pytest.raises(
        HubError, match=r"is not an evaluation: expected the evaluation\.json that training/evaluate\.py"
    ):
        push_model(run_folder, NAME, evaluation=run_folder / "metrics.json")
    assert online.repository(NAME, "models") is None


def test_a_training_pushes_its_run(trained, running_hub):
    done, folder, repository, files = trained
    assert f"pushed to {running_hub.url}/{NAME}" in done.stderr
    assert TOKEN not in done.stderr + done.stdout
    assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert repository.private and repository.tags == {"1.0.0": repository.head.id}


def test_a_training_whose_push_is_refused_reports_that_the_run_is_kept(online, run_folder):
    online.fail(refuse_token=True)
    with pytest.raises(TrainingError, match=r"does not accept the token \(401") as raised:
        push_run(run_folder, NAME)
    assert str(raised.value).endswith(
        f"The run is complete in {run_folder}; push it with `veriserum push-model {run_folder} {NAME}`"
    )
    assert TOKEN not in str(raised.value)


def test_a_training_that_could_not_push_its_run_does_not_begin(online, dataset, tmp_path, monkeypatch, capsys):
    config, run = tmp_path / "settings.yaml", tmp_path / "RUN"
    config.write_text(yaml.safe_dump(SETTINGS))
    options = {"config": config, "dataset": dataset, "output_dir": run, "hub_model_id": NAME}
    arguments = ["--push_to_hub", *(part for name in options for part in (f"--{name}", str(options[name])))]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    online.fail(refuse_token=True)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "training" / "train.py"), run_name="__main__")
    assert stop.value.code == 2
    assert "does not accept the token (401" in capsys.readouterr().err
    assert not run.exists()
