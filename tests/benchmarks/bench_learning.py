"""How a checkpoint became better with its steps: ``python -m tests.benchmarks.bench_learning STEPS=RUN ...``.

RUN is a model as it was after so many steps of 32 frames in all, over all stages of its training. Frames are those of
`bench_checkpoints`, of randomised worlds that no training showed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from tests.benchmarks.checkpoint_frames import Shown, seen_by, worlds
from tests.benchmarks.checkpoint_results import errors, predicted
from tests.benchmarks.table import setting
from veriserum_hf.core import Table
from veriserum_hf.inference import load_model
from veriserum_hf.simulation import WorldRanges

RESULTS = Path(__file__).with_name("RESULTS_LEARNING.md")
_FRAMES, _SIZE_PX = 200, 256
_FAR_MM, _FAR_DEG = 5.0, 5.0


def figures(run: str, frames: Sequence[Shown]) -> tuple[str, list[str]]:
    """Planes of a model, and the cells of its row."""
    model = load_model(run, "cpu")
    planes = tuple(model.config.planes)
    given = (seen_by(frame, planes) for frame in frames)
    found = [one for frame, poses in predicted(model, given) for one in errors(frame, poses).values()]
    deg, mm = (np.array([one[name] for one in found]) for name in ("rotation_deg", "translation_mm"))
    far = ((deg > _FAR_DEG) | (mm > _FAR_MM)).mean()
    cells = [str(model.config.refinements), f"{np.median(deg):.2f}", f"{np.median(mm):.2f}", f"{far:.0%}"]
    return " and ".join(planes), cells


def main(arguments: Sequence[str]) -> None:
    """Measure and write the table."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    frames, rows = list(worlds(WorldRanges(), _FRAMES, _SIZE_PX)), []
    for argument in arguments:
        steps, _, run = argument.partition("=")
        planes, cells = figures(run, frames)
        rows.append([planes, steps, *cells])
        print(rows[-1], flush=True)
    header = ["planes", "steps", "refinements", "rotation, deg", "translation, mm", "off by more than 5 mm or 5 deg"]
    sentence = setting(
        f"torch {torch.__version__}. Medians over both implants of {_FRAMES} frames of randomised worlds; a step "
        "shows 32 frames"
    )
    table = Table(header, rows, alignment="lr").markdown()
    RESULTS.write_text(f"# Learning\n\nWritten by `{Path(__file__).stem}`.\n\n{table}\n\n{sentence}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
