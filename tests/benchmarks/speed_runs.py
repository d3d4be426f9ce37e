"""One run of the speed benchmark, by whichever ``veriserum_hf`` is on the path: ``python -P speed_runs.py KIND ...``.

It prints one line of JSON: processor time, and what came of each implant.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.spatial.transform import Rotation

from veriserum_hf.dataset import open_rows
from veriserum_hf.registration.data_sets import register_dataset
from veriserum_hf.registration.labels.check import check_labels
from veriserum_hf.registration.refine import register


def of_file(path):
    """Rows of a registration: measurement, component, pose, deviations and verdict."""
    return [
        {
            "id": pose["measurement_id"],
            "component": pose["component"],
            "translation_mm": pose["translation_mm"],
            "quaternion_xyzw": pose["quaternion_xyzw"],
            "sigma": None if pose["covariance"] is None else np.sqrt(np.diag(pose["covariance"])).tolist(),
            "verdict": pose["verdict"],
        }
        for pose in pq.read_table(path).to_pylist()
    ]


def one_by_one(dataset, starts, subdivisions):
    """Every frame alone, from its own initial pose; the femur's mesh has four times the triangles a subdivision."""
    source = open_rows(dataset, ("calibrated",), archive_px=512)
    meshes = dict(source.meshes)
    for id, mesh in meshes.items():
        if len(mesh.faces) > 20_000:
            for _ in range(subdivisions):
                meshes[id] = meshes[id].subdivide()
    given = {}
    for pose in pq.read_table(starts).to_pylist():
        given.setdefault(pose["measurement_id"], {})[pose["component"]] = pose
    found = []
    rows = (row for frames in source.splits.values() for row in frames.read())
    for row in rows:
        for name, pose in register(row, meshes, given[row["measurement_id"]]).items():
            failed = np.isnan(pose.covariance).any()
            found.append(
                {
                    "id": row["measurement_id"],
                    "component": name,
                    "translation_mm": pose.translation_mm.tolist(),
                    "quaternion_xyzw": Rotation.from_matrix(pose.T_world_implant[:3, :3]).as_quat().tolist(),
                    "sigma": None if failed else np.sqrt(np.diag(pose.covariance)).tolist(),
                    "verdict": pose.verdict,
                }
            )
    return found


def main():
    kind, dataset, starts = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "poses.parquet"
        began = time.process_time()
        if kind == "trial":
            register_dataset(dataset, output, start=starts, workers=1)
            found = of_file(output)
        elif kind == "labels":
            check_labels(dataset, output, workers=1)
            found = of_file(output.with_suffix(".registered.parquet"))
        else:
            found = one_by_one(dataset, starts, {"alone": 0, "fine": 2}[kind])
        print(json.dumps({"cpu_s": time.process_time() - began, "found": found}))


if __name__ == "__main__":
    main()
