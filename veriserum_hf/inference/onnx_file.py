"""A pose model as a file for ONNX Runtime, on other machines and in other programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from veriserum_hf.core import COMPONENTS
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import DualPlaneRig
from veriserum_hf.jobs import atomic_path, writing

try:
    import torch

    from veriserum_hf.inference.onnx_graph import (
        Tensors,
        by_graph_name,
        check_agreement,
        check_onnx,
        output_names,
        write_graph,
    )
    from veriserum_hf.modeling import VeriserumPoseConfig, VeriserumPoseModel, surface_points
except ImportError as error:
    raise ImportError('a model needs torch: pip install "veriserum-hf[train]"') from error

_INSTEAD = "Nothing was written"
_SID_MM = 1860.0


@dataclass(frozen=True)
class ExportedModel:
    """What a graph takes and returns, each as its type and shape by name, such as ``uint8 (frames, 1, 512, 512)``."""

    inputs: dict[str, str]
    outputs: dict[str, str]


def export_onnx(model: VeriserumPoseModel, path: Path) -> ExportedModel:
    """Write a model as an ONNX file, which takes any number of frames of all planes of the model.

    That of a model that is given meshes takes ``implant_points`` and ``implant_axes`` in the place of ``anatomy_id``.

    Before the file takes its place, its poses of three frames of noise are compared with those of the model; see
    `veriserum_hf.inference.onnx_graph.check_agreement`. The file's metadata hold the model's configuration under
    ``veriserum_pose``.

    Parameters
    ----------
    model : in evaluation mode, on the CPU.
    path : of the file, which must not exist.

    Raises
    ------
    TrainingError
        If onnx, onnxruntime or onnxscript are not installed, the model cannot be exported or its graph gives other
        poses, or the file exists or cannot be written.

    """
    check_onnx("export to ONNX", _INSTEAD)
    import onnxruntime

    if path.exists():
        raise TrainingError(f"{path} exists and was not changed; choose another file, or remove it")
    inputs = _noise(model.config, 3)
    with writing(path, TrainingError), atomic_path(path, ".onnx") as temporary:
        write_graph(model, inputs, temporary, _INSTEAD, output_names(model, inputs))
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        given = {name: value.numpy() for name, value in by_graph_name(inputs).items()}
        T = session.run(["T_world_implant"], given)[0]
        with torch.inference_mode():
            check_agreement(T, model(**inputs).T_world_implant.numpy(), _INSTEAD)
    return ExportedModel(_described(session.get_inputs()), _described(session.get_outputs()))


def _noise(config: VeriserumPoseConfig, frames: int) -> Mapping[str, Tensors]:
    """Frames of noise in the nominal rig; one implant of the first frame is unknown, or all are boxes."""
    rng, size = np.random.default_rng(0), config.image_size
    rig = DualPlaneRig.from_calibration(
        principal_point_bs_mm=(0, 0), sid_bs_mm=_SID_MM, principal_point_fs_mm=(0, 0), sid_fs_mm=_SID_MM
    )
    inputs: dict[str, Tensors] = {}
    for plane in config.planes:
        inputs[f"image_{plane}"] = torch.tensor(rng.integers(0, 256, (frames, 1, size, size), dtype=np.uint8))
        camera = {"intrinsics": rig[plane].intrinsics(size), "world_to_camera": rig[plane].world_to_camera}
        inputs[f"camera_{plane}"] = {name: torch.tensor(np.stack([each] * frames)) for name, each in camera.items()}
    if config.implants == "mesh":
        box = trimesh.creation.box((60, 40, 50))
        points = torch.from_numpy(surface_points(box.vertices, box.faces))
        of_all = (frames, len(COMPONENTS))
        inputs["implant_points"] = points.expand(*of_all, -1, -1).clone()
        inputs["implant_axes"] = torch.eye(4, dtype=torch.float64).expand(*of_all, 4, 4).clone()
        return inputs
    known = [next(each["id"] for each in config.anatomies if each["component"] == one) for one in COMPONENTS]
    inputs["anatomy_id"] = torch.tensor([[-1, known[1]], *[known] * (frames - 1)])
    return inputs


def _described(arguments: list[object]) -> dict[str, str]:
    return {
        each.name: f"{each.type[7:-1]} ({', '.join(map(str, each.shape))})"  # type: ignore[attr-defined]
        for each in arguments
    }
