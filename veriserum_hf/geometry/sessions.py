"""Sessions: rows whose stored cameras are the same, whatever the size of their images."""

from collections.abc import Iterable

import numpy as np

from veriserum_hf.core import CameraRow, IndexArray, LabelRow, cameras_of

_DECIMALS = 8  # of mm, of rotation matrices, and of the tangent of angles


def session_numbers(rows: Iterable[LabelRow]) -> IndexArray:
    """Number of the session of each row, (n,) from 0 in the order of their first rows.

    Two rows are of one session where all cameras are at the same place, look in the same direction, and see the
    corner of their images in the same direction: resized images of one camera do.
    """
    numbers: dict[object, int] = {}
    keys = (tuple((plane, *_key(camera)) for plane, camera in cameras_of(row).items()) for row in rows)
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)


def _key(camera: CameraRow) -> tuple[float, ...]:
    """Pose of a camera, and the direction of the outer corner of its first pixel.

    Resized by s, the principal point is at (c + 0.5) s - 0.5 and the focal length f s: their ratio stays.
    """
    K = np.asarray(camera["intrinsics"], dtype=float)
    corner = (K[:2, 2] + 0.5) / np.diag(K)[:2]
    pose = np.asarray(camera["world_to_camera"], dtype=float)[:3]
    return tuple(np.round(np.concatenate([pose.ravel(), corner]), _DECIMALS).tolist())
