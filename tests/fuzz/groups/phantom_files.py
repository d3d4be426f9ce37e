"""Files of a laboratory's own phantoms."""

from pathlib import Path
from typing import Any

import yaml

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, Case, Group, replaced
from tests.fuzz.commands import check_own_phantoms

phantom_files = Group("phantom-files", "phantoms", check_own_phantoms, times=4)

_STRANGE = (None, -1, 0, 1, "x", "", [], {}, True, 1e300, float("nan"), 10**12, "\x1b[2J", [["x"]])


def _any(case: Case) -> Path:
    path: Path = case.one((case.data / "grid.yaml", case.data / "markers.yaml"))
    return path


@phantom_files(NOTICED)
def no_plain_mapping(case: Case) -> str:
    """The file is no mapping, no YAML, or makes an object of Python."""
    path = _any(case)
    payload = f"kind: !!python/object/apply:os.system ['touch {case.trap}']\n"
    grows = "\n".join([f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)])
    text = case.one(("", "- 1", "text", ": [", "\x00", "[" * 5000, payload, "a0: &a0 [x]\n" + grows))
    path.write_text(text)
    return f"{path.name} {text[:30]!r}"


@phantom_files(OPEN)
def any_field(case: Case) -> str:
    """A field has a strange value, is missing, or unknown."""
    path = _any(case)
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    name = case.one([*values, "unknown", "rotation_deg", "origin", "center_px", "missing", "mirrored", "field"])
    if case.random.random() < 0.2:
        values.pop(name, None)
    else:
        values[name] = case.one(_STRANGE)
    path.write_text(yaml.safe_dump(values))
    return f"{path.name} {name}"


@phantom_files(NOTICED)
def another_grid(case: Case) -> str:
    """The grid has other numbers of beads, another lattice, or the file is that of markers."""
    path = case.data / "grid.yaml"
    changed = case.one(
        ({"rows": 40}, {"columns": 49}, {"lattice": "hexagonal"}, {"pitch_mm": 9}, {"polarity": "bright"})
        + ({"kind": "markers"}, {"outline": "full"}, {"extra": [[0, 0]]})
    )
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changed))
    return str(changed)


@phantom_files(HARMLESS)
def comments_and_order(case: Case) -> str:
    """The same fields in another order, with comments."""
    path = _any(case)
    given = list(yaml.safe_load(path.read_text()).items())
    case.random.shuffle(given)
    path.write_text("# a phantom\n" + yaml.safe_dump(dict(given), sort_keys=False) + "# end\n")
    return path.name


@phantom_files(NOTICED)
def special_file(case: Case) -> str:
    """A pipe, a device, a folder or nothing in the place of the file."""
    return replaced(case, _any(case))
