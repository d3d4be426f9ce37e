"""``python -m tests.fuzz``: every case; ``... GROUP``: those of a group; ``... GROUP NUMBER``: one, in full.

A run that was stopped goes on where it was, as long as neither the package nor the fuzzer has changed.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # what is forked has no threads
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # where nobody answers
os.environ["COLUMNS"] = "200"

from tests.fuzz.results import write_results
from tests.fuzz.run import Fuzzer, quick_cases

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run what the command line asks for; 1 if there is a fault that must not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("group", nargs="?")
    parser.add_argument("number", nargs="?", type=int)
    parser.add_argument("--folder", type=Path, default=ROOT / "fuzz-data", help="for good data, cases and the log")
    parser.add_argument("--quick", action="store_true", help="some cases of every group")
    parser.add_argument("--at-once", type=int, default=2, help="processes")
    parser.add_argument("--results", type=Path, help="Markdown file to write the table to")
    given = parser.parse_args()
    fuzzer = Fuzzer(given.folder, given.at_once)
    if given.number is not None:
        entry = next(fuzzer.run([(given.group, given.number)], keep=True))
        print(json.dumps(entry, indent=1))
        return int(entry["outcome"].isupper())
    cases = quick_cases(fuzzer.groups) if given.quick else fuzzer.all_cases(given.group)
    log = given.folder / ("quick.jsonl" if given.quick else "log.jsonl")
    entries = _entries(log, fuzzer, cases)
    if given.results:
        write_results(given.results, fuzzer.groups, entries)
    bad = [entry for entry in entries if entry["outcome"].isupper()]
    for entry in bad:
        print(f"{entry['outcome']:14} {entry['group']} {entry['number']:4} {entry['mutation']}: {entry['detail']}")
    print(f"{len(entries)} cases, {len(bad)} faults")
    return int(bool(bad))


def _entries(log: Path, fuzzer: Fuzzer, cases: list[tuple[str, int]]) -> list[dict]:
    """Entries of the log of all cases: of those that are in it already, and of the others, which are run."""
    identity = {"code": _identity()}
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if not lines or lines[0] != identity:
        lines = [identity]
        log.write_text(json.dumps(identity) + "\n")
    entries = {(entry["group"], entry["number"]): entry for entry in lines[1:]}
    waiting = [case for case in cases if case not in entries]
    started = time.monotonic()
    with log.open("a") as file:
        for done, entry in enumerate(fuzzer.run(waiting), start=1):
            file.write(json.dumps(entry) + "\n")
            file.flush()
            entries[entry["group"], entry["number"]] = entry
            if done % 20 == 0 and sys.stderr.isatty():
                left = (time.monotonic() - started) / done * (len(waiting) - done)
                print(f"\r{done}/{len(waiting)}, {left / 60:.1f} min left ", end="", file=sys.stderr)
    return [entries[case] for case in cases]


def _identity() -> str:
    """Hash of the package's and the fuzzer's sources."""
    digest = hashlib.sha256()
    for folder in (ROOT / "veriserum_hf", ROOT / "tests/fuzz"):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
