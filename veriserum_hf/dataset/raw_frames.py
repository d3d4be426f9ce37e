"""Frames as a model takes them, from raw files and raw rows: corrected on the way, with the cameras of their size."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from veriserum_hf.archive import RawFormat, VeriserumArchive, decode_frame, read_frame
from veriserum_hf.calibration import RAW_HEIGHT_PX, RAW_WIDTH_PX, Distortion
from veriserum_hf.core import COMPONENTS, PLANES, PlaneName, listed
from veriserum_hf.errors import CalibrationError, FrameError
from veriserum_hf.geometry import NOMINAL_T_WORLD_FS, DualPlaneRig, Plane
from veriserum_hf.recalibration import plane_and_number

Frame = dict[str, Any]
_FIELD = RawFormat(255, RAW_WIDTH_PX / RAW_HEIGHT_PX)
_WAYS = (
    "give --archive PATH, and --source-id N --distortion-id N for frames that are not in it, or --calibration FILE: "
    "what `veriserum calibrate rig --json` and `veriserum calibrate distortion --json` print"
)


@dataclass(frozen=True)
class FrameCalibration:
    """How raw frames were taken, and what is known about one of them.

    Attributes
    ----------
    distortions : by plane.
    rig : both planes.
    measurement_id, trial_id, frame_index : of the frame in its archive; None where it is in none.
    anatomy_id : of femoral and tibial component, -1 where it is unknown.

    """

    distortions: Mapping[PlaneName, Distortion]
    rig: DualPlaneRig
    measurement_id: int | None = None
    trial_id: int | None = None
    frame_index: int | None = None
    anatomy_id: tuple[int, int] = (-1, -1)


def frame_of_files(paths: Mapping[PlaneName, Path], calibration: FrameCalibration, size: int) -> Frame:
    """Correct the raw files of one frame to images of ``size`` x ``size`` px.

    Raises
    ------
    FrameError
        If a file cannot be used.
    CalibrationError
        If a file's name tells the other plane, or a plane has no distortion.

    """
    _check_names(paths)
    frame: Frame = {name: getattr(calibration, name) for name in ("measurement_id", "trial_id", "frame_index")}
    frame["anatomy_id"] = calibration.anatomy_id
    for plane, path in paths.items():
        if plane not in calibration.distortions:
            raise CalibrationError(f"the calibration has no distortion of {plane}; {_WAYS}")
        if not path.is_file():
            raise FrameError("missing", f"there is no file {path}")
        try:
            raw = read_frame(path)
            _FIELD.check_shape(raw)
        except FrameError as error:
            raise FrameError(error.reason, f"{path}: {error.detail}") from error
        frame[f"image_{plane}"] = calibration.distortions[plane].correct(raw, size)
        frame[f"camera_{plane}"] = calibration.rig[plane].camera(size)
    return frame


def _check_names(paths: Mapping[PlaneName, Path]) -> None:
    """Refuse files whose names tell the other plane: nothing else shows that they were swapped."""
    for plane, path in paths.items():
        told = plane_and_number(path)
        if told is not None and told[0] != plane:
            raise CalibrationError(
                f"{path}: its name says {told[0]}, but it was given as the frame of {plane}; expected the frame of "
                "bs, then that of fs"
            )


def frame_of_row(row: Mapping[str, Any], size: int) -> Frame:
    """Frame of a data set's row; images of ``raw`` are corrected to ``size`` x ``size`` px, others stay as they are.

    Raises
    ------
    FrameError
        If a raw file cannot be used.

    """
    frame: Frame = {name: row[name] for name in ("measurement_id", "trial_id", "frame_index", *COMPONENTS)}
    for plane in PLANES:
        image, camera = row[f"image_{plane}"], row[f"camera_{plane}"]
        if f"distortion_{plane}" in row:
            raw = decode_frame(image["bytes"])
            image = Distortion.from_string(row[f"distortion_{plane}"]).correct(raw, size)
            camera = Plane.from_camera(camera).camera(size)
        frame[f"image_{plane}"], frame[f"camera_{plane}"] = image, camera
    return frame


def calibration_of_files(paths: Sequence[Path]) -> FrameCalibration:
    """Calibration from the JSON documents that ``veriserum calibrate rig`` and ``... distortion`` print.

    Parameters
    ----------
    paths : any number of files. An object gives for ``bs`` and ``fs`` the ``principal_point_mm`` and ``sid_mm``, and
        where it is not nominal ``T_world_fs``; a plane's ``distortion``, the stored text, may stand there too. A list
        gives a ``distortion`` for the ``plane`` of each entry.

    Raises
    ------
    CalibrationError
        If a file is none of these, two give the same, or they do not make a whole calibration together.

    """
    rig: DualPlaneRig | None = None
    texts: dict[PlaneName, str] = {}
    given: dict[str, Path] = {}
    for path in paths:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            entries = found if isinstance(found, list) else [found[plane] | {"plane": plane} for plane in PLANES]
            grids = [(entry["plane"], entry["distortion"]) for entry in entries if "distortion" in entry]
            if isinstance(found, dict):
                rig = _rig(found)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CalibrationError(
                f"{path} is no calibration ({type(error).__name__}: {error}); expected what `veriserum calibrate rig "
                "--json` or `veriserum calibrate distortion --json` prints"
            ) from error
        texts |= dict(grids)
        for what in [f"a distortion of {plane}" for plane, _ in grids] + ["the sources"] * isinstance(found, dict):
            if what in given:
                raise CalibrationError(f"{given[what]} and {path} both give {what}; give it once")
            given[what] = path
    if rig is None or not texts:
        missing = "sources" if rig is None else "distortion"
        raise CalibrationError(f"{listed(map(str, paths), 3) or 'the calibration'} has no {missing}; {_WAYS}")
    return FrameCalibration({plane: Distortion.from_string(text) for plane, text in texts.items()}, rig)


def _rig(document: Mapping[str, Any]) -> DualPlaneRig:
    bs, fs = document["bs"], document["fs"]
    return DualPlaneRig.from_calibration(
        principal_point_bs_mm=bs["principal_point_mm"],
        sid_bs_mm=bs["sid_mm"],
        principal_point_fs_mm=fs["principal_point_mm"],
        sid_fs_mm=fs["sid_mm"],
        T_world_fs=document.get("T_world_fs", NOMINAL_T_WORLD_FS),
    )


def files_of_archive(archive: VeriserumArchive, paths: Mapping[PlaneName, Path]) -> dict[PlaneName, Path]:
    """Files as they are given, or where only the name of a frame is and no such file is here, the archive's own."""
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
    """Calibration of a frame from an archive: of the frame's own pose, or by the ids that are given.

    Raises
    ------
    CalibrationError
        If a file's name tells the other plane, the files are of different frames, or ids are missing or none of the
        archive's.

    """
    _check_names(paths)
    rows = {plane: _row_of_file(archive, plane, path) for plane, path in paths.items()}
    if len({row and row["measurement_id"] for row in rows.values()}) > 1:
        of = ", ".join(f"{paths[plane]} of {row['measurement_id'] if row else 'none'}" for plane, row in rows.items())
        raise CalibrationError(f"the files are not of one measurement of {archive.layout.root}: {of}")
    row = next(iter(rows.values()))
    poses = _current_poses(archive, row["measurement_id"]) if row else {}
    first = next(iter(poses.values()), {})
    source_id = first.get("source_calibration_id") if source_id is None else source_id
    distortion_id = first.get("distortion_calibration_id") if distortion_id is None else distortion_id
    if source_id is None or distortion_id is None:
        why = "has no pose of this frame that would tell its calibration" if row else "does not hold these files"
        raise CalibrationError(f"{archive.layout.root} {why}; {_WAYS}")
    for name, id, there in (
        ("source", source_id, archive.source_calibrations),
        ("distortion", distortion_id, archive.distortions),
    ):
        if id not in there:
            raise CalibrationError(
                f"{archive.layout.root} has no usable {name} calibration {id}; there are {listed(there, 20)}"
            )
    femur, tibia = (poses[component]["anatomy_id"] if component in poses else -1 for component in COMPONENTS)
    known = {name: row[name] for name in ("measurement_id", "trial_id", "frame_index")} if row else {}
    return FrameCalibration(
        archive.distortions[distortion_id],
        archive.source_calibrations[source_id],
        anatomy_id=(femur, tibia),
        **known,
    )


def _row_of_file(archive: VeriserumArchive, plane: PlaneName, path: Path) -> dict[str, Any] | None:
    """Row of the archive's frames that a file belongs to."""
    wanted = path.resolve()
    for index, found in enumerate(archive.frames[f"path_{plane}"].to_pylist()):
        if found and Path(found).name == wanted.name and Path(found).resolve() == wanted:
            row: dict[str, Any] = archive.frames.slice(index, 1).to_pylist()[0]
            return row
    return None


def _current_poses(archive: VeriserumArchive, measurement_id: int) -> dict[str, dict[str, Any]]:
    """The first pose of each component of a measurement; current ones come first."""
    rows = archive.poses.filter(pc.equal(archive.poses["measurement_id"], measurement_id)).to_pylist()
    return {row["component"]: row for row in reversed(rows)}
