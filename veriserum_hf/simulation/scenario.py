"""Content of a simulated archive: its calibrations, its trials, and the image of every frame.

Everything follows from the settings: each trial and each frame has its own random numbers, so that any process can
draw any frame, in any order.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from veriserum_hf.calibration import Distortion, DistortionMap
from veriserum_hf.core import PLANES, Component, FloatArray, Grey, PlaneName
from veriserum_hf.geometry import DualPlaneRig
from veriserum_hf.simulation.activities import TASKS, Trajectory, simulate_trial
from veriserum_hf.simulation.calibrations import (
    grid_transmission,
    random_distortion,
    random_source,
    rig_of,
)
from veriserum_hf.simulation.imaging import Imaging, Part
from veriserum_hf.simulation.implants import IMPLANT_PAIRS, IMPLANTS, implant_mesh
from veriserum_hf.simulation.intensifier import expose, read_out
from veriserum_hf.simulation.marker_phantom import draw_markers, phantom_poses
from veriserum_hf.simulation.phantom import Solid, holder
from veriserum_hf.simulation.real_distortions import real_distortion, stored_form
from veriserum_hf.simulation.settings import Settings, Stream
from veriserum_hf.simulation.solids import solid_of
from veriserum_hf.simulation.wrong_cameras import CameraErrors, registered_pose

SESSIONS = 3  # each with its own distortion and source-intensifier calibration
_DOWN_WORLD = np.array([0.0, -1.0, 0.0])
# Lateral leans of the femoral post, against 1 downwards, tried until it clears the tibia and its holder.
_LATERAL = (0.5, 0.75, 1.0, 1.4, 2.0, 3.0)
_CHECKED_FRAMES = 5  # of a trial
_PHANTOM_IMAGING = Imaging(bright_level=0.85)  # exposed so that nothing saturates


@dataclass(frozen=True)
class Session:
    """A day at the fluoroscope: its calibrations, under the ids that the tables give them.

    Attributes
    ----------
    distortions : the true ones; ``stored`` is what the tables hold of them.
    rig : the true one; ``source`` is what the tables hold of it, and ``errors`` the difference.

    """

    id: int
    distortion_id: int
    source_id: int
    distortions: dict[PlaneName, DistortionMap]
    stored: dict[PlaneName, Distortion]
    source: dict[str, float]
    errors: CameraErrors
    rig: DualPlaneRig

    @property
    def stored_rig(self) -> DualPlaneRig:
        """The rig that readers take from the tables."""
        return rig_of(self.source)


@dataclass(frozen=True)
class Trial:
    """One recording: who moves how, seen with what.

    Attributes
    ----------
    id, index : in the tables, and among the trials from 0.
    anatomy_ids : of both components.
    session : the calibrations.
    imaging : the imaging chain by plane.
    trajectory : poses of both components in every frame.

    """

    id: int
    index: int
    anatomy_ids: dict[Component, int]
    session: Session
    imaging: dict[PlaneName, Imaging]
    trajectory: Trajectory

    def pose(self, component: Component, frame: int, plane: PlaneName = "bs") -> FloatArray:
        """Pose in the world, (4, 4), of a component in a frame of the trial, when the plane is exposed."""
        late = self.trajectory.late if plane == "fs" else None
        seen = late or self.trajectory
        T_world_implant: FloatArray = {"femur": seen.T_world_femur, "tibia": seen.T_world_tibia}[component][frame]
        return T_world_implant

    def registered_pose(self, component: Component, frame: int) -> FloatArray:
        """Pose in the world, (4, 4), that an exact registration of a frame with the stored cameras gives."""
        if self.session.errors.none:
            return self.pose(component, frame)
        vertices_mm = np.asarray(implant_mesh(self.anatomy_ids[component]).vertices)
        T_true = {plane: self.pose(component, frame, plane) for plane in PLANES}
        return registered_pose(vertices_mm, T_true, self.session.rig, self.session.stored_rig)


@lru_cache(maxsize=SESSIONS)
def session(settings: Settings, index: int) -> Session:
    """One of the ``SESSIONS`` days, from 0."""
    rng = settings.rng(Stream.SESSION, index)
    stored = {plane: random_distortion(rng) for plane in PLANES}
    source = random_source(rng)
    distortions: dict[PlaneName, DistortionMap] = dict(stored)
    if settings.distortion == "real":
        for number, plane in enumerate(PLANES):
            field = real_distortion(stored[plane], settings.rng(Stream.DISTORTION, index, number))
            distortions[plane], stored[plane] = field, stored_form(field, stored[plane])
    # The two kinds are numbered differently, so that nothing can mix them up unnoticed.
    errors = CameraErrors.random(settings, index)
    return Session(1 + index, 2 + 3 * index, 1 + 2 * index, distortions, stored, source, errors, errors.rig(source))


@lru_cache(maxsize=2)
def trial(settings: Settings, index: int) -> Trial:
    """One of the trials, from 0."""
    rng = settings.rng(Stream.TRIAL, index)
    # A trial's split depends on its id: other seeds, other splits.
    first_id = int(settings.rng(Stream.IDS).integers(1, 10_000))
    femur_id, tibia_id = IMPLANT_PAIRS[index % settings.pairs]
    anatomy_ids: dict[Component, int] = {"femur": femur_id, "tibia": tibia_id}
    day = session(settings, index * SESSIONS // settings.trials)
    # Shifted by one with every round of the pairs, so that each pair performs every activity.
    task = TASKS[(index + index // settings.pairs) % len(TASKS)]
    trajectory = simulate_trial(
        task,
        implant_mesh(femur_id),
        implant_mesh(tibia_id),
        day.rig,
        settings.frames_per_trial,
        rng,
        late_s=day.errors.fs_late_ms / 1000,
    )
    return Trial(
        id=first_id + 7 * index,
        index=index,
        anatomy_ids=anatomy_ids,
        session=day,
        imaging={plane: Imaging.random(rng) for plane in PLANES},
        trajectory=trajectory,
    )


@lru_cache(maxsize=2)
def holders(settings: Settings, index: int) -> dict[Component, tuple[Solid, ...]]:
    """The holders of both components in a trial: mounted for its central frame, and moving with them."""
    shown, rng = trial(settings, index), settings.rng(Stream.HOLDERS, index)
    center_frame = settings.frames_per_trial // 2
    R_world = {component: shown.pose(component, center_frame)[:3, :3] for component in shown.anatomy_ids}
    implants = {component: implant_mesh(anatomy_id) for component, anatomy_id in shown.anatomy_ids.items()}

    def mounted(component: Component, aside: tuple[float, float, float]) -> tuple[Solid, ...]:
        direction = R_world[component].T @ _DOWN_WORLD + aside + rng.normal(0, 0.06, 3)
        return holder(component, implants[component], direction / np.linalg.norm(direction), rng)

    tibial = mounted("tibia", (0.0, -2.0, 0.0))  # its post continues the stem, approximately
    tibial_solids = [solid_of(mesh) for mesh in (implants["tibia"], *(part.mesh for part in tibial))]
    checked = np.unique(np.linspace(0, settings.frames_per_trial - 1, _CHECKED_FRAMES).astype(int))
    tried: list[tuple[float, int, tuple[Solid, ...]]] = []
    for lateral in _LATERAL:
        femoral = mounted("femur", (-lateral, 0.0, 0.0))
        femoral_solids = [solid_of(part.mesh) for part in femoral]
        shared_mm3 = sum(
            (one.transform((np.linalg.inv(shown.pose("tibia", k)) @ shown.pose("femur", k))[:3]) ^ other).volume()
            for k in checked
            for one in femoral_solids
            for other in tibial_solids
        )
        tried.append((shared_mm3, len(tried), femoral))
        if shared_mm3 < 1:
            break
    return {"femur": min(tried)[2], "tibia": tibial}


def scene(
    settings: Settings, index: int, frame: int, plane: PlaneName = "bs", *, with_holders: bool = True
) -> list[Part]:
    """All solids in the beam in a frame of a trial, when the plane is exposed."""
    shown, parts = trial(settings, index), []
    for component, anatomy_id in shown.anatomy_ids.items():
        T = shown.pose(component, frame, plane)
        parts.append(Part(implant_mesh(anatomy_id), IMPLANTS[anatomy_id].material, T))
        if with_holders:
            parts += [Part(mesh, material, T) for mesh, material in holders(settings, index)[component]]
    return parts


def draw_frame(settings: Settings, trial_index: int, frame: int, plane: PlaneName) -> Grey:
    """Raw frame of one plane."""
    shown = trial(settings, trial_index)
    return expose(
        scene(settings, trial_index, frame, plane),
        shown.session.rig[plane],
        shown.session.distortions[plane],
        shown.imaging[plane],
        settings.rng(Stream.NOISE, trial_index, frame, PLANES.index(plane)),
        height_px=settings.height_px,
        bit_depth=settings.bit_depth,
    )


def draw_grid(settings: Settings, session_index: int, plane: PlaneName) -> Grey:
    """Raw 16-bit frame of the bead grid on one intensifier; the focal spot does not blur what is directly on it."""
    return read_out(
        grid_transmission(_PHANTOM_IMAGING, settings.height_px),
        _PHANTOM_IMAGING.screen_blur_mm,
        session(settings, session_index).distortions[plane],
        _PHANTOM_IMAGING,
        settings.rng(Stream.GRID_NOISE, session_index, PLANES.index(plane)),
        height_px=settings.height_px,
        bit_depth=16,
    )


@lru_cache(maxsize=SESSIONS)
def marker_poses(settings: Settings, session_index: int) -> FloatArray:
    """Poses in the world, (frames, 4, 4), of the marker phantom on a day."""
    return phantom_poses(settings.marker_frames, settings.rng(Stream.MARKER_POSES, session_index))


def draw_marker_frame(settings: Settings, session_index: int, frame: int, plane: PlaneName) -> Grey:
    """Raw 16-bit frame of the marker phantom in one plane; both see the same pose."""
    day = session(settings, session_index)
    return draw_markers(
        day.rig[plane],
        day.distortions[plane],
        marker_poses(settings, session_index)[frame],
        _PHANTOM_IMAGING,
        settings.rng(Stream.MARKER_NOISE, session_index, frame, PLANES.index(plane)),
        height_px=settings.height_px,
    )
