"""Transmission of solids: by the Beer-Lambert law, where the plane's camera sees them."""

import numpy as np
import pytest

from tests.simulation.plates import DEPTH_MM, RIG, photograph, plate
from veriserum_hf.simulation.imaging import Imaging
from veriserum_hf.simulation.transmission import canvas_margin_px, transmission


def through_plates(*parts):
    """Transmission well within plates 60 mm wide, and by how much rays are longer there than straight through."""
    margin, K = canvas_margin_px(512), RIG["bs"].intrinsics(512)
    image = transmission(parts, RIG["bs"], Imaging(), 512)[margin:-margin, margin:-margin]
    row, column = np.indices(image.shape)
    x, y = (column - K[0, 2]) / K[0, 0], (row - K[1, 2]) / K[1, 1]
    inner = np.maximum(abs(x), abs(y)) * DEPTH_MM < 28
    return image[inner], np.sqrt(1 + x**2 + y**2)[inner]


@pytest.mark.parametrize("thickness_mm", [2.0, 5.0, 10.0])
@pytest.mark.parametrize(("material", "per_mm"), [("CoCr", 0.35), ("Ti6Al4V", 0.118)])
def test_a_plate_lets_through_what_beer_and_lambert_say(material, per_mm, thickness_mm):
    through, longer = through_plates(plate("bs", (60, 60, thickness_mm), material))
    assert len(through) > 9_000
    np.testing.assert_allclose(through, np.exp(-per_mm * thickness_mm * longer), rtol=1e-4)


def test_plates_behind_each_other_multiply():
    near, far = plate("bs", (60, 60, 5), "Ti6Al4V", depth_mm=1420), plate("bs", (60, 60, 2), "CoCr")
    both, _ = through_plates(near, far)
    np.testing.assert_allclose(both, through_plates(near)[0] * through_plates(far)[0], rtol=1e-5)


@pytest.mark.parametrize("center_mm", [(2000, 0), (-2000, 0), (0, 2000), (0, -2000), (1e5, 1e5)])
def test_what_no_ray_meets_leaves_the_beam_open(center_mm):
    missed = plate("bs", (60, 60, 5), "CoCr", center_mm=center_mm)
    assert (transmission([missed], RIG["bs"], Imaging(), 256) == 1).all()
    seen = plate("bs", (60, 60, 5), "CoCr")
    alone, both = (transmission(parts, RIG["bs"], Imaging(), 256) for parts in ([seen], [seen, missed]))
    assert alone.min() < 0.2
    np.testing.assert_array_equal(both, alone)


def test_says_which_materials_there_are():
    with pytest.raises(ValueError, match="no attenuation is known for 'gold', expected one of CoCr, Ti6Al4V, steel"):
        photograph([plate("bs", (60, 60, 2), "gold")], Imaging(), height_px=200)


def test_says_that_a_mesh_is_open():
    part = plate("bs", (60, 60, 2), "CoCr")
    part.mesh.update_faces(np.arange(len(part.mesh.faces)) > 0)
    with pytest.raises(ValueError, match="is not closed, so a ray may enter it and never leave"):
        photograph([part], Imaging(), height_px=200)
