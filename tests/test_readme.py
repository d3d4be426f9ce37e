"""Everything that the README and the pages of the documentation show runs, and their tables are those measured."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.loopback import Loopback

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))
# A block that several pages show runs once; `tests.test_segmentation` runs that of its page, for its result.
BLOCKS = dict.fromkeys(
    block
    for page in PAGES
    if page.stem != "segmentation"
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
)
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
    """After the README's own commands, with trainings of one step, and a push of OUT and RUN to a local hub."""
    assert len(BLOCKS) > 10
    out, run = tmp_path / "OUT", tmp_path / "RUN"
    names = {"PATH": str(tiny.root), "OUT": str(out), "RUN": str(run)}
    options = {"backbone_config": _BACKBONE, "max_train_steps": 1, "batch_size": 2, "crop_size": 64}
    options |= {"dataset": out, "output_dir": run, "num_workers": 0}
    train = [
        ROOT / "training" / "train.py",
        *(part for name in options for part in (f"--{name}", options[name])),
    ]
    veriserum = Path(sys.executable).with_name("veriserum")
    convert, predict = (
        [veriserum, *(names.get(part, part) for part in line.split())]
        for line in re.findall(r"^veriserum (.*)$", README.read_text(), re.MULTILINE)
    )
    commands = [
        [veriserum, "use", tiny.root],
        convert,
        train,
        predict,
        [veriserum, "push-dataset", out, "my-lab/veriserum"],
        [veriserum, "push-model", run, "my-lab/veriserum-pose"],
    ]
    for number, block in enumerate(BLOCKS):
        script = re.sub(r'"(PATH|OUT|RUN)\b', lambda name: f'"{names[name[1]]}', block).replace('"ORG/', '"my-lab/')
        script = re.sub(r"max_steps=\d+", "max_steps=1", script)
        file = tmp_path / f"block_{number}.py"
        file.write_text('if __name__ == "__main__":\n' + "".join(f"    {line}\n" for line in script.splitlines()))
        commands.append([file])
    ran = subprocess.run(
        [sys.executable, "-c", _RUN_ALL, json.dumps([list(map(str, command)) for command in commands])],
        cwd=tmp_path,
        env=hub.environment(tmp_path / "home")
        | {"OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(tmp_path / "settings")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "predicted.parquet").exists()


def test_the_documentation_and_the_card_draw_the_same_rig():
    card = (ROOT / "veriserum_hf" / "dataset" / "card_template.md").read_text()
    drawing = re.compile(r"```text\n.*?```", re.DOTALL)
    assert drawing.search(card)[0] == drawing.search((ROOT / "docs" / "conventions.md").read_text())[0]


def tables_of(text):
    return re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)


@pytest.mark.parametrize(
    "results",
    [
        "RESULTS.md",
        "RESULTS_SIMULATION.md",
        "RESULTS_WORLDS.md",
        "RESULTS_TRAINING_INPUT.md",
        "RESULTS_CHECKPOINTS.md",
        "RESULTS_CHECKPOINTS_BS.md",
        "RESULTS_LEARNING.md",
        "RESULTS_EXPORT.md",
        "RESULTS_CALIBRATION.md",
        "RESULTS_DISTORTION_FORMS.md",
        "RESULTS_PHANTOMS.md",
        "RESULTS_ACCURACY.md",
        "RESULTS_BACKBONES.md",
        "RESULTS_REGISTRATION.md",
        "RESULTS_REAL.md",
        "RESULTS_SPEED.md",
        "RESULTS_TRANSFER.md",
        "RESULTS_CAMERAS.md",
        "RESULTS_DAMAGE.md",
        "RESULTS_CONVENTIONS.md",
        "RESULTS_IMPORT.md",
        "RESULTS_MESHES.md",
        "RESULTS_SHOW.md",
        "RESULTS_CLUSTER.md",
        "RESULTS_MATCH.md",
        "RESULTS_KINEMATICS.md",
        "RESULTS_REPORT.md",
        "RESULTS_SCALE.md",
    ],
)
def test_the_figures_are_those_of_the_committed_benchmark(results):
    """Tables and the sentence about the machine."""
    text = (ROOT / "tests" / "benchmarks" / results).read_text()
    page = "scale.md" if results == "RESULTS_SCALE.md" else "benchmarks.md"
    benchmarks = (ROOT / "docs" / page).read_text()
    tables = tables_of(text)
    assert tables and max(table.count("\n") for table in tables) > 5
    for table in tables:
        assert table in benchmarks
    measured = text.rstrip().splitlines()[-1]
    assert measured.startswith("Measured") and measured in " ".join(benchmarks.split())


def test_the_readme_shows_the_committed_benchmark_of_registration():
    text = (ROOT / "tests" / "benchmarks" / "RESULTS_REGISTRATION.md").read_text()
    assert [table for table in tables_of(README.read_text()) if table in tables_of(text)]
    assert text.rstrip().splitlines()[-1] in " ".join(README.read_text().split())


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150
