"""The table of kinematics: columns, gaps, verdicts, velocities, contact, deviations that cover the truth."""

import json

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.transform import Rotation

import veriserum_hf as vs
from tests.knee.motions import FEMUR, TIBIA, disturbed, own_axes, placed, simulated, table_of
from veriserum_hf.errors import KinematicsError
from veriserum_hf.knee import COORDINATES
from veriserum_hf.simulation import implant_mesh

FIRST = [
    *("measurement_id", "trial_id", "frame_index", "time_s", "side"),
    *("flexion_deg", "adduction_deg", "internal_rotation_deg", "medial_mm", "anterior_mm", "superior_mm"),
    *("flexion_deg_sd", "adduction_deg_sd", "internal_rotation_deg_sd"),
    *("medial_mm_sd", "anterior_mm_sd", "superior_mm_sd", "verdict"),
]
COVARIANCE = np.diag([0.1, 0.1, 0.4, 0.3, 0.3, 0.4]) ** 2


def bending(frames=30, degrees_per_frame=2.0):
    """A knee that bends steadily."""
    return [(degrees_per_frame * k, 1.0, 3.0, 0.5, -2.0, 30.0) for k in range(frames)]


def values_of(table, names=COORDINATES):
    return np.stack([table[name].to_numpy() for name in names], axis=-1)


def test_columns_and_metadata():
    table = vs.kinematics(table_of(*placed(bending(), "left"), COVARIANCE), own_axes("left"), frame_rate_hz=10).table
    assert table.column_names[: len(FIRST)] == FIRST
    assert table["time_s"].to_pylist() == pytest.approx(np.arange(30) / 10)
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert about["side"] == "left"
    assert "in left and right knees" in about["signs"]
    assert json.loads(about["axes"])[str(FEMUR)]["component"] == "femur"
    assert table["convention"][0].as_py() == about["signs"]


def test_velocities_are_those_of_the_motion_and_gaps_stay_gaps():
    verdicts = ["converged"] * 30
    verdicts[10] = "failed"
    poses = table_of(*placed(bending(), "right"), COVARIANCE, verdicts)
    whole = np.flatnonzero(~np.isin(np.arange(60), (40,)))  # without the femur of frame 20
    table = vs.kinematics(poses.take(pa.array(whole)), own_axes(), frame_rate_hz=10).table
    rate = table["flexion_deg_s"].to_numpy()
    assert np.flatnonzero(np.isnan(rate)).tolist() == [10, 20]
    assert rate[np.isfinite(rate)] == pytest.approx(20.0)
    assert table["verdict"].to_pylist()[10] == "failed"
    assert table["flexion_deg"].to_pylist()[10] == pytest.approx(20.0)
    assert table["flexion_deg"].to_pylist()[20] is None
    assert table["verdict"].to_pylist()[20] is None
    every = vs.kinematics(poses, own_axes(), frame_rate_hz=10, all_verdicts=True).table
    assert not np.isnan(every["flexion_deg_s"].to_numpy()).any()


def test_without_covariances_deviations_are_null():
    table = vs.kinematics(table_of(*placed(bending(), "right")), own_axes()).table
    assert table["flexion_deg_sd"].null_count == len(table)
    assert table["time_s"].null_count == len(table)


@pytest.mark.parametrize("side", ["left", "right"])
def test_bands_cover_the_true_kinematics(side):
    rng = np.random.default_rng(7)
    values = [(60 * np.sin(k / 90) ** 2, 2, 5, 1, -4 + k / 100, 30) for k in range(600)]
    poses = [disturbed(T, COVARIANCE, rng) for T in placed(values, side)]
    table = vs.kinematics(table_of(*poses, COVARIANCE), own_axes(side)).table
    off = np.abs(values_of(table) - values)
    covered = (off < 1.96 * values_of(table, [f"{name}_sd" for name in COORDINATES])).mean(axis=0)
    assert (covered > 0.92).all()
    assert (covered < 0.98).all()


def test_lowest_points_and_pivot_of_a_femur_that_rotates_about_its_medial_condyle():
    mesh = implant_mesh(FEMUR)
    angles = np.linspace(-8, 8, 17)
    crown_mm = 21.0
    values = [(30, 0, angle, 0, 0, 29.5) for angle in angles]
    femur, tibia = placed(values, "right")
    # Put the medial crown over the same point of the tray: the origin lies beside it, along the flexion axis.
    origin = tibia[:, :3, 3] + tibia[:, :3, 1] * 29.5 + crown_mm * (tibia[:, :3, 0] - femur[:, :3, 0])
    femur[:, :3, 3] = origin
    found = vs.kinematics(table_of(femur, tibia), own_axes(), meshes={FEMUR: mesh})
    axes = ("medial", "anterior", "superior")
    medial, lateral = (
        values_of(found.table, [f"{condyle}_lowest_{axis}_mm" for axis in axes]) for condyle in ("medial", "lateral")
    )
    assert (medial[:, 0] > 15).all()
    assert (lateral[:, 0] < -15).all()
    assert np.ptp(medial[:, 1]) < 2.0
    assert np.ptp(lateral[:, 1]) > 10.0
    np.testing.assert_allclose(medial[:, 2], lateral[:, 2], atol=0.01)
    assert found.pivots_mm[1][0] == pytest.approx(crown_mm, abs=1.5)


def test_contact_is_that_of_the_simulated_femur_on_its_insert():
    femur, tibia, _ = simulated()
    meshes = {FEMUR: implant_mesh(FEMUR)}
    table = vs.kinematics(table_of(femur, tibia), own_axes(), meshes=meshes).table
    lowest = np.minimum(*(table[f"{name}_lowest_superior_mm"].to_numpy() for name in ("medial", "lateral")))
    np.testing.assert_allclose(lowest, 9.0, atol=1e-3)  # the insert's thickness


def test_poses_of_one_component_only():
    poses = table_of(*placed(bending(4), "right"))
    femora = poses.filter(pa.compute.equal(poses["component"], "femur"))
    with pytest.raises(KinematicsError, match="4 poses of a femur and 0 poses of a tibia, and no frame with both"):
        vs.kinematics(femora, own_axes())


def test_poses_in_metres():
    femur, tibia = placed(bending(4), "right")
    for T in (femur, tibia):
        T[:, :3, 3] /= 1000
    with pytest.raises(
        KinematicsError, match=r"origins of femur and tibia is 0\.0301 mm, expected 2 to 200 in a knee"
    ):
        vs.kinematics(table_of(femur, tibia), own_axes())


def test_times_that_do_not_rise():
    poses = table_of(*placed(bending(4), "right"), time_s=[0.0, 0.1, 0.1, 0.2])
    with pytest.raises(KinematicsError, match=r"trial 1: time_s does not rise: 0\.1 of measurement 2 is followed by"):
        vs.kinematics(poses, own_axes())


def test_times_of_the_poses_are_used():
    poses = table_of(*placed(bending(4), "right"), time_s=[0.0, 0.1, 0.2, 0.3])
    assert vs.kinematics(poses, own_axes()).table["flexion_deg_s"].to_pylist() == pytest.approx([20.0] * 4)


def test_axes_of_other_implants_than_the_poses():
    axes = own_axes()
    only = type(axes)("right", {TIBIA: axes.implants[TIBIA]})
    with pytest.raises(KinematicsError, match=r"axes of tibia 3, but the poses are of femur 1"):
        vs.kinematics(table_of(*placed(bending(4), "right")), only)


def test_unknown_verdicts_and_frame_rates_are_refused():
    poses = table_of(*placed(bending(4), "right"), verdicts=["perfect"] * 4)
    with pytest.raises(KinematicsError, match="no verdict perfect"):
        vs.kinematics(poses, own_axes())
    with pytest.raises(KinematicsError, match="the frame rate is 0 Hz"):
        vs.kinematics(table_of(*placed(bending(4), "right")), own_axes(), frame_rate_hz=0)


def scattered(repeats, columns, **options):
    """Standard deviations of columns over trials with other errors, (frames, columns), and the stated ones."""
    exact = placed([(10 + 3 * k, 1.0, 3.0, 0.5, -2.0, 29.5) for k in range(8)], "right")
    rng = np.random.default_rng(5)
    tables = [
        table_of(*(disturbed(T, COVARIANCE, rng) for T in exact), COVARIANCE, trial_id=n, first_id=1 + 8 * n)
        for n in range(repeats)
    ]
    found = vs.kinematics(pa.concat_tables(tables), own_axes(), frame_rate_hz=10, **options).table
    values, stated = (
        values_of(found, [f"{name}{end}" for name in columns]).reshape(repeats, 8, -1) for end in ("", "_sd")
    )
    return values.std(axis=0), stated.mean(axis=0)


def test_velocities_scatter_as_their_deviations_state():
    scatter, stated = scattered(400, [f"{name}_s" for name in COORDINATES])
    np.testing.assert_allclose(stated, scatter, rtol=0.15)


def test_lowest_points_scatter_as_their_deviations_state():
    """Also forwards and to the side, where the round condyles touch."""
    names = [f"{condyle}_lowest_{axis}_mm" for condyle in ("medial", "lateral") for axis in ("anterior", "superior")]
    scatter, stated = scattered(300, names, meshes={FEMUR: implant_mesh(FEMUR)})
    np.testing.assert_allclose(stated[:, [1, 3]], scatter[:, [1, 3]], rtol=0.15)
    np.testing.assert_allclose(stated[:, [0, 2]], scatter[:, [0, 2]], rtol=0.35)  # the mesh has corners


def test_errors_that_all_frames_share_do_not_count_in_velocities():
    exact = placed(bending(8), "right")
    poses = table_of(*exact, COVARIANCE)
    stated = with_matrices(poses, image_covariance=COVARIANCE / 100)
    found = vs.kinematics(stated, own_axes(), frame_rate_hz=10).table
    every = vs.kinematics(poses, own_axes(), frame_rate_hz=10).table
    names = [f"{name}_s_sd" for name in COORDINATES]
    np.testing.assert_allclose(values_of(found, names), values_of(every, names) / 10)
    np.testing.assert_allclose(*(values_of(each, ["flexion_deg_sd"]) for each in (found, every)))


def with_matrices(poses, **matrices):
    """Poses with a column of the same 6 x 6 numbers in each row."""
    for name, matrix in matrices.items():
        column = pa.array([matrix.tolist()] * len(poses), poses.schema.field("covariance").type)
        poses = poses.append_column(name, column)
    return poses


def test_what_moves_both_components_alike_cancels_as_far_as_the_poses_state():
    """Errors of femur and tibia that are the same in the world, and some that are not."""
    rng = np.random.default_rng(8)
    values = [(60 * np.sin(k / 90) ** 2, 2, 5, 1, -4 + k / 100, 30) for k in range(600)]
    common = 9 * COVARIANCE
    errors = rng.multivariate_normal(np.zeros(6), common, 600)
    moved = [disturbed(T, COVARIANCE, rng) for T in placed(values, "right")]
    for T in moved:
        T[:, :3, 3] += errors[:, :3]
        T[:, :3, :3] = Rotation.from_rotvec(errors[:, 3:], degrees=True).as_matrix() @ T[:, :3, :3]
    poses = table_of(*moved, COVARIANCE + common)
    found = vs.kinematics(with_matrices(poses, cross_covariance=common), own_axes()).table
    names = [f"{name}_sd" for name in COORDINATES]
    covered = (np.abs(values_of(found) - values) < 1.96 * values_of(found, names)).mean(axis=0)
    assert (covered > 0.92).all()
    assert (covered < 0.98).all()
    independent = vs.kinematics(poses, own_axes()).table
    assert (values_of(found, names)[:, :3] < 0.5 * values_of(independent, names)[:, :3]).all()


def test_the_part_that_differs_from_frame_to_frame_has_deviations_of_its_own():
    poses = with_matrices(table_of(*placed(bending(8), "right"), COVARIANCE), image_covariance=COVARIANCE / 100)
    found = vs.kinematics(poses, own_axes(), frame_rate_hz=10, smoothed=True).table
    every, of_frames = (values_of(found, [f"{name}{end}" for name in COORDINATES]) for end in ("_sd", "_frame_sd"))
    np.testing.assert_allclose(of_frames, every / 10)
    smooth, of_smooth = (
        values_of(found, [f"smoothed_{name}{end}" for name in COORDINATES]) for end in ("_sd", "_frame_sd")
    )
    assert (of_smooth < 1.01 * of_frames).all()
    assert (smooth > 0.98 * every).all()


def test_a_covariance_between_both_components_that_cannot_be():
    poses = with_matrices(table_of(*placed(bending(4), "right"), COVARIANCE), cross_covariance=1.1 * COVARIANCE)
    with pytest.raises(KinematicsError, match="measurement 1: the cross_covariance of femur and tibia is larger"):
        vs.kinematics(poses, own_axes())


def test_poses_that_were_placed_by_hand():
    """A person has accepted them: they count, without deviations."""
    poses = table_of(*placed(bending(), "right"), verdicts=["not assessed"] * 30)
    poses = poses.append_column("kind", pa.array(["manual"] * len(poses)))
    table = vs.kinematics(poses, own_axes(), frame_rate_hz=10).table
    np.testing.assert_allclose(values_of(table), bending(), atol=1e-9)
    assert set(table["verdict"].to_pylist()) == {"converged"}
    assert table["flexion_deg_sd"].null_count == len(table)
    assert table["flexion_deg_s"].to_numpy() == pytest.approx(20.0)
    with pytest.raises(KinematicsError, match="no frame that counts has a covariance, which smoothing needs"):
        vs.kinematics(poses, own_axes(), frame_rate_hz=10, smoothed=True)
