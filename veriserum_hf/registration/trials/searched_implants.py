"""Which implants are searched for in the images of a frame."""

from collections import defaultdict
from collections.abc import Mapping

from veriserum_hf.core import COMPONENTS, Component, LabelRow, listed
from veriserum_hf.dataset import Frames, Rows
from veriserum_hf.errors import RegistrationError
from veriserum_hf.registration.initial_poses import Starts, check_meshes, label_rows

Found = dict[int, dict[Component, int]]  # anatomy ids by measurement id and component


def implants_of_poses(starts: Starts) -> Found:
    """Implants that initial poses are of."""
    return {
        measurement: {component: pose["anatomy_id"] for component, pose in poses.items()}
        for measurement, poses in starts.items()
    }


def implants_to_find(source: Rows[Frames], chosen: Mapping[str, Frames]) -> Found:
    """Implants of the chosen frames: those of a frame's poses, of other poses of its trial, or the only ones there.

    Raises
    ------
    RegistrationError
        If a trial has no pose, and the data set has no implant or several of a component; or if an implant has no
        mesh, or one that cannot be rendered.

    """
    rows = label_rows(chosen)
    of_trial: dict[int, dict[Component, set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        for component, id in _own(row).items():
            of_trial[row["trial_id"]][component].add(id)
    found = {}
    for row in rows:
        others = of_trial.get(row["trial_id"])
        alone = {component: next(iter(ids)) for component, ids in others.items() if len(ids) == 1} if others else None
        found[row["measurement_id"]] = (_only_ones(source, row) if alone is None else alone) | _own(row)
    check_meshes(source, {implant for implants in found.values() for implant in implants.items()})
    return found


def _own(row: LabelRow) -> dict[Component, int]:
    return {component: pose["anatomy_id"] for component in COMPONENTS if (pose := row[component])}


def _only_ones(source: Rows[Frames], row: LabelRow) -> dict[Component, int]:
    """The implants of the data set, where they are one of each component at most."""
    there: dict[Component, list[int]] = {
        component: sorted(id for id, each in source.components.items() if each == component)
        for component in COMPONENTS
    }
    if not any(there.values()) or any(len(ids) > 1 for ids in there.values()):
        names = "; ".join(f"{component} {listed(ids)}" for component, ids in there.items() if ids) or "no implant"
        raise RegistrationError(
            f"{source.name}: it is unknown which implants trial {row['trial_id']} shows (measurement "
            f"{row['measurement_id']}): it has no pose, and the anatomies are {names}. Expected one femur and one "
            "tibia at most; give initial poses, of one frame of each trial at least"
        )
    return {component: id for component, (id, *_) in ((name, ids) for name, ids in there.items() if ids)}
