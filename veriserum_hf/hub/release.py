"""Put the model of a run beside the package, as a released checkpoint, which is loaded by its name.

    python -m veriserum_hf.hub.release RUN NAME checkpoints

The folder ``checkpoints/NAME`` gets weights, configuration, settings and metrics of the run, and a card like that of
a pushed model. RUN/evaluation.json and RUN/results.md are part of it, where they exist. The code is the package's.

Exit status: 0 done, 2 not done.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from veriserum_hf.core import masked
from veriserum_hf.errors import HubError, VeriserumError
from veriserum_hf.hub.models import EVALUATION, RESULTS, WEIGHTS, checkpoint
from veriserum_hf.hub.push import CARD
from veriserum_hf.jobs import atomic_path

_MOST_BYTES = 20_000_000  # of the weights: they are in the repository, and in every wheel
_FILES = ("preprocessor_config.json", WEIGHTS, "training.yaml", "metrics.json", EVALUATION, RESULTS, CARD)
_OF_THE_HUB = ("auto_map", "custom_pipelines")  # fields of a config.json whose code is beside it


def release(run: Path, name: str, folder: Path) -> Path:
    """Write a released checkpoint, and return its folder.

    Parameters
    ----------
    run : output folder of a training.
    name : of the checkpoint.
    folder : of released checkpoints.

    Raises
    ------
    HubError
        If the folder is not a finished run, the name is a path, there is a checkpoint of this name, or the weights
        are larger than 20 MB.
    TrainingError
        If the weights cannot be loaded.

    """
    target = folder / name
    if Path(name).name != name:
        raise HubError(f"{name!r} is no name of a released checkpoint: expected one without a folder")
    if target.exists():
        raise HubError(f"{target} exists and was not changed; choose another name, or remove it")
    with tempfile.TemporaryDirectory(prefix="veriserum-release-") as published:
        made = Path(published)
        checkpoint(run, made, name)
        size = (made / WEIGHTS).stat().st_size
        if size > _MOST_BYTES:
            raise HubError(f"the weights of {run} have {size / 1e6:.1f} MB, a released checkpoint at most 20")
        config = json.loads((made / "config.json").read_text(encoding="utf-8"))
        kept = {field: value for field, value in config.items() if field not in _OF_THE_HUB}
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as partial:
            partial.mkdir()
            for file in (made / each for each in _FILES):
                if file.exists():
                    shutil.copyfile(file, partial / file.name)
            text = json.dumps(kept, indent=2, sort_keys=True) + "\n"
            (partial / "config.json").write_text(text, encoding="utf-8")
    return target


def main() -> None:
    """Run the command line; a user's error is one message and exit status 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="output folder of a training")
    parser.add_argument("name", metavar="NAME", help="of the checkpoint, such as veriserum-pose-small")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of released checkpoints")
    arguments = parser.parse_args()
    try:
        print(release(arguments.run, arguments.name, arguments.folder))
    except (VeriserumError, OSError) as error:  # of the user, or the disk
        print(f"error: {masked(str(error))}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
