"""Names and records of data sets as they are published: without local paths."""

import json
import re
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from veriserum_hf.core import endpoint_fault
from veriserum_hf.errors import VeriserumError

_RECORD = "conversion.json"  # of every converted data set, in its folder and on the hub
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_name(name: str) -> bool:
    """Whether this names a repository of the hub and not a local folder."""
    return bool(_HUB_NAME.fullmatch(name)) and not name.startswith(".") and not Path(name).exists()


def public_name(name: str) -> str:
    """Return a hub name unchanged, and of a path the last part, without local folders."""
    return name if is_hub_name(name) else Path(name).expanduser().resolve().name if name else ""


def check_reachable(name: str, what: str, error: type[VeriserumError], expected: str) -> None:
    """Refuse a name that is no repository's and no path, and a hub that has no address, before the hub is asked.

    Parameters
    ----------
    name : of a data set or model, or its path.
    what : it is, in the message.
    error : to raise.
    expected : what the name may be, for the message.

    """
    if "://" in name or Path(name).expanduser().exists():
        return
    if not is_hub_name(name):
        nothing = "there is no such folder, and on the hub: names there are ORG/NAME"
        raise error(f"cannot load {what}: {nothing}. Expected {expected}")
    if fault := endpoint_fault(constants.ENDPOINT):
        raise error(f"cannot load {what}: there is no such folder, and {fault}")


class DataRecord(TypedDict):
    """Record of a data set that is kept with a run.

    Attributes
    ----------
    name : on the hub, or of the folder, without its path.
    on_hub : whether it is the former.
    revision : commit of the hub, or fingerprint of the archive that the folder was converted from; None if unknown.
    simulated : whether the archive is simulated; False if unknown.
    imported : present and True where the frames are a laboratory's own, not those of the download.

    """

    name: str
    on_hub: bool
    revision: str | None
    simulated: bool
    imported: NotRequired[bool]


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
        record = {**record, "revision": revision, "simulated": bool(archive["simulated"])}
        return {**record, "imported": True} if archive.get("imported") is True else record
    except (OSError, ValueError, KeyError, TypeError, RecursionError, HfHubHTTPError, HFValidationError):
        return record  # a data set of another origin, or the hub is not reachable: unknown


def converted_document(dataset: str, name: str) -> dict[str, Any] | None:
    """Content of a JSON file that every conversion writes; None if there is none, or it is not reachable."""
    try:
        found = json.loads(_file(dataset, name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, HfHubHTTPError, HFValidationError):
        return None
    return found if isinstance(found, dict) else None


def _file(dataset: str, name: str) -> Path:
    if is_hub_name(dataset):
        return Path(str(hf_hub_download(dataset, name, repo_type="dataset")))
    return Path(dataset, name)
