"""The tables by column name, from SQLite and from CSV, with values of the right type."""

import csv

import numpy as np
import pytest

from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.errors import ArchiveError

DATABASE = r"veriserumSqlite3_refined\.db"
POSE_CSV = "veriserum_pose_reloaded_refined_all.csv"


def assert_same_content(found, expected):
    assert found.frames.drop(["path_bs", "path_fs"]).equals(expected.frames.drop(["path_bs", "path_fs"]))
    for column in expected.poses.column_names:
        if column in ("translation_mm", "quaternion_xyzw"):
            np.testing.assert_allclose(found.poses[column].to_pylist(), expected.poses[column].to_pylist(), atol=1e-9)
        else:
            assert found.poses[column].equals(expected.poses[column])
    assert found.distortions.keys() == expected.distortions.keys()
    assert found.anatomies.keys() == expected.anatomies.keys()


def rebuilt(download, table, columns, name=None):
    """Replace a table by a selection from it, without keys and column types."""
    download.sql(
        f"CREATE TABLE rebuilt AS SELECT {columns} FROM {table}; DROP TABLE {table}; "
        f"ALTER TABLE rebuilt RENAME TO {name or table}"
    )


def column_names(download, table):
    return [row[1] for row in download.rows(f"PRAGMA table_info({table})")]


def test_columns_are_read_by_name_in_any_order_and_case(download, pristine):
    for (table,) in download.rows("SELECT name FROM sqlite_master WHERE type = 'table'"):
        columns = ", ".join(f"{column} AS {column.upper()}" for column in reversed(column_names(download, table)))
        rebuilt(download, table, columns, name=table.title())
    assert_same_content(download.read(), pristine.read())


def test_numbers_kept_as_text_are_read(download, pristine):
    for (table,) in download.rows("SELECT name FROM sqlite_master WHERE type = 'table'"):
        names = column_names(download, table)
        rebuilt(download, table, ", ".join(f"CAST({name} AS TEXT) AS {name}" for name in names))
    assert download.rows("SELECT DISTINCT typeof(tx), typeof(id) FROM poses") == [("text", "text")]
    assert_same_content(download.read(), pristine.read())


def test_further_tables_and_columns_are_ignored(download, pristine):
    download.sql("CREATE TABLE notes (text TEXT); ALTER TABLE poses ADD COLUMN remark TEXT; DROP TABLE studies")
    assert_same_content(download.read(), pristine.read())


def test_tables_that_only_calibration_needs_may_be_absent(download, pristine):
    download.sql("DROP TABLE calibration_measurements; DROP TABLE calibration_trials; DROP TABLE subjects")
    archive = download.read()
    assert archive.calibration_frames.num_rows == 0
    assert_same_content(archive, pristine.read())


def test_poses_may_be_a_table_without_row_ids(download, pristine):
    columns = ", ".join(column_names(download, "poses")[1:])
    download.sql(
        f"CREATE TABLE rebuilt (id INTEGER PRIMARY KEY, {columns}) WITHOUT ROWID;"
        "INSERT INTO rebuilt SELECT * FROM poses; DROP TABLE poses; ALTER TABLE rebuilt RENAME TO poses"
    )
    assert_same_content(download.read(), pristine.read())


@pytest.mark.parametrize(
    "table",
    ["poses", "measurements", "trials", "anatomies", "distortion_calibration", "source_int_calibration"],
)
def test_a_missing_table_is_named_with_those_that_are_there(download, table):
    download.sql(f"DROP TABLE {table}")
    with pytest.raises(
        ArchiveError, match=rf"{DATABASE}: there is no table {table}; found .*studies.*Use the database"
    ):
        download.read()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("poses", "tz"),
        ("poses", "source_int_calibration_id"),
        ("measurements", "trials_id"),
        ("trials", "task"),
        ("anatomies", "category"),
        ("distortion_calibration", "distortion_result_fs"),
        ("source_int_calibration", "sid_bs"),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(download, table, column):
    rebuilt(download, table, ", ".join(name for name in column_names(download, table) if name != column))
    with pytest.raises(
        ArchiveError, match=rf"{DATABASE}, table {table}: there is no column {column}; found .*\bid\b.*Use the tables"
    ):
        download.read()


def test_a_table_without_rotations(download):
    names = [
        name for name in column_names(download, "poses") if name not in ("r0", "r1", "r2", "r3", "rz", "rx", "ry")
    ]
    rebuilt(download, "poses", ", ".join(names))
    with pytest.raises(
        ArchiveError, match=rf"{DATABASE}, table poses: there is no complete quaternion \(r0, .* Euler"
    ):
        download.read()


@pytest.mark.parametrize(
    ("table", "column", "id", "value", "message"),
    [
        ("poses", "tx", 9, "'abc'", r"row 9 \(id 9\): found 'abc', expected a number"),
        ("poses", "r2", 9, "x'00ff'", r"row 9 \(id 9\): found b'\\x00\\xff', expected a number"),
        ("poses", "measurement_id", 9, "1.5", r"row 9 \(id 9\): found 1\.5, expected a whole number"),
        ("poses", "obsolete", 9, "'no'", r"row 9 \(id 9\): found 'no', expected a whole number"),
        ("poses", "anatomy_id", 9, "9e999", r"row 9 \(id 9\): found inf, expected a whole number"),
        ("poses", "anatomy_id", 9, "1e20", r"row 9 \(id 9\): found 1e\+20, expected a whole number"),
        ("measurements", "trials_id", 2, "'x'", r"row 2 \(id 2\): found 'x', expected a whole number"),
        ("source_int_calibration", "sid_bs", 5, "'1,86'", r"row 2 \(id 5\): found '1,86', expected a number"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_by_file_table_column_and_row(download, table, column, id, value, message):
    download.sql(f"UPDATE {table} SET {column} = {value} WHERE id = {id}")
    with pytest.raises(ArchiveError, match=rf"{DATABASE}, table {table}, column {column}, {message}\. Correct the"):
        download.read()


def edit_csv(download, name, edit):
    path = download.root / name
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    edit(rows)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def set_value(row, column, value):
    def edit(rows):
        rows[row][rows[0].index(column)] = value

    return edit


def test_csv_columns_are_read_by_name_in_any_order_and_case(csv_download, pristine_csv):
    def rotate(rows):
        for row in rows:
            row.reverse()
        rows[0] = [name.upper() for name in rows[0]]

    edit_csv(csv_download, POSE_CSV, rotate)
    path = csv_download.root / POSE_CSV
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as Excel writes it
    assert_same_content(csv_download.read(), pristine_csv.read())


def test_the_csv_files_open_by_folder_and_by_the_pose_table(csv_download):
    assert_same_content(VeriserumArchive(csv_download.root / POSE_CSV), csv_download.read())


def test_csv_tables_of_measurements_trials_and_anatomies_are_used_where_they_are_there(csv_download, download):
    for table in ("measurements", "trials", "anatomies"):
        with (csv_download.root / f"{table}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([column_names(download, table), *download.rows(f"SELECT * FROM {table}")])
    archive = csv_download.read()
    assert not {"trials", "components"} & archive.decisions.keys()
    assert archive.frames["trial_id"].to_pylist() == [frame.trial_id for frame in csv_download.frames.values()]
    assert set(archive.frames["task"].to_pylist()) == {"gait", "ramp_down", "stair_descent", "chair_sit"}


@pytest.mark.parametrize("name", ["distortion_calibration_reloaded.csv", "source_int_calibration_reloaded.csv"])
def test_a_missing_csv_file_is_named(csv_download, name):
    (csv_download.root / name).unlink()
    with pytest.raises(ArchiveError, match=rf"/tables: there is no {name} next to the pose table\. Copy it here"):
        csv_download.read()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_value(4, "tx", "abc"), rf"{POSE_CSV}, column tx, row 4 \(id \d+\): found 'abc', expected a number"),
        (set_value(0, "tz", "depth"), rf"{POSE_CSV}: there is no column tz; found .*depth"),
        (set_value(4, "id", "9" * 20), rf"{POSE_CSV}, column id, row 4 .*: found '9+', expected a whole number"),
        (lambda rows: rows[3].pop(), rf"{POSE_CSV}, line 4: found 14 values, expected 15"),
        (set_value(1, "source_int_calibration_id", "99"), rf"{POSE_CSV}, .*refers to source_int_calibration id 99"),
        (lambda rows: rows.clear(), rf"{POSE_CSV}: there is no column id"),
        (
            set_value(4, "id", "1_0"),
            r"column id, row 4 \(id 1_0\): found '1_0', expected a whole number",
        ),
        (set_value(4, "id", "\u0664"), "column id, row 4 .*: found '\u0664', expected a whole number"),
        (set_value(4, "id", "\uff14"), "found '\uff14', expected a whole number"),
        (set_value(4, "id", "0x10"), "found '0x10', expected a whole number"),
        (set_value(4, "id", "nan"), "found 'nan', expected a whole number"),
        (set_value(4, "id", "1e400"), "found '1e400', expected a whole number"),
        (set_value(4, "tx", "1_0.5"), "found '1_0.5', expected a number"),
        (set_value(4, "tx", "\u0663.\u0665"), "found '\u0663.\u0665', expected a number"),
        (set_value(4, "tx", "1,5"), "found '1,5', expected a number"),
        (set_value(4, "tx", "0x1p3"), "found '0x1p3', expected a number"),
        (set_value(0, "git_hash", " TX"), rf"{POSE_CSV}, line 1: the column tx occurs more than once"),
        (set_value(4, "git_repo", "a\0b"), rf"{POSE_CSV}: this is not CSV text \(it holds NUL bytes\)"),
        (
            set_value(4, "git_repo", "x" * 200_000),
            r"this is not CSV text \(field larger than field limit",
        ),
        (lambda rows: rows.insert(3, []), rf"{POSE_CSV}, line 4: found no values, expected 15"),
        (lambda rows: rows.insert(3, [""] * 15), rf"{POSE_CSV}, line 4: found no values, expected 15"),
    ],
)
def test_a_fault_in_a_csv_file_is_named_by_file_and_row(csv_download, edit, message):
    edit_csv(csv_download, POSE_CSV, edit)
    with pytest.raises(ArchiveError, match=message):
        csv_download.read()


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n \n".replace(" ", ""), "," * 14 + "\n" + "," * 14 + "\n", ""])
def test_blank_lines_may_end_a_csv_file(csv_download, pristine_csv, end):
    path = csv_download.root / POSE_CSV
    path.write_bytes(path.read_bytes().rstrip(b"\r\n") + (b"\n" if end else b"") + end.encode())
    assert_same_content(csv_download.read(), pristine_csv.read())


@pytest.mark.parametrize("separator", [";", "\t"])
def test_values_may_be_separated_and_quoted_in_other_ways(csv_download, pristine_csv, separator):
    for path in csv_download.root.glob("*.csv"):
        with path.open(newline="") as stream:
            rows = list(csv.reader(stream))
        with path.open("w", newline="", encoding="utf-8-sig") as stream:
            csv.writer(stream, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    assert_same_content(csv_download.read(), pristine_csv.read())


def test_numbers_written_with_signs_exponents_and_spaces_are_read(csv_download, pristine_csv):
    def edit(rows):
        tx, id = rows[0].index("tx"), rows[0].index("id")
        for row in rows[1:]:
            row[tx], row[id] = f" {float(row[tx]):+.17e} ", f"+{row[id]}.0"

    edit_csv(csv_download, POSE_CSV, edit)
    assert_same_content(csv_download.read(), pristine_csv.read())


@pytest.mark.parametrize("tail", [b'1,"2,3\n' * 3, b'1,"2"3,4\n'])
def test_quotes_that_do_not_match_are_no_csv(csv_download, tail):
    path = csv_download.root / POSE_CSV
    path.write_bytes(path.read_bytes() + tail)
    with pytest.raises(ArchiveError, match=rf"{POSE_CSV}: this is not CSV text"):
        csv_download.read()


def test_a_csv_file_of_many_times_the_size_is_not_read(csv_download):
    with (csv_download.root / POSE_CSV).open("ab") as stream:
        stream.truncate(1_000_000_000)  # takes no room
    with pytest.raises(ArchiveError, match=r"the file has 1,000,000,000 bytes, expected at most 200,000,000"):
        csv_download.read()


def test_a_pose_without_measurement_in_csv_files(csv_download):
    edit_csv(csv_download, POSE_CSV, set_value(1, "measurement_id", ""))
    with pytest.raises(ArchiveError, match=rf"{POSE_CSV}, id \d+: measurement_id or anatomy_id is NULL"):
        csv_download.read()


def test_a_csv_file_that_is_no_text(csv_download):
    (csv_download.root / POSE_CSV).write_bytes(b"PK\x03\x04\xff\xfe\x00" * 50)
    with pytest.raises(ArchiveError, match=rf"{POSE_CSV}: this is not CSV text .*Download the file again"):
        csv_download.read()


def test_frames_carry_their_trial_task_and_place_in_the_trial(pristine):
    frames = pristine.read().frames.to_pylist()
    assert [frame["frame_index"] for frame in frames] == [0, 1, 2] * 4
    assert [frame["trial_id"] for frame in frames] == [frame.trial_id for frame in pristine.frames.values()]
    assert [frame["task"] for frame in frames][::3] == ["gait", "ramp_down", "stair_descent", "chair_sit"]
    assert {frame["subject"] for frame in frames} == {1}
