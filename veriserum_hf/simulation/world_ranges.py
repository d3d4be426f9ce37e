"""Ranges of randomised worlds: rigs, knees, implants, surroundings and detectors of other laboratories than this one.

Every range says where it comes from. "Measured" is from real frames of other laboratories; "wider" goes beyond what
was seen, so that what was seen is not at the edge.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real

import numpy as np

from veriserum_hf.core import FloatArray

Range = tuple[float, float]


@dataclass(frozen=True)
class WorldRanges:
    """What randomised frames are drawn from; every range is drawn evenly, a share is that of frames.

    A share of 0 switches its kind of change off. Lengths on a detector are those on a canvas of 360 mm; grey levels
    and signals are parts of white.

    Attributes
    ----------
    shapes : femoral components, and as many tibial ones, that are drawn beside the seven of the simulator.
    own_shapes : share of frames that show two of these seven.
    left : share of the drawn components that are of left knees.
    size, aspect : factors on a component, and on each of its axes.
    frame_deg, frame_mm : by how much a drawn component's coordinates are turned and shifted.
    other_rigs : share of frames by another rig than this laboratory's.
    fs_mm, fs_deg : by how much the fs plane of this laboratory is shifted and turned.
    planes_deg : angle between the planes.
    tilt_deg : of the fs plane out of the horizontal, and its turn in itself.
    distance_mm : from the source to the detector.
    depth_part : of this distance, from the source to the knee.
    field_mm, field_aspect : longer side of the detector's field, and the shorter one over it.
    round_fields : share of other rigs' detectors with a round field.
    unknown_pixels : share of other rigs whose pixels are of unknown size.
    pixel_mm : pitch of their pixels.
    principal_mm : of the source's foot from the field's centre, either way.
    crops : share of frames of this laboratory's rig of which parts are given.
    other_side : share of other rigs' knees that are seen from the other side than here.
    any_direction : share of knees that are seen from anywhere, upside down too; else obliquely, as here.
    wander_mm : of the joint from where the central rays cross.
    apart, apart_mm : share of frames whose planes are not exposed at once, and the motion in between.
    motion, motion_mm : share of frames whose implants move during the exposure, and how far.
    holders : share of frames with a robot's holders.
    opaque_blocks : share of these whose steel lets nothing pass.
    legs, second_legs : share of frames with a leg around the implants; with another one beside.
    tissue_per_mm, bone_per_mm : attenuation of a leg, and of bone in it in addition.
    cables, tables, collimators : share of frames with such.
    metal : signal behind an implant over that beside it.
    hollow, wall_mm : share of components that look like thin shells, and their walls.
    opaque : share of components that let nothing pass.
    stray : scatter and glare together, part of the signal; its logarithm is drawn evenly.
    noise, mottle : factor on the noise, and deviation of its coarse part over that of the fine one.
    mottle_mm : grain of the coarse part.
    blur_mm : standard deviation of screen and optics.
    dark : grey level of black.
    exposed : share of frames whose exposure follows the image, as it does with a leg; else it is the open field's.
    plain : share of images whose grey levels grow evenly with the signal, as here.
    gamma : exponent of the others' grey levels.
    logarithmic, inverted : share of the others.
    clipped : part of the field that is white.
    saturated, saturated_part : share of images whose background is white, and how much of it.
    windowed, windowed_part : share of images with the darkest and the brightest part cut off, and how much.
    one_curve : share of frames with the same grey curve in both planes.

    Raises
    ------
    ValueError
        If a name is unknown, a range is not two increasing numbers, or a number is out of its range.

    """

    # Femoral components are 55 to 80 mm wide and tibial trays 60 to 85 mm (sizes of several makers' catalogues).
    shapes: int = 48
    own_shapes: float = 0.25
    left: float = 0.5
    size: Range = (0.85, 1.15)
    aspect: Range = (0.95, 1.05)
    frame_deg: Range = (0.0, 10.0)
    frame_mm: Range = (0.0, 5.0)
    # This laboratory's: the inter-plane pose is nominal. Others: biplane rooms have 50 to 130 degrees, sources 0.9 to
    # 2.0 m away, intensifiers of 23 to 40 cm and panels of 43 cm with pixels of 0.15 to 0.45 mm; wider for pixels.
    # A knee may be as near to a panel as its own half width.
    other_rigs: float = 0.5
    fs_mm: Range = (0.0, 3.0)
    fs_deg: Range = (0.0, 0.6)
    planes_deg: Range = (50.0, 130.0)
    tilt_deg: Range = (0.0, 15.0)
    distance_mm: Range = (900.0, 2000.0)
    depth_part: Range = (0.6, 0.92)
    field_mm: Range = (230.0, 430.0)
    field_aspect: Range = (0.75, 1.0)
    round_fields: float = 0.5
    unknown_pixels: float = 0.2
    pixel_mm: Range = (0.15, 0.6)
    principal_mm: Range = (-15.0, 15.0)
    crops: float = 0.15
    other_side: float = 0.5
    any_direction: float = 0.25
    wander_mm: Range = (0.0, 110.0)
    apart: float = 0.25
    apart_mm: Range = (0.0, 0.7)
    motion: float = 0.25
    motion_mm: Range = (0.0, 3.0)
    # A robot holds the implants of this laboratory; in patients there are bones and soft tissue: water has
    # 0.02/mm at 60 to 80 keV and less where scatter fills the shadow; cortical bone has two to three times as much.
    holders: float = 0.55
    opaque_blocks: float = 0.4
    legs: float = 0.5
    second_legs: float = 0.2
    tissue_per_mm: Range = (0.004, 0.016)
    bone_per_mm: Range = (0.008, 0.035)
    cables: float = 0.2
    tables: float = 0.2
    collimators: float = 0.25
    # Measured: metal at 0.23 of its surround beside a block at 0.005, where this simulator has 0.13 and 0.038.
    metal: Range = (0.08, 0.35)
    hollow: float = 0.08
    wall_mm: Range = (0.8, 2.2)
    opaque: float = 0.08
    stray: Range = (0.001, 0.2)
    # Measured: 1.4 to 1.8 times this simulator's noise, with four times the power at low frequencies, and edges 1.45
    # times as wide; wider.
    noise: Range = (0.5, 2.5)
    mottle: Range = (0.0, 1.2)
    mottle_mm: Range = (1.5, 5.0)
    blur_mm: Range = (0.18, 0.6)
    # Grey levels are raw, gamma-corrected, logarithmic, windowed or inverted, as viewers and archives store them.
    dark: Range = (0.0, 0.02)
    exposed: float = 0.6
    plain: float = 0.35
    gamma: Range = (0.4, 2.2)
    logarithmic: float = 0.2
    inverted: float = 0.2
    clipped: Range = (0.0, 0.04)
    saturated: float = 0.2
    saturated_part: Range = (0.03, 0.35)
    windowed: float = 0.15
    windowed_part: Range = (0.03, 0.2)
    one_curve: float = 0.6

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(each.default, tuple):
                object.__setattr__(self, each.name, _range(each.name, value))
            elif each.name == "shapes":
                if not (isinstance(value, int) and 1 <= value <= 1000):
                    raise ValueError(f"shapes must be a whole number from 1 to 1000, got {value!r}")
            elif not (isinstance(value, Real) and 0 <= float(value) <= 1):
                raise ValueError(f"{each.name} is a share and must be from 0 to 1, got {value!r}")
        for name in ("size", "aspect", "distance_mm", "field_mm", "pixel_mm", "metal", "stray", "gamma", "mottle_mm"):
            if not getattr(self, name)[0] > 0:
                raise ValueError(f"{name} must be positive, got {list(getattr(self, name))}")
        if not (self.planes_deg[0] >= 30 and self.planes_deg[1] <= 150):
            raise ValueError(f"planes_deg must be within 30 and 150, got {list(self.planes_deg)}: rays must cross")

    @classmethod
    def of(cls, given: Mapping[str, object]) -> "WorldRanges":
        """Ranges with some of them given by name, as in a YAML file; see the class for what is refused."""
        known = [each.name for each in fields(cls)]
        if unknown := given.keys() - set(known):
            raise ValueError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return cls(**given)  # type: ignore[arg-type] # checked there

    def draw(self, name: str, rng: np.random.Generator) -> float:
        """A number from the range of this name."""
        low, high = getattr(self, name)
        return float(rng.uniform(low, high))

    def draw_ratio(self, name: str, rng: np.random.Generator) -> float:
        """A number from the range of this name, which is positive, its logarithm drawn evenly."""
        low, high = np.log(getattr(self, name))
        return float(np.exp(rng.uniform(low, high)))

    def happens(self, name: str, rng: np.random.Generator) -> bool:
        """Whether what has a share by this name happens."""
        return bool(rng.random() < getattr(self, name))


def _range(name: str, value: object) -> Range:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(isinstance(end, Real) for end in value):
        raise ValueError(f"{name} is a range and must be two numbers, got {value!r}")
    low, high = float(value[0]), float(value[1])
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"{name} must be two finite numbers, the smaller one first, got {value!r}")
    return low, high


def random_direction(rng: np.random.Generator) -> FloatArray:
    """Unit vector (3,), evenly over the sphere."""
    vector = rng.normal(size=3)
    unit: FloatArray = vector / np.linalg.norm(vector)
    return unit
