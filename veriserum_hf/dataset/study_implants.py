"""Implants of a study and their initial poses: read, and compared with the images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from veriserum_hf.archive import ImplantMesh, read_implant_mesh
from veriserum_hf.core import COMPONENTS, BoolArray, Component, FloatArray, PlaneName, listed, one_line
from veriserum_hf.dataset.study import PoseFile, Study, StudyTrial
from veriserum_hf.dataset.study_cameras import PlaneCamera
from veriserum_hf.errors import ArchiveError, ConversionError, FrameError, VeriserumError
from veriserum_hf.geometry import transform_points
from veriserum_hf.poses import TRAJECTORY_SUFFIXES, poses_by_frame, read_poses, read_trajectory, transforms

_MOST_VERTICES = 500  # of a mesh, to see whether it is in an image
_IN_WORLD = ".tra"  # of the trajectories; others are in the frame of a camera


def meshes_of(study: Study) -> dict[Component, ImplantMesh]:
    """Read the mesh of every implant.

    Raises
    ------
    ConversionError
        If a file cannot be read, is not in mm, or is not closed.

    """
    found = {}
    for component, implant in study.implants.items():
        where = f"{study.file.name}: implants: {component}"
        try:
            mesh = read_implant_mesh(implant.mesh, label=implant.label)
        except (FrameError, ArchiveError) as error:
            raise ConversionError(f"{where}: {study.name_of(implant.mesh)}: {error}") from error
        found[component] = mesh
    return found


@dataclass(frozen=True)
class PosesRead:
    """Initial poses of every implant, and what is to be said of them.

    Attributes
    ----------
    T_world_implant : by component, (frames, 4, 4) mm; NaN without a pose. Frames of all trials, in their order.
    notes : sentences.

    """

    T_world_implant: Mapping[Component, FloatArray]
    notes: tuple[str, ...]


def poses_of(
    study: Study,
    counts: Sequence[int],
    cameras: Mapping[PlaneName, PlaneCamera],
    meshes: Mapping[Component, ImplantMesh],
) -> PosesRead:
    """Read the initial poses of every frame.

    Parameters
    ----------
    study : the study.
    counts : frames of every trial.
    cameras, meshes : of the study.

    Raises
    ------
    ConversionError
        If a file cannot be read, has another number of poses than the trial has frames, or a pose lies outside of
        the images.

    """
    found: dict[Component, FloatArray] = {}
    notes: list[str] = []
    for component in COMPONENTS:
        if component not in study.implants:
            continue
        parts, first = [], 1
        for trial, count in zip(study.trials, counts, strict=True):
            given = trial.initial_poses.get(component)
            ids = range(first, first + count)
            first += count
            if given is None:
                parts.append(np.full((count, 4, 4), np.nan))
                continue
            where = f"{study.file.name}: {_of(study, trial)}initial_poses: {component}: {study.name_of(given.path)}"
            try:
                parts.append(_read(study, where, given, ids, trial, component, cameras))
            except ConversionError:
                raise
            except VeriserumError as error:
                raise ConversionError(f"{where}: {error}") from error
        found[component] = np.concatenate(parts)
        notes += _check_visible(study, component, found[component], cameras, meshes[component])
    return PosesRead(found, tuple(notes))


def _of(study: Study, trial: StudyTrial) -> str:
    return f"trial {trial.id}: " if len(study.trials) > 1 else ""


def _read(
    study: Study,
    where: str,
    given: PoseFile,
    ids: Sequence[int],
    trial: StudyTrial,
    component: Component,
    cameras: Mapping[PlaneName, PlaneCamera],
) -> FloatArray:
    """Poses (frames, 4, 4) of one implant in one trial; NaN without one."""
    suffix = given.path.suffix.lower()
    in_world = suffix not in TRAJECTORY_SUFFIXES or suffix == _IN_WORLD
    if given.plane is not None and in_world:
        raise ConversionError(
            f"{where}: plane: found {one_line(given.plane)}, but poses of such a file are in the world of the cameras"
            "; remove plane, or give poses in the frame of its camera (.jts)"
        )
    if suffix not in TRAJECTORY_SUFFIXES:
        return _of_measurements(where, given.path, ids, trial, component, study.implants[component].anatomy_id)
    names = {plane.name: plane.column for plane in study.planes}
    if given.plane is None and len(names) > 1 and not in_world:
        raise ConversionError(
            f"{where}: the poses are in the frame of one camera; name its plane beside the file: plane: "
            f"{' or '.join(map(one_line, names))}"
        )
    column = names[given.plane] if given.plane is not None else next(iter(names.values()))
    poses = read_trajectory(given.path, cameras[column].camera)
    if len(poses) != len(ids):
        raise ConversionError(
            f"{where}: found {len(poses)} poses, expected one for each of the {len(ids)} frames, in their order; "
            "give a file with the poses of these frames, or a pose file with measurement_id (CSV or Parquet)"
        )
    return poses


def _of_measurements(
    where: str, path: Path, ids: Sequence[int], trial: StudyTrial, component: Component, anatomy_id: int
) -> FloatArray:
    """Poses of a pose file that names its frames."""
    found = np.full((len(ids), 4, 4), np.nan)
    frames = poses_by_frame(read_poses(path))
    of_trial = {id: pose for id in ids if (pose := frames.get(id, {}).get(component)) is not None}
    by_id = {id: pose for id, pose in of_trial.items() if pose["anatomy_id"] == anatomy_id}
    if not by_id:
        raise ConversionError(
            f"{where}: none of its poses is of {component} {anatomy_id} and of a frame of the trial, expected "
            f"measurement_id {ids[0]} to {ids[-1]}: frames are counted from 1, over all trials"
        )
    for index, id in enumerate(ids):
        for name, expected in (("trial_id", trial.id), ("frame_index", index)):
            stated = by_id[id].get(name) if id in by_id else None
            if stated is not None and stated != expected:
                raise ConversionError(
                    f"{where}: the pose of measurement_id {id} states {name} {stated}, but this frame of the study "
                    f"has {expected}; expected poses of these frames: measurement_id counts them from 1, over "
                    "all trials"
                )
    found[np.array(list(by_id)) - ids[0]] = transforms(by_id.values())
    return found


def _check_visible(
    study: Study,
    component: Component,
    T_world_implant: FloatArray,
    cameras: Mapping[PlaneName, PlaneCamera],
    mesh: ImplantMesh,
) -> list[str]:
    """Refuse poses that no image shows; a sentence where some lie outside of one plane's images only."""
    given = np.flatnonzero(np.isfinite(T_world_implant).all(axis=(1, 2)))
    if not len(given):
        return []
    loaded = trimesh.load_mesh(trimesh.util.wrap_as_stream(mesh.data), file_type="stl")
    vertices = np.asarray(loaded.vertices)[:: max(1, len(loaded.vertices) // _MOST_VERTICES)]
    points_mm = transform_points(T_world_implant[given], vertices)
    seen = {
        plane.name: _inside(cameras[plane.column], points_mm).any(axis=1)  # (poses,)
        for plane in study.planes
    }
    nowhere = given[~np.any(list(seen.values()), axis=0)]
    wrong = next((name for name, inside in seen.items() if not inside.any()), None)
    if len(nowhere) or wrong is not None:
        where = f"every image of {one_line(wrong)}" if wrong is not None else "the images"
        frames = nowhere if len(nowhere) else given
        raise ConversionError(
            f"{study.file.name}: initial_poses: {component}: poses of {len(frames)} of {len(given)} frames "
            f"(measurement_id {listed(int(frame) + 1 for frame in frames)}) put the implant outside of {where}, "
            "expected poses that map its mesh (mm) to the world of the cameras; compare the plane that the poses are "
            "of, their frame and the mesh's own coordinates"
        )
    return [
        f"{component}: in {int((~inside).sum())} of {len(given)} frames the initial pose lies outside of the image "
        f"of {one_line(name)}"
        for name, inside in seen.items()
        if not inside.all()
    ]


def _inside(camera: PlaneCamera, points_mm: FloatArray) -> BoolArray:
    """Whether points (..., 3) lie in a plane's image, (...) bool."""
    px = camera.camera.project(points_mm)
    rows, columns = camera.size
    with np.errstate(invalid="ignore"):  # NaN behind the source
        inside = (px >= -0.5) & (px < (columns - 0.5, rows - 0.5))
    return np.asarray(inside.all(axis=-1))
