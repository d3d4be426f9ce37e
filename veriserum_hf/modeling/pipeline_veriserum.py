"""``pipeline("dual-plane-pose-estimation")``: a frame in, poses in mm out."""

from collections.abc import Mapping
from typing import Any

import roma
import torch
from transformers import BatchFeature, Pipeline

from .configuration_veriserum import COMPONENTS

TASK = "dual-plane-pose-estimation"


class DualPlanePosePipeline(Pipeline):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """Poses of both implants in a frame, or in each of several.

    A frame is like a row of the data set; see `VeriserumImageProcessor.preprocess`. The answer for a frame is a list
    of an entry for each implant, with ``component``, ``anatomy_id``, ``translation_mm`` (3) and ``quaternion_xyzw``
    (4, w >= 0) as in a row of the data set, and ``confidence``: the probability that the pose is within 2 mm and 2
    degrees, or None where the model has none.

    ``refine=True`` registers these poses with the images (`veriserum_hf.registration.refine.register`). It needs the
    package veriserum-hf, and ``meshes``: the implants' closed meshes in mm by anatomy id. Every entry then has also
    ``covariance``, ``verdict``, ``score`` and ``detail``; where the verdict is ``failed``, also because no camera
    sees an implant at the model's pose, that pose is kept and ``covariance`` is None.
    """

    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = True  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]

    def _sanitize_parameters(
        self, refine: bool | None = None, meshes: Mapping[int, Any] | None = None, **_: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        given = {"refine": refine, "meshes": meshes}
        told = {name: value for name, value in given.items() if value is not None}
        return {} if refine is None else {"refine": refine}, {}, told

    def preprocess(self, frame: Mapping[str, Any], refine: bool = False) -> dict[str, Any]:  # type: ignore[override]
        """Batch of one frame; to refine, the frame itself too."""
        processor: Any = self.image_processor
        batch: BatchFeature = processor(frame)
        return dict(batch) | ({"frame": frame} if refine else {})

    def _forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        output = self.model(**{name: _joined(value) for name, value in inputs.items() if name != "frame"})
        found = {name: output[name] for name in ("T_world_implant", "anatomy_id", "confidence")}
        return found | ({"frame": inputs["frame"]} if "frame" in inputs else {})

    def postprocess(  # type: ignore[override]
        self, outputs: Mapping[str, Any], refine: bool = False, meshes: Mapping[int, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Entries of one frame."""
        entries = self._entries(outputs)
        return _refined(outputs["frame"], entries, meshes) if refine else entries

    def _entries(self, outputs: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
        T = outputs["T_world_implant"][0].double()
        quaternions = roma.rotmat_to_unitquat(T[:, :3, :3])
        quaternions = quaternions * torch.where(quaternions[:, 3:] < 0, -1.0, 1.0)
        confidence = outputs["confidence"][0]
        return [
            {
                "component": component,
                "anatomy_id": int(outputs["anatomy_id"][0, index]),
                "translation_mm": T[index, :3, 3].tolist(),
                "quaternion_xyzw": quaternions[index].tolist(),
                "confidence": None if confidence[index].isnan() else float(confidence[index]),
            }
            for index, component in enumerate(COMPONENTS)
        ]


def _joined(value: Any) -> Any:
    """A camera of several frames: with ``batch_size``, transformers joins tensors but not what holds tensors."""
    if not isinstance(value, list):
        return value
    return {name: torch.cat([camera[name] for camera in value]) for name in value[0]}


def _refined(frame: Any, entries: list[dict[str, Any]], meshes: Mapping[int, Any] | None) -> list[dict[str, Any]]:
    """Entries after registration."""
    if meshes is None:
        raise ValueError("refine=True needs meshes: the implants' closed meshes in mm, by anatomy id")
    try:
        from veriserum_hf.errors import RegistrationError
        from veriserum_hf.registration import implants_of, register
    except ImportError as error:
        raise ImportError('refine=True needs the package: pip install "veriserum-hf[train]"') from error
    starts: Any = {entry["component"]: entry for entry in entries}
    implants_of([frame], [starts], meshes)  # meshes are mended by the user, a frame that fails is not

    def registered(of: Any) -> dict[str, dict[str, Any]]:
        try:
            found = register(frame, meshes, of)
        except RegistrationError as error:
            if len(of) > 1:  # the other implant can have a better start
                return {name: pose for each in of for name, pose in registered({each: of[each]}).items()}
            nothing = {"covariance": None, "verdict": "failed", "score": 0.0, "detail": str(error)}
            return dict.fromkeys(of, nothing)
        return {name: _told(refined) for name, refined in found.items()}

    found = registered(starts)
    return [entry | found[entry["component"]] for entry in entries]


def _told(refined: Any) -> dict[str, Any]:
    """What an entry says of a registered pose."""
    return {
        "translation_mm": refined.translation_mm.tolist(),
        "quaternion_xyzw": refined.quaternion_xyzw.tolist(),
        "covariance": None if refined.verdict == "failed" else refined.covariance.tolist(),
        "verdict": refined.verdict,
        "score": refined.score,
        "detail": refined.detail,
    }
