"""The graph of a pose model in ONNX: written, and compared with the model."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from veriserum_hf.errors import TrainingError

try:
    import torch

    from veriserum_hf.core import FloatArray
    from veriserum_hf.modeling import VeriserumPoseConfig, VeriserumPoseModel
except ImportError as error:
    raise ImportError('a model needs torch: pip install "veriserum-hf[train]"') from error

MOST_OFF_MM, MOST_OFF_DEG = 0.01, 0.01  # from the poses of torch
Tensors = torch.Tensor | Mapping[str, torch.Tensor]  # an image, or a camera


def check_onnx(what: str, instead: str) -> None:
    """Raise TrainingError where a package is missing; the message names what needs it, and another way."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise TrainingError(f'{what} needs {error.name}: pip install "veriserum-hf[onnx]". {instead}') from error


def output_names(model: VeriserumPoseModel, inputs: Mapping[str, Tensors]) -> list[str]:
    """Names of a graph's outputs, as those of the model; one that is also an input has ``found_`` before its name."""
    with torch.inference_mode():
        found = by_graph_name(model(**inputs))
    found.pop("signs", None)  # which an exported model does not return
    return [f"found_{name}" if name in inputs else name for name in found]


def write_graph(
    model: VeriserumPoseModel,
    inputs: Mapping[str, Tensors],
    path: Path,
    instead: str,
    names: list[str] | None = None,
) -> None:
    """Write the graph of a model for any number of frames.

    Parameters
    ----------
    model : in evaluation mode, on the CPU.
    inputs : of some frames. The graph takes the same ones, of the same types, those of cameras by joined names:
        ``camera_bs_intrinsics``.
    path : to write.
    instead : what to do where it cannot be exported, for the message.
    names : of the outputs; those that the exporter gives if None.

    Raises
    ------
    TrainingError
        If the model cannot be exported.

    """
    frames = torch.export.Dim("frames", min=1)
    shapes: dict[str, object] = {
        name: {0: frames} if isinstance(value, torch.Tensor) else {part: {0: frames} for part in value}
        for name, value in inputs.items()
    }
    # Of one frame alone, a graph for one frame would be made.
    twice = {
        name: _twice(value) if isinstance(value, torch.Tensor) else {part: _twice(value[part]) for part in value}
        for name, value in inputs.items()
    }
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                model, (), kwargs=twice, dynamic_shapes=shapes, output_names=names, dynamo=True, verbose=False
            )
            program.model.metadata_props["veriserum_pose"] = model.config.to_json_string()  # type: ignore[union-attr]
            program.save(path)  # type: ignore[union-attr] # None where a file is given
    except torch.onnx.OnnxExporterError as error:
        raise not_exported(model.config, error, instead) from error


def not_exported(config: VeriserumPoseConfig, error: Exception, instead: str) -> TrainingError:
    """Return the error of a model that cannot be exported, or whose graph cannot be read."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = config.backbone_config.model_type
    return TrainingError(
        f"a model with the backbone {kind} cannot be exported to ONNX: {lines[-1] if lines else type(error)}. "
        f"{instead}"
    )


def check_agreement(T: FloatArray, by_torch: FloatArray, instead: str) -> None:
    """Raise TrainingError where poses (B, 2, 4, 4) are off by more than 0.01 mm or 0.01 degrees from torch's."""
    # Of an implant whose mesh is not given, neither has a pose.
    T, by_torch = np.nan_to_num(T), np.nan_to_num(by_torch)
    off_mm = float(np.linalg.norm(T[..., :3, 3] - by_torch[..., :3, 3], axis=-1).max())
    # The chord of an angle: exact where the angle is small.
    chords = np.linalg.norm(T[..., :3, :3] - by_torch[..., :3, :3], axis=(-2, -1)) / np.sqrt(2)
    off_deg = float(np.degrees(chords).max())
    if not (off_mm <= MOST_OFF_MM and off_deg <= MOST_OFF_DEG):
        raise TrainingError(
            f"poses by ONNX Runtime are off by {off_mm:.3g} mm and {off_deg:.3g} degrees from those by torch, "
            f"expected at most {MOST_OFF_MM:g} mm and {MOST_OFF_DEG:g} degrees. {instead}"
        )


def by_graph_name(values: Mapping[str, Tensors]) -> dict[str, torch.Tensor]:
    """Inputs or outputs by the names that a graph gives them: those of a camera are joined."""
    found: dict[str, torch.Tensor] = {}
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            found[name] = value
        else:
            found |= {f"{name}_{part}": tensor for part, tensor in value.items()}
    return found


def _twice(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([tensor, tensor])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
