"""2D/3D registration of a frame: refine the poses of both implants, and assess them.

Implants are rendered as digitally reconstructed radiographs (DRRs) of path lengths, and their image gradients are
fitted to those of both planes. The parts:

cost function and robust Levenberg-Marquardt
    `veriserum_hf.registration.solver`; the gradient images: `veriserum_hf.registration.gradients`.
coarse-to-fine pyramid and restarts
    `veriserum_hf.registration.search`.
covariance (sandwich estimator) and score
    `veriserum_hf.registration.uncertainty`. The covariance does not include errors of the cameras and the meshes.

Verdict rules, in this order:

``failed``
    no plane has a fifth of the implant in its field, or there is no covariance; the pose is farther from the initial
    one than the limits; or the score is below `MIN_SCORE`.
``ambiguous``
    only one plane shows the implant; the half-width of the 95 % interval exceeds 1 mm or 1 degree in the worst
    direction; or the iterations ended before convergence.
``converged``
    otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import trimesh

from veriserum_hf.core import PLANES, Component, FloatArray, FrameRow, PlaneName, Poses, Verdict
from veriserum_hf.geometry import angle_between_deg, matrix_to_quaternion, transform_points
from veriserum_hf.poses import DEVIATIONS_95
from veriserum_hf.registration.inputs import scene_of
from veriserum_hf.registration.scene import Implant, View
from veriserum_hf.registration.search import MIN_SCORE, optimise

try:
    import torch
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

Method = Literal["outline", "intensity"]
LIMIT_MM, LIMIT_DEG = 30.0, 30.0
# In the field: with less of a simulated implant, errors were larger than their covariance states.
_MIN_SHARE_IN_FIELD = 0.2
# Half-widths of 95 % intervals; a pose with wider ones is ambiguous.
_MAX_DEVIATION_MM, _MAX_DEVIATION_DEG = 1.0, 1.0


@dataclass(frozen=True, eq=False)
class RefinedPose:
    """The estimated pose of an implant, with its uncertainty and verdict.

    Attributes
    ----------
    component : ``"femur"`` or ``"tibia"``.
    anatomy_id : of the implant.
    T_world_implant : (4, 4) mm; where the verdict is ``failed``, the initial pose.
    covariance : (6, 6) of x, y, z of the implant's origin in the world, mm, and of the rotation vector about the
        world's axes, deg; NaN where the verdict is ``failed``.
    image_covariance : like ``covariance``, as if cameras and mesh were exact: what the images alone determine.
    method : whose pose it is, that of the outlines or of the intensities.
    score : weighted share of the image gradients that agree with the rendered implant, 0 to 1.
    verdict : ``converged``; ``ambiguous``, where the images do not determine the whole pose, as with one plane
        alone; ``failed``.
    detail : reason of the verdict; empty where converged.
    moved_mm, moved_deg : of the mesh's centre, from the initial pose, also where the verdict is ``failed``.

    """

    component: Component
    anatomy_id: int
    T_world_implant: FloatArray
    covariance: FloatArray
    image_covariance: FloatArray
    method: Method
    score: float
    verdict: Verdict
    detail: str
    moved_mm: float
    moved_deg: float

    @property
    def translation_mm(self) -> FloatArray:
        """Position of the implant's origin in the world, (3,) mm."""
        translation: FloatArray = self.T_world_implant[:3, 3]
        return translation

    @property
    def quaternion_xyzw(self) -> FloatArray:
        """Rotation, (4,), w >= 0."""
        return matrix_to_quaternion(self.T_world_implant[:3, :3])


def register(
    row: FrameRow,
    meshes: Mapping[int, trimesh.Trimesh],
    start: Poses | None = None,
    *,
    planes: Sequence[PlaneName] = PLANES,
    limit_mm: float = LIMIT_MM,
    limit_deg: float = LIMIT_DEG,
    device: str = "cpu",
) -> dict[Component, RefinedPose]:
    """Refine the poses of both implants in a frame, together.

    Parameters
    ----------
    row : a row of ``calibrated``, ``manual`` or ``target``, images decoded; a plane without image is skipped. Images
        may have any shape, and each plane its own; of a camera, ``intrinsics`` and ``world_to_camera`` count, and its
        other fields must not contradict them. Pixels below 0.7 mm (360 mm / 512) on the detector are reduced to it.
    meshes : closed meshes in mm, by anatomy id.
    start : initial poses by component, each as in a row: ``anatomy_id``, ``translation_mm``, ``quaternion_xyzw``; if
        not given, the row's own. The capture range is about 15 mm and 15 degrees.
    planes : whose images are used.
    limit_mm, limit_deg : a pose farther than this from its initial pose has failed.
    device : ``"cpu"``, or ``"cuda"``, which pays for many frames at once: see `register_batch`.

    Returns
    -------
    Pose by component, for each that has an initial pose.

    Raises
    ------
    RegistrationError
        If there is no initial pose or no image, a camera is missing, invalid or contradicts itself or its image, a
        mesh is missing, not closed or not in mm, or an initial pose is not in front of both sources or outside both
        fields.

    """
    (poses,) = register_batch(
        [row],
        meshes,
        None if start is None else [start],
        planes=planes,
        limit_mm=limit_mm,
        limit_deg=limit_deg,
        device=device,
    )
    return poses


def register_batch(
    rows: Sequence[FrameRow],
    meshes: Mapping[int, trimesh.Trimesh],
    starts: Sequence[Poses] | None = None,
    *,
    planes: Sequence[PlaneName] = PLANES,
    limit_mm: float = LIMIT_MM,
    limit_deg: float = LIMIT_DEG,
    device: str = "cpu",
) -> list[dict[Component, RefinedPose]]:
    """Refine frames together, as `register` does each; a GPU needs some dozens at once to be used well.

    Raises
    ------
    RegistrationError
        As `register`, naming the measurement; also if the frames do not show the same components in the same planes,
        or images of a plane have different sizes or pixels.

    """
    scene, starts_T = scene_of(rows, meshes, starts, planes, torch.device(device))
    outcome = optimise(scene, starts_T)
    return [
        {
            component: _assessed(
                component,
                scene.implants[component][frame],
                starts_T[frame, k].cpu().numpy(),
                outcome.state.T_world_implant[frame, k].cpu().numpy(),
                outcome.covariance[frame, k].cpu().numpy(),
                score=float(outcome.score[frame, k]),
                converged=bool(outcome.converged[frame, k]),
                views={plane: views[frame] for plane, views in scene.views.items()},
                limits=(limit_mm, limit_deg),
            )
            for k, component in enumerate(scene.implants)
        }
        for frame in range(len(rows))
    ]


def _assessed(
    component: Component,
    implant: Implant,
    start: FloatArray,
    found: FloatArray,
    covariance: FloatArray,
    *,
    score: float,
    converged: bool,
    views: Mapping[PlaneName, View],
    limits: tuple[float, float],
) -> RefinedPose:
    """Assess a pose; the initial pose replaces one that has failed."""
    at = [transform_points(T, implant.center_mm[None])[0] for T in (start, found)]
    moved_mm = float(np.linalg.norm(at[1] - at[0]))
    moved_deg = float(angle_between_deg(start[:3, :3], found[:3, :3]))
    shares = {plane: view.share_in_field(implant, found) for plane, view in views.items()}
    verdict, detail = _verdict(covariance, score, converged, shares, (moved_mm, moved_deg), limits)
    if verdict == "failed":
        found, covariance = start, np.full_like(covariance, np.nan)
    return RefinedPose(
        component,
        implant.anatomy_id,
        found,
        covariance,
        covariance,
        "intensity",
        score,
        verdict,
        detail,
        moved_mm,
        moved_deg,
    )


def _verdict(
    covariance: FloatArray,
    score: float,
    converged: bool,
    shares: Mapping[PlaneName, float],
    moved: tuple[float, float],
    limits: tuple[float, float],
) -> tuple[Verdict, str]:
    seen = [plane for plane, share in shares.items() if share >= _MIN_SHARE_IN_FIELD]
    if not seen or not np.isfinite(covariance).all():
        return "failed", "not observable: in no plane's field, or the images do not determine its pose"
    if moved[0] > limits[0] or moved[1] > limits[1]:
        return "failed", (
            f"{moved[0]:.1f} mm and {moved[1]:.1f} deg from the initial pose, beyond the limits of {limits[0]:g} mm "
            f"and {limits[1]:g} deg"
        )
    if score < MIN_SCORE:
        return (
            "failed",
            f"the images agree with {100 * score:.0f} % of its outlines, expected at least {100 * MIN_SCORE:.0f}",
        )
    # The longest half-axis of the ellipsoid.
    widest_mm, widest_deg = (
        DEVIATIONS_95 * float(np.sqrt(np.linalg.eigvalsh(covariance[part, part])[-1]))
        for part in (np.s_[:3], np.s_[3:])
    )
    if len(seen) == 1:
        hidden = "".join(
            f" ({plane} has {100 * share:.0f} % of it in its field)"
            for plane, share in shares.items()
            if plane != seen[0]
        )
        return "ambiguous", f"visible in {seen[0]} only{hidden}: depth known to about {widest_mm:.1f} mm"
    if widest_mm > _MAX_DEVIATION_MM or widest_deg > _MAX_DEVIATION_DEG:
        direction = np.linalg.eigh(covariance[:3, :3])[1][:, -1]
        along = ", ".join(f"{value:+.2f}" for value in direction * np.sign(direction[np.abs(direction).argmax()]))
        return "ambiguous", (
            f"95 % interval of +- {widest_mm:.2f} mm along ({along}) in the world, and of +- {widest_deg:.2f} deg "
            "about the worst axis"
        )
    if not converged:
        return "ambiguous", "not converged within the number of iterations"
    return "converged", ""
