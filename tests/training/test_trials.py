"""What a run keeps of its data: its trials and its conversion; and a data set without a validation split."""

import json
import shutil

import pytest

from tests.fixtures.archives import write_archive
from tests.jobs.processes import run_here
from tests.training.runs import run, settings_file
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.dataset.trials import conversion_identity, no_trials, training_trials, trial_overlap
from veriserum_hf.hub.models import push_model
from veriserum_hf.inference.models import load_model

SIZE = 64


@pytest.fixture(scope="module")
def conversions(tmp_path_factory):
    """One archive of trials 11, 18 and 25, split by trial (train 11 and 25, test 18), and by implant."""
    folder = tmp_path_factory.mktemp("conversions")
    archive = write_archive(folder / "archive", trials=3, frames_per_trial=4, frame_size=(416, 400)).root
    for split_by in ("trial", "implant"):
        options = Options(size=SIZE, split_by=split_by)
        convert_archive(archive, folder / split_by, options=options, workers=1)
    return folder


@pytest.fixture(scope="module")
def settings(conversions):
    file = settings_file(conversions / "tiny.yaml", batch_size=4, crop_size=32, num_workers=0)
    return ("--config", file, "--max_train_steps", 2, "--checkpointing_steps", 1)


@pytest.fixture(scope="module")
def trained(conversions, settings):
    """Run on the conversion by trial, which has no validation split, and what it wrote; not to be changed."""
    _, errors = run("train", *settings, "--dataset", conversions / "trial", "--output_dir", conversions / "run")
    return conversions / "run", errors


@pytest.fixture(scope="module")
def overlapping(trained, conversions):
    """What ``evaluate`` prints and the folder it writes where two of three trials were training trials."""
    report = conversions / "report"
    at = ("--model", trained[0], "--dataset", conversions / "trial", "--split", "all", "--num_workers", 0)
    output, _ = run("evaluate", *at, "--json", "--output_dir", report)
    return json.loads(output), report


def test_it_trains_without_a_validation_split_and_says_so(trained, conversions):
    folder, errors = trained
    assert (
        f"{conversions}/trial has no validation split: no checkpoint can be chosen by its errors, and {folder} will "
        "hold the last one as its best" in errors
    )
    assert json.loads((folder / "metrics.json").read_text())["validation"] is None
    assert (folder / "model.safetensors").read_bytes() == (folder / "last/model.safetensors").read_bytes()


def test_convert_says_which_split_is_empty(conversions):
    done = run_here("convert", conversions / "archive", conversions / "trial", "--size", SIZE, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["empty_splits"] == {"calibrated": ["validation"]}
    assert done.stderr == "calibrated has no frame in validation: none of its trials is there\n"
    sentence = "`calibrated` has no frame in `validation`: none of its trials is there."
    assert sentence in (conversions / "trial/README.md").read_text()


def test_a_split_that_is_not_there_is_named(trained, conversions):
    at = ("--model", trained[0], "--dataset", conversions / "trial", "--num_workers", 0)
    _, errors = run("evaluate", *at, "--split", "validation", status=2)
    assert errors.strip().endswith("calibrated has no split validation; there are train, test and all")


def test_the_same_archive_split_in_another_way_is_another_data_set(trained, conversions, settings, tmp_path):
    resumed = ("--output_dir", tmp_path / "run", "--resume_from_checkpoint", trained[0] / "checkpoints/step_000001")
    _, errors = run("train", *settings, "--dataset", conversions / "implant", *resumed, status=2)
    assert "is a checkpoint of another configuration: " in errors
    assert "conversion split_by was 'trial' and is 'implant' now; " in errors
    assert "trials of train was '2 (" in errors and "and is '1 (" in errors and "data_revision" not in errors
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_does_not_state_its_conversion_can_be_resumed(trained, conversions, settings, tmp_path):
    """Those of earlier versions do not."""
    checkpoint = shutil.copytree(trained[0] / "checkpoints/step_000001", tmp_path / "step_000001")
    state = json.loads((checkpoint / "state.json").read_text())
    del state["conversion"]
    (checkpoint / "state.json").write_text(json.dumps(state))
    resumed = ("--output_dir", tmp_path / "run", "--resume_from_checkpoint", checkpoint)
    _, errors = run("train", *settings, "--dataset", conversions / "trial", *resumed)
    assert "step_000001, step 1" in errors


def test_what_makes_a_conversion_another(conversions, tmp_path):
    one, other = (conversion_identity(str(conversions / name), shards=False) for name in ("trial", "implant"))
    assert {name for name in one if one[name] != other.get(name)} == {
        "conversion split_by",
        "trials of test",
        "trials of train",
    }
    assert "conversion shard_size_bytes" not in one
    assert "conversion shard_size_bytes" in conversion_identity(str(conversions / "trial"), shards=True)
    assert conversion_identity(None, shards=False) == conversion_identity(str(tmp_path), shards=False) == {}


def test_a_model_keeps_its_training_trials(trained, conversions):
    archive = json.loads((conversions / "trial/conversion.json").read_text())["archive"]["fingerprint"]
    for folder in (trained[0], trained[0] / "last"):
        found = load_model(str(folder), "cpu").config.training_data
        assert found | {"trials": set(found["trials"])} == {
            "dataset": "trial",
            "config": "calibrated",
            "archive": archive,
            "trials": {"11", "25"},
        }


def test_evaluate_names_the_training_trials_that_it_evaluates(trained, conversions, overlapping):
    implant = open_rows(str(conversions / "implant"), "calibrated").splits
    split = next(name for name, rows in implant.items() if rows.table("trial_id")["trial_id"].to_pylist() == [11] * 4)
    for dataset, of, count, statement in (
        ("trial", "test", 0, "none of 1 test trial were training trials"),
        ("implant", split, 1, f"1 of 1 {split} trial was a training trial"),
    ):
        at = ("--model", trained[0], "--dataset", conversions / dataset, "--split", of, "--num_workers", 0)
        found = json.loads(run("evaluate", *at, "--json")[0])["training_overlap"]
        assert found["training_trials"] == count and found["statement"] == statement
    output, report = overlapping
    assert output["training_overlap"]["training_trials"] == 2
    assert output["training_overlap"]["statement"] == "2 of 3 trials were training trials"
    assert "\n\n2 of 3 trials were training trials.\n\n" in (report / "evaluation.md").read_text()


def test_predict_and_report_name_them_too(trained, conversions, tmp_path):
    statement = "2 of 3 trials were training trials"
    poses = tmp_path / "predicted.parquet"
    done = run_here("predict", trained[0], "--dataset", conversions / "trial", "--output", poses)
    assert done.stdout == f"24 poses of 12 frames written to {poses}; {statement}\n"
    at = ("report", conversions / "trial", "--output", tmp_path / "page.html", "--poses", poses, "--json")
    done = run_here(*at, "--split", "all")
    (source,) = json.loads(done.stdout)["sources"]
    assert source["training_overlap"] == {"trials": 3, "training_trials": 2, "statement": statement}
    assert done.stderr == f"predicted: {statement}\n"
    page = (tmp_path / "page.html").read_text()
    assert f"predicted is not compared with new trials: {statement}." in page
    assert "training_data" not in page
    done = run_here(*at, "--split", "test")
    assert json.loads(done.stdout)["sources"][0]["training_overlap"]["training_trials"] == 0 and done.stderr == ""


def test_the_card_of_a_model_names_them(trained, conversions, overlapping, monkeypatch, caplog):
    pushed = {}
    monkeypatch.setattr(
        "veriserum_hf.hub.models.push_folder",
        lambda folder, *_, **__: pushed.update({path.name: path.read_bytes() for path in folder.iterdir()}),
    )
    evaluation = overlapping[1] / "evaluation.json"
    push_model(trained[0], "my-lab/knees", evaluation=evaluation)
    assert "\n2 of 3 trials were training trials.\n" in pushed["README.md"].decode()
    assert "the evaluation on the card is no test: 2 of 3 trials were training trials" in caplog.text
    assert set(json.loads(pushed["config.json"])["training_data"]["trials"]) == {"11", "25"}
    document = json.loads(evaluation.read_text())
    del document["training_overlap"]
    (conversions / "old.json").write_text(json.dumps(document))
    push_model(trained[0], "my-lab/knees", evaluation=conversions / "old.json")
    card = pushed["README.md"].decode()
    assert "It is unknown whether the model was trained on some of these trials." in card
    push_model(trained[0], "my-lab/knees")
    assert (
        "Not measured. The weights are those of the last step: there was no validation"
        in pushed["README.md"].decode()
    )


@pytest.mark.parametrize("stated", [None, [], {"trials": [11]}, {"trials": {"11": 3}}, "of old"])
def test_a_model_that_does_not_state_its_trials(stated, conversions):
    frames = open_rows(str(conversions / "trial"), "calibrated").splits["test"]
    found = trial_overlap(stated, str(conversions / "trial"), frames, "test")
    assert found["training_trials"] is None
    assert found["statement"] == (
        "it is unknown which of the 1 test trial were training trials: the model does not state its own"
    )


def test_trials_of_copies_streams_and_other_archives(conversions, tmp_path):
    dataset = str(conversions / "trial")
    splits = open_rows(dataset, "calibrated").splits
    known = training_trials(dataset, "calibrated", splits["train"])
    streamed = training_trials(dataset, "calibrated", None)
    copied = {"archive": "of a copy with other times"}
    other_cameras = {"trials": dict.fromkeys(known["trials"], "0")}
    for training, count in (
        (known, 2),
        (streamed, 2),
        (known | copied, 2),
        (streamed | copied, None),
        (known | copied | other_cameras, 0),
        (no_trials(), 0),
    ):
        assert trial_overlap(training, dataset, splits["train"], "train")["training_trials"] == count
        if training is not streamed | copied:
            assert trial_overlap(training, dataset, splits["test"], "test")["training_trials"] == 0
    hedged = trial_overlap(known | copied | other_cameras, dataset, splits["train"], "train")["statement"]
    assert hedged == (
        "none of 2 train trials were training trials; 2 more with the id of one, but of another archive or with "
        "other cameras"
    )
    shutil.copytree(dataset, tmp_path / "bare", ignore=shutil.ignore_patterns("*.json"))
    assert training_trials(str(tmp_path / "bare"), "calibrated", None) is None
