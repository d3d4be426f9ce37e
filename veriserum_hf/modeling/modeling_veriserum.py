"""The dual-plane pose model: two corrected images and their cameras in, poses of both implants out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from .backbone_veriserum import FeatureMap
from .checkpoint_veriserum import check_finite, check_size, masked, place, weights_file
from .configuration_veriserum import COMPONENTS, Anatomy, VeriserumPoseConfig
from .geometry_veriserum import crop, farthest_first, inverse, project
from .heads_veriserum import ImplantHead, Locator, standardised
from .implants_veriserum import Shapes, check_given, given_shapes, named_shapes
from .inputs_veriserum import Camera, Views, anatomy_indices, check_known, stack_views, unknown_anatomies
from .losses_veriserum import Prediction, pose_losses
from .mesh_poses_veriserum import Looked, MeshPoses
from .precision_veriserum import Change, SingleLinear, keeping_type
from .released_veriserum import check_name, located
from .shapes_veriserum import POINTS as MESH_POINTS, surface_points
from .table_poses_veriserum import pooled_poses, spatial_poses
from .trust_veriserum import trusted

POINTS = 64  # of an implant's surface, for the loss
_SHAPES = ("center_implant_mm", "points_implant_mm", "named_points", "named_axes")  # buffers


@dataclass
class VeriserumPoseOutput(ModelOutput):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """Poses of both implants, femur first.

    Attributes
    ----------
    loss, losses : with labels only: what is minimised, and its parts.
    T_world_implant : (B, 2, 4, 4) float64, implant points (mm, of the STL file) to the world.
    center_px : by plane that was given, (B, 2, 2) the implant's centre, (column, row) px of the image that the
        model was given.
    confidence : (B, 2) probability that a pose is within 2 mm and 2 degrees; NaN from a pooled head, which has none.
    doubt : (B, 2) probability that a pose is off by more than 5 mm or 5 degrees; None of a model without ``trust``.
    trusted : (B, 2) whether to trust a pose: there is little doubt, and the rig is like those that ``trust`` knows.
    anatomy_id : (B, 2) the identity that the pose is of: as given, else as recognised; -1 from a
        pooled head where it was not given.
    signs : (B, 2, n + 3) what ``trust`` is fitted to, the rig's numbers last; not of an exported or compiled model.

    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    T_world_implant: Tensor | None = None
    center_px: dict[str, Tensor] | None = None
    confidence: Tensor | None = None
    anatomy_id: Tensor | None = None
    doubt: Tensor | None = None
    trusted: Tensor | None = None
    signs: Tensor | None = None


class _Named(NamedTuple):
    """Implants of B frames: points (B, 2, n, 6) of their meshes, their axes (B, 2, 4, 4), and indices (B, 2)."""

    points: Tensor
    T_implant_axes: Tensor
    anatomy: Tensor


class VeriserumPoseModel(PreTrainedModel):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """Six degrees of freedom of the femoral and the tibial component, from both planes of one frame.

    With the spatial head a coarse stage finds both implants in both whole frames; a backbone, shared by the planes,
    processes a crop around each in the stored resolution; a head for each component joins the planes' maps and
    predicts the rotation, and in each plane by how many pixels the crop missed the implant's centre. That centre is
    then triangulated with the cameras, so that depth comes from geometry.

    The buffers ``center_implant_mm`` (anatomies, 3) and ``points_implant_mm`` (anatomies, points, 3) hold what the
    model needs of its implants' shapes, in the order of ``config.anatomies``; see `set_anatomies`.

    With ``implants="mesh"`` the model has no such table: it is given the mesh of each implant, as ``implant_points``
    or by `set_meshes`, and looks for the centre of the box around it. It expects a mesh in the axes of the implant: x
    to the patient's left, y proximal, z anterior, within some ten degrees. Where those of its file are others,
    ``implant_axes`` says how it lies in them; poses are always those of the mesh as its file has it.

    With ``dtype=torch.bfloat16`` or ``float16`` the backbone alone has that type: coarse stage, heads and shapes stay
    in float32, and geometry is computed in float64. ``torch.export.export`` and
    ``torch.compile(fullgraph=True)`` take the model. It then cannot raise an error that depends on values: it returns
    NaN for an implant that it does not know.

    Raises
    ------
    ValueError
        If the configuration names no implant of a component.

    """

    config_class = VeriserumPoseConfig
    base_model_prefix = "veriserum_pose"
    main_input_name = "image_bs"
    supports_gradient_checkpointing = True
    # Whether a backbone has a kind of attention, it checks itself.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    # All but the backbone and the layer that narrows its maps; see `precision_veriserum`.
    _keep_in_fp32_modules_strict = ("locator.", "heads.", "by_mesh.", "outputs.", *_SHAPES)  # type: ignore[assignment]
    config: VeriserumPoseConfig
    center_implant_mm: Tensor
    points_implant_mm: Tensor
    named_points: Tensor
    named_axes: Tensor
    anatomies: list[Anatomy]  # that may be named

    def __init__(self, config: VeriserumPoseConfig, backbone: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.anatomies = config.anatomies
        with_meshes = config.implants == "mesh"
        if not with_meshes and {anatomy["component"] for anatomy in config.anatomies} != set(COMPONENTS):
            raise ValueError(
                f"a model needs at least one anatomy of each component, {' and '.join(COMPONENTS)}, got anatomies "
                f"{config.anatomies!r:.200}"
            )
        anatomies, implants, planes = len(config.anatomies), len(COMPONENTS), len(config.planes)
        if with_meshes:
            self.register_buffer("named_points", torch.zeros(0, MESH_POINTS, 6), persistent=False)
            self.register_buffer("named_axes", torch.zeros(0, 4, 4, dtype=torch.float64), persistent=False)
        else:
            self.register_buffer("center_implant_mm", torch.zeros(anatomies, 3))
            self.register_buffer("points_implant_mm", torch.zeros(anatomies, POINTS, 3))
        if config.head == "pooled":
            self.backbone = FeatureMap(config.backbone_config, planes, backbone)
            self.outputs = SingleLinear(self.backbone.channels, 9 * implants)
        else:
            self.backbone = FeatureMap(config.backbone_config, 1, backbone)
            self.locator = Locator(implants)
            self.narrow = nn.Conv2d(self.backbone.channels, config.map_channels, 1)
            if with_meshes:
                self.by_mesh = MeshPoses(config)
            else:
                self.heads = nn.ModuleList(
                    ImplantHead(config.map_channels, config.map_size, planes, anatomies, config.hidden_size)
                    for _ in COMPONENTS
                )
        self.post_init()  # type: ignore[no-untyped-call]

    def _apply(self, fn: Change, recurse: bool = True) -> "VeriserumPoseModel":
        """Change weights as ``fn`` does, but never the type of the implants' shapes."""
        shapes = {name: self.get_buffer(name) for name in _SHAPES if hasattr(self, name)}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, shape in shapes.items():
            setattr(self, name, keeping_type(fn)(shape))
        return self

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise as torch does; the backbone initialises itself."""
        if reset := getattr(module, "reset_parameters", None):
            reset()

    def gradient_checkpointing_enable(self, *arguments: object, **options: object) -> None:
        """Compute the backbone's activations again instead of keeping them; ValueError where it cannot."""
        try:
            super().gradient_checkpointing_enable(*arguments, **options)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise ValueError(
                f"the backbone {self.config.backbone_config.model_type} cannot compute activations again (gradient "
                "checkpointing): leave it off, or choose another, such as dinov2, dinov3_vit, vit or swin"
            ) from error

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, name_or_path: Any, *arguments: Any, **options: Any
    ) -> "VeriserumPoseModel":
        """Load a model as other models of transformers; its weights must be complete, and nothing else.

        Parameters
        ----------
        name_or_path : folder, name of a released checkpoint, such as ``veriserum-pose-small``, or on the hub.
        *arguments, **options : of ``PreTrainedModel.from_pretrained``.

        Raises
        ------
        ValueError
            If the configuration is invalid, or the weights are not finite, not in safetensors, or those of another
            configuration.
        OSError
            If there is no such model.

        """
        with_info = options.pop("output_loading_info", False)
        options["ignore_mismatched_sizes"] = True  # they are reported below, with all the others
        options["use_safetensors"] = True  # the other format is a pickle
        name_or_path = located(name_or_path)
        if name_or_path is not None:
            check_name(name_or_path)
        try:
            if name_or_path is not None and options.get("state_dict") is None:
                config: Any = options.get("config")
                if not hasattr(config, "backbone_config"):  # a pipeline's may be of another copy of the class
                    config = VeriserumPoseConfig.from_pretrained(config or name_or_path, **place(options))
                check_size(lambda: cls(config), weights_file(name_or_path, options))
            loaded: Any = super().from_pretrained(name_or_path, *arguments, output_loading_info=True, **options)
        except OSError as error:  # its cause, too, may name the hub with a password
            raise OSError(masked(error)) from None
        except (AttributeError, TypeError, LookupError, RuntimeError, ImportError, SafetensorError) as error:
            raise ValueError(f"{name_or_path} cannot be loaded: {type(error).__name__}: {error}") from error
        model, info = loaded
        wrong = {what.removesuffix("_keys"): sorted(map(str, keys)) for what, keys in info.items() if keys}
        if wrong:
            found = "; ".join(f"{what} {', '.join(keys[:5])} ({len(keys)} in all)" for what, keys in wrong.items())
            raise ValueError(
                f"the weights in {name_or_path} are not those of the configuration: {found}. Load the model with the "
                "config.json that was saved with its weights"
            )
        check_finite(model.state_dict(), name_or_path)
        # The weights of a mapped file are not aligned as others are, and some sums then differ in the last digit.
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        return (model, info) if with_info else model  # type: ignore[return-value]

    def set_anatomies(self, vertices_mm: Mapping[int, Tensor]) -> None:
        """Take the implants' shapes from the vertices (n, 3) of their meshes, by anatomy id.

        An implant's centre is its origin, whose position is a pose's translation, where the origin is inside the
        box around it; otherwise it is the centre of that box.
        """
        for index, anatomy in enumerate(self.config.anatomies):
            vertices = torch.as_tensor(vertices_mm[anatomy["id"]], dtype=self.points_implant_mm.dtype)
            low, high = vertices.amin(0), vertices.amax(0)
            inside = bool(((low <= 0) & (high >= 0)).all())
            self.center_implant_mm[index] = torch.zeros(3) if inside else (low + high) / 2
            self.points_implant_mm[index] = vertices[farthest_first(vertices, POINTS)]

    def set_meshes(
        self, meshes: Mapping[int, Any], components: Mapping[int, str], axes: Mapping[int, Any] | None = None
    ) -> None:
        """Take the implants that may be named, by anatomy id.

        They are no part of a checkpoint. An implant that a frame does not name is the only one of its component.

        Parameters
        ----------
        meshes : with ``vertices`` in mm and ``faces``.
        components : femur or tibia.
        axes : ``T_implant_axes`` (4, 4) of meshes that are not in the implant's axes, mm; see the class.

        """
        ids = [id for component in COMPONENTS for id in sorted(meshes) if components.get(id) == component]
        points = [torch.from_numpy(surface_points(meshes[id].vertices, meshes[id].faces)) for id in ids]
        self.anatomies = [{"id": id, "component": components[id]} for id in ids]
        known = [torch.as_tensor((axes or {}).get(id, torch.eye(4)), dtype=torch.float64) for id in ids]
        self.named_points = torch.stack(points).to(self.named_points.device) if points else self.named_points[:0]
        self.named_axes = torch.stack(known).to(self.named_axes.device) if known else self.named_axes[:0]

    def forward(
        self,
        image_bs: Tensor | None = None,
        image_fs: Tensor | None = None,
        camera_bs: Camera | None = None,
        camera_fs: Camera | None = None,
        anatomy_id: Tensor | None = None,
        labels: Tensor | None = None,
        implant_points: Tensor | None = None,
        implant_axes: Tensor | None = None,
        **_: object,
    ) -> VeriserumPoseOutput:
        """Predict the poses of both implants.

        Parameters
        ----------
        image_bs, image_fs : (B, 1, N, N) corrected images, grey levels of any type and scale.
        camera_bs, camera_fs : ``intrinsics`` (B, 3, 3) and ``world_to_camera`` (B, 4, 4), as in a row of the data
            set. A plane may be omitted where the model was trained for that.
        anatomy_id : (B, 2) ids of femoral and tibial component, -1 where unknown.
        labels : (B, 2, 4, 4) true ``T_world_implant``, NaN where there is none.
        implant_points : (B, 2, n, 6) of `surface_points`, NaN where an implant is not given, for a model that is
            given meshes; by default those of `set_meshes` are taken by anatomy_id.
        implant_axes : (B, 2, 4, 4) ``T_implant_axes``, mm, of these points; by default they are in these axes.

        Raises
        ------
        ValueError
            If a plane is missing that the model needs, images have another size than the model's, or it does not
            know an implant.

        """
        given = {"bs": (image_bs, camera_bs), "fs": (image_fs, camera_fs)}
        views = stack_views(self.config, given, training=self.training)
        device = views.images.device
        if self.config.implants == "mesh":
            named = self._named(views, anatomy_id, implant_points, implant_axes)
            # Poses of the axes, until the end.
            labels = None if labels is None else labels.double() @ named.T_implant_axes
            prediction, shapes, strange = self._by_meshes(views, anatomy_id, named, labels)
        else:
            prediction, shapes, strange = self._by_table(views, anatomy_id, labels)
        losses = None
        if labels is not None:
            losses = pose_losses(prediction, labels.double(), shapes, self.config.image_size)
        confidence, doubt, sure, signs = self._judged(prediction)
        known = torch.tensor([*(entry["id"] for entry in self.anatomies), -1], device=device)
        T = prediction.T_world_implant
        if self.config.implants == "mesh":
            T = T @ inverse(named.T_implant_axes)
        return VeriserumPoseOutput(
            loss=None if losses is None else losses["loss"],
            losses=losses,
            T_world_implant=T.masked_fill(strange[..., None, None], torch.nan),
            center_px={
                plane: prediction.center_px[:, index]
                for index, plane in enumerate(self.config.planes)
                if given[plane][0] is not None
            },
            confidence=confidence.masked_fill(strange, torch.nan),
            # A copy: an input that is an output, too, gets another name in an exported graph.
            anatomy_id=known[prediction.anatomy]
            if implant_points is None or anatomy_id is None
            else anatomy_id.clone(),
            doubt=doubt,
            trusted=sure,
            signs=signs,
        )

    def _judged(self, prediction: Prediction) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Confidence, doubt, whether to trust each pose (B, 2), and the signs that these follow from."""
        confidence = prediction.confidence.sigmoid()
        if prediction.signs is None or prediction.rig is None:
            return confidence, None, None, None
        signs = None
        if not torch.compiler.is_compiling():
            signs = torch.cat([prediction.signs, prediction.rig], dim=-1)
        if self.config.trust is None:
            return confidence, None, None, signs
        return *trusted(self.config.trust, prediction.signs, prediction.rig), signs

    def _by_table(
        self, views: Views, anatomy_id: Tensor | None, labels: Tensor | None
    ) -> tuple[Prediction, Shapes, Tensor]:
        """Poses, the shapes of the implants that are named, and (B, 2) which ones are named but not known."""
        device = views.images.device
        anatomy = anatomy_indices(self.anatomies, anatomy_id, views.images.shape[0], device)
        strange = torch.zeros_like(anatomy, dtype=torch.bool)
        if not torch.compiler.is_compiling():
            check_known(self.anatomies, anatomy_id, labels)
        elif anatomy_id is not None:
            strange = unknown_anatomies(self.anatomies, anatomy_id)
        index = anatomy.clamp(max=len(self.anatomies) - 1)
        shapes = Shapes(self.center_implant_mm[index], self.points_implant_mm[index])
        if self.config.head == "pooled":
            small = functional.interpolate(views.images.float(), (self.config.pooled_size,) * 2, mode="area")
            features = self.backbone(standardised(small)).mean((-2, -1))
            with torch.autocast(device.type, enabled=False):
                numbers = self.outputs(features.float()).double().unflatten(1, (len(COMPONENTS), 9))
            return pooled_poses(numbers, views, anatomy, self.center_implant_mm), shapes, strange
        looked, logits = self._look(views, None if labels is None else shapes.centers_mm(labels))
        given = anatomy
        if self.training and labels is not None:
            forgotten = torch.rand(anatomy.shape, device=device) < self.config.anatomy_dropout
            given = torch.where(forgotten, len(self.anatomies), anatomy)
        found = spatial_poses(self.heads, looked, views, anatomy, given, self.center_implant_mm, self.config)
        return replace(found, locator_logits=logits), shapes, strange

    def _named(
        self, views: Views, anatomy_id: Tensor | None, points: Tensor | None, T_implant_axes: Tensor | None
    ) -> "_Named":
        """Implants of B frames, as they are given with them, or by their names."""
        frames, device = views.images.shape[0], views.images.device
        anatomy = anatomy_indices(self.anatomies, anatomy_id, frames, device)
        if points is None:
            return _Named(*named_shapes(self.anatomies, self.named_points, self.named_axes, anatomy_id, anatomy))
        if T_implant_axes is None:
            T_implant_axes = torch.eye(4, device=device).expand(frames, len(COMPONENTS), 4, 4)
        return _Named(points, T_implant_axes.double(), anatomy)

    def _by_meshes(
        self, views: Views, anatomy_id: Tensor | None, named: "_Named", labels: Tensor | None
    ) -> tuple[Prediction, Shapes, Tensor]:
        """Poses of the implants' axes, the shapes in them, and (B, 2) whose are not given."""
        points, given, shapes = given_shapes(named.points, named.T_implant_axes)
        if not torch.compiler.is_compiling():
            check_given(given, self.anatomies, anatomy_id, labels)
        looked, logits = self._look(views, None if labels is None else shapes.centers_mm(labels))
        answer = self.by_mesh(looked, views, points, shapes.center_implant_mm)
        T = answer.stages[-1]
        prediction = Prediction(
            T_world_implant=T,
            center_mm=shapes.centers_mm(T),
            center_px=answer.center_px,
            cameras=views.cameras,
            shown=views.shown,
            confidence=answer.confidence,
            anatomy=named.anatomy,
            locator_logits=logits,
            earlier=answer.stages[:-1],
            signs=answer.signs,
            rig=answer.rig,
        )
        return prediction, shapes, ~given

    def _look(self, views: Views, true_center_mm: Tensor | None) -> tuple[Looked, Tensor]:
        """Crops around both implants, and maps (B, planes, 2, rows, columns) of the coarse stage.

        In training, crops miss the true centres (B, 2, 3) at random.
        """
        images = views.images
        logits, located_px = self._locate(images)
        if self.training and true_center_mm is not None:
            true_center_px = project(true_center_mm[:, None], *views.cameras)
            jitter = self.config.crop_jitter_px * torch.randn_like(located_px)
            located_px = torch.where(true_center_px.isfinite(), true_center_px + jitter, located_px.double()).float()
        # Pixels outside of an image get its lowest grey level, whatever the scale of its grey levels.
        images = images - images.amin((-2, -1), keepdim=True)
        crops, center_px = crop(images.flatten(0, 1), located_px.flatten(0, 1), self.config.crop_size)
        crops = standardised(crops.flatten(0, 1).float())
        features = self.narrow(self.backbone(crops[:, None]))
        whole = (*located_px.shape[:3],)
        looked = Looked(
            crops.unflatten(0, whole), features.unflatten(0, whole), center_px.double().unflatten(0, whole[:2])
        )
        return looked, logits

    def _locate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, planes, 2, rows, columns) of the coarse stage, and centres (B, planes, 2, 2) px in the images."""
        frames, planes, size = images.shape[:3]
        small = functional.interpolate(images.float(), (self.config.locator_size,) * 2, mode="area")
        logits, cells = self.locator(small.flatten(0, 1))
        px = (cells + 0.5) * (size / logits.shape[-1]) - 0.5
        return logits.unflatten(0, (frames, planes)), px.unflatten(0, (frames, planes))
