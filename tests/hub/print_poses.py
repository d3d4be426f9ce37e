"""Run without this package: poses of a frame by a published checkpoint, through the model and its pipeline.

``python print_poses.py NAME FRAME.npz`` prints one JSON document.
"""

import importlib.util
import json
import sys

import numpy as np
import torch
from transformers import AutoModel, pipeline


def frame_of(path):
    arrays = np.load(path)
    frame = {"anatomy_id": arrays["anatomy_id"]}
    for plane in ("bs", "fs"):
        frame[f"image_{plane}"] = arrays[f"image_{plane}"]
        frame[f"camera_{plane}"] = {
            name: arrays[f"{name}_{plane}"].tolist() for name in ("intrinsics", "world_to_camera")
        }
    return frame


def main(name, path):
    frame = frame_of(path)
    model = AutoModel.from_pretrained(name, trust_remote_code=True).eval()
    inputs = {"anatomy_id": torch.tensor(frame["anatomy_id"])[None]}
    for plane in ("bs", "fs"):
        inputs[f"image_{plane}"] = torch.tensor(frame[f"image_{plane}"])[None, None]
        camera = frame[f"camera_{plane}"]
        inputs[f"camera_{plane}"] = {key: torch.tensor([value], dtype=torch.float64) for key, value in camera.items()}
    with torch.inference_mode():
        T = model(**inputs).T_world_implant[0]
    poses = pipeline(model=name, trust_remote_code=True, device="cpu")(frame)
    others = [each for each in ("veriserum_hf", "datasets", "PIL", "scipy") if importlib.util.find_spec(each)]
    print(json.dumps({"T_world_implant": T.tolist(), "pipeline": poses, "others": others}))


if __name__ == "__main__":
    main(*sys.argv[1:])
