"""What pretraining a backbone brings: ``python -m tests.benchmarks.bench_backbones FOLDER``.

A ConvNeXt and a ViT are pretrained here without labels, for minutes, since no weights of the hub are at hand. Each is
then fine-tuned from its folder, and from random weights for as many steps. Data and finished runs are kept in FOLDER:
an interrupted benchmark resumes.
"""

import os
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import yaml

from tests.benchmarks.bench_accuracy import data, trained
from tests.benchmarks.masked_pretraining import pretrained
from tests.benchmarks.table import setting
from veriserum_hf.core import Table

RESULTS = Path(__file__).with_name("RESULTS_BACKBONES.md")
FAMILIES: dict[str, dict[str, Any]] = {  # every map has a place for 16 px
    "ConvNeXt": {"model_type": "convnext", "num_stages": 3, "hidden_sizes": [32, 64, 128], "depths": [2, 2, 4]},
    "ViT": {
        "model_type": "vit",
        "hidden_size": 128,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "image_size": 96,
        "patch_size": 16,
    },
}
_CROP_PX, _STEPS, _PRETRAINING_STEPS, _SEEDS = 96, 400, 1000, (0, 1)
_SETTINGS = {
    "crop_size": _CROP_PX,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "max_train_steps": _STEPS,
    "eval_steps": 200,
}


def prepared(folder: Path, family: str, dataset: Path) -> Path:
    """Folder of the pretrained backbone of a family."""
    at = folder / f"pretrained-{family}"
    if not at.exists():
        pretrained(at, FAMILIES[family], dataset, steps=_PRETRAINING_STEPS, crop_px=_CROP_PX)
    return at


def figures(folder: Path, name: str, settings: dict[str, Any], dataset: Path) -> list[str]:
    """Cells of a row."""
    runs = []
    for seed in _SEEDS:
        config = folder / f"{name.replace(' ', '_')}_{seed}.yaml"
        config.write_text(yaml.safe_dump(_SETTINGS | settings | {"seed": seed}))
        runs.append(trained(folder, f"{name} {seed}", ["--config", str(config)], dataset))
    cells = []
    for what in ("rotation_deg", "translation_mm"):
        medians = [document["overall"][what]["median"] for document, _ in runs]
        cells.append(f"{mean(medians):.2f} ({min(medians):.2f} to {max(medians):.2f})")
    close = mean(document["overall"]["success_2mm_2deg"]["share"] for document, _ in runs)
    return [*cells, f"{close:.0%}"]


def main(folder: Path) -> None:
    """Measure and write the table."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the trainings, which are other processes, too
    folder = folder.resolve()
    dataset = data(folder)
    header = ["backbone", "begins from", "rotation, deg", "translation, mm", "within 2 mm and 2 deg"]
    rows = []
    for family, config in FAMILIES.items():
        begins: dict[str, dict[str, Any]] = {
            f"{_PRETRAINING_STEPS} steps of pretraining": {"backbone": str(prepared(folder, family, dataset))},
            "random weights": {"backbone_config": config},
        }
        for what, settings in begins.items():
            name = f"{family} {'pretrained' if 'backbone' in settings else 'random'}"
            rows.append([family, what, *figures(folder, name, settings, dataset)])
    sentence = setting(
        f"torch {torch.__version__}. Frames of the own simulator as for the table of accuracy, both planes; {_STEPS} "
        f"steps of 32 frames, crops of {_CROP_PX} px; means over {len(_SEEDS)} seeds of medians on trials that "
        "training never saw, the lowest and the highest in brackets. Pretraining fills in hidden patches of the "
        "training split's frames"
    )
    table = Table(header, rows, alignment="l").markdown()
    text = f"# Backbones\n\nWritten by `make bench-accuracy`.\n\n{table}\n\n{sentence}\n"
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
