"""Names and records of data sets as they are published: without local paths."""

import json
import re
from pathlib import Path
from typing import Any, TypedDict

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

_RECORD = "conversion.json"  # of every converted data set, in its folder and on the hub
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_name(name: str) -> bool:
    """Whether this names a repository of the hub and not a local folder."""
    return bool(_HUB_NAME.fullmatch(name)) and not name.startswith(".") and not Path(name).exists()


def public_name(name: str) -> str:
    """Return a hub name unchanged, and of a path the last part, without local folders."""
    return name if is_hub_name(name) else Path(name).expanduser().resolve().name if name else ""


class DataRecord(TypedDict):
    """Record of a data set that is kept with a run.

    Attributes
    ----------
    name : on the hub, or of the folder, without its path.
    on_hub : whether it is the former.
    revision : commit of the hub, or fingerprint of the archive that the folder was converted from; None if unknown.
    simulated : whether the archive is simulated; False if unknown.

    """

    name: str
    on_hub: bool
    revision: str | None
    simulated: bool


def data_record(dataset: str | None) -> DataRecord | None:
    """Record of a data set that is kept with a run; None without one."""
    if dataset is None:
        return None
    on_hub = is_hub_name(dataset)
    record: DataRecord = {
        "name": public_name(dataset),
        "on_hub": on_hub,
        "revision": None,
        "simulated": False,
    }
    try:
        file = _file(dataset, _RECORD)
        archive = json.loads(file.read_text(encoding="utf-8"))["archive"]
        # A file of the hub is in a folder that is named by its commit.
        revision = file.parent.name if on_hub else f"archive {archive['fingerprint']}"
        return {**record, "revision": revision, "simulated": bool(archive["simulated"])}
    except (OSError, ValueError, KeyError, TypeError, HfHubHTTPError, HFValidationError):
        return record  # a data set of another origin, or the hub is not reachable: unknown


def converted_document(dataset: str, name: str) -> dict[str, Any] | None:
    """Content of a JSON file that every conversion writes; None if there is none, or it is not reachable."""
    try:
        found = json.loads(_file(dataset, name).read_text(encoding="utf-8"))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError):
        return None
    return found if isinstance(found, dict) else None


def _file(dataset: str, name: str) -> Path:
    if is_hub_name(dataset):
        return Path(str(hf_hub_download(dataset, name, repo_type="dataset")))
    return Path(dataset, name)
