"""Small archives to damage, and a watch on the files that are opened."""

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.archives import FRAMES_FOLDER, TinyFrame, write_archive
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

SIZE = (416, 400)


@dataclass(frozen=True)
class Download:
    """An archive that a test may damage; poses 5 and 6 are obsolete, 7 and 8 current, all of measurement 2."""

    root: Path
    database: Path
    frames: dict[int, TinyFrame]
    extension: str

    def read(self) -> VeriserumArchive:
        return VeriserumArchive(self.root)

    def sql(self, script: str) -> None:
        with closing(sqlite3.connect(self.database)) as connection:
            connection.executescript(script)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query).fetchall()

    def frame(self, name: str) -> Path:
        return self.root / FRAMES_FOLDER / f"{name}.{self.extension}"

    def listing(self) -> dict[str, tuple[int, int]]:
        """Every file and folder with its size and time."""
        stats = {path: path.lstat() for path in (self.root, *self.root.rglob("*"))}
        return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def _written(root: Path, **options: Any) -> Download:
    archive = write_archive(root, frame_size=SIZE, **options)
    return Download(root, archive.database, archive.frames, options.get("extension", "jpg"))


def _copied(original: Download, root: Path) -> Download:
    shutil.copytree(original.root, root)
    return Download(root, root / original.database.name, original.frames, original.extension)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Download:
    """The archive as written; not to be changed."""
    return _written(tmp_path_factory.mktemp("archive") / "veriserum", calibration_frames=True)


@pytest.fixture(scope="session")
def pristine_csv(tmp_path_factory: pytest.TempPathFactory) -> Download:
    return _written(tmp_path_factory.mktemp("archive") / "veriserum", csv=True)


@pytest.fixture(scope="session")
def pristine_png(tmp_path_factory: pytest.TempPathFactory) -> Download:
    """16-bit frames: to know their white level some of them must be decoded."""
    return _written(tmp_path_factory.mktemp("archive") / "veriserum", extension="png", bit_depth=16, rotation="both")


@pytest.fixture
def download(pristine: Download, tmp_path: Path) -> Download:
    return _copied(pristine, tmp_path / "veriserum")


@pytest.fixture
def csv_download(pristine_csv: Download, tmp_path: Path) -> Download:
    return _copied(pristine_csv, tmp_path / "tables")


@pytest.fixture
def png_download(pristine_png: Download, tmp_path: Path) -> Download:
    """Rotations both as quaternions and as Euler angles."""
    return _copied(pristine_png, tmp_path / "veriserum")


_watches: list[set[str]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        for names in _watches:
            names.add(Path(str(arguments[0])).name)


@pytest.fixture(scope="session")
def _hook() -> None:
    sys.addaudithook(_note)  # stays for the life of the interpreter


@pytest.fixture
def opened(_hook: None) -> Iterator[set[str]]:
    """Names of all files that Python opens during the test."""
    names: set[str] = set()
    _watches.append(names)
    yield names
    _watches.remove(names)


@pytest.fixture(scope="session")
def pristine_laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated archive with frames of both phantoms, whose ``fs`` intensifier stands off its nominal pose."""
    settings = Settings(
        trials=3, frames_per_trial=1, pairs=1, height_px=800, marker_frames=4, fs_shift_mm=2.0, fs_turn_deg=0.5
    )
    return simulate(tmp_path_factory.mktemp("laboratory") / "veriserum", settings, workers=1)


@pytest.fixture
def laboratory(pristine_laboratory: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage or write to."""
    return Path(shutil.copytree(pristine_laboratory, tmp_path / "laboratory"))


@pytest.fixture
def first_day(laboratory: Path) -> Path:
    """A copy with the phantom frames of distortion calibration 2 and source calibration 1 alone: a third to refit."""
    archive = VeriserumArchive(laboratory)
    trials = {*archive.distortion_trials[2].values(), *archive.source_trials[1].values()}
    for row in archive.calibration_frames.to_pylist():
        if row["calibration_trial_id"] not in trials:
            Path(row["path"]).unlink()
    return laboratory
