"""Shapes of the implants of a batch: of a model's table, or of the meshes that it is given."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .configuration_veriserum import COMPONENTS, Anatomy
from .geometry_veriserum import inverse
from .inputs_veriserum import possible_anatomies


class Shapes(NamedTuple):
    """Shapes of both implants of B frames.

    Attributes
    ----------
    center_implant_mm : (B, 2, 3) what a model looks for in the images.
    points_implant_mm : (B, 2, n, 3) of the surfaces.

    """

    center_implant_mm: Tensor
    points_implant_mm: Tensor

    def centers_mm(self, T_world_implant: Tensor) -> Tensor:
        """Centres (B, 2, 3) in the world of implants at poses (B, 2, 4, 4), NaN where there is none."""
        T = T_world_implant.double()
        return (T[..., :3, :3] @ self.center_implant_mm.double()[..., None])[..., 0] + T[..., :3, 3]


class GivenShapes(NamedTuple):
    """Shapes by meshes that are given, in the axes of the implants.

    Attributes
    ----------
    points : (B, 2, n, 6) of the surfaces, with normals; zero where an implant was not given.
    given : (B, 2) whether it was.
    shapes : centres of the boxes around the points, and the points.

    """

    points: Tensor
    given: Tensor
    shapes: Shapes


def given_shapes(points: Tensor, T_implant_axes: Tensor) -> GivenShapes:
    """Shapes of points (B, 2, n, 6), NaN where an implant was not given, in axes (B, 2, 4, 4) of the implants."""
    given = points.isfinite().all(-1).all(-1)
    T = inverse(T_implant_axes).to(points.dtype)
    positions = points[..., :3] @ T[..., :3, :3].mT + T[..., None, :3, 3]
    points = torch.cat([positions, points[..., 3:] @ T[..., :3, :3].mT], dim=-1)
    points = torch.where(given[..., None, None], points, torch.zeros_like(points)).float()
    positions = points[..., :3]
    center = (positions.amin(-2) + positions.amax(-2)) / 2
    return GivenShapes(points, given, Shapes(center, positions))


def named_shapes(
    anatomies: Sequence[Anatomy],
    points: Tensor,
    T_implant_axes: Tensor,
    anatomy_id: Tensor | None,
    anatomy: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Points (B, 2, n, 6) of implants, NaN where none is named, their axes (B, 2, 4, 4), and their indices (B, 2).

    Where no implant is named, it is the only one of its component.

    Parameters
    ----------
    anatomies, points, T_implant_axes : implants that are given by name, their points (implants, n, 6), and axes
        (implants, 4, 4).
    anatomy_id : (B, 2) ids, -1 where unknown, or None.
    anatomy : (B, 2) indices of them, the number of implants where one is not known.

    """
    possible = possible_anatomies(anatomies, anatomy.device)
    alone = possible.sum(1) == 1
    only = torch.where(alone, possible.long().argmax(1) if len(anatomies) else 0, len(anatomies))
    unnamed = torch.ones_like(anatomy, dtype=torch.bool) if anatomy_id is None else anatomy_id < 0
    index = torch.where(unnamed, only, anatomy)
    nothing = torch.full_like(points[:1] if len(points) else points.new_empty(1, *points.shape[1:]), torch.nan)
    own = torch.eye(4, dtype=T_implant_axes.dtype, device=T_implant_axes.device)
    return torch.cat([points, nothing])[index], torch.cat([T_implant_axes, own[None]])[index], index


def check_given(
    given: Tensor, anatomies: Sequence[Anatomy], anatomy_id: Tensor | None, labels: Tensor | None
) -> None:
    """Check that there is the mesh of every implant that is named or has a label.

    Raises
    ------
    ValueError
        If there is none, or none at all.

    """
    needed = torch.zeros_like(given) if anatomy_id is None else anatomy_id >= 0
    if labels is not None:
        needed = needed | labels.isfinite().all(-1).all(-1)
    lacking = ~given & (needed | ~given.any())
    if lacking.any():
        frame, component = lacking.nonzero()[0].tolist()
        id = -1 if anatomy_id is None else int(anatomy_id[frame, component])
        which = f"{COMPONENTS[component]} {id}" if id >= 0 else f"the {COMPONENTS[component]}, which is not named"
        known = ", ".join(f"{entry['component']} {entry['id']}" for entry in anatomies) or "no implant"
        raise ValueError(
            f"this model is given the meshes of the implants that it is to find, but there is none of {which} in "
            f"frame {frame}; it has {known}. Give meshes with set_meshes, or points of them as implant_points"
        )
