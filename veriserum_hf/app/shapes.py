"""Implants as the workbench draws and moves them."""

from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Future
from typing import NamedTuple

import cv2
import numpy as np
import trimesh

from veriserum_hf.app.helper import Helper
from veriserum_hf.app.moves import center_in_world
from veriserum_hf.core import FloatArray
from veriserum_hf.errors import MatchError
from veriserum_hf.geometry import Camera
from veriserum_hf.rendering import check_closed, outline, simplified
from veriserum_hf.viewer import View

_FINE_PX, _QUICK_PX = 512, 256  # longer edge of the image that an outline is traced in, to an eighth of a pixel
_FINE_MM, _QUICK_MM = 0.02, 0.1  # that simplified meshes are accurate to
_TOLERANCE_PX = 0.13  # of a contour with few corners, in that image: more than the steps of an eighth
_AT_ONCE = 30_000  # triangles of a mesh that is prepared while the page waits: for a quarter of a second
_CLEAR_MM = 20.0  # between an implant and an X-ray source, at least
_DECIMALS = 2
Contours = list[list[list[float]]]  # closed lines of (column, row)


class Meshes(NamedTuple):
    """Simplified meshes of an implant in mm: for what stands still, and for what moves."""

    fine: trimesh.Trimesh
    quick: trimesh.Trimesh


class Shape:
    """An implant.

    Parameters
    ----------
    name : in messages.
    mesh : closed, mm.
    prepared : its simplified meshes, or ValueError where it is not closed.

    Attributes
    ----------
    center_mm : (3,) centre of the mesh's bounding box, in its own coordinates.
    reach_mm : distance of its farthest corner from there.

    """

    def __init__(self, name: str, mesh: trimesh.Trimesh, prepared: Future[Meshes]) -> None:
        self._name, self._triangles, self._prepared = name, len(mesh.faces), prepared
        self.center_mm: FloatArray = mesh.bounds.mean(axis=0)
        self.reach_mm = float(np.linalg.norm(mesh.vertices - self.center_mm, axis=1).max())

    @property
    def meshes(self) -> Meshes:
        """Its simplified meshes; MatchError where they are still being prepared."""
        if not self._prepared.done():
            raise MatchError(f"{self._name} is being prepared: its mesh has {self._triangles:,} triangles")
        self.check()
        return self._prepared.result()

    def check(self) -> None:
        """Raise MatchError where it is known that it cannot be drawn."""
        if not self._prepared.done():
            return
        try:
            self._prepared.result()
        except ValueError as error:
            raise MatchError(f"{self._name} cannot be drawn: {error}") from error
        except (BrokenExecutor, CancelledError) as error:
            raise MatchError(
                f"{self._name} cannot be drawn: the process that prepared it was killed, perhaps for lack of memory"
            ) from error

    def contours(self, T_world_implant: FloatArray, view: View, *, quick: bool = False) -> Contours:
        """Outline in a plane's image, px; empty where the implant is outside.

        Parameters
        ----------
        T_world_implant : (4, 4) mm.
        view : the plane.
        quick : half as precise, in a third of the time.

        """
        size = view.fitted(_QUICK_PX if quick else _FINE_PX)
        mesh = self.meshes.quick if quick else self.meshes.fine
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
    """Implants by anatomy id, prepared when they are first needed; large ones in a process of their own.

    Parameters
    ----------
    meshes : closed, mm.

    Attributes
    ----------
    changed : called, from another thread, when an implant has been prepared in a process.
    prepared : how many were.

    """

    def __init__(self, meshes: Mapping[int, trimesh.Trimesh]) -> None:
        self._meshes = meshes
        self._known: dict[int, Shape] = {}
        self._helpers: list[Helper] = []
        self.changed: Callable[[], object] = int
        self.prepared = 0

    def __getitem__(self, anatomy_id: int) -> Shape:
        """Shape of an implant; MatchError where it has no mesh, or one that cannot be drawn."""
        if anatomy_id not in self._meshes:
            there = ", ".join(map(str, sorted(self._meshes))) or "none"
            raise MatchError(f"the data set has no mesh of implant {anatomy_id}, only of {there}")
        if anatomy_id not in self._known:
            mesh = self._meshes[anatomy_id]
            self._known[anatomy_id] = Shape(f"implant {anatomy_id}", mesh, self._prepare(mesh))
        shape = self._known[anatomy_id]
        shape.check()
        return shape

    def close(self) -> None:
        """End what is being prepared."""
        for helper in self._helpers:
            helper.end()

    def _prepare(self, mesh: trimesh.Trimesh) -> Future[Meshes]:
        if len(mesh.faces) <= _AT_ONCE:
            done: Future[Meshes] = Future()
            try:
                done.set_result(_prepared(mesh))
            except ValueError as error:
                done.set_exception(error)
            return done
        helper = Helper()
        self._helpers.append(helper)
        result = helper.submit(_prepared, mesh)
        result.add_done_callback(lambda _: self._ended(helper))
        return result

    def _ended(self, helper: Helper) -> None:
        self.prepared += 1
        helper.end()
        self.changed()


def _prepared(mesh: trimesh.Trimesh) -> Meshes:
    """Simplify a mesh; ValueError where it is not closed."""
    check_closed(mesh)
    fine = simplified(mesh, _FINE_MM)
    return Meshes(fine, simplified(fine, _QUICK_MM))
