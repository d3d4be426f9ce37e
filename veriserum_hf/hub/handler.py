"""Handler of an inference endpoint of the hub: one frame or several in, poses in mm out.

It becomes a file of a model's repository, and needs nothing of this package. A request is ``{"inputs": FRAME}``, or
has a list of frames: images as files in base64, and cameras as in a row of the data set, such as ``{"image_bs":
"iVBOR...", "camera_bs": {"intrinsics": [...], "world_to_camera": [...]}, "anatomy_id": [1, 3]}``.
"""

import base64
import binascii
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from transformers import pipeline

_IMAGES = ("image_bs", "image_fs")


class EndpointHandler:
    """Answers requests with the model of a folder."""

    def __init__(self, path: str = "") -> None:
        make: Any = pipeline  # whose types know the tasks of transformers alone
        self._estimate = make(model=path, trust_remote_code=True)  # the code of this very repository

    def __call__(self, data: Mapping[str, Any]) -> list[Any] | dict[str, str]:
        """Return the entries of every implant of a frame, or of each of several; or what is wrong with them."""
        inputs = data.get("inputs")
        try:
            frames = [_decoded(frame) for frame in (inputs if isinstance(inputs, list) else [inputs])]
            found = [self._estimate(frame) for frame in frames]
        except (ValueError, TypeError, KeyError, OSError, binascii.Error) as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return found if isinstance(inputs, list) else found[0]


def _decoded(frame: Any) -> dict[str, Any]:
    """Frame with its images as arrays."""
    if not isinstance(frame, Mapping):
        raise ValueError("expected a frame: an object with image_bs, camera_bs, image_fs and camera_fs")
    images = {name: frame[name] for name in _IMAGES if frame.get(name) is not None}
    return dict(frame) | {
        name: np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) for name, content in images.items()
    }
