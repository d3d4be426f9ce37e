"""The authors' correction of one frame, written from a description of their script; for comparison only.

JPEG / 255, bilinear resize to 1664 x 1600, division by the frame's maximum, scattered nearest-neighbour
interpolation from the mm positions of all raw pixels to the 1600 x 1600 grid, bilinear resize to 512, 8 bits, JPEG.
As there, every image computes the positions and builds a new interpolator; the polynomial is ours.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import NearestNDInterpolator

from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.calibration.distortion_map import RAW_HEIGHT_PX, RAW_WIDTH_PX
from veriserum_hf.geometry import NATIVE_SIZE, px_to_mm


def _pixels(width: int, height: int) -> NDArray[np.int64]:
    """Every (column, row), row by row, (width * height, 2)."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2)


def correct(frame: NDArray[np.uint8], distortion: Distortion, size: int = 512) -> NDArray[np.uint8]:
    """Corrected image, (size, size), stretched to the frame's maximum."""
    scaled = cv2.resize(frame.astype(np.float32) / 255, (RAW_WIDTH_PX, RAW_HEIGHT_PX), interpolation=cv2.INTER_LINEAR)
    scaled /= scaled.max()
    positions_mm = distortion.to_mm(_pixels(RAW_WIDTH_PX, RAW_HEIGHT_PX))
    interpolator = NearestNDInterpolator(positions_mm, scaled.ravel())
    grid_mm = px_to_mm(_pixels(NATIVE_SIZE, NATIVE_SIZE), NATIVE_SIZE)
    corrected = interpolator(grid_mm).reshape(NATIVE_SIZE, NATIVE_SIZE)
    smaller = cv2.resize(corrected, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(smaller * 255).astype(np.uint8)


def convert(jpeg: bytes, distortion: Distortion, size: int = 512) -> bytes:
    """One JPEG to the JPEG of its corrected image."""
    frame = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    return cv2.imencode(".jpg", correct(frame, distortion, size))[1].tobytes()
