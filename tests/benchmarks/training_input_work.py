"""What `bench_training_input` measures, in a process of its own: with this code, or with that of an older commit.

``python -P tests/benchmarks/training_input_work.py load DATASET [CACHE]`` prints the processor time of a pair, ms,
from the file to a batch, augmented; ``... infer RUN DATASET torch|onnx BATCH ...`` that of predicting one, in batches
of each size. Imports are those that both codes have.
"""

import json
import sys
import time
from itertools import islice
from pathlib import Path
from statistics import median

import cv2
import torch

_BATCH, _WARM, _TIMED, _FRAMES = 16, 2, 10, 32


def load(dataset: str, cache: str | None = None) -> float:
    """Batches as a training takes them, loaded in this process."""
    from accelerate import Accelerator

    from veriserum_hf.training.loaders import training_batches
    from veriserum_hf.training.settings import DataSettings, OptimizationSettings

    cached = {"cache": cache} if cache else {}
    data = DataSettings(dataset=dataset, augmentation={}, num_workers=0, **cached)
    batches = training_batches(data, OptimizationSettings(batch_size=_BATCH), Accelerator(cpu=True)).start_at(0, 0)
    list(islice(batches, _WARM))
    return 1000 * median(_cpu_s(lambda: next(batches)) for _ in range(_TIMED)) / _BATCH


def infer(run: str, dataset: str, engine: str, *batches: str) -> list[float]:
    """Rows to poses, images decoded before."""
    from veriserum_hf.dataset import frame_of_row, open_rows
    from veriserum_hf.inference import load_model, predict_frames

    model = load_model(run, "cpu")
    rows = list(islice(open_rows(dataset, "calibrated").joined("train").read(), _FRAMES))
    frames = [frame_of_row(row, model.config.image_size, 255) for row in rows]
    if engine == "onnx":
        from veriserum_hf.inference import OnnxModel

        model = OnnxModel(model)
    times = []
    for batch in map(int, batches):
        list(predict_frames(model, frames, batch))
        one_s = median(_cpu_s(lambda batch=batch: list(predict_frames(model, frames, batch))) for _ in range(3))
        times.append(1000 * one_s / _FRAMES)
    return times


def _cpu_s(function) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def main(what: str, *arguments: str) -> None:
    """Measure on one thread, and print."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print(json.dumps({"load": load, "infer": infer}[what](*arguments)))


if __name__ == "__main__":
    sys.path = [path for path in sys.path if Path(path) != Path(__file__).parent]
    main(*sys.argv[1:])
