"""Recordings of Rerun, read back with its own reader."""

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from rerun.chunk import RrdReader
from scipy.spatial.transform import Rotation

from veriserum_hf.geometry import Camera, make_transform, quaternion_to_matrix, transform_points
from veriserum_hf.viewer.views import views_of

RERUN = Path(sys.executable).with_name("rerun")
POINTS = 10  # of an implant's mesh


class Recording:
    """Content of a file by entity and component: values by frame; by None where they are the same in all frames."""

    def __init__(self, path):
        self.content = defaultdict(dict)
        for chunk in RrdReader(path).stream():
            batch = chunk.to_record_batch()
            frames = batch["frame"].to_pylist() if "frame" in batch.schema.names else [None] * len(batch)
            for field, column in zip(batch.schema, batch.columns, strict=True):
                if b"rerun:component" in (field.metadata or {}):
                    for frame, value in zip(frames, column.to_pylist(), strict=True):
                        if value is not None:
                            self.content[chunk.entity_path.replace("\\", ""), field.name][frame] = value

    def shown(self, entity, component, frame):
        """What the viewer shows in a frame: the last value before it, unless that was cleared."""
        values = self.content[entity, component]
        cleared = [
            at
            for (path, name), found in self.content.items()
            if name.startswith("Clear:") and f"{entity}/".startswith(f"{path}/")
            for at in found
        ]
        at = max((each for each in values if each is not None and each <= frame), default=None)
        return None if at is None or any(at < each <= frame for each in cleared) else values[at]

    def camera(self, plane, frame):
        """Camera of a plane, as Rerun reads it: matrices by their columns, child from parent."""
        entity = f"/world/{plane}"
        (K,) = self.shown(entity, "Pinhole:image_from_camera", frame)
        (R,) = self.shown(entity, "Transform3D:mat3x3", frame)
        (t,) = self.shown(entity, "Transform3D:translation", frame)
        assert self.shown(entity, "Transform3D:relation", frame) == [2]
        u, _, v = np.linalg.svd(np.reshape(R, (3, 3)).T)  # the rotation whose entries were rounded to 32 bits
        return Camera(np.reshape(K, (3, 3)).T, make_transform(u @ v, t))

    def points_mm(self, entity, frame):
        """Some points of an implant's mesh in its own coordinates and in the world, each (n, 3) mm."""
        vertices = np.array(self.shown(f"{entity}/mesh", "Mesh3D:vertex_positions", frame))
        points = vertices[:: len(vertices) // (POINTS - 1)][:POINTS]
        (quaternion,) = self.shown(entity, "Transform3D:quaternion", frame)
        (translation,) = self.shown(entity, "Transform3D:translation", frame)
        T = make_transform(Rotation.from_quat(quaternion).as_matrix(), translation)
        return points, transform_points(T, points)

    def projections_off_px(self, row, poses):
        """Distances (n, 2) px of points of all implants, projected as the file and as this package project them.

        ``poses`` is a `PoseSet` of the row.
        """
        off = []
        for plane, view in views_of(row).items():
            for part, pose in poses.poses.items():
                frame = row["frame_index"]
                points, in_world = self.points_mm(f"/world/implants/{poses.name}/{part}", frame)
                T = make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])
                ours = view.camera.project(transform_points(T, points))
                off.append(self.camera(plane, frame).project(in_world) - ours)
        return np.concatenate(off)


def verified(path, home):
    """What Rerun's own check of a file ends with and reports.

    ``home`` is an empty folder: there, Rerun's program sends no data on its use.
    """
    environment = os.environ | {"XDG_CONFIG_HOME": str(home), "HOME": str(home)}
    command = [RERUN, "rrd", "verify", path]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return ran.returncode, ran.stdout + ran.stderr
