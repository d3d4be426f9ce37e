"""A model's poses with the labels of a data set, in one process or several."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.core import PLANES, PlaneName
from veriserum_hf.errors import TrainingError
from veriserum_hf.poses import Estimates

try:
    import torch
    from accelerate import Accelerator

    from veriserum_hf.core import COMPONENTS
except ImportError as error:
    raise ImportError('evaluating a model needs torch: pip install "veriserum-hf[train]"') from error

Batch = Mapping[str, Any]  # fields of B frames: images, cameras, ids, labels
Arrays = dict[str, NDArray[Any]]  # by name, each of its own type


class Predicted(Protocol):
    """What a model returns for B frames: poses (B, 2, 4, 4), their confidence (B, 2), and which to trust, if any."""

    T_world_implant: torch.Tensor
    confidence: torch.Tensor
    trusted: torch.Tensor | None


def predict_labelled(
    model: Callable[..., Predicted],
    loader: Iterable[Batch],
    accelerator: Accelerator,
    *,
    planes: Sequence[PlaneName] = PLANES,
) -> Estimates:
    """Predict the pose of every implant that has a label; each counts once, whatever the number of processes.

    The model receives what is known in use: images, cameras and the implants' identities, but no labels.

    Parameters
    ----------
    model : called as a `VeriserumPoseModel`; one that is training is set to evaluation meanwhile.
    loader : batches of frames, images (B, 1, N, N) with their cameras, ``anatomy_id`` (B, 2) and ``labels``
        (B, 2, 4, 4); with several processes, prepared by the accelerator.
    accelerator : of this process.
    planes : what the model sees; of another plane it gets neither image nor camera.

    Returns
    -------
    The same in every process, in the order of the data set; cameras of all planes that every frame has, so that
    errors across a plane that was not seen are reported too.

    Raises
    ------
    TrainingError
        If the model refuses a batch, a pose of it is invalid, or no implant has a label.

    """
    training = getattr(model, "training", False)
    if training:
        model.eval()  # type: ignore[attr-defined]
    gathered: list[Arrays] = []
    with torch.inference_mode():
        for batch in loader:
            gathered.append(_gather(batch, _predict(model, batch, accelerator, planes), accelerator))
    if training:
        model.train()  # type: ignore[attr-defined]
    if not gathered:
        raise TrainingError("nothing to evaluate: the data set has no frame. Choose another split.")
    return _estimates(gathered)


def _predict(
    model: Callable[..., Predicted], batch: Batch, accelerator: Accelerator, planes: Sequence[PlaneName]
) -> dict[str, torch.Tensor]:
    views = {
        f"{what}_{plane}": batch.get(f"{what}_{plane}") if plane in planes else None
        for plane in PLANES
        for what in ("image", "camera")
    }
    try:
        with accelerator.autocast():
            output = model(**views, anatomy_id=batch["anatomy_id"])
    except ValueError as error:
        raise TrainingError(f"the model refuses measurement {int(batch['measurement_id'][0])}: {error}") from error
    found = {"T_world_implant": output.T_world_implant, "confidence": output.confidence.double()}
    trusted = getattr(output, "trusted", None)
    return found if trusted is None else found | {"trusted": trusted.double()}


def _gather(batch: Batch, predicted: dict[str, torch.Tensor], accelerator: Accelerator) -> Arrays:
    """One batch of every process, as arrays, without the frames that fill the last one up."""
    names = ("measurement_id", "trial_id", "anatomy_id", "labels", "camera_bs", "camera_fs")
    tensors = {name: batch[name] for name in names if name in batch} | predicted
    arrays: Arrays = {}
    for name, value in accelerator.gather_for_metrics(tensors).items():
        parts = value if isinstance(value, Mapping) else {"": value}
        arrays |= {f"{name} {part}".strip(): tensor.cpu().numpy() for part, tensor in parts.items()}
    return arrays | {"task": np.array(accelerator.gather_for_metrics(batch["task"]))}


def _estimates(gathered: Sequence[Arrays]) -> Estimates:
    """A row for every implant with a label, from a row for every frame."""
    common = [name for name in gathered[0] if all(name in batch for batch in gathered)]  # some may lack a plane
    frames = {name: np.concatenate([batch[name] for batch in gathered]) for name in common}
    labelled = np.isfinite(frames["labels"]).all(axis=(2, 3))
    frame, implant = np.nonzero(labelled)
    return Estimates(
        measurement_id=frames["measurement_id"][frame],
        trial_id=frames["trial_id"][frame],
        task=frames["task"][frame],
        anatomy_id=frames["anatomy_id"][labelled],
        component=np.array(COMPONENTS)[implant],
        T_world_implant=frames["T_world_implant"][labelled],
        T_world_label=frames["labels"][labelled],
        cameras={
            plane: (frames[f"camera_{plane} intrinsics"][frame], frames[f"camera_{plane} world_to_camera"][frame])
            for plane in PLANES
            if f"camera_{plane} intrinsics" in frames
        },
        confidence=frames["confidence"][labelled],
        trusted=frames["trusted"][labelled] if "trusted" in frames else None,
    )
