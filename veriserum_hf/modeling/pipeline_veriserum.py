"""``pipeline("dual-plane-pose-estimation")``: a frame in, poses in mm out."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import numpy as np
import roma
import torch
from transformers import Pipeline

from .configuration_veriserum import COMPONENTS
from .image_processing_veriserum import Frame
from .shapes_veriserum import surface_points

TASK = "dual-plane-pose-estimation"
Meshes = Mapping[int, Any]  # of trimesh, which a checkpoint does without


class Registered(TypedDict, total=False):
    """What a registration changes in an entry and adds to it."""

    translation_mm: list[float]
    quaternion_xyzw: list[float]
    covariance: list[list[float]] | None
    verdict: str
    score: float
    detail: str


class Entry(Registered):
    """One implant of a frame."""

    component: str
    anatomy_id: int
    confidence: float | None
    trusted: bool | None


class Outputs(TypedDict):
    """What the model found in one frame; to refine, the frame too."""

    T_world_implant: torch.Tensor
    anatomy_id: torch.Tensor
    confidence: torch.Tensor
    trusted: NotRequired[torch.Tensor | None]
    frame: NotRequired[Frame]


class DualPlanePosePipeline(Pipeline):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """Poses of both implants in a frame, or in each of several.

    A frame is like a row of the data set; see `VeriserumImageProcessor.preprocess`. The result for a frame is a list
    of an entry for each implant, with ``component``, ``anatomy_id``, ``translation_mm`` (3) and ``quaternion_xyzw``
    (4, w >= 0) as in a row of the data set, and ``confidence``: the probability that the pose is within 2 mm and 2
    degrees, or None where the model has none. ``trusted`` says whether to trust the pose, None where the model does
    not know.

    A model that is given meshes needs ``meshes``: those of the implants in mm by anatomy id, and frames that name
    their implants. Without the package veriserum-hf, which finds an implant's axes in its mesh, meshes must be in
    these axes; see `VeriserumPoseModel`.

    ``refine=True`` registers these poses with the images (`veriserum_hf.registration.register`). It needs the
    package veriserum-hf, and ``meshes``, which must be closed. Every entry then has also
    ``covariance``, ``verdict``, ``score`` and ``detail``; where the verdict is ``failed``, also because no camera
    sees an implant at the model's pose, that pose is kept and ``covariance`` is None.
    """

    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = True  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]

    def _sanitize_parameters(
        self, refine: bool | None = None, meshes: Meshes | None = None, **_: object
    ) -> tuple[dict[str, object], dict[str, object], dict[str, object]]:
        given: dict[str, object] = {"refine": refine, "meshes": meshes}
        chosen = {name: value for name, value in given.items() if value is not None}
        return chosen, {}, chosen

    def preprocess(  # type: ignore[override]
        self, frame: Frame, refine: bool = False, meshes: Meshes | None = None
    ) -> dict[str, object]:
        """Batch of one frame; to refine, the frame itself too."""
        processor: Any = self.image_processor
        batch = dict(processor(frame))
        if self.model.config.implants == "mesh" and "implant_points" not in batch:
            batch |= _shapes_of(batch["anatomy_id"][0].tolist(), meshes or {})
        return batch | ({"frame": frame} if refine else {})

    def _forward(self, inputs: Mapping[str, Any]) -> Outputs:  # type: ignore[override]
        output = self.model(**{name: _joined(value) for name, value in inputs.items() if name != "frame"})
        found: Outputs = {
            "T_world_implant": output["T_world_implant"],
            "anatomy_id": output["anatomy_id"],
            "confidence": output["confidence"],
            "trusted": output.get("trusted"),
        }
        if "frame" in inputs:
            found["frame"] = inputs["frame"]
        return found

    def postprocess(  # type: ignore[override]
        self, outputs: Outputs, refine: bool = False, meshes: Meshes | None = None
    ) -> list[Entry]:
        """Entries of one frame."""
        entries = self._entries(outputs)
        return _refined(outputs["frame"], entries, meshes) if refine else entries

    def _entries(self, outputs: Outputs) -> list[Entry]:
        T = outputs["T_world_implant"][0].double()
        quaternions = roma.rotmat_to_unitquat(T[:, :3, :3])
        quaternions = quaternions * torch.where(quaternions[:, 3:] < 0, -1.0, 1.0)
        confidence, trusted = outputs["confidence"][0], outputs.get("trusted")
        return [
            {
                "component": component,
                "anatomy_id": int(outputs["anatomy_id"][0, index]),
                "translation_mm": T[index, :3, 3].tolist(),
                "quaternion_xyzw": quaternions[index].tolist(),
                "confidence": None if confidence[index].isnan() else float(confidence[index]),
                "trusted": None if trusted is None else bool(trusted[0, index]),
            }
            for index, component in enumerate(COMPONENTS)
        ]


def _shapes_of(ids: list[int], meshes: Meshes) -> dict[str, torch.Tensor]:
    """Points (1, 2, n, 6) of both implants, and axes (1, 2, 4, 4) if known; ValueError where there is no mesh."""
    for component, id in zip(COMPONENTS, ids, strict=True):
        if id not in meshes:
            raise ValueError(
                "this model is given the meshes of the implants that it is to find, but there is none of the "
                f"{component}, {id}: name both implants of the frame, and give meshes, by anatomy id"
            )
    points = np.stack([surface_points(meshes[id].vertices, meshes[id].faces) for id in ids])
    shapes = {"implant_points": torch.from_numpy(points)[None]}
    try:
        from veriserum_hf.geometry import mesh_axes
    except ImportError:
        return shapes
    axes = mesh_axes({id: meshes[id] for id in ids}, dict(zip(ids, COMPONENTS, strict=True)))
    return shapes | {"implant_axes": torch.from_numpy(np.stack([axes[id] for id in ids]))[None]}


def _joined(value: object) -> object:
    """A camera of several frames: with ``batch_size``, transformers joins tensors but not what holds tensors."""
    if not isinstance(value, list):
        return value
    return {name: torch.cat([camera[name] for camera in value]) for name in value[0]}


def _refined(frame: Any, entries: list[Entry], meshes: Meshes | None) -> list[Entry]:
    """Entries after registration."""
    if meshes is None:
        raise ValueError("refine=True needs meshes: the implants' closed meshes in mm, by anatomy id")
    try:
        from veriserum_hf.errors import RegistrationError
        from veriserum_hf.registration import implants_of, register
    except ImportError as error:
        raise ImportError('refine=True needs the package: pip install "veriserum-hf[train]"') from error
    initial: Any = {entry["component"]: entry for entry in entries}
    implants_of([frame], [initial], meshes)  # an invalid mesh is the user's error, a frame that fails is a result

    def registered(of: Any) -> dict[str, Registered]:
        try:
            found = register(frame, meshes, of)
        except RegistrationError as error:
            if len(of) > 1:  # the other implant can have a better initial pose
                return {name: pose for each in of for name, pose in registered({each: of[each]}).items()}
            nothing: Registered = {"covariance": None, "verdict": "failed", "score": 0.0, "detail": str(error)}
            return dict.fromkeys(of, nothing)
        return {name: _changes_of(refined) for name, refined in found.items()}

    found = registered(initial)
    return [{**entry, **found[entry["component"]]} for entry in entries]


def _changes_of(refined: Any) -> Registered:
    """What a registered pose changes in an entry."""
    return {
        "translation_mm": refined.translation_mm.tolist(),
        "quaternion_xyzw": refined.quaternion_xyzw.tolist(),
        "covariance": None if refined.verdict == "failed" else refined.covariance.tolist(),
        "verdict": refined.verdict,
        "score": refined.score,
        "detail": refined.detail,
    }
