"""Opening the database: what cannot be read, what is being written to, and leaving no trace."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.cli.commands import VERISERUM, heed_permissions
from veriserum_hf.archive import database
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.audit import audit_archive as audit
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.errors import ArchiveError, ConversionError

HOLD_EXCLUSIVELY = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("content", [b"<html>404 Not Found</html>" * 100, b"id,measurement_id\n1,1\n" * 60])
def test_a_file_that_is_no_database(download, content):
    download.database.write_bytes(content)
    with pytest.raises(
        ArchiveError, match=rf"veriserumSqlite3_refined\.db: SQLite cannot read it .*{len(content)} bytes.*Download"
    ):
        download.read()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_database_that_was_cut_off(download, part):
    content = download.database.read_bytes()
    download.database.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ArchiveError, match=r"veriserumSqlite3_refined\.db: SQLite cannot read it .*Download"):
        download.read()


def test_a_database_of_zero_bytes(download):
    download.database.write_bytes(b"")
    with pytest.raises(ArchiveError, match=r"veriserumSqlite3_refined\.db: .*0 bytes.*Download the database again"):
        download.read()


def test_a_text_file_given_as_the_archive(download):
    readme = download.root / "readme.txt"
    readme.write_text("Veriserum: see https://doi.org/10.3929/ethz-b-000701146\n" * 20)
    with pytest.raises(ArchiveError, match=r"readme\.txt: SQLite cannot read it"):
        VeriserumArchive(readme)


def test_another_process_holds_the_database(download):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_EXCLUSIVELY, download.database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(
            ArchiveError,
            match=r"veriserumSqlite3_refined\.db: another program is writing .*locked.*Close that program",
        ):
            download.read()
        holder.stdin.close()
    assert download.read().problems == []


@pytest.fixture(params=[("WAL", "-wal"), ("DELETE", "-journal")], ids=["WAL", "DELETE"])
def journal(request, download):
    """Name of the file that holds the changes of a program which has the database open."""
    mode, suffix = request.param
    with closing(sqlite3.connect(download.database, isolation_level=None)) as writer:
        writer.execute(f"PRAGMA journal_mode = {mode}")
        writer.execute("BEGIN")
        writer.execute("UPDATE poses SET tx = tx + 1")
        if mode == "WAL":
            writer.execute("COMMIT")
        yield f"{download.database.name}{suffix}"


def test_changes_that_are_not_in_the_database_yet(download, journal):
    before = download.listing()
    with pytest.raises(
        ArchiveError, match=rf"another program is writing .*{re.escape(journal)} holds changes.*Close that program"
    ):
        download.read()
    assert download.listing() == before


def test_changes_that_a_crashed_program_left_next_to_the_database(download, tmp_path, journal):
    shutil.copytree(download.root, tmp_path / "copy")
    with pytest.raises(ArchiveError, match=rf"{re.escape(journal)} holds changes that are not in it yet"):
        VeriserumArchive(tmp_path / "copy")


def test_a_commit_that_deletes_the_journal_while_it_is_looked_at(download, monkeypatch):
    """A program that checks whether it exists, and then its size, finds none the second time."""
    journal = download.database.with_name(f"{download.database.name}-journal")
    journal.write_bytes(b"changes")
    stat = os.stat

    def stat_and_commit(path, **options):
        found = stat(path, **options)
        if path == journal:
            journal.unlink()
        return found

    monkeypatch.setattr(os, "stat", stat_and_commit)
    with pytest.raises(ArchiveError, match=r"another program is writing .*refined\.db-journal holds changes"):
        download.read()
    assert not journal.exists()
    assert download.read().problems == []


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_reading_leaves_no_trace_in_the_folder(download, mode):
    download.sql(f"PRAGMA journal_mode = {mode}")
    before = download.listing()
    VeriserumArchive(download.root).fingerprint()
    VeriserumArchive(download.database)
    assert download.listing() == before


@pytest.fixture
def read_only(download):
    """The archive in folders and files that are read-only."""
    paths = [download.root, *download.root.rglob("*")]
    yield lambda: [path.chmod(0o555 if path.is_dir() else 0o444) for path in paths]
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.skipif(sys.platform != "linux", reason="takes root's licence away as Linux does")
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_read_only_folder_will_do(download, read_only, mode):
    download.sql(f"PRAGMA journal_mode = {mode}")
    read_only()
    options = {"preexec_fn": heed_permissions, "capture_output": True, "text": True}
    touched = subprocess.run(["touch", download.root / "x"], check=False, **options)
    assert touched.returncode, "the folder is not read-only, so this test shows nothing"
    done = subprocess.run([VERISERUM, "audit", download.root], check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_copy_next_to_an_open_original_is_read(download, tmp_path):
    with closing(sqlite3.connect(download.database, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        shutil.copytree(download.root, tmp_path / "copy")
        assert VeriserumArchive(tmp_path / "copy").problems == []


ENDLESS = (
    "WITH RECURSIVE r(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM r) SELECT id, id AS task, 1 AS subject_id FROM r"
)
HUGE = "SELECT 1 AS id, hex(zeroblob(200000000)) AS task, 1 AS subject_id"


@pytest.mark.parametrize("query", [ENDLESS, HUGE, "SELECT * FROM kept"])
def test_a_view_is_refused_by_name_and_never_run(download, query):
    download.sql(f"ALTER TABLE trials RENAME TO kept; CREATE VIEW trials AS {query}")
    with pytest.raises(ArchiveError, match=r"refined\.db, trials: it is a view, which .*expected a table"):
        download.read()


def test_a_virtual_table_is_refused_by_name(download):
    download.sql(
        "CREATE VIRTUAL TABLE t USING fts5(id, task, subject_id);"
        "INSERT INTO t SELECT id, task, subject_id FROM trials;"
        "DROP TABLE trials; ALTER TABLE t RENAME TO trials"
    )
    with pytest.raises(ArchiveError, match=r"refined\.db, trials: it is a virtual table, which is computed"):
        download.read()


@pytest.mark.parametrize("computed", ["hex(zeroblob(900000))) VIRTUAL", "'x') STORED"])
def test_a_computed_column_is_refused_by_name(download, computed):
    download.sql(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, subject_id INTEGER, task TEXT GENERATED ALWAYS AS ({computed});"
        "INSERT INTO t (id, subject_id) SELECT id, 1 FROM trials; DROP TABLE trials; ALTER TABLE t RENAME TO trials"
    )
    with pytest.raises(ArchiveError, match=r"table trials: the column task is computed when it is read"):
        download.read()


def test_views_and_triggers_of_other_names_are_left_alone(download, pristine):
    download.sql(
        f"CREATE VIEW other AS {ENDLESS}; CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM poses; END"
    )
    assert download.read().poses.equals(pristine.read().poses)


def test_a_value_as_large_as_a_file_is_refused(download):
    download.sql("UPDATE trials SET task = hex(zeroblob(100000))")
    with pytest.raises(ArchiveError, match=r"SQLite cannot read it \(a value has more than 100,000 bytes;"):
        download.read()


def test_reading_takes_limited_time_and_rows(download, monkeypatch):
    monkeypatch.setattr(database, "_CHECKED_EVERY", 1)
    monkeypatch.setattr(database, "_LONGEST_CPU_S", 0.0)
    with pytest.raises(ArchiveError, match=r"cannot read it \(it took more than 0 s of processor time"):
        download.read()
    monkeypatch.undo()
    monkeypatch.setattr(database, "MOST_ROWS", 50)
    with pytest.raises(ArchiveError, match=r"table poses: there are more than 50 rows"):
        download.read()


def test_names_that_are_not_utf_8_do_not_matter_where_they_are_not_read(download, pristine):
    download.sql("CREATE TABLE other (id INTEGER, naam TEXT); ALTER TABLE trials ADD COLUMN naam TEXT")
    content = download.database.read_bytes()
    assert content.count(b"naam") >= 2
    download.database.write_bytes(content.replace(b"naam", b"na\xff\xfe"))
    assert download.read().poses.equals(pristine.read().poses)


def test_a_schema_that_is_not_utf_8_where_it_is_malformed(download):
    download.sql("CREATE TABLE other (naam TEXT)")
    download.database.write_bytes(
        download.database.read_bytes().replace(b"TABLE other (naam", b"TABLE oth\xff\xfe ((")
    )
    with pytest.raises(ArchiveError, match=r"SQLite cannot read it \("):
        download.read()


@pytest.mark.parametrize(
    "table", ["measurements", "trials", "anatomies", "distortion_calibration", "source_int_calibration", "subjects"]
)
@pytest.mark.parametrize("id", ["NULL", "-5"])
def test_a_row_without_id_is_named(download, table, id):
    columns = ", ".join(row[1] for row in download.rows(f"PRAGMA table_info({table})"))
    download.sql(
        f"CREATE TABLE t AS SELECT {columns} FROM {table}; DROP TABLE {table}; ALTER TABLE t RENAME TO {table};"
        f"UPDATE {table} SET id = {id} WHERE rowid = 1"
    )
    report = audit(download.root)
    found = [problem for problem in report.findings.problems if problem.kind == "no id"]
    assert [problem.where for problem in found] == [f"veriserumSqlite3_refined.db, table {table}"]
    assert "1 rows have no id: NULL, or a negative number" in found[0].what


def test_a_pose_table_without_rows(download):
    download.sql("DELETE FROM poses")
    (problem,) = audit(download.root).findings.problems
    assert problem.kind == "no poses" and "there is no pose in use" in problem.what
    with pytest.raises(ConversionError, match="it has no poses"):
        make_plan(download.read(), Options())
