"""The file of the SQLite database."""

import sqlite3
from pathlib import Path

from tests.fuzz.cases import DATABASE, HARMLESS, NOTICED, OPEN, Case, Group
from tests.fuzz.commands import check_archive

file = Group("database-file", "jpeg", check_archive, times=12)


def _bytes(case: Case) -> tuple[Path, bytearray]:
    path = case.data / DATABASE
    return path, bytearray(path.read_bytes())


@file(NOTICED)
def truncated(case: Case) -> str:
    """The database breaks off."""
    path, content = _bytes(case)
    length = case.one((0, 15, 16, 100, 511, 4096, case.random.randrange(len(content) - 1)))
    path.write_bytes(content[:length])
    case.touch_all()
    return f"{length} of {len(content)} bytes"


@file(OPEN)
def bytes_changed(case: Case) -> str:
    """Some random bytes of the database are others."""
    path, content = _bytes(case)
    places = [case.random.randrange(len(content)) for _ in range(case.one((1, 4, 16, 256)))]
    for place in places:
        content[place] = case.random.randrange(256)
    path.write_bytes(content)
    case.touch_all()
    return f"{len(places)} bytes, first at {places[0]}"


@file(NOTICED)
def header_changed(case: Case) -> str:
    """A field of the first 100 bytes is invalid."""
    path, content = _bytes(case)
    at, length = case.one(((0, 16), (16, 2), (20, 4), (44, 4), (56, 4)))
    content[at : at + length] = b"\xff" * length
    path.write_bytes(content)
    case.touch_all()
    return f"bytes {at} to {at + length}"


@file(NOTICED)
def page_zeroed(case: Case) -> str:
    """A whole page of the database is zero, as a power cut leaves it."""
    path, content = _bytes(case)
    size = int.from_bytes(content[16:18], "big") or 4096
    page = case.random.randrange(len(content) // size)
    content[page * size : (page + 1) * size] = bytes(size)
    path.write_bytes(content)
    case.touch_all()
    return f"page {page} of {size} bytes"


@file(NOTICED)
def pages_swapped(case: Case) -> str:
    """Two pages of the database are swapped."""
    path, content = _bytes(case)
    size = int.from_bytes(content[16:18], "big") or 4096
    one, other = case.random.sample(range(1, len(content) // size), 2)
    a, b = (slice(page * size, (page + 1) * size) for page in (one, other))
    content[a], content[b] = content[b], content[a]
    path.write_bytes(content)
    case.touch_all()
    return f"pages {one} and {other}"


@file(NOTICED)
def no_database(case: Case) -> str:
    """Something else under the database's name."""
    path, _ = _bytes(case)
    path.write_bytes(
        case.one((b"", b"SQLite format 3\0", b"PK\3\4" + bytes(100), b"<html>404</html>", bytes(10_000)))
    )
    case.touch_all()
    return ""


@file(HARMLESS)
def other_page_size(case: Case) -> str:
    """The same database with other pages, vacuumed."""
    connection = sqlite3.connect(case.data / DATABASE, isolation_level=None)
    size = case.one((512, 1024, 8192, 65536))
    connection.execute(f"PRAGMA page_size = {size}")
    connection.execute("VACUUM")
    connection.close()
    return f"{size} bytes"


@file(HARMLESS)
def in_utf16(case: Case) -> str:
    """The same database with its text in UTF-16."""
    path = case.data / DATABASE
    with case.database() as connection:
        script = "\n".join(connection.iterdump())
    path.unlink()
    new = sqlite3.connect(path, isolation_level=None)
    new.execute(f"PRAGMA encoding = {case.one(('UTF-16le', 'UTF-16be'))!r}")
    new.executescript(script)
    new.close()
    return ""


@file(OPEN)
def journal_left(case: Case) -> str:
    """A journal or write-ahead log of another program lies next to the database."""
    name = case.one(("-journal", "-wal", "-shm"))
    content = case.one((b"", bytes(512), b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504), b"\x37\x7f\x06\x82" * 100))
    (case.data / f"{DATABASE}{name}").write_bytes(content)
    case.touch_all()
    return name


@file(OPEN)
def locked(case: Case) -> str:
    """The database is in write-ahead mode, as a program that is open leaves it."""
    with case.database() as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    return ""


@file(NOTICED)
def two_databases(case: Case) -> str:
    """Two databases in the archive."""
    (case.data / "copy.db").write_bytes((case.data / DATABASE).read_bytes())
    case.touch_all()
    return ""


@file(HARMLESS)
def thumbnails(case: Case) -> str:
    """Windows' and macOS's files lie among those of the archive."""
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._bs_000001.jpg"):
        (case.data / name).write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    return ""
