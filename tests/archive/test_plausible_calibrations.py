"""Calibrations that no rig can have are refused, unlike ones are named, and those of real and simulated rigs pass."""

import re

import numpy as np
import pytest

from veriserum_hf.archive.audit import audit_archive as audit
from veriserum_hf.archive.calibrations import parse_distortions, parse_rig
from veriserum_hf.archive.plausible_calibrations import compare_distortions, compare_rigs
from veriserum_hf.archive.problems import Findings
from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.errors import ArchiveError, CalibrationError
from veriserum_hf.geometry.pose import matrix_to_quaternion
from veriserum_hf.simulation.calibrations import moved_fs, random_distortion, random_source

NOMINAL = {
    "id": 1,
    "principalp_h_bs": 2.7,
    "principalp_v_bs": -6.1,
    "sid_bs": 1860.54,
    "principalp_h_fs": -10.1,
    "principalp_v_fs": 2.0,
    "sid_fs": 1851.35,
}


def inter_plane(T):
    return {"id": 7} | dict(
        zip(("tx", "ty", "tz", "r0", "r1", "r2", "r3"), [*T[:3, 3], *matrix_to_quaternion(T[:3, :3])], strict=True)
    )


@pytest.mark.parametrize("value", [1, 1.86, 10, 100, 500, 1e4, 1e6, 1e300, 73.25])
@pytest.mark.parametrize("plane", ["bs", "fs"])
def test_a_distance_that_no_rig_has_is_refused_with_the_nominal_one(value, plane):
    with pytest.raises(
        CalibrationError, match=rf"sid_{plane} is .* mm, expected 600 to 3000 mm \(nominally 1860 mm\)"
    ):
        parse_rig(NOMINAL | {f"sid_{plane}": value})


@pytest.mark.parametrize("value", [-1860, 400, -1e4, 1e300])
@pytest.mark.parametrize("axis", ["h_bs", "v_fs"])
def test_a_principal_point_far_from_the_field_is_refused(value, axis):
    with pytest.raises(CalibrationError, match=r"principalp_h_.*expected within 270 mm .*nominally within 12 mm"):
        parse_rig(NOMINAL | {f"principalp_{axis}": value})


@pytest.mark.parametrize(
    ("T_world_fs", "message"),
    [
        (np.eye(4), r"0\.0 deg apart, expected 15 to 165 deg \(nominally 70 deg\)"),
        (moved_fs((1e5, 0, 0), (0, 0, 0)), "the planes share no field: their central rays pass"),
        (moved_fs((0, 500, 0), (0, 0, 0)), r"the planes share no field: .* 50\d mm from each other"),
        (moved_fs((0, 0, 0), (0, 180, 0)), "the planes share no field"),
        (moved_fs((0, 0, 0), (0, 60, 0)), "10.0 deg apart"),
    ],
)
def test_planes_that_see_nothing_together_are_refused(T_world_fs, message):
    with pytest.raises(CalibrationError, match=message):
        parse_rig(NOMINAL, [inter_plane(T_world_fs)])


def changed(distortion, x=1.0, y=1.0, shift_mm=(0.0, 0.0)):
    """The same distortion with its positions scaled along both axes, and shifted."""
    X, Y = x * np.array(distortion.x_coefficients), y * np.array(distortion.y_coefficients)
    X[0] += shift_mm[0]
    Y[0] += shift_mm[1]
    return Distortion(
        tuple(X.tolist()), tuple(Y.tolist()), distortion.scale, distortion.translation, distortion.rotation
    ).to_string()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 0.1, "y": 0.1}, r"maps to 3\d\.\d* x 3\d\.\d* mm, expected 180 to 720 mm \(nominally 374 x 360 mm\)"),
        ({"x": 25.4, "y": 25.4}, "expected 180 to 720 mm"),
        ({"x": 1.0, "y": 0.2}, "expected 180 to 720 mm"),
        ({"x": -1.0}, "distortion_result_fs: it maps the raw frame mirrored.*mirror them back"),
        ({"y": -1.0}, "mirrored"),
        ({"shift_mm": (0, 400)}, r"centre maps to .*expected within 180 mm of the intensifier's \(nominally"),
        ({"x": 1e200, "y": 1e200}, "not finite|expected 180 to 720 mm"),
    ],
)
def test_a_distortion_that_misses_the_field_is_refused(change, message):
    sound = random_distortion(np.random.default_rng(0))
    with pytest.raises(CalibrationError, match=message):
        parse_distortions(
            {"distortion_result_bs": sound.to_string(), "distortion_result_fs": changed(sound, **change)}
        )


def test_rigs_of_the_published_ranges_and_moved_planes_pass():
    findings = Findings()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        directions = rng.normal(size=(2, 3))
        translation, rotation = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        moved = [inter_plane(moved_fs(50 * translation, 10 * rotation))]  # the most that can be simulated
        compare_rigs(
            {id: parse_rig({"id": id} | random_source(rng), moved if seed % 2 else []) for id in range(6)},
            "table",
            findings,
        )
        texts = [
            {f"distortion_result_{p}": random_distortion(rng).to_string() for p in ("bs", "fs")} for _ in range(6)
        ]
        compare_distortions(dict(enumerate(map(parse_distortions, texts))), "table", findings)
    assert findings.problems == []


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            {"sid_bs": 1500.0},
            ["sid_bs is 1500 mm, nominally 1860", "sid_fs 1851.35", "360.1 mm from the archive's median"],
        ),
        ({"sid_fs": 1750.0}, ["distance of fs is 1750 mm, 101.3 mm from the archive's median 1851.35"]),
        ({"principalp_h_fs": 30.0}, ["principal point of fs is (30, 2) mm, 40.1 mm from the archive's median"]),
        ({"principalp_v_bs": 70.0}, ["nominally within 12 mm", "76.1 mm from the archive's median"]),
    ],
)
def test_a_rig_unlike_the_nominal_one_or_the_others_is_named(change, messages):
    findings = Findings()
    rows = [NOMINAL | {"id": 3 + n, "sid_bs": 1860.0 + n / 10} for n in range(4)] + [NOMINAL | {"id": 9} | change]
    compare_rigs({row["id"]: parse_rig(row) for row in rows}, "table s", findings)
    assert {(each.kind, each.where, each.structural) for each in findings.problems} == {
        ("unusual calibration", "table s, id 9", False)
    }
    found = "\n".join(each.what for each in findings.problems)
    for message in messages:
        assert message in found


def test_two_kinds_of_rig_in_one_archive_are_both_taken_as_they_are():
    """Another year, other distances: neither half is unlike the others."""
    findings = Findings()
    rows = [NOMINAL | {"id": n, "sid_bs": 1700.0 + 160 * (n % 2), "sid_fs": 1700.0 + 160 * (n % 2)} for n in range(8)]
    compare_rigs({row["id"]: parse_rig(row) for row in rows}, "table", findings)
    assert findings.problems == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 0.7, "y": 0.7}, "maps to .*nominally 374 x 360 mm"),
        ({"x": 0.85, "y": 0.85}, "the raw frames show bs .* and fs .*, nominally within 3 % of each other"),
        ({"shift_mm": (60, 0)}, "the centre of the raw frame of fs maps to"),
    ],
)
def test_a_distortion_unlike_the_nominal_one_or_its_partner_is_named(change, message):
    findings = Findings()
    sound = random_distortion(np.random.default_rng(0))
    row = {"distortion_result_bs": sound.to_string(), "distortion_result_fs": changed(sound, **change)}
    compare_distortions({4: parse_distortions(row)}, "table d", findings)
    assert any(
        (problem.kind, problem.where) == ("unusual calibration", "table d, id 4") and re.search(message, problem.what)
        for problem in findings.problems
    )


def test_planes_exchanged_in_one_calibration_are_named():
    """As far apart as the published ones: 15 mm between the planes, about 1 mm between calibrations of a plane."""
    base, findings = random_distortion(np.random.default_rng(0)), Findings()
    rows = [
        {
            "distortion_result_bs": changed(base, shift_mm=(n / 5, 0)),
            "distortion_result_fs": changed(base, shift_mm=(n / 5, -15)),
        }
        for n in range(6)
    ]
    compare_distortions(dict(enumerate(map(parse_distortions, rows))), "table", findings)
    assert findings.problems == []
    rows[2] = {"distortion_result_bs": rows[2]["distortion_result_fs"], "distortion_result_fs": changed(base)}
    compare_distortions(dict(enumerate(map(parse_distortions, rows))), "table", findings)
    assert [(problem.where, problem.what[:39]) for problem in findings.problems] == [
        ("table, id 2", f"distortion_result_{plane} maps the raw frame") for plane in ("bs", "fs")
    ]


def test_a_calibration_in_use_that_cannot_be_is_refused_with_the_way_out(download):
    download.sql("UPDATE source_int_calibration SET sid_bs = 1.86 WHERE id = 5")
    with pytest.raises(ArchiveError, match=r"source_int_calibration, id 5: sid_bs is 1\.86 mm, .*Restore the row"):
        download.read()


def test_a_plane_that_does_not_see_the_implants_of_its_calibration_is_refused(download):
    columns = "id INTEGER, source_int_calibration_id INTEGER, tx, ty, tz, r0, r1, r2, r3"
    values = list(inter_plane(moved_fs((0, 0, 1000), (0, 0, 0))).values())
    row = ", ".join(map(str, [values[0], 5, *values[1:]]))
    download.sql(
        f"CREATE TABLE inter_plane_calibration ({columns}); INSERT INTO inter_plane_calibration VALUES ({row})"
    )
    report = audit(download.root)
    assert report.exit_status == 2
    found = {problem.kind: problem for problem in report.findings.problems}
    assert "puts fs 1000 mm and 0 deg from its nominal pose" in found["unusual calibration"].what
    assert found["implants not seen"].structural
    assert "with source_int_calibration 5 (sid_fs 18" in found["implants not seen"].what
    assert " 0 of the " in found["implants not seen"].what
