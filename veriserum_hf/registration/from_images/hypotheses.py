"""Hypotheses of an implant's pose, from templates of its outline in one plane or two."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.geometry import Camera
from veriserum_hf.registration.from_images.edge_maps import EdgeMap
from veriserum_hf.registration.from_images.template_scan import STRIDE, ScoreGrid, best_of_pairs
from veriserum_hf.registration.from_images.templates import ReducedMesh, Templates

_SPREAD_PX = 2  # of edges: what 12 degrees between templates move an outline by
_ANGLES = np.linspace(0, 2 * np.pi, 30, endpoint=False)  # in the image
_FINER = 3  # the second plane's templates are the nearest of so many times more directions
# Distances of an implant from the source that are tried in one plane, as shares of the detector's.
_SHARES = 0.36 * 1.08 ** np.arange(14)
_ALONG_RAY_MM = np.linspace(-240.0, 240.0, 129)  # of the points on a ray of one plane that are looked up in the other
_DEPTH = 0.1  # in one plane, depth hardly changes an image: a difference in depth counts a tenth


@dataclass(frozen=True, eq=False)
class Region:
    """A ball in the world that the centre of an implant is in."""

    center_mm: FloatArray
    radius_mm: float

    def contains(self, points_mm: FloatArray) -> BoolArray:
        """Whether points (..., 3) are in the region."""
        inside: BoolArray = np.linalg.norm(points_mm - self.center_mm, axis=-1) <= self.radius_mm
        return inside


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Poses of an implant, the best first.

    Attributes
    ----------
    rotations : (N, 3, 3) implant to world.
    centers_mm : (N, 3) of the implant's centre in the world.
    scores : (N,) 0 to 1.

    """

    rotations: FloatArray
    centers_mm: FloatArray
    scores: FloatArray

    def __add__(self, other: "Hypotheses") -> "Hypotheses":
        both = self.followed_by(other)
        return Hypotheses.best_first(both.rotations, both.centers_mm, both.scores)

    @classmethod
    def best_first(cls, rotations: FloatArray, centers_mm: FloatArray, scores: FloatArray) -> "Hypotheses":
        """Order hypotheses by their scores; those without any edge are dropped."""
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] > 0]
        return cls(rotations[order], centers_mm[order], scores[order])

    def followed_by(self, others: "Hypotheses") -> "Hypotheses":
        """Return these, then others, whatever their scores."""
        return Hypotheses(
            *(
                np.concatenate([getattr(self, name), getattr(others, name)])
                for name in ("rotations", "centers_mm", "scores")
            )
        )

    def taken(self, index: Sequence[int] | NDArray[np.intp]) -> "Hypotheses":
        """Some of the hypotheses."""
        index = np.asarray(index, dtype=np.intp)
        return Hypotheses(self.rotations[index], self.centers_mm[index], self.scores[index])

    def distinct(self, count: int, mm: float, deg: float, cameras: Sequence[Camera]) -> "Hypotheses":
        """Return the best ``count`` of which none is within ``mm`` and ``deg`` of a better one.

        In one plane, a distance is that at right angles to the ray, and a tenth of that along it.
        """
        return self.taken(self.distinct_places(count, mm, deg, cameras))

    def distinct_places(self, count: int, mm: float, deg: float, cameras: Sequence[Camera]) -> list[int]:
        """Places of `distinct` among these."""
        centers = self.centers_mm
        if len(cameras) == 1 and len(centers):
            in_camera = centers @ cameras[0].world_to_camera[:3, :3].T + cameras[0].world_to_camera[:3, 3]
            depth = in_camera[:, 2:]
            centers = np.concatenate([in_camera[:, :2] / depth * np.median(depth), _DEPTH * depth], axis=1)
        quaternions = Rotation.from_matrix(self.rotations).as_quat()
        half_cosine = np.cos(np.radians(deg) / 2)
        kept: list[int] = []
        for k in range(len(centers)):
            same = np.abs(quaternions[kept] @ quaternions[k]) > half_cosine
            if not (same & (np.linalg.norm(centers[kept] - centers[k], axis=1) < mm)).any():
                kept.append(k)
                if len(kept) == count:
                    break
        return kept


def from_one_plane(
    plane: EdgeMap, mesh: ReducedMesh, detector_mm: float, sign: float, directions: int, region: Region | None = None
) -> Hypotheses:
    """Hypotheses from the image of one plane: the best position of each template at each distance.

    Parameters
    ----------
    plane, mesh : image and implant.
    detector_mm : distance of the detector from the source; the implant is between them.
    sign : 1 where implants are darker than what surrounds them, else -1.
    directions : number of directions that the implant is seen from.
    region : that the implant is in, if this is known.

    """
    camera = plane.camera
    templates = Templates.of_mesh(mesh, directions, float(np.mean(_SHARES)) * detector_mm)
    responses, focal_px = plane.responses(_SPREAD_PX, sign), _focal_px(camera)
    in_image = _in_image(templates)
    found = []
    for depth_mm in _SHARES * detector_mm:
        points_px = templates.points_mm * (focal_px / depth_mm)
        grid = ScoreGrid.of_responses(responses, points_px)
        rays = _rays(camera, grid.positions_px())
        at_mm = camera.source_mm + depth_mm * rays @ camera.world_to_camera[:3, :3]
        wanted = np.ones(len(at_mm), dtype=bool) if region is None else region.contains(at_mm)
        if not wanted.any():
            continue
        scores, places = grid.best(points_px, templates.normals, _ANGLES, wanted)
        to_camera = _ray_axes(rays[places.ravel()]).swapaxes(1, 2)
        rotations = camera.world_to_camera[:3, :3].T @ to_camera @ in_image
        found.append(Hypotheses(rotations, at_mm[places.ravel()], scores.ravel()))
    return sum(found, Hypotheses(np.empty((0, 3, 3)), np.empty((0, 3)), np.empty(0)))


def from_two_planes(
    planes: Sequence[EdgeMap], mesh: ReducedMesh, sign: float, directions: int, region: Region | None = None
) -> Hypotheses:
    """Hypotheses from the images of two planes, whose positions must agree; see `from_one_plane`.

    Templates are seen from where the planes' fields meet (or the region): elsewhere the directions of view differ by
    some degrees, which the rotation of a hypothesis takes into account.
    """
    cameras = [plane.camera for plane in planes]
    meeting_mm = meeting_point(planes) if region is None else region.center_mm
    distances_mm = [float(camera.depths_mm(meeting_mm)) for camera in cameras]
    templates = Templates.of_mesh(mesh, _FINER * directions, float(np.mean(distances_mm)))
    points_px = [
        templates.points_mm * (_focal_px(camera) / distance)
        for camera, distance in zip(cameras, distances_mm, strict=True)
    ]
    grids = [
        ScoreGrid.of_responses(plane.responses(_SPREAD_PX, sign), points)
        for plane, points in zip(planes, points_px, strict=True)
    ]
    to_ray = [
        _ray_axes((meeting_mm - camera.source_mm)[None] @ camera.world_to_camera[:3, :3].T)[0]
        @ camera.world_to_camera[:3, :3]
        for camera in cameras
    ]
    rotations = to_ray[0].T @ _in_image(templates, _FINER)
    nearest = [templates.nearest(axes @ rotations) for axes in to_ray]
    rays_mm, lines = zip(*(_epipolar(k, cameras, grids, meeting_mm, region) for k in (0, 1)), strict=True)
    sums, places = best_of_pairs(
        (grids[0].memory, grids[1].memory),
        (grids[0].width, grids[1].width),
        (grids[0].margin, grids[1].margin),
        (grids[0].shape, grids[1].shape),
        (points_px[0], points_px[1]),
        templates.normals,
        np.stack([index for index, _ in nearest], axis=1),
        np.stack([angle for _, angle in nearest], axis=1),
        lines,
    )
    centers_mm = np.concatenate([rays_mm[k][places[:, k, 0], places[:, k, 1]] for k in (0, 1)])
    tilts = np.mean([_tilts(camera.source_mm, meeting_mm, centers_mm) for camera in cameras], axis=0)
    seen = Rotation.from_rotvec(tilts).as_matrix() @ np.concatenate([rotations, rotations])
    return Hypotheses.best_first(seen, centers_mm, sums.T.ravel() / 2)


def meeting_point(planes: Sequence[EdgeMap]) -> FloatArray:
    """Point nearest to the rays through the centres of two images, (3,) mm; NaN where these are parallel."""
    centers_px = [(np.array(plane.in_field.shape[::-1]) - 1) / 2 for plane in planes]
    return planes[0].camera.triangulate(centers_px[0], planes[1].camera, centers_px[1])


def _epipolar(
    k: int, cameras: Sequence[Camera], grids: Sequence[ScoreGrid], meeting_mm: FloatArray, region: Region | None
) -> tuple[FloatArray, NDArray[np.int32]]:
    """Points on the rays of all positions of plane ``k``, (n, S, 3) mm, and their positions in the other, (n, S)."""
    source_mm, directions = cameras[k].rays(grids[k].positions_px())
    along_mm = np.linalg.norm(meeting_mm - source_mm) + _ALONG_RAY_MM
    points_mm = source_mm + directions[:, None] * along_mm[:, None]
    px = np.nan_to_num(cameras[1 - k].project(points_mm), nan=-STRIDE)
    column, row = np.rint(np.clip(px / STRIDE, -1, 1e6)).astype(np.int32).transpose(2, 0, 1)
    rows, columns = grids[1 - k].shape
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows) & (along_mm > 0)
    if region is not None:
        inside &= region.contains(points_mm)
    return points_mm, np.where(inside, row * columns + column, -1).astype(np.int32)


def _tilts(source_mm: FloatArray, from_mm: FloatArray, to_mm: FloatArray) -> FloatArray:
    """Rotation vectors (n, 3), small, of the ray to one point to those to others (n, 3)."""
    before, after = (
        directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        for directions in (from_mm - source_mm, to_mm - source_mm)
    )
    tilts: FloatArray = np.cross(before, after)
    return tilts


def _in_image(templates: Templates, every: int = 1) -> FloatArray:
    """Rotations of templates at all angles in the image, (D * A, 3, 3)."""
    in_plane = Rotation.from_rotvec(_ANGLES[:, None] * (0.0, 0.0, 1.0)).as_matrix()
    rotations: FloatArray = in_plane @ templates.rotations[::every, None]
    return rotations.reshape(-1, 3, 3)


def _focal_px(camera: Camera) -> float:
    return float(np.sqrt(camera.intrinsics[0, 0] * camera.intrinsics[1, 1]))


def _rays(camera: Camera, px: FloatArray) -> FloatArray:
    """Points (n, 3) in the camera's axes at a depth of 1 that are seen at pixels (n, 2)."""
    K = camera.intrinsics
    return np.concatenate([(px - K[:2, 2]) / K.diagonal()[:2], np.ones((len(px), 1))], axis=1)


def _ray_axes(rays: FloatArray) -> FloatArray:
    """Rotations (n, 3, 3) of a camera's axes to those of rays (n, 3), whose z axes they are."""
    z = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    x = np.cross((0.0, 1.0, 0.0), z)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], axis=1)
