"""``veriserum train``: arguments; the work is done in `training`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.cli.output import warn
from veriserum_hf.jobs import exit_status


def train(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="YAML file of settings, such as training/configs/demo.yaml of the repository."
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="OUT", help="Folder that `veriserum convert` made, or a data set on the hub.", show_default=False
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "--output_dir", metavar="RUN", help="Folder to create.", show_default=False),
    ] = None,
) -> None:
    """Train a pose network in one process.

    Every setting of the YAML file can also be given as an option, which overrides the file. Configurations to begin
    with are in the repository's `training/configs`; an installed package does not hold them.
    `python -m veriserum_hf.training.train --help` lists all settings. For GPUs and several processes, use the same
    options with `accelerate launch -m veriserum_hf.training.train`.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum train --config training/configs/demo.yaml --dataset OUT --output-dir RUN
    veriserum train --config training/configs/demo.yaml --dataset OUT --output-dir RUN --max-train-steps 300
    """
    from veriserum_hf.training import run_training

    declared = {"--config": config, "--dataset": dataset, "--output_dir": output_dir}
    given = [f"{name}={value}" for name, value in declared.items() if value is not None]
    try:
        run_training([*given, *context.args], program="veriserum train")
    except KeyboardInterrupt as interrupt:
        warn("interrupted; with --checkpointing-steps, --resume-from-checkpoint latest resumes the run")
        sys.exit(exit_status(interrupt))
