"""Options that the commands share."""

from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.core import PlaneName

OnePlane = Annotated[
    PlaneName | None, typer.Option(help="Plane of frames whose name does not state it, as bs_000001.tif does.")
]
Frames = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FRAME...", help="Raw frames of the marker phantom.", show_default=False),
]
FromArchive = Annotated[
    Path | None, typer.Option("--archive", help="Archive of the ids; that of --write if not given.")
]
TrialId = Annotated[
    int | None, typer.Option("--calibration-trial", help="Instead of FRAME...: use the frames of this trial.")
]
DistortionId = Annotated[int | None, typer.Option(help="Distortion of the frames: that of this calibration.")]
SourceId = Annotated[
    int | None, typer.Option(help="Source calibration to start from; an approximate one if not given.")
]
Report = Annotated[Path | None, typer.Option(metavar="PNG", help="Also draw a report page of the fit.")]
_OF_A_PHANTOM = "the name of a shipped one, or a YAML file of your own (see the documentation of calibration)"
Grid = Annotated[
    str | None,
    typer.Option("--phantom", metavar="PHANTOM", help=f"Grid phantom, if not sipla_grid: {_OF_A_PHANTOM}."),
]
GridOfFrames = Annotated[
    str | None, typer.Option(metavar="PHANTOM", help="Grid phantom of --grid, if not sipla_grid; as --phantom.")
]
Markers = Annotated[
    str | None,
    typer.Option("--phantom", metavar="PHANTOM", help=f"Marker phantom, if not cylinder: {_OF_A_PHANTOM}."),
]
WriteTo = Annotated[
    Path | None,
    typer.Option(
        metavar="ARCHIVE",
        help="Add the result to this archive as a row with a new id; if the frames are files of the archive, the row "
        "names their calibration trial.",
    ),
]
