"""Files of poses are checked when they are read, and paired with the rows that they are of."""

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.other_cameras import one_plane, without_descriptions
from tests.poses.made import own_pose
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import Camera
from veriserum_hf.geometry.pose import make_transform, quaternion_to_matrix
from veriserum_hf.poses.files import check_same_frame, estimates_of, poses_by_frame, read_poses

POSE = {
    "measurement_id": 8,
    "anatomy_id": 1,
    "component": "femur",
    "translation_mm": [1.0, 2.0, 380.0],
    "quaternion_xyzw": [0.0, 0.6, 0.0, 0.8],
}


def write(folder, *rows):
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "poses.parquet")
    return folder / "poses.parquet"


@pytest.fixture(scope="module")
def rows(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "OUT"
    convert_archive(tiny.root, folder, options=Options(size=64), workers=1)
    return datasets.load_dataset(str(folder), "calibrated", split="train")


@pytest.fixture(scope="module")
def own_poses(rows):
    """The labels of the rows as a table of poses, in another order than theirs."""
    return pa.Table.from_pylist(
        [
            own_pose(row, part) | {"confidence": None if part == "tibia" else 0.25}
            for row in reversed(list(rows))
            for part in ("tibia", "femur")
        ]
    )


def changed(table, number, **values):
    listed = table.to_pylist()
    listed[number] |= values
    return pa.Table.from_pylist(listed, table.schema)


def test_a_file_is_read_with_all_its_columns(tmp_path):
    more = {"verdict": "converged", "score": 0.9, "covariance": np.eye(6).tolist(), "flexion_deg": 20.0}
    poses = read_poses(write(tmp_path, POSE | more, POSE | more | {"component": "tibia", "covariance": None}))
    frames = poses_by_frame(poses)
    assert list(frames) == [8] and list(frames[8]) == ["femur", "tibia"]
    assert frames[8]["femur"] == {
        name: value for name, value in (POSE | more).items() if name not in ("measurement_id", "component")
    }
    assert frames[8]["tibia"]["covariance"] is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"measurement_id": None}, "measurement_id is None, expected a whole number"),
        ({"anatomy_id": 1.5}, "anatomy_id is 1.5, expected a whole number"),
        ({"component": "patella"}, "component is 'patella', expected femur or tibia"),
        ({"translation_mm": [1.0, float("nan"), 380.0]}, r"translation_mm is \[1.0, nan, 380.0\], expected three"),
        ({"translation_mm": [1.0, 2.0]}, r"translation_mm is \[1.0, 2.0\], expected three finite numbers"),
        ({"translation_mm": None}, "translation_mm is None"),
        ({"quaternion_xyzw": [0.0, 0.6, 0.0, 0.9]}, "quaternion_xyzw is .* length 1, scalar last"),
        ({"quaternion_xyzw": [0.0, 0.0, 0.0, None]}, "quaternion_xyzw is .* expected four finite numbers"),
        ({"covariance": np.eye(3).tolist()}, "covariance is .* expected 6 x 6 finite numbers"),
        ({"covariance": np.diag([1.0, 1, 1, 1, 1, -1]).tolist()}, "covariance is .* diagonal not negative"),
        ({"image_covariance": np.eye(3).tolist()}, "image_covariance is .* expected 6 x 6 finite numbers"),
        ({"cross_covariance": np.eye(3).tolist()}, "cross_covariance is .* expected 6 x 6 finite numbers"),
    ],
    ids=str,
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, value, message):
    path = write(tmp_path, POSE | value)
    with pytest.raises(TrainingError, match=rf"^{path}, row 0 \(measurement .*{message}"):
        read_poses(path)


def test_the_same_implant_twice_in_a_frame_is_refused(tmp_path):
    path = write(tmp_path, POSE, POSE | {"component": "tibia"}, POSE)
    with pytest.raises(TrainingError, match=r"row 2 \(measurement 8, femur\): row 0 is of the same implant in the"):
        read_poses(path)


def test_what_is_no_file_of_poses_is_refused(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no table")
    no_poses = tmp_path / "other.parquet"
    pq.write_table(pa.table({"measurement_id": [1], "x": [2]}), no_poses)
    empty = tmp_path / "empty.parquet"
    pq.write_table(pa.Table.from_pylist([POSE]).slice(0, 0), empty)
    for path, message in {
        tmp_path / "none.parquet": "there is no file .*none.parquet; expected the Parquet file of",
        tmp_path: "there is no file",
        text: "notes.txt cannot be read as Parquet: ",
        no_poses: "has no column anatomy_id, component, translation_mm, quaternion_xyzw; it has measurement_id, x",
        empty: "empty.parquet holds no pose",
    }.items():
        with pytest.raises(TrainingError, match=message):
            read_poses(path)


def test_poses_are_paired_with_labels_and_cameras_in_the_order_of_the_rows(rows, own_poses):
    moved = changed(own_poses, 0, translation_mm=[5.0, 6.0, 400.0])  # the last row's tibia
    found = estimates_of(moved, rows)
    assert found.measurement_id.tolist() == [id for id in rows["measurement_id"] for _ in range(2)]
    assert found.component.tolist() == ["femur", "tibia"] * len(rows)
    assert found.trial_id.tolist() == [id for id in rows["trial_id"] for _ in range(2)]
    np.testing.assert_array_equal(found.T_world_implant[:-1], found.T_world_label[:-1])
    assert found.T_world_implant[-1, :3, 3].tolist() == [5.0, 6.0, 400.0]
    label = rows[0]["femur"]
    T = make_transform(quaternion_to_matrix(label["quaternion_xyzw"]), label["translation_mm"])
    np.testing.assert_array_equal(found.T_world_label[0], T)
    np.testing.assert_array_equal(found.cameras["fs"][1][0], rows[0]["camera_fs"]["world_to_camera"])
    np.testing.assert_array_equal(found.confidence[:2], [0.25, np.nan])


def test_frames_may_have_one_plane_and_cameras_of_which_pixels_are_known_only(rows, own_poses):
    frames = [without_descriptions(row) for row in rows]
    mixed = datasets.Dataset.from_list([*map(one_plane, frames[:2]), *frames[2:]], features=rows.features)
    found = estimates_of(own_poses, mixed)
    assert np.isnan(found.cameras["fs"][1][:4]).all() and np.isfinite(found.cameras["fs"][1][4:]).all()
    np.testing.assert_array_equal(found.cameras["bs"][0], estimates_of(own_poses, rows).cameras["bs"][0])
    alone = datasets.Dataset.from_list(list(map(one_plane, frames)), features=rows.features)
    assert list(estimates_of(own_poses, alone).cameras) == ["bs"]


def test_a_camera_is_compared_with_the_image_that_it_is_of(rows, own_poses):
    """Of any laboratory: by the size that the image's header states."""
    row = rows[0]
    image = np.zeros((48, 90), np.uint8)
    camera = Camera(np.array([[3200.0, 0, 50], [0, 3210, 20], [0, 0, 1]]), row["camera_bs"]["world_to_camera"])
    honest = row | {"image_bs": image, "camera_bs": camera.to_row(image.shape, 0.373)}
    assert len(estimates_of(own_poses, datasets.Dataset.from_list([honest], features=rows.features))) == 2
    wrong = honest | {"image_bs": np.zeros((1100, 90), np.uint8)}
    message = rf"measurement {row['measurement_id']}, camera_bs: .*principal_point_mm .* in an image of 90 x 1100 px"
    with pytest.raises(TrainingError, match=message):
        estimates_of(own_poses, datasets.Dataset.from_list([wrong], features=rows.features))


def test_frames_without_a_pose_are_skipped_and_other_labels_can_be_given(rows, own_poses):
    other = changed(own_poses, 1, translation_mm=[0.0, 0.0, 390.0])  # the last row's femur
    found = estimates_of(own_poses.slice(0, 4), rows, other)
    assert found.measurement_id.tolist() == [id for id in rows["measurement_id"][-2:] for _ in range(2)]
    np.testing.assert_array_equal(found.T_world_label[2, :3, 3], [0.0, 0.0, 390.0])
    np.testing.assert_array_equal(found.T_world_label[3], found.T_world_implant[3])


def test_poses_of_something_else_are_refused(rows, own_poses):
    first = rows["measurement_id"][-1]
    foreign = pa.Table.from_pylist([POSE | {"measurement_id": 10**6}])
    for poses, labels, message in (
        (foreign, None, r"nothing to compare: poses of measurements 1000000 to 1000000 \(1 frames\), and frames of"),
        (own_poses, foreign, r"nothing to compare: .*, labels of 1000000 to 1000000 \(1 frames\), and frames of"),
        (changed(own_poses, 0, anatomy_id=99), None, f"measurement {first}: the pose is of tibia 99, the label of"),
        (changed(own_poses, 0, trial_id=-3), None, f"measurement {first}: trial_id of the tibia's pose is -3, the"),
        (own_poses, changed(own_poses, 1, trial_id=-3), f"measurement {first}: trial_id of the femur's pose is -3"),
    ):
        with pytest.raises(TrainingError, match=message):
            estimates_of(poses, rows, labels)


def test_a_file_of_another_data_set_is_recognised_by_any_of_its_ids(rows, own_poses, tmp_path):
    row, path = rows[len(rows) - 1], tmp_path / "poses.parquet"
    of_row = own_poses.slice(0, 2)
    check_same_frame(poses_by_frame(of_row)[row["measurement_id"]], row, path)
    end = "expected poses of this data set"
    for table, message in (
        (changed(of_row, 0, trial_id=-3), f"trial_id of the tibia's pose is -3, the data set's is {row['trial_id']}"),
        (
            of_row.append_column("frame_index", pa.array([99, 99])),
            f"frame_index of the tibia's pose is 99, the data set's is {row['frame_index']}",
        ),
        (
            changed(of_row, 1, anatomy_id=99),
            f"the pose is of femur 99, the label of femur {row['femur']['anatomy_id']}",
        ),
    ):
        with pytest.raises(TrainingError) as caught:
            check_same_frame(poses_by_frame(table)[row["measurement_id"]], row, path)
        assert str(caught.value) == f"{path}, measurement {row['measurement_id']}: {message}; {end}"
    check_same_frame(poses_by_frame(of_row)[row["measurement_id"]], row | {"femur": None}, path)
