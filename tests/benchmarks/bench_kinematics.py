"""Kinematics of simulated trials with errors of known size: ``python -m tests.benchmarks.bench_kinematics FOLDER``.

What smoothing gains, how often stated bands hold the truth, also those of registered trials, and processor time.
FOLDER keeps every part, so that an interrupted run resumes; names of parts after it measure these alone. Writes
RESULTS_KINEMATICS.md once all parts are there.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import trimesh

from tests.benchmarks.processes import run_watched
from tests.benchmarks.table import Row, write_table
from tests.jobs.processes import run_here
from tests.knee.motions import disturbed, own_axes, table_of
from veriserum_hf.core import COMPONENTS, FloatArray, Table
from veriserum_hf.dataset import open_rows
from veriserum_hf.knee import COORDINATES, counted, kinematics
from veriserum_hf.poses import DEVIATIONS_95, write_poses
from veriserum_hf.simulation import Settings, simulate, trial

RESULTS = Path(__file__).with_name("RESULTS_KINEMATICS.md")
_TRIALS, _FRAMES, _RATE_HZ = 4, 200, 30
_DEVIATIONS = (1.0, 0.3, 0.1, 0.03)  # mm and deg, of each of the six errors of a pose
_DOMINATING = 0.3  # from which noise is larger than what the motion between two frames hides
_MANY = 10_000
# Registered: with exact cameras and meshes, and with errors of the deviations that registrations assume, which are
# the same in all frames of a session and of an implant; so there are many sessions of few frames.
_EXACT, _OFF = "exact", "cameras and meshes off as assumed"
_SETTINGS = {
    _EXACT: {"trials": 6, "frames_per_trial": 10},
    _OFF: {
        "trials": 6,
        "frames_per_trial": 2,
        "fs_translation_mm": 0.26,  # 0.15 along each axis
        "fs_rotation_deg": 0.07,
        "principal_point_sd_mm": 0.2,
        "sid_sd_mm": 1.85,
    },
}
_MESH_SD_MM = 0.1
_SEEDS = {_EXACT: (7,), _OFF: (7, 8, 9, 10)}
# Bands of 95 % of raw values, and of smoothed ones; those that end in frame_sd are of what differs between frames.
_BANDS = ("sd", "frame_sd")
Measured = Mapping[str, object]  # what a part has found, as JSON


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


def _smoothing(deviation: float, folder: Path) -> Measured:
    """Root mean square errors of the six coordinates, and shares of the 95 % bands that hold the truth."""
    del folder
    truth = _values(kinematics(simulated_poses(0), own_axes()).table, COORDINATES)
    table = kinematics(simulated_poses(deviation), own_axes(), frame_rate_hz=_RATE_HZ, smoothed=True).table
    found = {}
    for what, prefix in (("raw", ""), ("smoothed", "smoothed_")):
        errors = _values(table, tuple(f"{prefix}{name}" for name in COORDINATES)) - truth
        deviations = _values(table, tuple(f"{prefix}{name}_sd" for name in COORDINATES))
        found[what] = np.sqrt(np.mean(errors**2, axis=0)).tolist()
        found[f"in 95 % bands, {what}"] = np.mean(np.abs(errors) < DEVIATIONS_95 * deviations, axis=0).tolist()
    return found


def _registered(world: str, seed: int, folder: Path) -> Measured:
    """Errors and deviations, (n, 6) each, of the converged frames of short registered trials."""
    archive = simulate(
        folder / f"archive-{world.split()[0]}-{seed}",
        Settings(height_px=800, marker_frames=0, seed=seed, **_SETTINGS[world]),
        workers=1,
    )
    meshes = open_rows(str(archive), ("calibrated",), archive_px=512).meshes
    if world == _OFF:
        rng = np.random.default_rng(seed)
        for id, mesh in sorted(meshes.items()):
            wrong = mesh.copy()
            wrong.vertices = mesh.vertices + rng.normal(0, _MESH_SD_MM) * mesh.vertex_normals
            wrong.export(archive / "veriserum_anatomies" / f"ana_{id:06d}.stl")
    file = folder / f"{archive.name}.parquet"
    ended = run_here("register", archive, "--start", "target", "--output", file, "--workers", 1)
    if ended.returncode not in (0, 3):
        raise RuntimeError(f"register ended with {ended.returncode}: {ended.stderr[-500:]}")
    return _compared(archive, file, meshes)


def _compared(archive: Path, file: Path, meshes: Mapping[int, trimesh.Trimesh]) -> Measured:
    """Errors and deviations of registered poses, with the axes of the true meshes."""
    options = {"meshes": meshes, "frame_rate_hz": _RATE_HZ}
    truth = _values(kinematics(archive / "truth.parquet", "right", **options).table, COORDINATES)
    table = kinematics(file, "right", smoothed=True, **options).table
    good = counted(table["verdict"].to_pylist())
    found = {"trial": np.array(table["trial_id"].to_pylist())[good].tolist()}
    for what, prefix in (("raw", ""), ("smoothed", "smoothed_")):
        names = [f"{prefix}{name}" for name in COORDINATES]
        found[f"error, {what}"] = (_values(table, tuple(names)) - truth)[good].tolist()
        for band in _BANDS:
            deviations = _values(table, tuple(f"{name}_{band}" for name in names))[good]
            found[f"{band}, {what}"] = deviations.tolist()
    return found


def _cost(options: tuple[str, ...], folder: Path) -> Measured:
    """Processor time and memory of the command."""
    folder = folder / f"cost{''.join(options)}"
    folder.mkdir(exist_ok=True)
    simulate(folder / "archive", Settings(trials=1, frames_per_trial=1, pairs=1, height_px=200, marker_frames=0))
    write_poses(folder / "poses.parquet", simulated_poses(0.1, _MANY // _FRAMES))
    command = ("veriserum_hf", "kinematics", f"{folder}/poses.parquet", "--side", "right", "--frame-rate", "30")
    files = ("--dataset", f"{folder}/archive", "--output", f"{folder}/knee.csv")
    ended = run_watched(sys.executable, "-m", *command, *files, *options, cache=folder)
    return {"cpu_s": ended.cpu_s, "peak_mb": ended.peak_mb}


_PARTS: dict[str, Callable[[Path], Measured]] = {
    **{f"smoothing-{deviation:g}": partial(_smoothing, deviation) for deviation in _DEVIATIONS},
    **{
        f"registered-{world.split()[0]}-{seed}": partial(_registered, world, seed)
        for world, seeds in _SEEDS.items()
        for seed in seeds
    },
    "cost": partial(_cost, ()),
    "cost--smooth": partial(_cost, ("--smooth",)),
}


def _smoothing_table(found: Mapping[float, Measured]) -> Table:
    rows = []
    for deviation, each in found.items():
        for n, (what, values) in enumerate(sorted(each.items(), key=lambda item: "bands" in item[0])):
            begin = f"{deviation:g} mm, {deviation:g} deg" if n == 0 else ""
            rows.append([begin, what, *_shown(what, values)])
    return Table(["errors of each pose", "", *COORDINATES], rows, alignment="llr")


def _registered_figures(parts: list[Measured], world: str) -> dict[str, FloatArray]:
    """Errors, median deviations and shares of the bands that hold the truth, of each coordinate."""
    pooled = {name: np.concatenate([np.array(part[name]) for part in parts]) for name in parts[0] if name != "trial"}
    figures = {}
    for what in ("raw", "smoothed") if world == _EXACT else ("raw",):  # two frames of a trial are not smoothed
        errors = pooled[f"error, {what}"]
        figures[f"error, {what}"] = np.sqrt(np.mean(errors**2, axis=0))
        for band in _BANDS:
            deviations = pooled[f"{band}, {what}"]
            figures[f"stated `_{band}`, {what}"] = np.median(deviations, axis=0)
            figures[f"in 95 % bands by `_{band}`, {what}"] = np.mean(
                np.abs(errors) < DEVIATIONS_95 * deviations, axis=0
            )
    return figures


def _registered_table(found: Mapping[str, Mapping[str, FloatArray]]) -> Table:
    rows = []
    for world, figures in found.items():
        for n, (what, values) in enumerate(figures.items()):
            rows.append([world if n == 0 else "", what, *_shown(what, values)])
    return Table(["world", "", *COORDINATES], rows, alignment="llr")


def _shown(what: str, values: FloatArray) -> list[str]:
    return [f"{100 * value:.0f} %" if "bands" in what else f"{value:.3f}" for value in values]


def _rows(
    smoothing: Mapping[float, Measured],
    registered: Mapping[str, Mapping[str, FloatArray]],
    costs: Mapping[str, Measured],
) -> Iterator[Row]:
    gains = {
        deviation: float(np.sqrt(np.mean(np.square(each["raw"])) / np.mean(np.square(each["smoothed"]))))
        for deviation, each in smoothing.items()
    }
    least = min(gain for deviation, gain in gains.items() if deviation >= _DOMINATING)
    what = f"Errors of all six, raw / smoothed, from {_DOMINATING:g} mm and deg: least"
    yield Row(what, f"{least:.2f} times", "at least 1.5 times", least >= 1.5)
    ratios = [np.divide(each["smoothed"], each["raw"]) for each in smoothing.values()]
    exact = registered[_EXACT]
    ratios.append(exact["error, smoothed"] / exact["error, raw"])
    worst = float(np.max(ratios))
    yield Row("Error of one of the six, smoothed / raw: largest", f"{worst:.2f}", "at most 1.05", worst <= 1.05)
    for what in ("raw", "smoothed"):
        yield _held(
            f"95 % bands that hold the truth, {what}", [e[f"in 95 % bands, {what}"] for e in smoothing.values()]
        )
    yield _held(f"the same of registered trials, {_OFF}", [registered[_OFF]["in 95 % bands by `_sd`, raw"]])
    yield _held("the same of `_frame_sd`, exact", [exact["in 95 % bands by `_frame_sd`, raw"]])
    for part, measured in costs.items():
        what = f"`veriserum kinematics{part.removeprefix('cost').replace('--', ' --')}`, {_MANY:,} frames"
        found = f"{measured['cpu_s']:.1f} CPU-s, {measured['peak_mb']:.0f} MB"
        yield Row(what, found, "at most 20 CPU-s", measured["cpu_s"] <= 20)


def _held(what: str, shares: list[FloatArray]) -> Row:
    low, high = float(np.min(shares)), float(np.max(shares))
    met = low >= 0.85 and high <= 0.99
    return Row(what, f"{100 * low:.0f} to {100 * high:.0f} %", "85 to 99 % of each of the six", met)


def main() -> None:
    """Measure the parts that are missing, and write all tables."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: folder / f"{name}.json" for name in _PARTS}
    for name in names or _PARTS:
        if not kept[name].exists():
            print(f"measuring {name}", flush=True)
            kept[name].write_text(json.dumps(_PARTS[name](folder)))
    if not all(file.exists() for file in kept.values()):
        return
    found = {name: json.loads(file.read_text()) for name, file in kept.items()}
    smoothing = {deviation: found[f"smoothing-{deviation:g}"] for deviation in _DEVIATIONS}
    registered = {
        world: _registered_figures([found[f"registered-{world.split()[0]}-{seed}"] for seed in seeds], world)
        for world, seeds in _SEEDS.items()
    }
    before = (
        f"Root mean square errors, and bands that hold the truth:\n\n{_smoothing_table(smoothing).markdown()}\n\n"
        f"Registered trials, converged frames:\n\n{_registered_table(registered).markdown()}"
    )
    with_what = (
        f"poses of {_TRIALS} simulated trials of {_FRAMES} frames at {_RATE_HZ} Hz, with errors drawn for each frame "
        "and component; registered from target poses, raw frames of 832 x 800 px: 6 trials of 10 frames, and 24 of "
        "2 frames in 12 sessions, each with its own errors"
    )
    costs = {name: found[name] for name in ("cost", "cost--smooth")}
    write_table("Kinematics", _rows(smoothing, registered, costs), with_what, RESULTS, before=before)


if __name__ == "__main__":
    main()
