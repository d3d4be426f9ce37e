"""Calibrations of a simulated fluoroscope, and the bead grid that shows its distortion."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from veriserum_hf.calibration import SIPLA_GRID, Distortion, GridPhantom, load_grid_phantom
from veriserum_hf.core import FloatArray, ImageArray
from veriserum_hf.geometry import NOMINAL_T_WORLD_FS, DualPlaneRig, make_transform, mm_to_px, pixel_size_mm
from veriserum_hf.simulation.imaging import Imaging
from veriserum_hf.simulation.transmission import canvas_margin_px

_FINENESS = 8  # rays per canvas pixel and axis through a bead
_PLATE_TRANSMISSION = 0.05  # of a perforated plate, between its holes


def random_distortion(rng: np.random.Generator) -> Distortion:
    """A shift, a rotation, a pincushion and an S-shaped twist, as large as in the published calibrations."""
    x, y = np.zeros((4, 4)), np.zeros((4, 4))
    x[0, 0], y[0, 0] = rng.uniform(-6, 6, 2)
    x[1, 0], y[0, 1] = rng.uniform(1.01, 1.025, 2)
    x[0, 1], y[1, 0] = rng.uniform(-0.03, 0.03, 2)
    pincushion, twist = rng.uniform(-1.2e-6, -0.5e-6), rng.uniform(-4e-7, 4e-7)
    x[3, 0] = x[1, 2] = y[2, 1] = y[0, 3] = pincushion
    x[2, 1], x[0, 3], y[3, 0], y[1, 2] = twist, twist, -twist, -twist
    by_power = np.outer([1, 1e-2, 1e-4, 1e-6], [1, 1e-2, 1e-4, 1e-6])
    x += by_power * rng.normal(0, 0.02, (4, 4))
    y += by_power * rng.normal(0, 0.02, (4, 4))
    angle = np.radians(rng.uniform(-1.5, 1.5))
    rotation = (np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle))
    return Distortion(
        tuple(x.ravel().tolist()),
        tuple(y.ravel().tolist()),
        float(rng.uniform(0.222, 0.229)),
        tuple(rng.normal((-191, 178), 2).tolist()),
        tuple(map(float, rotation)),
    )


def random_source(rng: np.random.Generator) -> dict[str, float]:
    """Principal points and distances, mm, in the published ranges, by column of ``source_int_calibration``."""
    low_high = {"h_fs": (-11.49, -10.14), "v_fs": (0.68, 2.03), "h_bs": (2.04, 8.16), "v_bs": (-8.84, -4.76)}
    row = {f"principalp_{axis}": round(rng.uniform(*span), 4) for axis, span in low_high.items()}
    return row | {"sid_fs": float(rng.choice([1851.35, 1860.54])), "sid_bs": 1860.54}


def moved_fs(translation_mm: ArrayLike, rotation_deg: ArrayLike) -> FloatArray:
    """Nominal pose of the ``fs`` intensifier, (4, 4), shifted along and rotated about the world's axes."""
    rotation = Rotation.from_rotvec(np.asarray(rotation_deg, dtype=np.float64), degrees=True).as_matrix()
    return make_transform(
        rotation @ NOMINAL_T_WORLD_FS[:3, :3], NOMINAL_T_WORLD_FS[:3, 3] + np.asarray(translation_mm)
    )


def rig_of(source: Mapping[str, float], T_world_fs: ArrayLike = NOMINAL_T_WORLD_FS) -> DualPlaneRig:
    """The rig of a row of ``source_int_calibration``."""
    return DualPlaneRig.from_calibration(
        principal_point_bs_mm=(source["principalp_h_bs"], source["principalp_v_bs"]),
        sid_bs_mm=source["sid_bs"],
        principal_point_fs_mm=(source["principalp_h_fs"], source["principalp_v_fs"]),
        sid_fs_mm=source["sid_fs"],
        T_world_fs=T_world_fs,
    )


def grid_transmission(
    imaging: Imaging, size: int, beads_mm: FloatArray | None = None, phantom: GridPhantom | None = None
) -> ImageArray:
    """Transmission, 0 to 1, of a grid phantom, on the canvas of a ``size`` px image.

    Parameters
    ----------
    imaging : the imaging chain.
    size : edge of the corrected image, px.
    beads_mm : where the beads or holes are, (n, 2) on the intensifier; those beyond the canvas are not drawn. If
        None, all those of a phantom that is not rotated. For a rotated or damaged phantom, rotate or remove some.
    phantom : with spheres of lead, or a plate with holes that covers the field; if None, the lab's ``sipla_grid``.

    """
    phantom = phantom or load_grid_phantom(SIPLA_GRID)
    holes = phantom.polarity == "bright"
    margin, pitch_mm = canvas_margin_px(size), pixel_size_mm(size)
    open_field = _PLATE_TRANSMISSION if holes else 1.0
    image = np.full((size + 2 * margin, size + 2 * margin), open_field, np.float32)
    per_mm = imaging.attenuation_scale * imaging.attenuation_per_mm["lead"]
    radius_mm = phantom.diameter_mm / 2
    reach = int(np.ceil(radius_mm / pitch_mm)) + 1
    side = 2 * reach + 1
    rays_px = (np.arange(side * _FINENESS) + 0.5) / _FINENESS - 0.5 - reach  # from the pixel that the bead is on
    centers_px = mm_to_px(phantom.spots_mm if beads_mm is None else beads_mm, size) + margin
    drawn = ((centers_px > reach) & (centers_px < len(image) - 1 - reach)).all(axis=1)
    for center_px in centers_px[drawn]:
        nearest = np.rint(center_px).astype(int)
        x_mm, y_mm = ((rays_px + (nearest - center_px)[:, None]) * pitch_mm).astype(np.float32)
        squared_mm = radius_mm**2 - x_mm**2 - y_mm[:, None] ** 2
        if holes:
            through = np.where(squared_mm > 0, np.float32(1 / open_field), np.float32(1))
        else:
            through = np.exp(-2 * per_mm * np.sqrt(np.maximum(squared_mm, 0)))
        column, row = nearest - reach
        there = image[row : row + side, column : column + side]
        there *= cv2.resize(through, (side, side), interpolation=cv2.INTER_AREA)
    return image
