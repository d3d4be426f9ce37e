"""``veriserum simulate``."""

from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.cli.options import SchedulerFile, Workers
from veriserum_hf.cli.output import KEPT, print_text, show_progress
from veriserum_hf.core import DistortionFields, FrameIds, Rotations
from veriserum_hf.jobs import dask_executor


def simulate(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create.", show_default=False)],
    trials: Annotated[int, typer.Option(help="Number of trials; activities and implant pairs alternate.")] = 20,
    frames_per_trial: Annotated[int, typer.Option(help="Dual-plane frames of a trial, at 30 Hz.")] = 30,
    pairs: Annotated[int, typer.Option(help="Implant pairs to use, 1 to 10.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers; another seed gives another archive.")] = 0,
    workers: Workers = None,
    scheduler_file: SchedulerFile = None,
    size: Annotated[
        str, typer.Option(help="Rows of the raw frames, px, or WIDTHxHEIGHT in the ratio 1664x1600.", metavar="PX")
    ] = "1600",
    ids: Annotated[FrameIds, typer.Option(help="Id in the file name of a frame.")] = "measurement",
    rotation: Annotated[
        Rotations | None,
        typer.Option(
            help="Rotations in the pose table; quaternion if not given, euler with --csv.", show_default=False
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write the authors' CSV files instead of a database.")] = False,
    bit_depth: Annotated[int, typer.Option(help="8 for JPEG frames, 16 for TIFF.")] = 8,
    nifti: Annotated[
        bool, typer.Option("--nifti", help="Also write the implants as volumes (.nii, 0.4 mm).")
    ] = False,
    marker_frames: Annotated[
        int, typer.Option(help="Dual-plane frames of the marker phantom for each of three calibrations.")
    ] = 4,
    distortion: Annotated[
        DistortionFields,
        typer.Option(
            help="Distortion of the intensifiers: lab for fields that the lab's stored form holds, real for fields "
            "like those of real intensifiers, which it misses by 0.1 to 0.5 mm RMS."
        ),
    ] = "lab",
    fs_shift_mm: Annotated[
        float,
        typer.Option(
            help="Length of the shift of the true fs intensifier from the stored one, mm; the direction is drawn at "
            "random for each of the three sessions."
        ),
    ] = 0.0,
    fs_turn_deg: Annotated[
        float,
        typer.Option(
            help="Rotation of the true fs intensifier from the stored one about its centre, deg; the axis is drawn "
            "at random for each session."
        ),
    ] = 0.0,
    principal_point_sd_mm: Annotated[
        float,
        typer.Option(
            help="Standard deviation of the errors of the stored principal points, mm along each axis, drawn for "
            "each plane and session."
        ),
    ] = 0.0,
    sid_sd_mm: Annotated[
        float,
        typer.Option(
            help="Standard deviation of the errors of the stored source-to-intensifier distances, mm, drawn for each "
            "plane and session."
        ),
    ] = 0.0,
    async_ms: Annotated[
        float,
        typer.Option(
            help="Time between the exposures of the planes, ms; whether fs is exposed later or earlier than bs is "
            "drawn at random for each session."
        ),
    ] = 0.0,
) -> None:
    """Write a simulated archive in the layout of the download, with the exact poses in truth.parquet.

    With --fs-shift-mm to --async-ms, the frames are drawn with the true cameras, and the tables hold others. Refined,
    manual and obsolete poses are then those that a registration with the stored cameras gives, each with its error.
    simulation.json holds what was drawn.

    The same seed gives the same bytes for any number of workers. Run an interrupted simulation again with the same
    command to resume it.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum simulate ARCHIVE --trials 4 --frames-per-trial 6 --size 800
    veriserum simulate ARCHIVE --csv --bit-depth 16 --seed 1
    veriserum simulate ARCHIVE --fs-shift-mm 2 --fs-turn-deg 0.5
    """
    from veriserum_hf.simulation import Settings, parse_height, simulate as write_simulated

    settings = Settings(
        trials=trials,
        frames_per_trial=frames_per_trial,
        pairs=pairs,
        seed=seed,
        height_px=parse_height(size),
        ids=ids,
        rotation=rotation or ("euler" if csv else "quaternion"),
        csv=csv,
        bit_depth=bit_depth,  # type: ignore[arg-type] # checked there
        nifti=nifti,
        marker_frames=marker_frames,
        distortion=distortion,
        fs_translation_mm=fs_shift_mm,
        fs_rotation_deg=fs_turn_deg,
        principal_point_sd_mm=principal_point_sd_mm,
        sid_sd_mm=sid_sd_mm,
        async_ms=async_ms,
    )
    with (
        dask_executor(scheduler_file) as executor,
        show_progress("simulating", "frames", when_interrupted=KEPT) as progress,
    ):
        written = write_simulated(output, settings, workers=workers, executor=executor, progress=progress)
    print_text(f"written to {written}")
