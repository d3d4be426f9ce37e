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
    """

    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = True  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]

    def _sanitize_parameters(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, {}, {}

    def preprocess(self, frame: Mapping[str, Any]) -> BatchFeature:  # type: ignore[override]
        """Batch of one frame."""
        processor: Any = self.image_processor
        batch: BatchFeature = processor(frame)
        return batch

    def _forward(self, inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:  # type: ignore[override]
        output = self.model(**inputs)
        return {name: output[name] for name in ("T_world_implant", "anatomy_id", "confidence")}

    def postprocess(  # type: ignore[override]
        self, outputs: Mapping[str, torch.Tensor]
    ) -> list[dict[str, Any]]:
        """Entries of one frame."""
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
