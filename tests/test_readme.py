"""Everything that the README tells users to type in Python runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.loopback import Loopback
from veriserum_hf.dataset.export import convert_archive

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
# Each in a process of its own that finds the large libraries loaded, but nothing of this package.
_RUN_ALL = """
import gc, json, os, runpy, sys
import accelerate, datasets, matplotlib.figure, roma, scipy.ndimage, torch, transformers.pipelines, trimesh

gc.freeze()  # or every fork copies all of this when it ends
failed = []
for command in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")
        sys.exit()
    if os.waitpid(child, 0)[1]:
        failed.append(command)
sys.exit(f"failed: {failed}" if failed else 0)
"""
_BACKBONE = (
    '{"model_type": "resnet", "hidden_sizes": [16, 32], "depths": [1, 1], "embedding_size": 16, '
    '"layer_type": "basic"}'
)


@pytest.fixture
def hub(tmp_path):
    hub = Loopback(tmp_path / "hub")
    yield hub
    hub.stop()


def test_every_python_block_runs(tiny, hub, tmp_path):
    """With what a training of one step leaves for RUN, and both OUT and RUN pushed to a hub of this machine."""
    assert len(BLOCKS) > 5
    out, run = tmp_path / "OUT", tmp_path / "RUN"
    convert_archive(tiny.root, out, workers=1)
    options = {"backbone_config": _BACKBONE, "max_train_steps": 1, "batch_size": 2, "crop_size": 64}
    options |= {"dataset": out, "output_dir": run, "num_workers": 0}
    train = [
        README.parent / "training" / "train.py",
        *(part for name in options for part in (f"--{name}", options[name])),
    ]
    veriserum = Path(sys.executable).with_name("veriserum")
    commands = [
        train,
        [veriserum, "push-dataset", out, "my-lab/veriserum"],
        [veriserum, "push-model", run, "my-lab/veriserum-pose"],
    ]
    for number, block in enumerate(BLOCKS):
        script = block.replace('"PATH', f'"{tiny.root}').replace('"OUT"', f'"{out}"').replace('"RUN"', f'"{run}"')
        script = script.replace('"ORG/', '"my-lab/')
        file = tmp_path / f"block_{number}.py"
        file.write_text('if __name__ == "__main__":\n' + "".join(f"    {line}\n" for line in script.splitlines()))
        commands.append([file])
    ran = subprocess.run(
        [sys.executable, "-c", _RUN_ALL, json.dumps([list(map(str, command)) for command in commands])],
        cwd=tmp_path,
        env=hub.environment(tmp_path / "home") | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_the_readme_and_the_card_draw_the_same_rig():
    card = (README.parent / "veriserum_hf" / "dataset" / "card_template.md").read_text()
    drawing = re.compile(r"```text\n.*?```", re.DOTALL)
    assert drawing.search(card)[0] == drawing.search(README.read_text())[0]


@pytest.mark.parametrize(
    "results",
    [
        "RESULTS.md",
        "RESULTS_SIMULATION.md",
        "RESULTS_CALIBRATION.md",
        "RESULTS_ACCURACY.md",
        "RESULTS_REGISTRATION.md",
    ],
)
def test_the_figures_are_those_of_the_committed_benchmark(results):
    text = (README.parent / "tests" / "benchmarks" / results).read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert tables and max(table.count("\n") for table in tables) > 5
    for table in tables:
        assert table in README.read_text()
