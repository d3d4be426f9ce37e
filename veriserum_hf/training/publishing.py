"""The models of a run that `from_pretrained` loads, in its folder and on the hub."""

import logging
import shutil
from pathlib import Path
from tempfile import mkdtemp

from veriserum_hf.errors import TrainingError, VeriserumError
from veriserum_hf.hub import push_model
from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseModel

_logger = logging.getLogger(__name__)


def save_model(model: VeriserumPoseModel, folder: Path) -> None:
    """Write what `from_pretrained` loads; each file appears as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for abandoned in folder.glob(".model.*.partial"):  # of killed processes
        shutil.rmtree(abandoned, ignore_errors=True)
    partial = Path(mkdtemp(prefix=".model.", suffix=".partial", dir=folder))
    model.save_pretrained(partial)
    VeriserumImageProcessor(size=model.config.image_size).save_pretrained(partial)
    # Weights first, and config.json, which marks a model, last.
    for path in sorted(partial.iterdir(), key=lambda path: (path.name == "config.json", path.suffix == ".json")):
        path.replace(folder / path.name)
    partial.rmdir()


def push_run(folder: Path, name: str) -> None:
    """Upload the best checkpoint with its code and card to a private repository; see `veriserum push-model`.

    Raises
    ------
    TrainingError
        If it cannot be uploaded; the run is complete in its folder.

    """
    try:
        pushed = push_model(folder, name)
    except VeriserumError as error:
        raise TrainingError(
            f"{error} The run is complete in {folder}; push it with `veriserum push-model {folder} {name}`"
        ) from error
    _logger.info("pushed to %s", pushed.url)
