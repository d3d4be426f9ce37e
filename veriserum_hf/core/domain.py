"""The words of the domain: planes, components, kinds of pose and verdicts."""

from typing import Literal

PlaneName = Literal["bs", "fs"]
PLANES: tuple[PlaneName, PlaneName] = ("bs", "fs")

Component = Literal["femur", "tibia"]
COMPONENTS: tuple[Component, Component] = ("femur", "tibia")

Side = Literal["left", "right"]  # of a knee
SIDES: tuple[Side, Side] = ("left", "right")

INITIAL = "initial"  # kind of the poses of own frames: where a registration begins, and no reference
MANUAL = "manual"  # kind of poses that a person has matched and accepted

Verdict = Literal["converged", "ambiguous", "failed"]
CONVERGED: Verdict = "converged"
FAILED: Verdict = "failed"
VERDICTS: tuple[Verdict, ...] = (CONVERGED, "ambiguous", FAILED)  # the best first
# A network's single estimate: nothing has compared it with the images, and it states no covariance.
NOT_ASSESSED = "not assessed"

# What a user chooses between.
Encoding = Literal["jpeg", "png", "raw"]  # of corrected images
SplitBy = Literal["trial", "implant"]
Engine = Literal["torch", "onnx"]  # that runs a network
ShardFormat = Literal["parquet", "arrow"]
DistortionFields = Literal["lab", "real"]  # of simulated intensifiers: of the lab's stored form, or beyond it
FrameIds = Literal["measurement", "pose"]  # which id names a frame of an archive
Rotations = Literal["quaternion", "euler"]  # as an archive's pose table stores them
JointConvention = Literal["grood-suntay", "isb"]  # of the translations of a joint
