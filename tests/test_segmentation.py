"""The example of segmentation learns on a simulated archive, as its page states."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

PAGE = Path(__file__).parents[1] / "docs" / "segmentation.md"


@pytest.mark.slow
def test_the_example_finds_both_implants(tmp_path):
    archive = simulate(
        tmp_path / "archive", Settings(trials=24, frames_per_trial=6, height_px=400, marker_frames=0), workers=2
    )
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(block.replace("PATH", str(archive)))
    ran = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = ast.literal_eval(ran.stdout.splitlines()[-1])
    assert float(found["eval_femur"]) > 0.6 and float(found["eval_tibia"]) > 0.4
    assert (tmp_path / "segmentation" / "model.safetensors").is_file()
