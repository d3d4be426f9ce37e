"""``veriserum match``: arguments; the work is done in `app`."""

import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.cli.options import DatasetOrArchive
from veriserum_hf.cli.output import print_text, warn
from veriserum_hf.errors import MatchError


def match(
    dataset: DatasetOrArchive,
    poses: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Parquet or CSV of poses, as `predict` or `register` write, to begin from and to show; repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Parquet or CSV file of accepted poses.")
    ] = Path("manual.parquet"),
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Output of `check-labels`, whose flags are shown.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Output folder of a training, released checkpoint, or model on the hub; a button then places the "
            "implants of a frame or a trial where it predicts them.",
            show_default=False,
        ),
    ] = None,
    observer: Annotated[
        str | None,
        typer.Option(help="Who accepts the poses; your name on this machine if not given.", show_default=False),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 8017,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that other machines can reach needs --token.")
    ] = "127.0.0.1",
    token: Annotated[
        str,
        typer.Option(
            envvar="VERISERUM_MATCH_TOKEN",
            help="Secret of at least 16 characters that the page's address must carry.",
            show_default=False,
        ),
    ] = "",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address of the page.")] = False,
) -> None:
    """Match implants by hand in the browser: see a trial, move, refine, accept.

    Opens a page with both images of a frame and the outlines of the data set's poses and those of files. Implants are
    moved by mouse and keys in both images at once, placed by a network, and refined by registration. Every accepted
    pose is written to the output at once, with who and when. Run the same command again to go on. Ctrl-C ends it.

    Exit status: 0 ended, 2 not started.

    Examples
    --------
    veriserum match OUT
    veriserum match OUT --poses registered.parquet --check labels.parquet
    veriserum match OUT --model RUN
    veriserum match OUT --output second.parquet --observer "B. Reader"
    """
    warn(f"opening {dataset}: reading its frames and implants{f', loading {model}' if model else ''} ...")
    try:
        from veriserum_hf.app import open_workbench, serve
    except ImportError as error:
        raise MatchError(
            f'the workbench needs {error.name or "viser"}: pip install "veriserum-hf[app,train]"'
        ) from error

    def ready(address: str) -> None:
        print_text(f"matching at {address} (Ctrl-C ends it); accepted poses go to {output}")
        if not no_browser:
            webbrowser.open(address)

    with (
        open_workbench(dataset, output, poses or [], check, observer, model) as workbench,
        suppress(KeyboardInterrupt),
    ):
        serve(workbench, host, port, token, ready)
