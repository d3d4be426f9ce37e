"""Write requirements.lock: the version and hash of every file that `make demo` and `.ci/run` install.

``python3.11 .ci/lock.py`` asks pip what it would install for ``.[dev]`` and the build, under constraints.txt, into a
new environment. torch is left out: its files differ from one machine to another (CPU, CUDA); constraints.txt holds
its version.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
_HEAD = "# Written by .ci/lock.py for Python {python}, Linux x86-64. Everything but torch; see constraints.txt.\n"
_NOT_LOCKED = {"torch", "veriserum-hf"}


def normalized(name: str) -> str:
    """Name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, tuple[str, str]]:
    """Version and sha256 of every distribution that pip would install, by name."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", f"{folder}/venv"], check=True)
        report = Path(folder, "report.json")
        command = [f"{folder}/venv/bin/python", "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--only-binary", ":all:", "--report", str(report), "-c", str(ROOT / "constraints.txt")]
        # An editable installation is built with `editables`.
        subprocess.run([*command, f"{ROOT}[dev]", *build, "editables"], check=True)
        installed = json.loads(report.read_text())["install"]
    found = {}
    for each in installed:
        name = normalized(each["metadata"]["name"])
        if name not in _NOT_LOCKED:
            found[name] = each["metadata"]["version"], each["download_info"]["archive_info"]["hashes"]["sha256"]
    return dict(sorted(found.items()))


def main() -> None:
    """Write the file."""
    lines = [f"{name}=={version} --hash=sha256:{digest}\n" for name, (version, digest) in locked().items()]
    LOCK.write_text(_HEAD.format(python=f"{sys.version_info.major}.{sys.version_info.minor}") + "".join(lines))


if __name__ == "__main__":
    main()
