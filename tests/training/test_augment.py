"""Augmentation: images and cameras change together, everything else stays."""

import re

import cv2
import numpy as np
import pytest
import torch

from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry import mm_to_px, px_to_mm
from veriserum_hf.geometry.rig import DualPlaneRig
from veriserum_hf.training.augment import KEPT_RADIUS_MM, Augmentation, apply_changes, augment, draw_changes
from veriserum_hf.training.batches import collate
from veriserum_hf.training.changes import noise_tiles

NOTHING = dict.fromkeys(Augmentation.__dataclass_fields__, 0)
POINT_WORLD_MM = np.array([12.0, -31.0, 402.0])
BEAD_SIGMA_PX = 4.0
RIG = DualPlaneRig.from_calibration(
    principal_point_bs_mm=(2.72, -6.12), sid_bs_mm=1860.54, principal_point_fs_mm=(-10.14, 2.03), sid_fs_mm=1851.35
)


def project(camera, point_world_mm=POINT_WORLD_MM):
    """Column and row of a world point, as README describes it."""
    K, T = camera["intrinsics"].numpy(), camera["world_to_camera"].numpy()
    x, y, z = K @ (T @ (*point_world_mm, 1))[:3]
    return np.array([x / z, y / z])


def sample(size, draw):
    """A sample whose images ``draw(camera)`` makes."""
    made = {
        "anatomy_id": torch.tensor([1, 3]),
        "labels": torch.eye(4, dtype=torch.float64).repeat(2, 1, 1),
        "measurement_id": torch.tensor(7),
        "task": "gait",
    }
    for plane in PLANES:
        camera = RIG[plane].camera(size)
        made[f"camera_{plane}"] = {
            name: torch.tensor(camera[name], dtype=torch.float64) for name in ("intrinsics", "world_to_camera")
        }
        made[f"image_{plane}"] = torch.from_numpy(draw(made[f"camera_{plane}"]))[None]
    return made


def beads(size):
    rows, columns = np.indices((size, size))

    def draw(camera):
        column, row = project(camera)
        squared = (columns - column) ** 2 + (rows - row) ** 2
        return np.rint(240 * np.exp(-squared / (2 * BEAD_SIGMA_PX**2))).astype(np.uint8)

    return sample(size, draw)


def noisy(size=96):
    rng = np.random.default_rng(5)
    return sample(size, lambda camera: rng.integers(20, 256, (size, size), dtype=np.uint8))


def even(grey, size=256):
    return sample(size, lambda camera: np.full((size, size), grey, np.uint8))


def centroid_px(image):
    """Column and row of the centre of what differs from the background."""
    difference = abs(image.astype(float) - image[0, 0])
    rows, columns = np.indices(image.shape)
    return np.array([(columns * difference).sum(), (rows * difference).sum()]) / difference.sum()


@pytest.mark.parametrize("size", [256, 512])
def test_a_world_point_stays_where_the_updated_camera_projects_it(size):
    strengths = Augmentation(occlusions=0, noise=0)
    original, moved_px = beads(size), []
    for seed in range(40):
        changed = augment(original, strengths, np.random.default_rng(seed))
        for plane in PLANES:
            expected_px = project(changed[f"camera_{plane}"])
            found_px = centroid_px(changed[f"image_{plane}"][0].numpy())
            np.testing.assert_allclose(found_px, expected_px, atol=0.05)
            moved_px.append(np.abs(expected_px - project(original[f"camera_{plane}"])).max())
    assert max(moved_px) > 0.9 * strengths.shift_mm * size / 360


def test_whatever_is_drawn_implants_stay_in_the_image():
    size = 512
    strengths = Augmentation(shift_mm=19.5, scale=0.06)
    angles = np.linspace(0, 2 * np.pi, 73)
    rim_mm = KEPT_RADIUS_MM * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rim_px = np.column_stack([mm_to_px(rim_mm, size), np.ones(len(rim_mm))])
    original = even(100, size)
    for seed in range(60):
        changed = augment(original, strengths, np.random.default_rng(seed))
        for plane in PLANES:
            before, after = (s[f"camera_{plane}"]["intrinsics"].numpy() for s in (original, changed))
            A = after @ np.linalg.inv(before)
            assert A[0, 0] == pytest.approx(A[1, 1]) and A[0, 1] == pytest.approx(0, abs=1e-12)
            px = rim_px @ A[:2].T
            assert px.min() >= -0.5 and px.max() <= size - 0.5
            assert abs(px_to_mm(px, size)).max() < 180.2


def test_the_same_random_numbers_make_the_same_bytes():
    original, strengths = noisy(), Augmentation()
    first, again, other = (augment(original, strengths, np.random.default_rng(seed)) for seed in (3, 3, 4))
    for plane in PLANES:
        assert torch.equal(first[f"image_{plane}"], again[f"image_{plane}"])
        assert torch.equal(first[f"camera_{plane}"]["intrinsics"], again[f"camera_{plane}"]["intrinsics"])
        assert not torch.equal(first[f"image_{plane}"], other[f"image_{plane}"])


def test_without_strengths_nothing_changes():
    original = noisy()
    changed = augment(original, Augmentation(**NOTHING), np.random.default_rng(0))
    assert changed.keys() == original.keys()
    for plane in PLANES:
        assert torch.equal(changed[f"image_{plane}"], original[f"image_{plane}"])
        assert torch.equal(changed[f"camera_{plane}"]["intrinsics"], original[f"camera_{plane}"]["intrinsics"])


@pytest.mark.parametrize("name", NOTHING)
def test_a_sample_is_not_changed_but_copied(name):
    solids = {"occlusion_mm": 30.0, "occlusion_absorption": 0.5, "occlusions": 20}
    chosen = solids if name in solids else {name: 8.0 if name == "blur_mm" else 0.1}  # a pixel is 3.75 mm
    strengths = Augmentation(**(NOTHING | chosen))
    original = noisy()
    kept = {plane: original[f"image_{plane}"].clone() for plane in PLANES}
    cameras = {plane: original[f"camera_{plane}"]["intrinsics"].clone() for plane in PLANES}
    changed = augment(original, strengths, np.random.default_rng(1))
    for plane in PLANES:
        image = changed[f"image_{plane}"]
        assert image.dtype == torch.uint8 and image.shape == (1, 96, 96)
        assert changed[f"camera_{plane}"]["intrinsics"].dtype == torch.float64
        assert not torch.equal(image, kept[plane])
        assert torch.equal(original[f"image_{plane}"], kept[plane])
        assert torch.equal(original[f"camera_{plane}"]["intrinsics"], cameras[plane])
        assert changed[f"camera_{plane}"]["world_to_camera"] is original[f"camera_{plane}"]["world_to_camera"]
    for unchanged in ("labels", "anatomy_id", "measurement_id", "task"):
        assert changed[unchanged] is original[unchanged]


def test_planes_are_changed_independently():
    original = even(120)
    changed = augment(original, Augmentation(), np.random.default_rng(2))
    assert not torch.equal(changed["image_bs"], changed["image_fs"])
    A = [
        changed[f"camera_{p}"]["intrinsics"] @ torch.linalg.inv(original[f"camera_{p}"]["intrinsics"]) for p in PLANES
    ]
    assert not torch.allclose(A[0], A[1], atol=1e-3)


def test_one_plane_is_enough():
    original = noisy()
    del original["image_fs"], original["camera_fs"]
    changed = augment(original, Augmentation(), np.random.default_rng(2))
    assert changed.keys() == original.keys()


def test_noise_grows_as_that_of_quanta():
    strengths = Augmentation(**(NOTHING | {"noise": 0.04}))
    deviations = []
    for grey in (50, 200):
        changed = augment(even(grey, 512), strengths, np.random.default_rng(8))
        image = changed["image_bs"].double()
        assert float(image.mean()) == pytest.approx(grey, abs=0.1)
        deviations.append(float(image.std()))
    assert 0 < deviations[1] < 0.04 * 255
    assert deviations[1] / deviations[0] == pytest.approx(2, rel=0.03)


def test_solids_take_light_away_and_no_more_than_they_may():
    strengths = Augmentation(**(NOTHING | {"occlusions": 1, "occlusion_mm": 40.0, "occlusion_absorption": 0.6}))
    darkest = []
    for seed in range(30):
        image = augment(even(200), strengths, np.random.default_rng(seed))["image_bs"]
        assert int(image.max()) <= 200
        darkest.append(int(image.min()))
    assert 0.4 * 200 - 1 <= min(darkest) < 0.6 * 200
    assert max(darkest) == 200  # sometimes there is none


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ({"shift_mm": -1.0}, "shift_mm must be zero or positive, got -1.0"),
        ({"gain": float("nan")}, "gain must be from 0 to 0.9, got nan"),
        ({"scale": 0.5}, "scale must be from 0 to 0.15, got 0.5"),
        ({"blur_mm": "much"}, "blur_mm must be from 0 to 10, got 'much'"),
        ({"occlusions": 1.5}, "occlusions must be a whole number, got 1.5"),
        (
            {"shift_mm": 25.0, "scale": 0.06},
            "shift_mm 25 and scale 0.06 move what projects 150 mm from the centre to 184 mm, out of the image; "
            "150 (1 + scale) + shift_mm must not exceed 178.5 mm: lower one of them",
        ),
    ],
)
def test_strengths_that_mean_nothing_are_refused(strengths, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Augmentation(**strengths)


def test_images_of_another_kind_are_refused():
    original = noisy()
    original["image_fs"] = original["image_fs"].float()
    message = "image_fs must be a (1, N, N) uint8 tensor, got (1, 96, 96) of torch.float32"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        augment(original, Augmentation(), np.random.default_rng(0))


def noise_of(seed, grey=100, size=128):
    """Noise of both planes alone, in its standard deviation, where that is neither small nor clips many pixels."""
    strengths = Augmentation(**(NOTHING | {"noise": 0.12}))
    changed = draw_changes(even(grey, size), strengths, np.random.default_rng(seed))
    deviations = [abs(float(changed[f"change_{plane}"]["deviation"])) * np.sqrt(grey) for plane in PLANES]
    batch = apply_changes(collate([changed]))
    fields = [batch[f"image_{plane}"][0, 0].double().numpy() - grey for plane in PLANES]
    return [field / deviation for field, deviation in zip(fields, deviations, strict=True) if deviation > 5]


def test_noise_is_white_and_normal_and_differs_between_images():
    fields = [field for seed in range(30) for field in noise_of(seed)]
    assert len(fields) > 25
    pixels = fields[0].size
    for field in fields:
        assert field.mean() == pytest.approx(0, abs=5 / np.sqrt(pixels))
        assert field.std() == pytest.approx(1, abs=0.03)
        # Correlation of neighbours along rows, columns and diagonals.
        for shift in ((0, 1), (1, 0), (1, 1), (0, 2), (3, 0)):
            assert (field * np.roll(field, shift, (0, 1))).mean() == pytest.approx(0, abs=5 / np.sqrt(pixels))
    everything = np.stack(fields).reshape(len(fields), -1)
    assert (everything**4).mean() / (everything**2).mean() ** 2 == pytest.approx(3, abs=0.05)
    between = np.corrcoef(everything) - np.eye(len(fields))
    assert abs(between).max() < 6 / np.sqrt(pixels)


def test_noise_is_cut_from_many_places_in_all_orientations():
    original, strengths = noisy(), Augmentation()
    changes = [draw_changes(original, strengths, np.random.default_rng(seed))["change_bs"] for seed in range(300)]
    drawn = [(*change["noise"].tolist(), float(np.sign(change["deviation"]))) for change in changes]
    assert len(set(drawn)) == 300 and {orientation for orientation, *_ in drawn} == set(range(8))
    assert {sign for *_, sign in drawn} == {-1.0, 1.0}
    tiles = noise_tiles(96)
    assert len({tile.tobytes() for tile in tiles}) == 8 and tiles[0].std() / 32 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("strengths", [{}, {"blur_mm": 10.0, "occlusions": 20}, {"scale": 0.15, "shift_mm": 0.0}])
@pytest.mark.parametrize("size", [96, 131])
def test_a_batch_gets_the_grey_levels_of_its_images(strengths, size):
    augmentation = Augmentation(**strengths)
    samples = [noisy(size) for _ in range(5)]
    alone = [augment(each, augmentation, np.random.default_rng(seed)) for seed, each in enumerate(samples)]
    drawn = [draw_changes(each, augmentation, np.random.default_rng(seed)) for seed, each in enumerate(samples)]
    together, expected = apply_changes(collate(drawn)), collate(alone)
    assert together.keys() == expected.keys()
    for plane in PLANES:
        assert torch.equal(together[f"image_{plane}"], expected[f"image_{plane}"])
        assert torch.equal(together[f"camera_{plane}"]["intrinsics"], expected[f"camera_{plane}"]["intrinsics"])


def test_shift_scale_and_blur_are_those_of_opencv():
    size = 256
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (size, size), dtype=np.uint8), (0, 0), 3)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    strengths = Augmentation(**(NOTHING | {"shift_mm": 15.0, "scale": 0.06, "blur_mm": 3.0}))
    for seed in range(5):
        original = sample(size, lambda camera: image)
        changed = augment(original, strengths, np.random.default_rng(seed))
        before, after = (s["camera_bs"]["intrinsics"].numpy() for s in (original, changed))
        draws = np.random.default_rng(seed)
        draws.uniform(size=3)
        sigma_px = draws.uniform(0, strengths.blur_mm) * size / 360
        expected = cv2.warpAffine(image, (after @ np.linalg.inv(before))[:2], (size, size))
        expected = cv2.GaussianBlur(expected, (0, 0), sigma_px)
        off = (changed["image_bs"][0].numpy().astype(int) - expected)[20:-20, 20:-20]
        assert abs(off.mean()) < 0.1 and off.std() < 0.8 and abs(off).max() <= 6
