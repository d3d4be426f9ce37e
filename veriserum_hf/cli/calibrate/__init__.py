"""``veriserum calibrate ...``: one file for each command."""

import typer

from veriserum_hf.cli.calibrate.cameras import cameras
from veriserum_hf.cli.calibrate.distortion import distortion
from veriserum_hf.cli.calibrate.rig import rig
from veriserum_hf.cli.calibrate.source import source
from veriserum_hf.cli.help import add_command, verbatim

_EXAMPLES = """\
veriserum calibrate distortion bs_000001.tif fs_000001.tif --write ARCHIVE
veriserum calibrate source bs_*.tif --grid grids/bs_000001.tif
veriserum calibrate rig --calibration-trial 27 --distortion-id 2 \\
    --write ARCHIVE
veriserum calibrate cameras ARCHIVE cameras.json --write
veriserum calibrate rig --help"""

app = typer.Typer(
    help="Calibrate from raw frames of the phantoms. An archive is changed only with --write.\n\n"
    "Exit status: 0 done, 2 not done, 3 done but some frames or rigs could not be used.",
    short_help="Calibrate from raw frames of the phantoms. An archive is changed only with --write.",
    epilog=verbatim("Examples:", _EXAMPLES),
    no_args_is_help=True,
    rich_markup_mode=None,
)
# In the order of --help.
add_command(app, distortion)
add_command(app, source)
add_command(app, rig)
add_command(app, cameras)
