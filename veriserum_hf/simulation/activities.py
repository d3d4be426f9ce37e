"""Knee replacements in motion: level gait, ramp descent, stair descent and chair rise, seen by both planes.

A trial starts from five curves over one cycle of its activity: knee flexion, adduction (varus), internal rotation
of the tibia, the femur's anterior position on the insert and the shank's forward lean. They are splines through a
few points, approximated by hand from the shapes and ranges that these authors report; they are not their data.

- Flexion in gait: Winter, Biomechanics and Motor Control of Human Movement; Perry and Burnfield, Gait Analysis.
  Down a ramp: Lay et al., J Biomech 39 (2006) 1621. Down stairs: Riener et al., Gait Posture 15 (2002) 32. Rising
  from a chair: Rodosky et al., J Orthop Res 7 (1989) 266.
- The other rotations and roll-back, by stereo radiography of healthy knees: 3.6 deg internal rotation, 2.3 deg
  adduction and 3.4 mm in the stance of gait, 6.5 deg and 4.5 mm on stepping down (Kefala et al., Med Sci Sports
  Exerc 49 (2017) 2260); 11.5 deg, 3.7 deg and 7.0 mm over the whole cycle, which the curves here stay below (Gale
  and Anderst, J Biomech Eng 142 (2020) 101004).
- Replaced knees in these activities, under a moving fluoroscope: Taylor et al., J Biomech 65 (2017) 32; Schuetz et
  al., J R Soc Interface 16 (2019) 20180678.

The joint's angles are those of Grood and Suntay (J Biomech Eng 105 (1983) 136) between the implants' own frames
(x to the patient's left, y proximal, z anterior; right knees): flexion about the femur's x, internal rotation about
the tibia's y, adduction about the axis normal to both. All three are positive right-handed rotations of the tibia.
"""

from dataclasses import dataclass, replace

import numpy as np
import trimesh
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from veriserum_hf.core import PLANES, FloatArray
from veriserum_hf.geometry import NATIVE_SIZE, DualPlaneRig, make_transform, mm_to_px, transform_points

FRAME_RATE_HZ = 30.0
INSERT_THICKNESS_MM = 9.0  # the insert's bearing plane above the tray's upper surface
FIELD_RADIUS_MM = 150.0  # implants project no farther than this from either intensifier's centre

# The heading that shows the knee obliquely in `bs`, its front to the right, as in the published frames.
_MEAN_HEADING_DEG, _HEADING_RANGE_DEG = 50.0, 45.0
_MOUNTING_TILT_DEG = 20.0
_CENTER_RANGE_MM = 34.0
_DRIFT_MM = ((16.0,), (6.0,))  # largest amplitudes of the first and second harmonic

# Shortest and longest cycle. Walking starts at heel strike, with toe-off at 60 to 65 percent; the chair's cycle is
# sitting, standing at 50 percent, sitting down again.
_CYCLE_S = {"gait": (1.0, 1.35), "ramp_down": (0.95, 1.3), "stair_descent": (1.15, 1.6), "chair_sit": (3.4, 5.0)}
# Percent of the cycle; flexion, adduction and internal rotation, deg; anterior position, mm; the shank's forward
# lean, deg. A cycle closes on its first row.
_POINTS = {
    "gait": [
        (0, 5, 0.2, -1.5, -3.5, -18),
        (7, 12, 0.6, 0.0, -3.0, -8),
        (14, 17, 0.8, 1.0, -2.0, 0),
        (26, 12, 0.7, 0.8, -1.5, 6),
        (39, 6, 0.4, 0.0, -1.8, 14),
        (50, 13, 0.0, 1.5, -2.5, 27),
        (60, 36, -0.6, 4.0, -4.2, 46),
        (71, 59, -1.0, 5.5, -5.5, 48),
        (82, 42, -0.8, 4.0, -5.0, 22),
        (92, 13, -0.2, 0.5, -4.0, -10),
    ],
    "ramp_down": [
        (0, 8, 0.1, -1.0, -3.5, -14),
        (8, 19, 0.6, 1.0, -2.8, -2),
        (17, 27, 0.9, 2.2, -1.8, 9),
        (30, 25, 0.8, 2.0, -1.2, 17),
        (43, 31, 0.5, 2.5, -2.0, 27),
        (55, 47, -0.1, 4.2, -3.5, 42),
        (67, 67, -0.8, 6.0, -5.5, 50),
        (79, 53, -1.0, 5.0, -5.6, 29),
        (91, 19, -0.4, 1.0, -4.4, -6),
    ],
    "stair_descent": [
        (0, 14, 0.0, 0.0, -3.6, -2),
        (8, 23, 0.6, 1.8, -2.8, 6),
        (17, 29, 0.9, 2.8, -1.8, 12),
        (30, 32, 0.9, 3.0, -1.2, 18),
        (43, 47, 0.5, 4.2, -2.0, 31),
        (55, 73, -0.3, 6.5, -4.2, 48),
        (66, 88, -1.0, 8.5, -6.3, 52),
        (78, 69, -1.2, 7.0, -6.2, 33),
        (90, 29, -0.6, 2.5, -4.6, 5),
    ],
    "chair_sit": [
        (0, 87, -0.2, 7.5, -7.5, 4),
        (9, 88, -0.1, 7.8, -7.6, 7),
        (19, 80, 0.3, 7.0, -6.4, 16),
        (31, 43, 0.6, 4.0, -2.6, 15),
        (42, 12, 0.4, 0.0, -2.0, 5),
        (50, 6, 0.2, -1.5, -2.6, 2),
        (58, 11, 0.4, -0.4, -2.2, 4),
        (69, 42, 0.8, 3.5, -2.2, 14),
        (81, 79, 0.4, 6.6, -5.8, 16),
        (91, 87, 0.0, 7.6, -7.2, 8),
    ],
}
TASKS = tuple(_POINTS)
# Between trials, by column of the points: part of the excursion, and an offset in deg or mm.
_GAIN_RANGE = np.array([0.10, 0.30, 0.30, 0.30, 0.15])
_OFFSET_RANGE = np.array([3.0, 0.6, 3.0, 1.5, 4.0])
_MEDIAL_RANGE_MM = 1.5
_TIMING_RANGE = 0.25  # the cycle's pace varies by this part, so that time always advances


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A trial: both implants in every frame, and the motion of the joint that put them there.

    Attributes
    ----------
    task : one of ``TASKS``.
    T_world_femur, T_world_tibia : (frames, 4, 4) poses of the femoral and the tibial component.
    flexion_deg, adduction_deg, internal_rotation_deg : (frames,) of the tibia against the femur (Grood and Suntay).
    anterior_mm : (frames,) position of the femur's flexion axis along the tray, anterior positive; where
        the condyles are circular about that axis, they touch the insert right below it.
    late : the same trial, with every frame some time later; None if no plane is exposed later.

    """

    task: str
    T_world_femur: FloatArray
    T_world_tibia: FloatArray
    flexion_deg: FloatArray
    adduction_deg: FloatArray
    internal_rotation_deg: FloatArray
    anterior_mm: FloatArray
    late: "Trajectory | None" = None

    def __getitem__(self, frames: slice) -> "Trajectory":
        """Some of the frames, at their own time."""
        return Trajectory(
            self.task,
            self.T_world_femur[frames],
            self.T_world_tibia[frames],
            self.flexion_deg[frames],
            self.adduction_deg[frames],
            self.internal_rotation_deg[frames],
            self.anterior_mm[frames],
        )


def simulate_trial(
    task: str,
    femur: trimesh.Trimesh,
    tibia: trimesh.Trimesh,
    rig: DualPlaneRig,
    frames: int,
    rng: np.random.Generator,
    *,
    late_s: float = 0.0,
) -> Trajectory:
    """Draw a trial: consecutive frames at ``FRAME_RATE_HZ`` from any phase of the cycle, repeated as needed.

    Parameters
    ----------
    task : one of ``TASKS``.
    femur, tibia : the implants in their own frames, mm: the femur's origin on its flexion axis, the tray's upper
        surface at y = 0.
    rig : the planes that see the whole of both implants, within ``FIELD_RADIUS_MM``, in every frame.
    frames : how many, at least 1.
    rng : decides everything about the trial.
    late_s : if not 0, the trajectory also has the poses so many seconds after every frame.

    Raises
    ------
    ValueError
        If the task is unknown, ``frames`` less than 1, or the implants too large for the field.

    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; it must be one of {', '.join(TASKS)}")
    if frames < 1:
        raise ValueError(f"a trial needs at least 1 frame, got {frames}")
    moments = np.arange(float(frames))
    if late_s:
        moments = np.concatenate([moments, moments + FRAME_RATE_HZ * late_s])
    phase = _phase(_CYCLE_S[task], moments, rng)
    flexion, adduction, internal, anterior, lean = _curves(np.array(_POINTS[task]), phase, rng)
    R_tibia_femur = joint_rotation(np.stack([flexion, adduction, internal], axis=-1)).swapaxes(-1, -2)
    # The lowest point of a body is a corner of its convex hull.
    corners_mm = np.asarray(femur.convex_hull.vertices)
    medial_mm = rng.uniform(-_MEDIAL_RANGE_MM, _MEDIAL_RANGE_MM)
    T_tibia_femur = _seat(corners_mm, R_tibia_femur, anterior, medial_mm)
    T_world_tibia = _place(femur, tibia, T_tibia_femur, rig, _orient(lean, rng), _wander(phase, rng))
    T_world_femur = T_world_tibia @ T_tibia_femur
    whole = Trajectory(task, T_world_femur, T_world_tibia, flexion, adduction, internal, anterior)
    return replace(whole[:frames], late=whole[frames:]) if late_s else whole


def posture(femur_corners_mm: FloatArray, rng: np.random.Generator) -> tuple[str, FloatArray, FloatArray]:
    """A knee at a random phase of a random activity: its name, T_tibia_femur (4, 4) and R_world_tibia (3, 3).

    The world's y is up. ``femur_corners_mm`` (n, 3) are those of the convex hull of the femoral component.
    """
    task = TASKS[rng.integers(len(TASKS))]
    flexion, adduction, internal, anterior, lean = _curves(np.array(_POINTS[task]), rng.uniform(size=1), rng)
    R_tibia_femur = joint_rotation(np.stack([flexion, adduction, internal], axis=-1)).swapaxes(-1, -2)
    medial_mm = rng.uniform(-_MEDIAL_RANGE_MM, _MEDIAL_RANGE_MM)
    T_tibia_femur = _seat(femur_corners_mm, R_tibia_femur, anterior, medial_mm)
    return task, T_tibia_femur[0], _orient(lean, rng)[0]


def joint_rotation(flexion_adduction_internal_deg: ArrayLike) -> FloatArray:
    """Rotation from the tibia's frame to the femur's, (..., 3, 3), of the angles (..., 3) of Grood and Suntay.

    ``R = Rx(flexion) Rz(adduction) Ry(internal rotation)``, right knees.
    """
    matrices: FloatArray = Rotation.from_euler("XZY", flexion_adduction_internal_deg, degrees=True).as_matrix()
    return matrices


def _phase(cycle_s: tuple[float, float], moments: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Part of the cycle at moments counted in frames, increasing at a varying pace from a random phase."""
    steady = rng.uniform() + moments / (FRAME_RATE_HZ * rng.uniform(*cycle_s))
    unevenness = rng.uniform(0, _TIMING_RANGE) / (2 * np.pi)
    return steady + unevenness * np.sin(2 * np.pi * (steady - rng.uniform()))


def _curves(points: FloatArray, phase: FloatArray, rng: np.random.Generator) -> FloatArray:
    """One trial's variant of an activity's five curves, (5, frames)."""
    closed = np.vstack([points, points[0] + (100, 0, 0, 0, 0, 0)])
    curves = CubicSpline(closed[:, 0] / 100, closed[:, 1:], bc_type="periodic")(phase % 1)
    mean = points[:, 1:].mean(axis=0)
    gain = 1 + rng.uniform(-_GAIN_RANGE, _GAIN_RANGE)
    offset = rng.uniform(-_OFFSET_RANGE, _OFFSET_RANGE)
    varied: FloatArray = (mean + gain * (curves - mean) + offset).T
    return varied


def _seat(corners_mm: FloatArray, R_tibia_femur: FloatArray, anterior_mm: FloatArray, medial_mm: float) -> FloatArray:
    """Poses of the femur on the tibia, (frames, 4, 4), its lowest point on the bearing plane.

    That plane then separates the implants: the femur lies on or above it, the tray below. Where the contact passes
    from one condyle to the other the height bends in time, as it does when a condyle lifts off.
    """
    heights_mm = corners_mm @ R_tibia_femur[:, 1, :].T
    up_mm = INSERT_THICKNESS_MM - heights_mm.min(axis=0)
    return make_transform(R_tibia_femur, np.stack([np.full_like(up_mm, medial_mm), up_mm, anterior_mm], axis=-1))


def _orient(lean_deg: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Orientations of the tibia in the world, (frames, 3, 3): the shank leans within a rotated, tilted mounting."""
    heading = _MEAN_HEADING_DEG + rng.uniform(-_HEADING_RANGE_DEG, _HEADING_RANGE_DEG)
    tilt, towards = np.radians(rng.uniform(0, _MOUNTING_TILT_DEG)), rng.uniform(0, 2 * np.pi)
    mounting = Rotation.from_rotvec((tilt * np.cos(towards), 0.0, tilt * np.sin(towards))) * Rotation.from_euler(
        "y", heading, degrees=True
    )
    orientations: FloatArray = (mounting * Rotation.from_euler("x", lean_deg[:, None], degrees=True)).as_matrix()
    return orientations


def _wander(phase: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Path of the joint about the field's centre, (frames, 3) mm: a fluoroscope follows the knee only roughly."""
    center = rng.uniform(-_CENTER_RANGE_MM, _CENTER_RANGE_MM, 3)
    amplitudes = rng.uniform(0, _DRIFT_MM, (2, 3))
    phases = rng.uniform(0, 2 * np.pi, (2, 3))
    drift = amplitudes * np.cos(2 * np.pi * phase[:, None, None] * ((1,), (2,)) + phases)
    path: FloatArray = center + drift.sum(axis=1)
    return path


def _place(
    femur: trimesh.Trimesh,
    tibia: trimesh.Trimesh,
    T_tibia_femur: FloatArray,
    rig: DualPlaneRig,
    R_world_tibia: FloatArray,
    wander_mm: FloatArray,
) -> FloatArray:
    """Poses of the tibia in the world, (frames, 4, 4), with the path scaled down until the field holds it."""
    center_px = mm_to_px((0.0, 0.0), NATIVE_SIZE)
    center_mm = rig.triangulate(center_px, center_px, NATIVE_SIZE)
    # The field is convex: it holds a mesh if it holds the corners of a box around it.
    tibia_corners, femur_corners = (np.asarray(mesh.bounding_box.vertices) for mesh in (tibia, femur))
    femur_corners = transform_points(T_tibia_femur, femur_corners)
    corners = np.concatenate([np.broadcast_to(tibia_corners, femur_corners.shape), femur_corners], axis=1)
    joint = np.array([0.0, INSERT_THICKNESS_MM, 0.0])
    for part in np.linspace(1.0, 0.0, 21):
        T_world_tibia = make_transform(R_world_tibia, center_mm + part * wander_mm - R_world_tibia @ joint)
        if _farthest_mm(rig, transform_points(T_world_tibia, corners)) <= FIELD_RADIUS_MM:
            return T_world_tibia
    raise ValueError(
        f"the implants, {max(femur.extents):.0f} and {max(tibia.extents):.0f} mm long, leave the field that both "
        f"planes see, {FIELD_RADIUS_MM:.0f} mm about each intensifier's centre, even at its centre; are they in mm?"
    )


def _farthest_mm(rig: DualPlaneRig, points_world_mm: FloatArray) -> float:
    """Largest distance at which points (..., 3) project from an intensifier's centre; NaN behind a source."""
    seen = [rig[plane].project_mm(points_world_mm) for plane in PLANES]
    return float(np.linalg.norm(seen, axis=-1).max())
