"""Train a dual-plane pose model.

    accelerate launch -m veriserum_hf.training.train --config FILE.yaml --dataset OUT --output_dir RUN
    torchrun --nproc_per_node 2 -m veriserum_hf.training.train --config FILE.yaml --dataset OUT --output_dir RUN

FILE.yaml holds settings; the repository has examples in training/configs. Every setting of it can be given here too,
and overrides it; --help lists them. OUT is a folder that `veriserum convert` made, or a data set on the hub.

In the end RUN holds the best checkpoint with its configuration, which `VeriserumPoseModel.from_pretrained(RUN)`
loads; the last one, in last; training.yaml, from which the run can be repeated; and metrics.json. There waiting_share
is time of the host alone: the share of training in which it waited for a batch to be handed over, whatever a GPU
still had to do.

Exit status: 0 done, 2 not done, 128 and the number of a signal: interrupted (130: Ctrl-C).
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DataLoaderConfiguration,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    ProjectConfiguration,
)
from safetensors import SafetensorError
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from veriserum_hf.core import masked
from veriserum_hf.errors import TrainingError, VeriserumError
from veriserum_hf.jobs import exit_status, heed_signals
from veriserum_hf.training.ending import ended
from veriserum_hf.training.run import TrainingRun
from veriserum_hf.training.settings import TrainingSettings, parse_settings


def run_training(arguments: Sequence[str], program: str | None = None) -> None:
    """Train with the options of the command line, with messages on standard error.

    Parameters
    ----------
    arguments : options, see `parse_settings`.
    program : what help and errors call the program; the script that runs if not given.

    Raises
    ------
    VeriserumError
        If the run cannot begin or continue.
    SystemExit
        For ``--help``, and after a line on standard error if an option is invalid.

    """
    disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore] # of files that take no time to write
    # Tables of a pretrained backbone's weights: those that matter are checked.
    set_verbosity_error()  # type: ignore[no-untyped-call, unused-ignore]
    settings = parse_settings(arguments, program, __doc__)
    with (
        _messages_on_standard_error(),
        _errors_as_messages(settings),
        ended(make_accelerator(settings)) as accelerator,
    ):
        TrainingRun(settings, accelerator).run()


def make_accelerator(settings: TrainingSettings) -> Accelerator:
    """The accelerator of this process; TrainingError where its device does not support the precision."""
    optimization = settings.optimization
    gpu = torch.cuda.is_available()
    if not gpu and optimization.mixed_precision == "fp16":
        raise TrainingError("mixed_precision fp16 needs a GPU; use bf16, or no")
    return Accelerator(
        cpu=not gpu,  # or accelerate would not let processes that torchrun starts without a GPU find each other
        mixed_precision=optimization.mixed_precision,
        # An optimiser step may take its batches from two epochs.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            optimization.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True, data_seed=optimization.seed, non_blocking=gpu
        ),
        log_with=settings.run.report_to if settings.run.with_tracking else None,
        project_config=ProjectConfiguration(settings.run.output_dir, f"{settings.run.output_dir}/tracking"),
        # The others wait while the main process downloads the data set.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=6))],
    )


@contextmanager
def _messages_on_standard_error() -> Iterator[None]:
    """Log what a run reports, above its progress bar."""
    logger = logging.getLogger("veriserum_hf.training")
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False  # each message once, whatever handlers a caller has
    try:
        with logging_redirect_tqdm([logger]):
            yield
    finally:
        logger.setLevel(level)
        logger.propagate = propagate


@contextmanager
def _errors_as_messages(settings: TrainingSettings) -> Iterator[None]:
    """Raise TrainingError where the run's folder cannot be written to, or data not read; each in one line."""
    try:
        yield
    except TrainingError as error:
        # Of a process that loads data, torch puts the traceback before the message.
        *traceback, message = str(error).split(f"{TrainingError.__qualname__}: ")
        raise (TrainingError(message.rstrip()) if traceback else error) from error
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"the run in {settings.run.output_dir} stopped: {error}. Its finished checkpoints are kept: free disk "
            "space or grant permission, then continue with --resume_from_checkpoint latest"
        ) from error


def main() -> None:
    """Run the command line; a user's error is one message and exit status 2, a signal one and 128 + its number."""
    with heed_signals():
        _main()


def _main() -> None:
    try:
        run_training(sys.argv[1:])
    except VeriserumError as error:
        tqdm.write(f"error: {masked(str(error))}", file=sys.stderr)  # not into a line of progress
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        tqdm.write(
            "interrupted; with --checkpointing_steps, --resume_from_checkpoint latest resumes the run",
            file=sys.stderr,
        )
        sys.exit(exit_status(interrupt))


if __name__ == "__main__":
    main()
