"""Frames of the worlds of `tests.benchmarks.wrong_worlds`, and the cameras and meshes that are given with them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import manifold3d
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.benchmarks import independent_chain as chains
from tests.benchmarks.independent_chain import FINE_PX, SIZE_PX, Chain, Floats
from tests.benchmarks.independent_frames import traced_mm
from tests.benchmarks.surroundings import cables_and_table, fixtures, legs, plastic
from tests.benchmarks.wrong_worlds import Given, Seen
from veriserum_hf.core import CAMERA_OF, COMPONENTS, PLANES, CameraRow, Component, FloatArray, PlaneName
from veriserum_hf.geometry import Plane, make_transform, transform_points
from veriserum_hf.simulation.calibrations import moved_fs
from veriserum_hf.simulation.imaging import Part
from veriserum_hf.simulation.implants import IMPLANTS, implant_mesh
from veriserum_hf.simulation.scenario import Trial, trial
from veriserum_hf.simulation.settings import Settings

WORLD = Settings(trials=60, frames_per_trial=3, seed=23)  # the central frame of each trial is registered
_FRAME = 1
_EXPOSURES = 5  # a moving frame is averaged over
_BRIGHTEST = 0.93  # signal, 1 is white
_SHADE, _THICK_MM = 0.45, 40  # signal of a leg, where it is so thick: exposed for it, its surroundings are clipped


@dataclass(frozen=True)
class TrueFrame:
    """Poses, cameras and surroundings of one frame, and what is seen of it."""

    index: int

    @cached_property
    def shown(self) -> Trial:
        """Its trial."""
        return trial(WORLD, self.index)

    def rng(self, *purpose: int) -> np.random.Generator:
        """Random numbers for one purpose, the same in all worlds."""
        return np.random.default_rng([WORLD.seed, self.index, *purpose])

    def poses(self, along_mm: float = 0) -> dict[Component, FloatArray]:
        """Poses where the faster implant's surface has moved so far (RMS), at the velocity of the adjacent frames."""
        ids, T = self.shown.anatomy_ids, {name: self.shown.pose(name, _FRAME) for name in self.shown.anatomy_ids}
        corners_mm = {name: trimesh.bounds.corners(implant_mesh(id).bounds) for name, id in ids.items()}
        velocities, speeds = {}, []
        for name in ids:
            ends_mm = [transform_points(self.shown.pose(name, _FRAME + step), corners_mm[name]) for step in (-1, 1)]
            rotation = self.shown.pose(name, _FRAME + 1)[:3, :3] @ self.shown.pose(name, _FRAME - 1)[:3, :3].T
            velocities[name] = (ends_mm[1] - ends_mm[0]).mean(axis=0), Rotation.from_matrix(rotation).as_rotvec()
            speeds.append(np.sqrt(((ends_mm[1] - ends_mm[0]) ** 2).sum(axis=1).mean()))
        part, moved = along_mm / max(speeds), {}
        for name, (shift_mm, rotvec) in velocities.items():
            center_mm = transform_points(T[name], corners_mm[name]).mean(axis=0)
            R = Rotation.from_rotvec(part * rotvec).as_matrix()
            to_mm = center_mm + part * shift_mm - R @ (center_mm - T[name][:3, 3])
            moved[name] = make_transform(R @ T[name][:3, :3], to_mm)
        return moved

    @cached_property
    def _traced(self) -> dict[tuple[PlaneName, float, bool, bool, bool], dict[str, Floats]]:
        return {}

    def lengths_mm(self, plane: PlaneName, along_mm: float, seen: Seen) -> dict[str, Floats]:
        """Path lengths by material of implants and fixtures; traced once for all worlds."""
        key = plane, along_mm, seen.sided, seen.embedded, seen.leg
        if key not in self._traced:
            lengths: dict[str, Floats] = {}
            rng = self.rng(1)
            for name, T in self.poses(along_mm).items():
                id = self.shown.anatomy_ids[name]
                mesh = sided_shape(id) if seen.sided else implant_mesh(id)
                parts = [Part(mesh, IMPLANTS[id].material, T)]
                if not seen.leg:
                    parts += fixtures(name, mesh, T, rng)
                if seen.embedded:
                    parts += plastic(name, T)
                for part in parts:
                    add = traced_mm(part, self.shown.session.rig[plane], FINE_PX)
                    if add:
                        blank = np.zeros((FINE_PX, FINE_PX), np.float32)
                        lengths.setdefault(part.material, blank)[add[0]] += add[1].astype(np.float32)
            self._traced[key] = lengths
        return self._traced[key]

    def image(self, seen: Seen, plane: PlaneName) -> NDArray[np.uint8]:
        """Corrected grey image."""
        number, rig = PLANES.index(plane), self.shown.session.rig
        chain = Chain.random(self.rng(2, number))
        late_mm = seen.apart_mm if plane == "fs" else 0.0
        steps_mm = np.linspace(-0.5, 0.5, _EXPOSURES) * seen.within_mm if seen.within_mm else (0.0,)
        still: dict[str, Floats] = {}
        if seen.leg:
            _add(still, legs(self.poses(), rig[plane], self.rng(3)))
        if seen.cables:
            _add(still, cables_and_table(self.rng(4, number)))
        through = np.zeros((FINE_PX, FINE_PX), np.float32)
        for step_mm in steps_mm:
            lengths = {} if seen.empty else dict(self.lengths_mm(plane, late_mm + float(step_mm), seen))
            _add(lengths, still.items())
            through += chains.transmission(lengths, chain) / len(steps_mm)
        field_signal = chains.open_field(chain, seen.narrower)
        primary = field_signal * through
        if seen.distortion_px:
            primary = chains.bent(primary, seen.distortion_px, self.rng(5, number))
        if seen.collimator:
            primary = chains.collimated(primary, *self._blade(plane))
        signal = chains.detected(primary, field_signal, chain)
        full = _BRIGHTEST / signal.max()
        if seen.leg:
            full = _SHADE / np.median(signal[chains.coarse(still["tissue"]) > _THICK_MM])
        signal *= full * seen.exposure
        signal = chains.noisy(signal, chain, seen.noise, self.rng(6, number))
        image = chains.grey(signal, seen.response, chain.gamma * seen.gamma)
        if seen.size_px != SIZE_PX:
            image = chains.as_size(image, seen.size_px)
        return chains.as_jpeg(image, seen.jpeg) if seen.jpeg else image

    def _blade(self, plane: PlaneName) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Point on the fine grid and normal of a collimator's edge across the femur or the tibia, from outside."""
        rng, names = self.rng(7), COMPONENTS if self.index % 2 else COMPONENTS[::-1]
        T = self.poses()
        px = [
            self.shown.session.rig[plane].project(
                transform_points(T[name], implant_mesh(self.shown.anatomy_ids[name]).vertices), FINE_PX
            )
            for name in names
        ]
        outward = px[0].mean(axis=0) - px[1].mean(axis=0)
        angle = np.arctan2(outward[1], outward[0]) + np.radians(rng.uniform(-40, 40))
        normal = np.array([np.cos(angle), np.sin(angle)])
        return px[0][np.argsort(px[0] @ normal)[int(rng.uniform(0.5, 0.8) * len(px[0]))]], normal

    def cameras(self, given: Given, size_px: int) -> dict[str, CameraRow]:
        """Cameras that the registration is given, of images of this size; errors in random directions."""
        rng, cameras = self.rng(8), {}
        for plane in PLANES:
            true = self.shown.session.rig[plane]
            shift, axis, principal = map(_direction, (rng, rng, rng), (3, 3, 2))
            T = true.T_world_intensifier
            if plane == "fs" and (given.fs_mm or given.fs_deg):
                T = moved_fs(given.fs_mm * shift, given.fs_deg * axis)
            wrong = Plane(
                T,
                true.principal_point_mm + given.principal_mm * principal,
                true.sid_mm + given.sid_mm * rng.choice((-1, 1)),
            )
            cameras[CAMERA_OF[plane]] = wrong.camera(size_px)
        return cameras

    def meshes(self, given: Given, seen: Seen) -> dict[int, trimesh.Trimesh]:
        """Meshes that the registration is given, by the ids of the true ones."""
        meshes = {}
        for name, id in self.shown.anatomy_ids.items():
            source = _other(id, self.index) if name == given.another else id
            meshes[id] = given_mesh(source, given, seen.sided)
        return meshes


def _direction(rng: np.random.Generator, axes: int) -> FloatArray:
    vector = rng.normal(size=axes)
    return vector / np.linalg.norm(vector)


def _add(lengths: dict[str, Floats], more: Iterable[tuple[str, Floats]]) -> None:
    for material, length_mm in more:
        lengths[material] = lengths[material] + length_mm if material in lengths else length_mm


def _other(anatomy_id: int, index: int) -> int:
    """Another implant of the same component."""
    others = [id for id, model in IMPLANTS.items() if model.component == IMPLANTS[anatomy_id].component]
    others.remove(anatomy_id)
    return others[index // 2 % len(others)]


@lru_cache
def given_mesh(anatomy_id: int, given: Given, sided: bool) -> trimesh.Trimesh:
    """Mesh of an implant with the errors of a world."""
    mesh = (sided_shape(anatomy_id) if sided else implant_mesh(anatomy_id)).copy()
    if given.triangles:
        mesh = simplified(mesh, given.triangles)
    if given.offset_mm:
        mesh.vertices = mesh.vertices + given.offset_mm * mesh.vertex_normals
    if given.scale != 1:
        mesh.apply_scale(given.scale)
    if given.mirrored:
        mesh.apply_transform(np.diag((-1.0, 1, 1, 1)))
    return mesh


def simplified(mesh: trimesh.Trimesh, triangles: int) -> trimesh.Trimesh:
    """Mesh of at most so many triangles, closed."""
    solid = manifold3d.Manifold(manifold3d.Mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32)))
    tolerance_mm = 0.01
    while solid.num_tri() > triangles:
        solid = solid.simplify(tolerance_mm)
        tolerance_mm *= 1.3
    fewer = solid.to_mesh()
    return trimesh.Trimesh(fewer.vert_properties[:, :3], fewer.tri_verts)


@lru_cache
def sided_shape(anatomy_id: int) -> trimesh.Trimesh:
    """Implant whose front leans aside and of which one half is deeper, as of a side-specific design.

    Trays of the simulator are symmetric but for one, and its femoral components nearly so.
    """
    mesh = implant_mesh(anatomy_id).copy()
    x, y, z = mesh.vertices.T
    mesh.vertices = np.column_stack([x + 0.12 * z, y, z * (1 + 0.003 * x)])
    return mesh
