"""The inputs of the pose model, checked and stacked."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .configuration_veriserum import COMPONENTS, Anatomy, VeriserumPoseConfig

Camera = Mapping[str, Tensor]


class Views(NamedTuple):
    """The planes that a model uses, in B frames.

    Attributes
    ----------
    images : (B, planes, N, N); the place of one that is missing is filled with the other.
    cameras : intrinsics (B, planes, 3, 3) and world_to_camera (B, planes, 4, 4), float64.
    shown : (B, planes) whether the model may use it.
    both : whether there is an image of both planes.

    """

    images: Tensor
    cameras: tuple[Tensor, Tensor]
    shown: Tensor
    both: bool


def stack_views(
    config: VeriserumPoseConfig, given: Mapping[str, tuple[Tensor | None, Camera | None]], *, training: bool
) -> Views:
    """Stack the planes that a model uses.

    Parameters
    ----------
    config : of the model.
    given : image (B, 1, N, N) and camera of each plane, or None.
    training : hides planes at random, see ``plane_dropout``.

    Raises
    ------
    ValueError
        If a plane is missing that the model needs, an image has another size than the model's, or no camera.

    """
    planes, size = config.planes, config.image_size
    present: dict[str, tuple[Tensor, Camera]] = {}
    for plane in planes:
        image, camera = given[plane]
        if image is None:
            continue
        if image.ndim != 4 or image.shape[1:] != (1, size, size):
            raise ValueError(
                f"image_{plane} must have shape (frames, 1, {size}, {size}), which this model was trained on, "
                f"got {tuple(image.shape)}; convert the data set with --size {size}"
            )
        if camera is None:
            raise ValueError(f"image_{plane} has no camera_{plane}: a row's own camera is needed for lengths in mm")
        for name in ("intrinsics", "world_to_camera"):
            if camera[name].dtype in (torch.float16, torch.bfloat16):
                raise ValueError(
                    f"{name} of camera_{plane} has the type {camera[name].dtype}, which is too coarse for lengths in "
                    "mm: give cameras in float64, whatever the type of the model"
                )
        present[plane] = image, camera
    if not present or (len(present) < len(planes) and not config.plane_dropout):
        needed, found = (" and ".join(f"image_{plane}" for plane in some) for some in (planes, present))
        raise ValueError(
            f"this model needs {needed}, got {found or 'none of them'}; one plane suffices for a model that was "
            "trained with plane_dropout, or with that plane alone"
        )
    if config.head == "pooled" and len(present) < len(planes):
        raise ValueError("a pooled head sees both planes as channels of one image and needs both")
    views = [present.get(plane, next(iter(present.values()))) for plane in planes]
    images = torch.stack([image[:, 0] for image, _ in views], dim=1)
    intrinsics, world_to_camera = (
        torch.stack([camera[name] for _, camera in views], dim=1).double()
        for name in ("intrinsics", "world_to_camera")
    )
    shown = torch.tensor([plane in present for plane in planes], device=images.device).expand(images.shape[0], -1)
    if training and config.plane_dropout and len(present) == 2:
        hidden = torch.randint(0, 2, (len(images), 1), device=images.device)
        dropped = torch.rand(len(images), 1, device=images.device) < config.plane_dropout
        shown = shown & ~(dropped & (torch.arange(2, device=images.device) == hidden))
    return Views(images, (intrinsics, world_to_camera), shown, both=len(present) == 2)


def anatomy_indices(
    anatomies: Sequence[Anatomy], anatomy_id: Tensor | None, frames: int, device: torch.device
) -> Tensor:
    """Index among the model's anatomies of every implant, (B, 2); their number where the id, (B, 2), is unknown."""
    ids = [entry["id"] for entry in anatomies]
    if anatomy_id is None:
        return torch.full((frames, len(COMPONENTS)), len(ids), device=device)
    if not ids:
        return torch.zeros_like(anatomy_id)
    same = anatomy_id[..., None] == torch.tensor(ids, device=anatomy_id.device)
    same = same & possible_anatomies(anatomies, anatomy_id.device)
    return torch.where(same.any(-1), same.long().argmax(-1), len(ids))


def unknown_anatomies(anatomies: Sequence[Anatomy], anatomy_id: Tensor) -> Tensor:
    """Which ids, (B, 2), name an implant that the model does not know; -1 names none."""
    index = anatomy_indices(anatomies, anatomy_id, anatomy_id.shape[0], anatomy_id.device)
    return (index == len(anatomies)) & (anatomy_id >= 0)


def check_known(anatomies: Sequence[Anatomy], anatomy_id: Tensor | None, labels: Tensor | None) -> None:
    """Check that the model knows every implant that is named, and that each with a label (B, 2, 4, 4) is named.

    Raises
    ------
    ValueError
        If the model does not know an id of that component, or a label is of an implant that is not named.

    """
    if anatomy_id is not None and (unknown := unknown_anatomies(anatomies, anatomy_id)).any():
        known = [f"{entry['component']} {entry['id']}" for entry in anatomies]
        frame, component = unknown.nonzero()[0].tolist()
        raise ValueError(
            f"this model knows {', '.join(known)}, got anatomy_id of {COMPONENTS[component]} "
            f"{int(anatomy_id[frame, component])}; pass -1 for an implant whose identity is unknown"
        )
    if labels is not None:
        labelled = labels.isfinite().all(-1).all(-1)
        if (labelled if anatomy_id is None else labelled & (anatomy_id < 0)).any():
            raise ValueError(
                "a pose can only be learned of an implant that is known: give anatomy_id with the labels"
            )


def possible_anatomies(anatomies: Sequence[Anatomy], device: torch.device) -> Tensor:
    """Which anatomies, (2, anatomies), each component may be."""
    of_component = [[entry["component"] == component for entry in anatomies] for component in COMPONENTS]
    return torch.tensor(of_component, dtype=torch.bool, device=device)
