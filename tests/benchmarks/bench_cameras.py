"""Cameras refined from implants in their frames: ``... bench_cameras FOLDER [--conditions exact,fs-2 ...]``.

Frames, and what came of each seed and condition, are kept below FOLDER under a name that follows from the code that
made them: an interrupted run resumes, and changed code starts again.
"""

import argparse
import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, get_args

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from tests.benchmarks.pose_errors import held, pose_error
from tests.benchmarks.rig_motion import velocities_of
from tests.benchmarks.table import CORES, Row, write_table
from tests.benchmarks.wrong_rigs import Errors, Recording, recording
from veriserum_hf.calibration import RefinedRig, RigVerdict
from veriserum_hf.core import CAMERA_OF, COMPONENTS, PLANES, Component, FloatArray, FrameRow, Table
from veriserum_hf.geometry import Camera, invert_transform
from veriserum_hf.registration.cameras.refine import refined_rig, registered_frame
from veriserum_hf.registration.cameras.unknowns import Free, Tolerances
from veriserum_hf.registration.deviations import Deviations
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.refine import register

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests/benchmarks/RESULTS_CAMERAS.md"
SEEDS, TRIALS = 10, 10
_MANY_FRAMES = 100
_FEW = 3  # seeds
_POSES = 4  # frames of a seed that are registered before and after


class Condition(NamedTuple):
    """What is wrong, and what is refined."""

    text: str
    errors: Errors
    free: tuple[Free, ...] = ("fs-pose",)
    tolerances: Tolerances = Tolerances()
    frames: int = 40
    seeds: int = SEEDS


_WITH_TIME: tuple[Free, ...] = ("fs-pose", "time")
_ALL_FREE: tuple[Free, ...] = ("fs-pose", "sid", "principal-point")
_WIDE = Tolerances(plane_mm=8.0, principal_point_mm=1.0, sid_mm=5.0)  # a wrong distance moves the source, too
CONDITIONS = {
    "exact": Condition("exact cameras", Errors()),
    "fs-0.5": Condition("fs off by 0.5 mm, 0.1 deg", Errors(fs_mm=0.5, fs_deg=0.1)),
    "fs-2": Condition("fs off by 2 mm, 0.5 deg", Errors(fs_mm=2, fs_deg=0.5)),
    "fs-5": Condition(
        "fs off by 5 mm, 1 deg", Errors(fs_mm=5, fs_deg=1), tolerances=Tolerances(plane_mm=5, plane_deg=1)
    ),
    "tolerances": Condition(
        "fs off by 2 mm, 0.5 deg, all else by its tolerance (SD): principal points 0.2 mm, distances 2 mm, meshes "
        "0.1 mm",
        Errors(fs_mm=2, fs_deg=0.5, principal_sd_mm=0.2, sid_sd_mm=2, offset_sd_mm=0.1),
    ),
    "fs-2-many": Condition("fs off by 2 mm, 0.5 deg", Errors(fs_mm=2, fs_deg=0.5), frames=_MANY_FRAMES, seeds=_FEW),
    "pp": Condition("principal points off by 1 mm (SD)", Errors(principal_sd_mm=1), _ALL_FREE, _WIDE, 30, _FEW),
    "sid": Condition("distances off by 5 mm (SD)", Errors(sid_sd_mm=5), _ALL_FREE, _WIDE, 30, _FEW),
    "mesh": Condition("meshes 0.1 mm too thick", Errors(offset_mm=0.1), frames=30, seeds=_FEW),
    "all": Condition(
        "all of these, and fs off by 2 mm, 0.5 deg",
        Errors(fs_mm=2, fs_deg=0.5, principal_sd_mm=1, sid_sd_mm=5, offset_mm=0.1),
        _ALL_FREE,
        _WIDE,
        30,
        _FEW,
    ),
    "late-2": Condition("fs exposed 2 ms earlier or later", Errors(apart_ms=2), _WITH_TIME, frames=30, seeds=_FEW),
    "late-5": Condition("fs exposed 5 ms earlier or later", Errors(apart_ms=5), _WITH_TIME, frames=30, seeds=_FEW),
    "late-10": Condition("fs exposed 10 ms earlier or later", Errors(apart_ms=10), _WITH_TIME, frames=30, seeds=_FEW),
}


_OF_POSES = ("exact", "fs-0.5", "fs-2", "fs-5", "tolerances")  # before and after


class Job(NamedTuple):
    """A condition with a seed."""

    condition: str
    seed: int


def done(folder: Path, job: Job) -> dict[str, Any]:
    """Refine the cameras of a seed, or read what came of it before."""
    path = folder / f"results-{_fingerprint()}" / job.condition / f"{job.seed}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    condition = CONDITIONS[job.condition]
    seen = recording(folder, job.seed, condition.errors, condition.frames, TRIALS)
    implants = {id: Implant(id, mesh) for id, mesh in seen.meshes.items()}
    is_late = "time" in condition.free
    began = time.process_time()
    moving = velocities_of(seen, job.seed, condition.errors.apart_ms, condition.frames, TRIALS) if is_late else {}
    observed = [registered_frame(row, _poses(row), implants, moving.get(row["measurement_id"])) for row in seen.rows]
    trials = sorted({row["trial_id"] for row in seen.rows})
    rig = refined_rig(f"seed {job.seed}", trials, observed, condition.free, condition.tolerances)
    cpu_s = time.process_time() - began
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {
        "verdict": rig.verdict,
        "reason": rig.details["reason"],
        "frames": len(rig.details["frames"]),
        "misfit_px": rig.details["left_out_misfit_px"],
        "not_determined": rig.details["not_determined"],
        "unknowns": list(rig.unknowns),
        "error": (rig.estimate - _truth(seen, rig)).tolist(),
        "sd": np.sqrt(np.diag(rig.covariance)).tolist(),
        "cpu_s": cpu_s,
        "memory_mb": memory_mb,
        "poses": _registered(seen, rig, job.condition) if job.condition in _OF_POSES else {},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:  # whole or not at all
        json.dump(result, file)
    Path(file.name).replace(path)
    return result


def _poses(row: FrameRow) -> dict[Component, Any]:
    return {name: row[name] for name in COMPONENTS if row[name] is not None}


def _truth(seen: Recording, rig: RefinedRig) -> FloatArray:
    """What would make the stored cameras the true ones, in the order of the rig's unknowns."""
    true, stored = ({name: Camera.from_row(row[CAMERA_OF[name]]) for name in PLANES} for row in _first_rows(seen))
    T = _to_stored_world(seen) @ invert_transform(true["fs"].world_to_camera) @ stored["fs"].world_to_camera
    shift_mm = T[:3, :3] @ rig.center_mm + T[:3, 3] - rig.center_mm
    rotation_deg = Rotation.from_matrix(T[:3, :3]).as_rotvec(degrees=True)
    values = {f"fs shift {axis} mm": shift_mm[n] for n, axis in enumerate("xyz")}
    values |= {f"fs rotation {axis} deg": rotation_deg[n] for n, axis in enumerate("xyz")}
    for name in PLANES:
        K, K_stored = true[name].intrinsics, stored[name].intrinsics
        row = seen.rows[0][CAMERA_OF[name]]
        apart_mm = (K - K_stored)[:2, 2] * row["pixel_size_mm"]
        values |= {f"{name} principal point {axis} mm": apart_mm[n] for n, axis in enumerate("xy")}
        values["fs late ms"] = seen.late_ms
        values[f"{name} sid mm"] = (K[0, 0] / K_stored[0, 0] - 1) * row["source_to_intensifier_mm"]
    return np.array([values[name] for name in rig.unknowns])


def _first_rows(seen: Recording) -> tuple[FrameRow, FrameRow]:
    return seen.true_rows[0], seen.rows[0]


def _to_stored_world(seen: Recording) -> FloatArray:
    """From the true world to that in which source and axes of the stored camera bs are those of the true one."""
    true, stored = (Camera.from_row(row[CAMERA_OF["bs"]]) for row in _first_rows(seen))
    return invert_transform(stored.world_to_camera) @ true.world_to_camera


def _registered(seen: Recording, rig: RefinedRig, condition: str) -> dict[str, list[dict[str, Any]]]:
    """Poses of some frames by the stored and the refined cameras, or by the true ones where nothing is wrong."""
    chosen = np.linspace(0, len(seen.rows) - 1, _POSES).astype(int).tolist()
    after = Deviations(plane_covariance=rig.plane_covariance)
    found: dict[str, list[dict[str, Any]]] = {}
    to_stored = _to_stored_world(seen)
    for n in chosen:
        refined = dict(seen.rows[n])
        for plane in PLANES:
            refined[CAMERA_OF[plane]] = rig.replaced(plane, refined[CAMERA_OF[plane]])
        ways = {"stored": (seen.rows[n], Deviations()), "refined": (refined, after)}
        if condition == "exact":
            ways = {"true": ways["stored"]}
        for name, (row, deviations) in ways.items():
            poses = register(row, seen.meshes, _poses(row), method="outline", deviations=deviations)
            T = [poses[each].T_world_implant for each in COMPONENTS]
            T_true = [to_stored @ seen.poses[n][each] for each in COMPONENTS]
            joint = pose_error(invert_transform(T[0]) @ T[1], invert_transform(T_true[0]) @ T_true[1])
            found.setdefault(name, []).append(
                {
                    "error": [pose_error(*each).tolist() for each in zip(T, T_true, strict=True)],
                    "sigma": [np.sqrt(np.diag(poses[each].covariance)).tolist() for each in COMPONENTS],
                    "verdict": [poses[each].verdict for each in COMPONENTS],
                    "joint": joint.tolist(),
                }
            )
    return found


def _fingerprint() -> str:
    """Hash of the code that makes a result."""
    files = [
        ROOT / "tests/benchmarks" / name
        for name in ("bench_cameras.py", "wrong_rigs.py", "rig_motion.py", "pose_errors.py")
    ]
    for room in ("registration", "rendering", "geometry", "calibration", "core"):
        files += sorted((ROOT / "veriserum_hf" / room).glob("**/*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:10]


def several(folder: Path, conditions: Sequence[str], seeds: int, workers: int) -> dict[str, list[dict[str, Any]]]:
    """Results by condition."""
    jobs = [Job(name, seed) for seed in range(seeds) for name in conditions if seed < CONDITIONS[name].seeds]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in conditions}
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for job, result in zip(jobs, pool.map(partial(_in_a_process, folder), jobs), strict=True):
            found[job.condition].append(result)
            print(job.condition, job.seed, result["verdict"], result["reason"], flush=True)
    return found


def _in_a_process(folder: Path, job: Job) -> dict[str, Any]:
    cv2.setNumThreads(1)
    return done(folder, job)


_PARTS = {
    "vertical shift": ("fs shift y mm",),
    "horizontal shifts": ("fs shift x mm", "fs shift z mm"),
    "rotations about horizontal axes": ("fs rotation x deg", "fs rotation z deg"),
    "rotation about the vertical": ("fs rotation y deg",),
    "principal points": tuple(f"{plane} principal point {axis} mm" for plane in PLANES for axis in "xy"),
    "distances": tuple(f"{plane} sid mm" for plane in PLANES),
    "time between the planes": ("fs late ms",),
}


def unknowns_table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Errors of the unknowns and their intervals, by condition."""
    rows = []
    for name, of_seeds in results.items():
        verdicts = [sum(each["verdict"] == word for each in of_seeds) for word in get_args(RigVerdict)]
        cells = [" / ".join(map(str, verdicts))]
        for part in _PARTS.values():
            error, sd = _values(of_seeds, part)
            share = np.mean(np.abs(error) <= 1.96 * sd) if len(error) else np.nan
            cells.append(
                f"{np.median(np.abs(error)):.3f} ({np.median(sd):.3f}), {share:.0%}" if len(error) else "held"
            )
        before, after = (np.median([each["misfit_px"][which] for each in of_seeds]) for which in ("before", "after"))
        weak = ", ".join(part for part, names in _PARTS.items() if _is_weak(of_seeds, names))
        rows.append([CONDITIONS[name].text, str(CONDITIONS[name].frames), *cells, f"{before:.3f}, {after:.3f}", weak])
    of_parts = [f"{part}, {names[0].rpartition(' ')[2]}" for part, names in _PARTS.items()]
    header = ["what is wrong", "frames", f"seeds: {' / '.join(get_args(RigVerdict))}", *of_parts]
    header += ["frames left out: px before, after", "named as not determined"]
    return Table(header, rows, alignment="l").markdown()


def _is_weak(of_seeds: Sequence[dict[str, Any]], names: Sequence[str]) -> bool:
    """Whether most seeds name some of these as not determined."""
    named = [any(name in each["not_determined"] for name in names) for each in of_seeds]
    return sum(named) > len(named) / 2


def _values(of_seeds: Sequence[dict[str, Any]], names: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Errors and deviations of some unknowns, of all seeds."""
    found = [
        (each["error"][n], each["sd"][n])
        for each in of_seeds
        for n, name in enumerate(each["unknowns"])
        if name in names
    ]
    error, sd = np.array(found).reshape(-1, 2).T
    return error, sd


def poses_table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Poses by the stored, the refined and the true cameras, by condition."""
    rows = []
    for name, of_seeds in results.items():
        for cameras in ("stored", "refined", "true"):
            if not (frames := _frames(of_seeds, cameras)):
                continue
            error, sigma = (np.array([each[of] for each in frames]).reshape(-1, 6) for of in ("error", "sigma"))
            joint = np.array([each["joint"] for each in frames])
            verdicts = [word for each in frames for word in each["verdict"]]
            counts = " / ".join(str(verdicts.count(word)) for word in ("converged", "ambiguous", "failed"))
            cells = [f"{np.median(np.linalg.norm(each, axis=1)):.3f}" for each in _split(joint) + _split(error)]
            rows.append([CONDITIONS[name].text, cameras, *cells, f"{held(error, sigma):.0%}", counts])
    header = ["what is wrong", "cameras", "tibia in the femur: mm", "deg", "in the world: mm", "deg"]
    header += ["95 % intervals that hold the truth", "converged / ambiguous / failed"]
    return Table(header, rows, alignment="l").markdown()


def _frames(of_seeds: Sequence[dict[str, Any]], cameras: str) -> list[dict[str, Any]]:
    return [frame for each in of_seeds for frame in each["poses"].get(cameras, [])]


def _split(errors: FloatArray) -> list[FloatArray]:
    return [errors[:, :3], errors[:, 3:]]


def requirements(results: dict[str, list[dict[str, Any]]]) -> Iterator[Row]:
    """The required figures."""
    off = [name for name in ("fs-0.5", "fs-2", "fs-5") if name in results]
    for name in off:
        text = CONDITIONS[name].text
        for part, limit in (
            ("vertical shift", 0.05),
            ("rotations about horizontal axes", 0.01),
            ("rotation about the vertical", 0.01),
        ):
            error, _ = _values(results[name], _PARTS[part])
            unit = "mm" if part.endswith("shift") else "deg"
            median = float(np.median(np.abs(error)))
            yield Row(
                f"{text}: {part}, median error", f"{median:.3f} {unit}", f"at most {limit} {unit}", median <= limit
            )
        joint = {
            cameras: np.array([each["joint"] for each in _frames(results.get(by, []), cameras)])
            for by, cameras in ((name, "refined"), ("exact", "true"))
        }
        for part, unit in enumerate(("mm", "deg") if len(joint["true"]) else ()):
            refined, true = (float(np.median(np.linalg.norm(_split(each)[part], axis=1))) for each in joint.values())
            yield Row(
                f"{text}: tibia in the femur by refined cameras, of that by true ones",
                f"{refined:.3f} of {true:.3f} {unit}",
                "at most 1.5 times",
                refined <= 1.5 * true,
            )
    drawn = [name for name in results if name == "tolerances"]
    for text, names in (("fs off, all else exact", off), ("fs off, all else by its tolerance", drawn)):
        if not names:
            continue
        error, sd = (np.concatenate(each) for each in zip(*(_values(results[n], _FS) for n in names), strict=True))
        share = float(np.mean(np.abs(error) <= 1.96 * sd))
        yield Row(f"{text}: 95 % intervals that hold the truth", f"{share:.0%}", "85 to 99 %", 0.85 <= share <= 0.99)
        frames = [frame for name in names for frame in _frames(results[name], "refined")]
        errors, sigmas = (np.array([each[of] for each in frames]).reshape(-1, 6) for of in ("error", "sigma"))
        share = held(errors, sigmas)
        yield Row(f"{text}: the same of poses", f"{share:.0%}", "85 to 99 %", 0.85 <= share <= 0.99)
    for name in (each for each in results if each.startswith("late-")):
        error, _ = _values(results[name], ("fs late ms",))
        median, most = np.median(np.abs(error)), np.abs(error).max()
        measured = f"median {median:.2f} ms, at most {most:.2f} ms"
        yield Row(f"{CONDITIONS[name].text}: error of the time", measured, "at most 0.5 ms", bool(most <= 0.5))
    if "exact" in results:
        claimed = sum(each["verdict"] == "improved" for each in results["exact"])
        count = len(results["exact"])
        yield Row("exact cameras: improved", f"{claimed} of {count}", "at most 5 %", claimed <= 0.05 * count)
    every = [each for of_seeds in results.values() for each in of_seeds]
    worse = sum(
        each["verdict"] == "improved" and each["misfit_px"]["after"] > each["misfit_px"]["before"] for each in every
    )
    yield Row("improved, though frames left out got worse", f"{worse} of {len(every)}", "none", worse == 0)
    whole = [
        each for name, of_seeds in results.items() if CONDITIONS[name].frames == _MANY_FRAMES for each in of_seeds
    ]
    if whole:
        minutes, memory_mb = (max(each[of] for each in whole) for of in ("cpu_s", "memory_mb"))
        yield Row("100 frames: CPU time", f"{minutes / 60:.1f} min", "at most 10 min", minutes <= 600)
        yield Row("100 frames: peak memory", f"{memory_mb:.0f} MB", "at most 1,000 MB", memory_mb <= 1000)


_FS = tuple(name for part in list(_PARTS.values())[:4] for name in part)


def main() -> None:
    """Refine what was requested; all of it writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help=f"some of {', '.join(CONDITIONS)}")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=CORES)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results = several(options.folder / "rigs", options.conditions.split(","), options.seeds, options.workers)
    write_table(
        "Cameras refined from implants",
        requirements(results),
        f"{options.seeds} seeds, each a session with a rig of its own and {TRIALS} trials of all implant pairs, by "
        "another renderer and imaging chain than the simulator's, with holders and cables; initial poses are those "
        "that the wrong cameras give",
        options.results,
        before="\n\n".join((_FIRST, unknowns_table(results), _SECOND, poses_table(results))),
    )


_FIRST = (
    "Median error of what was refined (its median stated standard deviation), and the share of the 95 % intervals "
    "that hold the truth. Horizontal shifts of fs are shifts of all implants in depth, or along the ray of fs: only "
    "the sizes of the implants in the images show them."
)
_SECOND = (
    f"Poses of {_POSES} frames of each seed, registered by outline: median errors. In the world, errors by refined "
    "cameras contain the shift in depth that all frames share; the tibia in the femur does not."
)


if __name__ == "__main__":
    main()
