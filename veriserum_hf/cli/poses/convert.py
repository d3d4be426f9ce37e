"""``veriserum poses convert``: arguments and exit statuses; the formats are those of `poses`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.output import print_text
from veriserum_hf.core import (
    CAMERA_OF,
    COMPONENTS,
    CONVERGED,
    VERDICTS,
    Component,
    LabelRow,
    PlaneName,
    cameras_of,
    listed,
    text_lines,
)
from veriserum_hf.errors import CalibrationError, TrainingError

if TYPE_CHECKING:
    from veriserum_hf.geometry import Camera
    from veriserum_hf.poses import FrameIds

_ARCHIVE_PX = 512  # images are not read, and positions and directions of cameras are those of any size
_FIELDS = ("measurement_id", "trial_id", "frame_index", *CAMERA_OF.values(), *COMPONENTS)
_File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Poses: .parquet, .csv, .jts or .tra.", show_default=False)
]


def convert(
    source: _File,
    output: Annotated[Path, typer.Argument(help="File to write; its suffix chooses the format.", show_default=False)],
    component: Annotated[
        Component | None, typer.Option(help="Implant of a .jts or .tra file.", show_default=False)
    ] = None,
    anatomy: Annotated[
        int | None,
        typer.Option(help="Its anatomy id, unless the data set has one implant of this kind.", show_default=False),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set or archive of the frames: their ids, in their order, and cameras.", show_default=False
        ),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(help="Only frames of this trial of the data set.", show_default=False)
    ] = None,
    plane: Annotated[
        PlaneName | None,
        typer.Option(
            help="Plane of the data set that a .jts file is of; of own frames, bs is the first.", show_default=False
        ),
    ] = None,
    camera: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Instead: MayaCam 2.0 or JT_INTCALIB file of this plane.", show_default=False
        ),
    ] = None,
) -> None:
    r"""Convert poses between this package's tables and the files of JointTrack and Autoscoper.

    Parquet and CSV hold poses of all implants with ids, and are converted into each other without options. A .jts or
    .tra file holds one implant, one pose a frame: a .jts file in the frame of one camera, a .tra file in the world.
    Without a data set, frames have the measurement ids 1, 2, ..., or those of the table in their order.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum poses convert registered.parquet registered.csv
    veriserum poses convert femur.jts initial.parquet --component femur \
        --dataset OUT --trial 1 --plane bs
    veriserum poses convert registered.parquet femur.tra --component femur
    veriserum poses convert femur.jts femur.tra --camera camera_1.txt
    """
    from veriserum_hf.poses import JOINTTRACK_SUFFIXES, TABLE_SUFFIXES, TRAJECTORY_SUFFIXES

    suffixes = [path.suffix.lower() for path in (source, output)]
    for path, suffix in zip((source, output), suffixes, strict=True):
        if suffix not in (*TABLE_SUFFIXES, *TRAJECTORY_SUFFIXES):
            raise TrainingError(f"{path}: expected a name in {', '.join((*TABLE_SUFFIXES, *TRAJECTORY_SUFFIXES))}")
    if (plane or trial is not None) and dataset is None:
        raise TrainingError("--plane and --trial choose from a data set; give --dataset too")
    if all(suffix in TABLE_SUFFIXES for suffix in suffixes):
        if any(given is not None for given in (component, anatomy, dataset, camera)):
            raise TrainingError("Parquet and CSV hold the same rows; give no options to convert one into the other")
        _convert_table(source, output)
        return
    rows = None if dataset is None else _rows(dataset, trial)
    seen_by = None
    if any(suffix in JOINTTRACK_SUFFIXES for suffix in suffixes):
        seen_by = _camera(camera, rows, plane)
    _convert_trajectory(source, output, component, anatomy, rows, seen_by)


def _convert_table(source: Path, output: Path) -> None:
    from veriserum_hf.poses import read_poses, write_poses

    poses = read_poses(source)
    write_poses(output, poses)
    print_text(f"written to {output}: {len(poses)} poses")


def _convert_trajectory(
    source: Path,
    output: Path,
    component: Component | None,
    anatomy: int | None,
    rows: Sequence[LabelRow] | None,
    seen_by: "Camera | None",
) -> None:
    """Convert a file of one implant, or to one."""
    import numpy as np

    from veriserum_hf.poses import (
        TABLE_SUFFIXES,
        poses_of_implant,
        poses_of_trajectory,
        read_poses,
        read_trajectory,
        trajectory_of_poses,
        write_poses,
        write_trajectory,
    )

    frames = None if rows is None else _ids(rows)
    verdicts: Counter[str | None] = Counter()
    if source.suffix.lower() in TABLE_SUFFIXES:
        chosen = poses_of_implant(read_poses(source), component, anatomy, frames)
        T_world_implant = trajectory_of_poses(chosen)
        verdicts = Counter(pose.get("verdict") for pose in chosen if pose is not None)
    else:
        T_world_implant = read_trajectory(source, seen_by)
    if output.suffix.lower() in TABLE_SUFFIXES:
        if component is None:
            raise TrainingError(f"{source} does not state its implant; give --component femur or tibia")
        anatomy = _anatomy(rows or [], component) if anatomy is None else anatomy
        write_poses(output, poses_of_trajectory(T_world_implant, component, anatomy, frames))
    else:
        write_trajectory(output, T_world_implant, seen_by)
    known = int(np.isfinite(T_world_implant).all(axis=(1, 2)).sum())
    print_text(f"written to {output}: {known} poses of {len(T_world_implant)} frames{_of_verdicts(verdicts)}")


def _of_verdicts(verdicts: Mapping[str | None, int]) -> str:
    """How many poses of a registration have which verdict, which a file of one implant does not hold."""
    counts = {verdict: count for verdict in VERDICTS if (count := verdicts.get(verdict, 0))}
    if not counts.keys() - {CONVERGED}:
        return ""
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    kept = {0: "", 1: ": its initial pose"}.get(counts.get("failed", 0), ": their initial poses")
    return f", of which {said}{kept}"


def _rows(dataset: str, trial: int | None) -> list[LabelRow]:
    """Ids, cameras and poses of all frames, or those of one trial, in the order of their measurement ids."""
    from veriserum_hf.dataset import is_archive, open_rows

    opened = (
        open_rows(dataset, ("calibrated",), archive_px=_ARCHIVE_PX)
        if is_archive(dataset)
        else open_rows(dataset, "calibrated")
    )
    rows: list[LabelRow] = [row for frames in opened.splits.values() for row in frames.table(*_FIELDS).to_pylist()]
    trials = sorted({row["trial_id"] for row in rows})
    if trial is not None:
        rows = [row for row in rows if row["trial_id"] == trial]
    if not rows:
        raise TrainingError(f"{dataset} has no frame of trial {trial}; it has the trials {listed(trials, 20)}")
    return sorted(rows, key=lambda row: row["measurement_id"])


def _ids(rows: Sequence[LabelRow]) -> "list[FrameIds]":
    from veriserum_hf.poses import FrameIds

    return [FrameIds(row["measurement_id"], row["trial_id"], row["frame_index"]) for row in rows]


def _anatomy(rows: Sequence[LabelRow], component: Component) -> int:
    """Anatomy id of the only implant of this kind in a data set."""
    found = sorted({pose["anatomy_id"] for row in rows if (pose := row[component]) is not None})
    if not found:
        raise TrainingError(f"nothing states the anatomy id of the {component}; give --anatomy")
    if len(found) > 1:
        raise TrainingError(f"the data set has {component} {listed(found)}; give --anatomy, or choose a --trial")
    return found[0]


def _camera(file: Path | None, rows: Sequence[LabelRow] | None, plane: PlaneName | None) -> "Camera":
    """Camera of a file, or of one plane of a data set."""
    from veriserum_hf.geometry import Camera

    if (file is None) == (rows is None or plane is None):
        raise TrainingError(
            "a .jts file is in the frame of one camera; give either its file (--camera), or a data set and its plane "
            "(--dataset and --plane)"
        )
    if file is not None:
        # Its size matters to pixels alone, which poses do not have.
        is_jointtrack = any("INTCALIB" in line for line in text_lines(file, CalibrationError)[:1])
        return Camera.from_jointtrack(file, 1) if is_jointtrack else Camera.from_mayacam(file)
    found: dict[bytes, tuple[int, Camera]] = {}
    for row in rows or ():
        id = row["measurement_id"]
        try:
            given = cameras_of(row)[plane]  # type: ignore[index]
            seen_by = Camera.from_row(given)
        except KeyError:
            raise TrainingError(
                f"measurement {id} has no plane {plane}; expected {listed(cameras_of(row))}"
            ) from None
        except CalibrationError as error:
            raise TrainingError(f"measurement {id}, plane {plane}: {error}") from error
        found.setdefault(seen_by.world_to_camera.tobytes(), (id, seen_by))
    if len(found) > 1:
        (first, _), (second, _) = list(found.values())[:2]
        raise TrainingError(
            f"measurements {first} and {second} have other cameras of plane {plane}; a .jts file is in the frame of "
            "one: choose a trial with --trial"
        )
    ((_, seen_by),) = found.values()
    return seen_by
