"""Sources and inter-plane pose from frames of the marker phantom."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.fixtures.calibrations import (
    NOISE_MM,
    START,
    drawn_rig,
    fs_errors,
    observed,
    source_errors,
    triangulation_errors_mm,
)
from tests.fixtures.phantoms import MARKERS, cylinder_bead_diameters_mm, cylinder_beads_mm
from veriserum_hf.calibration.markers import find_markers
from veriserum_hf.calibration.naming import name_beads
from veriserum_hf.calibration.observations import Observation, pair_frames
from veriserum_hf.calibration.poses import linearised
from veriserum_hf.calibration.source import fit_rig, fit_source
from veriserum_hf.core.domain import PLANES
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import mm_to_px
from veriserum_hf.geometry.pose import angle_between_deg, make_transform, transform_points
from veriserum_hf.geometry.rig import NOMINAL_T_WORLD_FS, DualPlaneRig
from veriserum_hf.simulation.calibrations import grid_transmission, moved_fs, random_distortion, random_source, rig_of
from veriserum_hf.simulation.imaging import Imaging
from veriserum_hf.simulation.intensifier import read_out
from veriserum_hf.simulation.marker_phantom import draw_markers, observe_markers, phantom_poses


def test_derivatives_are_those_of_the_projection():
    rng = np.random.default_rng(0)
    plane, T = drawn_rig(rng)["fs"], phantom_poses(3, rng)
    beads_mm, step = cylinder_beads_mm(), 1e-3
    at = linearised(plane, T, beads_mm)
    for axis in range(3):
        offset = step * np.eye(3)[axis]
        shifted = make_transform(T[:, :3, :3], T[:, :3, 3] + offset)
        rotated = make_transform(Rotation.from_rotvec(offset / 100).as_matrix() @ T[:, :3, :3], T[:, :3, 3])
        source = replace(
            plane, principal_point_mm=plane.principal_point_mm + offset[:2], sid_mm=plane.sid_mm + offset[2]
        )
        for derivative, moved_mm, by in [
            (at.by_pose[..., 3 + axis], plane.project_mm(transform_points(shifted, beads_mm)), step),
            (at.by_pose[..., axis], plane.project_mm(transform_points(rotated, beads_mm)), step / 100),
            (at.by_plane[..., axis], source.project_mm(transform_points(T, beads_mm)), step),
        ]:
            np.testing.assert_allclose((moved_mm - at.detector_mm) / by, derivative, rtol=1e-4, atol=1e-3)


def test_the_projection_is_the_rigs():
    rng = np.random.default_rng(1)
    rig, T = drawn_rig(rng), phantom_poses(2, rng)
    points_mm = cylinder_beads_mm() @ T[0, :3, :3].T + T[0, :3, 3]
    for plane in rig.values():
        px = mm_to_px(linearised(plane, T, cylinder_beads_mm()).detector_mm[0], 512)
        np.testing.assert_allclose(px, plane.project(points_mm, 512), atol=1e-9)


def test_exact_projections_give_the_rig_exactly():
    rng = np.random.default_rng(2)
    T_world_fs = moved_fs((2, -1, 1), (0.3, -0.5, 0.4))
    rig = drawn_rig(rng, T_world_fs)
    seen = observed(rig, phantom_poses(8, rng), rng, noise_mm=0)
    fit = fit_rig(pair_frames(seen["bs"], seen["fs"]), START)
    errors = np.array([source_errors(fit.rig[plane], rig[plane]) for plane in PLANES])
    assert np.abs(errors).max() < 1e-3
    assert np.abs(fs_errors(fit, T_world_fs)).max() < 1e-3
    assert fit.frames == 8


def fitted_sources(laboratories, frames):
    """Errors (laboratories, 3) of sources found with 0.1 px of noise, and their standard deviations."""
    errors, deviations = [], []
    for run in range(laboratories):
        rng = np.random.default_rng(run)
        plane = drawn_rig(rng)["bs"]
        fit = fit_source([observe_markers(plane, T, NOISE_MM, rng) for T in phantom_poses(frames, rng)], START["bs"])
        errors.append(source_errors(fit.plane, plane))
        deviations.append(fit.standard_deviations)
    return np.abs(errors), np.array(deviations)


def test_a_source_from_480_frames_is_right_to_0_3_and_1_mm():
    errors, _ = fitted_sources(laboratories=5, frames=480)
    print("largest error, mm", errors.max(axis=0))
    assert (errors < (0.3, 0.3, 1.0)).all()


def test_a_sources_deviations_are_honest():
    errors, deviations = fitted_sources(laboratories=40, frames=48)
    assert 0.90 <= np.mean(errors < 1.96 * deviations) <= 0.99


def test_a_rig_within_its_claims():
    """100 dual-plane frames with 0.1 px of noise, from the nominal pose: 0.2 mm, 0.05 degrees, honest deviations."""
    errors, deviations = [], []
    for run in range(12):
        rng = np.random.default_rng(run)
        T_world_fs = moved_fs(rng.normal(0, 1.2, 3), rng.normal(0, 0.3, 3))
        rig = drawn_rig(rng, T_world_fs)
        seen = observed(rig, phantom_poses(100, rng), rng)
        fit = fit_rig(pair_frames(seen["bs"], seen["fs"]), START)
        sources = [source_errors(fit.rig[plane], rig[plane]) for plane in PLANES]
        errors.append(np.concatenate([*sources, fs_errors(fit, T_world_fs)]))
        deviations.append(fit.standard_deviations)
    errors, deviations = np.array(errors), np.array(deviations)
    assert np.linalg.norm(errors[:, 6:9], axis=1).max() < 0.2
    assert np.linalg.norm(errors[:, 9:], axis=1).max() < 0.05
    assert 0.90 <= np.mean(np.abs(errors) < 1.96 * deviations) <= 0.99


def test_wrong_names_do_little_harm():
    rng = np.random.default_rng(3)
    plane = drawn_rig(rng)["bs"]
    frames = [observe_markers(plane, T, 0.01, rng) for T in phantom_poses(30, rng)]
    for marker_mm, detector_mm in frames:
        wrong = rng.choice(len(marker_mm), len(marker_mm) // 30, replace=False)
        detector_mm[wrong] = detector_mm[np.roll(wrong, 1)]
    fit = fit_source(frames, START["bs"])
    assert (np.abs(source_errors(fit.plane, plane)) < 5 * fit.standard_deviations).all()
    assert fit.standard_deviations.max() < 0.2  # 0.04 without, 20 with least squares
    assert fit.residual_mm_rms < 0.011
    assert fit.markers_used < 0.98 * fit.markers_seen


def test_triangulation_before_and_after_a_rig_calibration():
    """A nominal pose that is wrong by 2 mm and 0.5 degrees; frames as good as the phantom's beads are measured."""
    rng = np.random.default_rng(4)
    T_world_fs = moved_fs((1.2, -1.0, 1.25), np.array((1.0, 1.0, -1.0)) * 0.5 / np.sqrt(3))
    truth = drawn_rig(rng, T_world_fs)
    nominal = DualPlaneRig(truth["bs"], replace(truth["fs"], T_world_intensifier=NOMINAL_T_WORLD_FS))
    seen = observed(truth, phantom_poses(40, rng), rng, noise_mm=0.014)
    fit = fit_rig(pair_frames(seen["bs"], seen["fs"]), nominal)
    before_mm, after_mm = triangulation_errors_mm(nominal, truth), triangulation_errors_mm(fit.rig, truth)
    for name, errors_mm in [("before", before_mm), ("after", after_mm)]:
        print(f"{name}: median {np.median(errors_mm):.3f} mm, largest {errors_mm.max():.3f} mm")
    assert np.median(before_mm) > 1.0
    assert after_mm.max() < 0.15
    assert angle_between_deg(fit.T_world_fs[:3, :3], T_world_fs[:3, :3]) < 0.01


def spots_of(plane, T_world_phantom, rng, missing=0.1, false=3):
    """Spots of a projection (centres, radii) in mm and the beads they show, -1 for false ones."""
    beads_mm, radii_mm = cylinder_beads_mm(), cylinder_bead_diameters_mm() / 2
    beads_world_mm = transform_points(T_world_phantom, beads_mm)
    at_mm = plane.project_mm(beads_world_mm)
    radii_mm = radii_mm * plane.sid_mm / plane.depths_mm(beads_world_mm)
    gaps_mm = np.linalg.norm(at_mm[:, None] - at_mm, axis=2) - radii_mm[:, None] - radii_mm
    np.fill_diagonal(gaps_mm, np.inf)
    seen = (np.linalg.norm(at_mm, axis=1) < 180) & (gaps_mm.min(axis=1) > 0.3) & (rng.random(len(at_mm)) > missing)
    beads = np.concatenate([np.flatnonzero(seen), np.full(false, -1)])
    spots_mm = np.vstack([at_mm[seen] + rng.normal(0, NOISE_MM, (seen.sum(), 2)), rng.uniform(-150, 150, (false, 2))])
    spot_radii_mm = np.concatenate([radii_mm[seen] * rng.normal(1, 0.03, seen.sum()), rng.uniform(1, 3, false)])
    order = rng.permutation(len(beads))
    return spots_mm[order], spot_radii_mm[order], beads[order]


def test_beads_are_named_rightly_or_not_at_all():
    """Any rotation about the axis, tilts up to 40 degrees and any other pose, all over the field, a tenth missing."""
    refused = 0
    for case in range(100):
        rng = np.random.default_rng(case)
        if case % 2:
            R = Rotation.random(random_state=case)
        else:
            across = rng.uniform(0, 2 * np.pi)
            tilt = np.radians(rng.uniform(0, 40)) * np.array([np.cos(across), 0, np.sin(across)])
            R = Rotation.from_rotvec(tilt) * Rotation.from_rotvec([0, rng.uniform(0, 2 * np.pi), 0])
        T = make_transform(R.as_matrix(), rng.uniform((-50, -50, 200), (50, 50, 550)))
        spots_mm, radii_mm, beads = spots_of(drawn_rig(rng)["bs"], T, rng)
        try:
            named = name_beads(spots_mm, radii_mm, START["bs"], MARKERS)
        except CalibrationError:
            refused += 1
            continue
        np.testing.assert_array_equal(beads[named.spots], named.beads)
        assert len(named.beads) > 0.7 * np.sum(beads >= 0)
    assert refused <= 3


def test_a_mirrored_image_is_refused():
    rng = np.random.default_rng(5)
    for T in phantom_poses(2, rng):
        spots_mm, radii_mm, _ = spots_of(START["bs"], T, rng)
        with pytest.raises(CalibrationError, match=r"no pose of the marker phantom explains more than \d+ of them"):
            name_beads(spots_mm * (-1, 1), radii_mm, START["bs"], MARKERS)


def test_frames_give_the_rig():
    """Drawn with the whole imaging chain, found, named and fitted: 4 dual-plane frames."""
    rng = np.random.default_rng(6)
    rig = rig_of(random_source(rng))
    distortions = {plane: random_distortion(rng) for plane in PLANES}
    seen, errors_mm = {plane: [] for plane in PLANES}, []
    for number, T in enumerate(phantom_poses(4, rng)):
        for plane in PLANES:
            depth = (8, 16)[number % 2]
            frame = draw_markers(rig[plane], distortions[plane], T, Imaging(), rng, bit_depth=depth)
            found = find_markers(frame, distortions[plane], START[plane])
            seen[plane].append(found)
            errors_mm.append(found.detector_mm - rig[plane].project_mm(transform_points(T, found.marker_mm)))
    off_mm = np.linalg.norm(np.concatenate(errors_mm), axis=1)
    assert off_mm.max() < 0.5  # none is another bead
    assert np.median(off_mm) < 0.02
    assert min(map(len, errors_mm)) > 60
    fit = fit_rig(pair_frames(seen["bs"], seen["fs"]), START)
    errors = np.array([source_errors(fit.rig[plane], rig[plane]) for plane in PLANES])
    print("source errors, mm", errors, "fs", fs_errors(fit, NOMINAL_T_WORLD_FS))
    assert np.abs(errors).max() < 1
    assert np.linalg.norm(fs_errors(fit, NOMINAL_T_WORLD_FS)[:3]) < 0.2
    assert np.linalg.norm(fs_errors(fit, NOMINAL_T_WORLD_FS)[3:]) < 0.05


def test_smaller_frames_show_the_same():
    rng = np.random.default_rng(7)
    rig, distortion, T = rig_of(random_source(rng)), random_distortion(rng), phantom_poses(1, rng)
    frame = draw_markers(rig["bs"], distortion, T[0], Imaging(), rng, height_px=1000)
    found = find_markers(frame, distortion, START["bs"])
    off_mm = np.linalg.norm(found.detector_mm - rig["bs"].project_mm(transform_points(T[0], found.marker_mm)), axis=1)
    assert len(off_mm) > 60
    assert np.median(off_mm) < 0.05


def frame_of(through, rng):
    return read_out(through, 0.25, random_distortion(rng), Imaging(), rng, height_px=800, bit_depth=16)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            lambda rng: np.zeros((800, 832), np.uint8),
            r"^0 round, dark spots are in the frame, at least 24 are needed",
        ),
        (lambda rng: frame_of(np.ones((920, 920), np.float32), rng), r"^\d+ round, dark spots are in the frame"),
        (
            lambda rng: frame_of(grid_transmission(Imaging(), 800), rng),
            r"but only \d of them are large ones|no pose of",
        ),
    ],
    ids=["black", "empty field", "grid phantom"],
)
def test_frames_without_the_phantom_are_refused(frame, message):
    rng = np.random.default_rng(8)
    with pytest.raises(CalibrationError, match=message):
        find_markers(frame(rng), random_distortion(rng), START["bs"])


def good_frames(count=6, noise_mm=0.01, seed=9):
    rng = np.random.default_rng(seed)
    return [observe_markers(START["bs"], T, noise_mm, rng) for T in phantom_poses(count, rng)]


def only(observation, kept):
    return Observation(observation.marker_mm[kept], observation.detector_mm[kept])


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "there is no frame of the phantom: at least one is needed"),
        ([good_frames()[0], only(good_frames()[1], slice(5))], "frame 1 has 5 markers, at least 6 are needed"),
        (
            [Observation(good_frames()[0].marker_mm * (1, 1, 0), good_frames()[0].detector_mm)],
            r"frame 0: its \d+ markers lie in one plane, which does not determine the source",
        ),
        (
            [Observation(good_frames()[0].marker_mm * (0, 1, 0), good_frames()[0].detector_mm)],
            r"frame 0: its \d+ markers lie on one line",
        ),
        (
            [Observation(np.ones((8, 3)), np.ones((8, 3)))],
            r"expected markers \(n, 3\) and their projections",
        ),
        (
            [Observation(good_frames()[0].marker_mm, good_frames()[0].detector_mm * np.nan)],
            "frame 0: some of its markers are not finite mm",
        ),
        (
            [only(good_frames(noise_mm=0.5)[0], slice(None, None, 6))],
            r"\d+ markers in 1 frames do not determine the source: its distance is known to [\d.e+]+ mm",
        ),
        (
            [Observation(f.marker_mm, f.detector_mm * (-1, 1)) for f in good_frames()],
            r"no source and poses explain the markers|no source is found from|behind the source",
        ),
    ],
    ids=["none", "few markers", "plane", "line", "shapes", "nan", "little", "mirrored"],
)
def test_what_does_not_determine_a_source_is_refused(frames, message):
    with pytest.raises(CalibrationError, match=message):
        fit_source(frames, START["bs"])


def test_markers_behind_the_source_are_refused():
    with pytest.raises(CalibrationError, match=r"a marker lies \d+ mm behind the source, which is 100 mm"):
        fit_source(good_frames(), replace(START["bs"], sid_mm=100.0))


def test_planes_with_different_numbers_of_frames_are_refused():
    frames = good_frames()
    with pytest.raises(CalibrationError, match=r"^bs has 6 frames and fs has 5: every pose .* exclude the frames"):
        pair_frames(frames, frames[:5])


def test_planes_whose_frames_are_not_of_the_same_poses_are_refused():
    rng = np.random.default_rng(10)
    seen = observed(START, phantom_poses(6, rng), rng)
    with pytest.raises(
        CalibrationError, match=r"no source and poses explain the markers|no source is found from|behind the source"
    ):
        fit_rig(pair_frames(seen["bs"], seen["fs"][::-1]), START)


def test_the_phantom_has_no_symmetry():
    """No rotation by 180 degrees and no rotation or shift along the axis brings many beads near others."""
    beads_mm = cylinder_beads_mm()
    for flip in (1, -1):
        for turn_deg in range(0, 360, 2):
            moved = Rotation.from_euler("y", turn_deg, degrees=True).apply(beads_mm * (1, flip, flip))
            if flip == 1 and turn_deg == 0:
                continue
            near = np.linalg.norm(moved[:, None] - beads_mm, axis=2).min(axis=1) < 1.0
            assert near.mean() < 0.2
