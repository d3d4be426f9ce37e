"""Axes of the knee for pages and evaluations: given, found in the meshes, or else those of the implants' files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import trimesh

from veriserum_hf.core import COMPONENTS, Component, Side, listed
from veriserum_hf.errors import KinematicsError
from veriserum_hf.evaluation import Agreements, agreement, agreements
from veriserum_hf.knee import (
    COORDINATES,
    AxesFile,
    ImplantAxes,
    JointPairs,
    KneeAxes,
    joint_pairs,
    knee_axes,
    side_of,
)
from veriserum_hf.poses import Estimates

_NOT_STATED: Side = "right"
_WAY_OUT = ". Give landmarks of it"
_UNKNOWN_SIDE = (
    "The side of the knee was not stated: signs are those of a right knee; in a left one adduction, internal "
    "rotation and medial translation have the opposite signs. "
)
_OF_FILES = (
    "Axes are those of the files of the implants, taken as x to the patient's left, y proximal and z anterior: where "
    "the files have others, every value has an offset, and the six mix; their differences still measure the error of "
    "the joint's pose. Give landmarks for axes of the joint: {error}."
)


@dataclass(frozen=True)
class Joint:
    """Axes of the implants, and a text on the side of the knee and their origin."""

    axes: KneeAxes
    about: str

    def pairs(self, pairs: Estimates) -> JointPairs | None:
        """Coordinates of the joint by both sets of poses; None where no frame has them."""
        found = joint_pairs(pairs, self.axes)
        return found if len(found.measurement_id) else None


def joint_of(
    compared: Iterable[Estimates],
    meshes: Mapping[int, trimesh.Trimesh],
    given: AxesFile | Side | None = None,
) -> Joint:
    """Axes of implants.

    Parameters
    ----------
    compared : poses of the implants.
    meshes : by anatomy id. Where they do not have the shape of a knee's components, the axes are those of the files.
    given : file of landmarks, or the side of the knee. With None it is that of the femoral component, or, where this
        does not show it, the signs are those of a right knee.

    Raises
    ------
    KinematicsError
        If the file of landmarks is of other implants, or does not give the axes, or the femoral component is made for
        the other knee.

    """
    components: dict[int, Component] = {}
    for pairs in compared:
        for name in COMPONENTS:
            components |= dict.fromkeys(np.unique(pairs.anatomy_id[pairs.component == name]).tolist(), name)
    shown = side_of(components, meshes) if given is None else None
    used = given or shown or _NOT_STATED
    side: Side = used.side if isinstance(used, AxesFile) else used
    about = _UNKNOWN_SIDE
    if given is not None or shown is not None:
        about = f"{side.capitalize()} knee{', as the femoral component shows' if shown else ''}. "
    try:
        axes = knee_axes(used, components, meshes)
    except KinematicsError as error:
        if given is not None and (isinstance(given, AxesFile) or side_of(components, meshes) not in (None, side)):
            raise
        own = {id: ImplantAxes(component, np.eye(4), "file") for id, component in components.items()}
        return Joint(KneeAxes(side, own), about + _OF_FILES.format(error=str(error).removesuffix(_WAY_OUT)))
    landmarks = [
        f"{each.component} {id}" for id, each in sorted(axes.implants.items()) if each.found_in == "landmarks"
    ]
    origins = f"Axes of {listed(landmarks, 12)} from landmarks, all others" if landmarks else "Axes"
    return Joint(axes, f"{about}{origins} from the meshes of the implants.")


def agreements_of(
    pairs: Estimates, meshes: Mapping[int, trimesh.Trimesh], joint: Joint, of_joint: JointPairs | None
) -> Agreements:
    """Agreement of the implants and of the joint, whose coordinates are those of `Joint.pairs`."""
    rows = [] if of_joint is None else zip(COORDINATES, of_joint.differences.T, strict=True)
    about = "No frame has both implants in both sets of poses." if of_joint is None else joint.about
    return {
        "by_implant": agreements(pairs, meshes),
        "joint": [agreement(name, column, of_joint.trial_id) for name, column in rows] if of_joint else [],
        "about_joint": about,
    }
