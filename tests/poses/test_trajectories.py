"""Poses of one implant as .jts and .tra: written and read back, their frames, and what is refused."""

import re

import cv2
import numpy as np
import pyarrow as pa
import pytest
import trimesh
from hypothesis import example, given, settings, strategies as st
from scipy.spatial.transform import Rotation

import veriserum_hf as vs
from tests.geometry.test_camera import cameras
from tests.geometry.test_camera_files import REAL
from tests.poses.test_files import POSE
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import JOINTTRACK_AXES, angle_between_deg, make_transform
from veriserum_hf.poses import read_trajectory, write_poses, write_trajectory

IN_SOURCE = vs.Camera(np.diag([3000.0, 3000, 1]), JOINTTRACK_AXES)  # whose frame is JointTrack's
NAMES = "x_tran, y_tran, z_tran, z_rot, x_rot, y_rot"
JTS = f"JT_EULER_312\n{NAMES}\n1, 2, -1000, 30, 20, 10\nNOT_OPTIMIZED, 0, 0, 0, 0, 0\n-1, 2.5, -1000.25, 0, 90, 0\n"
TRA = "1,0,0,10,0,0,-1,20,0,1,0,30.5,0,0,0,1\n" + "NaN," * 15 + "NaN\n" + "0 -1 0 1 1 0 0 2 0 0 1 3 0 0 0 1\n"
angles = st.tuples(st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180))
poses = st.lists(st.tuples(angles, st.tuples(*[st.floats(-2000, 2000)] * 3)), min_size=1, max_size=4)


def file(folder, text, name):
    path = folder / name
    path.write_text(text, newline="")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trajectories")


@pytest.mark.parametrize("name", ["poses.jts", "poses.tra"])
@settings(max_examples=60)
@example([((12.0, 90.0, 34.0), (5.0, 0.0, 0.0))], IN_SOURCE)  # z and y are one axis
@example([((12.0, -90.0 + 1e-7, 34.0), (5.0, 0.0, 0.0))], IN_SOURCE)
@given(poses, cameras)
def test_what_is_written_is_read_back(folder, name, of_frames, seen_by):
    euler_deg, t_mm = map(np.array, zip(*of_frames, strict=True))
    t_mm[0, 0] += 3 * np.copysign(1, t_mm[0, 0])
    T = make_transform(Rotation.from_euler("ZXY", euler_deg, degrees=True).as_matrix(), t_mm)
    T = np.concatenate([T, np.full((1, 4, 4), np.nan), T[::-1]])
    write_trajectory(folder / name, T, seen_by)
    found = read_trajectory(folder / name, seen_by)
    np.testing.assert_allclose(found[:, :3, 3], T[:, :3, 3], rtol=0, atol=1e-8)
    known = np.isfinite(T).all(axis=(1, 2))
    assert (np.isfinite(found).all(axis=(1, 2)) == known).all() and np.isnan(found[~known]).all()
    assert angle_between_deg(found[known, :3, :3], T[known, :3, :3]).max() < 1e-6


def test_jointtrack_is_in_the_frame_of_its_camera(folder):
    found = read_trajectory(file(folder, JTS, "a.jts"), IN_SOURCE)
    assert found.shape == (3, 4, 4) and np.isnan(found[1]).all()
    assert found[0, :3, 3].tolist() == [1, 2, -1000]
    expected = Rotation.from_euler("z", 30, degrees=True) * Rotation.from_euler("x", 20, degrees=True)
    expected *= Rotation.from_euler("y", 10, degrees=True)
    np.testing.assert_allclose(found[0, :3, :3], expected.as_matrix(), atol=1e-12)
    world_to_camera = make_transform(Rotation.from_euler("y", 90, degrees=True).as_matrix(), (1, 2, 3))
    seen_by = vs.Camera(IN_SOURCE.intrinsics, world_to_camera)
    moved = read_trajectory(folder / "a.jts", seen_by)
    np.testing.assert_allclose(seen_by.project(moved[0, :3, 3]), IN_SOURCE.project(found[0, :3, 3]))
    np.testing.assert_allclose(seen_by.depths_mm(moved[0, :3, 3]), 1000)


@pytest.mark.parametrize(
    "text",
    [
        JTS.replace("\n", "\r\n") + " \t\r\n\r\n",
        JTS.replace("JT_EULER_312", "JTA_EULER_KINEMATICS").replace(NAMES, NAMES.upper().replace(", ", "\t\t")),
        JTS.replace(", ", ",\t\t  ").replace("10\n", "10,\t\n").rstrip("\n"),
        JTS.replace(", ", " "),
    ],
    ids=range(4),
)
def test_jointtrack_files_of_other_versions_read_the_same(folder, text):
    expected = read_trajectory(file(folder, JTS, "a.jts"), IN_SOURCE)
    np.testing.assert_array_equal(read_trajectory(file(folder, text, "b.JTS"), IN_SOURCE), expected)


def test_autoscoper_matrices_are_read_row_by_row_or_column_by_column(folder):
    found = read_trajectory(file(folder, TRA, "a.tra"))
    assert found.shape == (3, 4, 4) and np.isnan(found[1]).all()
    expected = [[1, 0, 0, 10], [0, 0, -1, 20], [0, 1, 0, 30.5], [0, 0, 0, 1]]
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-15)
    assert found[2, :3, 3].tolist() == [1, 2, 3]
    lines = [",".join(map(repr, T.T.ravel().tolist())) + ",\n" for T in found]  # as a second volume follows
    np.testing.assert_allclose(read_trajectory(file(folder, "".join(lines), "b.tra")), found, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(read_trajectory(file(folder, TRA.replace("NaN", "-nan(ind)"), "c.tra")), found)


def test_tables_of_one_implant_are_read_in_the_order_of_their_measurements(folder):
    rows = [POSE | {"measurement_id": id, "translation_mm": [float(id), 0.0, 380.0]} for id in (9, 3, 5)]
    for name in ("one.csv", "one.parquet"):
        write_poses(folder / name, pa.Table.from_pylist(rows))
        assert read_trajectory(folder / name)[:, 0, 3].tolist() == [3, 5, 9]
    write_poses(folder / "two.csv", pa.Table.from_pylist([*rows, rows[0] | {"component": "tibia"}]))
    with pytest.raises(TrainingError, match=r"two\.csv holds poses of femur 1, tibia 1; expected those of one"):
        read_trajectory(folder / "two.csv")


def changed(line, new, of):
    lines = of.split("\n")
    lines[line - 1] = new
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jts", "", "is empty; expected poses"),
        ("a.jts", TRA, "begins with '1,0,0.*; expected the header JT_EULER_312"),
        ("a.jts", JTS.replace("312", "321"), "begins with 'JT_EULER_321'"),
        ("a.jts", "JT_EULER_312", "line 2: the columns are ; expected x_tran"),
        ("a.jts", JTS.replace("z_rot, x_rot", "x_rot, z_rot"), "line 2: the columns are .*x_rot, z_rot, y_rot; exp"),
        ("a.jts", changed(3, "1, 2, 3, 4, 5", JTS), "line 3: 5 numbers; expected 6 a frame"),
        ("a.jts", changed(4, "", JTS), "line 4: a number is missing; expected 6 numbers a frame"),
        ("a.jts", changed(5, "1, 2, 3, 4, 5, 6_0", JTS), "line 5: '6_0' is not a number"),
        ("a.jts", changed(5, "1, 2, 3, 4, 5, nan", JTS), "line 5: .*, or NaN alone for a frame without a pose"),
        ("a.jts", changed(5, "1, 2, 3, 4, 5, 1e999", JTS), "line 5: .*expected finite numbers"),
        ("a.jts", "\n".join([*JTS.split("\n")[:2], ".01, 0, -1, 0, 0, 0"]), "within 1 of the origin, as in metres"),
        ("a.tra", "\n\n", "is empty"),
        ("a.tra", JTS, "line 1: 'JT_EULER_312' is not a number"),
        ("a.tra", changed(1, "1,2,3,4,5,6", TRA), r"line 1: 6 numbers \(x, y, z, yaw, pitch, roll\?\); .* Matrix"),
        ("a.tra", changed(1, ",".join("1" * 32), TRA), r"line 1: 32 numbers, those of 2 volumes; .*\(Current\)"),
        ("a.tra", changed(3, ",".join("1" * 15), TRA), "line 3: 15 numbers; expected 16 a frame"),
        ("a.tra", TRA.replace("10,0,0,-1", "10,0,0,-57.3"), "line 1: the matrix is not rigid"),
        ("a.tra", TRA.replace("10,0,0,-1", "10,0,0,1"), "line 1: the matrix is not rigid .* determinant -1"),
        ("a.tra", TRA.replace("0,0,0,1\n", "0,0,0,2\n"), r"line 1: the last row .* \[0.0, 0.0, 0.0, 2.0\]; expected"),
        ("a.tra", "1,0,0,0.01,0,1,0,0.2,0,0,1,0.3,0,0,0,1\n", "within 0.361 of the origin, as in metres"),
        ("a.mot", TRA, "expected the suffix of one implant's poses, .jts"),
    ],
)
def test_another_file_is_refused_by_what_is_wrong_with_it(folder, name, text, message):
    path = file(folder, text, name)
    with pytest.raises(TrainingError, match=f"^{re.escape(str(path))}.*{message}"):
        read_trajectory(path, IN_SOURCE)


def test_jointtrack_files_need_a_camera_and_others_their_suffix(folder):
    with pytest.raises(TrainingError, match=r"a\.jts is in the frame of one camera; expected its camera too"):
        read_trajectory(file(folder, JTS, "a.jts"))
    with pytest.raises(TrainingError, match=r"new\.csv: expected the suffix .* \.jts, \.jtak, \.tra"):
        write_trajectory(folder / "new.csv", np.eye(4)[None])
    assert not (folder / "new.csv").exists()


@pytest.mark.skipif(not REAL.exists(), reason="published poses of other laboratories are not part of the project")
def test_published_poses_reproduce_the_masks_that_were_drawn_from_them():
    """The centre of JointTrack's images to a hundredth of a pixel, and all signs but those of the offset."""
    study = REAL / "single_plane_right"
    seen_by = vs.Camera.from_jointtrack(study / "jt_intcalib.txt", 1024)
    for component in ("femur", "tibia"):
        T = read_trajectory(study / f"{component}_published.jts", seen_by)
        assert T.shape == (3, 4, 4)
        mesh = trimesh.load(study / f"{component}.stl")
        mesh.invert()  # they are inside out
        mask = cv2.imread(str(study / f"AT_K1_V1_0160_mask_{component}.png"), cv2.IMREAD_GRAYSCALE) > 0
        assert ((vs.path_length(mesh, T[0], seen_by, mask.shape) > 0) == mask).all()


@pytest.mark.skipif(not REAL.exists(), reason="published poses of other laboratories are not part of the project")
def test_published_positions_of_two_planes_agree_in_the_world():
    planes = [REAL / "biplane_tka" / name for name in ("camera_1", "camera_2")]
    first, second = (
        read_trajectory(plane / "femur_published.jts", vs.Camera.from_mayacam(plane / "mayacam2.txt"))
        for plane in planes
    )
    assert first.shape == (261, 4, 4)
    assert np.linalg.norm((first - second)[:, :3, 3], axis=1).max() < 0.002
