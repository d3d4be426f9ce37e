"""Axes of the implants of a knee: from a file of landmarks, or from the meshes themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trimesh
import yaml

from veriserum_hf.core import COMPONENTS, SIDES, Component, FloatArray, Side, listed, load_plain_yaml, text_lines
from veriserum_hf.errors import KinematicsError
from veriserum_hf.geometry import Condyles, Tray, axes_in_mesh, shown_side
from veriserum_hf.knee.landmarks import Landmarks, check_on_surface, landmark_axes, landmarks_of

Meshes = Mapping[int, trimesh.Trimesh]


@dataclass(frozen=True, eq=False)
class ImplantAxes:
    """Axes of one component: x to the patient's left, y proximal, z anterior.

    Attributes
    ----------
    component : femur or tibia.
    T_implant_axes : (4, 4) from the axes to the coordinates of the mesh, mm.
    found_in : what the axes are from: ``"landmarks"``, ``"mesh"``, or ``"file"`` where they are those of the mesh's
        file.
    shape : of the mesh, where they are from it.
    landmarks : where they are from them.

    """

    component: Component
    T_implant_axes: FloatArray
    found_in: str
    shape: Condyles | Tray | None = None
    landmarks: Landmarks = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class KneeAxes:
    """Side of a knee, and the axes of its implants by anatomy id."""

    side: Side
    implants: Mapping[int, ImplantAxes]


@dataclass(frozen=True, eq=False)
class AxesFile:
    """Content of a file of axes: side, and landmarks by anatomy id, with the component of each."""

    path: Path
    side: Side
    landmarks: Mapping[int, tuple[Component, Landmarks]]


def read_axes(path: Path) -> AxesFile:
    """Read a YAML file of axes: ``side``, and under ``implants`` anatomy ids with ``component`` and landmarks.

    Raises
    ------
    KinematicsError
        If the file cannot be read, or a value is missing, unknown or invalid.

    """
    try:
        found = load_plain_yaml("\n".join(text_lines(path, KinematicsError)))
    except (ValueError, yaml.YAMLError) as error:
        raise KinematicsError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or found.get("side") not in SIDES or set(found) - {"side", "implants"}:
        shown = listed(map(str, found), 6) if isinstance(found, dict) else str(found)[:60]
        side = f", side: {found.get('side')}" if isinstance(found, dict) else ""
        raise KinematicsError(f"{path} holds {shown}{side}; expected side: left or right, and implants")
    implants = found.get("implants") or {}
    if not isinstance(implants, dict):
        raise KinematicsError(f"{path}: implants is {str(implants)[:60]}; expected landmarks by anatomy id")
    landmarks: dict[int, tuple[Component, Landmarks]] = {}
    for id, content in implants.items():
        component = content.get("component") if isinstance(content, dict) else None
        if not isinstance(id, int) or component not in COMPONENTS:
            raise KinematicsError(
                f"{path}: implant {id} has the component {component}; expected a whole number, an anatomy id, with "
                f"component: {' or '.join(COMPONENTS)}"
            )
        try:
            landmarks[id] = component, landmarks_of(component, {k: v for k, v in content.items() if k != "component"})
        except KinematicsError as error:
            raise KinematicsError(f"{path}, {component} {id}: {error}") from error
    return AxesFile(path, found["side"], landmarks)


def knee_axes(given: AxesFile | Side, implants: Mapping[int, Component], meshes: Meshes) -> KneeAxes:
    """Axes of the implants that poses are of.

    Parameters
    ----------
    given : a file, or the side of the knee alone.
    implants : components by anatomy id.
    meshes : by anatomy id; those of landmarks are checked, and those without landmarks give the axes.

    Raises
    ------
    KinematicsError
        If the file has the axes of other implants than these, an implant has neither landmarks nor a mesh, its axes
        cannot be found, or its mesh is made for the other knee.

    """
    landmarks = given.landmarks if isinstance(given, AxesFile) else {}
    side: Side = given.side if isinstance(given, AxesFile) else given
    if isinstance(given, AxesFile):
        _check_same_implants(given, implants)
    axes = {}
    for id, component in implants.items():
        try:
            axes[id] = _axes_of(id, component, landmarks, side, meshes)
        except KinematicsError as error:
            where = f"{given.path}, " if isinstance(given, AxesFile) and id in landmarks else ""
            way_out = "" if id in landmarks else ". Give landmarks of it"
            way_out += "" if id in landmarks or id in meshes else ", or a data set with its mesh"
            raise KinematicsError(f"{where}axes of {component} {id}: {error}{way_out}") from error
    for id, shown in _shown_sides(axes, meshes).items():
        if shown != side:
            raise KinematicsError(
                f"femur {id} is made for a {shown} knee, as its flange leans to the patient's {shown}; expected a "
                f"component of a {side} knee. Correct the side, or give landmarks of this component"
            )
    return KneeAxes(side, axes)


def side_of(implants: Mapping[int, Component], meshes: Meshes) -> Side | None:
    """Knee that the femoral components are made for; None where one has no such shape, or they differ."""
    femora = [id for id, component in implants.items() if component == "femur" and id in meshes]
    try:
        axes = {id: _axes_of(id, "femur", {}, "right", meshes) for id in femora}
    except KinematicsError:
        return None
    sides = set(_shown_sides(axes, meshes).values())
    return sides.pop() if len(sides) == 1 else None


def _shown_sides(axes: Mapping[int, ImplantAxes], meshes: Meshes) -> dict[int, Side]:
    """Sides that the meshes of femoral components show, of those whose axes are from them."""
    found = {
        id: shown_side(meshes[id], each.T_implant_axes)
        for id, each in axes.items()
        if each.component == "femur" and each.found_in == "mesh"
    }
    return {id: side for id, side in found.items() if side is not None}


def _axes_of(
    id: int,
    component: Component,
    landmarks: Mapping[int, tuple[Component, Landmarks]],
    side: Side,
    meshes: Meshes,
) -> ImplantAxes:
    if id in landmarks:
        points = landmarks[id][1]
        if id in meshes:
            check_on_surface(points, meshes[id])
        return ImplantAxes(component, landmark_axes(component, points, side), "landmarks", None, points)
    if id not in meshes:
        raise KinematicsError("there are no landmarks and no mesh of it")
    T_implant_axes, shape = axes_in_mesh(meshes[id], component)
    return ImplantAxes(component, T_implant_axes, "mesh", shape)


def _check_same_implants(given: AxesFile, implants: Mapping[int, Component]) -> None:
    """Landmarks of a component are of some of the implants; those of further implants do no harm."""
    for component in COMPONENTS:
        of_file = sorted(id for id, (kind, _) in given.landmarks.items() if kind == component)
        of_poses = sorted(id for id, kind in implants.items() if kind == component)
        wrong = [id for id in of_file if implants.get(id, component) != component]
        if wrong or (of_file and not set(of_file) & set(of_poses)):
            raise KinematicsError(
                f"{given.path} has the axes of {component} {listed(of_file)}, but the poses are of {component} "
                f"{listed(of_poses)}; expected the axes of the same implants"
            )
