"""A case of the fuzzer: one mutation of good data, known by its group and number."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

FRAMES, ANATOMIES, CALIBRATION = "veriserum_collection_compressed", "veriserum_anatomies", "veriserum_calibration"
DATABASE = "veriserumSqlite3_refined.db"


class Expected(StrEnum):
    """What must become of a mutation."""

    HARMLESS = "harmless"  # accepted, every row as it was
    SAFE = "safe"  # noticed, or the images within 3 grey levels RMS and all else as it was
    NOTICED = "noticed"  # a problem, a rejected row or a refusal
    OPEN = "open"  # nobody can know: no traceback, no hang, no other row changed


HARMLESS, SAFE, NOTICED, OPEN = Expected


class NotFittingError(Exception):
    """The mutation does not fit this number's data."""


@dataclass
class Case:
    """Folder and random numbers of one case, and the rows that its mutation may change.

    Attributes
    ----------
    folder : a copy of the group's good data, to be mutated; with ``OUT`` and the like of the commands below it.
    random : the same for the same group and number.
    touched : keys of rows (`tests.fuzz.rows`) that the mutation concerns; None for every row.

    """

    folder: Path
    random: random.Random
    number: int
    touched: set[str] | None = field(default_factory=set)

    @property
    def data(self) -> Path:
        """The data that is mutated."""
        return self.folder / "data"

    @property
    def trap(self) -> Path:
        """File that a payload of the mutation writes; if it is there, code of the data was run."""
        return self.folder / "ran"

    def touch(self, *keys: str) -> None:
        """Say that these rows may change."""
        if self.touched is not None:
            self.touched.update(keys)

    def touch_all(self) -> None:
        """Say that every row may change."""
        self.touched = None

    def one(self, things: Any) -> Any:
        """One of several things, at random."""
        things = list(things)
        if not things:
            raise NotFittingError("there is nothing to choose from")
        return self.random.choice(things)

    def frame(self) -> Path:
        """File of one raw frame, whose row may change."""
        path: Path = self.one(sorted((self.data / FRAMES).iterdir()))
        self.touch(f"calibrated {int(path.stem.split('_')[1])}")
        return path

    def mesh(self) -> Path:
        """File of one implant, whose row may change."""
        path: Path = self.one(sorted((self.data / ANATOMIES).iterdir()))
        self.touch(f"anatomies {int(path.stem.split('_')[1])}")
        return path

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """The archive's database, to write to."""
        with closing(sqlite3.connect(self.data / DATABASE)) as connection, connection:
            yield connection

    def sql(self, command: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of one command."""
        with self.database() as connection:
            return connection.execute(command, values).fetchall()


@dataclass(frozen=True)
class Mutation:
    """One way to spoil good data.

    Attributes
    ----------
    name : of the function.
    what : its docstring: what is wrong with the data.
    expected : what must become of it.
    apply : mutates a case's data; returns the particulars.

    """

    name: str
    what: str
    expected: Expected
    apply: Callable[[Case], object]


Added = Callable[[Callable[[Case], object]], Callable[[Case], object]]


@dataclass
class Group:
    """Mutations of one kind of data.

    Attributes
    ----------
    name : on the command line and in the table.
    base : the good data (`tests.fuzz.bases`).
    check : runs the commands that read it.
    times : cases of each mutation in the whole run.

    """

    name: str
    base: str
    check: "Callable[[Case], Any]"
    times: int
    mutations: list[Mutation] = field(default_factory=list)

    def __call__(self, expected: Expected) -> Added:
        """Add the decorated function to the group."""

        def add(apply: Callable[[Case], object]) -> Callable[[Case], object]:
            name = apply.__name__.strip("_")
            self.mutations.append(Mutation(name, (apply.__doc__ or "").strip(), expected, apply))
            return apply

        return add

    @property
    def unspoilt(self) -> str:
        """Name of what the commands make of the good data, the same in groups that run the same ones."""
        return f"{self.base}-{self.check.__name__}"

    @property
    def cases(self) -> range:
        """Numbers of the whole run."""
        return range(self.times * len(self.mutations))

    def mutation(self, number: int) -> Mutation:
        """Return the mutation of a case."""
        return self.mutations[number % len(self.mutations)]

    def case(self, number: int, folder: Path) -> Case:
        """Return a case before its mutation, its data not yet there."""
        return Case(folder, random.Random(f"{self.name} {number}"), number)


def added_to(*groups: Group) -> Callable[[Expected], Added]:
    """Return what a group is, for several: a decorator that adds a mutation to each."""

    def with_expected(expected: Expected) -> Added:
        def add(apply: Callable[[Case], object]) -> Callable[[Case], object]:
            for group in groups:
                group(expected)(apply)
            return apply

        return add

    return with_expected


def replaced(case: Case, path: Path, things: Sequence[str] = ("pipe", "folder", "/dev/zero", "nowhere")) -> str:
    """Put a named pipe, a folder, or a link to something else or to nothing in the place of a file."""
    thing: str = case.one(things)
    path.unlink()
    if thing == "pipe":
        os.mkfifo(path)
    elif thing == "folder":
        path.mkdir()
    else:
        path.symlink_to(thing)
    return f"{path.name} {thing}"


def copied(base: Path, case: Case) -> None:
    """Give a case its data."""
    shutil.rmtree(case.folder, ignore_errors=True)
    shutil.copytree(base, case.data, symlinks=True)
