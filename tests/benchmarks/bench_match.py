"""From a drag in the browser to the redrawn outlines: ``python -m tests.benchmarks.bench_match``.

Chromium's own clock: from the time stamp of the pointer's event to the end of drawing in both planes. Writes
RESULTS_MATCH.md.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from manifold3d import Manifold, Mesh64

from tests.app.browsers import Page, browser
from tests.app.servers import serving
from tests.benchmarks.table import COMPARISON, Row, write_table
from veriserum_hf.dataset import Options, convert_archive
from veriserum_hf.simulation import Settings, simulate

RESULTS = Path(__file__).with_name("RESULTS_MATCH.md")
_TRIANGLES = 450_000
_SIZE_PX = 512
_EVENTS, _EVERY_S = 400, 1 / 60
_MOST_MS, _LEAST_PER_S = 100.0, 15.0


def _dense(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The same surface in at least so many triangles."""
    solid, edge_mm = Manifold(Mesh64(mesh.vertices, mesh.faces.astype(np.uint64))), 1.0
    while solid.refine_to_length(edge_mm).num_tri() < _TRIANGLES:
        edge_mm *= 0.9
    found = solid.refine_to_length(edge_mm).to_mesh64()
    return trimesh.Trimesh(found.vert_properties[:, :3].copy(), found.tri_verts.astype(np.int64), process=False)


def _data_set(folder: Path) -> tuple[Path, int]:
    """Three frames of implants with so many triangles, and how many these are at least."""
    simulate(folder / "A", Settings(trials=1, frames_per_trial=3, seed=4, height_px=800, marker_frames=0), workers=1)
    triangles = []
    for file in (folder / "A").rglob("*.stl"):
        mesh = _dense(trimesh.load_mesh(file))
        triangles.append(len(mesh.faces))
        mesh.export(file)
    configs = ("calibrated", "anatomies")
    convert_archive(folder / "A", folder / "OUT", configs=configs, options=Options(size=_SIZE_PX), workers=1)
    return folder / "OUT", min(triangles)


def _dragged(page: Page, plane: str) -> tuple[np.ndarray, float]:
    """Milliseconds from each event that was drawn to its outlines, and redraws a second, over one long drag."""
    page.ask("performance.clearMeasures()")
    center = page.center_px("femur", plane)
    mouse = page.page.mouse
    mouse.move(*page.at(plane, center))
    mouse.down()
    started = time.perf_counter()
    for number in range(_EVENTS):
        angle, due = number / 12, started + number * _EVERY_S
        mouse.move(*page.at(plane, (center[0] + 40 * np.sin(angle), center[1] + 25 * np.sin(2 * angle))))
        time.sleep(max(0.0, due - time.perf_counter()))
    lasted_s = time.perf_counter() - started
    mouse.up()
    page.settled()
    took: Any = page.ask("performance.getEntriesByName('drag to outlines').map((entry) => entry.duration)")
    return np.array(took), len(took) / lasted_s


def measured() -> Iterator[Row]:
    """Drags in each plane, alone and beside the 3-D scene."""
    with tempfile.TemporaryDirectory() as name, browser() as chromium:
        dataset, triangles = _data_set(Path(name))
        with serving(dataset, "--output", Path(name) / "manual.parquet") as server:
            page = Page(chromium, server.address)
            page.until("Object.values(workbench.state.poses.own).every((own) => !own.problem)")  # it is prepared
            _dragged(page, "bs")  # everything is compiled and loaded
            for plane in ("bs", "fs"):
                took, per_s = _dragged(page, plane)
                p50, p95 = np.percentile(took, (50, 95))
                what = f"drag in {plane}, {triangles:,} triangles"
                figures = f"median {p50:.0f} ms, 95 % within {p95:.0f} ms"
                yield Row(
                    f"{what}: outlines of both planes", figures, f"95 % within {_MOST_MS:.0f} ms", p95 <= _MOST_MS
                )
                redraws = f"{per_s:.0f} a second"
                yield Row(f"{what}: redraws", redraws, f"at least {_LEAST_PER_S:.0f} a second", per_s >= _LEAST_PER_S)
            page.press("3")
            page.page.frame_locator("#scene iframe").locator("canvas").first.wait_for()
            page.page.wait_for_timeout(5000)
            took, per_s = _dragged(page, "bs")
            p50, p95 = np.percentile(took, (50, 95))
            figures = f"median {p50:.0f} ms, 95 % within {p95:.0f} ms, {per_s:.0f} redraws a second"
            yield Row("the same in bs, beside the 3-D scene without a graphics card", figures, COMPARISON, None)


if __name__ == "__main__":
    write_table(
        "Matching by hand in the browser",
        measured(),
        f"images of {_SIZE_PX} px, pointer events at 60 a second, Chromium without a window and without a graphics "
        "card on the same two cores as the server",
        RESULTS,
    )
