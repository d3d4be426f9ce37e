"""Errors of estimated poses, one row per implant and frame.

Every error is estimate minus label. With the relative pose of an implant, ``T_label^-1 T_estimate``:

``rotation_deg``
    its angle (geodesic distance on SO(3)).
``translation_mm``
    distance of the two positions of the implant's origin (that of its STL file), and signed components of the shift:
    ``world_x_mm``, ``world_y_mm``, ``world_z_mm`` along the axes of the world, and for each plane
    ``bs_depth_mm`` along the ray from the X-ray source through the label's origin (positive: too far from the
    source), ``bs_h_mm`` and ``bs_v_mm`` normal to this ray. h is the plane's h (right in the image) made normal to
    the ray, v (up) is normal to both. The three are orthonormal at the implant: h^2 + v^2 + depth^2 = translation^2.
``mtre_mm``
    mean target registration error: mean distance between the same point of the implant at both poses. Unlike
    rotation and translation it does not depend on where the STL file has its origin.
``add_s_mm``
    the same with the nearest point instead of the same one (ADD-S): it ignores rotations that map an implant onto
    itself. It is never larger, and equals mtre_mm where the shift is small against the distance between points.
``reprojection_bs_px``
    mean distance of the implant's points at both poses in the stored image, in its px; infinite where the estimated
    pose is at or behind the source.

Errors of a plane are NaN in frames without it.

Sources: van de Kraats et al., IEEE TMI 2005 (mTRE); Xiang et al., PoseCNN, RSS 2018 (ADD-S).
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import trimesh
from numpy.typing import NDArray
from scipy.spatial import KDTree

from veriserum_hf.core import FloatArray
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import angle_between_deg, invert_transform, project, transform_points, viewing_axes
from veriserum_hf.poses import Estimates

WORLD_AXES = ("x", "y", "z")
PLANE_AXES = ("h", "v", "depth")
POINTS = 1000  # of an implant's surface, for the errors of points
_POSES_AT_ONCE = 500


def sample_points(meshes: Mapping[int, trimesh.Trimesh]) -> dict[int, FloatArray]:
    """`POINTS` points of each implant, spread evenly over its surface, the same in every run, (k, 3) mm."""
    return {id: np.asarray(trimesh.sample.sample_surface(mesh, POINTS, seed=0)[0]) for id, mesh in meshes.items()}


def pose_errors(estimates: Estimates, points_implant_mm: Mapping[int, NDArray[np.floating]]) -> pa.Table:
    """Errors of every row, as defined in the module's docstring.

    Parameters
    ----------
    estimates : n poses with their labels and cameras.
    points_implant_mm : by anatomy id, (k, 3) points of the implant's surface in its own coordinates, mm.

    Returns
    -------
    n rows in the same order: ``measurement_id``, ``trial_id``, ``task``, ``component``, ``anatomy_id``,
    ``confidence``, ``trusted``, and the errors.

    Raises
    ------
    TrainingError
        If there are no points of an implant, or they are not (k, 3) finite mm.

    """
    _check_points(estimates, points_implant_mm)
    columns: dict[str, NDArray[np.generic]] = {
        name: getattr(estimates, name)
        for name in ("measurement_id", "trial_id", "task", "component", "anatomy_id", "confidence")
    }
    columns["trusted"] = np.full(len(estimates), np.nan) if estimates.trusted is None else estimates.trusted
    columns["rotation_deg"] = angle_between_deg(
        estimates.T_world_label[:, :3, :3], estimates.T_world_implant[:, :3, :3]
    )
    shifts = shifts_mm(estimates)
    columns["translation_mm"] = np.linalg.norm([shifts[f"world_{axis}_mm"] for axis in WORLD_AXES], axis=0)
    columns |= shifts
    columns |= _point_errors(estimates, points_implant_mm)
    return pa.table(columns)


def shifts_mm(estimates: Estimates) -> dict[str, FloatArray]:
    """Signed components of the shift, each (n,) mm, by the names of their columns in `pose_errors`."""
    shift_mm = estimates.T_world_implant[:, :3, 3] - estimates.T_world_label[:, :3, 3]
    found: dict[str, FloatArray] = {f"world_{axis}_mm": shift_mm[:, n] for n, axis in enumerate(WORLD_AXES)}
    for plane, (_, world_to_camera) in estimates.cameras.items():
        axes = viewing_axes(world_to_camera, estimates.T_world_label[:, :3, 3])
        parts_mm = (axes @ shift_mm[:, :, None])[:, :, 0]
        found |= {f"{plane}_{axis}_mm": parts_mm[:, n] for n, axis in enumerate(PLANE_AXES)}
    return found


def mtpm_mm(estimates: Estimates, meshes: Mapping[int, trimesh.Trimesh]) -> FloatArray:
    """Maximum total point motion, (n,) mm: displacement of the point of the mesh that moves farthest.

    Raises
    ------
    TrainingError
        If an implant has no mesh.

    """
    # A displacement is linear in the point, so that its length is largest at a corner of the convex hull.
    displacement = (estimates.T_world_implant - estimates.T_world_label)[:, :3]
    found = np.empty(len(estimates))
    for id in np.unique(estimates.anatomy_id).tolist():
        of_implant = np.flatnonzero(estimates.anatomy_id == id)
        if id not in meshes:
            raise TrainingError(f"{estimates.row_name(of_implant[0])}: there is no mesh of implant {id}")
        corners = np.asarray(trimesh.convex.convex_hull(np.asarray(meshes[id].vertices)).vertices)
        for rows in np.array_split(of_implant, -(-len(of_implant) // _POSES_AT_ONCE)):
            moved = displacement[rows, :, :3] @ corners.T + displacement[rows, :, 3:]
            found[rows] = np.sqrt((moved**2).sum(axis=1).max(axis=1))
    return found


def _point_errors(
    estimates: Estimates, points_implant_mm: Mapping[int, NDArray[np.floating]]
) -> dict[str, NDArray[np.generic]]:
    """``mtre_mm``, ``add_s_mm`` and ``reprojection_*_px``, each (n,)."""
    trees = {id: KDTree(points_implant_mm[id]) for id in np.unique(estimates.anatomy_id).tolist()}
    # Points at the label's pose, in coordinates of the estimated implant: one tree serves all poses.
    T_estimate_label = invert_transform(estimates.T_world_implant) @ estimates.T_world_label
    names = ["mtre_mm", "add_s_mm", *(f"reprojection_{plane}_px" for plane in estimates.cameras)]
    found = {name: np.empty(len(estimates)) for name in names}
    for row, id in enumerate(estimates.anatomy_id.tolist()):
        points = np.asarray(points_implant_mm[id], dtype=np.float64)
        moved = transform_points(T_estimate_label[row], points)
        found["mtre_mm"][row] = np.linalg.norm(moved - points, axis=1).mean()
        found["add_s_mm"][row] = trees[id].query(moved)[0].mean()
        for plane, (intrinsics, world_to_camera) in estimates.cameras.items():
            if np.isnan(world_to_camera[row]).any():  # this frame has no such plane
                found[f"reprojection_{plane}_px"][row] = np.nan
                continue
            px = [
                project(points, intrinsics[row], world_to_camera[row] @ T)
                for T in (estimates.T_world_implant[row], estimates.T_world_label[row])
            ]
            px = [np.where(np.isnan(each), np.inf, each) for each in px]
            found[f"reprojection_{plane}_px"][row] = np.linalg.norm(px[0] - px[1], axis=1).mean()
    return found  # type: ignore[return-value] # float64 arrays are arrays


def _check_points(estimates: Estimates, points_implant_mm: Mapping[int, NDArray[np.floating]]) -> None:
    ids, rows = np.unique(estimates.anatomy_id, return_index=True)
    for id, row in zip(ids.tolist(), rows.tolist(), strict=True):
        if id not in points_implant_mm:
            raise TrainingError(
                f"{estimates.row_name(row)}: there are no points of implant {id}, only of {sorted(points_implant_mm)}"
            )
        points = np.asarray(points_implant_mm[id])
        if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
            raise TrainingError(f"points of implant {id} must be (k, 3) finite mm, got an array {points.shape}")
