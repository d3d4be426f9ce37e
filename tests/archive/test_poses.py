"""What the pose table means: every sound pose in the world frame, and every fault named by its row."""

import numpy as np
import pytest

from tests.fixtures.archives import write_archive
from tests.fixtures.downloads import SIZE
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.audit import audit_archive as audit
from veriserum_hf.errors import ArchiveError
from veriserum_hf.geometry.pose import quaternion_to_matrix

DATABASE = r"veriserumSqlite3_refined\.db"


def assert_true_poses(archive, frames):
    """The refined poses in use are those that the frames show, in the world frame."""
    poses = [row for row in archive.poses.to_pylist() if row["kind"] == "refined" and not row["obsolete"]]
    assert len(poses) == 2 * len(frames)
    for row in poses:
        frame = frames[row["measurement_id"]]
        T = {"femur": frame.T_world_femur, "tibia": frame.T_world_tibia}[row["component"]]
        assert row["anatomy_id"] == {"femur": frame.femur_id, "tibia": frame.tibia_id}[row["component"]]
        np.testing.assert_allclose(row["translation_mm"], T[:3, 3], rtol=0, atol=1e-9)
        np.testing.assert_allclose(quaternion_to_matrix(row["quaternion_xyzw"]), T[:3, :3], rtol=0, atol=1e-6)
        assert row["quaternion_xyzw"][3] >= 0


@pytest.mark.parametrize(
    ("pose_frame", "in_field"), [("intensifier", "24 of 24 refined poses lie in a plane's field"), ("source", ", 24")]
)
@pytest.mark.parametrize(
    ("rotation", "answer", "evidence"),
    [
        ("quaternion", r"quaternion (r0, r1, r2, r3) = (x, y, z, w), scalar last", "unit length in 56 rows"),
        ("euler", "intrinsic Euler angles ZXY (rz, rx, ry) in degrees", "56 rows have them, none has a quaternion"),
        (
            "both",
            r"quaternion (r0, r1, r2, r3) = (x, y, z, w), scalar last",
            "agrees with the Euler angles in 56 of 56",
        ),
    ],
)
def test_every_way_to_store_a_pose_gives_the_pose_in_the_world(
    tmp_path, rotation, answer, evidence, pose_frame, in_field
):
    root = tmp_path / "veriserum"
    tiny = write_archive(root, frame_size=SIZE, rotation=rotation, pose_frame=pose_frame)
    archive = VeriserumArchive(root)
    assert_true_poses(archive, tiny.frames)
    assert archive.decisions["rotation"].answer == answer
    assert evidence in archive.decisions["rotation"].evidence
    assert archive.decisions["pose_frame"].answer == f"origin at the bs {pose_frame}"
    assert f"{in_field} with the origin at the bs {pose_frame}" in archive.decisions["pose_frame"].evidence
    assert archive.problems == []


def test_quaternions_of_either_sign_are_the_same_rotation(download):
    download.sql("UPDATE poses SET r0 = -r0, r1 = -r1, r2 = -r2, r3 = -r3")
    assert_true_poses(download.read(), download.frames)


def test_rows_may_have_a_quaternion_or_euler_angles(png_download):
    png_download.sql(
        "UPDATE poses SET r0 = NULL, r1 = NULL, r2 = NULL, r3 = NULL WHERE id % 3 = 0;"
        "UPDATE poses SET rz = NULL, rx = NULL, ry = NULL WHERE id % 3 = 1"
    )
    archive = png_download.read()
    assert_true_poses(archive, png_download.frames)
    assert archive.problems == []


def test_kinds_follow_the_method(pristine):
    archive = pristine.read()
    kinds = {(row["pose_id"], row["kind"]) for row in archive.poses.to_pylist()}
    assert {(1, "refined"), (3, "target"), (23, "manual"), (24, "manual")} <= kinds
    decision = archive.decisions["kinds"]
    assert decision.answer == "MANMATCH is manual; REFINED is refined; ROBOT is target"
    assert decision.evidence == "30 rows REFINED, 24 rows ROBOT, 2 rows MANMATCH"


def test_where_robot_is_the_only_automatic_method_its_poses_are_the_refined_ones(download):
    download.sql("DELETE FROM poses WHERE method = 'REFINED'")
    decision = download.read().decisions["kinds"]
    assert decision.answer == "MANMATCH is manual; ROBOT is refined"
    assert "no other automatic method" in decision.evidence


def test_obsolete_poses_are_kept_and_marked_after_the_current_ones(pristine):
    archive = pristine.read()
    of_frame = [
        (row["pose_id"], row["obsolete"])
        for row in archive.poses.to_pylist()
        if (row["measurement_id"], row["component"], row["kind"]) == (2, "femur", "refined")
    ]
    assert of_frame == [(7, False), (5, True)]
    assert archive.problems == []


def test_csv_files_decide_implants_and_trials_by_the_poses(pristine_csv):
    archive = pristine_csv.read()
    assert_true_poses(archive, pristine_csv.frames)
    components, trials = archive.decisions["components"], archive.decisions["trials"]
    assert components.answer == "1 femur, 2 femur, 3 tibia, 4 tibia, 5 tibia"
    assert "1 above its partner in 6 of 6 frames" in components.evidence
    assert trials.answer == "runs of frames with the same implants and calibrations, 4 in all"
    assert "no table of measurements" in trials.evidence
    assert archive.frames["trial_id"].to_pylist() == [1] * 3 + [4] * 3 + [7] * 3 + [10] * 3
    assert archive.decisions["kinds"].answer == "all are refined"


@pytest.mark.parametrize(
    ("options", "answer", "evidence", "white"),
    [
        ({"extension": "jpg"}, "8-bit, white is 255", "24 files are JPEG or hold 8 bits", 255),
        ({"extension": "png"}, "8-bit, white is 255", "24 files are JPEG or hold 8 bits", 255),
        ({"extension": "tif", "bit_depth": 16}, "12 of 16 bits, white is 4095", "of 24 sampled frames is", 4095),
    ],
)
def test_the_white_level_is_that_of_the_frames_depth(tmp_path, options, answer, evidence, white):
    root = tmp_path / "veriserum"
    write_archive(root, frame_size=SIZE, **options)
    archive = VeriserumArchive(root)
    assert archive.raw_format.white_level == white
    assert archive.decisions["grey_levels"].answer == answer
    assert evidence in archive.decisions["grey_levels"].evidence


@pytest.mark.parametrize("fixture", ["pristine", "pristine_csv", "pristine_png"])
def test_every_decision_states_its_question_and_evidence(request, fixture):
    decisions = request.getfixturevalue(fixture).read().decisions
    assert {"frame_id", "rotation", "pose_frame", "kinds", "grey_levels"} <= decisions.keys()
    for decision in decisions.values():
        assert decision.question.endswith("?") and decision.answer and decision.evidence


ROW_FAULTS = [
    ("source_int_calibration_id = 99", r"refers to source_int_calibration id 99, which is not there\. Add the row"),
    ("source_int_calibration_id = NULL", "refers to source_int_calibration id NULL, which is not there"),
    ("distortion_calibration_id = 99", r"refers to distortion_calibration id 99, which is not there\. Add the row"),
    ("anatomy_id = 99", r"refers to anatomies id 99, which is not there\. Add the row to anatomies or mark"),
    ("measurement_id = 99", r"refers to measurements id 99, which is not there\. Add the row to measurements"),
    ("tx = NULL", r"translation \(tx, ty, tz\) is \(nan, .*expected three finite mm\. Mark the pose obsolete"),
    ("ty = 'nan'", r"translation \(tx, ty, tz\) is .*nan, .*expected three finite mm"),
    ("tz = 9e999", r"translation \(tx, ty, tz\) is .*inf\), expected three finite mm"),
    ("r1 = NULL", r"rotation is .*nan.*expected finite"),
    ("r2 = 'nan'", r"rotation is .*nan.*expected finite"),
    ("r3 = -9e999", r"rotation is .*-inf.*expected finite"),
    (
        ", ".join(f"{column} = NULL" for column in ("r0", "r1", "r2", "r3", "rz", "rx", "ry")),
        r"rotation is .*expected finite",
    ),
    ("r0 = 0, r1 = 0, r2 = 0, r3 = 1.01", r"quaternion \(r0, r1, r2, r3\) has norm 1\.010000, expected 1"),
    ("r0 = 0, r1 = 0, r2 = 0, r3 = 0", r"quaternion \(r0, r1, r2, r3\) has norm 0\.000000, expected 1"),
]


@pytest.mark.parametrize(("change", "message"), ROW_FAULTS, ids=[change for change, _ in ROW_FAULTS])
def test_a_fault_in_a_current_pose_stops(download, change, message):
    download.sql(f"UPDATE poses SET {change} WHERE id = 7")
    with pytest.raises(ArchiveError, match=rf"{DATABASE}, table poses, id 7: {message}"):
        download.read()


@pytest.mark.parametrize(("change", "message"), ROW_FAULTS, ids=[change for change, _ in ROW_FAULTS])
def test_the_same_fault_in_an_obsolete_pose_leaves_it_out(download, change, message):
    download.sql(f"UPDATE poses SET {change} WHERE id = 5")
    archive = download.read()
    assert 5 not in archive.poses["pose_id"].to_pylist()
    assert_true_poses(archive, download.frames)
    (problem,) = archive.problems
    assert problem.where == "veriserumSqlite3_refined.db, table poses, id 5"
    assert "marked obsolete and excluded" in problem.remedy
    assert not problem.structural and audit(download.root).exit_status == 1


def test_a_norm_off_by_less_than_a_thousandth_is_made_one(download):
    download.sql("UPDATE poses SET r0 = r0 * 1.0008, r1 = r1 * 1.0008, r2 = r2 * 1.0008, r3 = r3 * 1.0008")
    archive = download.read()
    assert_true_poses(archive, download.frames)
    assert np.allclose(np.linalg.norm(archive.poses["quaternion_xyzw"].to_pylist(), axis=1), 1, rtol=0, atol=1e-12)


def test_quaternion_and_euler_angles_that_disagree_stop(png_download):
    png_download.sql("UPDATE poses SET rz = rz + 1 WHERE id = 7")
    with pytest.raises(
        ArchiveError,
        match=rf"{DATABASE}, table poses, id 7: quaternion and Euler angles are 1\.00 deg apart\. "
        r"Quaternions are read as \(x, y, z, w\)\. Correct the one or the other",
    ):
        png_download.read()


def test_rotations_that_disagree_in_an_obsolete_pose_leave_it_out(png_download):
    png_download.sql("UPDATE poses SET rz = rz + 1 WHERE id = 5")
    archive = png_download.read()
    assert 5 not in archive.poses["pose_id"].to_pylist()
    assert [problem.structural for problem in archive.problems] == [False]


def test_quaternions_stored_scalar_first_are_recognised_by_the_euler_angles(png_download):
    png_download.sql("UPDATE poses SET r0 = r3, r1 = r0, r2 = r1, r3 = r2")
    with pytest.raises(
        ArchiveError, match=r"Read as \(w, x, y, z\) they agree: the columns are scalar first; reorder"
    ):
        png_download.read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "UPDATE poses SET obsolete = 0 WHERE id = 5",
            r"id 5 and id 7: both are the refined pose of the femur \(anatomies 1 and 1\) in measurement 2\. Mark",
        ),
        (
            "UPDATE poses SET obsolete = 0, anatomy_id = 2 WHERE id = 5",
            r"id 5 and id 7: both are the refined pose of the femur \(anatomies 2 and 1\) in measurement 2",
        ),
        (
            "UPDATE poses SET distortion_calibration_id = 8 WHERE id = 7",
            r"id 7 and id 8: measurement 2 has distortion_calibration 8 by one pose and 3 by the other\. Give both",
        ),
        (
            "UPDATE poses SET source_int_calibration_id = 5 WHERE id = 8",
            r"id 7 and id 8: measurement 2 has source_int_calibration 2 by one pose and 5 by the other",
        ),
        (
            "UPDATE anatomies SET category = 'patella' WHERE id = 3",
            r"id 2: anatomy 3 has category 'patella', expected a femur or a tibia\. Correct the category",
        ),
        (
            "CREATE TABLE p AS SELECT * FROM poses; DROP TABLE poses; ALTER TABLE p RENAME TO poses;"
            "UPDATE poses SET id = 7 WHERE id = 8",
            r"id 7: the id is NULL or occurs in more than one row\. Give every pose its own id",
        ),
        (
            "UPDATE poses SET tx = tx * 1000, ty = ty * 1000, tz = tz * 1000",
            r"the frame of the poses cannot be determined: 0 of \d+ \w+ poses.*check the unit",
        ),
    ],
)
def test_poses_that_contradict_each_other_stop(download, change, message):
    download.sql(change)
    with pytest.raises(ArchiveError, match=rf"{DATABASE}, table poses(, |: ){message}"):
        download.read()


def test_a_table_of_anatomies_without_rows_knows_none_of_the_implants(download):
    download.sql("DELETE FROM anatomies")
    with pytest.raises(ArchiveError, match=rf"{DATABASE}, table poses, id 1: refers to anatomies id 1, which is not"):
        download.read()


def test_a_pose_far_from_both_planes_is_reported_and_kept(download):
    download.sql("UPDATE poses SET tx = 900 WHERE id = 7")
    archive = download.read()
    (problem,) = archive.problems
    assert (problem.kind, problem.structural) == ("pose outside", False)
    assert problem.where == "veriserumSqlite3_refined.db, table poses, id 7"
    assert "(900.0, " in problem.what and "neither plane's field" in problem.what
    assert 7 in archive.poses["pose_id"].to_pylist()


def test_csv_implants_that_are_not_always_above_or_below_stop(csv_download):
    path = csv_download.root / "veriserum_pose_reloaded_refined_all.csv"
    header, *rows = [line.split(",") for line in path.read_text().splitlines()]
    for row in rows[::4]:
        row[header.index("ty")] = str(-float(row[header.index("ty")]) - 60)
    path.write_text("\n".join(map(",".join, [header, *rows])) + "\n")
    with pytest.raises(ArchiveError, match=r"femoral or tibial cannot be determined\. Put an anatomies\.csv"):
        csv_download.read()


_FOLDED = [0] * 32
_FOLDED[4] = _FOLDED[17] = 1
_FOLDED[12] = _FOLDED[19] = -1e-4
CALIBRATION_FAULTS = {
    "folds over": (
        "distortion",
        f"distortion_result_bs = '{','.join(map(str, _FOLDED))};0.225;-190,180;1,0,0,1'",
        "distortion_result_bs: the polynomial folds",
    ),
    "two parts": ("distortion", "distortion_result_fs = '1,2;3'", "distortion_result_fs: .*expected four parts"),
    "no text": ("distortion", "distortion_result_bs = NULL", "distortion_result_bs: .*expected four parts"),
    "no number": (
        "distortion",
        "distortion_result_bs = 'x' || distortion_result_bs",
        "distortion_result_bs: .*the coefficients holds something that is not a number",
    ),
    "one number too many": (
        "distortion",
        "distortion_result_fs = '1,' || distortion_result_fs",
        "distortion_result_fs: .*expected 32 numbers for the coefficients, found 33",
    ),
    "nan": (
        "distortion",
        "distortion_result_fs = 'nan' || substr(distortion_result_fs, instr(distortion_result_fs, ','))",
        "distortion_result_fs: .*the coefficients holds a number that is not finite",
    ),
    "no distance": ("source_int", "sid_bs = NULL", r".*\b(sid_)?bs\b.*distance must be positive mm"),
    "negative distance": ("source_int", "sid_fs = -1860", r".*\b(sid_)?fs\b.*distance must be positive mm"),
    "no principal point": ("source_int", "principalp_v_fs = 'nan'", r".*fs\b.*principal point must be two finite"),
}


@pytest.mark.parametrize("fault", CALIBRATION_FAULTS)
def test_an_unusable_calibration_of_a_current_pose_stops(download, fault):
    kind, change, message = CALIBRATION_FAULTS[fault]
    id = {"distortion": 8, "source_int": 5}[kind]
    download.sql(f"UPDATE {kind}_calibration SET {change} WHERE id = {id}")
    with pytest.raises(
        ArchiveError, match=rf"{DATABASE}, table {kind}_calibration, id {id}: {message}.*Restore the row"
    ):
        download.read()


@pytest.mark.parametrize("fault", CALIBRATION_FAULTS)
def test_an_unusable_calibration_of_obsolete_poses_only_leaves_them_out(download, fault):
    kind, change, _ = CALIBRATION_FAULTS[fault]
    download.sql(
        f"CREATE TABLE c AS SELECT * FROM {kind}_calibration LIMIT 1; UPDATE c SET id = 77, {change};"
        f"INSERT INTO {kind}_calibration SELECT * FROM c; DROP TABLE c;"
        f"UPDATE poses SET {kind}_calibration_id = 77 WHERE id IN (5, 6)"
    )
    archive = download.read()
    places = [problem.where for problem in archive.problems]
    assert f"veriserumSqlite3_refined.db, table {kind}_calibration, id 77" in places
    assert not any(problem.structural for problem in archive.problems)
    assert not {5, 6} & set(archive.poses["pose_id"].to_pylist())


def test_a_calibration_id_in_two_rows_stops(download):
    download.sql(
        "CREATE TABLE s AS SELECT * FROM source_int_calibration; DROP TABLE source_int_calibration;"
        "ALTER TABLE s RENAME TO source_int_calibration; UPDATE source_int_calibration SET id = 2"
    )
    with pytest.raises(ArchiveError, match=r"table source_int_calibration, id 2: this id occurs in two rows"):
        download.read()


def test_a_measurement_of_a_trial_that_is_not_there_stops(download):
    download.sql("UPDATE measurements SET trials_id = 99 WHERE id = 2")
    with pytest.raises(
        ArchiveError, match=rf"{DATABASE}, table measurements, id 2: refers to trials id 99, which is not"
    ):
        download.read()


def test_a_dangling_trial_of_obsolete_poses_only_does_not_stop(download):
    """The way out that the message states."""
    download.sql(
        "UPDATE measurements SET trials_id = 99 WHERE id = 2; UPDATE poses SET obsolete = 1 WHERE measurement_id = 2"
    )
    (problem,) = download.read().problems
    assert (problem.kind, problem.structural) == ("dangling id", False)


@pytest.mark.parametrize(
    "fault",
    [
        "UPDATE poses SET tx = NULL WHERE id = 7",
        "UPDATE poses SET rz = rz + 1 WHERE id = 7",
        "UPDATE poses SET anatomy_id = 99 WHERE id = 7",
        "UPDATE poses SET obsolete = 0 WHERE id = 5",
        "UPDATE distortion_calibration SET distortion_result_fs = '1,2;3' WHERE id = 8",
        "UPDATE trials SET path = '/etc/passwd'",
        "UPDATE measurements SET trials_id = 99 WHERE id = 2",
        "DROP TABLE trials",
    ],
)
def test_no_frame_is_read_before_a_structural_fault_stops(png_download, opened, fault):
    png_download.sql(fault)
    with pytest.raises(ArchiveError):
        png_download.read()
    assert not [name for name in opened if name.startswith(("bs_", "fs_"))]


def test_frames_of_a_sound_archive_are_sampled_for_their_white_level(png_download, opened):
    assert png_download.read().raw_format.white_level == 4095
    assert [name for name in opened if name.startswith(("bs_", "fs_"))]


@pytest.mark.parametrize("plane", ["bs", "fs"])
def test_the_rig_is_that_of_the_calibration_row(pristine, plane):
    rigs = pristine.read().source_calibrations
    columns = f"id, principalp_h_{plane}, principalp_v_{plane}, sid_{plane}"
    for id, *principal_point_mm, sid_mm in pristine.rows(f"SELECT {columns} FROM source_int_calibration"):
        assert rigs[id][plane].principal_point_mm.tolist() == principal_point_mm
        assert rigs[id][plane].sid_mm == sid_mm


def test_an_error_states_how_many_more_there_are(download):
    download.sql("UPDATE poses SET tx = NULL WHERE id IN (7, 8, 11)")
    with pytest.raises(ArchiveError, match=r"id 7: .*\n2 more .*`veriserum audit` lists them all"):
        download.read()


@pytest.mark.parametrize("obsolete", [0, 1])
def test_each_kind_has_a_frame_of_its_own(download, obsolete):
    """Targets come from the robot, refined poses from the registration: one may have the source as origin."""
    before = {row["pose_id"]: row["translation_mm"] for row in download.read().poses.to_pylist()}
    download.sql(
        "UPDATE poses SET"
        " tz = tz - (SELECT sid_bs FROM source_int_calibration s WHERE s.id = source_int_calibration_id),"
        " tx = tx - (SELECT principalp_h_bs FROM source_int_calibration s WHERE s.id = source_int_calibration_id),"
        " ty = ty - (SELECT principalp_v_bs FROM source_int_calibration s WHERE s.id = source_int_calibration_id)"
        " WHERE method = 'ROBOT'"
    )
    download.sql(f"UPDATE poses SET obsolete = {obsolete} WHERE method = 'ROBOT'")
    archive = download.read()
    assert "target: origin at the bs source" in archive.decisions["pose_frame"].answer
    assert "refined: origin at the bs intensifier" in archive.decisions["pose_frame"].answer
    for row in archive.poses.to_pylist():
        np.testing.assert_allclose(row["translation_mm"], before[row["pose_id"]], atol=1e-9)


def test_a_pose_that_contradicts_its_kind_is_refused(download):
    download.sql("UPDATE poses SET tz = tz - 1860 WHERE id = 3")
    with pytest.raises(ArchiveError, match=r"id 3: translation .* lies in a plane's field only with another origin"):
        download.read()


@pytest.mark.parametrize(
    ("methods", "kinds"),
    [
        (("ROBOT", "MANMATCH"), ("refined", "manual")),
        (("TARGET", "MANMATCH"), ("target", "manual")),
        (("TARGET_POSE", None), ("target", "refined")),
        (("robot", "registered"), ("target", "refined")),
    ],
)
def test_kinds_by_method(download, methods, kinds):
    download.sql("DELETE FROM poses WHERE method != 'REFINED' OR obsolete")
    for id, method in ((1, methods[0]), (2, methods[1])):
        value = "NULL" if method is None else f"'{method}'"
        download.sql(f"UPDATE poses SET method = {value} WHERE (id % 2) = {id % 2}")
    assert set(download.read().poses["kind"].to_pylist()) == set(kinds)
