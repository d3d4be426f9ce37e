from .frame_meshes import frame_shapes as frame_shapes
from .labelled import predict_labelled as predict_labelled
from .models import (
    NamedImplants as NamedImplants,
    fit_to as fit_to,
    load_model as load_model,
    planes_seen as planes_seen,
    weights_sha256 as weights_sha256,
)
from .onnx_file import export_onnx as export_onnx
from .onnx_model import OnnxModel as OnnxModel
from .parts import predict_elsewhere as predict_elsewhere
from .predictions import (
    predict_frames as predict_frames,
    predict_table as predict_table,
    write_predictions as write_predictions,
)
