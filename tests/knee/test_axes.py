"""Axes of implants from their meshes and from landmarks, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml
from scipy.spatial.transform import Rotation

from tests.knee.motions import FEMUR, TIBIA, placed, table_of
from veriserum_hf.errors import KinematicsError
from veriserum_hf.geometry import axes_in_mesh, invert_transform, make_transform, transform_points
from veriserum_hf.knee import kinematics, knee_axes, side_of
from veriserum_hf.simulation import IMPLANTS, implant_mesh

REAL = Path(__file__).parents[3] / "shared" / "real"
MOVED = make_transform(Rotation.from_rotvec((40, -70, 100), degrees=True).as_matrix(), (10, -30, 44))
SYMMETRIC = [id for id, model in IMPLANTS.items() if "anatomic" not in model.description]


def crown(side, theta_deg):
    """Points of a femoral component's crown: the circle of its flexion axis, at the x that is farthest out."""
    mesh = implant_mesh(FEMUR)
    points = np.asarray(mesh.vertices)
    points = points[side * points[:, 0] > 4]
    theta = np.radians(theta_deg)
    directions = np.stack([0 * theta, -np.cos(theta), -np.sin(theta)])
    return points[(points @ directions).argmax(axis=0)]


def landmarks(side="right"):
    """Landmarks on the simulated implants 1 and 3, whose meshes have the axes of a right knee."""
    medial = 1 if side == "right" else -1
    femur, tibia = (np.asarray(implant_mesh(id).vertices) for id in (FEMUR, TIBIA))
    top = tibia[np.abs(tibia[:, 1]) < 1e-6]
    facet = np.asarray(implant_mesh(FEMUR).triangles_center)
    distal = facet[(implant_mesh(FEMUR).face_normals[:, 1] > 0.9999) & (np.abs(facet[:, 1] + 11.4) < 2)]
    flat = distal[[distal[:, 0].argmin(), distal[:, 0].argmax(), distal[:, 2].argmin(), distal[:, 2].argmax()]]
    return {
        "side": side,
        "implants": {
            FEMUR: {
                "component": "femur",
                "medial_condyle": crown(medial, np.array([40, 60, 80, 100])).tolist(),
                "lateral_condyle": crown(-medial, np.array([40, 60, 80, 100])).tolist(),
                "distal_cut": flat.tolist(),
                "anterior": femur[femur[:, 2].argmax()].tolist(),
            },
            TIBIA: {
                "component": "tibia",
                "tray": top[:: len(top) // 6].tolist(),
                "distal": tibia[tibia[:, 1].argmin()].tolist(),
                "medial_edge": top[(medial * top[:, 0]).argmax()].tolist(),
                "lateral_edge": top[(medial * top[:, 0]).argmin()].tolist(),
                "anterior_edge": top[top[:, 2].argmax()].tolist(),
                "posterior_edge": top[top[:, 2].argmin()].tolist(),
            },
        },
    }


@pytest.fixture
def poses():
    """One flexed right knee, both implants."""
    return table_of(*placed([(60, 2, 5, 1, -4, 30), (62, 2, 5, 1, -4, 30)], "right"))


@pytest.fixture
def meshes():
    return {id: implant_mesh(id) for id in (FEMUR, TIBIA)}


def written(tmp_path, content):
    path = tmp_path / "axes.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("id", SYMMETRIC)
@pytest.mark.parametrize("T", [np.eye(4), MOVED], ids=["as designed", "moved"])
def test_meshes_give_the_axes_that_they_were_designed_with(id, T):
    mesh = implant_mesh(id).copy()
    mesh.apply_transform(T)
    off = invert_transform(T) @ axes_in_mesh(mesh, IMPLANTS[id].component)[0]
    assert np.degrees(Rotation.from_matrix(off[:3, :3]).magnitude()) < 0.3
    assert np.linalg.norm(off[:3, 3]) < 0.05


def test_an_anatomic_tray_has_nearly_the_axes_of_its_design():
    off = axes_in_mesh(implant_mesh(7), "tibia")[0]
    assert np.degrees(Rotation.from_matrix(off[:3, :3]).magnitude()) < 3
    assert np.linalg.norm(off[:3, 3]) < 1


def test_a_mesh_that_is_inside_out_has_the_same_axes(poses, meshes):
    turned = {id: mesh.copy() for id, mesh in meshes.items()}
    for mesh in turned.values():
        mesh.invert()
    found, expected = (kinematics(poses, "right", meshes=each).table for each in (turned, meshes))
    found, expected = (table["flexion_deg"].to_numpy() for table in (found, expected))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_landmarks_give_the_axes_of_the_mesh(side, tmp_path, meshes):
    values = [(60, 2, 5, 1, -4, 30), (20, 1, -3, 0, -2, 30)]
    poses = table_of(*placed(values, side))
    table = kinematics(poses, written(tmp_path, landmarks(side)), meshes=meshes).table
    for k, name in enumerate(("flexion_deg", "adduction_deg", "internal_rotation_deg")):
        np.testing.assert_allclose(table[name].to_numpy(), np.array(values)[:, k], atol=0.5)
    for k, name in enumerate(("medial_mm", "anterior_mm", "superior_mm")):
        np.testing.assert_allclose(table[name].to_numpy(), np.array(values)[:, 3 + k], atol=0.3)


def test_axes_of_another_implant(tmp_path, poses, meshes):
    content = landmarks()
    content["implants"][2] = content["implants"].pop(FEMUR)
    with pytest.raises(KinematicsError, match=r"axes of femur 2, but the poses are of femur 1"):
        kinematics(poses, written(tmp_path, content), meshes=meshes)


def test_a_landmark_off_the_mesh(tmp_path, poses, meshes):
    content = landmarks()
    content["implants"][TIBIA]["distal"][1] -= 5
    with pytest.raises(KinematicsError, match=r"axes of tibia 3: distal .* is 5\.0 mm off its mesh"):
        kinematics(poses, written(tmp_path, content), meshes=meshes)


def test_axes_of_the_other_knee(tmp_path, poses, meshes):
    content = landmarks() | {"side": "left"}
    with pytest.raises(KinematicsError, match=r"landmarks are those of a right knee"):
        kinematics(poses, written(tmp_path, content), meshes=meshes)


def test_poses_that_state_another_side(tmp_path, poses, meshes):
    left = poses.append_column("side", [["left"] * len(poses)])
    with pytest.raises(KinematicsError, match=r"are of a left knee, but .*axes\.yaml gives the axes of a right"):
        kinematics(left, written(tmp_path, landmarks()), meshes=meshes)


def test_meshes_exchanged_between_the_components(poses, meshes):
    with pytest.raises(KinematicsError, match=r"axes of femur 1: .*Give landmarks"):
        kinematics(poses, "right", meshes={FEMUR: meshes[TIBIA], TIBIA: meshes[FEMUR]})


def test_axes_that_do_not_fit_the_poses(poses, meshes):
    upside_down = make_transform(Rotation.from_rotvec((0, 180, 0), degrees=True).as_matrix(), (0, 0, 0))
    turned = meshes[FEMUR].copy()
    turned.apply_transform(upside_down)
    with pytest.raises(KinematicsError, match=r"expected -?\d+ to \d+ in a knee\. The axes do not fit"):
        kinematics(poses, "right", meshes=meshes | {FEMUR: turned})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("side"), "expected side: left or right"),
        (lambda content: content.update(side="both"), "expected side: left or right"),
        (lambda content: content["implants"][FEMUR].pop("anterior"), "has no landmark anterior"),
        (lambda content: content["implants"][FEMUR].update(knee=[0, 0, 0]), "knee is no landmark of a femur"),
        (lambda content: content["implants"][FEMUR].update(anterior=[1, 2]), r"anterior is \[1, 2\]; expected one"),
        (lambda content: content["implants"][TIBIA].update(tray=[[0, 0, 0]]), "expected at least 3 points"),
        (lambda content: content["implants"][TIBIA].update(component="patella"), "component patella"),
        (lambda content: content["implants"][TIBIA].update(tray=[[k, 0, 0] for k in range(4)]), "on one line"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, poses, meshes, change, message):
    content = landmarks()
    change(content)
    with pytest.raises(KinematicsError, match=message) as refused:
        kinematics(poses, written(tmp_path, content), meshes=meshes)
    assert "axes.yaml" in str(refused.value)


def test_neither_landmarks_nor_a_mesh(poses):
    with pytest.raises(KinematicsError, match=r"axes of femur 1: there are no landmarks and no mesh"):
        kinematics(poses, "right")


def test_landmarks_are_seen_from_the_axes(meshes):
    """The crown's circle has its centre on the flexion axis, at the origin's height."""
    T, condyles = axes_in_mesh(meshes[FEMUR], "femur")
    centers = transform_points(invert_transform(T), condyles.center_mm)
    np.testing.assert_allclose(centers[:, 1:], 0, atol=1e-9)
    np.testing.assert_allclose(condyles.radius_mm, 20.5, atol=0.02)


def mirrored(mesh):
    """The implant of the other knee."""
    other = mesh.copy()
    other.apply_scale([-1, 1, 1])
    if other.volume < 0:
        other.invert()
    return other


@pytest.mark.parametrize("id", [1, 2])
def test_a_femoral_component_of_the_other_knee_is_noticed(id):
    mesh = implant_mesh(id)
    components = {id: "femur"}
    for side, other, shown in (("right", "left", mesh), ("left", "right", mirrored(mesh))):
        assert knee_axes(side, components, {id: shown}).side == side == side_of(components, {id: shown})
        with pytest.raises(KinematicsError, match=rf"femur {id} is made for a {side} knee, as its flange leans"):
            knee_axes(other, components, {id: shown})


@pytest.mark.skipif(not REAL.is_dir(), reason="the real frames are not at hand")
@pytest.mark.parametrize("side", ["left", "right"])
def test_real_femoral_components_show_their_side(side):
    mesh = trimesh.load_mesh(REAL / f"single_plane_{side}" / "femur.stl")
    assert side_of({1: "femur"}, {1: mesh}) == side
