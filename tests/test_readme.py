"""Everything that the README tells users to type in Python runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from veriserum_hf.dataset.export import export

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def out(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme") / "OUT"
    export(tiny.root, folder, workers=1)
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0])
def test_python_block_runs(block, tiny, out, tmp_path, monkeypatch):
    script = block.replace('"PATH', f'"{tiny.root}').replace('"OUT"', f'"{out}"')
    (tmp_path / "block.py").write_text(
        'if __name__ == "__main__":\n' + "".join(f"    {line}\n" for line in script.splitlines())
    )
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    ran = subprocess.run([sys.executable, "block.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_readme_and_the_card_draw_the_same_rig():
    card = (README.parent / "veriserum_hf" / "dataset" / "card_template.md").read_text()
    drawing = re.compile(r"```text\n.*?```", re.DOTALL)
    assert drawing.search(card)[0] == drawing.search(README.read_text())[0]


@pytest.mark.parametrize("results", ["RESULTS.md", "RESULTS_SIMULATION.md"])
def test_the_figures_are_those_of_the_committed_benchmark(results):
    lines = (README.parent / "tests" / "benchmarks" / results).read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) > 5
    assert "\n".join(rows) in README.read_text()
