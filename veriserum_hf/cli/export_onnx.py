"""``veriserum export-onnx``."""

from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.cli.options import AsJson
from veriserum_hf.cli.output import print_json, print_text


def export_onnx(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Output folder of a training, released checkpoint, or model on the hub.",
            show_default=False,
        ),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX file to write.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write a pose model as an ONNX file, for ONNX Runtime in any program.

    The graph takes any number of frames, with all planes of the model. Its poses of frames of noise must be within
    0.01 mm and 0.01 degrees of those of torch, or nothing is written. Needs the extra onnx.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum export-onnx RUN pose.onnx
    """
    from dataclasses import asdict

    from veriserum_hf.inference import export_onnx as export, load_model

    exported = export(load_model(model, "cpu"), file)
    if as_json:
        print_json({"output": str(file)} | asdict(exported))
        return
    for title, arguments in (("takes", exported.inputs), ("returns", exported.outputs)):
        print_text(title)
        for name, described in arguments.items():
            print_text(f"  {name}: {described}")
    print_text(f"written to {file}")
