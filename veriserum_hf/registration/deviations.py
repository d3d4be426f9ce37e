"""Covariance of a pose with errors of cameras, meshes and edges, and whether the planes contradict each other.

What a registration takes as exact is not: the pose of one camera with respect to the other, principal points and
focal lengths, the surface of the mesh, and where a detector of edges sees the edge of metal. Each of these shifts
whole outlines. Its effect on the pose is the one that the least-squares solution of the outlines gives (consider
covariance; Schmidt 1966), added to the covariance of the image alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from veriserum_hf.core import PLANES, FloatArray, PlaneName
from veriserum_hf.geometry import transform_points
from veriserum_hf.registration.implant import Implant, central_ray
from veriserum_hf.registration.outline.levels import Level
from veriserum_hf.registration.outline.residuals import Residuals
from veriserum_hf.registration.scene import DOF

_TILE_PX = 24.0  # residuals within a square of this edge may be correlated
_LOADING = 1e-4  # of the largest diagonal element, in directions that one plane alone hardly determines
# Of a contradiction of planes whose errors are as large as stated. In simulated frames they are smaller: 5 % gave no
# false alarm in 420 poses. In real frames it made four right poses of ten ambiguous.
_CHANCE = 0.003
# An error of a camera is shown in part only: where it is larger than this in the direction that both planes see, it
# may be some times larger in those that they do not.
_MAX_APART_MM = 0.2
_SEEN = 3.0  # directions of an error of a camera that one frame shows: common vertical, and two rotations well
_VARYING = 0.5  # part of the common error of edges that varies with their direction, each of four ways
_OF_CAMERA = 3  # first effects of a plane: principal point and focal length
_CLIPPED_PX = 1.0  # deviation of edges where all of an outline is next to clipped pixels


@dataclass(frozen=True)
class Deviations:
    """Standard deviations of what a registration takes as exact.

    Attributes
    ----------
    plane_mm, plane_deg : pose of the second camera with respect to the first, along and about each axis, at the
        implants.
    plane_covariance : (6, 6) of the same in place of these, mm and deg along and about the world's axes; None
        where it is unknown.
    principal_point_mm : along each axis of the detector. In published calibrations of the Veriserum rig it is rounded
        to 0.68 mm, which is 0.2 mm.
    focal_length : as a share of it.
    mesh_mm : of the surface, the same all over it, outwards.
    edge_px : of the edges along a whole outline, in pixels of the finest scale, outwards.

    """

    plane_mm: float = 0.15
    plane_deg: float = 0.04
    principal_point_mm: float = 0.2
    focal_length: float = 0.001
    mesh_mm: float = 0.1
    edge_px: float = 0.2
    plane_covariance: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Stated:
    """What is stated about the pose of one implant.

    Attributes
    ----------
    image : (6, 6) covariance of a step of the pose, mm^2, from the residuals alone.
    world : (6, 6) covariance of the same from errors of cameras, mesh and edges.
    of_cameras : (6, 6) part of it that is common to all frames, from a known covariance of the second camera's pose;
        0 where that is unknown.
    camera_effects : (6, 12) steps of the pose, mm, by one standard deviation of each error of the cameras, which all
        implants of a frame share: three of each plane's principal point and focal length, six of the second's pose.
    planes_apart : disagreement of the planes; NaN with one plane.
    contradictory : whether the planes contradict each other by more than the deviations explain.

    """

    image: FloatArray
    world: FloatArray
    of_cameras: FloatArray
    camera_effects: FloatArray
    planes_apart: "PlanesApart"
    contradictory: bool


@dataclass(frozen=True)
class PlanesApart:
    """Disagreement of two planes along the direction that both see without depth.

    Attributes
    ----------
    mm : centre of the implant where fs alone sees it, less that where bs alone does, along
        cross(ray of bs, ray of fs), where a ray goes from the X-ray source to the implant.
    sd_mm : its standard deviation by errors of images, edges and mesh. With exact cameras and images of one moment,
        the disagreement is no larger than these explain.

    """

    mm: float = float("nan")
    sd_mm: float = float("nan")


def stated(
    residuals: Mapping[PlaneName, Residuals],
    levels: Mapping[PlaneName, Level],
    implant: Implant,
    T_world_implant: FloatArray,
    deviations: Deviations,
) -> Stated | None:
    """Covariances at a pose; None where the outlines do not determine it."""
    seen = {plane: own for plane, own in residuals.items() if np.isfinite(own.residual_px).sum() > DOF}
    of_planes = {
        plane: _OfPlane(own, levels[plane], implant, T_world_implant, deviations, with_edge=len(seen) > 1)
        for plane, own in seen.items()
    }
    if not of_planes:
        return None
    matrix = sum((each.matrix for each in of_planes.values()), np.zeros((DOF, DOF)))
    matrix += 1e-9 * np.diag(matrix).max() * np.eye(DOF)
    inverse = np.linalg.inv(matrix)
    scores = sum((each.scores for each in of_planes.values()), np.zeros((DOF, DOF)))
    effects = [column for each in of_planes.values() for column in each.effects.T]
    effects.append(sum((each.by_mesh for each in of_planes.values()), np.zeros(DOF)))
    root = _relative_camera(implant, deviations)
    relative = root @ root.T
    rays = {plane: central_ray(levels[plane].camera, implant, T_world_implant) for plane in of_planes}
    statistic, shown, apart = _disagreement(of_planes, relative, rays)
    # What one frame shows of the cameras' error is a part of it; the rest is likely to be as large.
    larger = max(1.0, statistic / _SEEN, shown)
    world = np.stack(effects).T @ np.stack(effects)
    # The first plane defines the world: only the error of the second is one.
    of_pose = sum((each.matrix @ root for each in list(of_planes.values())[1:]), np.zeros((DOF, DOF)))
    by_camera = of_pose @ of_pose.T
    unseen = np.zeros((DOF, _OF_CAMERA))
    of_sources = [of_planes[it].effects[:, :_OF_CAMERA] if it in of_planes else unseen for it in PLANES]
    is_known = deviations.plane_covariance is not None
    return Stated(
        inverse @ scores @ inverse,
        inverse @ (world + larger * by_camera) @ inverse,
        inverse @ by_camera @ inverse if is_known else np.zeros((DOF, DOF)),
        inverse @ np.hstack([*of_sources, np.sqrt(larger) * of_pose]),
        apart,
        abs(apart.mm) > _MAX_APART_MM or statistic > chi2.isf(_CHANCE, DOF),
    )


class _OfPlane:
    """Normal matrix of one plane, and the right sides that residuals and errors of a world give there.

    Attributes
    ----------
    matrix : (6, 6).
    right : (6,) of the residuals.
    scores : (6, 6) covariance of the right side, from sums of the residuals over tiles.
    effects : (6, 8) right sides of one standard deviation of each: principal point along both axes, focal length,
        edges and the ways in which their error varies.
    by_mesh : (6,) the same of the mesh, which both planes share.

    """

    def __init__(
        self,
        own: Residuals,
        level: Level,
        implant: Implant,
        T_world_implant: FloatArray,
        deviations: Deviations,
        *,
        with_edge: bool,
    ) -> None:
        weight = own.weights()
        used = weight > 0
        weight, J = weight[used], own.by_step[used]
        pieces, residual = own.pieces.taken(used), own.residual_px[used]
        # Attenuation and error of the edges take up what looks like them: the first freely, the second near zero.
        shared, stiffness = (each.copy() for each in own.shared(with_edge=with_edge))
        shared, stiffness[0] = shared[used], 1e-6
        of_shared = shared.T @ (weight[:, None] * shared) + np.diag(stiffness)
        influence = weight[:, None] * (J - shared @ np.linalg.solve(of_shared, shared.T @ (weight[:, None] * J)))
        self.matrix: FloatArray = J.T @ influence
        terms = influence * residual[:, None]
        self.right: FloatArray = terms.sum(axis=0)
        tiles = np.unique(np.floor(pieces.px / _TILE_PX), axis=0, return_inverse=True)[1].ravel()
        sums = np.zeros((tiles.max() + 1, DOF))
        np.add.at(sums, tiles, terms)
        # Centred: what the planes contradict each other by is no noise.
        sums -= sums.mean(axis=0)
        self.scores: FloatArray = sums.T @ sums * len(sums) / max(len(sums) - DOF, 1)
        K, pixel_mm = level.camera.intrinsics, level.view.pixel_mm
        edge_px = np.hypot(deviations.edge_px, _CLIPPED_PX * float(weight @ own.clipped[used]))
        shifts = np.stack(
            [
                pieces.normals[:, 0] * deviations.principal_point_mm / pixel_mm[0],
                pieces.normals[:, 1] * deviations.principal_point_mm / pixel_mm[1],
                (pieces.normals * (pieces.px - K[:2, 2])).sum(axis=1) * deviations.focal_length,
                np.full(len(pieces.px), edge_px),
                *(_VARYING * edge_px * wave for wave in harmonics(pieces.normals)),
            ],
            axis=1,
        )
        self.effects: FloatArray = influence.T @ shifts
        depths_mm = level.camera.depths_mm(transform_points(T_world_implant, pieces.points_mm))
        px_per_mm = np.sqrt(K[0, 0] * K[1, 1]) / depths_mm
        self.by_mesh: FloatArray = influence.T @ px_per_mm * deviations.mesh_mm


def harmonics(normals: FloatArray) -> list[FloatArray]:
    """Four functions of the direction of an edge, (n,) each, that an error of edges may follow.

    Bone on one side of an implant and soft tissue on the other shift edges there differently, gradually in between.
    """
    angle = np.arctan2(normals[:, 1], normals[:, 0])
    return [wave(order * angle) for order in (1, 2) for wave in (np.cos, np.sin)]


def _relative_camera(implant: Implant, deviations: Deviations) -> FloatArray:
    """Root (6, 6), mm, of the covariance of the step that an error of a camera's pose looks like in its plane.

    Its columns are errors about the implant's centre; between femur and tibia, 0.04 deg are 0.03 mm.
    """
    scale = 1 / _scale(implant)
    if deviations.plane_covariance is not None:
        variances, axes = np.linalg.eigh(deviations.plane_covariance)
        return np.asarray(scale[:, None] * axes * np.sqrt(variances.clip(0)))
    return np.diag(scale * np.repeat((deviations.plane_mm, deviations.plane_deg), 3))


def _disagreement(
    of_planes: Mapping[PlaneName, _OfPlane], relative: FloatArray, rays: Mapping[PlaneName, FloatArray]
) -> tuple[float, float, PlanesApart]:
    """How far apart the poses of two planes alone are.

    Chi-square of their difference, of six degrees of freedom; its part along the direction that both planes see, as
    the square of that by the tolerance of the cameras there; and that part itself. One plane agrees with itself.
    """
    if len(of_planes) != 2:
        return 0.0, 0.0, PlanesApart()
    difference, covariance, without_cameras = np.zeros(DOF), relative.copy(), np.zeros((DOF, DOF))
    by_mesh = np.zeros(DOF)
    for each, sign in ((of_planes["fs"], 1), (of_planes["bs"], -1)):
        loaded = each.matrix + _LOADING * np.diag(each.matrix).max() * np.eye(DOF)
        inverse = np.linalg.inv(loaded)
        difference += sign * inverse @ each.right
        by_mesh += sign * inverse @ each.by_mesh
        covariance += inverse @ (each.scores + each.effects @ each.effects.T) @ inverse
        of_edges = each.effects[:, _OF_CAMERA:]
        without_cameras += inverse @ (each.scores + of_edges @ of_edges.T) @ inverse
    without_cameras += np.outer(by_mesh, by_mesh)
    common = np.cross(rays["bs"], rays["fs"])
    common /= max(float(np.linalg.norm(common)), 1e-12)
    variance, of_cameras = (float(common @ each[:3, :3] @ common) for each in (without_cameras, relative))
    apart_mm = float(common @ difference[:3])
    return (
        float(difference @ np.linalg.solve(covariance, difference)),
        apart_mm**2 / of_cameras if of_cameras else 0.0,
        PlanesApart(apart_mm, float(np.sqrt(max(variance, 0.0)))),
    )


def of_center(covariance: FloatArray, implant: Implant) -> FloatArray:
    """Covariance of the mesh's centre, mm, and of the rotation vector, deg, from that of steps about the centre."""
    scale = _scale(implant)
    return covariance * np.outer(scale, scale)


def of_origin(covariance: FloatArray, implant: Implant, T_world_implant: FloatArray) -> FloatArray:
    """Covariance of the origin, mm, and of the rotation vector, deg, from that of steps about the centre."""
    A = to_origin(implant, T_world_implant)
    return A @ covariance @ A.T


def to_origin(implant: Implant, T_world_implant: FloatArray) -> FloatArray:
    """Errors (6, 6) of the origin, mm, and of the rotation vector, deg, by steps about the centre, mm."""
    return _moves(-(T_world_implant[:3, :3] @ implant.center_mm)) * _scale(implant)


def at_point(covariance: FloatArray, lever_mm: FloatArray) -> FloatArray:
    """Covariance of a pose, mm and deg, at a point of the body that is so far from the one it is given at."""
    A = _moves(lever_mm)
    return A @ covariance @ A.T


def _scale(implant: Implant) -> FloatArray:
    """From steps about the centre, mm, to mm and deg, (6,)."""
    return np.array([1.0] * 3 + [np.degrees(1) / implant.radius_mm] * 3)


def _moves(lever_mm: FloatArray) -> FloatArray:
    """Errors (6, 6) at the end of a lever by those at its start: a rotation vector w moves it by w x lever."""
    x, y, z = np.radians(lever_mm)
    A = np.eye(DOF)
    A[:3, 3:] = [[0, z, -y], [-z, 0, x], [y, -x, 0]]
    return A


def widest(covariance: FloatArray) -> float:
    """Largest standard deviation in any direction, of a (n, n) covariance."""
    return float(np.sqrt(max(np.linalg.eigvalsh(covariance)[-1], 0.0)))
