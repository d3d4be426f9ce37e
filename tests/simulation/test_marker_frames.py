"""Frames of the marker phantom in a simulated archive, and their exact poses."""

import json
import sqlite3
from dataclasses import replace

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from veriserum_hf import DualPlaneRig, VeriserumArchive
from veriserum_hf.calibration.markers import find_markers
from veriserum_hf.core.domain import PLANES
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.errors import SimulationError
from veriserum_hf.geometry.pose import angle_between_deg, make_transform, quaternion_to_matrix, transform_points
from veriserum_hf.geometry.rig import NOMINAL_T_WORLD_FS
from veriserum_hf.simulation.image_files import MarkerJob
from veriserum_hf.simulation.scenario import session
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.tables import DATABASE_NAME
from veriserum_hf.simulation.write import simulate

TINY = {"trials": 1, "frames_per_trial": 1, "pairs": 1, "height_px": 200}
ROUGH = DualPlaneRig.from_calibration(
    principal_point_bs_mm=(0, 0), sid_bs_mm=1840, principal_point_fs_mm=(0, 0), sid_fs_mm=1870
)


@pytest.fixture(scope="module")
def tiny_markers(tmp_path_factory):
    """Small frames, three of the marker phantom for each calibration."""
    return simulate(tmp_path_factory.mktemp("markers") / "archive", Settings(**TINY, marker_frames=3), workers=1)


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """Full frames of a rig whose fs intensifier is 2 mm and 0.5 degrees off its nominal pose."""
    settings = Settings(**TINY | {"height_px": 1600}, marker_frames=1, fs_translation_mm=2.0, fs_rotation_deg=0.5)
    return simulate(tmp_path_factory.mktemp("moved") / "archive", settings, workers=1)


def truth_of(archive):
    """Pose of the phantom, (4, 4), by calibration measurement, and its source calibration."""
    rows = pq.read_table(archive / "calibration_truth.parquet").to_pylist()
    return {
        row["calibration_measurement_id"]: (
            make_transform(quaternion_to_matrix(row["quaternion_xyzw"]), row["translation_mm"]),
            row["source_calibration_id"],
        )
        for row in rows
    }


def true_rigs(archive):
    """Rigs by source calibration, from the record."""
    record = json.loads((archive / "simulation.json").read_text())
    return {
        int(id): DualPlaneRig.from_calibration(
            **{f"principal_point_{plane}_mm": planes[plane]["principal_point_mm"] for plane in PLANES},
            **{f"sid_{plane}_mm": planes[plane]["sid_mm"] for plane in PLANES},
            T_world_fs=planes["fs"]["T_world_intensifier"],
        )
        for id, planes in record["rig_by_source_calibration"].items()
    }


def test_every_source_calibration_names_a_recording_seen_in_both_planes(tiny_markers):
    with sqlite3.connect(tiny_markers / DATABASE_NAME) as connection:
        rows = connection.execute(
            "SELECT s.id, t.phantom, t.target, count(m.id) FROM source_int_calibration s "
            "JOIN calibration_trials t ON t.id = s.calibration_trial_id_bs AND t.id = s.calibration_trial_id_fs "
            "JOIN calibration_measurements m ON m.calibration_trials_id = t.id AND m.type = 'both' GROUP BY s.id"
        ).fetchall()
    connection.close()
    assert rows == [(id, "sipla_cylinder", "both", 3) for id in (1, 3, 5)]


def test_both_planes_of_a_frame_have_one_number(tiny_markers):
    frames = VeriserumArchive(tiny_markers).calibration_frames.to_pylist()
    assert [row["phantom"] for row in frames].count("sipla_grid") == 6
    planes = {}
    for row in frames:
        if row["phantom"] == "sipla_cylinder":
            planes.setdefault(row["calibration_measurement_id"], []).append(row["plane"])
            frame = cv2.imread(row["path"], cv2.IMREAD_UNCHANGED)
            assert (frame.shape, frame.dtype) == ((200, 208), np.uint16)
            assert 500 < frame.max() < 4095
    assert list(planes.values()) == [["bs", "fs"]] * 9
    assert list(planes) == list(truth_of(tiny_markers))


def test_frames_show_the_true_poses_by_the_true_rig(moved):
    archive, rigs, truth = VeriserumArchive(moved), true_rigs(moved), truth_of(moved)
    days = {session.source_id: session for session in (session(Settings(), index) for index in range(3))}
    rows = [row for row in archive.calibration_frames.to_pylist() if row["phantom"] == "sipla_cylinder"]
    assert len(rows) == 6
    for row in rows:
        T_world_phantom, source_id = truth[row["calibration_measurement_id"]]
        plane, distortion = row["plane"], archive.distortions[days[source_id].distortion_id]
        found = find_markers(cv2.imread(row["path"], cv2.IMREAD_UNCHANGED), distortion[plane], ROUGH[plane])
        beads_mm = transform_points(T_world_phantom, found.marker_mm)
        by_truth, by_table = (
            np.median(np.linalg.norm(found.detector_mm - at.project_mm(beads_mm), axis=1))
            for at in (rigs[source_id][plane], archive.source_calibrations[source_id][plane])
        )
        assert by_truth < 0.02
        if plane == "fs":
            assert by_table > 1  # the tables know the nominal pose only


def test_the_pose_of_fs_is_nominal_unless_an_error_is_requested(tiny_markers, moved):
    for rig in true_rigs(tiny_markers).values():
        np.testing.assert_array_equal(rig["fs"].T_world_intensifier, NOMINAL_T_WORLD_FS)
    poses = [rig["fs"].T_world_intensifier for rig in true_rigs(moved).values()]
    for T_world_fs in poses:
        assert np.linalg.norm((T_world_fs - NOMINAL_T_WORLD_FS)[:3, 3]) == pytest.approx(2.0)
        assert angle_between_deg(T_world_fs[:3, :3], NOMINAL_T_WORLD_FS[:3, :3]) == pytest.approx(0.5)
    assert len({tuple(T_world_fs[:3, 3]) for T_world_fs in poses}) == 3  # other directions in each session


def test_sources_of_the_record_are_those_of_the_tables(moved):
    for id, rig in VeriserumArchive(moved).source_calibrations.items():
        for plane in PLANES:
            assert rig[plane].sid_mm == true_rigs(moved)[id][plane].sid_mm
            np.testing.assert_array_equal(
                rig[plane].principal_point_mm, true_rigs(moved)[id][plane].principal_point_mm
            )


def test_an_interrupted_pair_is_finished_with_the_same_bytes(tmp_path):
    job = MarkerJob(Settings(**TINY), 1, 2, 183, tmp_path / "frames", tmp_path)
    job.folder.mkdir()
    job.run(lambda _: None)
    first = {path.name: path.read_bytes() for path in job.folder.iterdir()}
    assert set(first) == {"cal_bs_000183.tif", "cal_fs_000183.tif"}
    assert first["cal_bs_000183.tif"] != first["cal_fs_000183.tif"]
    (job.folder / "cal_fs_000183.tif").unlink()
    kept = (job.folder / "cal_bs_000183.tif").stat().st_mtime_ns
    assert not job.done
    job.run(lambda _: None)
    assert job.done
    assert {path.name: path.read_bytes() for path in job.folder.iterdir()} == first
    assert (job.folder / "cal_bs_000183.tif").stat().st_mtime_ns == kept
    other_day, other_frame = (tmp_path / name for name in ("day", "frame"))
    for folder, change in ((other_day, {"session_index": 0}), (other_frame, {"frame": 1})):
        folder.mkdir()
        replace(job, folder=folder, **change).run(lambda _: None)
        assert (folder / "cal_bs_000183.tif").read_bytes() != first["cal_bs_000183.tif"]


def test_none_at_all_can_be_asked_for(tmp_path):
    out = simulate(tmp_path / "out", Settings(**TINY, marker_frames=0), workers=1)
    assert set(VeriserumArchive(out).calibration_frames["phantom"].to_pylist()) == {"sipla_grid"}
    assert truth_of(out) == {}


def test_csv_archives_have_no_phantom(tmp_path):
    out = simulate(tmp_path / "out", Settings(**TINY, csv=True, rotation="euler"), workers=1)
    assert not list(out.rglob("cal*"))


def test_the_data_set_shows_both_phantoms(tiny_markers, tmp_path):
    convert_archive(tiny_markers, tmp_path / "out", configs=("calibration",), workers=1)
    rows = load_dataset(str(tmp_path / "out"), "calibration", split="train", cache_dir=str(tmp_path / "cache"))
    phantoms = rows["phantom"]
    assert (phantoms.count("sipla_grid"), phantoms.count("sipla_cylinder")) == (6, 18)
    assert {row["image"].size for row in rows} == {(208, 200)}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"marker_frames": -1}, "marker_frames must be a whole number from 0 to 10000, got -1"),
        ({"fs_translation_mm": -2.0}, "fs_translation_mm must be a number from 0 to 50, got -2.0"),
        ({"fs_translation_mm": float("nan")}, "fs_translation_mm must be a number from 0 to 50, got nan"),
        ({"fs_rotation_deg": "0.5"}, "fs_rotation_deg must be a number from 0 to 10, got '0.5'"),
    ],
)
def test_impossible_settings_are_refused(choice, message):
    with pytest.raises(SimulationError, match=message):
        Settings(**choice)
