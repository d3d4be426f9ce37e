"""Options of a simulation."""

import json

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, Case, Group
from tests.fuzz.commands import check_simulation

simulations = Group("simulation-options", "options", check_simulation, times=8)

COUNTS = (
    "--trials",
    "--frames-per-trial",
    "--pairs",
    "--size",
    "--marker-frames",
    "--workers",
    "--bit-depth",
    "--seed",
)
CHOICES = ("--ids", "--rotation")


def _put(case: Case, name: str, value: str | None) -> str:
    path = case.data / "options.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    return f"{name} {value!r}"


@simulations(NOTICED)
def count_impossible(case: Case) -> str:
    """A number is negative, none, or absurd."""
    return _put(case, case.one(COUNTS), case.one(("-1", "x", "", "1.5", "nan", "1e9", str(10**40), "1,0")))


@simulations(NOTICED)
def size_impossible(case: Case) -> str:
    """A size that no raw frame has."""
    return _put(case, "--size", case.one(("0", "99", "3201", "104x101", "100x104", "1664x", "x100", "1e3", "100px")))


@simulations(NOTICED)
def choice_unknown(case: Case) -> str:
    """A choice that there is not."""
    return _put(case, case.one(CHOICES), case.one(("other", "", "Quaternion ", "3", "[/b]")))


@simulations(NOTICED)
def option_unknown(case: Case) -> str:
    """An option that there is not."""
    return _put(case, case.one(("--trial-count", "--Trials", "-q", "---", "--seed=x")), None)


@simulations(NOTICED)
def csv_of_quaternions(case: Case) -> str:
    """The CSV files of the download hold no quaternions."""
    _put(case, "--csv", None)
    return _put(case, "--rotation", "quaternion")


@simulations(OPEN)
def output_strange(case: Case) -> str:
    """The place of the archive is a file, a link or a folder."""
    out = case.folder / "simulated"
    how = case.one(("file", "folder", "full folder", "link to nothing", "link to a folder"))
    if how == "file":
        out.write_text("x")
    elif "link" in how:
        out.symlink_to(case.data if how.endswith("folder") else "nowhere/there")
    else:
        out.mkdir()
        if how == "full folder":
            (out / "notes.txt").write_text("x")
    return how


@simulations(HARMLESS)
def other_archive(case: Case) -> str:
    """Another seed, depth, form of the tables or of the frames' names."""
    name, value = case.one(
        (("--seed", "7"), ("--bit-depth", "16"), ("--csv", None), ("--ids", "pose"), ("--rotation", "euler"))
    )
    return _put(case, name, value)
