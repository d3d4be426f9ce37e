"""A pose model that ONNX Runtime runs on the CPU, exported on first use and kept for later ones."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from huggingface_hub import cached_assets_path

from veriserum_hf.errors import TrainingError
from veriserum_hf.jobs import atomic_path, source_hash, writing

try:
    import torch

    from veriserum_hf.inference.onnx_graph import (
        Tensors,
        by_graph_name,
        check_agreement,
        check_onnx,
        not_exported,
        write_graph,
    )
    from veriserum_hf.modeling import VeriserumPoseConfig, VeriserumPoseModel
except ImportError as error:
    raise ImportError('a model needs torch: pip install "veriserum-hf[train]"') from error

if TYPE_CHECKING:
    import onnxruntime

_LIBRARIES = ("onnx", "onnxruntime", "onnxscript", "torch", "transformers")
_INSTEAD = "Predict with the engine torch"


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
    is also predicted by torch: poses must agree, see `veriserum_hf.inference.onnx_graph.check_agreement`. So is any
    batch with poses that are not finite, so that an implant that the model does not know is refused as always.

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
        check_onnx("the engine onnx", _INSTEAD)

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
        given = by_graph_name(inputs)
        kind = tuple(f"{name} {value.dtype}" for name, value in sorted(given.items()))
        session = self._sessions.get(kind)
        first = session is None
        if session is None:
            session = self._sessions[kind] = self._session(inputs, kind)
        T, *answers = session.run(None, {name: value.numpy() for name, value in given.items()})
        if first or not np.isfinite(T).all():
            with torch.inference_mode():
                by_torch: Poses = self.model(**inputs)  # raises errors that a graph cannot
            check_agreement(T, by_torch.T_world_implant.numpy(), _INSTEAD)
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
                write_graph(self.model, inputs, temporary, _INSTEAD)
        try:
            return open_graph()
        except unusable as error:
            raise not_exported(self.config, error, _INSTEAD) from error

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
