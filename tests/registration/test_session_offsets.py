"""Labels of a session whose planes disagree: their offset, what another fs pose explains, and what is left."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from tests.cli.commands import outcome
from tests.registration.simulated_labels import RIG, flagged, shift, simulated
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.geometry import DualPlaneRig
from veriserum_hf.poses.schema import REGISTERED_SCHEMA as SCHEMA
from veriserum_hf.registration.data_sets import Registrations
from veriserum_hf.registration.labels import check as check_module, session_offsets as session_offsets_module
from veriserum_hf.registration.labels.common_offset import CommonOffset
from veriserum_hf.registration.labels.differences import differences_of
from veriserum_hf.registration.labels.offsets import Estimate, common_offsets, judged_labels
from veriserum_hf.registration.labels.planes_apart import PlanesApart
from veriserum_hf.registration.labels.rows import label_rows
from veriserum_hf.registration.labels.session_offsets import session_offsets, with_sessions
from veriserum_hf.registration.verdicts import CONTRADICTION

CENTER_MM = np.array((0, 0, 380.0))
BS, FS = ((CENTER_MM - RIG[plane].source_mm) / np.linalg.norm(CENTER_MM - RIG[plane].source_mm) for plane in RIG)
BOTH = np.cross(BS, FS) / np.linalg.norm(np.cross(BS, FS))  # the direction that both planes see
SIDEWAYS = np.cross(BS, BOTH)  # in bs
OTHER = {"camera_bs": RIG["bs"].camera(), "camera_fs": DualPlaneRig.from_calibration(
    principal_point_bs_mm=(5, -6), sid_bs_mm=1860.5, principal_point_fs_mm=(-10.5, 1.5), sid_fs_mm=1852.4
)["fs"].camera()}  # fmt: skip


def contradictory(poses, apart_mm, rng):
    """Give registrations a disagreement of the planes, of which they have no other fault."""
    for pose in poses:
        pose["planes_apart_mm"] = float(apart_mm + rng.normal(0, 0.08))
        pose["planes_apart_sd_mm"] = 0.05
        if abs(apart_mm) > 0.3:
            pose |= {"verdict": "ambiguous", "detail": f"{CONTRADICTION}: their poses are apart"}


def session(offset_mm, apart_mm, frames=40, seed=0):
    """Labels with an offset, and registrations whose planes are apart."""
    labels, poses = simulated(frames=frames, seed=seed)
    contradictory(poses, apart_mm, np.random.default_rng(seed))
    for row in labels:
        for component in ("femur", "tibia"):
            shift(row[component], offset_mm)
    return labels, poses


def assessed(labels, poses):
    """Sessions, the common offset, and rows by measurement and component."""
    differences = differences_of(labels, pa.Table.from_pylist(poses, SCHEMA))
    sessions = session_offsets(labels, differences)
    differences, explained = with_sessions(differences, sessions)
    offsets, baseline = common_offsets(differences, explained)
    rows = {(row["measurement_id"], row["component"]): row for row in label_rows(differences, baseline).to_pylist()}
    of_others = not judged_labels(differences, explained).all()
    return sessions, CommonOffset(offsets, None, None, sessions, of_others), rows


@settings(max_examples=6, deadline=None)
@given(st.floats(-2, 2), st.floats(0.35, 0.8), st.booleans(), st.floats(0, 1))
def test_labels_of_another_fs_pose_are_explained(depth_mm, apart_mm, down, weight):
    apart_mm = -apart_mm if down else apart_mm
    sessions, common, rows = assessed(*session(depth_mm * BS - weight * apart_mm * BOTH, apart_mm))
    (found,) = sessions
    assert found.fits_cameras and common.looks_like == "cameras"
    assert found.apart.value[0] == pytest.approx(apart_mm, abs=0.06)
    np.testing.assert_allclose(found.shift.value, depth_mm * BS - weight * apart_mm * BOTH, atol=0.08)
    if found.significant:
        assert common.offsets == []
    assert not flagged(rows) and all(row["flagged"] is not None for row in rows.values())


def test_single_labels_are_compared_with_what_is_left():
    labels, poses = session(0.8 * BS - 0.3 * BOTH, 0.6, frames=100)
    wrong = {(int(id), "femur") for id in np.random.default_rng(1).choice(100, 10, replace=False)}
    for id, component in wrong:
        shift(labels[id][component], (0.3, 0.9, -0.8))
    (found,), common, rows = assessed(labels, poses)
    assert len(flagged(rows) & wrong) >= 9 and len(flagged(rows) - wrong) <= 1
    assert found.explained and found.text in common.reasons
    mm = ", ".join(f"{value:+.2f}" for value in found.shift.value)
    assert found.text.startswith("all labels of session 1 (trials 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) are off by ")
    assert f"({mm}) mm in a way that another fs pose explains: its planes are +0.6" in found.text
    document = json.loads(json.dumps(common.document()))["sessions"][0]
    assert document["explained_by_fs_pose"] and document["labels"] == 200 and document["session"] == 1
    assert document["seen_by_both_mm"] == pytest.approx(-0.3, abs=0.05)


@pytest.mark.parametrize(
    "offset_mm", [0.4 * SIDEWAYS, 0.4 * BOTH, -1.2 * BOTH], ids=["sideways", "other side", "far"]
)
def test_another_offset_is_not_explained(offset_mm):
    (found,), common, rows = assessed(*session(offset_mm, 0.6))
    assert not found.fits_cameras and common.looks_like is None
    assert "another fs pose does not explain that" in found.text
    assert all(row["flagged"] is not None for row in rows.values())


def test_labels_that_agree_with_the_wrong_cameras_have_no_offset():
    (found,), common, rows = assessed(*session((0, 0, 0), 0.6))
    assert not found.significant and found.fits_cameras and common.looks_like == "cameras"
    assert "agree with registrations in both planes, but its planes are +0.6" in found.text
    assert not flagged(rows)


@pytest.mark.parametrize("offset_mm", [0.5 * BOTH, 0.5 * SIDEWAYS, (0.3, 0.3, 0.3)])
def test_an_offset_where_the_planes_agree_is_of_the_labels(offset_mm):
    sessions, common, _ = assessed(*session(offset_mm, 0.0))
    assert sessions == [] and [offset.component for offset in common.offsets] == ["femur", "tibia"]


def test_planes_that_contradict_each_other_at_random_are_not_assessed():
    labels, poses = session((0, 0, 0), 0.6)
    for number, pose in enumerate(poses):
        pose["planes_apart_mm"] *= (-1) ** (number // 2)
    sessions, _, rows = assessed(labels, poses)
    assert sessions == [] and all(row["flagged"] is None for row in rows.values())


def test_each_session_has_its_own_offset_and_one_plane_has_none():
    labels, poses = session((0, 0, 0), 0.6, frames=90)
    for row in labels[30:60]:
        row.update(OTHER)
        for component in ("femur", "tibia"):
            shift(row[component], 0.9 * BS - 0.3 * BOTH)
    for row in labels[60:]:
        row["camera_fs"] = None
    sessions, common, rows = assessed(labels, poses)
    assert [each.trials for each in sessions] == [(1, 2, 3), (4, 5, 6)]
    assert [each.significant for each in sessions] == [False, True] and sessions[1].explained
    assert common.looks_like == "cameras"
    assert [row["flagged"] for row in rows.values()].count(None) == 60
    assert not flagged(rows)


def test_an_explained_session_does_not_explain_the_offset_of_others():
    labels, poses = session(0.8 * BS - 0.3 * BOTH, 0.6, frames=90)
    for row in labels[30:]:
        row.update(OTHER)
        for component in ("femur", "tibia"):
            shift(row[component], -0.8 * BS + 0.3 * BOTH + 0.8 * SIDEWAYS)
    for pose in poses[60:]:
        pose |= {"planes_apart_mm": 0.0, "verdict": "converged", "detail": ""}
    (found,), common, rows = assessed(labels, poses)
    assert found.explained and [offset.name for offset in common.offsets] == ["femur", "tibia"]
    for offset in common.offsets:
        assert offset.labels == 60
        np.testing.assert_allclose(offset.estimate.value[:3], 0.8 * SIDEWAYS, atol=0.06)
    assert common.looks_like is None and found.text in common.reasons
    zeros = (Estimate(np.zeros(size), np.full(size, 0.02), 12, "frames") for size in (1, 3))
    agree = PlanesApart(12, BOTH, *zeros)
    assert replace(common, planes=agree).looks_like == "labels"
    assert len(flagged(rows)) <= 1


def test_what_components_of_an_explained_session_have_left_is_an_offset():
    labels, poses = session(0.8 * BS - 0.3 * BOTH, 0.6)
    for row in labels:
        shift(row["femur"], 1.0 * BS)
    (found,), common, rows = assessed(labels, poses)
    assert found.explained and common.offsets and common.looks_like == "cameras"
    assert not flagged(rows)


def test_an_explained_offset_counts_where_components_have_few_labels():
    (found,), _, rows = assessed(*session(2.0 * BS - 0.3 * BOTH, 0.6, frames=12))
    assert found.explained and len(rows) == 24
    assert not flagged(rows) and all(row["flagged"] is False for row in rows.values())


def test_planes_that_are_apart_by_another_amount_are_not_assessed():
    labels, poses = session(0.8 * BS - 0.3 * BOTH, 0.6)
    for pose in poses[10:12]:
        pose["planes_apart_mm"] = -6.0
    (found,), _, rows = assessed(labels, poses)
    assert found.explained and len(found.members) == 78
    assert [key for key, row in rows.items() if row["flagged"] is None] == [(5, "femur"), (5, "tibia")]


def test_sessions_are_numbered_in_the_order_of_the_rows():
    labels, poses = session((0, 0, 0), 0.6, frames=60)
    for row in labels[30:]:
        row.update(OTHER)
    sessions, *_ = assessed(labels[30:] + labels[:30], poses)
    assert [(each.number, each.trials) for each in sessions] == [(1, (4, 5, 6)), (2, (1, 2, 3))]


def test_the_command_states_the_way_out(archive, monkeypatch, tmp_path):
    source = open_rows(str(archive), ("calibrated",), archive_px=64)
    rows = [
        row for each in source.splits.values() for row in each.table("measurement_id", "femur", "tibia").to_pylist()
    ]
    poses = [
        {"measurement_id": row["measurement_id"], "component": name, **row[name]}
        for row in rows
        for name in ("femur", "tibia")
    ]
    for each in poses:
        shift(each, -0.6 * BS + 0.25 * BOTH)
    contradictory(poses, 0.5, np.random.default_rng(0))
    monkeypatch.setattr(session_offsets_module, "ENOUGH", 6)
    found = Registrations(tmp_path, pa.Table.from_pylist(poses, SCHEMA), source, 6, 0)
    monkeypatch.setattr(check_module, "register_dataset", lambda *_, **__: found)
    monkeypatch.setattr(check_module, "planes_of", lambda *_: None)
    status, printed, _ = outcome("check-labels", archive, "-o", tmp_path / "labels.parquet")
    assert status == 3 and "0 flagged, 0 not assessed" in printed
    assert "offset of whole sessions, likely of the cameras: single labels are compared with it" in printed
    assert "in a way that another fs pose explains" in printed
    assert f"veriserum refine-cameras {archive} --poses {tmp_path}" in printed
    assert "--cameras cameras.json --output" in printed
    _, printed, _ = outcome("check-labels", archive, "-o", tmp_path / "labels.parquet", "--split", "train")
    assert "--cameras cameras.json --split train --output" in printed
    options = ("-o", tmp_path / "labels.parquet", "--cameras", tmp_path / "cameras.json")
    _, printed, _ = outcome("check-labels", archive, *options)
    assert "in a way that another fs pose explains" in printed and "refine-cameras" not in printed
