"""Implants as the workbench draws and moves them."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import trimesh

from veriserum_hf.app.moves import center_in_world
from veriserum_hf.core import FloatArray
from veriserum_hf.errors import MatchError
from veriserum_hf.geometry import Camera
from veriserum_hf.rendering import check_closed, outline, simplified
from veriserum_hf.viewer import View

_FINE_PX, _QUICK_PX = 512, 256  # longer edge of the image that an outline is traced in, to an eighth of a pixel
_FINE_MM, _QUICK_MM = 0.02, 0.1  # that simplified meshes are accurate to
_TOLERANCE_PX = 0.13  # of a contour with few corners, in that image: more than the steps of an eighth
_CLEAR_MM = 20.0  # between an implant and an X-ray source, at least
_DECIMALS = 2
Contours = list[list[list[float]]]  # closed lines of (column, row)


@dataclass(frozen=True, eq=False)
class Shape:
    """An implant.

    Attributes
    ----------
    fine, quick : meshes in mm, for what stands still and what moves.
    center_mm : (3,) centre of the mesh's bounding box, in its own coordinates.
    reach_mm : distance of its farthest corner from there.

    """

    fine: trimesh.Trimesh
    quick: trimesh.Trimesh
    center_mm: FloatArray
    reach_mm: float

    @classmethod
    def of_mesh(cls, mesh: trimesh.Trimesh) -> "Shape":
        """Shape of a closed mesh in mm; ValueError where it is not closed."""
        check_closed(mesh)
        fine = simplified(mesh, _FINE_MM)
        center_mm = mesh.bounds.mean(axis=0)
        reach_mm = float(np.linalg.norm(mesh.vertices - center_mm, axis=1).max())
        return cls(fine, simplified(fine, _QUICK_MM), center_mm, reach_mm)

    def contours(self, T_world_implant: FloatArray, view: View, *, quick: bool = False) -> Contours:
        """Outline in a plane's image, px; empty where the implant is outside.

        Parameters
        ----------
        T_world_implant : (4, 4) mm.
        view : the plane.
        quick : half as precise, in a third of the time.

        """
        size = view.fitted(_QUICK_PX if quick else _FINE_PX)
        mesh = self.quick if quick else self.fine
        step = view.columns_rows / size[::-1]
        found = []
        for contour in outline(mesh, T_world_implant, view.camera.resized(view.size, size), size):
            corners = cv2.approxPolyDP(contour.astype(np.float32)[:, None], _TOLERANCE_PX, True)[:, 0]
            found.append(np.round((corners.astype(np.float64) + 0.5) * step - 0.5, _DECIMALS).tolist())
        return found

    def check_in_front(self, T_world_implant: FloatArray, camera: Camera, name: str) -> None:
        """Raise MatchError where the implant would come near an X-ray source, or behind it."""
        depth_mm = float(camera.depths_mm(center_in_world(T_world_implant, self.center_mm)))
        if depth_mm < self.reach_mm + _CLEAR_MM:
            raise MatchError(f"the {name} would reach the X-ray source; it stays where it is")


class Shapes:
    """Implants by anatomy id, prepared when they are first needed."""

    def __init__(self, meshes: Mapping[int, trimesh.Trimesh]) -> None:
        self._meshes = meshes
        self._known: dict[int, Shape] = {}

    def __getitem__(self, anatomy_id: int) -> Shape:
        """Shape of an implant; MatchError where it has no mesh, or one that cannot be drawn."""
        if anatomy_id not in self._known:
            if anatomy_id not in self._meshes:
                there = ", ".join(map(str, sorted(self._meshes))) or "none"
                raise MatchError(f"the data set has no mesh of implant {anatomy_id}, only of {there}")
            try:
                self._known[anatomy_id] = Shape.of_mesh(self._meshes[anatomy_id])
            except ValueError as error:
                raise MatchError(f"implant {anatomy_id} cannot be drawn: {error}") from error
        return self._known[anatomy_id]
