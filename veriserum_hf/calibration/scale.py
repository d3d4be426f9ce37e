"""How far apart the spots of a lattice are in a frame, whatever they look like."""

import cv2
import numpy as np

from veriserum_hf.core import Grey, ImageArray
from veriserum_hf.errors import CalibrationError

_SHARE, _MOST_PX = 0.64, 1024  # of the frame's shorter edge, at its centre: within the round field
_FLATTENED = 4  # the background is taken away over so large a part of it
_NEAREST_PX = 4.0
_LEAST = 0.05  # autocorrelation of a lattice; that of noise is far below
_LIKE_THE_BEST, _SAME_RING = 0.6, 1.25


def lattice_pitch_px(frame: Grey) -> float:
    """Distance of neighbours on the lattice that the centre of a frame shows, px.

    It is the shortest lag of the high peaks of the autocorrelation.

    Raises
    ------
    CalibrationError
        If there is no regular pattern.

    """
    correlation = _autocorrelation(frame)
    smooth = cv2.GaussianBlur(correlation, (0, 0), 1.0)
    center = np.array(smooth.shape) // 2
    rows, columns = np.nonzero(smooth >= cv2.dilate(smooth, np.ones((5, 5), np.uint8)))
    lags_px = np.hypot(rows - center[0], columns - center[1])
    heights = smooth[rows, columns]
    peaks = lags_px >= _NEAREST_PX
    if not peaks.any() or heights[peaks].max() < _LEAST:
        raise CalibrationError(
            "no grid in the frame: its centre shows no regular pattern; give a frame of the grid phantom that covers "
            "the centre"
        )
    high_px = lags_px[peaks][heights[peaks] >= _LIKE_THE_BEST * heights[peaks].max()]
    return float(high_px[high_px < _SAME_RING * high_px.min()].mean())


def _autocorrelation(frame: Grey) -> ImageArray:
    """Autocorrelation of the centre of a frame, its brightness and contrast made even; lag 0 at its centre."""
    size = min(int(_SHARE * min(frame.shape)), _MOST_PX)
    top, left = (np.array(frame.shape) - size) // 2
    levels = frame[top : top + size, left : left + size].astype(np.float32)
    box = (size // _FLATTENED, size // _FLATTENED)
    flat = levels - cv2.blur(levels, box)
    flat /= np.sqrt(cv2.blur(flat**2, box)) + 1e-3 * max(float(levels.max()), 1.0)
    spectrum = np.fft.rfft2(flat, (2 * size, 2 * size))
    correlation = np.fft.fftshift(np.fft.irfft2(np.abs(spectrum) ** 2))
    farthest = size // 3
    shown = slice(size - farthest, size + farthest + 1)
    overlap = size - np.abs(np.arange(-farthest, farthest + 1))
    even = correlation[shown, shown] / np.outer(overlap, overlap)
    return np.asarray(even / even[farthest, farthest], dtype=np.float32)
