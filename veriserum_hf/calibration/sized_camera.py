"""A camera with the shape of its images, the same for images of another size, and in place of a row's."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from veriserum_hf.core import CameraRow, FloatArray
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import Camera, Size, angle_between_deg, rows_columns

# A row's camera is the same as a stored one up to rounding.
_SAME_PX, _SAME_MM, _SAME_DEG = 0.02, 0.01, 1e-3


@dataclass(frozen=True, eq=False)
class SizedCamera:
    """A camera and the shape of its images.

    Attributes
    ----------
    intrinsics : (3, 3) px.
    world_to_camera : (4, 4) rigid, mm.
    image_shape : (rows, columns) px.

    Raises
    ------
    CalibrationError
        If a matrix is invalid, see `veriserum_hf.geometry.Camera`, or the shape.

    """

    intrinsics: FloatArray
    world_to_camera: FloatArray
    image_shape: tuple[int, int]

    def __post_init__(self) -> None:
        camera = Camera(
            numbers(self.intrinsics, "intrinsics", (3, 3)), numbers(self.world_to_camera, "world_to_camera", (4, 4))
        )
        object.__setattr__(self, "intrinsics", camera.intrinsics)
        object.__setattr__(self, "world_to_camera", camera.world_to_camera)
        shape = self.image_shape
        if len(shape) != 2 or not all(is_whole(edge) and edge > 0 for edge in shape):
            raise CalibrationError(f"image_shape is {shape}; expected positive numbers of rows and columns")
        object.__setattr__(self, "image_shape", (int(shape[0]), int(shape[1])))

    @property
    def camera(self) -> Camera:
        """Camera without the shape."""
        return Camera(self.intrinsics, self.world_to_camera)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, and not true or false."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def numbers(value: ArrayLike, name: str, shape: tuple[int, ...]) -> FloatArray:
    """Return an array that cannot be written to; CalibrationError, with the name, unless it has that shape."""
    expected = f"expected {' x '.join(map(str, shape))} finite numbers"
    try:
        given = np.array(value)
    except ValueError as error:
        raise CalibrationError(f"{name} is not an array of numbers ({error}); {expected}") from error
    if given.dtype.kind not in "iuf":  # as text, true, or null would be taken for numbers
        raise CalibrationError(f"{name} is {value!r:.60}, not an array of numbers; {expected}")
    array: FloatArray = given.astype(np.float64)
    if array.size == 0 and 0 in shape:  # an empty matrix, as JSON has it
        array = array.reshape(shape)
    if array.shape != shape or not np.isfinite(array).all():
        found = "numbers that are not finite" if array.shape == shape else " x ".join(map(str, array.shape))
        raise CalibrationError(f"{name} has {found or 'one number'}; {expected}")
    array.setflags(write=False)
    return array


def scale(found: Camera, camera: SizedCamera, shape: Size | None) -> FloatArray:
    """Size of a row's image over that of a camera's, along columns and rows."""
    if shape is None:
        ratio: FloatArray = found.intrinsics.diagonal()[:2] / camera.intrinsics.diagonal()[:2]
    else:
        ratio = np.array(rows_columns(shape)[::-1]) / camera.image_shape[::-1]
    return ratio


def scaled(camera: SizedCamera, scale: FloatArray) -> Camera:
    """Camera of images that were resized by a `scale`."""
    K = camera.intrinsics.copy()
    K[:2, 2] = (K[:2, 2] + 0.5) * scale - 0.5
    K[[0, 1], [0, 1]] *= scale
    return Camera(K, camera.world_to_camera)


def same(one: Camera, other: Camera) -> bool:
    """Whether two cameras are the same except for rounding."""
    px, mm, deg = _apart(one, other)
    return px <= _SAME_PX and mm <= _SAME_MM and deg <= _SAME_DEG


def _apart(one: Camera, other: Camera) -> tuple[float, float, float]:
    """Largest difference of the intrinsics, px, distance of the sources, mm, and angle of the axes, deg."""
    px = float(np.abs(one.intrinsics - other.intrinsics).max())
    mm = float(np.linalg.norm(one.source_mm - other.source_mm))
    return px, mm, float(angle_between_deg(one.world_to_camera[:3, :3], other.world_to_camera[:3, :3]))


def difference(one: Camera, other: Camera) -> str:
    """By how much two cameras differ, for messages."""
    px, mm, deg = _apart(one, other)
    return f"intrinsics differ by up to {px:.3g} px, sources by {mm:.3g} mm, axes by {deg:.3g} deg"


def row_of(after: Camera, row: CameraRow, before: Camera) -> CameraRow:
    """Fields of a row for a camera in place of another: what they describe changes with the intrinsics."""
    sid_mm, foot_mm, pixel_mm = (
        row.get("source_to_intensifier_mm"),
        row.get("principal_point_mm"),
        row.get("pixel_size_mm"),
    )
    focal_px = [float(np.sqrt(K[0, 0] * K[1, 1])) for K in (before.intrinsics, after.intrinsics)]
    if pixel_mm is None and sid_mm is not None:
        pixel_mm = sid_mm / focal_px[0]
    moved_px = after.intrinsics[:2, 2] - before.intrinsics[:2, 2]
    if foot_mm is not None:  # unknown where pixels are
        foot_mm = None if pixel_mm is None else (foot_mm + moved_px * (1.0, -1.0) * pixel_mm).tolist()
    return {
        "intrinsics": after.intrinsics.tolist(),
        "world_to_camera": (after.world_to_camera + 0.0).tolist(),
        "pixel_size_mm": row["pixel_size_mm"],
        "source_to_intensifier_mm": None if sid_mm is None else sid_mm * focal_px[1] / focal_px[0],
        "principal_point_mm": foot_mm,
    }
