"""The bead grid's image."""

import cv2
import numpy as np
import pytest

from tests.fixtures.phantoms import BEAD_DIAMETER_MM, grid_beads_mm
from veriserum_hf.geometry import pixel_size_mm
from veriserum_hf.simulation.calibrations import grid_transmission
from veriserum_hf.simulation.imaging import Imaging


@pytest.mark.parametrize("size", [80, 160, 400])
def test_the_grid_is_the_same_at_any_size(size):
    fine, coarse = grid_transmission(Imaging(), 1600), grid_transmission(Imaging(), size)
    np.testing.assert_allclose(coarse, cv2.resize(fine, coarse.shape, interpolation=cv2.INTER_AREA), atol=0.05)


def test_every_bead_takes_its_disc_out_of_the_beam():
    opaque = Imaging(attenuation_per_mm={"lead": 1e4})
    shade_mm2 = (1 - grid_transmission(opaque, 1600)).sum(dtype=float) * pixel_size_mm(1600) ** 2
    assert shade_mm2 == pytest.approx(len(grid_beads_mm()) * np.pi * BEAD_DIAMETER_MM**2 / 4, rel=0.002)
