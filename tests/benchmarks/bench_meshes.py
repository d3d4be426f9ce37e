"""Time and memory that implants of many triangles take: ``python -m tests.benchmarks.bench_meshes``."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import trimesh

from tests.benchmarks.processes import run_watched
from tests.benchmarks.table import Row, cpu_s, write_table
from veriserum_hf.archive import read_implant_mesh
from veriserum_hf.geometry import Camera
from veriserum_hf.rendering import outline, path_length

_SIZE = 1024
_SUBDIVISIONS = (6, 7, 8)
_VOXELS = (200, 180, 160)


def _camera() -> Camera:
    """A camera at 0.9 m from the implant."""
    world_to_camera = np.eye(4)
    world_to_camera[2, 3] = 900.0
    return Camera(np.array([[3200.0, 0, _SIZE / 2], [0, 3200.0, _SIZE / 2], [0, 0, 1]]), world_to_camera)


def _write(folder: Path) -> None:
    """Ellipsoids of more and more triangles, binary and as text, and one as a volume of labels."""
    import nibabel

    for subdivisions in _SUBDIVISIONS:
        mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
        mesh.apply_scale((35, 30, 25))
        mesh.export(folder / f"{len(mesh.faces)}.stl")
        (folder / f"{len(mesh.faces)}_text.stl").write_text(trimesh.exchange.stl.export_stl_ascii(mesh))
    grid = np.stack(np.meshgrid(*map(np.arange, _VOXELS), indexing="ij"), axis=-1)
    inside = (((grid - np.array(_VOXELS) / 2) / (90, 80, 70)) ** 2).sum(axis=-1) < 1
    nibabel.save(nibabel.Nifti1Image(inside.astype(np.uint8), np.diag([0.4, 0.4, 0.4, 1.0])), folder / "label.nii.gz")


def _peak_gb(path: Path) -> float:
    read = "from veriserum_hf.archive import read_implant_mesh; read_implant_mesh(Path(sys.argv[1]))"
    script = f"import sys; from pathlib import Path; {read}"
    return run_watched(sys.executable, "-c", script, str(path), cache=path.parent).peak_mb / 1000


def rows(folder: Path) -> Iterator[Row]:
    """Reading, repairing, rendering."""
    _write(folder)
    camera, pose = _camera(), np.eye(4)
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix, path.stat().st_size)):
        read_s, found = cpu_s(lambda path=path: read_implant_mesh(path)), read_implant_mesh(path)
        mesh = found.mesh
        first_s = cpu_s(lambda mesh=mesh: path_length(mesh, pose, camera, _SIZE))
        again_s = cpu_s(lambda mesh=mesh: path_length(mesh, pose, camera, _SIZE), 3)
        outline_s = cpu_s(lambda mesh=mesh: outline(mesh, pose, camera, _SIZE), 3)
        drawn = (
            f"path lengths {1000 * first_s:.0f} ms, then {1000 * again_s:.0f} ms; outline {1000 * outline_s:.0f} ms"
        )
        name = "labels of 5.8 million voxels" if path.suffix == ".gz" else "text" if "text" in path.stem else "binary"
        measured = f"read and checked in {read_s:.1f} CPU-s, {_peak_gb(path):.1f} GB; {drawn}"
        met = read_s <= 60
        yield Row(f"{len(mesh.faces):,} triangles, {name}", measured, "read in at most 60 CPU-s", met)


def main() -> None:
    """Write the table."""
    with tempfile.TemporaryDirectory() as folder:
        about = f"images of {_SIZE} px, ellipsoids 70 mm long"
        write_table("Meshes", rows(Path(folder)), about, Path(__file__).with_name("RESULTS_MESHES.md"))


if __name__ == "__main__":
    main()
