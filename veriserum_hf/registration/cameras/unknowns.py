"""What may be wrong with the cameras of a rig, and how each of it moves outlines in the images.

The world stays where it is: the source of the first plane and its axes. An error of the second camera's pose looks in
its plane like the inverse motion of all implants. Poses are those when the first plane is exposed: a second plane
that is exposed later sees every implant moved on by its own velocity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from veriserum_hf.core import BoolArray, FloatArray, PlaneName
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import Camera, invert_transform, make_transform, transform_points
from veriserum_hf.registration.deviations import harmonics
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.outline.levels import Level
from veriserum_hf.registration.outline.residuals import Residuals
from veriserum_hf.registration.scene import DOF

Free = Literal["fs-pose", "sid", "principal-point", "time"]
_WAVES = 4
FREE: tuple[Free, ...] = ("fs-pose", "sid", "principal-point", "time")
_STILL = np.zeros(DOF)


@dataclass(frozen=True)
class Tolerances:
    """Standard deviations of the unknowns before any image is seen; of what is held, they enter the covariance.

    Attributes
    ----------
    plane_mm, plane_deg : pose of the second camera with respect to the first, along and about each axis.
    principal_point_mm : along each axis of a detector.
    sid_mm : distance of source and detector.
    scale : of the meshes, as a share.
    mesh_mm : of the surfaces of a mesh, outwards, the same all over it.
    edge_px : amplitude of the error of edges that varies with their direction, the same in all frames, in pixels of
        the finest scale.
    async_ms : time between the exposures of the planes.

    """

    plane_mm: float = 2.0
    plane_deg: float = 0.5
    principal_point_mm: float = 0.2
    sid_mm: float = 2.0
    scale: float = 0.002
    mesh_mm: float = 0.1
    edge_px: float = 0.1
    async_ms: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (np.isfinite(value) and value > 0):
                raise RegistrationError(f"the tolerance {field.name} is {value}; expected a finite number above 0")


@dataclass(frozen=True, eq=False)
class Rig:
    """Cameras of one group of frames, of images of one size, and where the implants are.

    Attributes
    ----------
    cameras : by plane, the first defines the world.
    pixel_mm : by plane, (2,) width and height of a pixel on the detector.
    center_mm : (3,) mean place of the implants; the second camera is moved about it.

    """

    cameras: Mapping[PlaneName, Camera]
    pixel_mm: Mapping[PlaneName, FloatArray]
    center_mm: FloatArray

    def sid_mm(self, plane: PlaneName) -> float:
        """Distance of source and detector."""
        return float(self.cameras[plane].intrinsics[0, 0] * self.pixel_mm[plane][0])


@dataclass(frozen=True, eq=False)
class Unknowns:
    """Unknowns of a rig with N of them: their names, tolerances, and which are free.

    Names, in this order: ``fs shift x mm``, ..., ``fs rotation x deg``, ...; for each plane ``bs principal point x
    mm``, ``... y mm``, ``bs sid mm``; ``scale``; for each implant ``mesh 7 mm``; for each implant and plane four ways
    in which errors of edges vary with their direction, ``mesh 7 bs edges 1 px``, ...; ``fs late ms``, by how much
    later than ``bs`` the plane ``fs`` is exposed. It moves only implants whose velocity is given.
    """

    rig: Rig
    anatomy_ids: Sequence[int]
    free: Sequence[Free]
    tolerances: Tolerances

    @property
    def planes(self) -> list[PlaneName]:
        """The planes of the rig."""
        return list(self.rig.cameras)

    @property
    def names(self) -> list[str]:
        """Names of all N."""
        names = []
        if len(self.planes) > 1:
            second = self.planes[1]
            names += [f"{second} shift {axis} mm" for axis in "xyz"] + [
                f"{second} rotation {axis} deg" for axis in "xyz"
            ]
        for plane in self.planes:
            names += [f"{plane} principal point {axis} mm" for axis in "xy"] + [f"{plane} sid mm"]
        names += ["scale", *(f"mesh {id} mm" for id in self.anatomy_ids)]
        outlines = [f"mesh {id} {plane}" for id in self.anatomy_ids for plane in self.planes]
        names += [f"{outline} edges {n} px" for outline in outlines for n in range(1, _WAVES + 1)]
        return [*names, *(f"{second} late ms" for second in self.planes[1:])]

    @property
    def tolerance(self) -> FloatArray:
        """(N,) standard deviations before."""
        given = self.tolerances
        values = [given.plane_mm] * 3 + [given.plane_deg] * 3 if len(self.planes) > 1 else []
        values += [given.principal_point_mm, given.principal_point_mm, given.sid_mm] * len(self.planes)
        outlines = len(self.anatomy_ids) * len(self.planes)
        of_implants = [given.mesh_mm] * len(self.anatomy_ids) + [given.edge_px] * (_WAVES * outlines)
        return np.array([*values, given.scale, *of_implants, *([given.async_ms] * len(self.planes[1:]))])

    @property
    def is_free(self) -> BoolArray:
        """(N,) bool."""
        kinds = {
            "shift": "fs-pose",
            "rotation": "fs-pose",
            "principal": "principal-point",
            "sid": "sid",
            "late": "time",
        }
        return np.array([kinds.get("".join(name.split()[1:2])) in self.free for name in self.names])

    @property
    def is_of_rig(self) -> BoolArray:
        """(N,) bool, whether it is of cameras or of the time between them; the others are of meshes and edges."""
        return np.array([name.split()[0] in self.planes for name in self.names])

    @property
    def is_time(self) -> BoolArray:
        """(N,) bool."""
        return np.array([name.endswith(" ms") for name in self.names])

    @property
    def is_free_camera(self) -> BoolArray:
        """(N,) bool, free unknowns of cameras alone."""
        return self.is_free & ~self.is_time

    def late_ms(self, values: FloatArray) -> float:
        """By how much later than the first plane the second is exposed; 0 where there is one."""
        return float(values[-1]) if len(self.planes) > 1 else 0.0

    def cameras(self, values: FloatArray) -> dict[PlaneName, Camera]:
        """Cameras of the rig after a change by values (N,)."""
        found, left = {}, list(np.asarray(values))
        T = np.eye(4)
        if len(self.planes) > 1:
            shift_mm, rotation_deg = np.array(left[:3]), np.array(left[3:DOF])
            R = Rotation.from_rotvec(rotation_deg, degrees=True).as_matrix()
            T = make_transform(R, self.rig.center_mm + shift_mm - R @ self.rig.center_mm)
            del left[:DOF]
        for n, (plane, camera) in enumerate(self.rig.cameras.items()):
            x_mm, y_mm, sid_mm = left[3 * n : 3 * n + 3]
            K = camera.intrinsics.copy()
            K[:2, 2] += np.array([x_mm, y_mm]) / self.rig.pixel_mm[plane]
            K[[0, 1], [0, 1]] *= 1 + sid_mm / self.rig.sid_mm(plane)
            moved = camera.world_to_camera @ invert_transform(T) if n else camera.world_to_camera
            found[plane] = Camera(K, moved)
        return found

    def derivatives(
        self,
        plane: PlaneName,
        own: Residuals,
        level: Level,
        implant: Implant,
        T_world_implant: FloatArray,
        velocity: FloatArray = _STILL,
    ) -> FloatArray:
        """Displacement of an outline along its normals by each unknown, (n, N) px per unit.

        The pose is the one that the plane sees; the velocity (6,) a step in mm/ms.
        """
        number, pieces = self.planes.index(plane), own.pieces
        center_mm = transform_points(T_world_implant, implant.center_mm[None])[0]
        lever_mm = transform_points(T_world_implant, pieces.points_mm) - center_mm
        columns: list[FloatArray] = []
        if len(self.planes) > 1:
            pose = _as_step(center_mm - self.rig.center_mm, implant.radius_mm)
            columns += list((own.by_step @ pose).T) if number == 1 else [np.zeros(len(lever_mm))] * DOF
        K, pixel_mm = level.camera.intrinsics, level.view.pixel_mm
        for n in range(len(self.planes)):
            if n != number:
                columns += [np.zeros(len(lever_mm))] * 3
                continue
            columns += [pieces.normals[:, 0] / pixel_mm[0], pieces.normals[:, 1] / pixel_mm[1]]
            columns += [(pieces.normals * (pieces.px - K[:2, 2])).sum(axis=1) / self.rig.sid_mm(plane)]
        columns += [(own.by_step[:, :3] * lever_mm).sum(axis=1)]
        px_per_mm = np.sqrt(K[0, 0] * K[1, 1]) / level.camera.depths_mm(lever_mm + center_mm)
        columns += [px_per_mm * (implant.anatomy_id == id) for id in self.anatomy_ids]
        waves = harmonics(pieces.normals)
        for id in self.anatomy_ids:
            for n in range(len(self.planes)):
                columns += [wave * (implant.anatomy_id == id and n == number) for wave in waves]
        if len(self.planes) > 1:
            columns += [own.by_step @ velocity * (number == 1)]
        return np.stack(columns, axis=1)


def _as_step(from_center_mm: FloatArray, radius_mm: float) -> FloatArray:
    """Step of an implant that looks like a shift (mm) and rotation (deg) of the camera, (6, 6)."""
    x, y, z = from_center_mm
    A = np.zeros((DOF, DOF))
    A[:3, :3] = -np.eye(3)
    A[:3, 3:] = np.radians([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    A[3:, 3:] = -np.radians(radius_mm) * np.eye(3)
    return A
