"""Training and evaluation as users start them: scripts in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
TINY = {
    "backbone_config": {
        "model_type": "resnet",
        "layer_type": "basic",
        # With 8 channels torch 2.13 writes out of bounds in strided 1 x 1 convolutions with channels last.
        "embedding_size": 16,
        "hidden_sizes": [16, 32],
        "depths": [1, 1],
    },
    "crop_size": 64,
    "map_channels": 4,
    "map_size": 4,
    "hidden_size": 16,
    "batch_size": 8,
    "augmentation": {},
    "warmup_steps": 2,
    "ema_decay": 0.9,
}


def command(script, *arguments, processes=1):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [sys.executable, *(launch if processes > 1 else []), f"training/{script}.py", *map(str, arguments)]


def start(script, *arguments, processes=1, **options):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    # A session of its own, so that all of its processes can be killed at once.
    return subprocess.Popen(
        command(script, *arguments, processes=processes),
        cwd=ROOT,
        env=environment,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def run(script, *arguments, processes=1, status=0):
    """What a script writes; it ends with this status."""
    started = start(script, *arguments, processes=processes)
    output, errors = started.communicate()
    assert started.returncode == status, errors
    return output, errors


def settings_file(path, **changed):
    path.write_text(yaml.safe_dump(TINY | changed))
    return path


def kill_when(exists, started):
    """Kill a run with all of its processes as soon as a file or folder is there."""
    until = time.monotonic() + 300
    while not exists.exists():
        assert started.poll() is None, started.communicate()[1]
        assert time.monotonic() < until, f"{exists} has not come"
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate()


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
