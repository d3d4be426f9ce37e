"""Configuration of the dual-plane pose model."""

from typing import Any, TypedDict

from transformers import AutoConfig, PreTrainedConfig

COMPONENTS = ("femur", "tibia")  # the order of implants in every tensor
PLANES = ("bs", "fs")
HEADS = ("spatial", "pooled")


class Anatomy(TypedDict):
    """An implant that a model knows."""

    id: int
    component: str  # one of COMPONENTS


class VeriserumPoseConfig(PreTrainedConfig):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """Configuration of a `VeriserumPoseModel`.

    Parameters
    ----------
    backbone_config : of the vision backbone (convnext, convnextv2, vit, dinov2, dinov3, swin, resnet, ...), as an
        object or as its dictionary with a ``model_type``. It sees one grey channel a plane.
    head : ``"spatial"`` finds both implants, processes a crop around each in full resolution, and triangulates their
        centres from both planes. ``"pooled"`` is the baseline of the data set's authors: both whole frames as
        channels of one image, features averaged over it, nine numbers for each implant.
    planes : which planes the model uses, of ``"bs"`` and ``"fs"``; with one, depth comes from size alone.
    anatomies : implants that the model knows, ``{"id": 3, "component": "tibia"}`` each; a model needs some of each
        component.
    image_size : edge of the corrected images, px (they show 360 mm).
    crop_size : edge of the crops, px of the corrected image.
    locator_size : edge of the whole frames where implants are located, px.
    pooled_size : edge of the whole frames that the pooled head sees, px.
    map_channels, map_size : a crop's features are reduced to so many channels and so many cells along either edge.
    hidden_size : width of the head.
    crop_jitter_px : standard deviation along either axis by which crops miss the implant in training.
    plane_dropout : share of training frames in which one of two planes is hidden; 0 for a model that needs both.
    anatomy_dropout : share of implants whose identity is hidden in training.
    training_data : the trials that the model was trained on, for an evaluation to compare with its own: ``dataset``,
        ``config``, ``archive`` and ``trials`` by id; None if unknown.

    Raises
    ------
    ValueError
        If a value is invalid.

    """

    model_type = "veriserum_pose"
    sub_configs = {"backbone_config": AutoConfig}  # noqa: RUF012 - what transformers expects

    def __init__(
        self,
        backbone_config: PreTrainedConfig | dict[str, Any] | None = None,
        head: str = "spatial",
        planes: list[str] | None = None,
        anatomies: list[Anatomy] | None = None,
        image_size: int = 512,
        crop_size: int = 160,
        locator_size: int = 128,
        pooled_size: int = 256,
        map_channels: int = 32,
        map_size: int = 8,
        hidden_size: int = 256,
        crop_jitter_px: float = 6.0,
        plane_dropout: float = 0.1,
        anatomy_dropout: float = 0.1,
        training_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(backbone_config, dict):
            fields = dict(backbone_config)
            backbone_config = AutoConfig.for_model(fields.pop("model_type", "resnet"), **fields)
        self.backbone_config = backbone_config or AutoConfig.for_model("resnet", layer_type="basic")
        self.head = head
        self.planes = list(planes or PLANES)
        self.anatomies = list(anatomies or [])
        self.image_size = image_size
        self.crop_size = crop_size
        self.locator_size = locator_size
        self.pooled_size = pooled_size
        self.map_channels = map_channels
        self.map_size = map_size
        self.hidden_size = hidden_size
        self.crop_jitter_px = crop_jitter_px
        self.plane_dropout = plane_dropout
        self.anatomy_dropout = anatomy_dropout
        self.training_data = training_data
        self._check()
        super().__init__(**kwargs)

    def _check(self) -> None:
        if self.head not in HEADS:
            raise ValueError(f"head must be {' or '.join(HEADS)}, got {self.head!r}")
        if (
            not self.planes
            or any(plane not in PLANES for plane in self.planes)
            or len(set(self.planes)) < len(self.planes)
        ):
            raise ValueError(f"planes must be some of {', '.join(PLANES)}, each once; got {self.planes!r}")
        for anatomy in self.anatomies:
            if anatomy.get("component") not in COMPONENTS or not isinstance(anatomy.get("id"), int):
                raise ValueError(
                    f"an anatomy needs an id and a component of {' and '.join(COMPONENTS)}, got {anatomy!r}"
                )
        for name in ("image_size", "crop_size", "locator_size", "pooled_size", "map_channels", "map_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        for name in ("plane_dropout", "anatomy_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, got {getattr(self, name)!r}")
        if self.crop_jitter_px < 0:
            raise ValueError(f"crop_jitter_px must be at least 0, got {self.crop_jitter_px!r}")
