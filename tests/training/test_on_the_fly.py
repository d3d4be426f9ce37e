"""Batches drawn on the training device: the contract, repeatability, and the simulator as the measure."""

import re
from dataclasses import replace
from functools import partial
from itertools import islice

import cv2
import numpy as np
import pytest
import torch

from veriserum_hf.core.domain import PLANES
from veriserum_hf.errors import SimulationError
from veriserum_hf.geometry import Camera
from veriserum_hf.rendering import rasteriser as on_one_core
from veriserum_hf.rendering.differentiable import TensorMesh, path_length
from veriserum_hf.simulation import intensifier
from veriserum_hf.simulation.activities import TASKS
from veriserum_hf.simulation.imaging import Imaging
from veriserum_hf.simulation.implants import IMPLANT_PAIRS, implant_mesh
from veriserum_hf.simulation.intensifier_torch import Chains, Exposure, canvas_rays, expose, raw_positions
from veriserum_hf.simulation.scenario import scene, trial
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.training.on_the_fly import SimulatedBatches

SIZE = 96
SHOWN = Settings(trials=10, frames_per_trial=5)
NOISELESS = {"quanta_per_pixel": 1e9, "readout_noise": 0.0}


def source(**changed):
    return SimulatedBatches(**({"batch_size": 5, "size": SIZE, "seed": 4} | changed))


@pytest.fixture(scope="module")
def batches():
    """The first three."""
    return list(islice(source(), 3))


def assert_same(one, other):
    assert one.keys() == other.keys() and one["task"] == other["task"]
    for name, value in one.items():
        tensors = value.items() if isinstance(value, dict) else [(None, value)]
        for key, tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                assert torch.equal(tensor, other[name] if key is None else other[name][key]), (name, key)


def test_a_batch_is_what_the_model_takes(batches):
    for batch in batches:
        for plane in PLANES:
            image, camera = batch[f"image_{plane}"], batch[f"camera_{plane}"]
            assert image.shape == (5, 1, SIZE, SIZE) and image.dtype == torch.uint8
            assert camera["intrinsics"].shape == (5, 3, 3) and camera["world_to_camera"].shape == (5, 4, 4)
            assert {tensor.dtype for tensor in camera.values()} == {torch.float64}
        labels = batch["labels"]
        assert labels.shape == (5, 2, 4, 4) and labels.dtype == torch.float64
        R = labels[..., :3, :3]
        torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=torch.float64).expand_as(R))
        assert batch["anatomy_id"].shape == (5, 2) and batch["anatomy_id"].dtype == torch.int64
        assert {tuple(ids) for ids in batch["anatomy_id"].tolist()} <= set(IMPLANT_PAIRS)
        assert len(batch["task"]) == 5 and set(batch["task"]) <= set(TASKS)
    numbers = torch.cat([batch["measurement_id"] for batch in batches])
    assert numbers.tolist() == list(range(15))


def test_a_batch_is_diverse(batches):
    for batch in batches:
        assert len(set(map(tuple, batch["anatomy_id"].tolist()))) > 1
        across_mm = torch.pdist(batch["labels"][:, 0, :3, 3])
        assert across_mm.min() > 0.5
        assert len(batch["camera_bs"]["intrinsics"].unique(dim=0)) == 5


def camera_of(batch, plane, frame):
    """The camera of one frame of a batch."""
    camera = batch[f"camera_{plane}"]
    return Camera(camera["intrinsics"][frame].numpy(), camera["world_to_camera"][frame].numpy())


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("component", [0, 1])
def test_implants_are_where_labels_and_cameras_say(batches, plane, component):
    darkness = dict.fromkeys(((0, 0), (3, 0), (-3, 0), (0, 3), (0, -3)), 0.0)
    for batch in batches:
        for frame in range(5):
            mesh = implant_mesh(int(batch["anatomy_id"][frame, component]))
            label = batch["labels"][frame, component].numpy()
            shadow = on_one_core.path_length(mesh, label, camera_of(batch, plane, frame), SIZE) > 2
            assert shadow.sum() > 30
            image = batch[f"image_{plane}"][frame, 0].numpy()
            for shift in darkness:
                darkness[shift] -= image[np.roll(shadow, shift, (0, 1))].mean()
    assert max(darkness, key=darkness.get) == (0, 0)


def test_a_batch_follows_from_seed_and_number():
    small = partial(source, batch_size=2, size=64)
    three = list(islice(small(), 3))
    assert_same(next(iter(small(start=2))), three[2])
    # Two processes share out the same batches.
    assert_same(next(iter(small(rank=1, world_size=2))), three[1])
    assert_same(next(iter(small(rank=0, world_size=2, start=1))), three[2])
    other = next(iter(small(seed=5)))
    assert not torch.equal(other["labels"], three[0]["labels"])


def test_neither_autocast_nor_the_caller_s_random_numbers_matter(batches):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        batch = next(iter(source()))
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(batch, batches[0])


def test_only_the_pairs_that_are_asked_for():
    batch = next(iter(source(batch_size=2, size=64, pairs=1)))
    assert batch["anatomy_id"].tolist() == [list(IMPLANT_PAIRS[0])] * 2


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"batch_size": 0}, ValueError, "a batch needs at least 1 frame, got batch_size 0"),
        ({"size": 16}, ValueError, "size must be from 32 to 1600 px, got 16"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank must be from 0 to world_size - 1, got 2 of 2"),
        ({"start": -1}, ValueError, "start must be zero or positive, got -1"),
        ({"pairs": 11}, SimulationError, "pairs must be a whole number from 1 to 10, got 11"),
    ],
)
def test_numbers_out_of_range_are_refused(changed, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        source(**changed)


def simulated(index, plane, imaging, size):
    """A frame of the simulator, 1600 rows and 12 bits, corrected; grey levels of 8 bits."""
    shown = trial(SHOWN, index)
    distortion = shown.session.distortions[plane]
    raw = intensifier.expose(
        scene(SHOWN, index, 2), shown.session.rig[plane], distortion, imaging, np.random.default_rng(0), bit_depth=16
    )
    return distortion.correct(raw, size).astype(float) * (255 / 4095)


def on_the_fly(index, plane, imaging, size, generator=None):
    """The same scene, drawn in torch."""
    shown, parts = trial(SHOWN, index), scene(SHOWN, index, 2)
    seen_by = shown.session.rig[plane]
    depths_mm = [(seen_by.world_to_camera @ part.T_world_part)[2, 3] for part in parts]
    view = Exposure(
        imaging,
        imaging.blur_mm(seen_by, float(np.mean(depths_mm))),
        raw_positions(shown.session.distortions[plane], size),
    )
    chains = Chains.of([view], size, np.random.default_rng(0))
    rays, edge = canvas_rays(torch.tensor(seen_by.intrinsics(size), dtype=torch.float32), size)
    to_camera = torch.tensor(seen_by.world_to_camera, dtype=torch.float32)
    exponent = torch.zeros(1, edge, edge)
    for part in parts:
        pose = torch.tensor(part.T_world_part, dtype=torch.float32)[None, None]
        length_mm = path_length([TensorMesh.from_mesh(part.mesh)], pose, rays, to_camera, edge)[:, 0]
        exponent += chains.attenuation_per_mm[part.material] * length_mm
    return expose(exponent, chains, size, generator)[0].numpy().astype(float)


@pytest.mark.parametrize(("index", "plane", "size"), [(0, "bs", 128), (3, "fs", 256)])
def test_grey_levels_are_those_of_the_simulator(index, plane, size):
    imaging = replace(Imaging.random(np.random.default_rng(index)), band_amplitude=0.0, **NOISELESS)
    expected, drawn = simulated(index, plane, imaging, size), on_the_fly(index, plane, imaging, size)
    assert expected.std() > 40
    difference = abs(drawn - expected)
    slope = np.hypot(*np.gradient(expected))
    flat = cv2.dilate(slope, np.ones((5, 5))) < 3
    assert flat.mean() > 0.4
    # Of this, 0.25 is what rounding to whole grey levels does.
    assert difference[flat].mean() < 0.3
    assert np.quantile(difference[flat], 0.99) < 0.6
    assert difference[~flat].mean() < 1
    assert abs((drawn - expected).mean()) < 0.05


def test_noise_is_that_of_the_simulator():
    size, center = 512, slice(170, 340)
    loud = replace(Imaging(), quanta_per_pixel=150.0, band_amplitude=0.0)
    quiet = replace(loud, **NOISELESS)
    spread, correlation = [], []
    for draw, arguments in ((simulated, ()), (on_the_fly, (torch.Generator().manual_seed(1),))):
        noise = (draw(0, "bs", loud, size, *arguments) - draw(0, "bs", quiet, size))[center, center]
        spread.append(noise.std())
        correlation.append((noise[:, 1:] * noise[:, :-1]).mean() / noise.var())
    assert spread[0] > 1.5
    assert spread[1] == pytest.approx(spread[0], rel=0.05)
    assert correlation[1] == pytest.approx(correlation[0], abs=0.03)
