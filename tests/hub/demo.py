"""The end of ``make demo``: publish a data set and a model on a hub of this machine, and use both from there.

``python -m tests.hub.demo FOLDER`` takes ``FOLDER/dataset`` and ``FOLDER/run`` with its evaluation.json. What was
downloaded is evaluated by a process of its own, with an empty cache, in an empty folder, when everything that was
pushed is out of the way; it must tell the same as before the push.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hub.loopback import Loopback

ROOT = Path(__file__).parents[2]
DATASET, MODEL = "my-lab/veriserum", "my-lab/veriserum-pose"


def _run(hub: Loopback, home: Path, command: list[str], **options: object) -> None:
    subprocess.run(command, check=True, env=hub.environment(home), **options)  # type: ignore[call-overload]


def main(folder: Path) -> None:
    """Push, download, evaluate, compare."""
    veriserum = str(Path(sys.executable).with_name("veriserum"))
    shutil.rmtree(folder / "hub", ignore_errors=True)
    (folder / "hub").mkdir()
    hub = Loopback(folder / "hub")
    try:
        with tempfile.TemporaryDirectory() as temporary:
            home, elsewhere = Path(temporary) / "home", Path(temporary) / "elsewhere"
            elsewhere.mkdir()
            _run(hub, home, [veriserum, "push-dataset", str(folder / "dataset"), DATASET])
            _run(hub, home, [veriserum, "push-model", str(folder / "run"), MODEL])
            shutil.rmtree(home)
            pushed = folder / "pushed"
            pushed.mkdir()
            for name in ("archive", "dataset", "run"):
                (folder / name).replace(pushed / name)
            script = str(ROOT / "training" / "evaluate.py")
            command = [sys.executable, script, "--model", MODEL, "--dataset", DATASET, "--output_dir", "report"]
            _run(hub, home, command, cwd=elsewhere)
            for name in ("archive", "dataset", "run"):
                (pushed / name).replace(folder / name)
            pushed.rmdir()
            shutil.copytree(elsewhere / "report", folder / "report", dirs_exist_ok=True)
    finally:
        hub.stop()
    before, after = (json.loads((folder / name / "evaluation.json").read_text()) for name in ("run", "report"))
    for document in (before, after):
        del document["evaluated"]  # names of folders before, of repositories after
    if before != after:
        sys.exit("the downloaded model tells other poses of the downloaded data set than before the push")
    print(f"{MODEL} on {DATASET}, downloaded: every figure is what it was before the push")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
