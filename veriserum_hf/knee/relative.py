"""Pose of the femur's axes in the tibia's, with the covariance that follows from those of both poses."""

import numpy as np

from veriserum_hf.core import COMPONENTS, FloatArray
from veriserum_hf.geometry import invert_transform
from veriserum_hf.knee.axes import KneeAxes
from veriserum_hf.knee.frames import JointFrames


def relative_poses(frames: JointFrames, axes: KneeAxes) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``T_tibia_femur`` (n, 4, 4), mm, between the axes, and its covariances (n, 6, 6); NaN where unknown.

    The second covariance is the part that differs from frame to frame: what the images leave, or all of it where the
    poses do not state that. Both are of the position, mm, and of the rotation vector, deg, in the tibia's axes, of
    first order. What moves both components alike, such as an error of a camera, cancels as far as the poses state the
    covariance between them; otherwise their errors are taken as independent, and the first is rather too large.
    """
    unknown = np.full((4, 4), np.nan)
    T_implant_axes = {
        name: np.array(
            [axes.implants[id].T_implant_axes if id >= 0 else unknown for id in frames.anatomy_id[name].tolist()]
        )
        for name in COMPONENTS
    }
    femur, tibia = (frames.T_world_implant[name] @ T_implant_axes[name] for name in COMPONENTS)
    origin = femur[:, :3, 3]
    back = np.zeros((len(frames), 6, 6))
    back[:, :3, :3] = back[:, 3:, 3:] = tibia[:, :3, :3].swapaxes(1, 2)
    covariance, own = np.zeros((len(frames), 6, 6)), np.zeros((len(frames), 6, 6))
    moves = {}
    for name in COMPONENTS:
        # An error of a component's rotation moves the femur's origin about the origin of that component's mesh.
        moves[name] = A = back @ _moves(origin - frames.T_world_implant[name][:, :3, 3])
        of_images = np.where(
            np.isfinite(frames.image_covariance[name]), frames.image_covariance[name], frames.covariance[name]
        )
        covariance += A @ frames.covariance[name] @ A.swapaxes(1, 2)
        own += A @ of_images @ A.swapaxes(1, 2)
    shared = moves["femur"] @ frames.cross_covariance @ moves["tibia"].swapaxes(1, 2)
    covariance -= shared + shared.swapaxes(1, 2)
    return invert_transform(tibia) @ femur, covariance, own


def _moves(lever_mm: FloatArray) -> FloatArray:
    """Errors (n, 6, 6) at the end of a lever, mm and deg, by those of the pose at its start."""
    x, y, z = np.radians(lever_mm).T
    A = np.broadcast_to(np.eye(6), (len(lever_mm), 6, 6)).copy()
    A[:, 0, 4], A[:, 0, 5] = z, -y
    A[:, 1, 3], A[:, 1, 5] = -z, x
    A[:, 2, 3], A[:, 2, 4] = y, -x
    return A
