"""The camera of a whole Veriserum image in another size."""

from veriserum_hf.core import CameraRow
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import FIELD_MM, Camera, pixel_size_mm


def whole_camera(camera: CameraRow, size: int) -> CameraRow:
    """Camera of the corrected image of a whole intensifier, for the same image in another size.

    Parameters
    ----------
    camera : of a row; its ``pixel_size_mm`` gives the size of its image, which shows 360 mm.
    size : edge of the other image, px.

    Raises
    ------
    CalibrationError
        If the camera has no pixel_size_mm, or contradicts itself.

    """
    found, pixel_mm = Camera.from_row(camera), camera["pixel_size_mm"]
    if pixel_mm is None:
        raise CalibrationError(
            f"pixel_size_mm is null; expected the pixel of an image that shows {FIELD_MM:g} mm, to which raw frames "
            "are corrected"
        )
    K = found.resized(round(FIELD_MM / pixel_mm), size).intrinsics
    return {**camera, "intrinsics": K.tolist(), "pixel_size_mm": pixel_size_mm(size)}
