"""A new calibration in an archive: one row under a new id, all of it or nothing, and everything else as it was."""

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.cli.commands import heed_permissions
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.frames import read_frame
from veriserum_hf.calibration.bead_grid import fit_bead_grid
from veriserum_hf.core.domain import PLANES
from veriserum_hf.core.version import __version__
from veriserum_hf.errors import ArchiveError, CalibrationError
from veriserum_hf.geometry.pose import make_transform
from veriserum_hf.geometry.rig import NOMINAL_T_WORLD_FS, DualPlaneRig
from veriserum_hf.recalibration.write_calibration import write_distortion, write_source

DISTORTION_CSV, SOURCE_CSV = "distortion_calibration_reloaded.csv", "source_int_calibration_reloaded.csv"
T_WORLD_FS = make_transform(
    Rotation.from_rotvec((0.1, -0.4, 0.3), degrees=True).as_matrix() @ NOMINAL_T_WORLD_FS[:3, :3],
    (361.5, -0.7, 249.1),
)
WRITE_SOURCE = """
import sys
from veriserum_hf.recalibration.write_calibration import write_source
from veriserum_hf.geometry.rig import DualPlaneRig
rig = DualPlaneRig.from_calibration(
    principal_point_bs_mm=(2, -6),
    sid_bs_mm=1860,
    principal_point_fs_mm=(-10, 1),
    sid_fs_mm=1850,
    T_world_fs=[[0, 0, -1, 361], [0, 1, 0, 0], [1, 0, 0, 250], [0, 0, 0, 1]],
)
try:
    print(write_source(sys.argv[1], rig, {}))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def rig_of(T_world_fs=NOMINAL_T_WORLD_FS):
    return DualPlaneRig.from_calibration(
        principal_point_bs_mm=(2.5, -6.25),
        sid_bs_mm=1859.5,
        principal_point_fs_mm=(-10.5, 1.75),
        sid_fs_mm=1852.25,
        T_world_fs=T_world_fs,
    )


def grid_frames(archive, distortion_id):
    trials = archive.distortion_trials[distortion_id]
    rows = archive.calibration_frames.to_pylist()
    return {
        plane: [row["path"] for row in rows if (row["plane"], row["calibration_trial_id"]) == (plane, trials[plane])]
        for plane in PLANES
    }


@pytest.fixture(scope="session")
def fits(pristine):
    """Fits to the bead grids of distortion calibration 8."""
    frames = grid_frames(pristine.read(), 8)
    return {plane: fit_bead_grid(read_frame(paths[0])) for plane, paths in frames.items()}


def dump(database):
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def files(root):
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


def content(archive):
    """All that may not change, whether in SQLite or in CSV files."""
    return dump(archive.database) if archive.database.suffix == ".db" else files(archive.root)


def test_a_distortion_gets_a_row_under_a_new_id(download, fits):
    before = dump(download.database)
    frames = grid_frames(download.read(), 8)
    assert write_distortion(download.root, fits, frames) == 9
    after = dump(download.database)
    added = [line for line in after if line not in before]
    assert [line for line in after if line in before] == before
    assert len(added) == 1 and 'INSERT INTO "distortion_calibration" VALUES(9,' in added[0]
    archive = download.read()
    assert archive.problems == []
    assert archive.distortions[9] == {plane: fits[plane].distortion for plane in PLANES}
    assert archive.distortion_trials[9] == archive.distortion_trials[8]
    stamp = download.rows(
        "SELECT obsolete, method, git_hash, update_timestamp FROM distortion_calibration WHERE id = 9"
    )[0]
    assert stamp[:3] == (0, "veriserum_hf", f"veriserum_hf {__version__}")
    assert len(stamp[3]) == len("2023-04-14 14:41:57")
    unknown = download.rows("SELECT operator, git_repo, pixel_size_h_bs FROM distortion_calibration WHERE id = 9")
    assert unknown == [(None, None, None)]


def test_a_distortion_gets_a_line_of_the_csv(csv_download, fits):
    before = files(csv_download.root)
    assert write_distortion(csv_download.root, fits, {}) == 9
    after = files(csv_download.root)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {DISTORTION_CSV}
    assert after[DISTORTION_CSV].startswith(before[DISTORTION_CSV])
    assert after[DISTORTION_CSV].count(b"\r\n") == before[DISTORTION_CSV].count(b"\r\n") + 1
    archive = csv_download.read()
    assert archive.distortions[9] == {plane: fits[plane].distortion for plane in PLANES}
    assert archive.distortion_trials[9] == {}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("ended", [True, False])
def test_a_csv_keeps_its_line_ends(csv_download, end, ended):
    path = csv_download.root / SOURCE_CSV
    text = end.join(path.read_text().splitlines())
    path.write_bytes(b"\xef\xbb\xbf" + (text + end * ended).encode())
    before = path.read_bytes()
    assert write_source(csv_download.root, rig_of(), {}) == 6
    after = path.read_bytes()
    assert after.startswith(before)
    assert after.count(b"\r") == after.count(b"\n") * (end == "\r\n")
    assert after.decode("utf-8-sig").splitlines()[:-1] == text.splitlines()
    assert csv_download.read().source_calibrations[6]["fs"].sid_mm == 1852.25


@pytest.mark.parametrize("kind", ["download", "csv_download"])
def test_a_measured_pose_holds_for_the_new_id_alone(request, kind):
    archive = request.getfixturevalue(kind)
    before = archive.read()
    assert write_source(archive.root, rig_of(T_WORLD_FS), {}) == 6
    after = archive.read()
    assert after.problems == []
    rig = after.source_calibrations[6]
    np.testing.assert_allclose(rig["fs"].T_world_intensifier, T_WORLD_FS, atol=1e-12)
    assert rig["bs"].principal_point_mm.tolist() == [2.5, -6.25]
    assert (rig["bs"].sid_mm, rig["fs"].sid_mm) == (1859.5, 1852.25)
    for id in before.source_calibrations:
        np.testing.assert_array_equal(after.source_calibrations[id]["fs"].T_world_intensifier, NOMINAL_T_WORLD_FS)
    assert after.poses.equals(before.poses)
    assert write_source(archive.root, rig_of(T_WORLD_FS), {}) == 7
    np.testing.assert_allclose(archive.read().source_calibrations[7]["fs"].T_world_intensifier, T_WORLD_FS)


@pytest.mark.parametrize("kind", ["download", "csv_download"])
def test_a_nominal_pose_needs_no_table(request, kind):
    archive = request.getfixturevalue(kind)
    assert write_source(archive.root, rig_of(), {}) == 6
    assert not (archive.root / "inter_plane_calibration.csv").exists()
    if kind == "download":
        assert not archive.rows("SELECT * FROM sqlite_master WHERE name LIKE 'inter%'")


def test_an_obsolete_pose_does_not_come_to_name_a_new_calibration(download, fits):
    download.sql("UPDATE poses SET source_int_calibration_id = 6, distortion_calibration_id = 40 WHERE id = 5")
    assert write_source(download.root, rig_of(T_WORLD_FS), {}) == 7
    assert write_distortion(download.root, fits, {}) == 41


def test_nor_does_one_of_the_csv(csv_download):
    header, first, *others = csv_download.database.read_text().splitlines()
    values = dict(zip(header.split(","), first.split(","), strict=True))
    stale = values | {"id": "999", "obsolete": "1", "source_int_calibration_id": "6"}
    csv_download.database.write_text("\n".join([header, first, *others, ",".join(stale.values())]) + "\n")
    assert write_source(csv_download.root, rig_of(), {}) == 7


def test_what_is_written_can_be_converted_and_audited(download):
    new_id = write_source(download.root, rig_of(T_WORLD_FS), {})
    download.sql(f"UPDATE poses SET source_int_calibration_id = {new_id}")
    archive = download.read()
    assert set(archive.poses["source_calibration_id"].to_pylist()) == {new_id}
    assert archive.problems == []


def test_the_trial_is_that_of_the_archives_own_frames(download, fits, tmp_path):
    own = grid_frames(download.read(), 8)
    elsewhere = tmp_path / "cal_fs_000001.tif"
    elsewhere.write_bytes(Path(own["fs"][0]).read_bytes())
    other = grid_frames(download.read(), 3)
    first = write_distortion(download.root, fits, {"bs": own["bs"], "fs": [elsewhere]})
    second = write_distortion(download.root, fits, {"bs": own["bs"] + other["bs"], "fs": own["fs"]})
    trials = download.read().distortion_trials
    assert trials[first] == {"bs": trials[8]["bs"]}
    assert trials[second] == {"fs": trials[8]["fs"]}


def test_a_copied_planes_trial_is_copied_with_it(download):
    trials = download.read().source_trials[5]
    new_id = write_source(download.root, rig_of(), {"bs": ["cal_bs_000001.tif"]}, copied_from=5)
    assert download.read().source_trials[new_id] == {"fs": trials["fs"]}


def refused(error, message, write, archive):
    before = content(archive)
    with pytest.raises(error, match=message):
        write()
    assert content(archive) == before
    assert not list(archive.root.glob("*.partial"))


@pytest.mark.parametrize("kind", ["download", "csv_download"])
def test_a_phantom_that_is_not_upright_is_refused(request, kind, pristine, fits):
    archive = request.getfixturevalue(kind)
    frame = read_frame(grid_frames(pristine.read(), 8)["fs"][0])
    mirrored = {**fits, "fs": fit_bead_grid(np.flip(frame, 1))}
    message = r"^fs: the phantom is rotated by -?\d+\.\d degrees .* or mirrored\. Nothing was written; take a frame"
    refused(CalibrationError, message, lambda: write_distortion(archive.root, mirrored, {}), archive)


def test_a_distortion_that_folds_is_refused(download, fits):
    twisted = list(fits["bs"].distortion.x_coefficients)
    twisted[4] = -twisted[4] / 10
    twisted[8] = 0.01
    folding = replace(fits["bs"], distortion=replace(fits["bs"].distortion, x_coefficients=tuple(twisted)))
    refused(
        CalibrationError,
        "^bs: the distortion folds over inside the raw frame. Nothing was written",
        lambda: write_distortion(download.root, {**fits, "bs": folding}, {}),
        download,
    )


def test_one_plane_alone_is_refused(download, fits):
    refused(
        CalibrationError,
        "needs both planes; there is no fit of fs",
        lambda: write_distortion(download.root, {"bs": fits["bs"]}, {}),
        download,
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            "ALTER TABLE source_int_calibration DROP COLUMN obsolete; "
            "ALTER TABLE source_int_calibration DROP COLUMN method",
            r"table source_int_calibration: there is no column obsolete, method; found calibration_trial_id_bs, .*"
            "Nothing was changed; use the tables of the download unchanged",
        ),
        (
            "CREATE TRIGGER stop BEFORE INSERT ON source_int_calibration BEGIN SELECT RAISE(ABORT, 'not here'); END",
            r"the database does not take the new row \(not here\)\. Nothing was changed",
        ),
        (
            "CREATE UNIQUE INDEX one ON source_int_calibration (obsolete) WHERE id > 2",
            r"the database does not take the new row \(UNIQUE constraint failed: .*\)\. Nothing was changed",
        ),
        ("DROP TABLE trials", "there is no table trials"),
    ],
    ids=["columns", "trigger", "constraint", "unusable"],
)
def test_a_database_that_does_not_take_it_is_left_unchanged(download, damage, message):
    download.sql(damage)
    refused(ArchiveError, message, lambda: write_source(download.root, rig_of(T_WORLD_FS), {}), download)


def test_a_csv_without_a_column_is_left_unchanged(csv_download):
    path = csv_download.root / SOURCE_CSV
    path.write_text(path.read_text().replace("obsolete", "stale"))
    message = f"{SOURCE_CSV}: there is no column obsolete; found .*stale"
    refused(ArchiveError, message, lambda: write_source(csv_download.root, rig_of(T_WORLD_FS), {}), csv_download)


def hold(database, begin):
    script = (
        "import sqlite3, sys\n"
        f"c = sqlite3.connect({str(database)!r}, isolation_level=None); c.execute({begin!r})\n"
        "c.execute('SELECT count(*) FROM poses').fetchall(); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    return holder


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_database_in_use_is_refused_and_written_to_afterwards(download, begin):
    before = dump(download.database)
    with hold(download.database, begin) as holder:
        with pytest.raises(ArchiveError, match=r"another program is (using|writing to) this database.*lose that pro"):
            write_source(download.root, rig_of(), {})
        holder.stdin.close()
    assert dump(download.database) == before
    assert write_source(download.root, rig_of(), {}) == 6


def test_a_process_that_is_killed_leaves_nothing_of_it(download):
    before = dump(download.database)
    download.sql(
        "CREATE TRIGGER slow BEFORE INSERT ON source_int_calibration BEGIN SELECT count(*) FROM (WITH RECURSIVE "
        "n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT i FROM n); END"
    )
    journal = download.database.with_name(download.database.name + "-journal")
    with subprocess.Popen([sys.executable, "-c", WRITE_SOURCE, download.root], stderr=subprocess.DEVNULL) as writer:
        while not (journal.exists() and journal.stat().st_size):  # it has begun to write
            assert writer.poll() is None
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
    with pytest.raises(ArchiveError, match="if there is none, run VACUUM in it once with sqlite3"):
        download.read()
    download.sql("DROP TRIGGER slow; VACUUM")
    assert dump(download.database) == before
    assert write_source(download.root, rig_of(), {}) == 6


def test_two_processes_at_once_get_ids_of_their_own(download):
    arguments = [sys.executable, "-c", WRITE_SOURCE, download.root]
    both = [subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(*process.communicate(), process.returncode) for process in both]
    written = [int(out) for out, _, status in ended if status == 0]
    # One of them may have met the other's journal, and was refused for it.
    assert all("another program" in error for _, error, status in ended if status)
    assert sorted(written) == list(range(6, 6 + len(written))) and written
    assert set(download.read().source_calibrations) == {2, 5, *written}


def test_a_csv_that_is_being_written_is_refused(csv_download):
    partial = csv_download.root / f"{SOURCE_CSV}.partial"
    partial.write_text("half a")
    before = files(csv_download.root)
    with pytest.raises(ArchiveError, match=r"csv\.partial is there: another process is writing to .*remove the file"):
        write_source(csv_download.root, rig_of(T_WORLD_FS), {})
    assert files(csv_download.root) == before
    partial.unlink()
    assert write_source(csv_download.root, rig_of(T_WORLD_FS), {}) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="takes root's licence away as Linux does")
@pytest.mark.parametrize("kind", ["download", "csv_download"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_read_only_archive_is_refused(request, kind, what):
    archive = request.getfixturevalue(kind)
    before = content(archive)
    protected = archive.root if what == "folder" else archive.root / SOURCE_CSV
    if what == "file" and kind == "download":
        protected = archive.database
    mode = protected.stat().st_mode
    protected.chmod(mode & ~0o222)
    done = subprocess.run(
        [sys.executable, "-c", WRITE_SOURCE, archive.root],
        preexec_fn=heed_permissions,
        capture_output=True,
        text=True,
        check=False,
    )
    protected.chmod(mode)
    assert done.returncode == 1
    assert done.stderr.startswith("ArchiveError: ")
    assert "Nothing was changed" in done.stderr and "grant yourself write permission" in done.stderr
    assert content(archive) == before


def test_a_pose_that_belongs_to_nothing_is_reported_and_not_taken_over(download):
    write_source(download.root, rig_of(T_WORLD_FS), {})
    download.sql("DELETE FROM source_int_calibration WHERE id = 6")
    archive = download.read()
    (problem,) = archive.problems
    assert (problem.kind, problem.structural) == ("dangling id", False)
    assert "table inter_plane_calibration, id 1: refers to source_int_calibration id 6, which" in str(problem)
    new_id = write_source(download.root, rig_of(T_WORLD_FS), {})
    assert new_id == 7
    assert new_id in download.read().source_calibrations


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE inter_plane_calibration SET r3 = 2", "inter_plane_calibration id 1: translation .* are not a pose"),
        ("UPDATE inter_plane_calibration SET tx = 'far'", "table inter_plane_calibration, column tx, .* 'far'"),
        (
            "CREATE TABLE c AS SELECT * FROM inter_plane_calibration; DROP TABLE inter_plane_calibration;"
            "ALTER TABLE c RENAME TO inter_plane_calibration;"
            "INSERT INTO inter_plane_calibration SELECT 2, source_int_calibration_id, tx, ty, tz, r0, r1, r2, r3, "
            "method, update_timestamp FROM inter_plane_calibration",
            r"2 rows of inter_plane_calibration \(ids 1, 2\) belong to it, expected one",
        ),
    ],
    ids=["norm", "type", "twice"],
)
def test_a_pose_that_is_invalid_makes_what_uses_it_unusable(download, damage, message):
    new_id = write_source(download.root, rig_of(T_WORLD_FS), {})
    download.sql(f"UPDATE poses SET source_int_calibration_id = {new_id} WHERE id = 7")
    download.sql(damage)
    with pytest.raises(ArchiveError, match=message):
        VeriserumArchive(download.root)
