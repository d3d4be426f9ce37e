"""Speed of renderer and simulator against the required figures: ``python -m tests.benchmarks.bench_simulation``."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from tests.benchmarks import differentiable_speed
from tests.benchmarks.processes import run_watched
from tests.benchmarks.table import Row, cpu_s, write_table
from veriserum_hf.geometry import Plane
from veriserum_hf.geometry.pose import make_transform
from veriserum_hf.rendering.rasteriser import path_length
from veriserum_hf.simulation.image_files import FrameJob
from veriserum_hf.simulation.implants import implant_mesh
from veriserum_hf.simulation.scenario import session
from veriserum_hf.simulation.settings import Settings

_FEMUR_ID, _SIZE, _POSES = 2, 512, 20


def _wall_s(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _traced(mesh: trimesh.Trimesh, plane: Plane) -> None:
    """Path lengths of every pixel by trimesh and embree: all hits, their depths, and the sum of the signed depths."""
    pixels = np.stack(np.meshgrid(np.arange(_SIZE), np.arange(_SIZE)), axis=-1).reshape(-1, 2)
    source, directions = plane.rays(pixels, _SIZE)
    tracer = trimesh.ray.ray_pyembree.RayMeshIntersector(mesh)
    hits, ray, triangle = tracer.intersects_location(
        np.broadcast_to(source, directions.shape), directions, multiple_hits=True
    )
    sign = np.sign((mesh.face_normals[triangle] * directions[ray]).sum(axis=1))
    np.bincount(ray, sign * ((hits - source) * directions[ray]).sum(axis=1), len(directions))


def path_lengths(plane: Plane) -> Iterator[Row]:
    """The renderer on one core, and compared with the ray tracer."""
    mesh, rng, times = implant_mesh(_FEMUR_ID), np.random.default_rng(0), []
    path_length(mesh, make_transform(np.eye(3), (0, 20, 381)), plane, _SIZE)  # compiles
    for _ in range(_POSES):
        T = make_transform(Rotation.random(rng=rng).as_matrix(), (0, 20, 381) + rng.uniform(-30, 30, 3))
        posed = mesh.copy()
        posed.apply_transform(T)
        posed.face_normals  # noqa: B018 - worked out before the clock starts
        ours_s = median(_wall_s(lambda T=T: path_length(mesh, T, plane, _SIZE)) for _ in range(5))
        times.append((_wall_s(lambda posed=posed: _traced(posed, plane)), ours_s))
    traced_s, ours_s = (median(column) for column in zip(*times, strict=True))
    what = f"Path length, {_SIZE} px, femur of {len(mesh.faces):,} triangles, one core"
    yield Row(what, f"{1000 * ours_s:.1f} ms", "at most 8 ms", ours_s <= 0.008)
    ratio = median(traced / ours for traced, ours in times)
    measured = f"{ratio:.0f} times ({1000 * traced_s:.0f} ms / {1000 * ours_s:.1f} ms)"
    yield Row("The same: trimesh + embree / ours", measured, "at least 20 times", ratio >= 20)


def in_torch() -> Iterator[Row]:
    """The differentiable renderer."""
    forward, backward = differentiable_speed.images_per_s(implant_mesh(_FEMUR_ID), 256)
    for what, speed, required in (("forward", forward, 500), ("forward and backward", backward, 150)):
        met = speed >= required if differentiable_speed.ON_GPU else None
        measured = f"{speed:,.0f} images/s on {differentiable_speed.device()}"
        yield Row(f"In torch, 256 px, float32, {what}", measured, f"at least {required} on a GPU", met)


def frames(folder: Path) -> Iterator[Row]:
    """Full-size frames with all clutter, as files."""
    settings, count = Settings(trials=10, frames_per_trial=4), 12
    folder.mkdir()
    # Of one trial after the other, as a simulation goes; what the frames of a trial share is made in the first.
    jobs = [
        FrameJob(settings, n % 3, {n // 3: (100 * (n % 3) + n // 3,)}, folder, folder)
        for n in sorted(range(count), key=lambda n: n % 3)
    ]
    jobs[0].run(lambda _: None)  # compiles, and makes the maps of the distortions
    for path in folder.iterdir():
        path.unlink()
    pair_s = cpu_s(lambda: [job.run(lambda _: None) for job in jobs]) / count
    size_mb = np.mean([path.stat().st_size for path in folder.iterdir()]) / 1e6
    measured = f"{pair_s:.2f} CPU-s ({size_mb:.2f} MB a file)"
    yield Row(
        "Dual-plane frame, 1664 x 1600 px, all clutter, as two JPEGs", measured, "at most 0.5 CPU-s", pair_s <= 0.5
    )


def memory(folder: Path) -> Row:
    """``veriserum simulate`` in one process, from two calibrations on, with the bead grids."""
    command = [str(Path(sys.executable).with_name("veriserum")), "simulate", str(folder / "archive")]
    options = ("--trials", "3", "--frames-per-trial", "4", "--workers", "1")
    watched = run_watched(*command, *options, cache=folder)
    text = f"{watched.peak_mb:.0f} MB"
    return Row("Peak memory of a simulating process", text, "at most 600 MB", watched.peak_mb <= 600)


def every_row(folder: Path) -> Iterator[Row]:
    """The table, row by row as it is measured."""
    yield from path_lengths(session(Settings(), 0).rig["bs"])
    yield from in_torch()
    yield from frames(folder / "frames")
    yield memory(folder)


def main() -> None:
    """Measure, print, and write the table."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        path = Path(__file__).with_name("RESULTS_SIMULATION.md")
        write_table("Renderer and simulator", every_row(Path(name)), f"torch {torch.__version__}", path)


if __name__ == "__main__":
    main()
