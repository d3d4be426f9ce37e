"""Own frames imported: real ones of other laboratories, where they are at hand, and an archive's.

``python -m tests.benchmarks.bench_import``
"""

import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.table import Row, write_table
from tests.fixtures.real_studies import REAL, ROWS_OF_POSES, mask_overlaps, real_studies
from tests.fixtures.studies import converted_rows, write_study
from veriserum_hf.dataset import Options, convert_archive
from veriserum_hf.simulation import Settings, simulate

_MOST_CPU_S, _LEAST_OVERLAP = 20.0, 0.99
_WHAT = {
    "biplane_tka": "two planes, 23 frames, MayaCam 2.0, 2 implants",
    "single_plane_right": "one plane, right knee, 3 frames, JointTrack, 2 implants",
    "single_plane_left": "one plane, left knee, 4 frames, JointTrack, 2 implants",
    "other_labs": "two planes, 1 frame of 1760 x 1760 px (LZW TIFF), MayaCam 2.0, no implants",
}


def _imported(study: Path, out: Path) -> float:
    """Import a study by the command, in one process of its own; its CPU-s, start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "veriserum_hf", "import", study, out, "--workers", "1"]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _of_other_laboratories(folder: Path) -> Iterator[Row]:
    for name, study in real_studies(folder).items():
        cpu_s = _imported(study, folder / name)
        required = f"at most {_MOST_CPU_S:.0f} CPU-s"
        yield Row(f"real: {_WHAT[name]}", f"{cpu_s:.1f} CPU-s", required, cpu_s <= _MOST_CPU_S)
    for name in ROWS_OF_POSES:
        overlaps = mask_overlaps(name, *(converted_rows(folder / name, of) for of in ("calibrated", "anatomies")))
        what = f"real: {_WHAT[name].rpartition(',')[0]}; published poses on {len(overlaps)} masks, IoU at least"
        yield Row(what, f"{min(overlaps):.4f}", f"{_LEAST_OVERLAP}", min(overlaps) >= _LEAST_OVERLAP)


def _of_an_archive(folder: Path) -> Iterator[Row]:
    """Rows of a converted archive, and of the same frames as a study."""
    simulate(folder / "archive", Settings(trials=1, frames_per_trial=60, pairs=1, height_px=400, marker_frames=0))
    options = Options(config="target", size=512, encoding="png")
    convert_archive(folder / "archive", folder / "out", options=options, configs=("target", "anatomies"))
    converted = converted_rows(folder / "out", "target")
    (folder / "out/target").rename(folder / "out/calibrated")
    study = write_study(folder / "study", folder / "out")
    cpu_s = _imported(study, folder / "imported")
    yield Row(
        f"simulated: two planes, {len(converted)} frames of 512 x 512 px",
        f"{cpu_s:.1f} CPU-s",
        "at most 20 CPU-s",
        cpu_s <= _MOST_CPU_S,
    )
    names = ("image_bs", "image_fs", "camera_bs", "camera_fs", "measurement_id", "trial_id", "frame_index", "task")
    same = sum(
        all(_content(one[name]) == _content(other[name]) for name in names)
        for one, other in zip(converted, converted_rows(folder / "imported"), strict=True)
    )
    what = "simulated: rows with the same images, cameras and ids as `convert` made"
    yield Row(what, f"{same} of {len(converted)}", "all", same == len(converted))


def _content(value: object) -> object:
    """An image's bytes without its name; other values as they are."""
    return value["bytes"] if isinstance(value, dict) and "bytes" in value else value


def _rows(folder: Path) -> Iterator[Row]:
    if REAL.exists():
        yield from _of_other_laboratories(folder)
    yield from _of_an_archive(folder)


def main() -> None:
    """Measure, and write the table beside this file."""
    folder = Path(tempfile.mkdtemp())
    try:
        write_table(
            "Own frames imported",
            _rows(folder),
            "`veriserum import --workers 1` with the start of the program; real frames, cameras and meshes of three "
            "laboratories, which are not part of this project, and a simulated archive",
            Path(__file__).with_name("RESULTS_IMPORT.md"),
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
