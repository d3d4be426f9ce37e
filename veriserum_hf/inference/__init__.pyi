from .batches import estimate as estimate
from .frames import estimate_frames as estimate_frames, load_rows as load_rows, write_poses as write_poses
from .models import (
    check_fit as check_fit,
    load_model as load_model,
    planes_seen as planes_seen,
    weights_sha256 as weights_sha256,
)
