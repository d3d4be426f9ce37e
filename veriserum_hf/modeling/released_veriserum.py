"""Checkpoints that come with the package: folders in it, or beside it in the repository, loaded by their names."""

from pathlib import Path
from typing import Any

_FOLDERS = (Path(__file__).parents[2] / "checkpoints", Path(__file__).parents[1] / "checkpoints")


def released() -> dict[str, Path]:
    """Return the folders of released checkpoints by name; those of the repository take precedence."""
    found = [file.parent for folder in reversed(_FOLDERS) for file in sorted(folder.glob("*/config.json"))]
    return {folder.name: folder for folder in found}


def located(name_or_path: Any) -> Any:
    """Return the folder of a released checkpoint for its name, and anything else as it is.

    A folder of the same name in the current one takes precedence.
    """
    name = str(name_or_path)
    return name_or_path if Path(name).is_dir() or name not in (there := released()) else str(there[name])


def check_name(name_or_path: Any) -> None:
    """Raise OSError for a name that is no folder, no released checkpoint and no name on the hub."""
    name = str(name_or_path)
    if "/" not in name and not Path(name).exists():
        raise OSError(
            f"there is no folder and no released checkpoint {name}; released are {', '.join(released()) or 'none'}, "
            "and names on the hub are ORG/NAME"
        )
