"""Frames with exact poses, and initial poses with a given error."""

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry import Plane
from veriserum_hf.geometry.pose import (
    invert_transform,
    make_transform,
    matrix_to_quaternion,
    quaternion_to_matrix,
    transform_points,
)
from veriserum_hf.rendering.rasteriser import path_length
from veriserum_hf.simulation.solids import mesh_of, solid_of

PER_MM = 0.2


def pose(anatomy_id, T):
    """A pose as a row has it."""
    quaternion = matrix_to_quaternion(T[:3, :3]).tolist()
    return {"anatomy_id": anatomy_id, "translation_mm": T[:3, 3].tolist(), "quaternion_xyzw": quaternion}


def transform(pose):
    """The (4, 4) of a pose as a row has it."""
    return make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])


def coarse(mesh):
    """The same implant to a tenth of a millimetre: a quarter of the triangles, which is what registering costs."""
    return mesh_of(solid_of(mesh), 0.1)


def displaced(T, mesh, rng, mm, deg):
    """A pose with that error in random directions: shifted, and rotated about the centre of the mesh."""
    shift, axis = (direction / np.linalg.norm(direction) for direction in rng.normal(size=(2, 3)))
    rotation = Rotation.from_rotvec(axis * deg, degrees=True).as_matrix()
    center = transform_points(T, np.mean(mesh.bounds, axis=0)[None])[0]
    return make_transform(rotation @ T[:3, :3], rotation @ (T[:3, 3] - center) + center + mm * shift)


def starts(row, meshes, mm, deg, seed=0):
    """Poses of both implants of a row, each that far from its own."""
    rng = np.random.default_rng([seed, row["measurement_id"]])
    return {
        name: pose(id, displaced(transform(row[name]), meshes[id], rng, mm, deg))
        for name in ("femur", "tibia")
        for id in [row[name]["anatomy_id"]]
    }


def error(found, row):
    """Of a refined pose: shift in mm and rotation vector in deg, (6,)."""
    T, T_true = found.T_world_implant, transform(row[found.component])
    rotation = Rotation.from_matrix(T[:3, :3] @ T_true[:3, :3].T).as_rotvec(degrees=True)
    return np.concatenate([T[:3, 3] - T_true[:3, 3], rotation])


def smaller(row, size):
    """A row whose images have that many pixels along each edge."""
    made = dict(row)
    for plane, seen in rig_of(row).items():
        image = cv2.resize(np.asarray(row[f"image_{plane}"]), (size, size), interpolation=cv2.INTER_AREA)
        made |= {f"image_{plane}": image, f"camera_{plane}": seen.camera(size)}
    return made


def changed(row, change):
    """Images of a row with other grey values, 0 to 1 in and out."""
    images = {f"image_{plane}": np.asarray(row[f"image_{plane}"]) / 255 for plane in PLANES}
    return row | {name: np.rint(255 * change(image)).clip(0, 255).astype(np.uint8) for name, image in images.items()}


def rig_of(row):
    """Planes of a row of the whole intensifiers."""
    planes = {}
    for plane in PLANES:
        camera = row[f"camera_{plane}"]
        T_world_camera = invert_transform(camera["world_to_camera"])
        axes = T_world_camera[:3, :3] * (1, -1, -1)
        foot_mm, sid_mm = np.array(camera["principal_point_mm"]), camera["source_to_intensifier_mm"]
        center_mm = T_world_camera[:3, 3] - axes @ (*foot_mm, sid_mm)
        planes[plane] = Plane(make_transform(axes, center_mm), foot_mm, sid_mm)
    return planes


def drawn(row, meshes, rig, size=512, dtype=np.uint8):
    """Draw the implants of a row as other planes see them: a smooth field, scatter and noise, no holders."""
    rng = np.random.default_rng(row["measurement_id"])
    axis = np.arange(size) / size - 0.5
    field = 200 - 150 * (axis[:, None] ** 2 + axis**2)
    levels = np.iinfo(dtype).max / 255
    made = {name: row[name] for name in ("measurement_id", "femur", "tibia")}
    for plane, seen in rig.items():
        lengths = sum(
            path_length(meshes[row[name]["anatomy_id"]], transform(row[name]), seen, size)
            for name in ("femur", "tibia")
        )
        image = field * np.exp(-PER_MM * lengths) + 15 + rng.normal(0, 2, field.shape)
        made |= {f"image_{plane}": np.rint(levels * image).astype(dtype), f"camera_{plane}": seen.camera(size)}
    return made


def raised(plane, by_mm):
    """The same source; of what it throws, the intensifier catches what is that much higher up."""
    T = plane.T_world_intensifier.copy()
    T[:3, 3] += by_mm * T[:3, 1]
    return Plane(T, plane.principal_point_mm - (0, by_mm), plane.sid_mm)
