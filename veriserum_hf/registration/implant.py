"""An implant: its mesh, and what a registration derives from it."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import trimesh

from veriserum_hf.core import FloatArray
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import Camera, transform_points
from veriserum_hf.rendering import check_closed, simplified

# Implants are centimetres large; another size means another unit.
_SIZES_MM = (10.0, 500.0)
_ROUGH_MM = 0.1  # accuracy of the mesh that states where an implant is in an image
_KEPT = 64  # implants


@dataclass(frozen=True, eq=False)
class Implant:
    """A closed mesh in mm.

    Raises
    ------
    RegistrationError
        If the mesh is not closed, or its size is not that of an implant.

    """

    anatomy_id: int
    mesh: trimesh.Trimesh

    def __post_init__(self) -> None:
        try:
            check_closed(self.mesh)
        except ValueError as error:
            raise RegistrationError(f"implant {self.anatomy_id}: {error}") from error
        size_mm = float(np.max(self.mesh.extents))
        low, high = _SIZES_MM
        if not low <= size_mm <= high:
            raise RegistrationError(
                f"implant {self.anatomy_id}: the mesh is {size_mm:.3g} mm large, expected {low:g} to {high:g} mm. Is "
                "it in another unit, such as metres? Scale it with its apply_scale()"
            )

    @cached_property
    def center_mm(self) -> FloatArray:
        """Centre of the mesh in its own coordinates, (3,) mm."""
        center: FloatArray = np.mean(self.mesh.bounds, axis=0)
        return center

    @cached_property
    def reach_mm(self) -> float:
        """Distance of the farthest corner from the centre, mm."""
        return float(np.linalg.norm(self.mesh.vertices - self.center_mm, axis=1).max())

    @cached_property
    def radius_mm(self) -> float:
        """Root mean square distance of the surface from the centre, mm."""
        corners = self.mesh.triangles_center - self.center_mm
        return float(np.sqrt(np.average((corners**2).sum(axis=1), weights=self.mesh.area_faces)))

    @cached_property
    def rough(self) -> trimesh.Trimesh:
        """Its mesh, enough to state where it is in an image."""
        return simplified(self.mesh, _ROUGH_MM)


@lru_cache(maxsize=_KEPT)
def implant_of(anatomy_id: int, mesh: trimesh.Trimesh) -> Implant:
    """Implant of a mesh, made once for all frames that show it; see `Implant` for what is raised."""
    return Implant(anatomy_id, mesh)


def central_ray(camera: Camera, implant: Implant, T_world_implant: FloatArray) -> FloatArray:
    """Unit vector from a source to the centre of an implant at a pose (4, 4) mm, (3,) in the world."""
    ray: FloatArray = transform_points(T_world_implant, implant.center_mm[None])[0] - camera.source_mm
    return ray / np.linalg.norm(ray)
