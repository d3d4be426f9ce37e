"""From rows, meshes and initial poses to a scene; all their errors are reported here."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import trimesh
from numpy.typing import NDArray

from veriserum_hf.core import (
    CAMERA_OF,
    COMPONENTS,
    IMAGE_OF,
    PLANES,
    CameraRow,
    Component,
    FrameRow,
    PlaneName,
    PoseRow,
    Poses,
)
from veriserum_hf.dataset import is_raw
from veriserum_hf.errors import CalibrationError, RegistrationError
from veriserum_hf.geometry import make_transform, quaternion_to_matrix, transform_points
from veriserum_hf.registration.implant import Implant, implant_of
from veriserum_hf.registration.scene import Scene, View

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

_CAMERA: tuple[Literal["intrinsics", "world_to_camera"], ...] = ("intrinsics", "world_to_camera")
_POSE: tuple[Literal["anatomy_id", "translation_mm", "quaternion_xyzw"], ...] = (
    "anatomy_id",
    "translation_mm",
    "quaternion_xyzw",
)
_UNIT = 1e-3  # tolerance of the norm of a quaternion
_SAME_PIXEL = 0.01  # of its edge


def scene_of(
    rows: Sequence[FrameRow],
    meshes: Mapping[int, trimesh.Trimesh],
    starts: Sequence[Poses] | None,
    planes: Sequence[PlaneName],
    device: torch.device,
) -> tuple[Scene, Tensor]:
    """Scene of frames and their initial poses, (F, K, 4, 4) float64; see `register_batch`.

    Raises
    ------
    RegistrationError
        Naming the measurement and what is wrong with it.

    """
    if not rows:
        raise RegistrationError("no frame to register; expected at least one")
    if starts is not None and len(starts) != len(rows):
        raise RegistrationError(f"expected initial poses for each frame, got {len(starts)} for {len(rows)}")
    if isinstance(planes, str) or not planes or not set(planes) <= set(PLANES):
        raise RegistrationError(f"planes is {planes!r}; expected bs, fs or both in a sequence, such as ('bs',)")
    own = [{component: row.get(component) for component in COMPONENTS} for row in rows]
    given = [_given(row, start) for row, start in zip(rows, own if starts is None else starts, strict=True)]
    views = [views_of(row, planes) for row in rows]
    _check_consistent(rows, given, views)
    known = implants_of(rows, given, meshes)
    scene = Scene(
        {plane: [view[plane] for view in views] for plane in views[0]},
        {component: [known[poses[component]["anatomy_id"]] for poses in given] for component in given[0]},
        device,
    )
    T = np.array(
        [[_transform(row, name, poses[name]) for name in poses] for row, poses in zip(rows, given, strict=True)]
    )
    for frame, row in enumerate(rows):
        for k, (component, implants) in enumerate(scene.implants.items()):
            _check_seen(f"{name_of(row)}: {component}", implants[frame], T[frame, k], views[frame])
    return scene, torch.tensor(T, device=device)


def name_of(row: FrameRow) -> str:
    """Name of a frame in messages."""
    return f"measurement {row['measurement_id']}" if row.get("measurement_id") is not None else "the frame"


def _given(row: FrameRow, start: Mapping[Component, PoseRow | None]) -> Poses:
    found = {name: pose for name in COMPONENTS if (pose := start.get(name)) is not None}
    if not found:
        raise RegistrationError(f"{name_of(row)} has no initial pose; give one of its femur, its tibia or both")
    for component, pose in found.items():
        if missing := [name for name in _POSE if pose.get(name) is None]:
            raise RegistrationError(
                f"{name_of(row)}: the initial pose of {component} has no {' and no '.join(missing)}; expected "
                f"{', '.join(_POSE)}, as in a row"
            )
    return found


def views_of(row: FrameRow, planes: Sequence[PlaneName]) -> dict[PlaneName, View]:
    """Views of a row's corrected images in the planes that it has.

    Raises
    ------
    RegistrationError
        If there is no image, the frame is raw, or a camera is missing, invalid or contradicts its image.

    """
    found: dict[PlaneName, View] = {}
    cameras: Mapping[PlaneName, CameraRow | None] = {plane: row.get(CAMERA_OF[plane]) for plane in planes}
    for plane, camera in cameras.items():
        image = row.get(IMAGE_OF[plane])
        if image is None:
            continue
        if is_raw(row.keys()):
            raise RegistrationError(
                f"{name_of(row)} is a raw frame; expected corrected images: calibrated, manual or target"
            )
        if camera is None:
            raise RegistrationError(f"{name_of(row)} has an image_{plane} but no camera_{plane}")
        if missing := [name for name in _CAMERA if camera.get(name) is None]:
            raise RegistrationError(
                f"{name_of(row)}: camera_{plane} has no {' and no '.join(missing)}; expected {' and '.join(_CAMERA)} "
                "of the row's image"
            )
        try:
            found[plane] = View.from_row(np.asarray(image), camera)
        except (RegistrationError, CalibrationError) as error:
            raise RegistrationError(f"{name_of(row)}, plane {plane}: {error}") from error
    if not found:
        raise RegistrationError(f"{name_of(row)} has no image of {' or '.join(planes)}; expected at least one")
    return found


def _check_consistent(
    rows: Sequence[FrameRow], given: Sequence[Poses], views: Sequence[Mapping[PlaneName, View]]
) -> None:
    """Raise RegistrationError unless all frames have the same components, planes, image shapes and pixel sizes."""
    together = "cannot be registered together; expected the same components and planes, and in each plane"
    shapes = []
    for poses, view in zip(given, views, strict=True):
        sizes = (f"{plane} {seen.image.shape[1]} x {seen.image.shape[0]} px" for plane, seen in view.items())
        shapes.append(f"{', '.join(poses)}; {', '.join(sizes)}")
    for row, shape, view in zip(rows, shapes, views, strict=True):
        if shape != shapes[0]:
            raise RegistrationError(
                f"{name_of(row)} ({shape}) and {name_of(rows[0])} ({shapes[0]}) {together} images of one size"
            )
        for plane, seen in view.items():
            pixel_mm, first_mm = seen.pixel_mm, views[0][plane].pixel_mm
            if not np.allclose(pixel_mm, first_mm, rtol=_SAME_PIXEL, atol=0):
                found = [f"{width:.4f} x {height:.4f} mm" for width, height in (pixel_mm, first_mm)]
                raise RegistrationError(
                    f"{name_of(row)} (pixels of {plane}: {found[0]}) and {name_of(rows[0])} ({found[1]}) {together} "
                    "pixels of one size"
                )


def implants_of(
    rows: Sequence[FrameRow], poses: Sequence[Poses], meshes: Mapping[int, trimesh.Trimesh]
) -> dict[int, Implant]:
    """Implants of the poses of frames, by anatomy id.

    Raises
    ------
    RegistrationError
        If one has no mesh, or one that is not closed or not in mm.

    """
    ids = set()
    for row, of_row in zip(rows, poses, strict=True):
        for component, pose in of_row.items():
            if pose["anatomy_id"] not in meshes:
                raise RegistrationError(
                    f"{name_of(row)}: there is no mesh of {component} {pose['anatomy_id']}, only of {sorted(meshes)}"
                )
            ids.add(int(pose["anatomy_id"]))
    return {id: implant_of(id, meshes[id]) for id in ids}


def _transform(row: FrameRow, component: Component, pose: PoseRow) -> NDArray[np.float64]:
    quaternion = np.asarray(pose["quaternion_xyzw"], dtype=np.float64)
    translation_mm = np.asarray(pose["translation_mm"], dtype=np.float64)
    usable = quaternion.shape == (4,) and translation_mm.shape == (3,) and np.isfinite(translation_mm).all()
    if not usable or not abs(np.linalg.norm(quaternion) - 1) < _UNIT:
        raise RegistrationError(
            f"{name_of(row)}: the initial pose of {component} has translation_mm {translation_mm.tolist()} and "
            f"quaternion_xyzw {quaternion.tolist()}; expected three finite mm and a unit quaternion, scalar last"
        )
    return make_transform(quaternion_to_matrix(quaternion), translation_mm)


def _check_seen(
    what: str, implant: Implant, T_world_implant: NDArray[np.float64], views: Mapping[PlaneName, View]
) -> None:
    """Raise RegistrationError for an initial pose not in front of every source, or outside all fields."""
    corners_mm = transform_points(T_world_implant, implant.rough.vertices)
    for plane, view in views.items():
        depth_mm = view.camera.depths_mm(corners_mm)
        if not depth_mm.min() > 0:
            raise RegistrationError(
                f"{what} {implant.anatomy_id} reaches {-depth_mm.min():.0f} mm behind the X-ray source of {plane} at "
                "its initial pose, expected all of it in front; is the pose in mm and in the world frame?"
            )
    if not any(view.share_in_field(implant, T_world_implant) for view in views.values()):
        raise RegistrationError(
            f"{what} {implant.anatomy_id} is outside the field of {' and of '.join(views)} at its initial pose, "
            "expected it to be visible; is the pose in mm and in the world frame?"
        )
