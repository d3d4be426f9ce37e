"""Kinematics of simulated trials with errors of known size: ``python -m tests.benchmarks.bench_kinematics``.

What smoothing gains, how often stated bands hold the truth, also those of registered trials, and processor time.
Writes RESULTS_KINEMATICS.md.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.benchmarks.processes import run_watched
from tests.benchmarks.table import Row, write_table
from tests.knee.motions import disturbed, own_axes, table_of
from veriserum_hf.core import COMPONENTS, FloatArray, Table
from veriserum_hf.dataset import open_rows
from veriserum_hf.knee import COORDINATES, kinematics
from veriserum_hf.poses import write_poses
from veriserum_hf.simulation import Settings, simulate, trial

RESULTS = Path(__file__).with_name("RESULTS_KINEMATICS.md")
_TRIALS, _FRAMES, _RATE_HZ = 4, 200, 30
_DEVIATIONS = (1.0, 0.3, 0.1, 0.03)  # mm and deg, of each of the six errors of a pose
_DOMINATING = 0.3  # from which noise is larger than what the motion between two frames hides
_SMOOTHED = tuple(f"smoothed_{name}" for name in COORDINATES)
_MANY = 10_000
# Registered: cameras that are exact, and ones with errors of the deviations that registrations assume.
_REGISTERED = {
    "exact": {"frames_per_trial": 24},
    "off as assumed": {
        "frames_per_trial": 20,
        "fs_translation_mm": 0.26,  # 0.15 along each axis
        "fs_rotation_deg": 0.07,
        "principal_point_sd_mm": 0.2,
        "sid_sd_mm": 1.85,
    },
}


def simulated_poses(deviation: float, trials: int = _TRIALS) -> pa.Table:
    """Poses of simulated trials, with errors that are independent in all frames and components."""
    rng = np.random.default_rng(1)
    settings = Settings(trials=_TRIALS, frames_per_trial=_FRAMES)
    tables = []
    for number in range(trials):
        shown = trial(settings, number % _TRIALS)
        exact = [np.array([shown.pose(name, frame) for frame in range(_FRAMES)]) for name in COMPONENTS]
        covariance = deviation**2 * np.eye(6)
        moved = [disturbed(T, covariance, rng) for T in exact] if deviation else exact
        tables.append(table_of(*moved, covariance, trial_id=number, first_id=1 + number * _FRAMES))
    return pa.concat_tables(tables)


def _values(table: pa.Table, names: tuple[str, ...]) -> FloatArray:
    return np.stack([table[name].to_numpy() for name in names], axis=-1)


def _errors(deviation: float) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Root mean square errors of the six coordinates, and shares of the 95 % bands that hold the truth."""
    truth = _values(kinematics(simulated_poses(0), own_axes()).table, COORDINATES)
    table = kinematics(simulated_poses(deviation), own_axes(), frame_rate_hz=_RATE_HZ, smoothed=True).table
    found = {}
    for what, names in (("raw", COORDINATES), ("smoothed", _SMOOTHED)):
        errors = _values(table, names) - truth
        held = np.abs(errors) < 1.96 * _values(table, tuple(f"{name}_sd" for name in names))
        found[what] = np.sqrt(np.mean(errors**2, axis=0)), held.mean(axis=0)
    return found


def _table(errors: dict[float, dict[str, tuple[FloatArray, FloatArray]]]) -> Table:
    rows = []
    for deviation, found in errors.items():
        for n, (what, (rms, _)) in enumerate(found.items()):
            begin = f"{deviation:g} mm, {deviation:g} deg" if n == 0 else ""
            rows.append([begin, what, *(f"{value:.3f}" for value in rms)])
        for what, (_, held) in found.items():
            rows.append(["", f"in 95 % bands, {what}", *(f"{100 * share:.0f} %" for share in held)])
    return Table(["errors of each pose", "", *COORDINATES], rows, alignment="llr")


def _registered(folder: Path, cameras: str) -> dict[str, FloatArray]:
    """Errors, deviations and shares of bands that hold the truth, of ten short registered trials."""
    settings = {"trials": 10, "height_px": 800, "marker_frames": 0, "seed": 7}
    archive = simulate(folder / "archive", Settings(**settings, **_REGISTERED[cameras]), workers=1)
    file = folder / "registered.parquet"
    command = (sys.executable, "-m", "veriserum_hf", "register", str(archive), "--start", "target")
    run_watched(*command, "--output", str(file), "--workers", "1", cache=folder / "cache", statuses=(0, 3))
    return _figures(archive, file)


def _figures(archive: Path, file: Path) -> dict[str, FloatArray]:
    meshes = open_rows(str(archive), ("calibrated",), archive_px=512).meshes
    options = {"meshes": meshes, "frame_rate_hz": _RATE_HZ}
    truth = _values(kinematics(archive / "truth.parquet", "right", **options).table, COORDINATES)
    table = kinematics(file, "right", smoothed=True, **options).table
    good = np.array(table["verdict"].to_pylist()) == "converged"
    found = {}
    for what, names in (("raw", COORDINATES), ("smoothed", _SMOOTHED)):
        errors = (_values(table, names) - truth)[good]
        deviations = _values(table, tuple(f"{name}_sd" for name in names))[good]
        found[f"error, {what}"] = np.sqrt(np.mean(errors**2, axis=0))
        found[f"stated SD, {what}"] = np.median(deviations, axis=0)
        found[f"in 95 % bands, {what}"] = np.mean(np.abs(errors) < 1.96 * deviations, axis=0)
    return found


def _registered_table(found: dict[str, dict[str, FloatArray]]) -> Table:
    rows = []
    for cameras, figures in found.items():
        for n, (what, values) in enumerate(figures.items()):
            shown = [f"{100 * value:.0f} %" if "bands" in what else f"{value:.3f}" for value in values]
            rows.append([cameras if n == 0 else "", what, *shown])
    return Table(["cameras", "", *COORDINATES], rows, alignment="llr")


def _rows(
    errors: dict[float, dict[str, tuple[FloatArray, FloatArray]]], registered: dict[str, dict[str, FloatArray]]
) -> Iterator[Row]:
    gains = {
        deviation: float(np.sqrt(np.mean(found["raw"][0] ** 2) / np.mean(found["smoothed"][0] ** 2)))
        for deviation, found in errors.items()
    }
    least = min(gain for deviation, gain in gains.items() if deviation >= _DOMINATING)
    yield Row(
        f"Errors of all six, raw / smoothed, from {_DOMINATING:g} mm and deg: least",
        f"{least:.2f} times",
        "at least 1.5 times",
        least >= 1.5,
    )
    worst = max(float(np.max(found["smoothed"][0] / found["raw"][0])) for found in errors.values())
    yield Row("Error of one of the six, smoothed / raw: largest", f"{worst:.2f}", "at most 1.05", worst <= 1.05)
    for what in ("raw", "smoothed"):
        shares = np.array([found[what][1] for found in errors.values()])
        measured = f"{100 * shares.min():.0f} to {100 * shares.max():.0f} %"
        met = bool(shares.min() >= 0.85 and shares.max() <= 0.99)
        yield Row(f"95 % bands that hold the truth, {what}", measured, "85 to 99 % of each of the six", met)
    shares = np.array(
        [each[f"in 95 % bands, {what}"] for each in registered.values() for what in ("raw", "smoothed")]
    )
    measured = f"{100 * shares.min():.0f} to {100 * shares.max():.0f} %"
    met = bool(shares.min() >= 0.85 and shares.max() <= 0.99)
    yield Row("the same of registered trials", measured, "85 to 99 % of each of the six", met)
    with tempfile.TemporaryDirectory() as folder:
        yield from _costs(Path(folder))


def _costs(folder: Path) -> Iterator[Row]:
    simulate(folder / "archive", Settings(trials=1, frames_per_trial=1, pairs=1, height_px=200, marker_frames=0))
    write_poses(folder / "poses.parquet", simulated_poses(0.1, _MANY // _FRAMES))
    command = ("veriserum_hf", "kinematics", f"{folder}/poses.parquet", "--side", "right", "--frame-rate", "30")
    files = ("--dataset", f"{folder}/archive", "--output", f"{folder}/knee.csv")
    for options in ((), ("--smooth",)):
        ended = run_watched(sys.executable, "-m", *command, *files, *options, cache=folder)
        measured = f"{ended.cpu_s:.1f} CPU-s, {ended.peak_mb:.0f} MB"
        what = f"`veriserum kinematics {' '.join(options)}`".replace(" `", "`")
        yield Row(f"{what}, {_MANY:,} frames", measured, "at most 20 CPU-s", ended.cpu_s <= 20)


def main() -> None:
    """Write all tables."""
    errors = {deviation: _errors(deviation) for deviation in _DEVIATIONS}
    registered = {}
    for cameras in _REGISTERED:
        with tempfile.TemporaryDirectory() as folder:
            registered[cameras] = _registered(Path(folder), cameras)
    before = (
        f"Root mean square errors, and bands that hold the truth:\n\n{_table(errors).markdown()}\n\n"
        f"Registered trials, converged frames:\n\n{_registered_table(registered).markdown()}"
    )
    with_what = (
        f"poses of {_TRIALS} simulated trials of {_FRAMES} frames at {_RATE_HZ} Hz, with errors drawn for each frame "
        "and component; registered: 10 simulated trials of 24 and 20 frames, raw frames of 832 x 800 px, from "
        "target poses"
    )
    write_table("Kinematics", _rows(errors, registered), with_what, RESULTS, before=before)


if __name__ == "__main__":
    main()
