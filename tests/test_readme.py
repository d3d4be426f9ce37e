"""Everything that the README tells users to type in Python runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.loopback import Loopback
from veriserum_hf.dataset.export import export

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def out(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme") / "OUT"
    export(tiny.root, folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def run(out):
    """What a training of one step leaves."""
    script, backbone = README.parent / "training" / "train.py", '{"model_type": "resnet", "hidden_sizes": [16, 32], '
    options = {
        "dataset": out,
        "output_dir": out.parent / "RUN",
        "backbone_config": backbone + '"depths": [1, 1], "embedding_size": 16, "layer_type": "basic"}',
        "max_train_steps": 1,
        "batch_size": 2,
        "crop_size": 64,
    }
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    subprocess.run([sys.executable, script, *arguments], check=True)
    return out.parent / "RUN"


@pytest.fixture(scope="module")
def environment(out, run, tmp_path_factory):
    """Environment of a process that finds ORG's repositories on a hub of this machine."""
    hub = Loopback(tmp_path_factory.mktemp("hub"))
    environment = hub.environment(tmp_path_factory.mktemp("home"))
    veriserum = str(Path(sys.executable).with_name("veriserum"))
    for command in (
        ["push-dataset", str(out), "my-lab/veriserum"],
        ["push-model", str(run), "my-lab/veriserum-pose"],
    ):
        subprocess.run([veriserum, *command], env=environment, check=True)
    yield environment
    hub.stop()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0])
def test_python_block_runs(block, tiny, out, run, environment, tmp_path):
    script = block.replace('"PATH', f'"{tiny.root}').replace('"OUT"', f'"{out}"').replace('"RUN"', f'"{run}"')
    script = script.replace('"ORG/', '"my-lab/')
    (tmp_path / "block.py").write_text(
        'if __name__ == "__main__":\n' + "".join(f"    {line}\n" for line in script.splitlines())
    )
    own = environment | {"HF_HOME": str(tmp_path / "cache")}
    ran = subprocess.run(
        [sys.executable, "block.py"], cwd=tmp_path, env=own, capture_output=True, text=True, check=False
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
