"""``veriserum poses move``: arguments and printed results; the work is done in `registration`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.options import AsJson, DatasetOrArchive
from veriserum_hf.cli.output import print_json, print_text
from veriserum_hf.core import Table
from veriserum_hf.errors import TrainingError

if TYPE_CHECKING:
    import pyarrow as pa

_ARCHIVE_PX = 512  # images are not read
_CONFIGS = ("calibrated", "target", "manual")


def move(
    poses: Annotated[
        Path, typer.Argument(help="Poses that belong to the stored cameras: .parquet or .csv.", show_default=False)
    ],
    dataset: DatasetOrArchive,
    cameras: Annotated[
        Path, typer.Option(metavar="CAMERAS.json", help="Refined cameras of this data set.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File to write.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    r"""Carry poses over from the stored cameras of a data set to refined ones.

    Each pose takes the step that keeps the projections of its mesh where they were, in both planes or the one that
    the frame has. The columns cameras_moved_mm, cameras_moved_deg and cameras_left_px state by how much the mesh's
    centre has moved, the implant rotated, and the projections still differ. Covariances and verdicts stay as they
    were: register again for new ones.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum poses move registered.parquet OUT --cameras cameras.json \
        --output moved.parquet
    """
    from veriserum_hf.dataset import CamerasFile, open_rows
    from veriserum_hf.poses import TABLE_SUFFIXES, read_poses, write_poses
    from veriserum_hf.registration import move_poses

    if output.suffix.lower() not in TABLE_SUFFIXES:
        raise TrainingError(f"{output}: expected a name in {' or '.join(TABLE_SUFFIXES)}")
    if output.exists():
        raise TrainingError(f"{output} exists and was not changed; choose another output, or remove it")
    refined = CamerasFile.read(cameras)
    given = read_poses(poses)
    if _cameras_sha256(given) is not None:
        raise TrainingError(f"{poses} has poses of refined cameras already; expected those of the stored cameras")
    source = open_rows(dataset, _CONFIGS, archive_px=_ARCHIVE_PX)
    moved = move_poses(given, str(poses), source, refined.cameras)
    write_poses(output, moved.replace_schema_metadata({**(given.schema.metadata or {}), **refined.about}))
    summary = _summary(moved)
    if as_json:
        print_json({"output": str(output), "poses": len(moved), "by_component": summary})
        return
    header = ("component", "poses", "moved mm: median", "largest", "deg: median", "largest", "left px: largest")
    rows = [
        (
            component,
            each["poses"],
            *(f"{each[name]:.3f}" for name in ("median_mm", "largest_mm", "median_deg", "largest_deg")),
            f"{each['largest_left_px']:.3f}",
        )
        for component, each in summary.items()
    ]
    print_text(Table(header, rows).text())
    print_text(f"written to {output}")


def _cameras_sha256(poses: "pa.Table") -> bytes | None:
    found: bytes | None = (poses.schema.metadata or {}).get(b"cameras_sha256")
    return found


def _summary(moved: "pa.Table") -> dict[str, dict[str, int | float]]:
    import numpy as np

    components = np.array(moved["component"].to_pylist())
    mm, deg, left = (np.array(moved[f"cameras_{name}"].to_pylist()) for name in ("moved_mm", "moved_deg", "left_px"))
    return {
        component: {
            "poses": int(own.sum()),
            "median_mm": float(np.median(mm[own])),
            "largest_mm": float(mm[own].max()),
            "median_deg": float(np.median(deg[own])),
            "largest_deg": float(deg[own].max()),
            "largest_left_px": float(left[own].max()),
        }
        for component in dict.fromkeys(components.tolist())
        for own in [components == component]
    }
