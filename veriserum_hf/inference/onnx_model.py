"""A pose model that ONNX Runtime runs on the CPU, exported on first use and kept for later ones."""

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from huggingface_hub import cached_assets_path

from veriserum_hf.errors import TrainingError
from veriserum_hf.jobs import atomic_path, source_hash, writing

try:
    import torch

    from veriserum_hf.core import FloatArray
    from veriserum_hf.modeling import VeriserumPoseConfig, VeriserumPoseModel
except ImportError as error:
    raise ImportError('a model needs torch: pip install "veriserum-hf[train]"') from error

if TYPE_CHECKING:
    import onnxruntime

MOST_OFF_MM, MOST_OFF_DEG = 0.01, 0.01  # from the poses of torch, in the first batch
_LIBRARIES = ("onnx", "onnxruntime", "onnxscript", "torch", "transformers")
_INSTEAD = "Predict with the engine torch"
Tensors = torch.Tensor | Mapping[str, torch.Tensor]  # an image, or a camera


class Poses(Protocol):
    """What a model returns for B frames; see `veriserum_hf.modeling.VeriserumPoseOutput`."""

    T_world_implant: torch.Tensor
    confidence: torch.Tensor
    anatomy_id: torch.Tensor
    doubt: torch.Tensor | None
    trusted: torch.Tensor | None


@dataclass(eq=False)
class OnnxModel:
    """A model's poses by ONNX Runtime, in the place of the model itself.

    The graph is exported for the planes and types of images that are given first, into the cache of the hub's
    library (``HF_HOME``), and found there by a hash of weights, configuration, source and versions. The first batch
    is also predicted by torch: poses must agree within `MOST_OFF_MM` and `MOST_OFF_DEG`. So is any batch with poses
    that are not finite, so that an implant that the model does not know is refused as always.

    Parameters
    ----------
    model : in evaluation mode, on the CPU.

    Raises
    ------
    TrainingError
        If onnx, onnxruntime or onnxscript are not installed; when called, if the model cannot be exported, or its
        poses differ from those of torch.

    """

    model: VeriserumPoseModel
    _sessions: "dict[tuple[str, ...], onnxruntime.InferenceSession]" = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise TrainingError(
                f'the engine onnx needs {error.name}: pip install "veriserum-hf[onnx]". {_INSTEAD}'
            ) from error

    @property
    def config(self) -> VeriserumPoseConfig:
        """Configuration of the model."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def __call__(self, **inputs: Tensors) -> Poses:
        """Poses of B frames; see `veriserum_hf.modeling.VeriserumPoseModel`."""
        given = _by_graph_name(inputs)
        kind = tuple(f"{name} {value.dtype}" for name, value in sorted(given.items()))
        session = self._sessions.get(kind)
        first = session is None
        if session is None:
            session = self._sessions[kind] = self._session(inputs, kind)
        T, *answers = session.run(None, {name: value.numpy() for name, value in given.items()})
        if first or not np.isfinite(T).all():
            with torch.inference_mode():
                by_torch: Poses = self.model(**inputs)  # raises errors that a graph cannot
            _check_agreement(T, by_torch.T_world_implant.numpy())
        names = ["confidence", "anatomy_id", *(() if self.config.trust is None else ("doubt", "trusted"))]
        found = {"T_world_implant": T, **dict(zip(names, answers[-len(names) :], strict=True))}
        tensors = {name: torch.from_numpy(value) for name, value in found.items()}
        return SimpleNamespace(**{"doubt": None, "trusted": None} | tensors)

    def _session(self, inputs: Mapping[str, Tensors], kind: tuple[str, ...]) -> "onnxruntime.InferenceSession":
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        folder = cached_assets_path("veriserum_hf", "onnx")
        path = folder / f"{self._digest(kind)}.onnx"
        unusable = (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented, state.NoSuchFile)
        open_graph = partial(onnxruntime.InferenceSession, path, options, providers=["CPUExecutionProvider"])
        try:
            return open_graph()
        except unusable:  # not there yet, or damaged
            with writing(path, TrainingError), atomic_path(path) as temporary:
                self._export(inputs, temporary)
        try:
            return open_graph()
        except unusable as error:
            raise self._refused(error) from error

    def _export(self, inputs: Mapping[str, Tensors], path: Path) -> None:
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
                    self.model, (), kwargs=twice, dynamic_shapes=shapes, dynamo=True, verbose=False
                )
                program.save(path)  # type: ignore[union-attr] # None where a file is given
        except torch.onnx.OnnxExporterError as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> TrainingError:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        kind = self.config.backbone_config.model_type
        return TrainingError(
            f"a model with the backbone {kind} cannot be exported to ONNX: {lines[-1] if lines else type(error)}. "
            f"{_INSTEAD}"
        )

    def _digest(self, kind: tuple[str, ...]) -> str:
        """Hash of what shapes the graph."""
        about = [
            kind,
            self.config.to_json_string(),
            self.model.anatomies,
            source_hash("modeling", "inference", libraries=_LIBRARIES),
        ]
        digest = hashlib.sha256(json.dumps(about).encode())
        # Points of given meshes are constants of the graph too, but no weights.
        tensors = self.model.state_dict() | dict(self.model.named_buffers())
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:24]


def _twice(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([tensor, tensor])


def _by_graph_name(inputs: Mapping[str, Tensors]) -> dict[str, torch.Tensor]:
    """Inputs by the names that the exporter gives them: those of a camera are joined."""
    found: dict[str, torch.Tensor] = {}
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor):
            found[name] = value
        else:
            found |= {f"{name}_{part}": tensor for part, tensor in value.items()}
    return found


def _check_agreement(T: FloatArray, by_torch: FloatArray) -> None:
    """Raise TrainingError where poses (B, 2, 4, 4) differ from those of torch."""
    # Of an implant whose mesh is not given, neither has a pose.
    T, by_torch = np.nan_to_num(T), np.nan_to_num(by_torch)
    off_mm = float(np.linalg.norm(T[..., :3, 3] - by_torch[..., :3, 3], axis=-1).max())
    # The chord of an angle: exact where the angle is small.
    chords = np.linalg.norm(T[..., :3, :3] - by_torch[..., :3, :3], axis=(-2, -1)) / np.sqrt(2)
    off_deg = float(np.degrees(chords).max())
    if not (off_mm <= MOST_OFF_MM and off_deg <= MOST_OFF_DEG):
        raise TrainingError(
            f"poses by ONNX Runtime are off by {off_mm:.3g} mm and {off_deg:.3g} degrees from those by torch, "
            f"expected at most {MOST_OFF_MM:g} mm and {MOST_OFF_DEG:g} degrees. {_INSTEAD}"
        )


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
