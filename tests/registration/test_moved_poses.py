"""Refined cameras in use: poses that are carried over, rows with other cameras, and what registers or predicts."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from tests.cli.commands import outcome
from tests.fixtures.refined_cameras import RIG, refined
from tests.registration.sources import save_untrained
from veriserum_hf.calibration import RefinedCameras, SizedCamera, refined_cameras_json
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.dataset.replaced_cameras import CamerasFile
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import Camera, make_transform
from veriserum_hf.poses import REGISTERED_SCHEMA, poses_by_frame, read_poses, transforms, write_poses
from veriserum_hf.registration import data_sets as data_sets_module
from veriserum_hf.registration.data_sets import register_dataset
from veriserum_hf.registration.moved_poses import carried_over

POINTS_MM = np.random.default_rng(1).uniform(-30, 30, (80, 3))
POSE = make_transform(Rotation.from_euler("xyz", (20, -40, 70), degrees=True).as_matrix(), (10.0, -20.0, 600.0))
small = st.tuples(*[st.floats(-2, 2)] * 3)


def step(rotation_deg, shift_mm):
    return make_transform(Rotation.from_rotvec(rotation_deg, degrees=True).as_matrix(), shift_mm)


def projections(cameras, T):
    return [camera.project(POINTS_MM @ T[:3, :3].T + T[:3, 3]) for camera in cameras]


@settings(max_examples=20)
@given(small, small, st.sampled_from([("bs", "fs"), ("bs",), ("fs",)]))
def test_a_pose_follows_cameras_that_move_together(rotation_deg, shift_mm, planes):
    before = [RIG[plane].at(512) for plane in planes]
    G = step(rotation_deg, shift_mm)
    after = [Camera(each.intrinsics, each.world_to_camera @ np.linalg.inv(G)) for each in before]
    found = carried_over(POSE, POINTS_MM, projections(before, POSE), after)
    np.testing.assert_allclose(found, G @ POSE, atol=1e-5)


@settings(max_examples=20)
@given(small, small, small)
def test_no_other_pose_keeps_the_projections_better(rotation_deg, shift_mm, other_mm):
    before = [RIG[plane].at(512) for plane in ("bs", "fs")]
    G = step(rotation_deg, shift_mm)
    after = [before[0], Camera(before[1].intrinsics, before[1].world_to_camera @ G)]
    px = projections(before, POSE)

    def cost(T):  # in mm at the implant
        world = POINTS_MM @ T[:3, :3].T + T[:3, 3]
        return sum(
            (((camera.project(world) - target) * camera.depths_mm(world).mean() / camera.intrinsics[0, 0]) ** 2).sum()
            for camera, target in zip(after, px, strict=True)
        )

    found = carried_over(POSE, POINTS_MM, px, after)
    assert cost(found) <= cost(POSE) * (1 + 1e-6) + 1e-9
    assert cost(found) <= cost(make_transform(np.eye(3), np.multiply(other_mm, 0.1)) @ found) * (1 + 1e-4) + 1e-9


@pytest.fixture(scope="module")
def converted(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "OUT"
    return convert_archive(tiny.root, folder, options=Options(size=64), workers=1).output


@pytest.fixture(scope="module")
def rows(converted):
    names = ("measurement_id", "trial_id", "frame_index", "camera_bs", "camera_fs", "femur", "tibia")
    source = open_rows(str(converted), "calibrated")
    return [row for frames in source.splits.values() for row in frames.table(*names).to_pylist()]


def file_of(path, rows, trials=None, **how):
    """File of refined cameras of all trials, or of some: a rig for each calibration."""
    sessions = {}
    for row in rows:
        if trials is None or row["trial_id"] in trials:
            sessions.setdefault(repr([row["camera_bs"], row["camera_fs"]]), []).append(row)
    rigs = []
    for of in sessions.values():
        stored = {
            plane: SizedCamera(camera["intrinsics"], camera["world_to_camera"], (64, 64))
            for plane in ("bs", "fs")
            for camera in [of[0][f"camera_{plane}"]]
        }
        rigs += refined(stored, trials=sorted({row["trial_id"] for row in of}), **how).rigs
    path.write_text(refined_cameras_json(RefinedCameras(tuple(rigs), "session")))
    return path


@pytest.fixture(scope="module")
def cameras(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cameras")
    return file_of(
        folder / "cameras.json", rows, shift_mm=(0.5, 1.0, 0.2), rotation_deg=(0.3, 0.1, -0.2), focal=1.001
    )


def poses_of(rows, path):
    names = ("measurement_id", "trial_id", "frame_index")
    poses = [
        {name: row[name] for name in names} | {"component": part} | row[part]
        for row in rows
        for part in ("femur", "tibia")
        if row[part]
    ]
    write_poses(path, pa.Table.from_pylist(poses))
    return path


def test_poses_of_a_data_set_are_carried_over(rows, converted, cameras, tmp_path):
    given, output = poses_of(rows, tmp_path / "poses.parquet"), tmp_path / "moved.parquet"
    command = ("poses", "move", given, converted, "--cameras", cameras, "--output", output)
    status, out, _ = outcome(*command, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["poses"] == len(read_poses(given)) and set(found["by_component"]) == {"femur", "tibia"}
    assert 0.1 < found["by_component"]["femur"]["median_mm"] <= found["by_component"]["femur"]["largest_mm"] < 5
    moved = pq.read_table(output)
    assert moved["pose_id"].to_pylist() == read_poses(given)["pose_id"].to_pylist()
    file = CamerasFile.read(cameras)
    assert moved.schema.metadata[b"cameras_sha256"].decode() == file.sha256
    before, after = (poses_by_frame(read_poses(path)) for path in (given, output))
    row = rows[0]
    seen = {}
    for poses, of in ((before, row), (after, {**row, "camera_bs": None, "camera_fs": None})):
        T = transforms([poses[row["measurement_id"]]["femur"]])[0]
        for plane in ("bs", "fs"):
            camera = of[f"camera_{plane}"] or file.cameras.replaced(row, plane)
            seen.setdefault(plane, []).append(projections([Camera.from_row(camera)], T)[0])
    for one, other in seen.values():
        assert np.sqrt(((one - other) ** 2).sum(axis=1)).max() < 0.5  # of 64 px; without the step, 0.2 to 1
    assert "exists and was not changed" in outcome(*command)[2]
    again = outcome("poses", "move", output, converted, "--cameras", cameras, "--output", tmp_path / "again.parquet")
    assert again[0] == 2 and "has poses of refined cameras already" in again[2]


def test_poses_that_cannot_be_carried_over_are_named(rows, converted, cameras, tmp_path):
    def refused(poses, cameras=cameras, output="moved.parquet"):
        status, _, err = outcome(
            "poses", "move", poses, converted, "--cameras", cameras, "--output", tmp_path / output
        )
        assert status == 2 and not (tmp_path / output).exists()
        return err

    given = poses_of(rows, tmp_path / "poses.parquet")
    some = file_of(tmp_path / "some.json", rows, trials=[rows[0]["trial_id"]], shift_mm=(1, 0, 0))
    assert "no trial" in refused(given, some)
    table = read_poses(given)
    for column, value, reported in (
        ("measurement_id", 999_999, "does not have; expected poses of this data set"),
        ("anatomy_id", 77, "has no mesh"),
        ("trial_id", 999, "trial_id of the femur's pose is 999"),
        ("translation_mm", [0.0, 0.0, 1e5], "reaches behind an X-ray source"),
    ):
        changed = table.to_pylist()
        changed[0][column] = value
        write_poses(path := tmp_path / f"{column}.parquet", pa.Table.from_pylist(changed, table.schema))
        assert reported in refused(path)
    assert "expected a name in .parquet or .csv" in refused(given, output="moved.jts")


def test_a_conversion_writes_the_refined_cameras_and_their_hash(tiny, rows, converted, cameras, tmp_path):
    output = tmp_path / "OUT"
    status, _, err = outcome("convert", tiny.root, output, "--size", "48", "--workers", "1", "--cameras", cameras)
    assert status == 0, err
    file = CamerasFile.read(cameras)
    record = json.loads((output / "conversion.json").read_text())
    assert record["options"]["cameras_sha256"] == file.sha256 and record["options"]["cameras"] == "cameras.json"
    names = ("measurement_id", "trial_id", "camera_bs", "camera_fs", "femur")
    source = open_rows(str(output), "calibrated")
    found = {row["measurement_id"]: row for f in source.splits.values() for row in f.table(*names).to_pylist()}
    for row in rows:
        for plane in ("bs", "fs"):
            camera = Camera.from_row(found[row["measurement_id"]][f"camera_{plane}"], 48)
            expected = Camera.from_row(file.cameras.replaced(row, plane), 64).resized(64, 48)
            np.testing.assert_allclose(camera.intrinsics, expected.intrinsics, rtol=1e-9)
            np.testing.assert_allclose(camera.world_to_camera, expected.world_to_camera, atol=1e-9)
    without = outcome("convert", tiny.root, output, "--size", "48", "--workers", "1")
    assert without[0] == 2 and "not the result of this conversion" in without[2]
    some = file_of(tmp_path / "some.json", rows, trials=[rows[0]["trial_id"]], shift_mm=(1, 0, 0))
    status, _, err = outcome("convert", tiny.root, tmp_path / "OTHER", "--cameras", some)
    assert status == 2 and "no trial" in err and not (tmp_path / "OTHER").exists()


def test_frames_of_data_sets_and_archives_have_the_same_refined_cameras(tiny, rows, converted, cameras):
    file = CamerasFile.read(cameras)
    opened = [
        open_rows(str(converted), "calibrated"),
        open_rows(str(tiny.root), ("calibrated",), archive_px=64),
    ]
    found = []
    for source in opened:
        with_refined = source.with_cameras(file.cameras)
        (split, frames), *_ = with_refined.splits.items()
        row = next(frames.taken([0]).read())
        assert list(row) == list(next(source.splits[split].taken([0]).read()))
        assert frames.digest() != source.splits[split].digest()
        found.append(Camera.from_row(row["camera_fs"], 64))
        with pytest.raises(CalibrationError, match="the refined camera already"):
            with_refined.with_cameras(file.cameras)
    np.testing.assert_allclose(found[0].intrinsics, found[1].intrinsics)
    np.testing.assert_allclose(found[0].world_to_camera, found[1].world_to_camera)


def test_registration_refuses_cameras_that_do_not_fit_before_it_begins(rows, converted, tmp_path):
    trial = rows[0]["trial_id"]
    some = file_of(tmp_path / "some.json", rows, trials=[trial], shift_mm=(1, 0, 0))
    with pytest.raises(CalibrationError, match=r"some.json: no trial"):
        register_dataset(str(converted), tmp_path / "registered.parquet", cameras=some)
    (tmp_path / "other.json").write_text(
        some.read_text().replace('"image_shape": [\n     64', '"image_shape": [\n     60')
    )
    document = json.loads(some.read_text())
    for cameras in ("before", "after"):
        document["rigs"][0][cameras]["fs"]["intrinsics"][0][2] += 1
    (tmp_path / "other.json").write_text(json.dumps(document))
    with pytest.raises(CalibrationError, match=r"camera_fs: it is not the camera that is replaced"):
        register_dataset(str(converted), tmp_path / "registered.parquet", cameras=tmp_path / "other.json")
    assert not list(tmp_path.glob("registered*"))
    status, _, err = outcome("check-labels", converted, "-o", tmp_path / "labels.parquet", "--cameras", some)
    assert status == 2 and "no trial" in err


def test_a_registration_is_of_its_cameras_and_states_their_uncertainty(short_trials, tmp_path):
    names = ("measurement_id", "trial_id", "camera_bs", "camera_fs")
    source = open_rows(str(short_trials), "calibrated")
    rows = [row for frames in source.splits.values() for row in frames.table(*names).to_pylist()]
    trial, output = rows[0]["trial_id"], tmp_path / "registered.parquet"
    found = []
    for sd_mm in (0.01, 5.0):
        covariance = np.diag([sd_mm**2] * 3 + [1e-4] * 3)
        file = file_of(tmp_path / "cameras.json", rows, [trial], shift_mm=(0.05, 0, 0), plane_covariance=covariance)
        command = ("register", short_trials, "--start", "refined", "--trial", trial, "-o", output, "--cameras", file)
        status, _, err = outcome(*command, "--workers", "1", "--method", "outline")
        if found:
            assert status == 2 and "is not the result of this registration" in err
            output.unlink()
            status, _, err = outcome(*command, "--workers", "1", "--method", "outline")
        assert status in (0, 3), err
        table = read_poses(output)
        assert table.schema.metadata[b"cameras_sha256"].decode() == CamerasFile.read(file).sha256
        found.append(table.to_pylist())
    pairs = [
        (one["covariance"], other["covariance"])
        for one, other in zip(*found, strict=True)
        if one["covariance"] is not None and other["covariance"] is not None
    ]
    assert pairs and all(np.trace(np.array(one)[:3, :3]) < np.trace(np.array(other)[:3, :3]) for one, other in pairs)


def test_cameras_that_an_archive_has_state_their_uncertainty(damaged, rows, monkeypatch, tmp_path):
    trial, covariance = rows[0]["trial_id"], np.diag([0.04] * 3 + [1e-4] * 3)
    monkeypatch.setattr(data_sets_module, "run_jobs", lambda *_, **__: None)
    monkeypatch.setattr(data_sets_module, "_registered", lambda *_: REGISTERED_SCHEMA.empty_table())

    def options(**given):
        """What the record states about the covariance."""
        output = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        register_dataset(str(damaged), output, trials=[trial], any_agreement=True, **given)
        return json.loads(pq.read_schema(output).metadata[b"record"]).get("camera_covariance")

    file = file_of(tmp_path / "cameras.json", rows, [trial], shift_mm=(0.4, 0, 0), plane_covariance=covariance)
    assert open_rows(str(damaged), ("calibrated",), archive_px=64).plane_covariances == {}
    assert options() is options(camera_covariance=False) is None
    status, _, err = outcome("calibrate", "cameras", damaged, file, "--write")
    assert status == 0, err
    found = open_rows(str(damaged), ("calibrated",), archive_px=64).plane_covariances
    assert list(found) == [trial]
    np.testing.assert_allclose(found[trial], covariance)
    assert options() is None and options(camera_covariance=False) is False


def test_a_network_predicts_with_the_refined_cameras(rows, converted, cameras, tmp_path):
    save_untrained(open_rows(str(converted), "calibrated"), tmp_path / "run")
    tables = []
    for name, options in (("as_stored", ()), ("refined", ("--cameras", cameras))):
        output = tmp_path / f"{name}.parquet"
        status, _, err = outcome("predict", tmp_path / "run", "--dataset", converted, "-o", output, *options)
        assert status == 0, err
        tables.append(read_poses(output))
    as_stored, found = tables
    assert as_stored["translation_mm"].to_pylist() != found["translation_mm"].to_pylist()
    assert b"cameras_sha256" not in as_stored.schema.metadata
    assert found.schema.metadata[b"cameras_sha256"].decode() == CamerasFile.read(cameras).sha256
    some = file_of(tmp_path / "some.json", rows, trials=[rows[0]["trial_id"]], shift_mm=(1, 0, 0))
    output = tmp_path / "other.parquet"
    status, _, err = outcome("predict", tmp_path / "run", "--dataset", converted, "-o", output, "--cameras", some)
    assert status == 2 and "no trial" in err and not output.exists()
    status, _, err = outcome("predict", tmp_path / "run", "bs.tif", "fs.tif", "--cameras", cameras)
    assert status == 2 and "--cameras needs --dataset" in err
