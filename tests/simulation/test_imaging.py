"""Parameters of the imaging chain: only what means something, in their documented ranges, fit to be stored."""

import json
import pickle
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tests.simulation.plates import RIG
from veriserum_hf.simulation.imaging import ATTENUATION_PER_MM, Imaging

RANGES = {f.name: f.metadata["range"] for f in fields(Imaging) if "range" in f.metadata}
SIGNED = {"heel_per_mm", "field_center_x_px", "field_center_y_px"}
STRAY = {"scatter_fraction", "glare_fraction", "ring_level", "dark_level"}
NONE = {"focal_spot_mm", "screen_blur_mm", "noise_blur_px", "readout_noise", "band_amplitude"}
drawn = st.builds(Imaging, **{name: st.floats(*span) for name, span in RANGES.items()})


def test_drawn_parameters_and_defaults_lie_in_their_documented_ranges():
    for imaging in (Imaging(), *(Imaging.random(np.random.default_rng(seed)) for seed in range(100))):
        for name, (low, high) in RANGES.items():
            assert low <= getattr(imaging, name) <= high, name
    assert len(RANGES) > 20
    assert [name for name in RANGES if name not in Imaging.__doc__] == []
    assert Imaging.random(np.random.default_rng(3)) == Imaging.random(np.random.default_rng(3))
    assert Imaging.random(np.random.default_rng(3)) != Imaging.random(np.random.default_rng(4))


@given(drawn)
def test_any_parameters_within_their_ranges_are_allowed_and_can_be_stored(imaging):
    assert Imaging(**json.loads(json.dumps(asdict(imaging)))) == imaging
    assert pickle.loads(pickle.dumps(imaging)) == imaging
    assert hash(replace(imaging)) == hash(imaging)


def test_attenuation_does_not_change_with_what_it_was_made_from():
    per_mm = dict(ATTENUATION_PER_MM)
    imaging = Imaging(attenuation_per_mm=per_mm)
    per_mm["CoCr"] = 0.0
    assert imaging == Imaging()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, "1", None])
@pytest.mark.parametrize("name", RANGES)
def test_no_parameter_may_be_other_than_a_finite_number(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value!r}"):
        Imaging(**{name: value})


@pytest.mark.parametrize("name", RANGES)
def test_parameters_are_zero_or_negative_only_where_that_means_something(name):
    for value, allowed in ((0.0, name in SIGNED | STRAY | NONE), (-0.001, name in SIGNED)):
        if allowed:
            assert getattr(Imaging(**{name: value}), name) == value
        else:
            with pytest.raises(ValueError, match=f"{name}.*, got .*{value}"):
                Imaging(**{name: value})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scatter_fraction": 1.0}, "scatter_fraction must be at least 0 and less than 1, got 1.0"),
        (
            {"scatter_fraction": 0.6, "glare_fraction": 0.4},
            "scatter_fraction and glare_fraction .* less than 1",
        ),
        ({"heel_per_mm": 0.01}, "heel_per_mm must be between -0.004 and 0.004, got 0.01"),
        ({"bright_level": 1.1}, "bright_level must be from 0 to 1, got 1.1"),
        ({"dark_level": 0.5, "bright_level": 0.5}, "dark_level must be less than bright_level, got 0.5 and 0.5"),
        ({"jpeg_quality": 0}, "jpeg_quality must be a whole number from 1 to 100, got 0"),
        ({"jpeg_quality": 101}, "jpeg_quality must be a whole number from 1 to 100, got 101"),
        ({"jpeg_quality": 95.0}, "jpeg_quality must be a whole number from 1 to 100, got 95.0"),
        ({"attenuation_per_mm": {"CoCr": -1.0}}, r"attenuation_per_mm\['CoCr'\] must be zero or positive, got -1.0"),
    ],
)
def test_says_what_a_parameter_may_be(changed, message):
    with pytest.raises(ValueError, match=message):
        Imaging(**changed)


def test_the_penumbra_grows_with_the_focal_spot_and_the_distance_from_the_screen():
    plane, imaging = RIG["bs"], Imaging(focal_spot_mm=1.2, screen_blur_mm=0.3)
    assert imaging.blur_mm(plane, plane.sid_mm) == 0.3
    # Half way, the shadow of a point is as wide as the focal spot.
    assert imaging.blur_mm(plane, plane.sid_mm / 2) == pytest.approx(np.hypot(1.2 / 2.3548, 0.3), rel=1e-4)
