"""The end of ``make demo``: publish a data set and a model on a hub of this machine, and use both from there.

``python -m tests.hub.demo FOLDER`` takes ``FOLDER/dataset`` and ``FOLDER/run`` with its evaluation.json. What was
downloaded is evaluated by a process of its own, with an empty cache, in an empty folder, while the
pushed files are moved away; the result must be the same as before the push.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.hub.loopback import Loopback

ROOT = Path(__file__).parents[2]
DATASET, MODEL = "my-lab/veriserum", "my-lab/veriserum-pose"


PUSHED = ("archive", "dataset", "run")


def main(folder: Path) -> None:
    """Push, download, evaluate, compare."""
    veriserum = str(Path(sys.executable).with_name("veriserum"))
    shutil.rmtree(folder / "hub", ignore_errors=True)
    (folder / "hub").mkdir()
    hub = Loopback(folder / "hub")
    try:
        with tempfile.TemporaryDirectory() as temporary:
            sender, receiver, elsewhere = (Path(temporary) / name for name in ("sender", "receiver", "elsewhere"))
            for command in (["push-dataset", folder / "dataset", DATASET], ["push-model", folder / "run", MODEL]):
                subprocess.run([veriserum, *command], check=True, env=hub.environment(sender))
            elsewhere.mkdir()
            with _out_of_the_way(folder):
                subprocess.run(
                    [sys.executable, ROOT / "training" / "evaluate.py", "--model", MODEL, "--dataset", DATASET]
                    + ["--output_dir", "report"],
                    check=True,
                    env=hub.environment(receiver),
                    cwd=elsewhere,
                )
            shutil.copytree(elsewhere / "report", folder / "report", dirs_exist_ok=True)
    finally:
        hub.stop()
    before, after = (json.loads((folder / name / "evaluation.json").read_text()) for name in ("run", "report"))
    for document in (before, after):
        del document["evaluated"]  # names of folders before, of repositories after
    if before != after:
        sys.exit("the downloaded model predicts other poses for the downloaded data set than before the push")
    print(f"{MODEL} on {DATASET}, both downloaded: every figure is the same as before the push")


@contextmanager
def _out_of_the_way(folder: Path) -> Iterator[None]:
    """Move the pushed folders away for the while."""
    hidden = folder / "hidden"
    hidden.mkdir()
    for name in PUSHED:
        (folder / name).rename(hidden / name)
    try:
        yield
    finally:
        for name in PUSHED:
            (hidden / name).rename(folder / name)
        hidden.rmdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
