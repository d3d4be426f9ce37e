"""Registration in worlds that are not the simulator's: ``... bench_transfer FOLDER [--conditions exact,leg ...]``.

Frames and the outcome of each registration are kept below FOLDER, under a name that follows from the code that made
them: an interrupted run resumes, and changed code starts again.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.mesh_swaps import SWAPPED, Swap, swap, swaps_table
from tests.benchmarks.pose_errors import held, moved, pose_error
from tests.benchmarks.table import COMPARISON, CORES, Row, write_table
from tests.benchmarks.wrong_frames import WORLD, TrueFrame
from tests.benchmarks.wrong_worlds import REFUSED, WORLDS, Seen, World
from veriserum_hf.core import IMAGE_OF, PLANES, Component, Table
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import matrix_to_quaternion
from veriserum_hf.registration.refine import register

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests/benchmarks/RESULTS_TRANSFER.md"
METHODS = ("auto", "outline", "intensity")
ALL = WORLDS | REFUSED
_FRAMES_REFUSED = 50  # of each kind of REFUSED
_NEARLY_THE_SAME = (0.97, 1.03)  # scales of meshes, for which nothing is required
_DANGEROUS_MM, _DANGEROUS_DEG = 1.0, 1.0
_OFF_MM, _OFF_DEG = 5.0, 5.0  # initial poses


class Job(NamedTuple):
    """One registration: condition, method and frame."""

    condition: str
    method: str
    index: int


class Outcome(NamedTuple):
    """What came of one implant of a frame: errors and deviations, (6,) mm and deg; NaN where none is stated."""

    component: Component
    index: int
    error: NDArray[np.float64]
    sigma: NDArray[np.float64]
    image_sigma: NDArray[np.float64]
    verdict: str
    score: float
    used: str
    detail: str
    seconds: float

    @property
    def off(self) -> tuple[float, float]:
        """Distance in mm and angle in deg."""
        return float(np.linalg.norm(self.error[:3])), float(np.linalg.norm(self.error[3:]))

    @property
    def dangerous(self) -> bool:
        """Whether it is called converged, and is wrong."""
        return self.verdict == "converged" and (self.off[0] > _DANGEROUS_MM or self.off[1] > _DANGEROUS_DEG)


def indices(count: int) -> list[int]:
    """So many frames, spread evenly over the trials."""
    return np.unique(np.linspace(0, WORLD.trials - 1, count).astype(int)).tolist()


def draw(folder: Path, seen: Sequence[Seen], index: int) -> None:
    """Draw what is not there yet of a frame, all worlds together: they share what is traced."""
    frame = TrueFrame(index)
    for each in seen:
        for plane in PLANES:
            path = _image_path(folder, each, index, plane)
            if not path.exists():
                _write(path, cv2.imencode(".png", frame.image(each, plane))[1].tobytes())


def _image_path(folder: Path, seen: Seen, index: int, plane: str) -> Path:
    return folder / f"frames-{_fingerprint('tests/benchmarks')}" / seen.name / f"{index:03d}_{plane}.png"


def _result_path(folder: Path, job: Job) -> Path:
    code = _fingerprint("tests/benchmarks", "veriserum_hf/registration", "veriserum_hf/rendering")
    return folder / f"results-{code}" / job.condition / f"{job.method}_{job.index:03d}.json"


def _fingerprint(*rooms: str) -> str:
    """Hash of the code of some rooms, of the benchmarks only what draws frames."""
    names = ("independent_*.py", "surroundings.py", "wrong_*.py")
    total = hashlib.sha256()
    for room in rooms:
        patterns = names if room == "tests/benchmarks" else ("**/*.py",)
        for file in sorted(path for pattern in patterns for path in (ROOT / room).glob(pattern)):
            total.update(file.read_bytes())
    return total.hexdigest()[:10]


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)


def registered(folder: Path, job: Job) -> list[dict[str, Any]]:
    """Register a frame from initial poses that are off by 5 mm and 5 deg, or read what came of it before."""
    path = _result_path(folder, job)
    if path.exists():
        return json.loads(path.read_text())
    world, frame = ALL[job.condition], TrueFrame(job.index)
    rng = np.random.default_rng([7, job.index])
    truth, ids, starts = frame.poses(), frame.shown.anatomy_ids, {}
    for name, T in truth.items():
        T_start = moved(T, ids[name], rng, _OFF_MM, _OFF_DEG)
        starts[name] = {"anatomy_id": ids[name], "translation_mm": T_start[:3, 3]}
        starts[name]["quaternion_xyzw"] = matrix_to_quaternion(T_start[:3, :3])
    row: dict[str, Any] = {"measurement_id": 1 + job.index, **frame.cameras(world.given, world.seen.size_px)}
    for plane in PLANES:
        image = _image_path(folder, world.seen, job.index, plane)
        row[IMAGE_OF[plane]] = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE)
    meshes = frame.meshes(world.given, world.seen)
    began = time.process_time()
    try:
        poses = register(row, meshes, starts, method=job.method)
    except RegistrationError as error:
        poses, refusal = {}, str(error)
    seconds = time.process_time() - began
    found = []
    for name in world.judged:
        if name in poses:
            pose = poses[name]
            stated = {
                "error": pose_error(pose.T_world_implant, truth[name]).tolist(),
                "sigma": np.sqrt(np.diag(pose.covariance)).tolist(),
                "image_sigma": np.sqrt(np.diag(pose.image_covariance)).tolist(),
                "verdict": pose.verdict,
                "score": pose.score,
                "used": pose.method,
                "detail": pose.detail,
            }
        else:
            nothing = [np.nan] * 6
            stated = {"error": nothing, "sigma": nothing, "image_sigma": nothing, "verdict": "failed"}
            stated |= {"score": 0.0, "used": "-", "detail": refusal}
        found.append(stated | {"seconds": seconds})
    _write(path, json.dumps(found, indent=1).encode())
    return found


def _in_a_process(function: partial[Any], *arguments: Any) -> Any:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    return function(*arguments)


def several(
    folder: Path, conditions: Sequence[str], methods: Sequence[str], frames: int, workers: int
) -> dict[tuple[str, str], list[Outcome]]:
    """Outcomes by condition and method."""
    jobs = [
        Job(name, method, index)
        for name in conditions
        for method in methods
        for index in indices(min(frames, _FRAMES_REFUSED) if name in REFUSED else frames)
    ]
    seen = list(dict.fromkeys(ALL[name].seen for name in conditions))
    outcomes: dict[tuple[str, str], list[Outcome]] = {}
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        list(pool.map(partial(_in_a_process, partial(draw, folder, seen)), indices(frames)))
        for job, found in zip(jobs, pool.map(partial(_in_a_process, partial(registered, folder)), jobs), strict=True):
            key = job.condition, job.method
            for component, each in zip(ALL[job.condition].judged, found, strict=True):
                arrays = [np.array(each.pop(name)) for name in ("error", "sigma", "image_sigma")]
                outcomes.setdefault(key, []).append(Outcome(component, job.index, *arrays, **each))
            if job.index == jobs[-1].index and key[0] in WORLDS:
                print(conditions_table({key: outcomes[key]}).splitlines()[-1], flush=True)
    return outcomes


def conditions_table(outcomes: dict[tuple[str, str], list[Outcome]]) -> str:
    """One line for each condition and method."""
    header = [
        "condition",
        "method",
        "mm: median (p90)",
        "deg: median (p90)",
        "converged / ambiguous / failed",
        "95 % intervals that hold the truth",
        "those of the images alone",
        "converged, but off by more than 1 mm or 1 deg",
        "CPU-s a frame",
    ]
    rows = []
    for (name, method), implants in outcomes.items():
        if name in REFUSED:
            continue
        stated = [each for each in implants if each.verdict != "failed"]
        off = np.array([each.off for each in stated]).reshape(-1, 2)
        spread = ["-"] * 2
        if stated:
            spread = [f"{np.median(axis):.3f} ({np.percentile(axis, 90):.3f})" for axis in off.T]
        verdicts = [sum(each.verdict == word for each in implants) for word in ("converged", "ambiguous", "failed")]
        used = sorted({each.used for each in stated} - {method}) if method == "auto" else []
        counts = ", ".join(f"{word} {sum(each.used == word for each in stated)}" for word in used)
        rows.append(
            [
                ALL[name].text,
                f"{method}: {counts}" if counts else method,
                *spread,
                " / ".join(map(str, verdicts)),
                _percent(covered(implants)),
                _percent(covered(implants, images_alone=True)),
                str(sum(each.dangerous for each in implants)),
                f"{np.median([each.seconds for each in implants]):.1f}",
            ]
        )
    return Table(header, rows, alignment="l").markdown()


def covered(implants: Sequence[Outcome], *, images_alone: bool = False) -> float:
    """Share of the stated 95 % intervals, of all degrees of freedom, that hold the truth; those of no failed pose."""
    stated = [each for each in implants if each.verdict != "failed"]
    sigmas = [each.image_sigma if images_alone else each.sigma for each in stated]
    return held(np.array([each.error for each in stated]).reshape(-1, 6), np.array(sigmas).reshape(-1, 6))


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.0f} %"


def requirements(
    outcomes: dict[tuple[str, str], list[Outcome]], conditions: Sequence[str], methods: Sequence[str]
) -> Iterator[Row]:
    """The required figures, by method."""
    for method in methods:
        worlds: dict[str, World] = {name: WORLDS[name] for name in conditions if name in WORLDS}
        small = {name: covered(outcomes[name, method]) for name, world in worlds.items() if world.within_tolerance}
        small = {name: share for name, share in small.items() if not np.isnan(share)}
        if small:
            least = min(small, key=small.__getitem__)
            what = f"{method}: 95 % intervals that hold the truth, geometry within tolerance, least of {len(small)}"
            measured = f"{_percent(small[least])}: {WORLDS[least].text}"
            yield Row(what, measured, "at least 80 % in each condition", small[least] >= 0.8)
        shares = {name: float(np.mean([each.dangerous for each in outcomes[name, method]])) for name in worlds}
        if shares:
            most = max(shares, key=shares.__getitem__)
            count = sum(each.dangerous for name in worlds for each in outcomes[name, method])
            total = sum(len(outcomes[name, method]) for name in worlds)
            measured = f"{count} of {total}; at most {100 * shares[most]:.1f} %: {WORLDS[most].text}"
            what = f"{method}: converged, but off by more than 1 mm or 1 deg"
            yield Row(what, measured, "at most 0.5 % in each condition", shares[most] <= 0.005)
        for name in conditions:
            if name in REFUSED:
                yield _refused(method, name, outcomes[name, method])


def _refused(method: str, name: str, implants: Sequence[Outcome]) -> Row:
    accepted = ("converged", "ambiguous") if name == "empty" else ("converged",)
    share = float(np.mean([each.verdict not in accepted for each in implants]))
    verdicts = [sum(each.verdict == word for each in implants) for word in ("converged", "ambiguous", "failed")]
    what = f"{method}: {REFUSED[name].text}: {'failed' if name == 'empty' else 'failed or ambiguous'}"
    measured = f"{100 * share:.1f} %: {verdicts[0]} converged, {verdicts[1]} ambiguous, {verdicts[2]} failed"
    if REFUSED[name].given.scale in _NEARLY_THE_SAME:
        return Row(what, measured, COMPARISON, None)
    least = 1.0 if name == "empty" else 0.95
    return Row(what, measured, "all" if name == "empty" else "at least 95 %", share >= least)


def _swaps_tables(outcomes: dict[tuple[str, str], list[Outcome]]) -> Iterator[str]:
    """Meshes of other implants, a table for each method."""
    swaps: dict[str, list[Swap]] = {}
    for (name, method), implants in outcomes.items():
        if name in SWAPPED:
            found = (swap(name, each.component, each.index, each.score, each.verdict) for each in implants)
            swaps.setdefault(method, []).extend(found)
    for method, of_method in swaps.items():
        yield f"Meshes of other implants, {method}:\n\n{swaps_table(of_method)}"


def main() -> None:
    """Register what was requested; all of it writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--conditions", default=",".join(ALL), help=f"some of {', '.join(ALL)}")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--frames", type=int, default=WORLD.trials)
    parser.add_argument("--workers", type=int, default=CORES)
    parser.add_argument("--results", type=Path, help=f"where the tables go; if all was run, {RESULTS.name}")
    options = parser.parse_args()
    conditions, methods = options.conditions.split(","), options.methods.split(",")
    outcomes = several(options.folder / "transfer", conditions, methods, options.frames, options.workers)
    whole = set(conditions) == set(ALL) and set(methods) == set(METHODS) and options.frames == WORLD.trials
    with tempfile.TemporaryDirectory() as scratch:
        write_table(
            "Registration in other worlds",
            requirements(outcomes, conditions, methods),
            f"torch {torch.__version__}. {options.frames} frames a condition, both implants, all ten implant pairs, "
            "from 5 mm and 5 deg off, by another renderer and imaging chain than the simulator's: several energies, "
            "scatter of the object, glare with a long tail, correlated noise, gamma 0.9 to 1.1, other fixtures. "
            "Errors and intervals are those of poses that have not failed",
            options.results or (RESULTS if whole else Path(scratch) / "part.md"),
            before="\n\n".join((conditions_table(outcomes), *_swaps_tables(outcomes))),
        )


if __name__ == "__main__":
    main()
