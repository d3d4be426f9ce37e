"""Model of a run, from its settings."""

from collections.abc import Sequence
from typing import TypedDict

import torch
import trimesh
from transformers import AutoConfig

from veriserum_hf.core import Component
from veriserum_hf.dataset import open_rows
from veriserum_hf.errors import TrainingError
from veriserum_hf.modeling import VeriserumPoseConfig, VeriserumPoseModel, load_backbone
from veriserum_hf.simulation import IMPLANT_PAIRS, IMPLANTS, implant_mesh
from veriserum_hf.training.settings import ON_THE_FLY, DataSettings, ModelSettings
from veriserum_hf.training.worlds import shapes_of


class Anatomy(TypedDict):
    """An implant; its mesh is in mm."""

    anatomy_id: int
    component: Component
    mesh: trimesh.Trimesh


def load_anatomies(data: DataSettings) -> list[Anatomy]:
    """Implants that training frames show."""
    if data.data != ON_THE_FLY:
        opened = open_rows(str(data.dataset), "anatomies", split="train")
        table = opened.splits["train"].table("anatomy_id", "component")
        rows = zip(table["anatomy_id"].to_pylist(), table["component"].to_pylist(), strict=True)
        return [Anatomy(anatomy_id=id, component=component, mesh=opened.meshes[id]) for id, component in rows]
    if (ranges := data.world_ranges()) is not None:
        return [
            Anatomy(anatomy_id=shape.anatomy_id, component=shape.component, mesh=shape.mesh)
            for shape in shapes_of(ranges)
        ]
    ids = sorted({id for pair in IMPLANT_PAIRS[: data.pairs] for id in pair})
    return [Anatomy(anatomy_id=id, component=IMPLANTS[id].component, mesh=implant_mesh(id)) for id in ids]


def make_model(
    settings: ModelSettings, anatomies: Sequence[Anatomy], image_size: int, *, gradient_checkpointing: bool = False
) -> VeriserumPoseModel:
    """Make a model with a pretrained backbone, or with random weights.

    Raises
    ------
    TrainingError
        If there is no such backbone, or a setting is invalid.

    """
    try:
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
        model = VeriserumPoseModel(config, backbone)
        if gradient_checkpointing:
            model.gradient_checkpointing_enable()
    except ValueError as error:
        raise TrainingError(f"cannot make the model: {error}") from error
    if settings.implants == "mesh":
        meshes = {row["anatomy_id"]: row["mesh"] for row in anatomies}
        model.set_meshes(meshes, {row["anatomy_id"]: row["component"] for row in anatomies})
    else:
        model.set_anatomies({row["anatomy_id"]: torch.tensor(row["mesh"].vertices) for row in anatomies})
    return model
