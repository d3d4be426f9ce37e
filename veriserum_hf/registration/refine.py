"""2D/3D registration of a frame: refine the poses of both implants, and assess them.

Two observation models:

outline
    Edges of the images along the outlines of rendered implants (`veriserum_hf.registration.outline`). It needs no
    model of grey values, so it holds for opaque metal, 8-bit images with a window, and images in front of bones.
intensity
    Digitally reconstructed radiographs (DRRs) of path lengths, whose image gradients are fitted to those of the
    images (`veriserum_hf.registration.intensity`). More accurate, where its image model holds.

`veriserum_hf.registration.frame` joins both; `veriserum_hf.registration.deviations` states the covariance, with
errors of cameras, meshes and edges; `veriserum_hf.registration.verdicts` has the rules of the verdicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import trimesh

from veriserum_hf.core import CONVERGED, FAILED, PLANES, Component, FloatArray, FrameRow, PlaneName, Poses, Verdict
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import matrix_to_quaternion
from veriserum_hf.registration.deviations import Deviations
from veriserum_hf.registration.frame import Frame, IntensityPose
from veriserum_hf.registration.inputs import scene_of
from veriserum_hf.registration.intensity.search import optimise, polish
from veriserum_hf.registration.intensity.state import State
from veriserum_hf.registration.outline.last_poses import LastPoses
from veriserum_hf.registration.outline.search import OutlineFit
from veriserum_hf.registration.outline.solver import OutlineState
from veriserum_hf.registration.scene import Scene
from veriserum_hf.registration.verdicts import verdicts_of_frame

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

Method = Literal["outline", "intensity"]
ChosenMethod = Literal["auto", "outline", "intensity"]
METHODS: tuple[ChosenMethod, ...] = ("auto", "outline", "intensity")
LIMIT_MM, LIMIT_DEG = 30.0, 30.0
_DEVIATIONS = Deviations()


@dataclass(frozen=True, eq=False)
class RefinedPose:
    """The estimated pose of an implant, with its uncertainty and verdict.

    Attributes
    ----------
    component : ``"femur"`` or ``"tibia"``.
    anatomy_id : of the implant.
    T_world_implant : (4, 4) mm; where the verdict is ``failed``, the initial pose.
    covariance : (6, 6) of x, y, z of the implant's origin in the world, mm, and of the rotation vector about the
        world's axes, deg, with errors of cameras, mesh and edges (`Deviations`); NaN where the verdict is ``failed``.
    image_covariance : like ``covariance``, as if these were exact: what the images alone determine.
    method : whose pose it is, that of the outlines or of the intensities.
    score : share of the implant's outline that has an edge of the image within a pixel of where it must be, above
        what chance gives on this image, in the worse plane, 0 to 1.
    verdict : ``converged``; ``ambiguous``, where the images do not determine the pose, or contradict each other;
        ``failed``.
    detail : reason of the verdict, and how much of the surroundings of its outline is clipped if that is more than
        10 %; where converged, empty, or the interval of the depth that one plane alone determines.
    moved_mm, moved_deg : of the mesh's centre, from the initial pose, also where the verdict is ``failed``.
    planes_apart_mm : disagreement of the planes: the implant's centre where fs alone sees it, less that where bs
        alone does, along the direction that both see without depth, which is cross(ray of bs, ray of fs), of rays
        from the sources to the implant. NaN with one plane, or where the verdict is ``failed``.
    planes_apart_sd_mm : its standard deviation by errors of images, edges and mesh, as if the cameras were exact.
    camera_effects : (6, 12) errors of the pose, as in ``covariance``, by one standard deviation of each error of the
        cameras. The product of the femur's and the transposed tibia's is the covariance between both poses. NaN
        where ``covariance`` is.

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
    planes_apart_mm: float = float("nan")
    planes_apart_sd_mm: float = float("nan")
    camera_effects: FloatArray = field(default_factory=lambda: np.full((6, 12), np.nan))

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
    method: ChosenMethod = "auto",
    deviations: Deviations = _DEVIATIONS,
    limit_mm: float = LIMIT_MM,
    limit_deg: float = LIMIT_DEG,
    device: str = "cpu",
) -> dict[Component, RefinedPose]:
    """Refine the poses of both implants in a frame, together.

    Parameters
    ----------
    row : a row of ``calibrated``, ``manual`` or ``target``, images decoded; a plane without image is skipped. Images
        may have any shape, and each plane its own; of a camera, ``intrinsics`` and ``world_to_camera`` count, and its
        other fields must not contradict them. On the detector, pixels below 0.35 mm (360 mm / 1024) for outlines and
        0.7 mm for intensities are reduced to these.
    meshes : closed meshes in mm, by anatomy id.
    start : initial poses by component, each as in a row: ``anatomy_id``, ``translation_mm``, ``quaternion_xyzw``; if
        not given, the row's own. The capture range is 10 mm and 10 degrees in two planes, 5 mm and 5 degrees in one.
    planes : whose images are used.
    method : ``"outline"``: edges of the images along the implants' outlines; nothing is assumed about grey values but
        their order. ``"intensity"``: grey values, by an image model with path lengths. ``"auto"``: by outline, then
        by intensity where its model explains the grey values inside the implants, and where that keeps the outlines
        on their edges.
    deviations : standard deviations of cameras, meshes and edges, which enter the covariance.
    limit_mm, limit_deg : a pose farther than this from its initial pose has failed.
    device : ``"cpu"``, or ``"cuda"``, on which intensities of many frames are fitted at once: see `register_batch`;
        outlines are always registered on the CPU.

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
        method=method,
        deviations=deviations,
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
    method: ChosenMethod = "auto",
    deviations: Deviations = _DEVIATIONS,
    limit_mm: float = LIMIT_MM,
    limit_deg: float = LIMIT_DEG,
    device: str = "cpu",
    last_poses: LastPoses | None = None,
) -> list[dict[Component, RefinedPose]]:
    """Refine frames together, as `register` does each; a GPU needs some dozens at once to be used well.

    Where ``last_poses`` are given, the frames follow each other in a trial: each may begin from the poses before, if
    these are on edges of its images. The initial poses remain those that limits refer to.

    Raises
    ------
    RegistrationError
        As `register`, naming the measurement; also if the frames do not show the same components in the same planes,
        or images of a plane have different sizes or pixels.

    """
    if method not in METHODS:
        raise RegistrationError(f"method is {method!r}; expected {', '.join(METHODS)}")
    scene, starts_T = scene_of(rows, meshes, starts, planes, torch.device(device))
    initial = starts_T.cpu().numpy()
    frames = [
        Frame(
            {plane: views[n] for plane, views in scene.views.items()},
            {component: implants[n] for component, implants in scene.implants.items()},
            initial[n],
        )
        for n in range(len(rows))
    ]
    fits = [None if method == "intensity" else frame.near_outline(last_poses) for frame in frames]
    intensities = _by_intensity(scene, starts_T, frames, fits, method)
    limits = (limit_mm, limit_deg)
    return [
        _assessed(frame, fit, intensity, list(scene.implants), deviations, limits)
        for frame, fit, intensity in zip(frames, fits, intensities, strict=True)
    ]


def _by_intensity(
    scene: Scene, starts_T: Tensor, frames: Sequence[Frame], fits: Sequence[OutlineFit | None], method: ChosenMethod
) -> list[list[IntensityPose] | None]:
    """Poses of the implants by intensity, by frame; None where the method or the frame excludes it."""
    chosen = [
        n
        for n, (frame, fit) in enumerate(zip(frames, fits, strict=True))
        if fit is None or (method == "auto" and frame.intensities_explained(fit))
    ]
    found: list[list[IntensityPose] | None] = [None] * len(frames)
    if not chosen:
        return found
    if method == "intensity":
        outcome = optimise(scene, starts_T)
    else:
        outcome = polish(scene.only(chosen), _joined([fit.state for n in chosen if (fit := fits[n])], scene.device))
    for place, n in enumerate(chosen):
        found[n] = [
            IntensityPose(
                outcome.state.T_world_implant[place, k].cpu().numpy(),
                outcome.covariance[place, k].cpu().numpy(),
                bool(outcome.converged[place, k]),
            )
            for k in range(len(scene.implants))
        ]
    return found


def _joined(states: Sequence[OutlineState], device: torch.device) -> State:
    """States of frames that outlines have reached, as one of a batch."""
    T = torch.tensor(np.stack([each.T_world_implant for each in states]), device=device)
    log_per_mm = {
        plane: torch.tensor(np.stack([each.log_per_mm[plane] for each in states]), device=device)
        for plane in states[0].log_per_mm
    }
    return State(T, log_per_mm)


def _assessed(
    frame: Frame,
    fit: OutlineFit | None,
    intensities: Sequence[IntensityPose] | None,
    components: Sequence[Component],
    deviations: Deviations,
    limits: tuple[float, float],
) -> dict[Component, RefinedPose]:
    """Choose between the poses of a frame, and assess them; the initial pose replaces one that has failed."""
    chosen = frame.choose(fit, intensities)
    known = {
        component: frame.findings(
            chosen.state,
            k,
            image_covariance=None if each is None else each.covariance,
            converged=converged,
            runner_up_deg=float("nan") if fit is None else float(fit.runners_up[k]),
            deviations=deviations,
        )
        for k, (component, each, converged) in enumerate(
            zip(components, chosen.by_intensity, chosen.converged, strict=True)
        )
    }
    verdicts = verdicts_of_frame({component: about for component, (about, *_) in known.items()}, limits)
    found: dict[Component, RefinedPose] = {}
    for k, (component, (about, covariance, image_covariance, effects)) in enumerate(known.items()):
        word, detail = verdicts[component]
        failed = word == FAILED
        T_world_implant = frame.initial[k] if failed else chosen.state.T_world_implant[k]
        if word != CONVERGED:
            detail += frame.clipped_statement(k, T_world_implant)
        nothing = np.full((6, 6), np.nan)
        found[component] = RefinedPose(
            component=component,
            anatomy_id=frame.implants[k].anatomy_id,
            T_world_implant=T_world_implant,
            covariance=nothing if failed else covariance,
            image_covariance=nothing if failed else image_covariance,
            method="outline" if chosen.by_intensity[k] is None else "intensity",
            score=about.score,
            verdict=word,
            detail=detail,
            moved_mm=about.moved[0],
            moved_deg=about.moved[1],
            planes_apart_mm=float("nan") if failed else about.planes_apart.mm,
            planes_apart_sd_mm=float("nan") if failed else about.planes_apart.sd_mm,
            camera_effects=np.full_like(effects, np.nan) if failed else effects,
        )
    return found
