"""A checkpoint restores a run, appears whole or not at all, and is refused where it does not fit."""

import json
import signal

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from tests.forked import FORKED
from tests.jobs.processes import killed_at
from veriserum_hf.errors import TrainingError
from veriserum_hf.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint, seed_step
from veriserum_hf.training.optimization import averaged

SETTINGS = {"learning_rate": 0.01, "backbone": "resnet", "planes": ("bs", "fs")}


class Run:
    """A small network with running means, its average, and two groups of parameters."""

    def __init__(self, seed=0, average=True):
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
        self.average = averaged(self.model, 0.9) if average else None
        first, *others = self.model
        groups = [{"params": first.parameters(), "lr": 0.001}, {"params": nn.Sequential(*others).parameters()}]
        self.optimizer = AdamW(groups, lr=0.01)

    def train(self, first, last):
        for step in range(first, last):
            seed_step(7, step, 0)
            self.optimizer.zero_grad()
            self.model(torch.randn(8, 4)).square().sum().backward()
            self.optimizer.step()
            if self.average:
                self.average.update_parameters(self.model)
        return self

    def save(self, folder, step=0):
        state = {"step": step, "settings": SETTINGS}
        save_checkpoint(folder, self.model, self.average, self.optimizer, state)

    def load(self, folder, **settings):
        return load_checkpoint(folder, self.model, self.average, self.optimizer, SETTINGS | settings)

    def tensors(self):
        every = self.model.state_dict() | (self.average.state_dict(prefix="average.") if self.average else {})
        return {name: tensor.clone() for name, tensor in every.items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def save_another(folder, step):
    Run(seed=1).train(0, 2).save(folder, step)


@pytest.mark.parametrize("average", [True, False])
def test_a_run_that_goes_on_ends_as_one_that_was_not_stopped(tmp_path, average):
    whole = Run(average=average).train(0, 6)
    Run(average=average).train(0, 3).save(tmp_path / "step_000003", 3)
    resumed = Run(seed=5, average=average)
    assert resumed.load(tmp_path / "step_000003")["step"] == 3
    resumed.train(3, 6)
    assert_same(whole.tensors(), resumed.tensors())


def test_the_learning_rate_is_that_of_the_run_and_not_of_the_checkpoint(tmp_path):
    """A schedule sets it again for every step."""
    Run().train(0, 1).save(tmp_path / "step_000001")
    resumed = Run()
    resumed.optimizer.param_groups[0]["lr"] = 0.5
    resumed.load(tmp_path / "step_000001")
    assert [group["lr"] for group in resumed.optimizer.param_groups] == [0.5, 0.01]


def test_nothing_in_it_is_pickled(tmp_path):
    """So that a checkpoint of somebody else can be opened."""
    Run().train(0, 2).save(tmp_path / "step_000002")
    names = {path.name for path in (tmp_path / "step_000002").iterdir()}
    assert names == {"model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json"}
    for path in (tmp_path / "step_000002").glob("*.safetensors"):
        content = path.read_bytes()
        json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])  # a header, then plain numbers
    assert json.loads((tmp_path / "step_000002/state.json").read_text())["settings"]["planes"] == ["bs", "fs"]


def test_it_appears_whole_or_not_at_all(tmp_path):
    Run().train(0, 1).save(tmp_path / "step_000001", 1)
    before = Run(seed=3)
    before.load(tmp_path / "step_000001")
    assert killed_at(1, save_another, tmp_path / "step_000002", 2)
    assert latest_checkpoint_of(tmp_path) == "step_000001"
    assert len(list(tmp_path.iterdir())) == 2  # and what the killed process wrote
    save_another(tmp_path / "step_000002", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000001", "step_000002"]
    save_another(tmp_path / "step_000001", 1)  # of a run that went back
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000001", "step_000002"]
    after = Run(seed=3)
    after.load(tmp_path / "step_000001")
    assert not torch.equal(before.model[0].weight, after.model[0].weight)


def latest_checkpoint_of(folder):
    """Name of the latest, as if the folder were that of a run's checkpoints."""
    run = folder.parent / f"{folder.name}-run"
    run.mkdir(exist_ok=True)
    (run / "checkpoints").unlink(missing_ok=True)
    (run / "checkpoints").symlink_to(folder)
    return latest_checkpoint(run).name


def test_the_latest_is_that_of_the_most_steps(tmp_path):
    for name in ("step_000900", "step_001000", "step_000020", ".step_002000.0a1b2c3d.partial", "step_last"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert latest_checkpoint(tmp_path).name == "step_001000"


def test_the_error_of_a_run_without_a_checkpoint_names_how_to_have_one(tmp_path):
    with pytest.raises(TrainingError, match=r"has no checkpoint to resume from; --checkpointing_steps N writes one"):
        latest_checkpoint(tmp_path)


def test_settings_that_changed_are_refused_by_name(tmp_path):
    Run().train(0, 1).save(tmp_path / "step_000001")
    run = Run(seed=2)
    before = run.tensors()
    message = "learning_rate was 0.01 and is 0.5 now; processes was None and is 2 now. Resume with the same settings"
    with pytest.raises(TrainingError, match=message):
        run.load(tmp_path / "step_000001", learning_rate=0.5, processes=2)
    assert_same(before, run.tensors())


@pytest.mark.parametrize("name", ["model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_one_is_named(tmp_path, name, damage):
    Run().train(0, 1).save(tmp_path / "step_000001")
    file = tmp_path / "step_000001" / name
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    with pytest.raises(TrainingError, match=r"cannot resume from .*step_000001: .* or latest$"):
        Run().load(tmp_path / "step_000001")


def test_weights_of_another_network_are_refused(tmp_path):
    run = Run()
    run.model = nn.Linear(4, 6)
    run.save(tmp_path / "step_000001")
    with pytest.raises(TrainingError, match=r"cannot resume from .*step_000001: .*state_dict"):
        Run().load(tmp_path / "step_000001")


def test_every_step_and_process_draws_numbers_of_its_own():
    def drawn(*of):
        seed_step(*of)
        return tuple(torch.randn(2).tolist())

    steps = [(seed, step, process) for seed in (0, 1) for step in (0, 1, 10**6) for process in (0, 1)]
    assert len({drawn(*of) for of in steps}) == len(steps)
    assert drawn(*steps[3]) == drawn(*steps[3])


def write_for_ever(folder):
    for step in range(10**6):
        Run().save(folder / f"step_{step % 2:06d}", step)


def test_whatever_is_there_when_a_run_is_killed_can_be_loaded(tmp_path):
    """At any moment, also where an earlier checkpoint of the same step is being replaced."""
    process = FORKED.Process(target=write_for_ever, args=(tmp_path,), daemon=True)
    process.start()
    while not (tmp_path / "step_000001").exists():
        process.join(0.01)
    process.join(0.2)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    found = list(tmp_path.glob("step_*"))
    assert found
    for folder in found:
        Run(seed=4).load(folder)
