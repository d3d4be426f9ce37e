"""Which id the number in the name of a frame's file is."""

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.problems import Findings


def name_frames(
    layout: Layout,
    measurement_ids: NDArray[np.int64],
    pose_ids: NDArray[np.int64],
    pose_measurement_ids: NDArray[np.int64],
    findings: Findings,
) -> dict[int, int]:
    """Decide which id the number in a frame's name is: of its measurement, or of one of its poses.

    A reading fits when nine of ten numbers are such an id. Where both fit by that, the numbers must also reach
    three quarters of the measurements that have a pose, which a wrong reading of contiguous ids does not: with
    two poses a frame it reaches half. Files whose number is no such id are reported.

    Returns
    -------
    Measurement id to the number in its frames' names, for those that have a file in at least one plane.

    """
    numbers = np.array(sorted(set(layout.frames["bs"]) | set(layout.frames["fs"])), dtype=np.int64)
    if not len(numbers):
        raise findings.stop(
            "no frames",
            str(layout.root),
            "there is no frame named like bs_000001.jpg or fs_000001.tif in it or in a folder below",
            "Put the frames of the download below the folder that holds its tables.",
        )
    with_pose = set(pose_measurement_ids.tolist())
    readings = {
        "measurement": {id: id for id in np.intersect1d(measurement_ids, numbers).tolist()},
        "pose": _by_pose(layout, numbers, pose_ids, pose_measurement_ids),
    }
    known = {"measurement": measurement_ids, "pose": pose_ids}
    explained = {name: float(np.isin(numbers, ids).mean()) for name, ids in known.items()}
    reached = {name: len(with_pose & reading.keys()) for name, reading in readings.items()}
    evidence = "; ".join(
        f"{explained[name]:.1%} of {len(numbers)} numbers are {name} ids and "
        f"reach {reached[name]} of {len(with_pose)} measurements with a pose"
        for name in readings
    )
    fitting = [name for name in readings if explained[name] >= 0.9]
    both = len(fitting) == 2
    if both:
        fitting = [name for name in fitting if reached[name] >= 0.75 * len(with_pose)]
        agreed = all(readings["measurement"].get(id) == readings["pose"].get(id) for id in with_pose)
        fitting = ["measurement"] if len(fitting) == 2 and agreed else fitting
    if len(fitting) != 1:
        raise findings.stop(
            "frame names",
            str(layout.root),
            "whether frames are named by measurement or by pose cannot be determined, "
            f"{'both fit' if both else 'neither fits'}: {evidence}",
            "Complete the download, or remove the rows without frames from a copy of the database.",
        )
    (name,) = fitting
    findings.decide("frame_id", "Which id names a frame?", f"the {name} id", evidence)
    _report_unknown(layout, name, set(numbers.tolist()) - set(known[name].tolist()), findings)
    return readings[name]


def _by_pose(
    layout: Layout, numbers: NDArray[np.int64], pose_ids: NDArray[np.int64], pose_measurement_ids: NDArray[np.int64]
) -> dict[int, int]:
    """Under which of its poses' ids a frame lies in both planes, or the lowest of them in one, by measurement."""
    has_file = np.isin(pose_ids, numbers)
    one_plane = set(layout.frames["bs"]) ^ set(layout.frames["fs"])
    by_pose = zip(pose_ids[has_file].tolist(), pose_measurement_ids[has_file].tolist(), strict=True)
    best_last = sorted(by_pose, key=lambda pair: (pair[0] in one_plane, pair[0]), reverse=True)
    return {measurement: id for id, measurement in best_last}


def _report_unknown(layout: Layout, name: str, unknown: set[int], findings: Findings) -> None:
    """Report files whose number is no id of the kind that names frames."""
    for files in layout.frames.values():
        for number in sorted(unknown & files.keys()):
            findings.problem(
                "file without row",
                layout.relative(files[number].path),
                f"no {name} has the id {number}",
                "It is ignored; remove it if it does not belong here.",
            )
