"""Every way to start a training or an evaluation does the same, wherever it is started."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.commands import VERISERUM
from tests.jobs.processes import run_here
from tests.training.processes import ENVIRONMENT, ROOT, Started
from tests.training.runs import run, settings_file, weights
from veriserum_hf.training.run import TrainingRun
from veriserum_hf.training.settings import parse_settings
from veriserum_hf.training.train import make_accelerator


@pytest.fixture(scope="module")
def two_steps(config, dataset):
    """Options of a short training."""
    return ("--config", config, "--dataset", dataset, "--max_train_steps", 2, "--eval_steps", 1)


@pytest.fixture(scope="module")
def by_the_script(two_steps, tmp_path_factory):
    """Run folder of ``training/train.py``; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "script"
    run("train", *two_steps, "--output_dir", folder)
    return folder


def assert_same_run(one, other):
    """The same files, with the same weights to the last bit."""
    names = [sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) for run in (one, other)]
    assert names[0] == names[1]
    for folder in ("", "last"):
        before, after = weights(one / folder), weights(other / folder)
        assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def elsewhere(folder, program, *arguments):
    """Output and errors of a script, or of a module that Python starts, in another folder than the checkout."""
    if isinstance(program, Path):
        started = Started(program, *arguments, cwd=folder)
        assert started.end() == [0], started.written("errors")
        return started.written("output"), started.written("errors")
    done = subprocess.run(
        [sys.executable, "-m", program, *map(str, arguments)],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "program", ["veriserum_hf.training.train", ROOT / "training/train.py"], ids=["module", "script"]
)
def test_a_training_in_another_working_directory(program, two_steps, by_the_script, tmp_path):
    output, errors = elsewhere(tmp_path, program, *two_steps, "--output_dir", "RUN")
    assert_same_run(by_the_script, tmp_path / "RUN")
    assert output == "" and "Warning" not in errors
    assert errors.count("step 2: rotation_deg ") == 1


def test_the_command_trains(two_steps, by_the_script, tmp_path):
    started = Started(str(VERISERUM), "train", *two_steps, "--output-dir", tmp_path / "RUN")
    assert started.end() == [0], started.written("errors")
    assert_same_run(by_the_script, tmp_path / "RUN")
    assert started.written("output") == "" and started.written("errors").count("step 2: rotation_deg ") == 1


@pytest.mark.parametrize("script", ["train", "evaluate"])
def test_an_interrupt_is_one_line_and_the_status_130(script, two_steps, by_the_script, dataset, tmp_path):
    program = tmp_path / "program.py"  # the first thing that the model computes is interrupted
    program.write_text(
        "import runpy, signal, torch\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores it\n"
        "torch.nn.Linear.forward = lambda *_: signal.raise_signal(signal.SIGINT)\n"
        f"runpy.run_path('training/{script}.py', run_name='__main__')\n"
    )
    options = two_steps if script == "train" else ("--model", by_the_script, "--dataset", dataset)
    started = Started(str(program), *options, "--output_dir", tmp_path / "RUN")
    assert started.end() == [130], started.written("errors")
    assert started.written("output") == "" and "Traceback" not in started.written("errors")
    assert started.written("errors").splitlines()[-1].startswith("interrupted")


def test_settings_of_the_command(dataset, config, tmp_path):
    done = run_here("train", "--config", config, "--learningrate", 1)
    assert done.returncode == 2 and "usage: veriserum train --config FILE" in done.stderr
    assert "all in `python -m veriserum_hf.training.train --help`" in done.stderr
    assert "no such option: --learningrate 1; did you mean --learning_rate?" in done.stderr
    done = run_here("train", "--config", config, "--dataset", dataset, "--output-dir", tmp_path, "--seed", -1)
    assert done.returncode == 2 and done.stderr == "error: seed must be at least 0, got -1\n"
    # All of them may be in the file.
    file = settings_file(tmp_path / "f.yaml", dataset=str(dataset), output_dir=str(tmp_path), batch_size=64)
    done = run_here("train", "--config", file)
    assert done.returncode == 2 and "error: the training split has 48 frames, fewer than batches of" in done.stderr


def test_help_of_the_command_has_an_example():
    output = run_here("train", "--help").stdout
    assert "veriserum train --config" in output and "accelerate launch" in output


def test_the_command_line_begins_without_torch():
    loaded = "import sys, veriserum_hf.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, check=False).returncode == 0


def test_an_evaluation_in_another_working_directory(by_the_script, dataset, tmp_path):
    at = ("--model", by_the_script, "--dataset", dataset, "--split", "validation", "--json")
    documents = [
        json.loads(elsewhere(tmp_path, program, *at)[0])
        for program in ("veriserum_hf.training.evaluate", ROOT / "training/evaluate.py")
    ]
    assert documents[0] == documents[1]
    best = json.loads((by_the_script / "metrics.json").read_text())["validation"]
    assert documents[0]["overall"]["rotation_deg"]["median"] == pytest.approx(
        best["rotation_deg"]["median"], rel=1e-3
    )


def test_the_loop_in_a_program_of_one_s_own(two_steps, by_the_script, tmp_path, caplog, capsys):
    """What it reports is logged, and so silent until a program asks for it."""
    settings = parse_settings([*map(str, two_steps), "--output_dir", str(tmp_path / "RUN"), "--num_workers", "0"])
    training = TrainingRun(settings, make_accelerator(settings))
    training.run()
    assert training.steps_done == training.total_steps == 2 and training.best["step"] in (1, 2)
    assert_same_run(by_the_script, tmp_path / "RUN")
    output, errors = capsys.readouterr()
    assert output == "" and "rotation_deg 1" not in errors and not caplog.records
    with caplog.at_level(logging.INFO, "veriserum_hf"):
        training.evaluate()
    assert [record.getMessage()[:21] for record in caplog.records] == ["step 2: rotation_deg "]
