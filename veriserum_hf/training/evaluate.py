"""Evaluate a trained model on a split of a data set: errors by implant, task, plane and axis.

    python -m veriserum_hf.training.evaluate --model RUN --dataset OUT --split test --output_dir report
    accelerate launch -m veriserum_hf.training.evaluate --model RUN --dataset OUT --json > evaluation.json

The table, or with --json one JSON document, goes to standard output, everything else to standard error. The model
receives images, cameras and the implants' identities; it locates the implants itself.

Exit status: 0 done, 2 not done, 128 and the number of a signal: interrupted (130: Ctrl-C).
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm import tqdm

from veriserum_hf.core import PLANES, SIDES, masked
from veriserum_hf.dataset import open_rows, trial_overlap
from veriserum_hf.errors import VeriserumError
from veriserum_hf.evaluation import Evaluated, Evaluation, pose_errors, sample_points, summarise
from veriserum_hf.inference import fit_to, load_model, planes_seen, predict_labelled, weights_sha256
from veriserum_hf.jobs import exit_status, heed_signals
from veriserum_hf.knee import read_axes
from veriserum_hf.reports import agreements_of, evaluation_markdown, joint_of
from veriserum_hf.training.loaders import batches_of
from veriserum_hf.training.samples import FrameSamples


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, metavar="RUN", help="output folder of a training, or a hub name")
    parser.add_argument("--dataset", required=True, metavar="DIR", help="converted folder, or a hub name")
    parser.add_argument(
        "--dataset_config_name", default="calibrated", help="calibrated, manual or target (default: %(default)s)"
    )
    parser.add_argument(
        "--split", default="test", choices=("train", "validation", "test", "all"), help="(%(default)s)"
    )
    parser.add_argument("--planes", nargs="+", choices=PLANES, help="what the model sees (all that it can)")
    knee = parser.add_mutually_exclusive_group()
    knee.add_argument("--axes", type=Path, metavar="YAML", help="side of the knee, and landmarks of its implants")
    knee.add_argument("--side", choices=SIDES, help="instead: the side alone")
    parser.add_argument("--batch_size", type=_at_least(1), default=16, help="frames, of each process (%(default)s)")
    parser.add_argument("--num_workers", type=_at_least(0), default=2, help="loading, of each process (%(default)s)")
    parser.add_argument("--output_dir", type=Path, help="folder for JSON, table, errors.parquet and figures")
    parser.add_argument("--json", action="store_true", help="print one JSON document, nothing else")
    return parser.parse_args()


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        return int(text)

    parse.__name__ = "whole number"  # what argparse calls it
    return parse


def evaluate(arguments: argparse.Namespace, accelerator: Accelerator) -> Evaluation | None:
    """Load, check and estimate in every process; report from the main one.

    Parameters
    ----------
    arguments : of `parse_arguments`.
    accelerator : of this process.

    Returns
    -------
    The numbers of `veriserum_hf.evaluation.summarise` and what was evaluated; None except in the main process.

    Raises
    ------
    VeriserumError
        If model or data set cannot be loaded, or do not fit each other.

    """
    report = None
    if arguments.output_dir and accelerator.is_main_process:
        from veriserum_hf.reports import Report  # needs matplotlib, which nothing else here does

        report = Report(arguments.output_dir)
    rows = open_rows(arguments.dataset, arguments.dataset_config_name)
    frames, meshes = rows.labelled(arguments.split), rows.meshes
    model, weights = load_model(arguments.model, accelerator.device), weights_sha256(arguments.model)
    fit_to(model, frames, rows)
    planes = planes_seen(model, arguments.planes)
    samples = FrameSamples(frames.rows, size=model.config.image_size)
    loader = batches_of(samples, arguments.batch_size, arguments.num_workers, accelerator.device)
    batches = tqdm(
        accelerator.prepare(loader), desc="evaluating", unit="batch", disable=not accelerator.is_main_process
    )
    estimates = predict_labelled(model, batches, accelerator, planes=planes)
    if not accelerator.is_main_process:
        return None
    errors = pose_errors(estimates, sample_points(meshes))
    evaluated: Evaluated = {
        "model": arguments.model,
        "dataset": arguments.dataset,
        "split": arguments.split,
        "config": arguments.dataset_config_name,
        "planes": list(planes),
    }
    if weights:
        evaluated["weights_sha256"] = weights
    joint = joint_of([estimates], meshes, arguments.side if arguments.axes is None else read_axes(arguments.axes))
    of_joint = joint.pairs(estimates)
    overlap = trial_overlap(model.config.training_data, arguments.dataset, frames, arguments.split)
    document: Evaluation = {
        **summarise(errors),
        "agreement": agreements_of(estimates, meshes, joint, of_joint),
        "evaluated": evaluated,
        "training_overlap": overlap,
    }
    if report:
        report.write(errors, document, of_joint)
    return document


def main() -> None:
    """Run the command line; a user's error is one message and exit status 2, a signal one and 128 + its number."""
    with heed_signals():
        _main()


def _main() -> None:
    arguments = parse_arguments()
    # Or accelerate would not let processes that torchrun starts without a GPU find each other.
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    try:
        document = evaluate(arguments, accelerator)
        if document is not None:
            as_json = arguments.json
            print(json.dumps(document, indent=1, allow_nan=False) if as_json else evaluation_markdown(document))
    except (VeriserumError, OSError) as error:  # of the user, or the disk
        print(f"error: {masked(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(exit_status(interrupt))
    finally:
        accelerator.end_training()


if __name__ == "__main__":
    main()
