"""Conditions that contradict what a registration assumes: wrong cameras, meshes, times and images.

A world states what is seen (`Seen`) and what the registration is given (`Given`). Frames of all worlds have the same
poses, true cameras, surroundings and random numbers, so that conditions differ by what they are named after alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from tests.benchmarks.independent_chain import SIZE_PX, Response
from veriserum_hf.core import COMPONENTS, Component


@dataclass(frozen=True)
class Seen:
    """What is in front of the detector, and what becomes of the image.

    Attributes
    ----------
    apart_mm : the implants' motion between the planes: bs is in time, fs late.
    within_mm : the implants' motion within the exposure.
    distortion_px : smooth residual distortion, RMS.
    embedded, leg, cables, collimator : plastic on the surfaces fixed to bone; a leg and no fixtures; others.
    sided : implants of other shapes, which no plane mirrors.
    empty : the open field alone.
    exposure, noise, narrower : factors on the signal, on the noise and on the open field's fall to the rim.
    response, gamma, jpeg, size_px : of the image.

    """

    apart_mm: float = 0
    within_mm: float = 0
    distortion_px: float = 0
    embedded: bool = False
    leg: bool = False
    cables: bool = False
    collimator: bool = False
    sided: bool = False
    empty: bool = False
    exposure: float = 1
    noise: float = 1
    narrower: float = 1
    response: Response = "gamma"
    gamma: float = 1
    jpeg: int = 0
    size_px: int = SIZE_PX

    @property
    def name(self) -> str:
        """What differs from the default, as the name of a folder."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return "_".join(f"{name}-{given[name]}" for name in given if given[name] != getattr(Seen(), name)) or "plain"


@dataclass(frozen=True)
class Given:
    """What is wrong with the cameras and meshes that the registration is given.

    Attributes
    ----------
    fs_mm, fs_deg : shift and rotation of the fs intensifier, about its centre.
    principal_mm, sid_mm : of both planes' principal points and distances.
    offset_mm, scale, triangles : of the meshes: surface outwards, factor, at most so many triangles.
    another : component that has the mesh of another implant.
    mirrored : meshes of the other side.

    """

    fs_mm: float = 0
    fs_deg: float = 0
    principal_mm: float = 0
    sid_mm: float = 0
    offset_mm: float = 0
    scale: float = 1
    triangles: int = 0
    another: Component | None = None
    mirrored: bool = False


@dataclass(frozen=True)
class World:
    """One condition of the benchmark; ``judged`` are the components that count."""

    text: str
    seen: Seen = field(default_factory=Seen)
    given: Given = field(default_factory=Given)
    judged: Sequence[Component] = COMPONENTS

    @property
    def within_tolerance(self) -> bool:
        """Whether its geometry is as good as stated intervals must allow for."""
        exact = replace(self.given, fs_mm=0, fs_deg=0, offset_mm=0, triangles=0) == Given()
        small = self.given.fs_mm <= 0.2 and self.given.fs_deg <= 0.05 and abs(self.given.offset_mm) <= 0.1
        return exact and small and not self.seen.distortion_px and not self.seen.apart_mm and self.seen.within_mm <= 1


_MILD = Given(fs_mm=0.2, fs_deg=0.05, principal_mm=0.5, sid_mm=2, offset_mm=-0.1)
_NOMINAL = Given(fs_mm=1, fs_deg=0.2, principal_mm=1, sid_mm=3, offset_mm=-0.1)
WORLDS = {
    "exact": World("exact cameras and meshes"),
    "fs-0.2": World("fs pose off by 0.2 mm, 0.05 deg", given=Given(fs_mm=0.2, fs_deg=0.05)),
    "fs-1": World("fs pose off by 1 mm, 0.2 deg", given=Given(fs_mm=1, fs_deg=0.2)),
    "fs-2": World("fs pose off by 2 mm, 0.5 deg", given=Given(fs_mm=2, fs_deg=0.5)),
    "principal-1": World("principal points off by 1 mm", given=Given(principal_mm=1)),
    "principal-2": World("principal points off by 2 mm", given=Given(principal_mm=2)),
    "sid-5": World("distances off by 5 mm", given=Given(sid_mm=5)),
    "thin-0.1": World("meshes 0.1 mm too thin", given=Given(offset_mm=-0.1)),
    "thin-0.2": World("meshes 0.2 mm too thin", given=Given(offset_mm=-0.2)),
    "scale-1.005": World("meshes 1.005 times as large", given=Given(scale=1.005)),
    "scale-1.01": World("meshes 1.01 times as large", given=Given(scale=1.01)),
    "distortion-0.2": World("residual distortion of 0.2 px, smooth", Seen(distortion_px=0.2)),
    "distortion-0.5": World("residual distortion of 0.5 px, smooth", Seen(distortion_px=0.5)),
    "apart-1": World("planes 1 mm of motion apart in time", Seen(apart_mm=1)),
    "apart-2": World("planes 2 mm of motion apart in time", Seen(apart_mm=2)),
    "motion-1": World("1 mm of motion within the exposure", Seen(within_mm=1)),
    "motion-3": World("3 mm of motion within the exposure", Seen(within_mm=3)),
    "embedded": World("plastic on the surfaces fixed to bone", Seen(embedded=True)),
    "leg": World("leg, bones and the other leg", Seen(leg=True)),
    "cables": World("cables and a table's edge", Seen(cables=True)),
    "saturated": World("saturated: signal times 1.9", Seen(exposure=1.9)),
    "windowed": World("windowed: 25 to 75 % quantile", Seen(response="windowed")),
    "collimator": World("collimator edge across an implant", Seen(collimator=True)),
    "noise": World("noise times 3", Seen(noise=3)),
    "jpeg": World("JPEG, quality 60", Seen(jpeg=60)),
    "small": World("256 px", Seen(size_px=256)),
    "triangles": World("meshes of 2,000 triangles", given=Given(triangles=2000)),
    "vignette": World("open field 1.7 times as narrow", Seen(narrower=1.7)),
    "gamma-0.6": World("gamma 0.6", Seen(gamma=0.6)),
    "gamma-1.6": World("gamma 1.6", Seen(gamma=1.6)),
    "log": World("logarithmic grey values", Seen(response="log")),
    "inverted": World("inverted", Seen(response="inverted")),
    "mild": World(
        "mild together: principal points 0.5 mm, distances 2 mm, fs 0.2 mm and 0.05 deg, meshes -0.1 mm, distortion "
        "0.2 px, gamma 0.85, JPEG 80",
        Seen(distortion_px=0.2, gamma=0.85, jpeg=80),
        _MILD,
    ),
    "nominal": World(
        "nominal together: principal points 1 mm, distances 3 mm, fs 1 mm and 0.2 deg, meshes -0.1 mm, distortion "
        "0.3 px, motion 1 mm, gamma 0.75, cables",
        Seen(distortion_px=0.3, within_mm=1, gamma=0.75, cables=True),
        _NOMINAL,
    ),
}
# Nothing to register: every pose must be refused.
REFUSED = {
    "another-femur": World("femoral mesh of another implant", given=Given(another="femur"), judged=("femur",)),
    "another-tibia": World("tibial mesh of another implant", given=Given(another="tibia"), judged=("tibia",)),
    **{
        f"size-{scale}": World(f"meshes of another size: {scale} times as large", given=Given(scale=scale))
        for scale in (0.97, 1.03, 1.06, 1.1)
    },
    "mirrored": World("left meshes on a right knee", Seen(sided=True), Given(mirrored=True)),
    "empty": World("image without an edge", Seen(empty=True)),
}
