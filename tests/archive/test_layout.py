"""Where the parts of a download lie, and which id names a frame."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.fixtures.archives import ANATOMIES_FOLDER, FRAMES_FOLDER, write_archive
from tests.fixtures.downloads import SIZE
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.errors import ArchiveError


def assert_every_frame_is_found(archive, measurements=12):
    assert archive.frames["measurement_id"].to_pylist() == list(range(1, measurements + 1))
    for plane in ("bs", "fs"):
        for path in archive.frames[f"path_{plane}"].to_pylist():
            assert Path(path).is_file() and Path(path).name.lower().startswith(plane)


@pytest.mark.parametrize("extension", ["jpg", "png", "tif"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("ids", ["measurement", "pose"])
def test_frames_are_found_by_either_id(tmp_path, ids, nested, extension):
    root = tmp_path / "veriserum"
    write_archive(root, trials=2, frame_size=SIZE, ids=ids, nested=nested, extension=extension)
    archive = VeriserumArchive(root)
    assert_every_frame_is_found(archive, 6)
    decision = archive.decisions["frame_id"]
    assert decision.answer == f"the {ids} id"
    assert re.search(r"100\.0% of \d+ numbers are \w+ ids and reach 6 of 6 measurements", decision.evidence)
    owners = dict(zip(*(archive.poses[c].to_pylist() for c in ("pose_id", "measurement_id")), strict=True))
    for measurement, path in zip(
        *(archive.frames[c].to_pylist() for c in ("measurement_id", "path_bs")), strict=True
    ):
        number = int(Path(path).stem.split("_")[1])
        assert (number if ids == "measurement" else owners[number]) == measurement
    assert archive.problems == []


@pytest.mark.parametrize("extension", ["JPG", "jpeg", "JPEG"])
def test_names_may_be_in_upper_case_and_end_in_jpeg(download, extension):
    for path in list((download.root / FRAMES_FOLDER).iterdir()):
        path.rename(path.with_name(f"{path.stem.upper()}.{extension}"))
    for path in list((download.root / ANATOMIES_FOLDER).iterdir()):
        path.rename(path.with_name(path.name.upper()))
    archive = download.read()
    assert_every_frame_is_found(archive)
    assert all(Path(anatomy.path).is_file() for anatomy in archive.anatomies.values())
    assert archive.problems == []


def test_the_archive_opens_by_its_folder_and_by_its_database(pristine):
    by_folder, by_database = VeriserumArchive(str(pristine.root)), VeriserumArchive(pristine.database)
    assert by_folder.frames.equals(by_database.frames) and by_folder.poses.equals(by_database.poses)


def test_a_folder_name_may_hold_any_character(pristine, tmp_path):
    root = tmp_path / "50% #1?mode=rw 膝"
    shutil.copytree(pristine.root, root)
    assert_every_frame_is_found(VeriserumArchive(root))


def test_the_frames_folder_may_be_a_link_to_another_disk(download, tmp_path):
    elsewhere = shutil.move(download.root / FRAMES_FOLDER, tmp_path / "disk")
    (download.root / "frames").symlink_to(elsewhere, target_is_directory=True)
    assert_every_frame_is_found(download.read())


def test_hidden_and_foreign_files_are_left_alone(download):
    for name in ("._bs_000001.jpg", ".DS_Store", "Thumbs.db.txt", "bs_1.jpg.part", "cover.png"):
        (download.root / FRAMES_FOLDER / name).write_bytes(b"anything")
    archive = download.read()
    assert_every_frame_is_found(archive)
    assert archive.problems == []


def test_calibration_frames_are_listed_with_phantom_and_plane(pristine):
    frames = VeriserumArchive(pristine.root).calibration_frames.to_pylist()
    assert [frame["plane"] for frame in frames] == ["bs", "fs"] * 2
    assert {frame["phantom"] for frame in frames} == {"sipla_grid"}
    for frame in frames:
        assert Path(frame["path"]).name == f"cal_{frame['plane']}_{frame['calibration_measurement_id']:06d}.tif"


def test_the_fingerprint_changes_with_the_tables_and_with_the_files(download, pristine):
    before = download.read().fingerprint()
    assert before == download.read().fingerprint()
    download.sql("UPDATE poses SET tx = tx + 1 WHERE id = 7")
    with_pose = download.read().fingerprint()
    download.frame("fs_000004").write_bytes(download.frame("fs_000005").read_bytes())
    assert len({before, with_pose, download.read().fingerprint()}) == 3


def test_nothing_at_the_path(tmp_path):
    with pytest.raises(ArchiveError, match=r"/nowhere: there is nothing here\. Give the folder or the database"):
        VeriserumArchive(tmp_path / "nowhere")


def test_a_folder_without_tables(download):
    download.database.unlink()
    with pytest.raises(ArchiveError, match=r"/veriserum: found no SQLite database .*Give the folder that holds"):
        download.read()


def test_a_folder_without_frames(download):
    shutil.rmtree(download.root / FRAMES_FOLDER)
    with pytest.raises(
        ArchiveError, match=r"/veriserum: there is no frame named like bs_000001\.jpg.*Put the frames"
    ):
        download.read()


def test_several_databases_in_one_folder(download):
    shutil.copy(download.database, download.root / "copy.sqlite")
    found = (
        r"found copy\.sqlite, veriserumSqlite3_refined\.db, expected one database\. Give the path of the one to use"
    )
    with pytest.raises(ArchiveError, match=found):
        download.read()
    assert_every_frame_is_found(VeriserumArchive(download.database))


@pytest.mark.parametrize("other", ["bs_000001.png", "BS_1.jpg", "trial_1/bs_000001.jpg"])
def test_two_files_for_one_frame(download, other):
    path = download.root / FRAMES_FOLDER / other
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(download.frame("bs_000001").read_bytes())
    with pytest.raises(ArchiveError) as error:
        download.read()
    assert f"{FRAMES_FOLDER}/bs_000001.jpg" in str(error.value)
    assert f"{FRAMES_FOLDER}/{other}" in str(error.value)
    assert "has the same name and number. Keep one of the two." in str(error.value)


def test_frame_names_that_are_neither_id(download):
    for path in list((download.root / FRAMES_FOLDER).iterdir()):
        path.rename(path.with_name(path.name.replace("_0000", "_0070")))
    with pytest.raises(
        ArchiveError, match=r"neither fits: 0\.0% of 12 numbers are measurement ids.*0\.0% .* pose ids.*Complete"
    ):
        download.read()


_ONE_POSE_A_FRAME = """
    DELETE FROM poses WHERE method != 'REFINED' OR obsolete OR anatomy_id NOT IN (1, 2);
    UPDATE poses SET id = id + 1000;
"""


def test_frame_names_that_are_both_ids(download):
    download.sql(_ONE_POSE_A_FRAME + "UPDATE poses SET id = 13 - measurement_id")
    with pytest.raises(
        ArchiveError, match=r"both fits?: 100\.0% of 12 numbers are measurement ids.*100\.0% of 12 .* pose ids"
    ):
        download.read()


def test_frame_names_that_are_both_ids_of_the_same_frame_are_no_question(download):
    download.sql(_ONE_POSE_A_FRAME + "UPDATE poses SET id = measurement_id")
    assert_every_frame_is_found(download.read())


def test_a_third_of_the_frames_does_not_determine_which_id_names_them(download):
    for number in range(5, 13):
        for plane in ("bs", "fs"):
            download.frame(f"{plane}_{number:06d}").unlink()
    with pytest.raises(
        ArchiveError, match=r"cannot be determined, both .*reach 4 of 12 measurements.*Complete the download"
    ):
        download.read()


def test_a_file_with_a_number_that_no_id_can_have_is_ignored(download):
    odd = download.root / FRAMES_FOLDER / "bs_99999999999999999999.jpg"
    odd.write_bytes(download.frame("bs_000001").read_bytes())
    assert_every_frame_is_found(download.read())


@pytest.mark.parametrize("path", [r"..\..\secret", "../secret", "/etc/passwd", r"D:\data\..\..\secret", r"\secret"])
@pytest.mark.parametrize(
    ("table", "column", "id"),
    [
        ("trials", "path", 18),
        ("trials", "vicon_path", 18),
        ("calibration_trials", "path", 11),
        ("subjects", "path", 1),
    ],
)
def test_a_path_that_points_outside_is_refused(download, table, column, id, path):
    download.sql(f"UPDATE {table} SET {column} = '{path}' WHERE id = {id}")
    named = (
        rf"veriserumSqlite3_refined\.db, table {table}, id {id}: .*{re.escape(repr(path))} points outside the archive"
    )
    with pytest.raises(ArchiveError, match=named):
        download.read()


@pytest.mark.parametrize(
    "path", [r"D:\Veriserum\data\trial_1", r"\\server\share\x", "data/trial_1", r"a\..\b", "", None]
)
def test_where_the_laboratory_kept_a_trial_does_not_matter(download, path):
    value = "NULL" if path is None else f"'{path}'"
    download.sql(f"UPDATE trials SET path = {value}, vicon_path = {value}")
    assert download.read().problems == []


def test_a_thumbnail_database_of_windows_is_no_second_database(download):
    (download.root / "veriserum_collection_compressed" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (download.root / "notes.db").write_text("no database either")
    assert download.read().problems == []


def test_a_link_to_itself_is_passed_over_where_its_name_is_no_part_of_an_archive(download):
    (download.root / "loop").symlink_to(download.root / "loop")
    assert download.read().problems == []


@pytest.mark.parametrize("name", ["bs_999999.jpg", "cal_fs_000099.tif", "ana_000099.stl"])
@pytest.mark.parametrize("target", ["nowhere", None])
def test_a_link_to_nothing_or_to_itself_is_named(download, name, target):
    (download.root / name).symlink_to(target or name)
    (problem,) = download.read().problems
    assert (problem.kind, problem.where, problem.structural) == ("broken link", name, False)
    assert f"it is a link to '{target or name}', where no file can be read" in problem.what


def test_frames_of_another_shape_are_pointed_out(download):
    for path in (download.root / "veriserum_collection_compressed").glob("*.jpg"):
        cv2.imwrite(str(path), np.full((400, 400), 120, np.uint8))
    (problem,) = download.read().problems
    assert problem.kind == "frame shape"
    assert "frames of 400 x 400 px, another shape than 1664 x 1600" in problem.what


def test_a_missing_pose_does_not_cut_a_trial_in_two_where_no_table_states_trials(tmp_path):
    archive = write_archive(tmp_path / "csv", trials=3, frames_per_trial=4, frame_size=SIZE, csv=True)
    before = VeriserumArchive(archive.root).frames["trial_id"].to_pylist()
    lines = archive.database.read_text().splitlines(keepends=True)
    gone = next(line for line in lines if line.split(",")[1] == "6" and line.split(",")[2] in "345")
    archive.database.write_text("".join(line for line in lines if line != gone))
    assert VeriserumArchive(archive.root).frames["trial_id"].to_pylist() == before
    assert len(set(before)) == 3
