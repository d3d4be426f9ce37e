"""Images of many frames of randomised worlds at once, in torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from veriserum_hf.geometry import FIELD_MM, pixel_size_mm
from veriserum_hf.rendering import scenes
from veriserum_hf.simulation.intensifier_torch import Chains, arriving, canvas_rays, noise, transmitted
from veriserum_hf.simulation.transmission import canvas_margin_px
from veriserum_hf.simulation.world_looks import Curve, Look
from veriserum_hf.simulation.world_scene import Row
from veriserum_hf.simulation.worlds import EXPOSURE, World

_BLADE_EDGE_MM = 1.2
_SAMPLES = 48  # along each edge of an image, by which its exposure is chosen
_RIM = 32  # parts of an image's shorter edge, of which one is the width of its rim; as in fitting
_WHITE = 255.0
_BILINEAR = 2 / 3  # standard deviation that interpolation between coarse pixels leaves of white noise


@dataclass(frozen=True, eq=False)
class Drawn:
    """n images as tensors on one device: all of bs, then all of fs.

    Attributes
    ----------
    placed : the solids in them that do not move.
    moving : those that do, in images of every moment of an exposure, one after another.
    moving_images : which images the former are of.
    intrinsics : (n, 3, 3) float64.
    chains : the imaging chains.
    looks : (n, 1, 1) float32 by name: the fields of `Curve`, ``mottle``, ``blade_signal``, and ``first_column``,
        ``first_row``, ``columns`` and ``rows`` of the images on the canvas.
    blades_mm : (n, 4, 3), see `Look`.
    grain_px : of the coarse noise.

    """

    placed: scenes.Placed
    moving: scenes.Placed
    moving_images: Tensor
    intrinsics: Tensor
    chains: Chains
    looks: dict[str, Tensor]
    blades_mm: Tensor
    grain_px: int

    @classmethod
    def of(cls, worlds: Sequence[World], size: int, rng: np.random.Generator) -> "Drawn":
        """Gather frames, in main memory; the bands of the chains are drawn."""
        planes = range(len(worlds[0].looks))
        looks = [world.looks[plane] for plane in planes for world in worlds]
        still: list[tuple[int, Row]] = []
        moving: list[tuple[int, Row]] = []
        moving_images: list[int] = []
        for plane in planes:
            for number, world in enumerate(worlds):
                image, own = plane * len(worlds) + number, [row for row in world.rows if row.image == plane]
                still += [(image, row) for row in own if row.moment is None]
                if moves := [(row.moment, row) for row in own if row.moment is not None]:
                    first = len(EXPOSURE) * len(moving_images)
                    moving += sorted(((first + moment, row) for moment, row in moves), key=lambda each: each[0])
                    moving_images.append(image)
        return cls(
            _placed(still),
            _placed(moving),
            torch.tensor(moving_images, dtype=torch.int64),
            torch.from_numpy(np.concatenate([[world.intrinsics[plane] for world in worlds] for plane in planes])),
            Chains.of([look.exposure for look in looks], size, rng),
            _table(looks),
            torch.tensor(np.stack([look.blades_mm for look in looks]), dtype=torch.float32),
            max(2, round(looks[0].mottle_mm / pixel_size_mm(size))),
        )

    def to(self, device: torch.device) -> "Drawn":
        """The same on a device."""
        return Drawn(
            self.placed.to(device),
            self.moving.to(device),
            self.moving_images.to(device, non_blocking=True),
            self.intrinsics.to(device, non_blocking=True),
            self.chains.to(device),
            {name: column.to(device, non_blocking=True) for name, column in self.looks.items()},
            self.blades_mm.to(device, non_blocking=True),
            self.grain_px,
        )


def _placed(rows: Sequence[tuple[int, Row]]) -> scenes.Placed:
    """Solids with the numbers of their images."""
    T = np.stack([row.T_camera_solid for _, row in rows]) if rows else np.zeros((0, 4, 4))
    return scenes.Placed(
        torch.tensor([image for image, _ in rows], dtype=torch.int64),
        torch.tensor([row.solid for _, row in rows], dtype=torch.int64),
        torch.tensor(T, dtype=torch.float32),
        torch.tensor([row.per_mm for _, row in rows], dtype=torch.float32),
        torch.tensor([row.wall_mm for _, row in rows], dtype=torch.float32),
    )


def _table(looks: Sequence[Look]) -> dict[str, Tensor]:
    table = {each.name: [float(getattr(look.curve, each.name)) for look in looks] for each in fields(Curve)}
    table |= {name: [getattr(look, name) for look in looks] for name in ("mottle", "blade_signal")}
    table |= {
        name: [float(getattr(look, of)[axis]) for look in looks]
        for of, names in (("first_px", ("first_column", "first_row")), ("size_px", ("columns", "rows")))
        for axis, name in enumerate(names)
    }
    columns = torch.tensor(np.stack([*table.values()])[..., None, None], dtype=torch.float32)
    return dict(zip(table, columns, strict=True))


@torch.no_grad()
def draw_images(drawn: Drawn, solids: scenes.Solids, size: int, generator: torch.Generator) -> Tensor:
    """Images on the canvas, (n, size, size) uint8, on the device of all arguments."""
    rays, edge = canvas_rays(drawn.intrinsics, size)
    through = transmitted(_absorbed(drawn, solids, rays.float(), edge))
    through *= _collimator(drawn, size)
    signal, *_ = arriving(through, drawn.chains, size)
    looks = drawn.looks
    sample = _sampled(signal, looks)
    white_at = _quantile(sample, 1 - looks["clipped"])
    signal = signal / torch.where(looks["exposed"] > 0, white_at, torch.ones_like(white_at))
    noisy = signal + _noise(signal, drawn, generator)
    low = _quantile(sample, looks["low"]) / white_at * (looks["low"] > 0)
    level = _curved(((noisy - low) / (1 - low).clamp(min=0.05)).clamp(0, 1), looks)
    grey = (looks["dark"] + (looks["bright"] - looks["dark"]) * level) * _WHITE
    return _continued(grey, looks).round().clamp(0, _WHITE).to(torch.uint8)


def _absorbed(drawn: Drawn, solids: scenes.Solids, rays: Tensor, edge: int) -> Tensor:
    """Attenuation times path length (n, edge, edge) along rays of cameras (n, 3, 3), of whole exposures."""
    summed = scenes.absorbed(solids, drawn.placed, rays, edge)
    if len(moves := drawn.moving_images):
        moments = scenes.absorbed(solids, drawn.moving, rays[moves.repeat_interleave(len(EXPOSURE))], edge)
        # An exposure adds up light, not what is absorbed.
        summed[moves] -= (-moments.unflatten(0, (-1, len(EXPOSURE)))).logsumexp(1) - math.log(len(EXPOSURE))
    return summed


def _collimator(drawn: Drawn, size: int) -> Tensor:
    """Part of the light that passes the blades, on the canvas with its margin."""
    margin = canvas_margin_px(size)
    device = drawn.blades_mm.device
    along = torch.arange(-margin, size + margin, device=device, dtype=torch.float32)
    along_mm = (along - (size - 1) / 2) * (FIELD_MM / size)
    beyond = torch.full((len(drawn.blades_mm), len(along), len(along)), -torch.inf, device=device)
    for blade in drawn.blades_mm[..., None, None].unbind(1):
        normal_x, normal_y, distance = blade.unbind(1)
        beyond = torch.maximum(beyond, normal_x * along_mm + normal_y * along_mm[:, None] - distance)
    passing = (-beyond / _BLADE_EDGE_MM).sigmoid()
    blade_signal = drawn.looks["blade_signal"]
    return blade_signal + (1 - blade_signal) * passing


def _sampled(signal: Tensor, looks: dict[str, Tensor]) -> Tensor:
    """Sorted signals (n, samples) on a grid over the middle of each image, where a round field is too."""
    part = (torch.arange(_SAMPLES, device=signal.device) + 0.5) / _SAMPLES * 0.7 + 0.15
    column = (looks["first_column"] + looks["columns"] * part).long()
    row = (looks["first_row"] + looks["rows"] * part[:, None]).long()
    number = torch.arange(len(signal), device=signal.device)[:, None, None]
    return signal[number, row, column].flatten(1).sort(1)[0]


def _quantile(ascending: Tensor, part: Tensor) -> Tensor:
    """Quantiles (n, 1, 1) of sorted samples; not quite 0, so that it divides."""
    index = (part[:, 0] * (ascending.shape[1] - 1)).round().long()
    return ascending.gather(1, index)[..., None].clamp(min=1e-4)


def _noise(signal: Tensor, drawn: Drawn, generator: torch.Generator) -> Tensor:
    """Noise with a part of coarse grain."""
    count, size = signal.shape[0], signal.shape[-1]
    white = torch.randn(signal.shape, device=signal.device, generator=generator)
    edge = -(-size // drawn.grain_px)
    grains = torch.randn((count, 1, edge, edge), device=signal.device, generator=generator)
    coarse = functional.interpolate(grains, (size, size), mode="bilinear")[:, 0] / _BILINEAR
    readout = drawn.chains.values["readout_noise"] ** 2
    fine = noise(signal, white, drawn.chains, readout)
    # The grain is that of the quanta, of the same deviation where the signal is.
    deviation = (
        signal.clamp(min=0) / drawn.chains.values["quanta_per_pixel"] * drawn.chains.values["noise_part"]
    ).sqrt()
    return fine + drawn.looks["mottle"] * deviation * coarse


def _curved(level: Tensor, looks: dict[str, Tensor]) -> Tensor:
    """Grey levels from 0 to 1 of signals from 0 to 1."""
    logarithm = looks["logarithm"].clamp(min=1e-3)
    logarithmic = (logarithm * level).log1p() / logarithm.log1p()
    curved = torch.where(looks["logarithm"] > 0, logarithmic, level.clamp(min=1e-6) ** looks["gamma"])
    return torch.where(looks["inverted"] > 0, 1 - curved, curved)


def _continued(grey: Tensor, looks: dict[str, Tensor]) -> Tensor:
    """Images of which the canvas around them continues the mean of their rim, as fitting does."""
    rim = (torch.minimum(looks["columns"], looks["rows"]) / _RIM).floor().clamp(min=1)
    grey = _along_columns(grey.mT, looks["first_row"], looks["rows"], rim).mT
    return _along_columns(grey, looks["first_column"], looks["columns"], rim)


def _along_columns(grey: Tensor, first: Tensor, count: Tensor, rim: Tensor) -> Tensor:
    sums = functional.pad(grey.double().cumsum(-1), (1, 0))
    column = torch.arange(grey.shape[-1], device=grey.device)

    def mean(start: Tensor, end: Tensor) -> Tensor:
        low, high = (at.long().expand(-1, grey.shape[1], 1) for at in (start, end))
        return ((sums.gather(2, high) - sums.gather(2, low)) / (end - start)).to(grey.dtype)

    end = first + count
    grey = torch.where(column < first, mean(first, first + rim), grey)
    return torch.where(column >= end, mean(end - rim, end), grey)
