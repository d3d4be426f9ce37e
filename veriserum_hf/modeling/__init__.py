"""The dual-plane pose model; its files travel with a checkpoint and need torch, transformers, numpy and roma only.

Importing this makes ``AutoModel``, ``AutoImageProcessor`` and ``pipeline("dual-plane-pose-estimation")`` know it.
"""

try:
    from transformers import AutoConfig, AutoImageProcessor, AutoModel
    from transformers.pipelines import PIPELINE_REGISTRY
except ImportError as error:
    raise ImportError('the pose model needs torch and transformers: pip install "veriserum-hf[train]"') from error

from veriserum_hf.modeling.backbone_veriserum import load_backbone
from veriserum_hf.modeling.canvas_veriserum import fit
from veriserum_hf.modeling.checkpoint_veriserum import read_fields
from veriserum_hf.modeling.configuration_veriserum import VeriserumPoseConfig
from veriserum_hf.modeling.image_processing_veriserum import VeriserumImageProcessor
from veriserum_hf.modeling.modeling_veriserum import VeriserumPoseModel, VeriserumPoseOutput
from veriserum_hf.modeling.pipeline_veriserum import TASK, DualPlanePosePipeline
from veriserum_hf.modeling.released_veriserum import located, released
from veriserum_hf.modeling.shapes_veriserum import surface_points
from veriserum_hf.modeling.trust_veriserum import trusted

__all__ = [
    "TASK",
    "DualPlanePosePipeline",
    "VeriserumImageProcessor",
    "VeriserumPoseConfig",
    "VeriserumPoseModel",
    "VeriserumPoseOutput",
    "fit",
    "load_backbone",
    "located",
    "read_fields",
    "released",
    "surface_points",
    "trusted",
]

AutoConfig.register(VeriserumPoseConfig.model_type, VeriserumPoseConfig)
AutoModel.register(VeriserumPoseConfig, VeriserumPoseModel)
AutoImageProcessor.register(VeriserumPoseConfig, slow_image_processor_class=VeriserumImageProcessor)
PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=DualPlanePosePipeline, pt_model=AutoModel, type="image")
