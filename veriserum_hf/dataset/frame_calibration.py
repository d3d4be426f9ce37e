"""Calibration of a raw frame: from an archive, or from files that ``veriserum calibrate`` prints."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NotRequired, TypedDict

import pyarrow.compute as pc

from veriserum_hf.archive import VeriserumArchive
from veriserum_hf.calibration import DistortionMap, text_of_entry
from veriserum_hf.core import COMPONENTS, PLANES, Component, PlaneName, listed
from veriserum_hf.dataset.frames import IDS
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import NOMINAL_T_WORLD_FS, DualPlaneRig
from veriserum_hf.recalibration import plane_and_number

WAYS = (
    "give --archive PATH, and --source-id N --distortion-id N for frames that are not in it, or --calibration FILE: "
    "the output of `veriserum calibrate rig --json` and `veriserum calibrate distortion --json`"
)


@dataclass(frozen=True)
class FrameCalibration:
    """Calibration of raw frames, and what is known about one of them.

    Attributes
    ----------
    distortions : by plane.
    rig : both planes.
    white_level : grey level that counts as white in frames of 16 bits; None without an archive: it is estimated from
        the frame itself.
    measurement_id, trial_id, frame_index : of the frame in its archive; None if it is in none.
    anatomy_id : of femoral and tibial component, -1 if unknown.

    """

    distortions: Mapping[PlaneName, DistortionMap]
    rig: DualPlaneRig
    white_level: int | None = None
    measurement_id: int | None = None
    trial_id: int | None = None
    frame_index: int | None = None
    anatomy_id: tuple[int, int] = (-1, -1)


def check_names(paths: Mapping[PlaneName, Path]) -> None:
    """Refuse files whose names state the other plane: nothing else shows that they were swapped."""
    for plane, path in paths.items():
        named = plane_and_number(path)
        if named is not None and named[0] != plane:
            raise CalibrationError(
                f"{path}: its name states {named[0]}, but it was given as the frame of {plane}; expected the frame "
                "of bs, then that of fs"
            )


def calibration_of_files(paths: Sequence[Path]) -> FrameCalibration:
    """Calibration from the JSON documents that ``veriserum calibrate rig`` and ``... distortion`` print.

    Parameters
    ----------
    paths : any number of files. An object gives for ``bs`` and ``fs`` the ``principal_point_mm`` and ``sid_mm``, and
        where it is not nominal ``T_world_fs``; a plane's ``distortion``, the stored text, may be included. A list
        gives a ``distortion`` for the ``plane`` of each entry; its ``chosen`` form is used, where it has one.

    Raises
    ------
    CalibrationError
        If a file is invalid, two give the same values, or together they are not a complete calibration.

    """
    rig: DualPlaneRig | None = None
    texts: dict[PlaneName, str] = {}
    given: dict[str, Path] = {}
    for path in paths:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            entries = found if isinstance(found, list) else [found[plane] | {"plane": plane} for plane in PLANES]
            grids = [(entry["plane"], text_of_entry(entry)) for entry in entries if "distortion" in entry]
            if not isinstance(found, list):
                rig = _rig(found)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CalibrationError(
                f"{path} is not a calibration ({type(error).__name__}: {error}); expected the output of `veriserum "
                "calibrate rig --json` or `veriserum calibrate distortion --json`"
            ) from error
        texts |= dict(grids)
        for what in [f"a distortion of {plane}" for plane, _ in grids] + ["the sources"] * isinstance(found, dict):
            if what in given:
                raise CalibrationError(f"{given[what]} and {path} both give {what}; give it once")
            given[what] = path
    if rig is None or not texts:
        missing = "sources" if rig is None else "distortion"
        raise CalibrationError(f"{listed(map(str, paths), 3) or 'the calibration'} has no {missing}; {WAYS}")
    return FrameCalibration({plane: DistortionMap.from_string(text) for plane, text in texts.items()}, rig)


class _PlaneDocument(TypedDict):
    principal_point_mm: list[float]
    sid_mm: float


class _RigDocument(TypedDict):
    bs: _PlaneDocument
    fs: _PlaneDocument
    T_world_fs: NotRequired[list[list[float]]]


def _rig(document: _RigDocument) -> DualPlaneRig:
    bs, fs = document["bs"], document["fs"]
    return DualPlaneRig.from_calibration(
        principal_point_bs_mm=bs["principal_point_mm"],
        sid_bs_mm=bs["sid_mm"],
        principal_point_fs_mm=fs["principal_point_mm"],
        sid_fs_mm=fs["sid_mm"],
        T_world_fs=document.get("T_world_fs", NOMINAL_T_WORLD_FS),
    )


def files_of_archive(archive: VeriserumArchive, paths: Mapping[PlaneName, Path]) -> dict[PlaneName, Path]:
    """The given files; a name without a folder that is not a file here is that of a frame of the archive."""
    found = {}
    for plane, path in paths.items():
        own = {Path(known).name: Path(known) for known in archive.frames[f"path_{plane}"].to_pylist() if known}
        is_name = path.name == str(path) and not path.exists()
        found[plane] = own.get(path.name, path) if is_name else path
    return found


def calibration_of_archive(
    archive: VeriserumArchive,
    paths: Mapping[PlaneName, Path],
    source_id: int | None = None,
    distortion_id: int | None = None,
) -> FrameCalibration:
    """Calibration of a frame from an archive: of the frame's own pose, or of the given ids.

    Raises
    ------
    CalibrationError
        If a file's name states the other plane, the files are of different frames, or ids are missing or not in the
        archive.

    """
    check_names(paths)
    rows = {plane: _ids_of_file(archive, plane, path) for plane, path in paths.items()}
    if len({row and row["measurement_id"] for row in rows.values()}) > 1:
        of = ", ".join(f"{paths[plane]} of {row['measurement_id'] if row else 'none'}" for plane, row in rows.items())
        raise CalibrationError(f"the files are not of one measurement of {archive.layout.root}: {of}")
    row = next(iter(rows.values()))
    poses = _current_poses(archive, row["measurement_id"]) if row else {}
    for pose in islice(poses.values(), 1):
        source_id = pose["source_calibration_id"] if source_id is None else source_id
        distortion_id = pose["distortion_calibration_id"] if distortion_id is None else distortion_id
    if source_id is None or distortion_id is None:
        why = "has no pose of this frame, and so no calibration for it" if row else "does not contain these files"
        raise CalibrationError(f"{archive.layout.root} {why}; {WAYS}")
    for name, id, there in (
        ("source", source_id, archive.source_calibrations),
        ("distortion", distortion_id, archive.distortions),
    ):
        if id not in there:
            raise CalibrationError(
                f"{archive.layout.root} has no usable {name} calibration {id}; there are {listed(there, 20)}"
            )
    femur, tibia = (poses[component]["anatomy_id"] if component in poses else -1 for component in COMPONENTS)
    known = FrameCalibration(
        archive.distortions[distortion_id],
        archive.source_calibrations[source_id],
        archive.raw_format.white_level,
        anatomy_id=(femur, tibia),
    )
    return replace(known, **row) if row else known


class _Ids(TypedDict):
    measurement_id: int
    trial_id: int
    frame_index: int


class _ArchivePose(TypedDict):
    anatomy_id: int
    source_calibration_id: int
    distortion_calibration_id: int


def _ids_of_file(archive: VeriserumArchive, plane: PlaneName, path: Path) -> _Ids | None:
    """Ids of the archive's frame that a file belongs to."""
    wanted = path.resolve()
    for index, found in enumerate(archive.frames[f"path_{plane}"].to_pylist()):
        if found and Path(found).name == wanted.name and Path(found).resolve() == wanted:
            ids: _Ids = archive.frames.select(list(IDS)).slice(index, 1).to_pylist()[0]
            return ids
    return None


def _current_poses(archive: VeriserumArchive, measurement_id: int) -> dict[Component, _ArchivePose]:
    """The first pose of each component of a measurement; current ones come first."""
    rows = archive.poses.filter(pc.equal(archive.poses["measurement_id"], measurement_id)).to_pylist()
    return {row["component"]: row for row in reversed(rows)}
