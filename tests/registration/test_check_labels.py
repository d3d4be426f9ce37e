"""``veriserum check-labels``: the criterion on simulated errors, and the command on an archive with wrong labels."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.transform import Rotation

from tests.cli.commands import outcome
from tests.fixtures.misread import flip_frames
from tests.fixtures.other_cameras import cropped, flipped, on_files, one_plane, resized, rewrite, without_descriptions
from tests.registration.simulated_labels import DEPTH, LABEL_MM, compared, flagged, shift, simulated
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.poses import MANUAL_SCHEMA, write_poses
from veriserum_hf.poses.schema import REGISTERED_SCHEMA as SCHEMA
from veriserum_hf.registration.data_sets import Registrations
from veriserum_hf.registration.labels import check as labels_module
from veriserum_hf.registration.labels.check import LabelCheck
from veriserum_hf.registration.labels.differences import DIFFERENCES
from veriserum_hf.registration.labels.readings import disagreement_of_labels


@pytest.mark.parametrize("seed", range(3))
def test_twenty_wrong_labels_among_five_hundred_are_found(seed):
    labels, poses = simulated(seed=seed)
    rng = np.random.default_rng(seed)
    wrong = {(int(id), ("femur", "tibia")[n % 2]) for n, id in enumerate(rng.choice(500, 20, replace=False))}
    for n, (id, component) in enumerate(sorted(wrong)):
        direction = (DEPTH["bs"], DEPTH["fs"], rng.normal(size=3))[n % 3]
        shift(labels[id][component], direction / np.linalg.norm(direction) * rng.uniform(1, 3))
    rows, _ = compared(labels, poses)
    assert len(flagged(rows) & wrong) >= 19
    assert len(flagged(rows) - wrong) <= 5


def test_differences_are_reported_along_every_direction():
    labels, poses = simulated(registration_mm=0.01, registration_deg=0.02)
    shift(labels[3]["tibia"], (1.0, -2.0, 0.0))
    shift(labels[7]["femur"], 2.5 * DEPTH["fs"] / np.linalg.norm(DEPTH["fs"]))
    by = Rotation.from_rotvec((0, 3, 0), degrees=True)
    rotated = by * Rotation.from_quat(labels[9]["femur"]["quaternion_xyzw"])
    labels[9]["femur"]["quaternion_xyzw"] = rotated.as_quat().tolist()
    rows, _ = compared(labels, poses)
    assert flagged(rows) == {(3, "tibia"), (7, "femur"), (9, "femur")}
    found = [rows[3, "tibia"][name] for name in DIFFERENCES]
    np.testing.assert_allclose(found, [1, -2, 0, 0, 0, 0], atol=0.5)
    assert rows[7, "femur"]["fs_depth_mm"] == pytest.approx(-2.5, abs=0.3)  # towards the source
    assert rows[9, "femur"]["rotation_y_deg"] == pytest.approx(3, abs=0.5)
    assert rows[3, "tibia"]["row"] == 3 and rows[3, "tibia"]["split"] == "train"


def test_an_uncertain_registration_flags_no_label():
    labels, poses = simulated()
    shift(labels[0]["femur"], (2, 0, 0))
    shift(labels[1]["femur"], (2, 0, 0))
    poses[0] |= {"verdict": "ambiguous", "detail": "two minima", "covariance": None}
    poses[2]["covariance"][0][0] = 1.0  # mm^2
    rows, _ = compared(labels, poses)
    assert rows[0, "femur"]["flagged"] is None and rows[0, "femur"]["disagreement_sd"] is None
    assert rows[0, "femur"]["detail"] == "two minima"
    assert rows[1, "femur"]["flagged"] is False and rows[1, "femur"]["world_x_mm"] == pytest.approx(2, abs=0.5)


def test_a_common_offset_of_all_labels_is_reported_and_not_flagged():
    labels, poses = simulated()
    for row in labels:
        shift(row["femur"], (0, 0, 1))
    rows, spread = compared(labels, poses)
    assert len(flagged(rows)) <= 5
    assert spread["femur"]["world_z_mm"]["median"] == pytest.approx(1, abs=0.02)
    assert spread["tibia"]["world_z_mm"]["median"] == pytest.approx(0, abs=0.02)
    assert spread["tibia"]["world_x_mm"]["spread"] == pytest.approx(np.hypot(LABEL_MM, 0.08), rel=0.2)


def test_few_labels_are_compared_with_zero():
    labels, poses = simulated(frames=2)
    for row in labels:
        shift(row["femur"], (0, 1.5, 0))
    rows, spread = compared(labels, poses)
    assert flagged(rows) == {(0, "femur"), (1, "femur")}
    assert spread["femur"]["world_y_mm"]["median"] == pytest.approx(1.5, abs=0.3)
    assert spread["femur"]["world_y_mm"]["spread"] < 0.3
    labels, poses = simulated(frames=3)
    shift(labels[1]["femur"], (0, 1.5, 0))
    assert flagged(compared(labels, poses)[0]) == {(1, "femur")}


@pytest.fixture(scope="module")
def mislabelled(archive, tmp_path_factory):
    """Two trials with labels of two frames; the tibia's of measurement 2 is 2 mm too deep for fs."""
    root = tmp_path_factory.mktemp("labels") / "archive"
    shutil.copytree(archive, root)
    depth = DEPTH["fs"] / np.linalg.norm(DEPTH["fs"]) * -2
    with closing(sqlite3.connect(next(root.glob("*.db")))) as database, database:
        wrong = database.execute(
            "SELECT MAX(id) FROM poses WHERE measurement_id = 2 AND method = 'REFINED' AND obsolete = 0"
        ).fetchone()
        database.execute("UPDATE poses SET tx = tx + ?, ty = ty + ?, tz = tz + ? WHERE id = ?", (*depth, *wrong))
        database.execute("DELETE FROM poses WHERE measurement_id IN (3, 6) AND method = 'REFINED'")
    return root


@pytest.fixture
def check():
    """Exit status, standard output and standard error of the command."""
    return partial(outcome, "check-labels")


def test_the_command_names_the_wrong_label_and_how_to_look_at_it(check, mislabelled, tmp_path):
    dataset = tmp_path / "OUT"
    convert_archive(
        mislabelled, dataset, configs=("calibrated", "anatomies", "manual"), options=Options(size=256), workers=1
    )
    output = tmp_path / "labels.parquet"
    status, printed, _ = check(dataset, "-o", output, "--workers", "1", "--json")
    document = json.loads(printed)
    assert status == 1 and document["labels"] == 8
    (found,) = document["flagged"]
    assert (found["measurement_id"], found["component"]) == (2, "tibia")
    assert found["fs_depth_mm"] == pytest.approx(2, abs=0.5)
    assert {row["flagged"] for row in document["not_assessed"]} <= {None}
    manual = document["automatic_minus_manual"]["label"]
    assert manual["femur"]["poses"] == 1 and abs(manual["femur"]["world_x_mm"]["median"]) < 1.5
    assert pq.read_table(output)["flagged"].to_pylist().count(True) == 1

    registered = tmp_path / "labels.registered.parquet"
    before = registered.read_bytes()
    status, printed, said = check(dataset, "-o", output, "--workers", "1")
    assert status == 1 and registered.read_bytes() == before, said
    assert f"veriserum show {dataset} --measurement 2 --poses {registered} --output" in printed
    assert "label minus manually matched pose, median +- MAD (1 femur, 1 tibia)" in printed
    assert "8 labels: 1 flagged" in printed

    damaged = tmp_path / "damaged"
    shutil.copytree(dataset, damaged)
    for shard in (damaged / "manual").iterdir():
        shard.write_bytes(shard.read_bytes()[:100])
    status, printed, said = check(damaged, "-o", output, "--workers", "1")
    assert status == 1 and "8 labels: 1 flagged" in printed and "manually matched" not in printed
    assert f"not compared with manually matched poses: cannot load {damaged} manual" in said

    # A file of them replaces those of the data set.
    (pose,) = [row for row in pq.read_table(registered).to_pylist() if row["measurement_id"] == 2][1:]
    by_hand = tmp_path / "by_hand.parquet"
    write_poses(by_hand, pa.Table.from_pylist([pose | {"kind": "manual"}], MANUAL_SCHEMA))
    _, printed, _ = check(damaged, "-o", output, "--workers", "1", "--manual", by_hand, "--json")
    against_file = json.loads(printed)["automatic_minus_manual"]["registration"]
    assert list(against_file) == ["tibia"] and against_file["tibia"]["poses"] == 1
    assert against_file["tibia"]["world_x_mm"]["median"] == pytest.approx(0, abs=1e-9)
    write_poses(by_hand, pa.Table.from_pylist([pose | {"trial_id": 99}], MANUAL_SCHEMA))
    status, _, said = check(damaged, "-o", output, "--workers", "1", "--manual", by_hand)
    assert status == 2 and "trial_id of the tibia's pose is 99" in said

    shutil.rmtree(dataset)
    options = Options(size=256, encoding="png")
    convert_archive(mislabelled, dataset, configs=("calibrated", "anatomies"), options=options, workers=1)
    status, printed, said = check(dataset, "-o", output, "--workers", "1")
    assert status == 2 and printed == "" and registered.read_bytes() == before
    assert f"{registered} exists and is not the result" in said
    assert "remove this file, as after any change of the data set" in said


def test_a_split_without_wrong_labels_straight_from_the_archive(check, mislabelled, tmp_path):
    status, printed, _ = check(mislabelled, "--split", "test", "-o", tmp_path / "labels.parquet", "--workers", "1")
    assert status == 0 and "4 labels: 0 flagged" in printed
    assert "look at" not in printed


def test_errors_are_one_message(check, mislabelled, tmp_path):
    calibrated = tmp_path / "OUT"
    convert_archive(mislabelled, calibrated, configs=("calibrated",), workers=1)
    refused = {
        (calibrated, "-o", tmp_path / "a.parquet"): "has no configuration anatomies (the implants' meshes), only",
        (mislabelled, "--split", "tset", "-o", tmp_path / "a.parquet"): "has no split tset; there are",
        (mislabelled, "-o", tmp_path): f"{tmp_path} is a folder; expected a Parquet file to write",
    }
    for arguments, message in refused.items():
        status, printed, said = check(*arguments)
        assert status == 2 and printed == "" and message in said and "Traceback" not in said, said
    shutil.rmtree(calibrated)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def not_converging(monkeypatch):
    """Registrations that fail, as those of labels that do not agree with their images do after a long time."""

    def register(dataset, output, *, split, **_):
        source = open_rows(dataset, ("calibrated",), archive_px=128)
        rows = [
            row
            for frames in source.of_split(split).values()
            for row in frames.table("measurement_id", "femur", "tibia").to_pylist()
        ]
        poses = [
            {
                "measurement_id": row["measurement_id"],
                "component": component,
                **row[component],
                "verdict": "failed",
                "detail": "",
            }
            for row in rows
            for component in ("femur", "tibia")
        ]
        table = pa.Table.from_pylist(poses, SCHEMA)
        return Registrations(output, table, source, len(rows), 0)

    monkeypatch.setattr(labels_module, "register_dataset", register)


def test_labels_that_could_not_be_assessed_have_a_status_of_their_own(check, archive, not_converging, tmp_path):
    status, printed, said = check(archive, "-o", tmp_path / "labels.parquet", "--json")
    document = json.loads(printed)
    assert (status, document["flagged"], document["disagreement"]) == (1, [], None)
    assert document["planes_by_session"] == []
    assert len(document["not_assessed"]) == document["labels"] == 12 and said == ""


def test_the_reading_in_which_labels_and_images_agree_is_named(check, archive, dataset, not_converging, tmp_path):
    root, converted = tmp_path / "archive", tmp_path / "OUT"
    shutil.copytree(archive, root)
    flip_frames(root, 1)
    status, _, said = check(root, "-o", tmp_path / "labels.parquet")
    assert status == 1 and "they agree if the images of both planes are flipped upside down" in said
    shutil.copytree(dataset, converted)
    card = converted / "README.md"  # by whose "Conversion ..." datasets keeps what it has prepared
    card.write_text(card.read_text().replace("Conversion ", "Another conversion "))
    for shard in (converted / "calibrated").iterdir():
        rows = pq.read_table(shard)
        poses = {c: rows[c].to_pylist() for c in ("femur", "tibia")}
        for component, each in poses.items():
            for pose in each:
                pose["quaternion_xyzw"] = pose["quaternion_xyzw"][-1:] + pose["quaternion_xyzw"][:-1]
            column = rows.column_names.index(component)
            rows = rows.set_column(column, rows.schema.field(column), pa.array(each, rows.schema.field(column).type))
        pq.write_table(rows, shard)
    status, _, said = check(converted, "-o", tmp_path / "labels.parquet")
    assert status == 1 and "they agree if the quaternions are scalar first" in said


def other_images(row):
    """A part of the bs image, the fs image with pixels of 4 : 3, and of both nothing but pixels known."""
    return resized(cropped(row, "bs", (56, 40), (150, 190)), "fs", (210, 280))


def other_images_with_fs_flipped(row):
    return flipped(other_images(row), "fs")


def one_plane_with_pixels_only(row):
    return one_plane(without_descriptions(row))


def one_plane_with_pixels_only_flipped(row):
    return one_plane_with_pixels_only(flipped(row, "bs"))


@pytest.mark.parametrize(
    ("change", "reading"),
    [
        (other_images, None),
        (other_images_with_fs_flipped, "agree if the images in the fs files are flipped upside down"),
        (one_plane_with_pixels_only, None),
        (one_plane_with_pixels_only_flipped, "agree if the images in the bs files are flipped upside down"),
    ],
)
def test_labels_are_compared_with_images_of_any_camera(dataset, tmp_path, change, reading):
    converted = tmp_path / "OUT"
    shutil.copytree(dataset, converted)
    rewrite(converted, on_files(change))
    found = disagreement_of_labels(open_rows(str(converted), ("calibrated",), archive_px=128), "all")
    assert found is None if reading is None else found.endswith(reading)


def test_a_data_set_with_one_plane_is_checked(check, coarse_dataset, tmp_path):
    converted, output = tmp_path / "OUT", tmp_path / "labels.parquet"
    shutil.copytree(coarse_dataset, converted)
    rewrite(converted, one_plane)
    arguments = (converted, "--split", "test", "-o", output, "--workers", "1")
    status, printed, said = check(*arguments, "--json")
    document = json.loads(printed)
    assert status in (0, 1, 3) and document["labels"] == 6, said
    assert document["disagreement"] is None
    assert pq.read_table(output)["fs_depth_mm"].null_count == document["labels"]
    assert check(*arguments)[1].startswith("6 labels: ")


def test_a_label_in_one_plane_has_a_depth_there_alone(check, monkeypatch, tmp_path):
    labels, poses = simulated(frames=40)
    shift(labels[5]["femur"], (3.0, 0, 0))
    rows, spread = compared([row | {"camera_fs": None} for row in labels], poses)
    assert (5, "femur") in flagged(rows)
    assert {row["fs_depth_mm"] for row in rows.values()} == {None} and spread.keys() == {"femur", "tibia"}
    assert all(abs(row["bs_depth_mm"]) < 1 for row in rows.values())
    checked = LabelCheck(tmp_path / "a", tmp_path / "b", pa.Table.from_pylist(list(rows.values())), spread, {}, None)
    monkeypatch.setattr("veriserum_hf.registration.check_labels", lambda *_, **__: checked)
    status, printed, _ = check(tmp_path, "-o", "a")
    assert status == 1 and re.search(r"\n *5 +\d+ +5 +femur 1 .* - ", printed), printed
