"""Plates that face a source, to measure the imaging chain on their images."""

from dataclasses import replace

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry import px_to_mm
from veriserum_hf.geometry.pose import invert_transform, make_transform
from veriserum_hf.geometry.rig import DualPlaneRig
from veriserum_hf.simulation.calibrations import random_distortion
from veriserum_hf.simulation.imaging import Imaging, Part
from veriserum_hf.simulation.intensifier import expose

RIG = DualPlaneRig.from_calibration(
    principal_point_bs_mm=(5.1, -6.3), sid_bs_mm=1860.54, principal_point_fs_mm=(-10.8, 1.4), sid_fs_mm=1851.35
)
DISTORTIONS = {plane: random_distortion(np.random.default_rng(seed)) for seed, plane in enumerate(PLANES)}
DEPTH_MM = 1480.0  # of the implants, from the source
# The same signal everywhere, far from white.
EVEN = replace(
    Imaging(),
    scatter_fraction=0.0,
    glare_fraction=0.0,
    vignette_h_mm=1e6,
    vignette_v_mm=1e6,
    heel_per_mm=0.0,
    band_amplitude=0.0,
    bright_level=0.75,
)
NOISELESS = {"quanta_per_pixel": 1e9, "readout_noise": 0.0}


def plate(plane, extents_mm, material, *, center_mm=(0.0, 0.0), depth_mm=DEPTH_MM, rotation_deg=0.0):
    """A plate that faces the source of a plane, its centre so far across from the beam's axis, and along it."""
    rotation = Rotation.from_euler("z", rotation_deg, degrees=True).as_matrix()
    mesh = trimesh.creation.box(extents_mm)
    mesh.apply_translation((*center_mm, 0))
    to_world = invert_transform(RIG[plane].world_to_camera)
    return Part(mesh, material, to_world @ make_transform(rotation, (0, 0, depth_mm)))


def photograph(parts, imaging, plane="bs", *, seed=0, bit_depth=16, height_px=1600):
    rng = np.random.default_rng(seed)
    return expose(parts, RIG[plane], DISTORTIONS[plane], imaging, rng, height_px=height_px, bit_depth=bit_depth)


def on_intensifier_mm(plane, part, points_mm):
    """Points of a part projected, (n, 2) mm."""
    return px_to_mm(RIG[plane].project(trimesh.transform_points(points_mm, part.T_world_part), 512), 512)
