"""Images of any size, shape and pixel, by any camera, give the pose that the whole square image gives."""

import re

import numpy as np
import pytest

from tests.fixtures.other_cameras import cropped, one_plane, resized, seen
from tests.registration.scenes import PER_MM, error, rig_of, starts, transform
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import Camera
from veriserum_hf.registration.refine import register
from veriserum_hf.registration.scene import View
from veriserum_hf.rendering import path_length

WHOLE = (512, 512)
DISTANCE_MM = 1860.0


def drawn(row, mesh, cameras):
    """Draw the femur of a row by cameras and sizes by plane: means over pixels, little noise, 16 bits."""
    made = {"measurement_id": 1, "femur": row["femur"], "tibia": None}
    for plane, (camera, size) in cameras.items():
        fine = (2 * size[0], 2 * size[1])
        rays = camera.resized(size, fine)
        y, x = ((np.arange(fine[i]) - rays.intrinsics[1 - i, 2]) / rays.intrinsics[1 - i, 1 - i] for i in (0, 1))
        field = 200 - 150 * (DISTANCE_MM / 360) ** 2 * (y[:, None] ** 2 + x**2)
        image = field * np.exp(-PER_MM * path_length(mesh, transform(row["femur"]), rays, fine)) + 15
        image = image.reshape(size[0], 2, size[1], 2).mean(axis=(1, 3))
        image += np.random.default_rng(0).normal(0, 0.5, size)
        made |= {f"image_{plane}": np.rint(257 * image.clip(0, 255)).astype(np.uint16)}
        made |= {f"camera_{plane}": camera.to_row(size)}
    return made


@pytest.fixture(scope="module")
def cameras(rows):
    return {plane: each.at(512) for plane, each in rig_of(rows[0]).items()}


@pytest.fixture(scope="module")
def whole(rows, coarse_meshes, cameras):
    """Row of measurement 1 with its femur alone."""
    return drawn(rows[0], coarse_meshes[1], {plane: (camera, WHOLE) for plane, camera in cameras.items()})


@pytest.fixture(scope="module")
def start(rows, coarse_meshes):
    return {"femur": starts(rows[0], coarse_meshes, 2, 2)["femur"]}


@pytest.fixture(scope="module")
def expected(whole, coarse_meshes, start):
    found = register(whole, coarse_meshes, start)["femur"]
    assert found.verdict == "converged" and np.linalg.norm(error(found, whole)[:3]) < 0.005
    return found


@pytest.fixture
def assert_same(coarse_meshes, start, expected, rows):
    def check(row):
        found = register(row, coarse_meshes, start)["femur"]
        assert (found.verdict, found.detail) == ("converged", "")
        off = error(found, rows[0]) - error(expected, rows[0])
        assert np.linalg.norm(off[:3]) < 0.005 and np.linalg.norm(off[3:]) < 0.01, off

    return check


def test_cropped_to_rectangles_of_different_sizes(whole, assert_same):
    assert_same(cropped(cropped(whole, "bs", (57, 131), (308, 314)), "fs", (102, 83), (377, 298)))


def test_resized(whole, assert_same):
    assert_same(resized(resized(whole, "bs", (400, 460)), "fs", (640, 600)))


@pytest.mark.parametrize("size", [(511, 513), (458, 572)])
def test_pixels_that_are_not_square(size, rows, coarse_meshes, cameras, assert_same):
    """Focal lengths differ by 0.4 and 25 %."""
    assert_same(
        drawn(rows[0], coarse_meshes[1], {plane: (each.resized(512, size), size) for plane, each in cameras.items()})
    )


def test_what_a_camera_states_beside_its_matrices_does_not_matter(whole, cameras, assert_same):
    assert whole["camera_bs"]["pixel_size_mm"] is None
    assert_same(whole | {f"camera_{plane}": each.to_row(512, 360 / 512) for plane, each in cameras.items()})


def test_a_row_of_one_plane_states_how_well_it_knows_the_depth(whole, coarse_meshes, start):
    row = one_plane(resized(whole, "bs", (200, 230)))
    row["camera_bs"] = {name: row["camera_bs"][name] for name in ("intrinsics", "world_to_camera")}  # no other field
    found = register(row, coarse_meshes, start)["femur"]
    assert found.verdict == "converged" and found.detail.startswith("visible in bs only: depth known to +- ")
    off = error(found, whole)
    assert np.linalg.norm((seen(whole, "bs")[0].world_to_camera[:3, :3] @ off[:3])[:2]) < 0.1


def test_a_focal_length_that_the_other_fields_contradict_is_named_with_theirs(whole, coarse_meshes, start):
    K = [[3211.8, 0, 511.5], [0, 3211.8, 511.5], [0, 0, 1]]
    stated = {"intrinsics": K, "pixel_size_mm": 0.373, "source_to_intensifier_mm": 1271.0}
    row = whole | {"camera_bs": whole["camera_bs"] | stated, "image_bs": np.eye(1024)}
    message = (
        "measurement 1, plane bs: intrinsics has a focal length of 3211.80 px, but source_to_intensifier_mm 1271.00 "
        "and pixel_size_mm 0.3730 give 3407.51 px"
    )
    with pytest.raises(RegistrationError, match=f"^{re.escape(message)}"):
        register(row, coarse_meshes, start)
    honest = row["camera_bs"] | {"source_to_intensifier_mm": 1198.0}
    assert View.from_row(np.eye(1024), honest).camera.intrinsics[0, 0] == 3211.8


def test_a_part_is_reduced_to_the_same_pixels_as_the_whole(whole, cameras):
    part = cropped(whole, "bs", (57, 131), (308, 314))
    views = [View.from_row(row["image_bs"], row["camera_bs"]) for row in (whole, part)]
    for pixel_mm in (5.625, 2.8125, 1.40625):
        sizes = [view.reduced(pixel_mm) for view in views]
        edges = [view.pixel_mm for view in sizes]
        np.testing.assert_allclose(edges, pixel_mm, rtol=0.02)
        assert [view.image.shape for view in sizes] == [view.in_field.shape for view in sizes]
        points = np.array([[0, 0, 350], [30, -40, 400]])
        for view, reduced in zip(views, sizes, strict=True):
            ratio = np.divide(reduced.image.shape, view.image.shape)[::-1]
            px = (view.camera.project(points) + 0.5) * ratio - 0.5
            np.testing.assert_allclose(reduced.camera.project(points), px, atol=1e-9)
    assert views[0].reduced(0.7) is views[0] and views[1].reduced(0.1) is views[1]


def lit(shape, center, radius):
    """Image of a round field, by another rig's camera that knows pixels only."""
    row, column = np.ogrid[: shape[0], : shape[1]]
    inside = np.hypot(row - center[1], column - center[0]) < radius
    K = [[3000.0, 0, 300], [0, 3000.0, 200], [0, 0, 1]]
    return np.where(inside, 200, 3).astype(np.uint8), {"intrinsics": K, "world_to_camera": np.eye(4).tolist()}


def test_dark_corners_are_outside_the_field_of_any_camera_and_a_dark_implant_is_not():
    image, camera = lit((480, 640), (319.5, 239.5), 240)
    image[200:300, 300:400] = 3
    in_field = View.from_row(image, camera).in_field
    assert not in_field[0, 0] and not in_field[240, 5] and in_field[200:300, 300:400].all()
    flat, _ = lit((480, 640), (319.5, 239.5), 1000)
    flat[:, 300:400] = 3
    assert View.from_row(flat, camera).in_field.all()


def test_the_field_of_a_part_of_a_veriserum_image_is_that_of_the_whole(rows):
    camera = rows[0]["camera_bs"]
    image, _ = lit((512, 512), (255.5, 255.5), 256)
    image[360:, :120] = 3  # dark to the corner, and inside the field in part
    whole = View.from_row(image, camera)
    first = np.array((0, 200))
    K = Camera.from_row(camera).cropped(first).intrinsics.tolist()
    part = View.from_row(image[200:, :312], camera | {"intrinsics": K})
    np.testing.assert_array_equal(part.in_field, whole.in_field[200:, :312])
    assert part.in_field[162, 118] and not part.in_field[-1, 0]
