"""Frames of opaque implants: black metal in 8 bits, saturated at the bright end, with another grey-value curve."""

import cv2
import numpy as np

from tests.registration.scenes import rig_of, transform
from veriserum_hf.core.domain import PLANES
from veriserum_hf.rendering.rasteriser import path_length


def opaque(row, meshes, size=256, gamma=0.7, seed=0):
    """Draw the implants of a row nearly black before soft structures that are as large as bones."""
    rng = np.random.default_rng(seed)
    rig = rig_of(row)
    made = {name: row[name] for name in ("measurement_id", "femur", "tibia")}
    for plane in PLANES:
        lengths = sum(
            path_length(meshes[row[name]["anatomy_id"]], transform(row[name]), rig[plane], 2 * size)
            for name in ("femur", "tibia")
        )
        metal = cv2.resize(np.exp(-2 * lengths), (size, size), interpolation=cv2.INTER_AREA)
        soft = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), size / 12)
        background = 0.6 + 0.15 * soft / soft.std()
        image = 0.05 + background * metal + rng.normal(0, 0.008, metal.shape)
        grey = 255 * np.clip(image, 0, 0.95) ** gamma / 0.95**gamma
        made |= {f"image_{plane}": np.rint(grey).astype(np.uint8), f"camera_{plane}": rig[plane].camera(size)}
    return made
