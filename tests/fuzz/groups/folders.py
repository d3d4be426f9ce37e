"""Folders of a conversion, finished and not, that the same command meets again."""

import json
import shutil
from pathlib import Path

from tests.fuzz.cases import HARMLESS, OPEN, SAFE, Case, Group, replaced
from tests.fuzz.commands import check_again

unfinished = Group("unfinished-folders", "unfinished", check_again, times=8)
finished = Group("finished-folders", "unfinished", check_again, times=8)


def _files(case: Case, folder: str) -> list[Path]:
    case.touch_all()
    return sorted(path for path in (case.data / folder).rglob("*") if path.is_file() and path.name != "lock")


def spoil(case: Case, path: Path) -> str:
    """Cut, empty, zero or remove one file."""
    content = path.read_bytes()
    how = case.one(("cut", "empty", "zeros", "gone", "bit"))
    if how == "cut":
        path.write_bytes(content[: case.random.randrange(len(content) or 1)])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "zeros":
        path.write_bytes(bytes(len(content)))
    elif how == "gone":
        path.unlink()
    elif content:
        at = case.random.randrange(len(content))
        path.write_bytes(content[:at] + bytes((content[at] ^ 4,)) + content[at + 1 :])
    return f"{path.name} {how}"


@unfinished(SAFE)
def file_spoilt(case: Case) -> str:
    """A file of the unfinished folder is cut, empty, zeroed, changed or gone, as after a power cut."""
    return spoil(case, case.one(_files(case, "OUT.incomplete")))


@unfinished(SAFE)
def record_spoilt(case: Case) -> str:
    """A record of the unfinished folder is cut, empty, zeroed, changed or gone."""
    return spoil(case, case.one([path for path in _files(case, "OUT.incomplete") if path.suffix == ".json"]))


@unfinished(OPEN)
def record_of_another_kind(case: Case) -> str:
    """A record of the unfinished folder is JSON of another kind."""
    path = case.one([path for path in _files(case, "OUT.incomplete") if path.suffix == ".json"])
    path.write_text(case.one(("[]", "{}", "null", "3", '"x"', "[[]]", '[{"config": "../x"}]', "[" * 100_000)))
    return path.name


@unfinished(OPEN)
def number_of_a_record(case: Case) -> str:
    """A number of a record is another, or text."""
    path = case.one([path for path in _files(case, "OUT.incomplete") if path.suffix == ".json"])
    record = json.loads(path.read_text())
    place = record[0] if isinstance(record, list) else record
    name = case.one(sorted(place))
    place[name] = case.one((-1, 10**9, "x", None, "../../x", []))
    path.write_text(json.dumps(record))
    return f"{path.name} {name} = {place[name]}"


@unfinished(SAFE)
def file_special(case: Case) -> str:
    """A pipe, a folder, a device or nothing in the place of a file."""
    return replaced(case, case.one(_files(case, "OUT.incomplete")))


@unfinished(SAFE)
def left_over(case: Case) -> str:
    """Files that were left half-written, or that nobody knows."""
    case.touch_all()
    folder = case.data / "OUT.incomplete/data/calibrated"
    name = case.one((".train-00000-of-00001.parquet.1.partial", "train-00009-of-00010.parquet", "x.tmp", "-rf"))
    (folder / name).write_bytes(b"x" * 50)
    return name


@unfinished(SAFE)
def shards_swapped(case: Case) -> str:
    """Two shards have one another's names."""
    shards = [path for path in _files(case, "OUT.incomplete") if path.suffix == ".parquet"]
    one, other = case.random.sample(shards, 2)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    return f"{one.name} {other.name}"


@unfinished(OPEN)
def folder_in_place(case: Case) -> str:
    """The unfinished folder is a file or a link; or OUT is one."""
    case.touch_all()
    out = case.data / case.one(("OUT.incomplete", "OUT"))
    if out.exists():
        shutil.rmtree(out)
    how = case.one(("file", "link", "broken link"))
    if how == "file":
        out.write_text("x")
    elif how == "link":
        (case.folder / "target").mkdir()
        out.symlink_to(case.folder / "target")
    else:
        out.symlink_to("nowhere")
    return f"{out.name} {how}"


@finished(SAFE)
def shard_spoilt(case: Case) -> str:
    """A shard of the finished folder is cut, empty, zeroed, changed or gone."""
    return spoil(case, case.one([path for path in _files(case, "DONE") if path.suffix == ".parquet"]))


@finished(SAFE)
def any_file_spoilt(case: Case) -> str:
    """A file of the finished folder is cut, empty, zeroed, changed or gone."""
    return spoil(case, case.one(_files(case, "DONE")))


@finished(SAFE)
def shard_special(case: Case) -> str:
    """A pipe, a folder, a device or nothing in the place of a shard or a record."""
    return replaced(case, case.one(_files(case, "DONE")))


@finished(SAFE)
def folder_gone(case: Case) -> str:
    """The folder of a configuration is gone or empty."""
    case.touch_all()
    folder = case.data / "DONE" / case.one(("calibrated", "anatomies"))
    shutil.rmtree(folder)
    if case.random.random() < 0.5:
        folder.mkdir()
    return folder.name


@finished(OPEN)
def conversion_of_another_kind(case: Case) -> str:
    """The record of the conversion is JSON of another kind, or not JSON."""
    case.touch_all()
    path = case.data / "DONE/conversion.json"
    path.write_text(case.one(("", "{", "[]", "{}", "null", "3", "[" * 100_000, "\x00")))
    return ""


@finished(OPEN)
def of_another_archive(case: Case) -> str:
    """The archive is another since."""
    case.touch_all()
    path = case.one(sorted((case.data / "archive/veriserum_collection_compressed").iterdir()))
    path.write_bytes(path.read_bytes() + b"\n")
    return path.name


@finished(HARMLESS)
def untouched(case: Case) -> str:
    """Nothing was changed: the same command is done at once."""
    return ""
