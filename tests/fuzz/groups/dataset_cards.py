"""The card and the records of a converted data set."""

import json
import shutil
from pathlib import Path

from tests.fuzz.cases import NOTICED, OPEN, Case, Group
from tests.fuzz.commands import check_dataset

cards = Group("dataset-cards", "dataset", check_dataset, times=6)


def _card(case: Case) -> Path:
    case.touch_all()
    return case.data / "dataset/README.md"


@cards(NOTICED)
def paths_out(case: Case) -> str:
    """The card takes its files from outside of the folder."""
    path = _card(case)
    outside = case.folder / "outside"
    shutil.copytree(case.data / "dataset/calibrated", outside)
    to = case.one(("../../outside/", f"{outside}/", "/etc/", "http://127.0.0.1:9/"))
    path.write_text(path.read_text().replace("path: calibrated/", f"path: {to}"))
    return to


@cards(NOTICED)
def front_matter_broken(case: Case) -> str:
    """The card's YAML is broken, of another kind, or gone."""
    path = _card(case)
    text = path.read_text()
    path.write_text(
        case.one(
            (
                "---\n: [\n---\n",
                "---\n- 1\n---\n",
                f"---\n!!python/object/apply:os.system ['touch {case.trap}']\n---\n",
                text[: len(text) // 9],
                text.replace("configs:", "configs: 3\nx:"),
                text.replace("- config_name: calibrated", "- config_name: [calibrated]"),
                "---\na: &a [x, x, x]\nb: &b [*a, *a, *a]\nconfigs: *b\n---\n",
                text.replace("dtype: int64", "dtype: nothing"),
                text.replace("num_examples: ", "num_examples: 9"),
            )
        )
    )
    return ""


@cards(OPEN)
def card_missing(case: Case) -> str:
    """The card is missing, empty, not text, or a folder."""
    path = _card(case)
    path.unlink()
    content = case.one((None, b"", b"\xff\xfe\0\0", bytes(1000), "folder"))
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    return repr(content)


@cards(NOTICED)
def split_renamed(case: Case) -> str:
    """The card names splits or configurations that have no files."""
    path = _card(case)
    text = path.read_text()
    path.write_text(text.replace(*case.one((("calibrated/test", "calibrated/exam"), ("split: test", "split: ../x")))))
    return ""


RECORDS = ("conversion.json", "splits.json", "rejected.jsonl")


@cards(OPEN)
def record_broken(case: Case) -> str:
    """A record is not JSON, empty, of another kind, or gone."""
    case.touch_all()
    path = case.data / "dataset" / case.one(RECORDS)
    content = case.one((None, "", "{", "[]", "null", "3", '{"versions": 3}', "NaN", "[" * 100_000, "\x00"))
    path.unlink()
    if content is not None:
        path.write_text(content)
    return f"{path.name} {str(content)[:20]}"


@cards(OPEN)
def record_changed(case: Case) -> str:
    """A value of the record of the conversion is of another kind."""
    case.touch_all()
    path = case.data / "dataset/conversion.json"
    record = json.loads(path.read_text())
    first = case.one(sorted(record))
    if isinstance(record[first], dict) and case.random.random() < 0.7:
        second = case.one(sorted(record[first]))
        record[first][second] = case.one((None, [], {}, -1, 1e400, "x" * 1000, "\x1b[2J[/b]"))
        first += f".{second}"
    elif case.random.random() < 0.5:
        record[first] = case.one((None, [], "x", 5))
    else:
        del record[first]
    path.write_text(json.dumps(record))
    return first


@cards(OPEN)
def more_files(case: Case) -> str:
    """Files that no conversion makes: a script, a link out, a secret, a pickle."""
    case.touch_all()
    folder = case.data / "dataset"
    name = case.one(("dataset.py", ".env", "model.pkl", "calibrated/more.parquet", "a b\nc", "calibrated/test.py"))
    if case.random.random() < 0.5:
        (folder / name).symlink_to("/etc/hostname")
    else:
        (folder / name).write_text(f"open({str(case.trap)!r}, 'w').close()\n")
    return name
