"""Model of a run, from its settings."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

import torch
import trimesh
from transformers import AutoConfig

from veriserum_hf.core import Component
from veriserum_hf.dataset import open_rows
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import mesh_axes
from veriserum_hf.inference import load_model
from veriserum_hf.modeling import VeriserumPoseConfig, VeriserumPoseModel, load_backbone
from veriserum_hf.simulation import IMPLANT_PAIRS, IMPLANTS, implant_mesh
from veriserum_hf.training.settings import ON_THE_FLY, DataSettings, ModelSettings
from veriserum_hf.training.worlds import shapes_of

_SHAPE = ("head", "implants", "crop_size", "map_channels", "map_size", "hidden_size")  # of a model


class Anatomy(TypedDict):
    """An implant; its mesh is in mm."""

    anatomy_id: int
    component: Component
    mesh: trimesh.Trimesh


def load_anatomies(data: DataSettings, implants: str) -> list[Anatomy]:
    """Implants that training frames show; none for a model that gets their meshes with them."""
    if data.data != ON_THE_FLY:
        opened = open_rows(str(data.dataset), "anatomies", split="train")
        table = opened.splits["train"].table("anatomy_id", "component")
        rows = zip(table["anatomy_id"].to_pylist(), table["component"].to_pylist(), strict=True)
        return [Anatomy(anatomy_id=id, component=component, mesh=opened.meshes[id]) for id, component in rows]
    if (ranges := data.world_ranges()) is not None:
        if implants == "mesh":
            return []
        return [
            Anatomy(anatomy_id=shape.anatomy_id, component=shape.component, mesh=shape.mesh)
            for shape in shapes_of(ranges)
        ]
    ids = sorted({id for pair in IMPLANT_PAIRS[: data.pairs] for id in pair})
    return [Anatomy(anatomy_id=id, component=IMPLANTS[id].component, mesh=implant_mesh(id)) for id in ids]


def fine_tuned(settings: ModelSettings) -> tuple[ModelSettings, int | None]:
    """Settings of a model, and the size of its images, px; those of the model that is fine-tuned, if one is.

    Raises
    ------
    TrainingError
        If there is no such model.

    """
    if settings.model is None:
        return settings, None
    config = load_model(settings.model, "cpu").config
    own = {name: getattr(config, name) for name in _SHAPE}
    return replace(settings, backbone=None, backbone_config=None, **own), config.image_size


def make_model(
    settings: ModelSettings, anatomies: Sequence[Anatomy], image_size: int, *, gradient_checkpointing: bool = False
) -> VeriserumPoseModel:
    """Make a model with a pretrained backbone, with random weights, or with those of another model.

    Raises
    ------
    TrainingError
        If there is no such backbone, or a setting is invalid.

    """
    try:
        model = _new(settings, anatomies, image_size) if settings.model is None else _of_another(settings)
        if gradient_checkpointing:
            model.gradient_checkpointing_enable()
    except ValueError as error:
        raise TrainingError(f"cannot make the model: {error}") from error
    if settings.implants == "mesh":
        meshes = {row["anatomy_id"]: row["mesh"] for row in anatomies}
        components = {row["anatomy_id"]: row["component"] for row in anatomies}
        model.set_meshes(meshes, components, mesh_axes(meshes, components))
    elif settings.model is None:
        model.set_anatomies({row["anatomy_id"]: torch.tensor(row["mesh"].vertices) for row in anatomies})
    return model


def _of_another(settings: ModelSettings) -> VeriserumPoseModel:
    """A copy of a model, to be trained further."""
    other = load_model(str(settings.model), "cpu")
    changed = {name: value for name, value in settings.model_configuration().items() if name not in _SHAPE}
    config = VeriserumPoseConfig.from_dict(other.config.to_dict() | changed | {"trust": None})
    model = VeriserumPoseModel(config)
    try:
        model.load_state_dict(other.state_dict())
    except RuntimeError as error:
        planes, own = " and ".join(settings.planes), " and ".join(other.config.planes)
        raise TrainingError(
            f"{settings.model} cannot be trained for the planes {planes}: its weights are for {own}. One that is "
            "given meshes has the same weights for every plane"
        ) from error
    return model


def _new(settings: ModelSettings, anatomies: Sequence[Anatomy], image_size: int) -> VeriserumPoseModel:
    """A model whose head, at least, has random weights."""
    if settings.backbone is not None:
        backbone = load_backbone(settings.backbone, len(settings.planes) if settings.head == "pooled" else 1)
        backbone_config = backbone.config
    else:
        fields = dict(settings.backbone_config)  # type: ignore[arg-type] # JSON was read by the settings
        backbone, backbone_config = None, AutoConfig.for_model(fields.pop("model_type", ""), **fields)
    rows = [] if settings.implants == "mesh" else anatomies
    config = VeriserumPoseConfig(
        backbone_config=backbone_config,
        anatomies=[{"id": row["anatomy_id"], "component": row["component"]} for row in rows],
        image_size=image_size,
        **settings.model_configuration(),
    )
    return VeriserumPoseModel(config, backbone)
