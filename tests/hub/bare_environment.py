"""An environment that holds what a published checkpoint needs, and nothing else that is installed here.

Making a real one would download gigabytes: this one links the installed files of some distributions and of all that
those require, and Python is started so that it looks nowhere else.
"""

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

NEEDED = ("torch", "transformers", "numpy", "roma")


def make_environment(folder: Path, needed: Iterable[str] = NEEDED) -> None:
    """Link distributions, by default those that a checkpoint needs, and all that they require into a new folder."""
    wanted, found = list(needed), {}
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # of another platform, or there already
            continue
        requirements = map(Requirement, found[name].requires or ())
        wanted += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    folder.mkdir()
    for each in found.values():
        for top, target in _top_levels(each).items():
            if not (folder / top).exists():
                (folder / top).symlink_to(target)


def _top_levels(of: Distribution) -> dict[str, Path]:
    """What a distribution has put into the folder of packages."""
    names = {file.parts[0] for file in of.files or () if file.parts[0] not in ("..", "__pycache__")}
    return {name: Path(str(of.locate_file(name))) for name in names}


def run(environment: Path, script: Path, *arguments: str, variables: dict[str, str]) -> str:
    """Standard output of a script in such an environment, far from this checkout; it must succeed."""
    start = (
        "import runpy, sys; sys.path.append(sys.argv[1]); sys.argv = sys.argv[2:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        # -I: neither the working directory nor PYTHONPATH nor the user's packages; -S: not those of this environment.
        [sys.executable, "-I", "-S", "-c", start, str(environment), str(script), *arguments],
        cwd=environment.parent,
        env={"PATH": "", "OMP_NUM_THREADS": "1", **variables},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
