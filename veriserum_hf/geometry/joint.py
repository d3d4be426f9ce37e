"""Clinical angles of the knee, from the poses of both implants.

The angles are those of Grood and Suntay (J Biomech Eng 105 (1983) 136) between the implants' own frames, the axes of
their STL files, taken as x to the patient's left, y proximal, z anterior in a right knee:

``flexion_deg``
    of the tibia about the femur's x; positive in flexion, negative in hyperextension.
``adduction_deg``
    about the axis normal to the other two; positive in varus, negative in valgus.
``internal_rotation_deg``
    of the tibia about its own y; positive inwards, negative outwards.

In a left knee with the same axes, adduction and internal rotation have the opposite signs.

These are angles between STL frames, and clinical ones only where the STL files have these axes, as those of a
simulated archive do. Of the download that is not known: there every angle has an offset, and where an axis points
elsewhere the three mix. What an estimate and a label have in common, though, is the STL file, so that their
difference still shows the error of the joint's posture.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from veriserum_hf.core import FloatArray

KNEE_ANGLES = ("flexion_deg", "adduction_deg", "internal_rotation_deg")


def knee_angles_deg(T_world_femur: ArrayLike, T_world_tibia: ArrayLike) -> FloatArray:
    """Flexion, adduction and internal rotation, (..., 3) deg; see the module's docstring for signs and axes.

    They solve ``R_femur_tibia = Rx(flexion) Rz(adduction) Ry(internal rotation)``. Flexion and internal rotation lie
    within 180 deg of zero, adduction within 90; where adduction is 90 deg, only the sum or the difference of the
    other two is known.

    Parameters
    ----------
    T_world_femur, T_world_tibia : (..., 4, 4) poses of the femoral and the tibial component.

    Raises
    ------
    ValueError
        If a shape is wrong or the shapes differ.

    """
    femur, tibia = (np.asarray(T, dtype=np.float64) for T in (T_world_femur, T_world_tibia))
    if femur.shape[-2:] != (4, 4) or femur.shape != tibia.shape:
        raise ValueError(f"expected two arrays of the same shape (..., 4, 4), got {femur.shape} and {tibia.shape}")
    R_femur_tibia = femur[..., :3, :3].swapaxes(-1, -2) @ tibia[..., :3, :3]
    angles: FloatArray = Rotation.from_matrix(R_femur_tibia).as_euler("XZY", degrees=True)
    return angles


def angle_errors_deg(estimated_deg: ArrayLike, label_deg: ArrayLike) -> FloatArray:
    """Estimate minus label of angles of any shape, the short way around: from -180 up to 180 deg."""
    off: FloatArray = np.asarray(estimated_deg, dtype=np.float64) - np.asarray(label_deg, dtype=np.float64)
    return (off + 180.0) % 360.0 - 180.0
