"""Makes the good data, mutates it, runs the commands and judges."""

import importlib
import json
import pkgutil
import random
import shutil
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import veriserum_hf
from tests.fuzz import groups as group_modules
from tests.fuzz.bases import MAKERS
from tests.fuzz.cases import Case, Group, NotFittingError, copied
from tests.fuzz.commands import Ran, Row, Seen
from tests.fuzz.judge import judged, judged_end
from tests.fuzz.processes import Ended, each_forked
from veriserum_hf.dataset import SOURCES_OF_ROWS
from veriserum_hf.jobs import source_hash

CaseKey = tuple[str, int]


def all_groups() -> dict[str, Group]:
    """Groups of every module in `tests.fuzz.groups`, by name."""
    found: dict[str, Group] = {}
    for module in pkgutil.iter_modules(group_modules.__path__):
        for value in vars(importlib.import_module(f"{group_modules.__name__}.{module.name}")).values():
            if isinstance(value, Group):
                found[value.name] = value
    return found


def quick_cases(groups: dict[str, Group]) -> list[CaseKey]:
    """One case of each group, the same each time; with their good data 65 s of processor time."""
    return [(name, random.Random(name).choice(groups[name].cases)) for name in sorted(groups)]


class Fuzzer:
    """Good data in a folder, and runs of cases with it."""

    def __init__(self, folder: Path, at_once: int) -> None:
        self.folder, self.at_once = folder.resolve(), at_once
        self.groups = all_groups()
        self.folder.mkdir(parents=True, exist_ok=True)
        _import_everything()

    def all_cases(self, group: str | None) -> list[CaseKey]:
        """Every case, or those of one group, the groups side by side so that an early look shows all."""
        chosen = [self.groups[group]] if group else self.groups.values()
        cases = chain.from_iterable(((each.name, number) for number in each.cases) for each in chosen)
        return sorted(cases, key=lambda case: (case[1], case[0]))

    def run(self, cases: Iterable[CaseKey], keep: bool = False) -> Iterator[dict[str, Any]]:
        """Run cases; yields what the log holds of each. The folder of a case is removed unless it is kept."""
        cases = list(cases)
        self._prepare({name for name, _ in cases})

        def work(case: CaseKey) -> dict[str, str]:
            return self._work(*case)

        for ended in each_forked(cases, work, self.folder / "answers", at_once=self.at_once):
            yield self._entry(ended)
            if not keep:
                shutil.rmtree(self._case_folder(*ended.key), ignore_errors=True)

    def _prepare(self, names: set[str]) -> None:
        """Make the good data of some groups, and see what the commands make of it."""
        bases = sorted({"jpeg", *(self.groups[name].base for name in names)} - _there(self.folder / "bases"))
        if "jpeg" in bases:  # others are made from it
            bases.remove("jpeg")
            _all_well(each_forked(["jpeg"], self._make_base, self.folder / "answers", limit_s=600, limit_mb=8000))
        _all_well(each_forked(bases, self._make_base, self.folder / "answers", limit_s=600, limit_mb=8000))
        good = sorted({self.groups[name].unspoilt for name in names} - _there(self.folder / "good"))
        _all_well(each_forked(good, self._make_good, self.folder / "answers", limit_s=600, limit_mb=8000))

    def _make_base(self, name: str) -> None:
        partial = self.folder / f"partial_{name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _in_folder(partial / "cache")
        MAKERS[name](partial / "data", self.folder / "bases/jpeg")
        (self.folder / "bases").mkdir(exist_ok=True)
        (partial / "data").rename(self.folder / "bases" / name)
        shutil.rmtree(partial)

    def _make_good(self, name: str) -> None:
        """What the commands make of good data."""
        group = next(group for group in self.groups.values() if group.unspoilt == name)
        case = group.case(0, self.folder / "cases" / f"good_{name}")
        copied(self.folder / "bases" / group.base, case)
        _in_folder(case.folder / "cache")
        seen = group.check(case)
        # A push has no token here, which today's dry run needs.
        if broken := [ran for ran in seen.ran if ran.error or (ran.status and ran.command != "push-dataset")]:
            raise RuntimeError(f"good data of {name}: {broken[0]}")
        rows = {key: [row.values, [image.hex() for image in row.images]] for key, row in seen.rows.items()}
        ran = [[each.command, each.status, each.output, each.errors, each.error] for each in seen.ran]
        (self.folder / "good").mkdir(exist_ok=True)
        (self.folder / "good" / name).write_text(json.dumps([ran, rows, sorted(seen.rejected)]))
        shutil.rmtree(case.folder)

    def _good(self, name: str) -> Seen:
        ran, rows, rejected = json.loads((self.folder / "good" / name).read_text())
        return Seen(
            [Ran(*each) for each in ran],
            {key: Row(values, [bytes.fromhex(image) for image in images]) for key, (values, images) in rows.items()},
            set(rejected),
        )

    def _case_folder(self, name: str, number: int) -> Path:
        return self.folder / "cases" / f"{name}_{number}"

    def _work(self, name: str, number: int) -> dict[str, str]:
        """Mutate, run and judge, in a process of its own."""
        group = self.groups[name]
        mutation = group.mutation(number)
        case: Case = group.case(number, self._case_folder(name, number))
        copied(self.folder / "bases" / group.base, case)
        _in_folder(case.folder / "cache")
        try:
            particulars = str(mutation.apply(case) or "")
        except NotFittingError as why:
            return {"particulars": str(why), "outcome": "skipped", "detail": ""}
        (case.folder / "particulars").write_text(particulars, errors="backslashreplace")
        outcome, detail = judged(case, mutation.expected, group.check(case), self._good(group.unspoilt))
        return {"particulars": particulars, "outcome": outcome, "detail": detail}

    def _entry(self, ended: Ended) -> dict[str, Any]:
        name, number = ended.key
        group, folder = self.groups[name], self._case_folder(name, number)
        mutation = group.mutation(number)
        entry = {"group": name, "number": number, "mutation": mutation.name, "expected": mutation.expected}
        entry |= {"wall_s": round(ended.wall_s, 2), "cpu_s": round(ended.cpu_s, 2), "peak_mb": round(ended.peak_mb)}
        if (verdict := judged_end(group.case(number, folder), ended)) is not None:
            noted = folder / "particulars"
            particulars = noted.read_text() if noted.exists() else ""
            return entry | {"particulars": particulars, "outcome": verdict.outcome, "detail": verdict.detail}
        return entry | ended.result


def _there(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def _all_well(ends: Iterator[Ended]) -> None:
    for ended in ends:
        if ended.signal or ended.failed:
            raise RuntimeError(f"the good data {ended.key} cannot be made: signal {ended.signal}\n{ended.failed}")


def _in_folder(cache: Path) -> None:
    """Let this process keep prepared data sets in a folder of its own."""
    import datasets

    cache.mkdir(parents=True, exist_ok=True)
    datasets.config.HF_DATASETS_CACHE = cache


def _import_everything() -> None:
    """Import what any command imports, so that a forked process has it."""
    for module in pkgutil.walk_packages(veriserum_hf.__path__, "veriserum_hf."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    source_hash(*SOURCES_OF_ROWS)  # which each process would compute again
    for name in ("accelerate", "matplotlib.pyplot", "trimesh", "scipy.spatial", "scipy.optimize", "rich.console"):
        importlib.import_module(name)
