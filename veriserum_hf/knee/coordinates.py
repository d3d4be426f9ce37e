"""Six coordinates of the knee, and how they change with its pose.

The joint coordinate system of Grood and Suntay (J Biomech Eng 105 (1983) 136), between axes of the implants that
have x to the patient's left, y proximal and z anterior, in both knees:

- e1, fixed to the femur: its flexion axis x;
- e3, fixed to the tibia: its long axis y;
- e2, the floating axis, perpendicular to both, anterior: e1 x e3, normalised.

Angles are those of the tibia against the femur: about e1 (flexion), e2 (adduction) and e3 (internal rotation).
Translations are along the same axes. In the paper they are the projections of the vector between the origins; as the
ISB's general recommendation for joints writes them (Wu and Cavanagh, J Biomech 28 (1995) 1257), the vector is the
sum of the three translations, each times its axis. The axes e1 and e3 are not perpendicular where there is adduction,
so that the two differ.
"""

import numpy as np

from veriserum_hf.core import FloatArray, JointConvention, Side
from veriserum_hf.geometry import knee_angles_deg

COORDINATES = ("flexion_deg", "adduction_deg", "internal_rotation_deg", "medial_mm", "anterior_mm", "superior_mm")
# For axes of figures.
COORDINATE_NAMES = {
    "flexion_deg": "flexion, deg",
    "adduction_deg": "adduction (varus +), deg",
    "internal_rotation_deg": "internal rotation, deg",
    "medial_mm": "medial, mm",
    "anterior_mm": "anterior, mm",
    "superior_mm": "superior, mm",
}
_LEFT = np.array([1.0, -1.0, -1.0, -1.0, 1.0, 1.0])  # signs of the coordinates in a left knee


def joint_coordinates(
    T_tibia_femur: FloatArray, side: Side, convention: JointConvention = "grood-suntay"
) -> FloatArray:
    """Six coordinates (n, 6) in the order of `COORDINATES`.

    Parameters
    ----------
    T_tibia_femur : (n, 4, 4) poses of the femur's axes in the tibia's, mm.
    side : of the knee.
    convention : ``"grood-suntay"``: translations are the position of the femur's origin from the tibia's, projected
        on the axes. ``"isb"``: the position of the tibia's origin from the femur's, as a sum along the axes.

    """
    identity = np.broadcast_to(np.eye(4), T_tibia_femur.shape)
    angles_deg = knee_angles_deg(T_tibia_femur, identity)
    e1, _, e3, projected = _along_axes(T_tibia_femur)
    translations = projected if convention == "grood-suntay" else _as_sum(projected, np.sum(e1 * e3, axis=-1))
    return np.concatenate([angles_deg, translations], axis=-1) * _signs(side)


def coordinate_derivatives(
    T_tibia_femur: FloatArray, side: Side, convention: JointConvention = "grood-suntay"
) -> FloatArray:
    """Derivatives (n, 6, 6) of the coordinates by the femur's position, mm, and rotation vector, deg.

    Both are those of the femur's axes in the tibia's: x_true = x + dx, R_true = Exp(rotation vector) R.
    """
    e1, e2, e3, projected = _along_axes(T_tibia_femur)
    p = T_tibia_femur[:, :3, 3]
    J = np.zeros((len(p), 6, 6))
    # The tibia rotates against the femur by the sum of the three angles, each about its axis.
    J[:, :3, 3:] = -np.linalg.inv(np.stack([e1, e2, e3], axis=-1))
    normal = np.cross(e1, e3)
    length = np.linalg.norm(normal, axis=-1)[:, None]
    across = (p - e2 * projected[:, 1:2]) / length
    J[:, 3:, :3] = np.stack([e1, e2, e3], axis=1)
    J[:, 3, 3:] = np.cross(e1, p)
    # d e2 = (1 - e2 e2') (w x e1) x e3 / |e1 x e3|, and a . ((w x e1) x e3) = w . (e1 x (e3 x a)).
    J[:, 4, 3:] = np.cross(e1, np.cross(e3, across))
    J[:, 3:, 3:] *= np.pi / 180
    if convention == "isb":
        J[:, 3:] = _derivatives_as_sum(J[:, 3:], projected, e1, e3)
    return J * _signs(side)[:, None]


def _signs(side: Side) -> FloatArray:
    return _LEFT if side == "left" else np.ones(6)


def _along_axes(T_tibia_femur: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Axes e1, e2, e3 (n, 3) in the tibia's frame, and projections (n, 3) of the femur's origin on them."""
    e1 = T_tibia_femur[:, :3, 0]
    e3 = np.broadcast_to((0.0, 1.0, 0.0), e1.shape)
    normal = np.cross(e1, e3)
    e2 = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    projected = np.einsum("kni,ni->nk", np.stack([e1, e2, e3]), T_tibia_femur[:, :3, 3])
    return e1, e2, e3, projected


def _as_sum(projected: FloatArray, cosine: FloatArray) -> FloatArray:
    """Translations (n, 3) of the tibia that sum up along the axes, from projections of the femur's origin."""
    first, floating, third = -projected.T
    sine2 = 1 - cosine**2
    along = [(first - cosine * third) / sine2, floating, (third - cosine * first) / sine2]
    return np.stack(along, axis=-1)


def _derivatives_as_sum(J: FloatArray, projected: FloatArray, e1: FloatArray, e3: FloatArray) -> FloatArray:
    """Derivatives (n, 3, 6) of `_as_sum`, from those of the projections."""
    cosine = np.sum(e1 * e3, axis=-1)[:, None]
    by_cosine = np.zeros((len(e1), 6))
    by_cosine[:, 3:] = np.cross(e1, e3) * (np.pi / 180)
    sine2 = 1 - cosine**2
    first, _, third = (-projected[:, k, None] for k in range(3))
    along_first, _, along_third = (value[:, None] for value in _as_sum(projected, cosine[:, 0]).T)
    d_first = (-J[:, 0] + cosine * J[:, 2] + by_cosine * (2 * cosine * along_first - third)) / sine2
    d_third = (-J[:, 2] + cosine * J[:, 0] + by_cosine * (2 * cosine * along_third - first)) / sine2
    return np.stack([d_first, -J[:, 1], d_third], axis=1)
