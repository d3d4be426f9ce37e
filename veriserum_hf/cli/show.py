"""``veriserum show``: arguments and exit statuses; the work is done in `viewer`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.options import Dataset
from veriserum_hf.cli.output import print_text, show_progress
from veriserum_hf.core import FrameRow, LabelRow, Poses
from veriserum_hf.errors import VeriserumError

if TYPE_CHECKING:
    from veriserum_hf.core import ByteImage
    from veriserum_hf.dataset import Rows, StreamedFrames
    from veriserum_hf.viewer import PoseSet

_Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="PNG to write, frame.png if not given; with --trial, GIF or MP4, trial.gif if not given.",
        show_default=False,
    ),
]
_Recording = Annotated[
    Path | None,
    typer.Option(
        "--rrd",
        metavar="FILE",
        help="Instead of images: a trial as a recording for the viewer of Rerun, with cameras, images, implants, "
        "outlines, angles of the knee and verdicts; the trial of the first row without --trial.",
        show_default=False,
    ),
]
_PoseFiles = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Also draw outlines at the poses of this Parquet or CSV file (of predict, register, ...); repeatable.",
    ),
]


@dataclass(frozen=True)
class PoseFile:
    """Poses of a file by measurement id and component, with their name in the legend."""

    path: Path
    name: str
    frames: Mapping[int, Poses]


def show(
    dataset: Dataset,
    output: _Output = None,
    config: Annotated[str, typer.Option(help="Configuration.")] = "calibrated",
    split: Annotated[
        str | None,
        typer.Option(help="Split; if not given, the first there is with --row, otherwise all.", show_default=False),
    ] = None,
    row: Annotated[
        int | None, typer.Option(min=0, help="Row of the split, from 0; the first if not given.", show_default=False)
    ] = None,
    measurement: Annotated[
        int | None, typer.Option(help="Instead of --row: the frame of this id.", show_default=False)
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(
            help="Instead of --row: all frames of this trial, 15 a second, with outlines.", show_default=False
        ),
    ] = None,
    outline: Annotated[
        bool, typer.Option("--outline", help="Draw the implants' outlines at the row's poses instead of axes.")
    ] = False,
    poses: _PoseFiles = None,
    rrd: _Recording = None,
) -> None:
    """Draw the planes of one frame, or of all frames of a trial, with the row's cameras.

    By default, a frame is drawn with the axes of its implants. With outlines, the view is cropped to the implants,
    and close-ups show where the poses of files differ from those of the row. Lengths are stated on the detector, or
    where its distance from the source is unknown, at the depth of the implants.

    Exit status: 0 done, 2 no such frame or not drawn.

    Examples
    --------
    veriserum show OUT --row 3
    veriserum show OUT --measurement 12 --poses registered.parquet
    veriserum show OUT --trial 2 --outline --output trial.mp4
    veriserum show OUT --trial 2 --poses registered.parquet --rrd trial.rrd
    """
    if [row, measurement, trial].count(None) < 2:
        raise VeriserumError("choose the frame in one way: --row, --measurement or --trial")
    if rrd is not None:
        if output is not None or row is not None or measurement is not None:
            raise VeriserumError(
                "--rrd holds a whole trial: give --trial with it, and no --output, --row or --measurement"
            )
        _record_trial(dataset, config, split, trial, _read(poses or []), rrd)
        print_text(f"written to {rrd}")
        return
    output = output or Path("frame.png" if trial is None else "trial.gif")
    files = _read(poses or [])
    if trial is not None:
        _show_trial(dataset, config, split, trial, files, output)
    else:
        _check_png(output)
        _show_frame(dataset, config, split, row, measurement, files, output, outline=outline)
    print_text(f"written to {output}")


def _show_frame(
    dataset: str,
    config: str,
    split: str | None,
    row: int | None,
    measurement: int | None,
    files: list[PoseFile],
    output: Path,
    *,
    outline: bool,
) -> None:
    from veriserum_hf.dataset import open_rows, row_at, rows_found, with_images
    from veriserum_hf.viewer import draw_axes

    where = None if measurement is None else ("measurement_id", measurement)
    rows = open_rows(dataset, config, streaming=True, where=where)
    (found,) = with_images([rows_found(rows, split)[0] if where else row_at(rows, split, row or 0)])
    _write_png(_draw_outlines(rows, found, files) if outline or files else draw_axes(found), output)


def _show_trial(
    dataset: str, config: str, split: str | None, trial: int, files: list[PoseFile], output: Path
) -> None:
    from veriserum_hf.dataset import open_rows, rows_found
    from veriserum_hf.viewer import check_output, draw_trial, write_animation

    check_output(output)
    rows = open_rows(dataset, config, streaming=True, where=("trial_id", trial))
    found = rows_found(rows, split)
    sets = _pose_sets(found, files, f"trial {trial}")
    with show_progress("drawing", "frames") as progress:
        write_animation(draw_trial(found, sets, rows.meshes, progress), output)


def _record_trial(
    dataset: str, config: str, split: str | None, trial: int | None, files: list[PoseFile], output: Path
) -> None:
    from veriserum_hf.dataset import open_rows, row_at, rows_found
    from veriserum_hf.viewer import check_recording, write_recording

    check_recording(output)
    if trial is None:
        trial = row_at(open_rows(dataset, config, streaming=True), split, 0)["trial_id"]
    rows = open_rows(dataset, config, streaming=True, where=("trial_id", trial))
    found = rows_found(rows, split)
    sets = _pose_sets(found, files, f"trial {trial}")
    with show_progress("recording", "frames") as progress:
        write_recording(found, sets, rows.meshes, output, progress)


def _draw_outlines(rows: "Rows[StreamedFrames]", row: FrameRow, files: list[PoseFile]) -> "ByteImage":
    from veriserum_hf.viewer import draw_outlines

    [sets] = _pose_sets([row], files, f"measurement {row['measurement_id']}")
    return draw_outlines(row, sets, rows.meshes)


def _read(paths: Sequence[Path]) -> list[PoseFile]:
    """Read files of poses; each is named by its stem, or by its path if two stems are equal."""
    if not paths:
        return []
    from veriserum_hf.poses import poses_by_frame, read_poses
    from veriserum_hf.viewer import check_pose_sets

    check_pose_sets(1 + len(paths))
    stems = [path.stem for path in paths]
    return [
        PoseFile(path, path.stem if stems.count(path.stem) == 1 else str(path), poses_by_frame(read_poses(path)))
        for path in paths
    ]


def _pose_sets(rows: Sequence[LabelRow], files: Sequence[PoseFile], what: str) -> "list[list[PoseSet]]":
    """Labels of rows and the poses of files for them; VeriserumError for a file without any of these rows."""
    from veriserum_hf.poses import check_same_frame
    from veriserum_hf.viewer import PoseSet, label_of

    for file in files:
        if not any(row["measurement_id"] in file.frames for row in rows):
            raise VeriserumError(
                f"{file.path} has no pose of {what}; it has poses of {len(file.frames)} measurements, "
                f"{min(file.frames)} to {max(file.frames)}"
            )
        for row in rows:
            check_same_frame(file.frames.get(row["measurement_id"], {}), row, file.path)
    return [
        [label_of(row), *(PoseSet(file.name, file.frames.get(row["measurement_id"], {})) for file in files)]
        for row in rows
    ]


def _check_png(output: Path) -> None:
    if output.suffix.lower() != ".png":
        hint = ", or --trial N" if output.suffix.lower() in (".gif", ".mp4") else ""
        raise VeriserumError(f"cannot write a frame to {output}; expected a name that ends in .png{hint}")


def _write_png(image: "ByteImage", output: Path) -> None:
    import cv2

    from veriserum_hf.jobs import write_file, writing

    _, encoded = cv2.imencode(".png", image)
    with writing(output):
        write_file(output, encoded.tobytes())
