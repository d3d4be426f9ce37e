"""Features of the rows of each configuration."""

import datasets
from datasets import Features, Sequence, Value

from veriserum_hf.core import COMPONENTS, PLANES

CONFIGS: dict[str, str] = {
    "calibrated": "Corrected images of both planes, their cameras, and the refined pose of each implant.",
    "raw": "The same frames as raw files, with the distortion to correct them.",
    "manual": "Frames with manually matched poses: for benchmarks only.",
    "target": "Corrected images with the target poses that were commanded to the robot.",
    "anatomies": "One implant a row, with its mesh in mm.",
    "calibration": "Raw frames of the calibration phantoms.",
    "masks": "The rows of calibrated, with masks of both implants in both images.",
}
KIND_OF_CONFIG = {
    "calibrated": "refined",
    "raw": "refined",
    "manual": "manual",
    "target": "target",
    "masks": "refined",
}


def _vector(length: int) -> Sequence:
    return Sequence(Value("float64"), length=length)


def camera_features() -> dict[str, object]:
    """One plane as an OpenCV camera; see `veriserum_hf.geometry.Plane.camera`.

    The rows of a matrix are a list without a fixed length: pyarrow (26) takes wrong numbers from a slice of lists of
    fixed length in lists of fixed length, and the shuffle buffer of a stream uses slices.
    """
    return {
        "intrinsics": Sequence(_vector(3)),
        "world_to_camera": Sequence(_vector(4)),
        "pixel_size_mm": Value("float64"),
        "source_to_intensifier_mm": Value("float64"),
        "principal_point_mm": _vector(2),
    }


def pose_features() -> dict[str, object]:
    """One implant's pose in the world frame; the whole field is null if the frame has no pose of it."""
    return {
        "pose_id": Value("int64"),
        "anatomy_id": Value("int64"),
        "translation_mm": _vector(3),
        "quaternion_xyzw": _vector(4),
        "kind": Value("string"),
    }


def features_of(config: str, bits: int = 8) -> Features:
    """Features of a configuration; ``bits`` is the depth of corrected images, 8 or 16."""
    if config == "anatomies":
        # Versions of datasets before 5, which the loading script supports, have no meshes.
        mesh = datasets.Mesh() if hasattr(datasets, "Mesh") else {"bytes": Value("binary"), "path": Value("string")}
        return Features(
            {
                "anatomy_id": Value("int64"),
                "component": Value("string"),
                "category": Value("string"),
                "description": Value("string"),
                "mesh": mesh,
            }
        )
    if config == "calibration":
        return Features(
            {
                "calibration_measurement_id": Value("int64"),
                "calibration_trial_id": Value("int64"),
                "phantom": Value("string"),
                "plane": Value("string"),
                "image": datasets.Image(),
            }
        )
    # A raw file keeps its own mode; a corrected one of 8 bits is always one grey channel.
    image = datasets.Image(mode="L") if config != "raw" and bits == 8 else datasets.Image()
    of_raw = {"distortion_bs": Value("string"), "distortion_fs": Value("string"), "white_level": Value("int64")}
    names = [f"{component}_{plane}" for component in COMPONENTS for plane in PLANES]
    of_masks = {f"mask_{name}": datasets.Image() for name in names}
    of_masks |= {f"hidden_{name}": Value("float64") for name in names}
    return Features(
        {
            "measurement_id": Value("int64"),
            "trial_id": Value("int64"),
            "frame_index": Value("int64"),
            "task": Value("string"),
            "subject": Value("int64"),
            "implant_pair": Value("string"),
            "image_bs": image,
            "image_fs": image,
            "camera_bs": camera_features(),
            "camera_fs": camera_features(),
            "femur": pose_features(),
            "tibia": pose_features(),
            **(of_raw if config == "raw" else of_masks if config == "masks" else {}),
        }
    )
