"""Simulated frames of the marker phantom, and what a perfect detector with noise would measure in them."""

from functools import lru_cache
from typing import Literal

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from veriserum_hf.calibration import CYLINDER, RAW_HEIGHT_PX, DistortionMap, Observation, load_marker_phantom
from veriserum_hf.core import FloatArray, Grey, ImageArray
from veriserum_hf.geometry import Plane, make_transform, pixel_size_mm, transform_points
from veriserum_hf.simulation.imaging import Imaging, Part
from veriserum_hf.simulation.intensifier import read_out
from veriserum_hf.simulation.transmission import canvas_margin_px, transmission

# The tube that carries the markers, its axis along y.
_TUBE_RADIUS_MM, _TUBE_HEIGHT_MM, _TUBE_WALL_MM = 100.0, 260.0, 5.0
_FINENESS = 4  # rays per canvas pixel and axis through a bead
_MOST_TILT_DEG = 40.0
_CENTER_MM = (0.0, 0.0, 381.0)  # where the central rays of both planes cross
_WANDER_MM = (10.0, 10.0, 100.0)
_FIELD_RADIUS_MM = 180.0


def phantom_poses(count: int, rng: np.random.Generator) -> FloatArray:
    """Poses in the world, (count, 4, 4), of a phantom slowly rotated, tilted and moved through the fields."""
    run = (np.arange(count) + rng.uniform()) / count
    spin_deg = 360 * (3 * run + rng.uniform())
    tilt_deg = _MOST_TILT_DEG * np.sqrt((run * 7.3 + rng.uniform()) % 1)
    towards = 2 * np.pi * (run * 5.7 + rng.uniform())
    tilt = np.radians(tilt_deg)[:, None] * np.stack([np.cos(towards), 0 * towards, np.sin(towards)], axis=1)
    rotation = Rotation.from_rotvec(tilt) * Rotation.from_rotvec(spin_deg[:, None] * (0.0, 1.0, 0.0), degrees=True)
    phases = rng.uniform(0, 2 * np.pi, 3)
    wander = np.sin(2 * np.pi * run[:, None] * (4.1, 6.3, 2.7) + phases)
    return make_transform(rotation.as_matrix(), _CENTER_MM + wander * _WANDER_MM)


def observe_markers(
    plane: Plane, T_world_phantom: FloatArray, noise_mm: float, rng: np.random.Generator
) -> Observation:
    """The beads in the field, correctly identified, at exact positions plus Gaussian noise along each axis."""
    beads_mm = load_marker_phantom(CYLINDER).markers_mm
    detector_mm = plane.project_mm(transform_points(T_world_phantom, beads_mm))
    seen = np.linalg.norm(detector_mm, axis=1) < _FIELD_RADIUS_MM
    measured_mm = detector_mm[seen] + rng.normal(0, noise_mm, (seen.sum(), 2))
    return Observation(beads_mm[seen], measured_mm)


@lru_cache(maxsize=1)
def _tube() -> trimesh.Trimesh:
    """Wall of the phantom's acrylic tube, its axis along y."""
    inner_mm, outer_mm = _TUBE_RADIUS_MM - _TUBE_WALL_MM / 2, _TUBE_RADIUS_MM + _TUBE_WALL_MM / 2
    tube: trimesh.Trimesh = trimesh.creation.annulus(inner_mm, outer_mm, _TUBE_HEIGHT_MM, sections=128)
    tube.apply_transform(make_transform([[1, 0, 0], [0, 0, -1], [0, 1, 0]], (0, 0, 0)))
    return tube


def marker_transmission(plane: Plane, T_world_phantom: FloatArray, imaging: Imaging, size: int) -> ImageArray:
    """Transmission, 0 to 1, of the marker phantom, on the canvas of a ``size`` px image.

    A ray from the source passes a bead's centre at a distance b and leaves a chord of 2 sqrt(r^2 - b^2) in it.
    """
    image = transmission([Part(_tube(), "PMMA", T_world_phantom)], plane, imaging, size)
    per_mm = imaging.attenuation_scale * imaging.attenuation_per_mm["lead"]
    margin, pitch_mm = canvas_margin_px(size), pixel_size_mm(size)
    phantom = load_marker_phantom(CYLINDER)
    radii_mm = phantom.diameters_mm / 2
    beads_mm = transform_points(T_world_phantom, phantom.markers_mm)
    centers_px = plane.project(beads_mm, size) + margin
    depths_mm = plane.depths_mm(beads_mm)
    reaches = np.ceil(1.1 * radii_mm * plane.sid_mm / depths_mm / pitch_mm).astype(int) + 1
    fine = (np.arange(_FINENESS) + 0.5) / _FINENESS - 0.5
    for center_mm, center_px, radius_mm, reach in zip(beads_mm, centers_px, radii_mm, reaches, strict=True):
        columns, rows = (np.arange(index - reach, index + reach + 1) for index in np.rint(center_px).astype(int))
        columns, rows = (along[(along >= 0) & (along < len(image))] for along in (columns, rows))
        rays_px = np.stack(np.meshgrid((columns[:, None] + fine).ravel(), (rows[:, None] + fine).ravel()), axis=-1)
        source_mm, directions = plane.rays(rays_px - margin, size)
        to_bead_mm = center_mm - source_mm
        along_mm = directions @ to_bead_mm
        beside_squared = ((to_bead_mm - along_mm[..., None] * directions) ** 2).sum(axis=-1)
        chords_mm = 2 * np.sqrt(np.maximum(radius_mm**2 - beside_squared, 0))
        through = np.exp(-per_mm * chords_mm).reshape(len(rows), _FINENESS, len(columns), _FINENESS)
        image[np.ix_(rows, columns)] *= through.mean(axis=(1, 3)).astype(np.float32)
    return image


def draw_markers(
    plane: Plane,
    distortion: DistortionMap,
    T_world_phantom: FloatArray,
    imaging: Imaging,
    rng: np.random.Generator,
    *,
    height_px: int = RAW_HEIGHT_PX,
    bit_depth: Literal[8, 16] = 16,
) -> Grey:
    """Raw frame of the marker phantom."""
    depth_mm = float((plane.world_to_camera @ T_world_phantom)[2, 3])
    through = marker_transmission(plane, T_world_phantom, imaging, height_px)
    blur_mm = imaging.blur_mm(plane, depth_mm)
    return read_out(through, blur_mm, distortion, imaging, rng, height_px=height_px, bit_depth=bit_depth)
