"""Models that are given the meshes of implants."""

import numpy as np
import pytest
import roma
import torch
import trimesh

from tests.modeling.frames import ANATOMIES, batch, cameras, config, without_labels
from veriserum_hf.modeling import VeriserumPoseConfig, VeriserumPoseModel
from veriserum_hf.modeling.geometry_veriserum import project, transform
from veriserum_hf.modeling.mesh_head_veriserum import LENGTH_MM, ray_frames
from veriserum_hf.modeling.refinement_veriserum import damping_of, least_squares, projected
from veriserum_hf.modeling.shapes_veriserum import surface_points

MESHES = {
    id: trimesh.creation.box(extents).subdivide().subdivide()
    for id, extents in {3: (60, 40, 50), 7: (70, 45, 30), 9: (75, 50, 30)}.items()
}
COMPONENTS = {entry["id"]: entry["component"] for entry in ANATOMIES}
POINTS = {id: torch.from_numpy(surface_points(mesh.vertices, mesh.faces)) for id, mesh in MESHES.items()}


def model(**changed):
    """Make a tiny model that is given meshes, always the same."""
    torch.manual_seed(0)
    return VeriserumPoseModel(config(**({"implants": "mesh", "anatomies": []} | changed))).eval()


def points_of(inputs):
    return torch.stack([torch.stack([POINTS[id] for id in pair]) for pair in inputs["anatomy_id"].tolist()])


def predicted(made, inputs, **changed):
    with torch.inference_mode():
        return made(**(inputs | changed))


def test_meshes_that_are_named_and_their_points_are_the_same():
    made, inputs = model(), without_labels(batch(3))
    by_points = predicted(made, inputs, implant_points=points_of(inputs))
    made.set_meshes(MESHES, COMPONENTS)
    by_name = predicted(made, inputs)
    assert torch.equal(by_points.T_world_implant, by_name.T_world_implant)
    assert torch.equal(by_points.anatomy_id, inputs["anatomy_id"])
    assert torch.equal(by_name.anatomy_id, inputs["anatomy_id"])
    assert ((by_name.confidence > 0) & (by_name.confidence < 1)).all()


def test_a_pose_depends_on_the_mesh():
    made, inputs = model(), without_labels(batch(3))
    points = points_of(inputs)
    there = predicted(made, inputs, implant_points=points).T_world_implant
    larger = predicted(made, inputs, implant_points=points * torch.tensor([1.1, 1.1, 1.1, 1, 1, 1])).T_world_implant
    assert (there - larger).abs().amax((2, 3)).min() > 1e-4


def test_another_world_frame_moves_poses_with_it():
    made, inputs = model(), without_labels(batch(3))
    points = points_of(inputs)
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3], T[:3, 3] = roma.random_rotmat(dtype=torch.float64), torch.tensor([100.0, -200, 300])
    moved = dict(inputs)
    for name in ("camera_bs", "camera_fs"):
        moved[name] = inputs[name] | {"world_to_camera": inputs[name]["world_to_camera"] @ torch.linalg.inv(T)}
    there = predicted(made, inputs, implant_points=points).T_world_implant
    torch.testing.assert_close(
        predicted(made, moved, implant_points=points).T_world_implant, T @ there, atol=1e-6, rtol=0
    )


def test_a_mesh_in_other_axes_has_its_own_pose_where_they_are_given():
    made, inputs = model().train(), batch(3)
    points, labels = points_of(inputs), inputs["labels"]
    T = torch.eye(4, dtype=torch.float64).repeat(3, 2, 1, 1)
    T[..., :3, :3] = roma.random_rotmat(6, dtype=torch.float64).unflatten(0, (3, 2))
    T[..., :3, 3] = torch.tensor([30.0, -20, 15])
    R = T[..., :3, :3].mT
    there = torch.cat([points[..., :3].double() @ R + T[..., None, :3, 3], points[..., 3:].double() @ R], dim=-1)
    changed = {"implant_points": there.float(), "implant_axes": T, "labels": labels @ torch.linalg.inv(T)}
    losses = []
    for given in ({"implant_points": points}, changed):
        torch.manual_seed(0)
        losses.append(made(**(inputs | given)).loss)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=0)
    made, inputs = model(), without_labels(inputs)
    own = predicted(made, inputs, implant_points=points).T_world_implant
    del changed["labels"]
    other = predicted(made, inputs, **changed).T_world_implant
    torch.testing.assert_close(other @ T, own, atol=1e-3, rtol=0)
    turned = {
        id: trimesh.Trimesh(np.asarray(mesh.vertices)[:, [2, 0, 1]] + (5.0, -3, 8), mesh.faces)
        for id, mesh in MESHES.items()
    }
    A = np.array([[0, 0, 1, 5], [1, 0, 0, -3], [0, 1, 0, 8], [0, 0, 0, 1.0]])
    made.set_meshes(turned, COMPONENTS, dict.fromkeys(turned, A))
    torch.testing.assert_close(predicted(made, inputs).T_world_implant @ torch.from_numpy(A), own, atol=1e-3, rtol=0)


@pytest.mark.parametrize("plane", ["bs", "fs"])
def test_one_plane_suffices_where_the_model_was_trained_for_it(plane):
    made, inputs = model(plane_dropout=0.1), without_labels(batch(3))
    one = {name: value for name, value in inputs.items() if not name.startswith(("image", "camera"))}
    one |= {name: inputs[name] for name in (f"image_{plane}", f"camera_{plane}")}
    assert predicted(made, one, implant_points=points_of(inputs)).T_world_implant.isfinite().all()


def test_an_implant_that_is_not_named_is_the_only_one_of_its_component():
    made, inputs = model(), without_labels(batch(2))
    made.set_meshes(MESHES, COMPONENTS)
    named = predicted(made, inputs)
    found = predicted(made, inputs, anatomy_id=torch.full((2, 2), -1))
    assert torch.equal(found.T_world_implant[:, 0], named.T_world_implant[:, 0])
    assert found.anatomy_id.tolist() == [[3, -1], [3, -1]]
    assert found.T_world_implant[:, 1].isnan().all() and found.confidence[:, 1].isnan().all()


def test_an_implant_whose_mesh_is_not_given_is_refused():
    made, inputs = model(), batch(2)
    with pytest.raises(ValueError, match="femur 3 in frame 0; it has no implant"):
        made(**without_labels(inputs))
    made.set_meshes({3: MESHES[3], 7: MESHES[7]}, COMPONENTS)
    with pytest.raises(ValueError, match="tibia 9 in frame 1; it has femur 3, tibia 7"):
        made(**without_labels(inputs))
    with pytest.raises(ValueError, match="the femur, which is not named"):
        model()(**inputs | {"anatomy_id": None})


def test_meshes_are_no_part_of_a_checkpoint(tmp_path):
    made, inputs = model(), without_labels(batch(2))
    made.set_meshes(MESHES, COMPONENTS)
    made.save_pretrained(tmp_path)
    loaded = VeriserumPoseModel.from_pretrained(tmp_path)
    assert loaded.config.implants == "mesh"
    points = points_of(inputs)
    torch.testing.assert_close(
        predicted(loaded, inputs, implant_points=points).T_world_implant, predicted(made, inputs).T_world_implant
    )
    loaded.set_meshes(MESHES, COMPONENTS)
    assert torch.equal(
        predicted(loaded, inputs).T_world_implant,
        predicted(loaded, inputs, implant_points=points).T_world_implant,
    )


def test_it_learns_with_an_implant_missing_from_a_frame():
    made, inputs = model().train(), batch(3)
    made.set_meshes(MESHES, COMPONENTS)
    inputs["anatomy_id"][1, 0] = -1
    inputs["anatomy_id"][2, 1] = -1
    inputs["labels"][1, 0] = inputs["labels"][2, 1] = torch.nan
    out = made(**inputs)
    out.loss.backward()
    assert out.loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters())


def test_it_learns_the_pose_of_one_batch():
    made, inputs = model(crop_jitter_px=0.0, plane_dropout=0.0).train(), batch(4)
    made.set_meshes(MESHES, COMPONENTS)
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        out = made(**inputs)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(float(out.loss.detach()))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize("planes", [1, 2])
def test_exact_displacements_move_a_pose_onto_the_true_one(planes):
    rng = np.random.default_rng(0)
    views = [
        torch.stack([view[name] for view in cameras(rng, 2, 512).values()], dim=1)[:, :planes]
        for name in ("intrinsics", "world_to_camera")
    ]
    points = torch.stack([POINTS[3], POINTS[7]])[..., :3].double()
    R, center_mm = roma.random_rotmat(2, dtype=torch.float64), torch.tensor([[10.0, 20, 381], [-5, 0, 360]]).double()
    turned = roma.rotvec_to_rotmat(torch.tensor([[0.05, -0.02, 0.03]]).double()) @ R
    true_mm = center_mm + torch.tensor([1.5, -1.0, 0.5])
    goal_px = project((points @ turned.mT + true_mm[:, None])[:, None], *views)
    shown = torch.ones(2, planes, dtype=torch.bool)
    for _ in range(12):
        R_ray = ray_frames(project(center_mm[:, None, None], *views)[:, :, 0], *views)
        px, J = projected(points @ R.mT, center_mm, (views[0], views[1]))
        torch.testing.assert_close(px, project((points @ R.mT + center_mm[:, None])[:, None], *views))
        step, off_px = least_squares(J, goal_px - px, torch.ones_like(px), damping_of(R_ray, shown))
        R, center_mm = roma.rotvec_to_rotmat(step[:, :3] / LENGTH_MM) @ R, center_mm + step[:, 3:]
    assert torch.rad2deg(roma.rotmat_geodesic_distance(R, turned)).max() < 0.05
    assert (center_mm - true_mm).norm(dim=1).max() < 0.2
    assert off_px.max() < 0.02


def test_the_frame_of_a_ray_has_the_ray_as_its_axis():
    rng = np.random.default_rng(1)
    view = cameras(rng, 5, 512)["camera_bs"]
    point_mm = torch.tensor(rng.uniform(-50, 50, (5, 3)) + (0, 0, 381))
    px = project(point_mm[:, None], view["intrinsics"], view["world_to_camera"])[:, 0]
    R = ray_frames(px, view["intrinsics"], view["world_to_camera"])
    in_camera = transform(torch.eye(3).double().expand(5, 3, 3), point_mm)
    direction = (view["world_to_camera"] @ in_camera)[:, :3, 3]
    in_ray = (R.mT @ view["world_to_camera"][:, :3, :3].mT @ direction[..., None])[..., 0]
    torch.testing.assert_close(in_ray[:, :2], torch.zeros(5, 2).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(5).double())


@pytest.mark.parametrize("changed", [{"head": "pooled"}, {"anatomies": ANATOMIES}, {"implants": "meshes"}])
def test_a_configuration_that_contradicts_itself_is_refused(changed):
    with pytest.raises(ValueError, match="table"):
        VeriserumPoseConfig(**{"implants": "mesh", **changed})
