"""Trials of Autoscoper: a .cfg file that names cameras, folders of images, and volumes.

Each line is a key and its value, separated by a blank; # begins a comment. Autoscoper reads the versions 1.0, 1.1
(paths may be relative to the file's folder) and 1.2 (a mesh for each volume). The n-th ``CameraRootDir`` belongs to
the n-th ``mayaCam_csv``, and the n-th ``VoxelSize``, ``VolumeFlip`` and ``MeshFile`` to the n-th ``VolumeFile``.
"""

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

import numpy as np

from veriserum_hf.core import joined_numbers, numbers_of, text_lines
from veriserum_hf.errors import CalibrationError

_VERSION = re.compile(r"1(\.[0-9]+)?", re.ASCII)  # others may mean something else


@dataclass(frozen=True)
class AutoscoperVolume:
    """One object of a trial.

    Attributes
    ----------
    path : of its volume.
    voxel_size_mm : along x, y and z.
    flip : whether the volume is flipped along x, y and z.
    mesh : of the same object, where one is given.

    """

    path: Path
    voxel_size_mm: tuple[float, float, float]
    flip: tuple[bool, bool, bool] = (False, False, False)
    mesh: Path | None = None


@dataclass(frozen=True)
class AutoscoperTrial:
    """Cameras, images and objects of a trial.

    Attributes
    ----------
    cameras : MayaCam files, one a plane; see `read_mayacam`.
    images : folders of images, one a plane.
    volumes : objects, in the order of their tracks.

    """

    cameras: list[Path]
    images: list[Path]
    volumes: list[AutoscoperVolume] = field(default_factory=list)


def read_autoscoper(path: Path) -> AutoscoperTrial:
    """Read a .cfg file; relative paths become those below its folder. Whether the files are there is not checked.

    Keys of how Autoscoper shows and optimises are skipped.

    Raises
    ------
    CalibrationError
        If the file cannot be read, is of another version, or its cameras, images and volumes do not match.

    """
    values: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, line in enumerate(text_lines(path, CalibrationError), 1):
        key, _, value = line.strip().partition(" ")
        if key and not key.startswith("#"):
            values[key].append((number, value.strip()))
    for number, version in values["Version"]:
        if not _VERSION.fullmatch(version):
            raise CalibrationError(f"{path}, line {number}: version {version[:40]!r}; expected 1.0, 1.1 or 1.2")
    cameras, images, files, meshes = (
        [_below(path.parent, value) for _, value in values[key]]
        for key in ("mayaCam_csv", "CameraRootDir", "VolumeFile", "MeshFile")
    )
    if not cameras or len(cameras) != len(images):
        raise CalibrationError(
            f"{path} names {len(cameras)} cameras (mayaCam_csv) and {len(images)} folders of images (CameraRootDir); "
            "expected one folder for each camera of an Autoscoper trial"
        )
    sizes = [_three(path, *each) for each in values["VoxelSize"]]
    flips = [_three(path, *each) for each in values["VolumeFlip"]]
    if len(sizes) != len(files) or len(flips) > len(files) or len(meshes) not in (0, len(files)):
        raise CalibrationError(
            f"{path} names {len(files)} volumes, {len(sizes)} voxel sizes, {len(flips)} flips and {len(meshes)} "
            "meshes; expected a voxel size for each volume, and meshes for all of them or none"
        )
    if any(min(size) <= 0 for size in sizes):
        raise CalibrationError(f"{path}: a VoxelSize is not positive, {sizes}; expected mm along x, y and z")
    return AutoscoperTrial(
        cameras,
        images,
        [
            AutoscoperVolume(
                file,
                size,
                tuple(map(bool, flips[place])) if place < len(flips) else (False, False, False),  # type: ignore[arg-type]
                meshes[place] if meshes else None,
            )
            for place, (file, size) in enumerate(zip(files, sizes, strict=True))
        ],
    )


def write_autoscoper(path: Path, trial: AutoscoperTrial) -> None:
    """Write a .cfg file of version 1.2, with paths relative to its folder; `read_autoscoper` reads the same.

    Raises
    ------
    CalibrationError
        If the trial has not as many folders of images as cameras, or meshes of some volumes only.

    """
    meshes = [volume.mesh for volume in trial.volumes if volume.mesh is not None]
    if len(trial.cameras) != len(trial.images) or len(meshes) not in (0, len(trial.volumes)):
        raise CalibrationError(
            f"a trial of {len(trial.cameras)} cameras, {len(trial.images)} folders of images, {len(trial.volumes)} "
            f"volumes and {len(meshes)} meshes; expected a folder for each camera, and meshes for all volumes or none"
        )
    lines = ["Version 1.2"]
    lines += [f"mayaCam_csv {_relative(path.parent, camera)}" for camera in trial.cameras]
    lines += [f"CameraRootDir {_relative(path.parent, folder)}" for folder in trial.images]
    for volume in trial.volumes:
        lines += [
            f"VolumeFile {_relative(path.parent, volume.path)}",
            f"VolumeFlip {' '.join(str(int(flip)) for flip in volume.flip)}",
            f"VoxelSize {joined_numbers(volume.voxel_size_mm, ' ')}",
        ]
        lines += [] if volume.mesh is None else [f"MeshFile {_relative(path.parent, volume.mesh)}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _below(folder: Path, written: str) -> Path:
    """Path as it is written, with either kind of slash, or below the folder if it is relative."""
    if PureWindowsPath(written).drive:
        return Path(written)
    return folder / written.replace("\\", "/")


def _relative(folder: Path, path: Path) -> str:
    if PureWindowsPath(path).drive:
        return str(path)
    return Path(os.path.relpath(path, folder)).as_posix()


def _three(path: Path, number: int, text: str) -> tuple[float, float, float]:
    try:
        x, y, z = numbers_of(text)
    except ValueError as error:
        raise CalibrationError(f"{path}, line {number}: {text[:60]!r} ({error}); expected three numbers") from error
    if not np.isfinite((x, y, z)).all():
        raise CalibrationError(f"{path}, line {number}: {text[:60]!r}; expected three finite numbers")
    return x, y, z
