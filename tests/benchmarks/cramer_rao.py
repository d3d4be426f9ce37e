"""How well the poses in a frame could be known at best: the Cramer-Rao bound from the noise of this very frame.

Known to it: attenuation, open field, blur, everything but the poses of both implants. The noise is that of the quanta
and of the read-out in every raw pixel; JPEG and rounding are not counted. Signals are the simulator's, without noise,
and their derivatives differences of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.calibration.distortion_map import RAW_HEIGHT_PX
from veriserum_hf.core.domain import PlaneName
from veriserum_hf.geometry.pose import make_transform
from veriserum_hf.geometry.rig import DualPlaneRig
from veriserum_hf.simulation.imaging import Imaging, Part
from veriserum_hf.simulation.intensifier import expose

_WHITE = 4095.0
_STEP_MM, _STEP_DEG = 0.2, 0.4


def bound(
    parts: Sequence[Part],
    rig: DualPlaneRig,
    distortions: Mapping[PlaneName, Distortion],
    imaging: Mapping[PlaneName, Imaging],
    height_px: int,
) -> NDArray[np.float64]:
    """Covariance of a frame's poses, (P, 6, 6) for its P parts: shift of the origin in mm, rotation vector in deg."""
    count = 6 * len(parts)
    information = np.zeros((count, count))
    for plane in rig:
        chain = imaging[plane]

        def signal(moved: Sequence[Part], plane: PlaneName = plane, chain: Imaging = chain) -> NDArray[np.float64]:
            quiet = replace(chain, quanta_per_pixel=1e12, readout_noise=0.0, band_amplitude=0.0)
            rng = np.random.default_rng(0)
            raw = expose(moved, rig[plane], distortions[plane], quiet, rng, height_px=height_px, bit_depth=16)
            return raw.astype(np.float64) / _WHITE

        derivatives = np.stack(
            [
                (signal(_moved(parts, index, +1)) - signal(_moved(parts, index, -1))).ravel() / (2 * _step(index % 6))
                for index in range(count)
            ]
        )
        information += (derivatives / _variance(signal(parts), chain, height_px).ravel()) @ derivatives.T
    covariance = np.linalg.inv(information)
    return np.stack([covariance[first : first + 6, first : first + 6] for first in range(0, count, 6)])


def _variance(signal: NDArray[np.float64], chain: Imaging, height_px: int) -> NDArray[np.float64]:
    """Variance of a raw pixel if its noise were white as it is at low frequencies, in fractions of white."""
    per_px = height_px / RAW_HEIGHT_PX
    gain = chain.bright_level - chain.dark_level
    sigma_px = chain.noise_blur_px * per_px
    kernel = cv2.getGaussianKernel(2 * int(np.ceil(3 * sigma_px)) + 1, sigma_px)
    light = np.clip(signal - chain.dark_level, 0, None) / gain
    quantum: NDArray[np.float64] = light * gain**2 / (chain.quanta_per_pixel / per_px**2)
    return quantum + chain.readout_noise**2 / float((kernel**2).sum()) ** 2


def _step(index: int) -> float:
    return _STEP_MM if index < 3 else _STEP_DEG


def _moved(parts: Sequence[Part], index: int, sign: int) -> list[Part]:
    """Parts, one of them shifted along an axis of the world, or rotated about one through its origin."""
    moved, (number, axis) = list(parts), divmod(index, 6)
    part, vector = moved[number], sign * _step(axis) * np.eye(3)[axis % 3]
    R, t = part.T_world_part[:3, :3], part.T_world_part[:3, 3]
    if axis < 3:
        T = make_transform(R, t + vector)
    else:
        T = make_transform(Rotation.from_rotvec(vector, degrees=True).as_matrix() @ R, t)
    moved[number] = part._replace(T_world_part=T)
    return moved
