"""Where the parts of a download lie: database or CSV tables, frames, implants, calibration frames."""

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from veriserum_hf.archive.files import MOST_BYTES, MOST_TABLE_BYTES
from veriserum_hf.archive.problems import Findings
from veriserum_hf.core import PLANES, PlaneName, listed, not_a_file
from veriserum_hf.errors import ArchiveError

_IMAGE = r"\.(?:jpe?g|png|tiff?)"
_FRAME = re.compile(rf"(bs|fs)_(\d{{1,18}}){_IMAGE}", re.IGNORECASE | re.ASCII)
_CALIBRATION_FRAME = re.compile(rf"cal_(bs|fs)_(\d{{1,18}}){_IMAGE}", re.IGNORECASE | re.ASCII)
_ANATOMY = re.compile(r"ana_(\d{1,18})\.stl", re.IGNORECASE | re.ASCII)
SIMULATION_RECORD = "simulation.json"
_DATABASE_SUFFIXES = {".db", ".sqlite", ".sqlite3"}
# The names of the authors' repository; any other table may be next to them under its plain name.
_CSV_TABLES = {
    "veriserum_pose_reloaded_refined_all.csv": "poses",
    "distortion_calibration_reloaded.csv": "distortion_calibration",
    "source_int_calibration_reloaded.csv": "source_int_calibration",
}
_PLAIN_CSV_TABLES = (
    "measurements",
    "trials",
    "anatomies",
    "calibration_trials",
    "calibration_measurements",
    "inter_plane_calibration",
    "veriserum_hf_distortion",
    "veriserum_hf_refined_cameras",
)


class File(NamedTuple):
    """A file as the scan of the archive saw it."""

    path: str
    size_bytes: int
    modified_ns: int


@dataclass
class Layout:
    """The files of one archive, by what they are.

    Attributes
    ----------
    root : folder that holds everything.
    database : the SQLite file, or None where the tables are CSV files.
    csv_tables : table name to CSV file; empty where there is a database.
    frames, calibration_frames : by plane and the number in the name.
    anatomies : STL files by the number in the name.

    """

    root: Path
    database: Path | None = None
    csv_tables: dict[str, Path] = field(default_factory=dict)
    frames: dict[PlaneName, dict[int, File]] = field(default_factory=lambda: {plane: {} for plane in PLANES})
    calibration_frames: dict[PlaneName, dict[int, File]] = field(
        default_factory=lambda: {plane: {} for plane in PLANES}
    )
    anatomies: dict[int, File] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether the archive is simulated: a simulation leaves its record next to the tables."""
        return (self.root / SIMULATION_RECORD).exists()

    def where(self, table: str) -> str:
        """Return the name of a table with that of its file, for messages."""
        return f"{self.database.name}, table {table}" if self.database else self.csv_tables[table].name

    def relative(self, path: str | Path) -> str:
        """Path of a file within the archive, with forward slashes, for messages and records."""
        return Path(path).relative_to(self.root).as_posix()

    def every_file(self) -> Iterator[File]:
        """All frames, calibration frames and implants."""
        for by_plane in (self.frames, self.calibration_frames):
            for files in by_plane.values():
                yield from files.values()
        yield from self.anatomies.values()

    def fingerprint(self) -> str:
        """Hash of the tables' content and of every file's name, size and time."""
        digest = hashlib.sha256()
        for path in [self.database] if self.database else sorted(self.csv_tables.values()):
            with path.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        for file in sorted(self.every_file()):
            digest.update(f"{self.relative(file.path)}|{file.size_bytes}|{file.modified_ns}\n".encode())
        return digest.hexdigest()


def find_layout(path: str | os.PathLike[str], findings: Findings) -> Layout:
    """Find an archive's parts below a folder, or next to a database or CSV file.

    Parameters
    ----------
    path : the archive's folder, its database, or its pose CSV.
    findings : takes the problems.

    Raises
    ------
    ArchiveError
        If the path does not exist, or there is not exactly one set of tables.

    """
    start = Path(path).expanduser().resolve()
    if not start.exists():
        raise findings.stop(
            "no archive", str(start), "there is nothing here", "Give the folder or the database of the download."
        )
    if not _is_utf8(str(start)):
        remedy = "Rename it, or its folder, to letters that every system writes in the same way."
        raise findings.stop("name not UTF-8", str(start), "the name holds bytes that are not UTF-8", remedy)
    layout = Layout(root=start if start.is_dir() else start.parent)
    databases: list[Path] = []
    try:
        linked: list[os.DirEntry[str]] = []
        roots = {os.path.realpath(layout.root)}
        for entry in _walk(layout.root, roots):
            if entry.is_symlink():
                linked.append(entry)  # where it leads is judged when all folders are known
            else:
                _sort_in(entry, layout, databases, findings)
        for entry in linked:
            _sort_in(entry, layout, databases, findings, roots)
        _choose_tables(start, layout, databases, findings)
    except OSError as error:
        where = str(error.filename or start)
        raise findings.stop("unreadable", where, str(error.strerror), "Grant yourself read permission.") from error
    return layout


def _walk(root: Path, roots: set[str]) -> Iterator[os.DirEntry[str]]:
    """Every file below a folder, links followed, each folder once, hidden ones skipped.

    Folders that a link leads to are added to ``roots``: whoever placed it there meant all that they hold.
    """
    seen, waiting = set(), [str(root)]
    while waiting:
        folder = waiting.pop()
        identity = os.path.realpath(folder)
        if identity in seen:
            continue
        seen.add(identity)
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    waiting.append(entry.path)
                    if entry.is_symlink():
                        roots.add(os.path.realpath(entry.path))
                else:
                    yield entry


def _is_utf8(path: str) -> bool:
    """Whether a path is text; other bytes are in it as lone surrogates, which no table can store."""
    return path.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_database(path: Path) -> bool:
    """Whether a file starts as SQLite files do; Windows leaves a Thumbs.db of another kind in folders of images."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _sort_in(
    entry: os.DirEntry[str],
    layout: Layout,
    databases: list[Path],
    findings: Findings,
    roots: Collection[str] | None = None,
) -> None:
    """Add one file to the layout by its name; others are ignored. Links that lead out of ``roots`` are a problem."""
    name = entry.name
    place: dict[int, File] | None = None
    most_bytes = MOST_BYTES
    if match := _FRAME.fullmatch(name):
        place = layout.frames[_plane(match)]
    elif match := _CALIBRATION_FRAME.fullmatch(name):
        place = layout.calibration_frames[_plane(match)]
    elif match := _ANATOMY.fullmatch(name):
        place = layout.anatomies
    elif Path(name).suffix.lower() in _DATABASE_SUFFIXES and name.lower() != "thumbs.db":
        most_bytes = MOST_TABLE_BYTES
    else:
        return
    if not _is_utf8(entry.path):
        if match:
            what = "the name of a folder above it holds bytes that are not UTF-8"
            findings.problem("name not UTF-8", layout.relative(entry.path), what, "Rename the folder; it is ignored.")
        return
    try:
        status = entry.stat()
    except OSError as error:
        if entry.is_symlink():
            what = (
                f"it is a link to {str(Path(entry.path).readlink())!r}, where no file can be read: {error.strerror}"
            )
            remedy = "Copy the file here, or fetch what the link stands for; until then the file is missing."
            findings.problem("broken link", layout.relative(entry.path), what, remedy)
        return
    if roots is not None and not _below(os.path.realpath(entry.path), roots):
        remedy = "Copy the file here; files are only ever read from below the archive's folder."
        findings.problem(
            "link outside", layout.relative(entry.path), "it is a link that leads out of the archive", remedy
        )
    elif why := not_a_file(status, most_bytes):
        findings.problem("not a file", layout.relative(entry.path), why, "Restore the file from the download.")
    elif match is None or place is None:
        databases.append(Path(entry.path))
    elif (number := int(match[match.re.groups])) in place:
        findings.problem(
            "file twice",
            layout.relative(entry.path),
            f"{layout.relative(place[number].path)} has the same name and number",
            "Keep one of the two.",
            structural=True,
        )
    else:
        place[number] = File(entry.path, status.st_size, status.st_mtime_ns)


def _below(path: str, roots: Collection[str]) -> bool:
    return any(path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _plane(match: re.Match[str]) -> PlaneName:
    return "bs" if match[1].lower() == "bs" else "fs"


def _choose_tables(start: Path, layout: Layout, databases: list[Path], findings: Findings) -> None:
    """Decide which database or CSV files hold the tables."""
    if not start.is_dir():
        _check_table(start, findings)
    if start.is_file() and start.suffix.lower() != ".csv":
        layout.database = start
        return
    csv_tables = {table: path for path, table in _csv_files(start) if path.exists() and not path.is_dir()}
    databases = [path for path in databases if _is_database(path)] or databases
    if start.is_dir() and databases:
        if len(databases) > 1:
            raise _not_one_archive(
                findings,
                "several databases",
                str(start),
                f"found {listed(layout.relative(path) for path in databases)}, expected one database",
                "Give the path of the one to use.",
            )
        layout.database = databases[0]
    elif "poses" in csv_tables:
        for path in csv_tables.values():
            _check_table(path, findings)
        layout.csv_tables = csv_tables
    else:
        raise _not_one_archive(
            findings,
            "no tables",
            str(start),
            f"found no SQLite database ({', '.join(sorted(_DATABASE_SUFFIXES))}) and no "
            "veriserum_pose_reloaded_refined_all.csv",
            "Give the folder that holds the database of the download, or the database itself.",
        )


def _not_one_archive(findings: Findings, kind: str, where: str, what: str, remedy: str) -> ArchiveError:
    """Error of a folder that is not one archive: then it says nothing that files in it share a name."""
    findings.problems.clear()
    return findings.stop(kind, where, what, remedy)


def _check_table(path: Path, findings: Findings) -> None:
    """Stop where a table is a pipe or a device, which might never end, or is of no plausible size."""
    if why := not_a_file(path.stat(), MOST_TABLE_BYTES):
        raise findings.stop("not a file", str(path), why, "Give the database of the download, or its folder.")


def _csv_files(start: Path) -> Iterable[tuple[Path, str]]:
    folder = start if start.is_dir() else start.parent
    for table in _PLAIN_CSV_TABLES:
        yield folder / f"{table}.csv", table
    for name, table in _CSV_TABLES.items():
        yield folder / name, table
