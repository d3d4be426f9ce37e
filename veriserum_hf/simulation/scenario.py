"""What a simulated archive shows: its calibrations, its trials, and the picture of every frame.

Everything follows from the settings: each trial and each frame has random numbers of its own, so that any process can
draw any frame, in any order.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.geometry.rig import PLANES, DualPlaneRig, PlaneName
from veriserum_hf.simulation.activities import TASKS, Trajectory, simulate_trial
from veriserum_hf.simulation.calibrations import grid_transmission, random_distortion, random_source, rig_of
from veriserum_hf.simulation.imaging import Grey, Imaging, Part, expose, read_out
from veriserum_hf.simulation.implants import IMPLANT_PAIRS, IMPLANTS, implant_mesh
from veriserum_hf.simulation.phantom import Solid, holder
from veriserum_hf.simulation.settings import Settings, Stream

FloatArray = NDArray[np.float64]
Component = Literal["femur", "tibia"]

SESSIONS = 3  # each with a distortion and a source-intensifier calibration of its own
# Where the bases of the holders stand, seen from the implants: to the lower left and below in a picture of `bs`.
_DOWN_WORLD = {"femur": np.array([-0.55, -0.83, 0.1]), "tibia": np.array([0.15, -0.98, 0.0])}


@dataclass(frozen=True)
class Session:
    """A day at the fluoroscope: its calibrations, under the ids that the tables give them."""

    id: int
    distortion_id: int
    source_id: int
    distortions: dict[PlaneName, Distortion]
    source: dict[str, float]
    rig: DualPlaneRig


@dataclass(frozen=True)
class Trial:
    """One recording: who moves how, seen with what.

    Attributes
    ----------
    id, index : in the tables, and among the trials from 0.
    first_measurement_id : of its frames, which are numbered on from there.
    anatomy_ids : of both components.
    session : the calibrations.
    imaging : the imaging chain of both planes.
    trajectory : poses of both components in every frame.

    """

    id: int
    index: int
    first_measurement_id: int
    anatomy_ids: dict[Component, int]
    session: Session
    imaging: Imaging
    trajectory: Trajectory

    def pose(self, component: Component, frame: int) -> FloatArray:
        """Pose in the world, (4, 4), of a component in a frame of the trial."""
        poses = {"femur": self.trajectory.T_world_femur, "tibia": self.trajectory.T_world_tibia}[component]
        T_world_implant: FloatArray = poses[frame]
        return T_world_implant


@lru_cache(maxsize=SESSIONS)
def session(settings: Settings, index: int) -> Session:
    """One of the ``SESSIONS`` days, from 0."""
    rng = settings.rng(Stream.SESSION, index)
    distortions: dict[PlaneName, Distortion] = {plane: random_distortion(rng) for plane in PLANES}
    source = random_source(rng)
    # The two kinds are numbered differently, so that nothing can mix them up unnoticed.
    return Session(1 + index, 2 + 3 * index, 1 + 2 * index, distortions, source, rig_of(source))


@lru_cache(maxsize=2)
def trial(settings: Settings, index: int) -> Trial:
    """One of the trials, from 0."""
    rng = settings.rng(Stream.TRIAL, index)
    femur_id, tibia_id = IMPLANT_PAIRS[index % settings.pairs]
    anatomy_ids: dict[Component, int] = {"femur": femur_id, "tibia": tibia_id}
    day = session(settings, index * SESSIONS // settings.trials)
    # One step on with every round of the pairs, so that each pair comes to do every activity.
    task = TASKS[(index + index // settings.pairs) % len(TASKS)]
    trajectory = simulate_trial(
        task, implant_mesh(femur_id), implant_mesh(tibia_id), day.rig, settings.frames_per_trial, rng
    )
    return Trial(
        id=11 + 7 * index,
        index=index,
        first_measurement_id=1 + index * settings.frames_per_trial,
        anatomy_ids=anatomy_ids,
        session=day,
        imaging=Imaging.random(rng),
        trajectory=trajectory,
    )


@lru_cache(maxsize=2)
def holders(settings: Settings, index: int) -> dict[Component, tuple[Solid, ...]]:
    """What holds both components in a trial: mounted for its middle frame, and moving with them."""
    shown, rng = trial(settings, index), settings.rng(Stream.HOLDERS, index)
    made = {}
    for component in shown.anatomy_ids:
        R_world_implant = shown.pose(component, settings.frames_per_trial // 2)[:3, :3]
        direction = R_world_implant.T @ (_DOWN_WORLD[component] + rng.normal(0, 0.08, 3))
        if component == "tibia":  # its post goes on from the stem, give or take
            direction = direction / np.linalg.norm(direction) + (0.0, -2.0, 0.0)
        start_mm = _post_start_mm(component, shown.anatomy_ids[component])
        made[component] = holder(component, start_mm, direction / np.linalg.norm(direction), rng)
    return made


def _post_start_mm(component: Component, anatomy_id: int) -> FloatArray:
    """Where a post begins: within the femoral component, or at the lowest end of the tibial one."""
    if component == "femur":
        return np.array([0.0, 10.0, -8.0])
    corners = implant_mesh(anatomy_id).vertices
    lowest_mm: float = corners[:, 1].min()
    tip_mm: FloatArray = corners[corners[:, 1] < lowest_mm + 1].mean(axis=0)
    return tip_mm


def scene(settings: Settings, index: int, frame: int, *, with_holders: bool = True) -> list[Part]:
    """Everything that stands in the beam in a frame of a trial."""
    shown, parts = trial(settings, index), []
    for component, anatomy_id in shown.anatomy_ids.items():
        T = shown.pose(component, frame)
        parts.append(Part(implant_mesh(anatomy_id), IMPLANTS[anatomy_id].material, T))
        if with_holders:
            parts += [Part(mesh, material, T) for mesh, material in holders(settings, index)[component]]
    return parts


def draw_frame(settings: Settings, trial_index: int, frame: int, plane: PlaneName) -> Grey:
    """Raw frame of one plane."""
    shown = trial(settings, trial_index)
    return expose(
        scene(settings, trial_index, frame),
        shown.session.rig[plane],
        shown.session.distortions[plane],
        shown.imaging,
        settings.rng(Stream.NOISE, trial_index, frame, PLANES.index(plane)),
        height_px=settings.height_px,
        bit_depth=settings.bit_depth,
    )


def draw_grid(settings: Settings, session_index: int, plane: PlaneName) -> Grey:
    """Raw 16-bit frame of the bead grid on one intensifier; no source blurs what hangs right on it."""
    imaging = Imaging(bright_level=0.85)  # exposed so that nothing is white
    return read_out(
        grid_transmission(imaging, settings.height_px),
        imaging.screen_blur_mm,
        session(settings, session_index).distortions[plane],
        imaging,
        settings.rng(Stream.GRID_NOISE, session_index, PLANES.index(plane)),
        height_px=settings.height_px,
        bit_depth=16,
    )
