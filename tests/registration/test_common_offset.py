"""Offsets that labels have in common: their size and uncertainty, and labels or cameras as their cause."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.transform import Rotation

from tests.cli.commands import outcome
from tests.registration.scenes import pose
from tests.registration.simulated_labels import CAMERAS, compared, flagged, shift, simulated
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.poses.schema import REGISTERED_SCHEMA as SCHEMA
from veriserum_hf.registration.data_sets import Registrations
from veriserum_hf.registration.labels import check as check_module, offsets as label_offsets_module
from veriserum_hf.registration.labels.common_offset import CommonOffset, is_suspicious
from veriserum_hf.registration.labels.differences import differences_of
from veriserum_hf.registration.labels.offsets import change_over_volume, common_offsets
from veriserum_hf.registration.labels.planes_apart import planes_apart
from veriserum_hf.registration.labels.rows import label_rows, spread_of

FEMUR_AND_TIBIA = ("femur", "tibia")


def offsets_of(labels, poses):
    return common_offsets(differences_of(labels, pa.Table.from_pylist(poses, SCHEMA)))[0]


def cause_of(labels, poses, planes=None):
    differences = differences_of(labels, pa.Table.from_pylist(poses, SCHEMA))
    offsets, baseline = common_offsets(differences)
    return CommonOffset(offsets, planes, change_over_volume(differences, baseline))


def test_right_labels_have_no_common_offset():
    labels, poses = simulated(frames=60)
    assert offsets_of(labels, poses) == []
    differences = differences_of(labels, pa.Table.from_pylist(poses, SCHEMA))
    baseline = common_offsets(differences)[1]
    assert not is_suspicious(spread_of(differences), label_rows(differences, baseline))
    assert change_over_volume(differences, baseline) is None


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_registrations_that_follow_either_plane_or_do_not_converge_are_suspicious(share):
    labels, poses = simulated(frames=60)
    for row in labels:
        shift(row["femur"], (0, 0.7 * (row["measurement_id"] % 2) - 0.35, 0))
    for each in poses[: int(share * len(poses))]:
        each["verdict"] = "failed"
    differences = differences_of(labels, pa.Table.from_pylist(poses, SCHEMA))
    rows = label_rows(differences, common_offsets(differences)[1])
    assert is_suspicious(spread_of(differences), rows)


@pytest.mark.parametrize("frames", [12, 300])
def test_an_offset_of_the_labels_is_reported_with_its_direction_and_uncertainty(frames):
    labels, poses = simulated(frames=2 * frames)
    for row in labels:
        for component in FEMUR_AND_TIBIA:
            shift(row[component], (0.5, 0, 0))
    found = offsets_of(labels, poses)
    assert [offset.name for offset in found] == ["femur", "tibia"]
    for offset in found:
        document = json.loads(json.dumps(offset.document()))
        assert (document["frame"], document["labels"]) == ("world", 2 * frames)
        np.testing.assert_allclose(document["shift_mm"], (0.5, 0, 0), atol=4 * max(document["shift_sd_mm"]))
        assert document["resampled"] == ("trials" if frames == 300 else "frames")
        assert max(document["shift_sd_mm"]) == pytest.approx(1.25 * 0.09 / np.sqrt(2 * frames), rel=0.7)


def test_single_labels_are_compared_with_the_common_offset():
    labels, poses = simulated()
    wrong = {(int(id), "femur") for id in np.random.default_rng(0).choice(500, 20, replace=False)}
    for row in labels:
        shift(row["femur"], (0, 0, 1))
    for id, component in wrong:  # some of them are nearer to their registrations than right labels
        shift(labels[id][component], (0.3, 0.2, -1.2))
    found = flagged(compared(labels, poses)[0])
    assert len(found & wrong) >= 19 and len(found - wrong) <= 5


def test_the_offset_of_an_implant_whose_mesh_has_another_origin_is_constant_in_its_frame():
    labels, poses = simulated(frames=200)
    for row in labels:
        R = Rotation.from_quat(row["femur"]["quaternion_xyzw"])
        shift(row["femur"], R.apply((0, 0.6, 0)))
    (offset,) = offsets_of(labels, poses)
    assert (offset.name, offset.frame) == ("femur", "implant")
    np.testing.assert_allclose(offset.estimate.value[:3], (0, 0.6, 0), atol=0.05)
    found = cause_of(labels, poses)
    assert found.looks_like == "labels" and "constant in the implant's frame (femur)" in found.reasons[0]
    shift(labels[4]["femur"], (1.2, 0, 0))
    flags = flagged(compared(labels, poses)[0])
    assert (4, "femur") in flags and len(flags) <= 3


def test_implants_and_calibrations_with_an_offset_of_their_own_are_named():
    labels, poses = simulated(frames=300)
    for number, row in enumerate(labels):
        if number % 10 >= 5:
            row["femur"]["anatomy_id"] = 3
            shift(row["femur"], (0, 0, 0.8))
    for each in poses:
        if each["component"] == "femur" and each["measurement_id"] % 10 >= 5:
            each["anatomy_id"] = 3
    found = cause_of(labels, poses)
    named = {offset.name: offset.document() for offset in found.offsets}
    assert named["femur 3"]["shift_mm"][2] == pytest.approx(0.8, abs=0.05) and named["femur 3"]["implant"] == 3
    assert found.looks_like == "labels" and "changes with the implant" in found.reasons[0]
    assert len(flagged(compared(labels, poses)[0])) <= 3

    labels, poses = simulated(frames=300)
    other = {name: camera | {"intrinsics": np.array(camera["intrinsics"]) * 1.01} for name, camera in CAMERAS.items()}
    for row in labels[200:]:
        row.update(other)
        for component in FEMUR_AND_TIBIA:
            shift(row[component], (0.9, 0, 0))
    found = cause_of(labels, poses)
    (_, calibration) = [offset for offset in found.offsets if offset.calibration]
    assert calibration.name.startswith("tibia, trials 21, 22") and calibration.labels == 100
    assert found.looks_like == "cameras" and "changes with the calibration" in found.reasons[0]
    assert len(flagged(compared(labels, poses)[0])) <= 3


def test_a_trial_with_wrong_labels_and_a_calibration_of_its_own_is_flagged():
    labels, poses = simulated(frames=100)
    for row in labels[:30]:
        row["trial_id"] = 1
        row["camera_bs"] = CAMERAS["camera_bs"] | {"intrinsics": np.array(CAMERAS["camera_bs"]["intrinsics"]) * 1.01}
        shift(row["femur"], (1.5, 0, 0))
    assert offsets_of(labels, poses) == []
    assert len(flagged(compared(labels, poses)[0])) >= 29


def test_an_offset_that_changes_over_the_volume_is_of_the_cameras():
    labels, poses = simulated(frames=200)
    for row in labels:
        for component in FEMUR_AND_TIBIA:
            shift(row[component], (0.5 + 0.02 * row[component]["translation_mm"][1], 0, 0))
    found = cause_of(labels, poses)
    assert found.looks_like == "cameras" and "mm of the volume" in found.reasons[0]
    assert found.change == pytest.approx((0.02 * 32, 32), rel=0.2)


@pytest.fixture(scope="module")
def apart(small_rows, coarse_meshes):
    """The planes of three frames, whose second camera is 0.5 mm too high."""
    rows = []
    for row in small_rows:
        world_to_camera = np.array(row["camera_fs"]["world_to_camera"])
        world_to_camera[1, 3] += 0.5  # the image axis points down
        rows.append(row | {"camera_fs": row["camera_fs"] | {"world_to_camera": world_to_camera.tolist()}})
    return planes_apart(rows, rows, coarse_meshes)


def test_planes_disagree_where_a_camera_is_shifted(apart):
    assert apart.disagree and apart.implants == 6
    np.testing.assert_allclose(apart.direction, (0, 1, 0), atol=0.05)
    assert apart.shift.value[0] == pytest.approx(0.5, abs=0.1)
    assert json.loads(json.dumps(apart.document()))["shift_mm"] == apart.shift.value[0]


def test_the_cause_is_that_of_the_planes_and_the_limit_is_wider_by_their_disagreement(apart):
    labels, poses = simulated(frames=40)
    for row in labels:
        for component in FEMUR_AND_TIBIA:
            shift(row[component], (0.4, 0, 0))
    shift(labels[7]["femur"], (0, 0.85, 0))
    shift(labels[9]["femur"], (0.85, 0, 0))
    agree = replace(apart, shift=replace(apart.shift, value=np.array([0.02])))
    found = cause_of(labels, poses, agree)
    assert found.looks_like == "labels" and "the planes agree" in found.reasons[0]
    assert "one camera perpendicular to that direction would have the same effect" in found.reasons[1]
    found = cause_of(labels, poses, apart)
    assert found.looks_like == "cameras" and "disagree" in found.reasons[0] and " along (" in found.reasons[0]
    assert json.loads(json.dumps(found.document()))["planes"]["disagree"] is True
    assert cause_of(labels, poses).looks_like is None

    differences = differences_of(labels, pa.Table.from_pylist(poses, SCHEMA))
    baseline = common_offsets(differences)[1]
    wide = replace(apart, shift=replace(apart.shift, value=np.array([2.0])))
    rows = label_rows(differences, baseline, wide).to_pylist()
    assert {(row["measurement_id"], row["component"]) for row in rows if row["flagged"]} == {(9, "femur")}


def test_planes_are_not_compared_where_too_few_implants_are_seen(small_rows, coarse_meshes):
    one = [row | {"camera_fs": None, "image_fs": None} for row in small_rows]
    assert planes_apart(one[:0], [], coarse_meshes) is None
    pair = {component: pose(99, np.eye(4)) for component in FEMUR_AND_TIBIA}  # no such mesh
    assert planes_apart(one, [pair] * len(one), coarse_meshes) is None


def test_the_command_reports_a_common_offset_once(archive, apart, monkeypatch, tmp_path):
    source = open_rows(str(archive), ("calibrated",), archive_px=64)
    rows = [
        row for each in source.splits.values() for row in each.table("measurement_id", *FEMUR_AND_TIBIA).to_pylist()
    ]
    poses = [
        {
            "measurement_id": row["measurement_id"],
            "component": name,
            **row[name],
            "verdict": "converged",
            "detail": "",
        }
        for row in rows
        for name in FEMUR_AND_TIBIA
    ]
    monkeypatch.setattr(label_offsets_module, "ENOUGH", 6)
    arguments = (archive, "-o", tmp_path / "labels.parquet")

    def check(offset_mm, planes, *options):
        for each in poses:
            shift(each, (-offset_mm, 0, 0))
        table = pa.Table.from_pylist(poses, SCHEMA)
        found = Registrations(tmp_path, table, source, 6, 0)
        monkeypatch.setattr(check_module, "register_dataset", lambda *_, **__: found)
        monkeypatch.setattr(check_module, "planes_of", lambda *_: planes)
        return outcome("check-labels", *arguments, *options)[:2]

    status, printed = check(0.5, None, "--json")
    document = json.loads(printed)
    assert status == 3 and document["flagged"] == []
    assert [each["component"] for each in document["common_offset"]["offsets"]] == ["femur", "tibia"]
    assert document["common_offset"]["offsets"][0]["shift_mm"] == pytest.approx([0.5, 0, 0], abs=0.01)
    assert document["common_offset"]["looks_like"] is None
    status, printed = check(0, apart)
    assert status == 3 and "common offset, likely of the cameras: single labels are compared with it" in printed
    assert "the planes disagree at the registered poses" in printed and "+0.50 +- 0.00" in printed
    monkeypatch.setattr(check_module, "is_suspicious", lambda *_: True)
    agree = replace(apart, shift=replace(apart.shift, value=np.array([0.02])))
    status, printed = check(0, agree)
    assert status == 1 and "common offset, likely of the labels" in printed
    status, printed = check(-0.5, apart)
    assert status == 3 and "no significant common offset of the labels, but the cameras do not fit" in printed
