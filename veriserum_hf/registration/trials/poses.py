"""Initial poses of a trial's frames, and what a registration from them found."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from veriserum_hf.core import CONVERGED, FAILED, VERDICTS, Component, FloatArray, PoseRow
from veriserum_hf.geometry import invert_transform, make_transform, matrix_to_quaternion, quaternion_to_matrix
from veriserum_hf.registration.refine import RefinedPose

Origin = Literal["given", "previous frame", "next frame", "search"]


@dataclass(frozen=True, eq=False)
class InitialPose:
    """An initial pose.

    Attributes
    ----------
    anatomy_id, T_world_implant : of the implant.
    origin : where the pose is from.
    rival : sentence on another pose that the images allow nearly as well; empty if there is none. It holds for what
        is registered from this pose, too: the other one leads elsewhere.

    """

    anatomy_id: int
    T_world_implant: FloatArray
    origin: Origin
    rival: str = ""

    @classmethod
    def of_row(cls, pose: PoseRow, origin: Origin) -> "InitialPose":
        """Pose of a row of the data set or of a pose file."""
        rotation = quaternion_to_matrix(pose["quaternion_xyzw"])
        return cls(pose["anatomy_id"], make_transform(rotation, pose["translation_mm"]), origin)

    @classmethod
    def of_search(cls, pose: PoseRow) -> "InitialPose":
        """Pose that was searched for in the images."""
        found = cls.of_row(pose, "search")
        if pose.get("verdict") != "ambiguous":
            return found
        (why, *_) = (pose.get("detail") or "").split("; ")
        return replace(found, rival=f"where it was searched for: {why}")

    def as_row(self) -> PoseRow:
        """Pose in the form of a row of the data set."""
        return {
            "anatomy_id": self.anatomy_id,
            "translation_mm": self.T_world_implant[:3, 3].tolist(),
            "quaternion_xyzw": matrix_to_quaternion(self.T_world_implant[:3, :3]).tolist(),
        }

    def failed(self, component: Component, why: str) -> RefinedPose:
        """Return this pose with the verdict ``failed``."""
        return RefinedPose(
            component=component,
            anatomy_id=self.anatomy_id,
            T_world_implant=self.T_world_implant,
            covariance=np.full((6, 6), np.nan),
            image_covariance=np.full((6, 6), np.nan),
            method="outline",
            score=float("nan"),
            verdict=FAILED,
            detail=why,
            moved_mm=0.0,
            moved_deg=0.0,
        )


@dataclass(frozen=True, eq=False)
class Found:
    """Result from an initial pose, with its origin and rival."""

    pose: RefinedPose
    origin: Origin
    rival: str = ""

    @classmethod
    def of(cls, pose: RefinedPose, initial: InitialPose) -> "Found":
        """Result of a registration; ``ambiguous`` where the initial pose has a rival."""
        if initial.rival and pose.verdict == CONVERGED:
            pose = replace(pose, verdict="ambiguous", detail="; ".join(filter(None, (initial.rival, pose.detail))))
        return cls(pose, initial.origin, initial.rival)

    @property
    def converged(self) -> bool:
        """Whether the pose has the verdict ``converged``."""
        return bool(self.pose.verdict == CONVERGED)

    @property
    def failed(self) -> bool:
        """Whether the pose has the verdict ``failed``."""
        return bool(self.pose.verdict == FAILED)

    @property
    def rank(self) -> tuple[int, float]:
        """Higher is better; two failed results rank equal, so that the given initial pose stays."""
        return -VERDICTS.index(self.pose.verdict), 0.0 if self.failed else self.pose.score

    def as_initial(self) -> InitialPose:
        """Initial pose of an implant that is registered again together with the other one."""
        return InitialPose(self.pose.anatomy_id, self.pose.T_world_implant, self.origin, self.rival)


@dataclass(frozen=True, eq=False)
class Neighbour:
    """The last frame in which an implant converged: its place, its given initial pose, if any, and the result."""

    index: int
    given: InitialPose | None
    pose: RefinedPose
    rival: str

    @property
    def converged(self) -> bool:
        """Whether it did; an ambiguous result counts where an implant was searched for and none has converged."""
        return bool(self.pose.verdict == CONVERGED)

    def held(self, origin: Origin) -> InitialPose:
        """Initial pose without motion since that frame."""
        return InitialPose(self.pose.anatomy_id, self.pose.T_world_implant, origin, self.rival)

    def moved(self, given: InitialPose, origin: Origin) -> InitialPose | None:
        """Initial pose with the motion of the given ones: their error in the implant's frame is constant."""
        if self.given is None:
            return None
        T_start_implant = invert_transform(self.given.T_world_implant) @ self.pose.T_world_implant
        return InitialPose(given.anatomy_id, given.T_world_implant @ T_start_implant, origin, self.rival)
