"""Masks of both implants in both images of a frame, from its poses, and how much of their outlines is hidden."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from veriserum_hf.archive import read_mesh
from veriserum_hf.core import BoolArray, CameraRow, Grey, ImageFile, MeshFile, PlaneName, PoseRow, cameras_of
from veriserum_hf.dataset.plan import PlanRow
from veriserum_hf.errors import FrameError
from veriserum_hf.geometry import Camera, make_transform, quaternion_to_matrix
from veriserum_hf.rendering import path_length

_RIM_MM = 2.5  # of an implant and of its surroundings, whose grey levels are compared
_LEAST_CONTRAST = 0.15  # of the surroundings' grey level; noise and JPEG blocks have less
_BILEVEL = [cv2.IMWRITE_PNG_BILEVEL, 1]
_FIELD_MM = 360.0  # that an image shows


def masks_of(row: PlanRow, images: Mapping[PlaneName, Grey]) -> dict[str, ImageFile | float | None]:
    """Columns of the masks of one row.

    Parameters
    ----------
    row : of the plan of ``masks``.
    images : (N, N) of both planes.

    Returns
    -------
    ``mask_femur_bs`` and so on: PNG of 1 bit, in which pixels are white whose centre the implant covers;
    ``hidden_femur_bs`` and so on: see `hidden_share`. Both are None where the row has no pose of the implant.

    Raises
    ------
    FrameError
        If an implant's file is missing, cannot be used or is not closed, or a pose is behind the source.

    """
    columns: dict[str, ImageFile | float | None] = {}
    for component, file in (("femur", row["mesh_femur"]), ("tibia", row["mesh_tibia"])):
        pose = row["femur"] if component == "femur" else row["tibia"]
        for plane, camera in cameras_of(row).items():
            name, image = f"{component}_{plane}", images[plane]
            columns |= {f"mask_{name}": None, f"hidden_{name}": None}
            if pose is not None:
                mask = _mask(pose, file, camera, image.shape)
                columns[f"mask_{name}"] = _bilevel(mask, f"{row['measurement_id']}_{name}")
                columns[f"hidden_{name}"] = hidden_share(image, mask)
    return columns


def _mask(pose: PoseRow, file: MeshFile, camera: CameraRow, size: tuple[int, ...]) -> BoolArray:
    name = f"ana_{pose['anatomy_id']:06d}.stl"
    if file["path"] is None:
        raise FrameError("no mask", f"the archive has no {name}")
    T_world_implant = make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])
    try:
        mesh = _mesh(file["path"], file["category"])
        covered: BoolArray = path_length(mesh, T_world_implant, Camera.from_row(camera, size), size) > 0
    except (FrameError, ValueError) as error:
        raise FrameError("no mask", f"{name}: {error}") from error
    return covered


@lru_cache(maxsize=64)
def _mesh(path: str, category: str) -> trimesh.Trimesh:
    return read_mesh(path, category).mesh


def _bilevel(mask: BoolArray, stem: str) -> ImageFile:
    _, data = cv2.imencode(".png", mask.astype(np.uint8) * np.uint8(255), _BILEVEL)
    return {"bytes": data.tobytes(), "path": f"{stem}.png"}


def hidden_share(image: Grey, mask: BoolArray) -> float | None:
    """Share of an implant's outline that an image does not show.

    There, the image is nearly as dark outside of the implant as inside: something opaque, such as a holder or the
    other implant, lies behind it, in front of it, or beside it.

    Parameters
    ----------
    image : (N, N) corrected image.
    mask : (N, N) of the implant.

    Returns
    -------
    From 0 to 1, or None where no outline is in the image.

    """
    edge = max(1, round(_RIM_MM * len(image) / _FIELD_MM))
    box = np.ones((2 * edge + 1,) * 2, np.uint8)
    inside = mask.astype(np.uint8)
    # Beyond the image, the mask goes on: no outline there.
    near = cv2.dilate(inside, box) - inside
    rim = inside - cv2.erode(inside, box)
    outline = (inside - cv2.erode(inside, np.ones((3, 3), np.uint8))) > 0
    if not outline.any():
        return None
    light, dark = (_mean_where(image, where, len(box)) for where in (near, rim))
    hidden = ~(light - dark > _LEAST_CONTRAST * light)
    return float(hidden[outline].mean())


def _mean_where(image: Grey, where: NDArray[Any], reach_px: int) -> NDArray[Any]:
    """Mean around each pixel of the grey levels where an image is marked; NaN where none is."""
    box = (2 * reach_px + 1,) * 2
    total = cv2.boxFilter(image * where.astype(np.float64), -1, box, normalize=False)
    count = cv2.boxFilter(where.astype(np.float64), -1, box, normalize=False)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count)
