"""Check the licences of everything that is installed; ``--write`` writes the table of docs/licences.md.

A licence that is unknown, or that is not among those that may stand beside MIT, is an error. What only builds, tests
or documents is checked too: it runs on the same machine, but is not part of the package.
"""

import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs/licences.md"
_ALLOWED = {
    "0BSD", "Apache", "BSD", "BSL", "Boost", "CC0", "HPND", "ISC", "MIT", "MIT-CMU", "MPL", "Mozilla", "NCSA", "PSF",
    "Python", "Unlicense", "ZPL", "Zlib",
}  # fmt: skip
# Read in its text.
_READ = {"embreex": "BSD-2-Clause"}  # its metadata holds the text alone
_COPYLEFT = re.compile(r"\b(A?GPL|LGPL|SSPL|EUPL|GNU|proprietary|commercial)", re.IGNORECASE)
_HEAD = """\
# Licences

Of every distribution that `make demo` and `.ci/run` install, from its metadata. Written by `.ci/licences.py --write`;
`.ci/run` fails where one is unknown or not permissive (MPL, whose terms end at its own files, is permitted).

The wheel of imageio-ffmpeg also holds the program ffmpeg, with its H.264 encoder x264, under the GPL. It is not
linked to: `veriserum show` runs it as a process of its own to write an MP4; `IMAGEIO_FFMPEG_EXE` names another one.

| distribution | licence |
|---|---|
"""


def licence(distribution: Distribution) -> str:
    """Licence by a distribution's metadata: its expression, its classifiers, or the first line of its text."""
    metadata = distribution.metadata
    if metadata["Name"] in _READ:
        return _READ[metadata["Name"]]
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [line for line in metadata.get_all("Classifier") or () if line.startswith("License ::")]
    named = [line.split(" :: ")[-1] for line in classifiers if not line.endswith("OSI Approved")]
    if named:
        return ", ".join(named)
    return ((metadata.get("License") or "").strip().splitlines() or ["unknown"])[0]


def fault(text: str) -> str | None:
    """What is wrong with a licence, if anything."""
    if text == "unknown":
        return "unknown"
    # Where there is a choice, one that is allowed suffices; of several that hold together, each must be.
    choices = re.split(r"\bOR\b", text)
    if any(all(_is_allowed(part) for part in re.split(r"\bAND\b|,", choice)) for choice in choices):
        return None
    return f"not among the permitted ones: {text}"


def _is_allowed(text: str) -> bool:
    return bool(_ALLOWED & set(re.findall(r"[A-Za-z0-9]+(?:-CMU)?", text))) and not _COPYLEFT.search(text)


def main() -> int:
    """Check, and write the table if asked to."""
    found = {each.metadata["Name"]: licence(each) for each in distributions() if each.metadata["Name"]}
    faults = {name: why for name, text in found.items() if (why := fault(text))}
    for name, why in sorted(faults.items()):
        print(f"{name}: {why}")
    if "--write" in sys.argv:
        rows = [f"| {name} | {found[name]} |\n" for name in sorted(found, key=str.lower)]
        PAGE.write_text(_HEAD + "".join(rows))
    print(f"{len(found)} distributions, {len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
