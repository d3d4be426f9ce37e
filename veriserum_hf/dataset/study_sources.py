"""Which file each imported image is of, by names that hold no folder of this machine beyond what is needed."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from veriserum_hf.core import PLANES
from veriserum_hf.dataset.plan import PATH_OF, Plan
from veriserum_hf.dataset.study import Study
from veriserum_hf.dataset.study_rows import INDEX_OF

SOURCES = "sources.jsonl"


def names_of(study: Study, paths: Iterable[Path]) -> dict[Path, str]:
    """Names of files: relative to the YAML file; of files elsewhere, the shortest distinct tails of their paths."""
    every = list(dict.fromkeys(paths))
    names = {path: study.name_of(path) for path in every if path.is_relative_to(study.folder)}
    elsewhere = [path for path in every if path not in names]
    length = 1
    while elsewhere:
        tails = {path: "/".join(path.relative_to(path.anchor).parts[-length:]) for path in elsewhere}
        counts = Counter([*names.values(), *tails.values()])
        for path, tail in tails.items():
            if counts[tail] == 1 or length >= len(path.parts):
                names[path] = tail
        elsewhere = [path for path in elsewhere if path not in names]
        length += 1
    return names


def sources_text(frames: Plan, names: Mapping[Path, str]) -> str:
    """One line of JSON a measurement: its ids, and of every plane the file and the page or frame of a stack.

    Parameters
    ----------
    frames : plan of the rows.
    names : of all files; see `names_of`.

    """
    ids = ["measurement_id", "trial_id", "frame_index"]
    columns = [*ids, *PATH_OF.values(), *INDEX_OF.values()]
    rows = [row for table in frames.splits.values() for row in table.select(columns).to_pylist()]
    used = Counter(row[PATH_OF[plane]] for row in rows for plane in PLANES)
    lines = []
    for row in sorted(rows, key=lambda row: int(row["measurement_id"])):
        found = {name: row[name] for name in ids}
        for plane in PLANES:
            path = row[PATH_OF[plane]]
            found[f"file_{plane}"] = path and names[Path(path)]
            found[f"page_{plane}"] = row[INDEX_OF[plane]] if used[path] > 1 else None
        lines.append(json.dumps(found))
    return "".join(f"{line}\n" for line in lines)
