"""Images of any camera on a model's canvas: the same world points lie on the same image content."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.modeling.frames import SIZE, model, rig
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import Camera, mm_to_px
from veriserum_hf.modeling import VeriserumImageProcessor, fit

EDGE = 128  # of whole Veriserum images
PLANES = ("bs", "fs")
AT_MM = np.array([4.0, -7.0, 385.0])  # where an object is
NULL = dict.fromkeys(("pixel_size_mm", "source_to_intensifier_mm", "principal_point_mm"))


def shot(camera, shape, sigma_mm=6.0):
    """Image (rows, columns) of a dark blob at `AT_MM` in an open field that brightens towards one corner."""
    center, z = camera.project(AT_MM), camera.depths_mm(AT_MM)
    sigma = sigma_mm * camera.intrinsics.diagonal()[:2] / z
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    field = 150 + 40 * (columns / shape[1] + rows / shape[0])
    blob = np.exp(-0.5 * (((columns - center[0]) / sigma[0]) ** 2 + ((rows - center[1]) / sigma[1]) ** 2))
    return np.rint(field * (1 - 0.8 * blob)).astype(np.uint8)


def center_px(image):
    """Where the blob is: centre of what is darker than half of its depth, (column, row)."""
    image = np.asarray(image, dtype=float)
    depth = (np.median(image) * 0.7 - image).clip(0)
    rows, columns = np.indices(image.shape)
    return np.array([(depth * columns).sum(), (depth * rows).sum()]) / depth.sum()


def frame(seed=0, edge=EDGE):
    """A whole Veriserum frame."""
    planes = rig(np.random.default_rng(seed))
    return {f"image_{plane}": shot(planes[plane].at(edge), (edge, edge)) for plane in PLANES} | {
        f"camera_{plane}": planes[plane].camera(edge) for plane in PLANES
    }


def cropped(row, plane, first_px, shape):
    """The frame with a part of an image, and the camera that fits; its other fields stay."""
    (column, line), image = first_px, row[f"image_{plane}"]
    K = Camera.from_row(row[f"camera_{plane}"]).cropped(first_px).intrinsics.tolist()
    part = image[line : line + shape[0], column : column + shape[1]]
    return row | {f"image_{plane}": part, f"camera_{plane}": row[f"camera_{plane}"] | {"intrinsics": K}}


def views(row):
    """Images and cameras by plane, of those that a row has."""
    shown = [plane for plane in PLANES if row.get(f"image_{plane}") is not None]
    return tuple({plane: row[f"{what}_{plane}"] for plane in shown} for what in ("image", "camera"))


def assert_on_content(found, cameras, atol_px=0.25):
    """The canvas shows the blob where its camera projects it."""
    for plane, (image, K) in found.items():
        camera = Camera(K, np.array(cameras[plane]["world_to_camera"]))
        np.testing.assert_allclose(center_px(image), camera.project(AT_MM), atol=atol_px)


def test_a_whole_image_of_the_models_size_stays_as_it_is():
    row = frame()
    for fields in ({}, NULL):
        images, cameras = views(row | {f"camera_{plane}": row[f"camera_{plane}"] | fields for plane in PLANES})
        for plane, (image, K) in fit(images, cameras, EDGE).items():
            assert image is images[plane]
            assert K.tolist() == cameras[plane]["intrinsics"]
    bare = {plane: {name: cameras[plane][name] for name in ("intrinsics", "world_to_camera")} for plane in PLANES}
    assert all(image is images[plane] for plane, (image, _) in fit(images, bare, EDGE).items())


@pytest.mark.parametrize("edge", [32, 96, 256, 300])
def test_a_whole_image_of_another_size_has_the_camera_of_the_models_size(edge):
    images, cameras = views(frame(edge=edge))
    planes, found = rig(np.random.default_rng(0)), fit(images, cameras, EDGE)
    for plane, (image, K) in found.items():
        assert image.shape == (EDGE, EDGE) and image.dtype == np.uint8
        np.testing.assert_allclose(K, planes[plane].intrinsics(EDGE), atol=1e-9)
    assert_on_content(found, cameras)


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(110, 300), st.integers(110, 300)),
    pixel_mm=st.tuples(st.floats(0.6, 3.0), st.floats(0.99, 1.01)),
    sid_mm=st.floats(900, 2000),
    share=st.floats(0.6, 0.8),
    off_px=st.tuples(st.floats(-15, 15), st.floats(-15, 15)),
    described=st.booleans(),
    planes=st.sampled_from([("bs",), ("fs",), PLANES]),
)
def test_a_camera_of_any_rig_shows_the_same_content(shape, pixel_mm, sid_mm, share, off_px, described, planes):
    """Any size, shape and pixel, also without a stated one; the object wherever the planes see it."""
    pixel, ratio = pixel_mm
    images, cameras, nominal = {}, {}, rig(np.random.default_rng(0))
    for plane in planes:
        axes = nominal[plane].world_to_camera[:3, :3]
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = axes, (0, 0, share * sid_mm) - axes @ AT_MM
        K = np.array([[sid_mm / pixel, 0, 0], [0, sid_mm / pixel * ratio, 0], [0, 0, 1]])
        K[:2, 2] = (np.array(shape[::-1]) - 1) / 2 + off_px
        camera = Camera(K, T)
        images[plane] = shot(camera, shape)
        cameras[plane] = camera.to_row(shape, pixel / np.sqrt(ratio) if described else None)
    found = fit(images, cameras, EDGE)
    for image, K in found.values():
        assert image.shape == (EDGE, EDGE) and image.dtype == np.uint8
        assert K[0, 0] / K[1, 1] == pytest.approx(1, abs=0.06)  # whole pixels, and 10 % where the scale is not known
    assert_on_content(found, cameras, atol_px=0.5)


def test_pixels_get_the_size_that_the_model_knows():
    """By pixel_size_mm, with two planes by the depth of what both see, else by the focal length."""
    sid_mm, pixel, ratio = 1200.0, 0.5, 1.004
    K = np.array([[sid_mm / pixel, 0, 200], [0, sid_mm / pixel * ratio, 150], [0, 0, 1]])
    planes, shape = rig(np.random.default_rng(0)), (301, 401)
    cameras = {}
    for plane in PLANES:
        T = np.eye(4)
        T[:3, :3] = planes[plane].world_to_camera[:3, :3]
        T[:3, 3] = (0, 0, 960) - T[:3, :3] @ AT_MM
        cameras[plane] = Camera(K, T)
    images = dict.fromkeys(PLANES, np.full(shape, 99, np.uint8))
    described = {plane: cameras[plane].to_row(shape, pixel / np.sqrt(ratio)) for plane in PLANES}
    null = {plane: cameras[plane].to_row(shape) for plane in PLANES}
    for given_cameras, shown, expected_px in [
        (described, PLANES, sid_mm / (360 / EDGE)),
        (null, PLANES, 960 * 1860 / 1480 / (360 / EDGE)),
        (null, ("bs",), 1860 / (360 / EDGE)),
    ]:
        found = fit({plane: images[plane] for plane in shown}, given_cameras, EDGE)
        for _, K_canvas in found.values():
            np.testing.assert_allclose(K_canvas.diagonal()[:2], expected_px, rtol=0.015)


def test_a_part_of_an_image_is_not_resampled_and_lies_where_it_was():
    row = frame()
    first_px, shape = (21, 9), (93, 80)
    part = cropped(row, "fs", first_px, shape)
    found = fit(*views(part), EDGE)
    image, K = found["fs"]
    np.testing.assert_allclose(K, row["camera_fs"]["intrinsics"], atol=1e-9)
    np.testing.assert_array_equal(image[9 : 9 + 93, 21 : 21 + 80], part["image_fs"])
    assert found["bs"][0] is row["image_bs"]
    # The rest continues it: nowhere darker than the field, and without an edge at the border.
    outside = np.ones((EDGE, EDGE), bool)
    outside[9 : 9 + 93, 21 : 21 + 80] = False
    assert image[outside].min() > part["image_fs"][part["image_fs"] > 140].min() - 1
    assert np.abs(np.diff(image.astype(int), axis=0)[:, 101:]).max() < 20
    centred = fit({"fs": part["image_fs"]}, {"fs": part["camera_fs"] | NULL}, EDGE)["fs"]
    np.testing.assert_array_equal(centred[0][17 : 17 + 93, 24 : 24 + 80], part["image_fs"])
    assert_on_content({"fs": centred}, {"fs": part["camera_fs"]})


def test_an_image_that_shows_more_is_reduced_and_it_is_said(caplog):
    camera = Camera([[2000, 0, 299.5], [0, 2000, 149.5], [0, 0, 1]], np.eye(4)).to_row((300, 600), 1.2)
    image, K = fit({"bs": np.full((300, 600), 99, np.uint8)}, {"bs": camera}, EDGE)["bs"]
    assert (image == 99).all()
    np.testing.assert_allclose(K.diagonal()[:2], 2000 * EDGE / 600)
    np.testing.assert_allclose(K[:2, 2], (EDGE - 1) / 2)
    assert [record.message for record in caplog.records] == [
        "image_bs of 600 x 300 px shows more than the model's 128 x 128 px do: it is reduced to 50 % of the scale "
        "that the model was trained on, so that nothing of it is lost; poses are more precise where the image is "
        "cropped around the implants, with its camera"
    ]


def test_grey_levels_keep_their_scale():
    deep = (frame()["image_bs"].astype(np.uint16) * 201)[20:120, 10:90]
    camera = cropped(frame(), "bs", (10, 20), (100, 80))["camera_bs"]
    for image in (deep, deep.astype(np.float32)):
        canvas, _ = fit({"bs": image}, {"bs": camera}, EDGE)["bs"]
        assert canvas.dtype == image.dtype
        np.testing.assert_array_equal(canvas[20:120, 10:90], deep)
        assert deep.min() <= canvas.min() and canvas.max() <= deep.max()


@pytest.mark.parametrize("head", ["spatial", "pooled"])
def test_a_part_that_holds_all_that_there_is_has_the_poses_of_the_whole(head):
    """Around it the field is even, as its continuation."""
    made, row = model(head=head).eval(), frame(edge=SIZE)
    for plane in PLANES:
        even = np.full((SIZE, SIZE), 180, np.uint8)
        even[16:40, 12:50] = np.random.default_rng(1).integers(0, 256, (24, 38))
        row |= {f"image_{plane}": even}
    part = cropped(cropped(row, "bs", (8, 11), (33, 47)), "fs", (10, 14), (28, 44))
    processor = VeriserumImageProcessor(size=SIZE)
    with torch.inference_mode():
        whole, found = (made(**processor(each)) for each in (row, part))
    torch.testing.assert_close(found.T_world_implant, whole.T_world_implant, atol=1e-6, rtol=0)


def with_camera(row, **fields):
    return row | {"camera_bs": row["camera_bs"] | fields}


def test_contradictions_and_what_cannot_be_used_are_named():
    row = frame()
    K = np.array(row["camera_bs"]["intrinsics"])
    shifted, skewed, mirrored, twice = (K.copy() for _ in range(4))
    shifted[0, 2] += 20
    skewed[0, 1] = 3
    mirrored[0, 0] *= -1
    twice[[0, 1], [0, 1]] *= 2
    whole, foot = row["camera_bs"], row["camera_bs"]["principal_point_mm"]
    for changed, message in [
        (with_camera(row, intrinsics=twice.tolist()), "camera_bs: intrinsics has focal lengths of "),
        (with_camera(row, intrinsics=shifted.tolist()), "camera_bs: intrinsics has its principal point at "),
        (with_camera(row, intrinsics=skewed.tolist()), "camera_bs: intrinsics has a skew of 3 px, expected none"),
        (with_camera(row, intrinsics=mirrored.tolist()), "camera_bs: intrinsics is [["),
        (with_camera(row, pixel_size_mm=-1.0), "camera_bs: pixel_size_mm is -1.0; expected a positive number of mm"),
        (with_camera(row, principal_point_mm=[foot[0] + 9, foot[1]]), "camera_bs: intrinsics has its principal"),
        (row | {"image_bs": row["image_bs"][::2, ::2]}, "image_bs is 64 x 64 px, but its camera is that of an image"),
        (
            row | {"image_bs": row["image_bs"][:100]},
            "image_bs is 128 x 100 px, but its camera is that of an image of",
        ),
        (row | {"image_bs": np.zeros((3, 4, 3))}, "image_bs is 3 x 4 x 3 px, expected rows and columns of one grey"),
        (row | {"image_bs": np.zeros((0, 4))}, "image_bs is 0 x 4 px, expected rows and columns of one grey channel"),
        (
            with_camera(row, pixel_size_mm=0.00028, source_to_intensifier_mm=None),
            "image_bs of 128 x 128 px shows, by its camera, as much as 0.0358 mm of the Veriserum intensifier do, "
            "expected 60 to 2,160 mm; is pixel_size_mm or world_to_camera in another unit?",
        ),
    ]:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            fit(*views(changed), EDGE)
    assert whole == row["camera_bs"]


def test_the_depth_from_one_plane_alone_follows_the_focal_length():
    """An object of the same size in the image is as much nearer as the focal length is smaller."""
    made, row = model(planes=["bs"]).eval(), frame(edge=SIZE)
    processor, depths_mm = VeriserumImageProcessor(size=SIZE), {}
    for ratio in (1.0, 0.9, 0.6, 1.5):
        K = np.array(row["camera_bs"]["intrinsics"])
        K[[0, 1], [0, 1]] *= ratio
        camera = Camera(K, row["camera_bs"]["world_to_camera"])
        inputs = {"image_bs": row["image_bs"], "camera_bs": camera.to_row(SIZE, row["camera_bs"]["pixel_size_mm"])}
        with torch.inference_mode():
            T = made(**processor(inputs)).T_world_implant[0].numpy()
        depths_mm[ratio] = camera.depths_mm(T[:, :3, 3])
    for ratio, expected in ((1.0, 1.0), (0.9, 1.0), (0.6, 0.6), (1.5, 1.5)):
        np.testing.assert_allclose(depths_mm[ratio] / depths_mm[1.0], expected, rtol=0.06)


def refuses(check, *given):
    try:
        check(*given)
    except (CalibrationError, ValueError):
        return True
    return False


def test_what_a_canvas_refuses_is_what_a_camera_refuses():
    """The code of a model travels without the package, so it has these rules of its own."""
    rng, verdicts = np.random.default_rng(0), []
    for _ in range(600):
        whole, foot_mm, K = int(rng.choice([48, 64])), rng.uniform(-12, 12, 2), np.eye(3)
        pixel_mm, shape = 360 / whole, (whole, whole)
        K[[0, 1], [0, 1]] = 1860 / pixel_mm
        K[:2, 2] = mm_to_px(foot_mm, whole)
        kind = rng.integers(4)
        if kind < 2:  # a part, or an image whose camera is not its own
            shape = tuple(rng.integers(whole // 4, whole, 2).tolist())
            K[:2, 2] -= (1 - kind) * rng.integers(0, np.subtract(whole, shape)[::-1] + 1)
        elif kind == 2:
            foot_mm = foot_mm + rng.uniform(-3, 3, 2)
        camera = {"intrinsics": K.tolist(), "world_to_camera": np.eye(4).tolist(), "pixel_size_mm": pixel_mm}
        camera |= {"source_to_intensifier_mm": 1860.0, "principal_point_mm": foot_mm.tolist()}
        refused = [
            refuses(Camera.from_row, camera, shape),
            refuses(fit, {"bs": np.zeros(shape, np.uint8)}, {"bs": camera}, whole),
        ]
        assert refused[0] == refused[1], camera
        verdicts.append(refused[0])
    assert 100 < sum(verdicts) < 500
