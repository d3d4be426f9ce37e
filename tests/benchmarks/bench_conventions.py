"""Conventions of labels and images, in every combination: ``python -m tests.benchmarks.bench_conventions``."""

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from tests.benchmarks.table import Row, cpu_s, write_table
from tests.fixtures.misread import (
    execute,
    flip_frames,
    invert_frames,
    store_in,
    store_scalar_first,
    swap_planes,
)
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.audit import audit_archive
from veriserum_hf.archive.conventions import TRIALS_DEEP, assess_conventions
from veriserum_hf.archive.evidence import FLIPS
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.readings import Reading
from veriserum_hf.archive.units import MM_PER_UNIT
from veriserum_hf.geometry.pose import euler_zxy_to_matrix, matrix_to_quaternion, quaternion_to_matrix
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

_UNITS = ("millimetres", "centimetres", "metres", "inches")
_KINDS = 3  # of poses, each with a frame and a unit of its own
_ARCHIVES = {
    "8-bit JPEG, 416 x 400 px": Settings(trials=4, frames_per_trial=2, seed=11, height_px=400, marker_frames=0),
    "16-bit TIFF, 832 x 800 px": Settings(
        trials=4, frames_per_trial=2, seed=12, height_px=800, bit_depth=16, marker_frames=0
    ),
}


def _named(root: Path) -> list[str]:
    """What a deep audit names."""
    found = [problem for problem in audit_archive(root, deep=True).findings.problems if problem.structural]
    return [f"{each.what}. {each.remedy}" for each in found]


def _agree_if(reading: Reading) -> str:
    """Pattern of what is named where all of an archive has another reading."""
    return rf"^the outlines .* agree if {re.escape(str(reading))}\."


def _copied(original: Path) -> Path:
    """A copy that may be changed: the database itself, and links to the frames, which are never written to."""
    root = Path(tempfile.mkdtemp(dir=original.parent)) / "archive"
    shutil.copytree(original, root, copy_function=lambda a, b: Path(b).hardlink_to(a))
    database = next(root.glob("*.db"))
    content = database.read_bytes()
    database.unlink()
    database.write_bytes(content)
    return root


def _combinations(original: Path) -> Iterator[tuple[list[str], list[str]]]:
    """What is named and what should be, of the 64 combinations."""
    for flip, swapped in product(range(len(FLIPS)), (False, True)):
        images = _copied(original)
        flip_frames(images, flip)
        if swapped:
            swap_planes(images)
        for scalar_first, unit in product((False, True), _UNITS):
            root = _copied(images)
            if scalar_first:
                store_scalar_first(root)
            store_in(root, MM_PER_UNIT[unit])
            expected = [_agree_if(Reading(scalar_first, swapped, (flip, flip)))]
            if unit != "millimetres":
                expected = [f"poses cannot be .* which seems to be {unit}"] * _KINDS
            elif not (scalar_first or swapped or flip):
                expected = []
            yield _named(root), expected
            shutil.rmtree(root.parent)
        shutil.rmtree(images.parent)


def _mixed(original: Path) -> Iterator[tuple[list[str], list[str]]]:
    """The same of archives in which one plane, or one trial, differs."""
    for flip, p in product((1, 2, 3), (0, 1)):
        root = _copied(original)
        flip_frames(root, flip, planes=(("bs", "fs")[p],))
        yield _named(root), [_agree_if(Reading(flips=(flip, 0) if p == 0 else (0, flip)))]
        shutil.rmtree(root.parent)
    frames = VeriserumArchive(original).frames.to_pylist()
    trial = frames[-1]["trial_id"]
    ids = {row["measurement_id"] for row in frames if row["trial_id"] == trial}
    changes = {
        Reading(flips=(1, 1)): lambda root: flip_frames(root, 1, ids=ids),
        Reading(flips=(0, 2)): lambda root: flip_frames(root, 2, ("fs",), ids),
        Reading(swapped=True): lambda root: swap_planes(root, ids),
        Reading(scalar_first=True): lambda root: store_scalar_first(
            root, f"measurement_id IN ({', '.join(map(str, ids))})"
        ),
    }
    for reading, change in changes.items():
        root = _copied(original)
        change(root)
        yield _named(root), [f"trial {trial}: .* agree if {re.escape(str(reading))}\\."]
        shutil.rmtree(root.parent)
    root = _copied(original)
    invert_frames(root)
    yield _named(root), [_agree_if(Reading(inverted=True))]
    shutil.rmtree(root.parent)


def _off(root: Path, mm: float, deg: float, rng: np.random.Generator) -> None:
    """Move and rotate every pose by so much, in random directions."""
    for row in VeriserumArchive(root).poses.to_pylist():
        away, axis = (each / np.linalg.norm(each) for each in rng.normal(size=(2, 3)))
        R = euler_zxy_to_matrix(deg * axis) @ quaternion_to_matrix(row["quaternion_xyzw"])
        t, q = np.array(row["translation_mm"]) + mm * away, matrix_to_quaternion(R)
        values = ", ".join(
            f"{c} = {v}" for c, v in zip(("tx", "ty", "tz", "r0", "r1", "r2", "r3"), (*t, *q), strict=True)
        )
        execute(root, f"UPDATE poses SET {values} WHERE id = {row['pose_id']}")


def _controls(original: Path) -> Iterator[tuple[list[str], list[str]]]:
    """What is named where labels are inaccurate, which should be nothing."""
    rng = np.random.default_rng(0)
    for mm, deg in ((0, 0), (2, 2), (5, 5), (10, 10), (20, 20), (5, 30), (40, 5)):
        for _ in range(2):
            root = _copied(original)
            _off(root, mm, deg, rng)
            findings = Findings()
            assess_conventions(VeriserumArchive(root), findings)
            yield [problem.what for problem in findings.structural], []
            shutil.rmtree(root.parent)


def _rows(folder: Path) -> Iterator[Row]:
    for n, (name, settings) in enumerate(_ARCHIVES.items()):
        original = simulate(folder / f"archive {n}" / "original", settings, workers=1)
        for what, cases in {
            "quaternion order, flips, swapped files, units: accepted or refused rightly": _combinations,
            "one plane flipped, one trial in another convention, inverted: named rightly": _mixed,
            "labels off by 0 to 40 mm and 0 to 30 degrees: accepted": _controls,
        }.items():
            results = list(cases(original))
            for found, expected in results:
                if not _right(found, expected):
                    print(f"found {found}, expected {expected}", file=sys.stderr)
            right = sum(_right(found, expected) for found, expected in results)
            yield Row(f"{name}; {what}", f"{right} of {len(results)}", "all", right == len(results))
        archive = VeriserumArchive(original)
        seconds = cpu_s(lambda archive=archive: assess_conventions(archive, Findings()), 3)
        what = f"{name}; evidence of eight frames, as in convert"
        yield Row(what, f"{seconds:.2f} CPU-s", "at most 0.5 CPU-s", seconds <= 0.5)
    yield _deep(folder)


def _deep(folder: Path) -> Row:
    """Processor time of the evidence of an audit that decodes every frame of an archive of very many trials."""
    settings = Settings(trials=14, frames_per_trial=1, seed=13, marker_frames=0)
    archive = VeriserumArchive(simulate(folder / "deep", settings, workers=1))
    few, all_s = (cpu_s(lambda n=n: assess_conventions(archive, Findings(), n), 3) for n in (4, settings.trials))
    seconds = few + (TRIALS_DEEP - 4) * (all_s - few) / (settings.trials - 4)
    what = f"1664 x 1600 px; evidence in a deep audit of {TRIALS_DEEP} trials or more, from 4 and {settings.trials}"
    return Row(what, f"{seconds:.0f} CPU-s", "at most 30 CPU-s", seconds <= 30)


def _right(found: list[str], expected: list[str]) -> bool:
    return len(found) == len(expected) and all(re.search(e, f) for f, e in zip(found, expected, strict=True))


if __name__ == "__main__":
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        write_table(
            "Conventions of labels and images",
            _rows(Path(folder)),
            "simulated archives of four trials of two frames by this package's own simulator",
            Path(__file__).with_name("RESULTS_CONVENTIONS.md"),
        )
    print(f"{time.process_time() - started:.0f} CPU-s")
