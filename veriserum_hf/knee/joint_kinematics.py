"""Kinematics of a knee from the poses of its implants."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from veriserum_hf.core import COMPONENTS, Component, FloatArray, JointConvention, Side, listed
from veriserum_hf.errors import KinematicsError
from veriserum_hf.knee.axes import AxesFile, KneeAxes, Meshes, knee_axes, read_axes
from veriserum_hf.knee.contact import condyle_points, lowest_deviations, lowest_points, pivot
from veriserum_hf.knee.coordinates import (
    COORDINATES,
    coordinate_derivatives,
    joint_coordinates,
)
from veriserum_hf.knee.frames import JointFrames, joint_frames
from veriserum_hf.knee.rates import rates
from veriserum_hf.knee.relative import relative_poses
from veriserum_hf.knee.smoothing import Noise, smooth
from veriserum_hf.poses import read_poses

LOWEST = tuple(
    f"{condyle}_lowest_{axis}_mm" for condyle in ("medial", "lateral") for axis in ("medial", "anterior", "superior")
)
# Median angles of a knee, deg; others come from axes that do not fit the implants.
_PLAUSIBLE_DEG = {
    "flexion_deg": (-45.0, 170.0),
    "adduction_deg": (-35.0, 35.0),
    "internal_rotation_deg": (-60.0, 60.0),
}
_PLAUSIBLE_MM = (2.0, 200.0)  # median distance between the origins; others come from another unit
SIGNS = (
    "tibia against femur: flexion, adduction (varus) and internal rotation are positive, in left and right knees; "
)
TRANSLATIONS: Mapping[JointConvention, str] = {
    "grood-suntay": "medial, anterior, superior: position of the femur's origin from the tibia's, projected on the "
    "femur's flexion axis, the floating axis and the tibia's long axis (Grood and Suntay 1983)",
    "isb": "medial, anterior, superior: position of the tibia's origin from the femur's, as the sum of translations "
    "along the femur's flexion axis, the floating axis and the tibia's long axis (ISB, Wu and Cavanagh 1995)",
}


@dataclass(frozen=True, eq=False)
class Kinematics:
    """Six degrees of freedom of a knee over time.

    Attributes
    ----------
    table : one row a frame, in the order of trials and times; its metadata state signs, axes and noise.
    axes : of the implants.
    pivots_mm : by trial, the average centre of rotation on the tray, medial and anterior of the tibia's origin; only
        of trials in which the femur rotates on the tray, and where meshes are known.

    """

    table: pa.Table
    axes: KneeAxes
    pivots_mm: Mapping[int, tuple[float, float]]


def kinematics(
    poses: Path | pa.Table,
    axes: Path | KneeAxes | Side,
    *,
    meshes: Meshes | None = None,
    frame_rate_hz: float | None = None,
    convention: JointConvention = "grood-suntay",
    smoothed: bool = False,
    all_verdicts: bool = False,
) -> Kinematics:
    """Six degrees of freedom of the femoral against the tibial component, with their standard deviations.

    Parameters
    ----------
    poses : file or table of poses, see `veriserum_hf.poses.read_poses`.
    axes : YAML file of landmarks, see `read_axes`; the side of the knee, where all axes are from the meshes; or the
        axes themselves.
    meshes : by anatomy id, mm. Implants without landmarks have their axes from them, landmarks are checked with them,
        and the femur's gives the lowest points of the condyles.
    frame_rate_hz : gives the times of frames, unless the poses have a column ``time_s``. Without times there are no
        velocities.
    convention : of the translations, see `joint_coordinates`.
    smoothed : also smooth the poses over time, into further columns.
    all_verdicts : use frames of every verdict for velocities and smoothing, not only those that have converged.

    Raises
    ------
    KinematicsError
        If the axes are not those of these implants or do not fit them, no frame has both components, times do not
        rise, or nothing can be smoothed.
    TrainingError
        If the poses cannot be read.

    """
    where = str(poses) if isinstance(poses, Path) else "the table of poses"
    table = read_poses(poses) if isinstance(poses, Path) else poses
    if frame_rate_hz is not None and not 0 < frame_rate_hz < np.inf:
        raise KinematicsError(f"the frame rate is {frame_rate_hz} Hz; expected a number above 0")
    frames = joint_frames(table, where, frame_rate_hz)
    found = _axes_of(frames, axes, meshes or {}, table, where)
    T_tibia_femur, covariance, own = relative_poses(frames, found)
    values, deviations = _with_deviations(T_tibia_femur, covariance, found.side, convention)
    _, own_deviations = _with_deviations(T_tibia_femur, own, found.side, convention)
    usable = frames.usable(all_verdicts)
    _check_plausible(values, T_tibia_femur, frames.complete, where)
    columns = _columns(frames, found.side, values, deviations)
    columns |= _named(own_deviations, "{}_frame_sd")
    velocities, of_velocities = rates(values, own_deviations, frames.time_s, usable, frames.trials())
    columns |= _named(velocities, "{}_s") | _named(of_velocities, "{}_s_sd")
    lowest, of_lowest = _lowest(frames, found, meshes or {}, T_tibia_femur, covariance)
    columns |= dict(zip(LOWEST, lowest.T, strict=True))
    columns |= {f"{name}_sd": column for name, column in zip(LOWEST, of_lowest.T, strict=True)}
    noise = None
    if smoothed:
        added, noise = _smoothed(frames, T_tibia_femur, (covariance, own), usable, found.side, convention)
        columns |= added
    columns["convention"] = np.full(len(frames), SIGNS + TRANSLATIONS[convention])
    metadata = _metadata(found, convention, noise, all_verdicts)
    arrays = {name: pa.array(column, from_pandas=True) for name, column in columns.items()}
    return Kinematics(pa.table(arrays).replace_schema_metadata(metadata), found, _pivots(frames, lowest, usable))


def _axes_of(
    frames: JointFrames, axes: Path | KneeAxes | Side, meshes: Meshes, poses: pa.Table, where: str
) -> KneeAxes:
    """Axes as they are given or found in the meshes; those of other implants or of the other knee are refused."""
    given = read_axes(axes) if isinstance(axes, Path) else axes
    _check_side(poses, where, given)
    components = _components(frames)
    found = given if isinstance(given, KneeAxes) else knee_axes(given, components, meshes)
    _check_complete(found, components)
    return found


def _components(frames: JointFrames) -> dict[int, Component]:
    found: dict[int, Component] = {}
    for name in COMPONENTS:
        found |= {id: name for id in np.unique(frames.anatomy_id[name]).tolist() if id >= 0}
    return found


def _check_complete(axes: KneeAxes, components: Mapping[int, Component]) -> None:
    for id, component in components.items():
        if id not in axes.implants or axes.implants[id].component != component:
            there = listed(f"{each.component} {id}" for id, each in sorted(axes.implants.items()))
            raise KinematicsError(f"there are axes of {there}, but the poses are of {component} {id}")


def _check_side(poses: pa.Table, where: str, given: AxesFile | KneeAxes | Side) -> None:
    """Refuse axes of the other side than the one that the poses state, where they do."""
    side = given if isinstance(given, str) else given.side
    metadata = {(poses.schema.metadata or {}).get(b"side", b"").decode(errors="replace")} - {""}
    stated = set(poses["side"].to_pylist()) - {None, ""} if "side" in poses.column_names else metadata
    if wrong := sorted(str(each) for each in stated if each != side):
        name = str(given.path) if isinstance(given, AxesFile) else f"side {given}"
        raise KinematicsError(
            f"{where} states that its poses are of a {wrong[0]} knee, but {name} gives the axes of a {side} one"
        )


def _with_deviations(
    T_tibia_femur: FloatArray, covariance: FloatArray, side: Side, convention: JointConvention
) -> tuple[FloatArray, FloatArray]:
    """Coordinates and their standard deviations, (n, 6) each; NaN where unknown."""
    known = np.isfinite(T_tibia_femur).all(axis=(1, 2))
    values, deviations = np.full((len(T_tibia_femur), 6), np.nan), np.full((len(T_tibia_femur), 6), np.nan)
    values[known] = joint_coordinates(T_tibia_femur[known], side, convention)
    J = coordinate_derivatives(T_tibia_femur[known], side, convention)
    variances = np.einsum("nij,njk,nik->ni", J, covariance[known], J)
    deviations[known] = np.sqrt(np.maximum(variances, 0))
    return values, deviations


def _check_plausible(values: FloatArray, T_tibia_femur: FloatArray, known: np.ndarray, where: str) -> None:
    apart_mm = float(np.median(np.linalg.norm(T_tibia_femur[known, :3, 3], axis=1)))
    low, high = _PLAUSIBLE_MM
    if not low <= apart_mm <= high:
        raise KinematicsError(
            f"{where}: the median distance between the origins of femur and tibia is {apart_mm:.3g} mm, expected "
            f"{low:.0f} to {high:.0f} in a knee. Are the poses in mm?"
        )
    median = np.median(values[known], axis=0)
    for name, angle in zip(COORDINATES, median, strict=False):
        low, high = _PLAUSIBLE_DEG.get(name, (-np.inf, np.inf))
        if not low <= angle <= high:
            raise KinematicsError(
                f"{where}: the median {name} of {known.sum()} frames is {angle:.0f}, expected {low:.0f} to "
                f"{high:.0f} in a knee. The axes do not fit these implants: check the anatomy ids of both components "
                "and the landmarks"
            )


def _columns(frames: JointFrames, side: Side, values: FloatArray, deviations: FloatArray) -> dict[str, object]:
    columns: dict[str, object] = {
        "measurement_id": frames.measurement_id,
        "trial_id": _or_null(frames.trial_id),
        "frame_index": _or_null(frames.frame_index),
        "time_s": frames.time_s,
        "side": np.full(len(frames), side),
    }
    columns |= _named(values, "{}") | _named(deviations, "{}_sd")
    columns["verdict"] = list(frames.verdict)
    return columns | {f"{name}_anatomy_id": _or_null(frames.anatomy_id[name]) for name in COMPONENTS}


def _named(values: FloatArray, pattern: str) -> dict[str, FloatArray]:
    """Columns (n,) of the six coordinates, by a pattern of their names."""
    return {pattern.format(name): column for name, column in zip(COORDINATES, values.T, strict=True)}


def _or_null(ids: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.masked_less(ids, 0)


def _lowest(
    frames: JointFrames, axes: KneeAxes, meshes: Meshes, T_tibia_femur: FloatArray, covariance: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Lowest points of the medial and the lateral condyle, and their deviations, (n, 6), in the order of `LOWEST`."""
    found, deviations = np.full((len(frames), 6), np.nan), np.full((len(frames), 6), np.nan)
    sign = 1.0 if axes.side == "right" else -1.0
    for id in np.unique(frames.anatomy_id["femur"]).tolist():
        if id in meshes:
            at = frames.anatomy_id["femur"] == id
            halves = condyle_points(meshes[id], axes.implants[id].T_implant_axes)
            for k, half in enumerate(halves if axes.side == "right" else halves[::-1]):  # medial, then lateral
                columns = np.ix_(at, range(3 * k, 3 * k + 3))
                found[columns] = lowest_points(half, T_tibia_femur[at])
                deviations[columns] = lowest_deviations(half, T_tibia_femur[at], covariance[at])
    # From x, y, z of the tibia's axes to medial, anterior, superior.
    order = [0, 2, 1, 3, 5, 4]
    return np.asarray(found[:, order] * np.array([sign, 1.0, 1.0] * 2)), deviations[:, order]


def _pivots(frames: JointFrames, lowest: FloatArray, usable: np.ndarray) -> dict[int, tuple[float, float]]:
    found = {}
    for trial in frames.trials():
        points = np.where(usable[trial, None], lowest[trial], np.nan)
        at = pivot(points[:, :2], points[:, 3:5])
        if at is not None:
            found[int(frames.trial_id[trial.start])] = float(at[0]), float(at[1])
    return found


def _smoothed(
    frames: JointFrames,
    T_tibia_femur: FloatArray,
    covariances: tuple[FloatArray, FloatArray],
    usable: np.ndarray,
    side: Side,
    convention: JointConvention,
) -> tuple[dict[str, FloatArray], Noise]:
    """Smoothed coordinates and velocities, with their deviations; without times, a frame counts as a second."""
    timed = np.isfinite(frames.time_s).all()
    time_s = frames.time_s if timed else frames.frame_index.astype(np.float64)
    found = smooth(T_tibia_femur, *covariances, usable, time_s, frames.trials())
    values, deviations = _with_deviations(found.T_tibia_femur, found.covariance, side, convention)
    _, own_deviations = _with_deviations(found.T_tibia_femur, found.own, side, convention)
    columns = _named(values, "smoothed_{}") | _named(deviations, "smoothed_{}_sd")
    columns |= _named(own_deviations, "smoothed_{}_frame_sd")
    velocity = np.full_like(found.velocity, np.nan) if not timed else found.velocity
    known = np.isfinite(velocity).all(axis=1)
    rate, of_rate = np.full_like(velocity, np.nan), np.full_like(velocity, np.nan)
    J = coordinate_derivatives(found.T_tibia_femur[known], side, convention)
    rate[known] = (J @ velocity[known, :, None])[..., 0]
    of_rate[known] = np.sqrt(np.einsum("nij,njk,nik->ni", J, found.velocity_covariance[known], J))
    return columns | _named(rate, "smoothed_{}_s") | _named(of_rate, "smoothed_{}_s_sd"), found.noise


def _metadata(axes: KneeAxes, convention: JointConvention, noise: Noise | None, all_verdicts: bool) -> dict[str, str]:
    """What the numbers of the file mean."""
    implants = {
        str(id): {"component": each.component, "from": each.found_in, "T_implant_axes": each.T_implant_axes.tolist()}
        for id, each in sorted(axes.implants.items())
    }
    about = {
        "signs": SIGNS + TRANSLATIONS[convention],
        "side": axes.side,
        "axes": json.dumps(implants),
        "deviations": "one standard deviation, of first order from the covariances of the poses; errors of femur and "
        "tibia correlated as the poses state, otherwise taken as independent; null where unknown. frame_sd: the part "
        "that differs from frame to frame; the rest is the same in neighbouring frames",
        "used": "frames of every verdict" if all_verdicts else "velocities and smoothing: frames that have converged",
    }
    if noise is not None:
        about["smoothing"] = json.dumps(
            {
                "model": "white accelerations on SE(3)",
                "acceleration_mm_deg_per_s1.5": noise.acceleration.tolist(),
                "noise_to_stated_deviation": noise.ratio.tolist(),
            }
        )
    return about
