"""Configuration of the dual-plane pose model."""

import math
from typing import Any, TypedDict

from transformers import AutoConfig, PreTrainedConfig

from .checkpoint_veriserum import check_fields, check_plain, check_trust, read_fields

COMPONENTS = ("femur", "tibia")  # the order of implants in every tensor
PLANES = ("bs", "fs")
HEADS = ("spatial", "pooled")
IMPLANTS = ("table", "mesh")
_MOST_REFINEMENTS = 16
_SIGNS = {"table": 3, "mesh": 6}  # of how far a pose can be trusted
# The largest images and heads; more would take all memory.
_MOST = {
    "image_size": 16384,
    "crop_size": 16384,
    "locator_size": 16384,
    "pooled_size": 16384,
    "map_channels": 65536,
    "map_size": 1024,
    "hidden_size": 65536,
}
_MOST_ID = 2**63 - 1


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
    implants : ``"table"`` knows a closed set of implants, by their ids. ``"mesh"`` is given the mesh of each implant
        that it is to find, which may be new to it; of the spatial head.
    anatomies : of a table, implants that the model knows, ``{"id": 3, "component": "tibia"}`` each; a model needs
        some of each component.
    image_size : edge of the corrected images, px (they show 360 mm).
    crop_size : edge of the crops, px of the corrected image.
    locator_size : edge of the whole frames where implants are located, px.
    pooled_size : edge of the whole frames that the pooled head sees, px.
    map_channels, map_size : a crop's features are reduced to so many channels and so many cells along either edge.
    hidden_size : width of the head.
    refinements : with meshes, how often a pose is refined by the points of its implant.
    crop_jitter_px : standard deviation along either axis by which crops miss the implant in training.
    plane_dropout : share of training frames in which one of two planes is hidden; 0 for a model that needs both.
    anatomy_dropout : share of implants whose identity is hidden in training.
    trust : how far poses can be trusted, fitted to frames that the model has not seen, see `trust_veriserum.trusted`;
        None where that was not done.
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
        implants: str = "table",
        anatomies: list[Anatomy] | None = None,
        image_size: int = 512,
        crop_size: int = 160,
        locator_size: int = 128,
        pooled_size: int = 256,
        map_channels: int = 32,
        map_size: int = 8,
        hidden_size: int = 256,
        refinements: int = 3,
        crop_jitter_px: float = 6.0,
        plane_dropout: float = 0.1,
        anatomy_dropout: float = 0.1,
        trust: dict[str, Any] | None = None,
        training_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_plain(kwargs)
        self.backbone_config = _backbone(backbone_config)
        self.head = head
        self.planes = _list("planes", PLANES if planes is None else planes)
        self.implants = implants
        self.anatomies = _list("anatomies", anatomies or [])
        self.image_size = image_size
        self.crop_size = crop_size
        self.locator_size = locator_size
        self.pooled_size = pooled_size
        self.map_channels = map_channels
        self.map_size = map_size
        self.hidden_size = hidden_size
        self.refinements = refinements
        self.crop_jitter_px = crop_jitter_px
        self.plane_dropout = plane_dropout
        self.anatomy_dropout = anatomy_dropout
        self.trust = trust
        self.training_data = training_data
        self._check()
        try:
            super().__init__(**kwargs)
        except (AttributeError, TypeError, LookupError) as error:  # of a field that every configuration has
            raise ValueError(f"{', '.join(kwargs)}: {error}") from error

    def _check(self) -> None:
        if self.head not in HEADS:
            raise ValueError(f"head must be {' or '.join(HEADS)}, got {self.head!r}")
        if (
            not self.planes
            or any(plane not in PLANES for plane in self.planes)
            or len(set(self.planes)) < len(self.planes)
        ):
            raise ValueError(f"planes must be some of {', '.join(PLANES)}, each once; got {self.planes!r}")
        if self.implants not in IMPLANTS:
            raise ValueError(f"implants must be {' or '.join(IMPLANTS)}, got {self.implants!r}")
        if self.implants == "mesh" and (self.head != "spatial" or self.anatomies):
            raise ValueError(
                f"a model that is given meshes has the head spatial and no table of anatomies, got {self.head} and "
                f"{len(self.anatomies)} anatomies"
            )
        if len(self.anatomies) > 1000:
            raise ValueError(f"there are {len(self.anatomies):,} anatomies, expected at most 1,000")
        known = set()
        for anatomy in self.anatomies:
            if not isinstance(anatomy, dict) or not _is_anatomy(anatomy):
                raise ValueError(
                    f"an anatomy needs an id and a component of {' and '.join(COMPONENTS)}, got {anatomy!r}"
                )
            if (key := (anatomy["component"], anatomy["id"])) in known:
                raise ValueError(f"anatomies must differ, got {anatomy['component']} {anatomy['id']} twice")
            known.add(key)
        for name, most in {**_MOST, "refinements": _MOST_REFINEMENTS}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}")
            if value > most:
                raise ValueError(f"{name} must be at most {most}, got {value!r}")
        if self.trust is not None:
            check_trust(self.trust, _SIGNS[self.implants])
        for name in ("plane_dropout", "anatomy_dropout"):
            if not _is_number(value := getattr(self, name)) or not 0 <= value < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, got {value!r}")
        jitter_px = self.crop_jitter_px
        if not _is_number(jitter_px) or jitter_px < 0:
            raise ValueError(f"crop_jitter_px must be at least 0, got {jitter_px!r}")
        if jitter_px > self.image_size:
            raise ValueError(f"crop_jitter_px must be at most image_size, {self.image_size}, got {jitter_px!r}")

    @classmethod
    def _dict_from_json_file(cls, json_file: Any) -> dict[str, Any]:
        return read_fields(json_file)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Configuration of the fields of a saved one.

        Raises
        ------
        ValueError
            If a field is missing or invalid, or is larger than any model needs.

        """
        check_fields(config_dict, cls.model_type, _FIELDS)
        try:
            return super().from_dict(config_dict, **kwargs)
        except (AttributeError, TypeError, LookupError) as error:
            raise ValueError(f"config.json describes no model: {type(error).__name__}: {error}") from error


_FIELDS = (
    "model_type",
    "backbone_config",
    "head",
    "planes",
    "anatomies",
    *_MOST,
    *("crop_jitter_px", "plane_dropout", "anatomy_dropout"),
)


def _backbone(config: Any) -> PreTrainedConfig:
    """Configuration of a backbone, of an object or of its fields."""
    if config is None:
        return AutoConfig.for_model("resnet", layer_type="basic")
    if isinstance(config, PreTrainedConfig):
        return config
    if not isinstance(config, dict):
        raise ValueError(f"backbone_config must hold the fields of a vision model, got {config!r}")
    check_plain(config, "backbone_config")
    fields = dict(config) | {"return_dict": True}  # backbones find no features in the other form, a tuple
    model_type = fields.pop("model_type", "resnet")
    if not isinstance(model_type, str):
        raise ValueError(f"backbone_config.model_type must be a name such as 'resnet', got {model_type!r}")
    try:
        return AutoConfig.for_model(model_type, **fields)
    # A backbone's configuration checks its fields, or fails with whatever its arithmetic raises.
    except Exception as error:
        raise ValueError(f"backbone_config is not that of a {model_type}: {error}") from error


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} must be a list, got {value!r}")
    return list(value)


def _is_anatomy(anatomy: dict[Any, Any]) -> bool:
    id = anatomy.get("id")
    return anatomy.get("component") in COMPONENTS and isinstance(id, int) and _is_number(id) and 0 <= id <= _MOST_ID


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
