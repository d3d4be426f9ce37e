"""Options that the commands share."""

from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.core import PlaneName

OnePlane = Annotated[
    PlaneName | None, typer.Option(help="Of frames whose name does not tell it as bs_000001.tif does.")
]
Frames = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FRAME...", help="Raw frames of the marker phantom.", show_default=False),
]
FromArchive = Annotated[
    Path | None, typer.Option("--archive", help="Archive that ids are of; that of --write if not given.")
]
TrialId = Annotated[
    int | None, typer.Option("--calibration-trial", help="Instead of FRAME...: the frames of this trial.")
]
DistortionId = Annotated[int | None, typer.Option(help="Distortion of the frames: this calibration's.")]
SourceId = Annotated[int | None, typer.Option(help="Source calibration to start from; a rough one if not given.")]
Report = Annotated[Path | None, typer.Option(metavar="PNG", help="Also draw a page about the fit.")]
WriteTo = Annotated[
    Path | None,
    typer.Option(
        metavar="ARCHIVE",
        help="Add the result to this archive, as a row under a new id; it names the frames' calibration trial where "
        "they are the archive's own files.",
    ),
]
