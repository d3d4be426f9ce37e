"""Columns of pose files: one row for every implant in every frame.

What ``veriserum predict`` and ``veriserum register`` write, what a person matched, and the exact poses of a simulated
archive (``truth.parquet``) share `POSE_FIELDS`; each adds its own columns.
"""

import pyarrow as pa

from veriserum_hf.core import MANUAL, NOT_ASSESSED

CSV_SUFFIX = ".csv"
TABLE_SUFFIXES = (".parquet", CSV_SUFFIX)  # of files of poses with ids
# Files of the poses of one implant, without ids: JointTrack's and Autoscoper's.
JOINTTRACK_SUFFIXES, AUTOSCOPER_SUFFIX = (".jts", ".jtak"), ".tra"
TRAJECTORY_SUFFIXES = (*JOINTTRACK_SUFFIXES, AUTOSCOPER_SUFFIX)

_VERISERUM_WORLD = "origin at the centre of the bs intensifier, x right, y up, z towards its source"
_ANY_WORLD = f"world of the data set's cameras; mm. Of Veriserum: {_VERISERUM_WORLD}"
JOINT_MOTION = ("flexion_deg", "adduction_deg", "internal_rotation_deg", "anterior_mm")
TRUTH_SCHEMA = pa.schema(
    {
        "measurement_id": pa.int64(),
        "trial_id": pa.int64(),
        "frame_index": pa.int64(),
        "anatomy_id": pa.int64(),
        "component": pa.string(),
        "translation_mm": pa.list_(pa.float64(), 3),
        "quaternion_xyzw": pa.list_(pa.float64(), 4),
        "covariance": pa.list_(pa.list_(pa.float64(), 6), 6),
        "verdict": pa.string(),
        **dict.fromkeys(JOINT_MOTION, pa.float64()),
    },
    metadata={
        "frame": f"world: {_VERISERUM_WORLD}; mm",
        "pose": "x_world = R(quaternion_xyzw) x_implant + translation_mm; quaternion x, y, z, w, scalar last",
        "covariance": "of the pose, 6 x 6: zero, since these poses are exact",
        "motion": "of the joint in this frame: angles of Grood and Suntay, femur's anterior position on the tray",
    },
)
# Of every file of poses.
POSE_FIELDS = tuple(field for field in TRUTH_SCHEMA if field.name not in JOINT_MOTION)
PREDICTED_SCHEMA = pa.schema(
    [
        *POSE_FIELDS,
        pa.field("confidence", pa.float64()),
        pa.field("doubt", pa.float64()),
        pa.field("trusted", pa.bool_()),
    ],
    metadata={
        "frame": _ANY_WORLD,
        "pose": TRUTH_SCHEMA.metadata[b"pose"],
        "covariance": "null: the model states none",
        "verdict": f"{NOT_ASSESSED!r}: the pose was not compared with the images",
        "confidence": "the model's own probability that the pose is within 2 mm and 2 degrees, or null",
        "doubt": "the probability that the pose is off by more than 5 mm or 5 degrees; null where the model has none",
        "trusted": "false where the pose should not be trusted: there is doubt, or the rig is unlike those that the "
        "model's probabilities were fitted to; null where the model has none",
    },
)
REGISTERED_SCHEMA = pa.schema(
    [
        *POSE_FIELDS,
        pa.field("image_covariance", TRUTH_SCHEMA.field("covariance").type),
        pa.field("cross_covariance", TRUTH_SCHEMA.field("covariance").type),
        pa.field("method", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("detail", pa.string()),
        pa.field("moved_mm", pa.float64()),
        pa.field("moved_deg", pa.float64()),
        pa.field("planes_apart_mm", pa.float64()),
        pa.field("planes_apart_sd_mm", pa.float64()),
        pa.field("start", pa.string()),
    ],
    metadata={
        "frame": _ANY_WORLD,
        "pose": TRUTH_SCHEMA.metadata[b"pose"],
        "covariance": "6 x 6 of x, y, z of the implant's origin (mm) and the rotation vector about the world's axes "
        "x, y, z (degrees), with errors of cameras, meshes and edges; null where none could be determined",
        "image_covariance": "like covariance, as if these were exact: what the images alone determine",
        "cross_covariance": "6 x 6 of this pose (rows) with that of the other implant in the same frame (columns), "
        "from errors of the cameras, which move both; null where either is unknown",
        "column method": "whose pose it is: outline (edges of the silhouettes) or intensity (gradients of rendered "
        "images); null where nothing could be registered",
        "verdict": "converged, ambiguous or failed; detail states why. A failed pose is its initial pose, "
        "or where this frame had none, the initial pose of the nearest frame that had one",
        "score": "0 to 1: share of the implant's outline that has an edge of the image where it must be, above "
        "chance, in the worse plane; null where the images could not be read",
        "moved_mm": "distance of the mesh's centre from its position at the given initial pose, and angle "
        "(moved_deg) from that pose, also where these were too large to be accepted; null where this frame had no "
        "own initial pose",
        "planes_apart_mm": "disagreement of the planes: the implant's centre where fs alone sees it, less that where "
        "bs alone does, along cross(ray of bs, ray of fs), of rays from the X-ray sources to the implant, which both "
        "see without depth; null with one plane, and of a failed pose",
        "planes_apart_sd_mm": "its standard deviation by errors of images, edges and mesh, as if the cameras were "
        "exact",
        "column start": "the initial pose: the given one, or the pose of the last frame before this one "
        "(previous frame) or the first after it (next frame) that converged, or one found in the images (search); "
        "null where there was none",
    },
)
MANUAL_SCHEMA = pa.schema(
    [
        *POSE_FIELDS,
        pa.field("image_covariance", TRUTH_SCHEMA.field("covariance").type),
        pa.field("kind", pa.string()),
        pa.field("method", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("detail", pa.string()),
        pa.field("start", pa.string()),
        pa.field("observer", pa.string()),
        pa.field("accepted_utc", pa.timestamp("us", "UTC")),
    ],
    metadata={
        "frame": _ANY_WORLD,
        "pose": TRUTH_SCHEMA.metadata[b"pose"],
        "kind": f"{MANUAL!r}: a person has accepted each of these poses",
        "column method": f"{MANUAL!r}: placed by hand; outline or intensity: registered, and then accepted",
        "covariance": "6 x 6, as of a registered pose; null of one that was placed by hand",
        "image_covariance": "like covariance: what the images alone determine",
        "verdict": f"of the registration; {NOT_ASSESSED!r} of a pose that was placed by hand",
        "column start": "what the pose was before it was moved or registered: the name of a source of poses, a "
        "neighbouring frame, or placed",
        "observer": "who accepted the pose",
        "accepted_utc": "when",
    },
)
