"""Batches of randomised worlds: the contract, repeatability, held-out implants, and settings that name them."""

import re
from itertools import islice
from pathlib import Path

import pytest
import torch
import yaml

from tests.training.test_on_the_fly import assert_same
from veriserum_hf.core import PLANES
from veriserum_hf.errors import TrainingError
from veriserum_hf.modeling import surface_points
from veriserum_hf.simulation import WorldRanges
from veriserum_hf.training.settings import DataSettings
from veriserum_hf.training.worlds import WorldBatches, shapes_of, validation_worlds

RANGES = WorldRanges(shapes=1, own_shapes=0.5)
SIZE = 64


def source(**changed):
    return WorldBatches(**({"batch_size": 3, "ranges": RANGES, "size": SIZE, "seed": 4} | changed))


@pytest.fixture(scope="module")
def batches():
    """The first two."""
    return list(islice(source(), 2))


def test_a_batch_is_what_the_model_takes(batches):
    meshes = {shape.anatomy_id: shape.mesh for shape in shapes_of(RANGES)}
    for batch in batches:
        for plane, image_px in zip(PLANES, batch["image_px"].unbind(1), strict=True):
            image, camera = batch[f"image_{plane}"], batch[f"camera_{plane}"]
            for canvas, (left, top, columns, rows) in zip(image[:, 0], image_px.tolist(), strict=True):
                for canvas_along, first, count in ((canvas, top, rows), (canvas.T, left, columns)):
                    assert first >= 0 and first + count <= SIZE
                    assert (canvas_along[:first] == canvas_along[:1]).all()
                    assert (canvas_along[first + count :] == canvas_along[-1:]).all()
            assert image.shape == (3, 1, SIZE, SIZE) and image.dtype == torch.uint8
            assert camera["intrinsics"].shape == (3, 3, 3) and camera["world_to_camera"].shape == (3, 4, 4)
            assert {tensor.dtype for tensor in camera.values()} == {torch.float64}
        assert batch["labels"].shape == (3, 2, 4, 4) and batch["labels"].dtype == torch.float64
        R = batch["labels"][..., :3, :3]
        torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=torch.float64).expand_as(R))
        for points, id in zip(batch["implant_points"].flatten(0, 1), batch["anatomy_id"].flatten(), strict=True):
            mesh = meshes[int(id)]
            assert torch.equal(points, torch.from_numpy(surface_points(mesh.vertices, mesh.faces)))
    assert torch.cat([batch["measurement_id"] for batch in batches]).tolist() == list(range(6))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_follows_from_seed_and_number_whoever_draws_it(batches, workers):
    assert_same(next(iter(source(start=1, workers=workers))), batches[1])
    # Two processes share out the same batches.
    assert_same(next(iter(source(rank=1, world_size=2, workers=workers))), batches[1])


def test_other_seeds_give_other_frames(batches):
    assert not torch.equal(next(iter(source(seed=5)))["labels"], batches[0]["labels"])


def test_neither_autocast_nor_the_caller_s_random_numbers_matter(batches):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(next(iter(source())), batches[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_frames_are_always_the_same_and_of_no_training(batches):
    one, other = (list(validation_worlds(RANGES, 4, batch_size=2, size=SIZE)) for _ in range(2))
    assert len(one) == 2
    for each, same in zip(one, other, strict=True):
        assert_same(each, same)
    (second,) = validation_worlds(RANGES, 2, start=2, batch_size=2, size=SIZE)
    assert_same(second, one[1])
    seed_of_validation = next(iter(source(batch_size=2, seed=2027)))
    assert not torch.equal(one[0]["labels"], seed_of_validation["labels"])


def test_held_out_implants_are_of_no_training():
    (batch,) = validation_worlds(RANGES, 2, batch_size=2, size=SIZE, held_out=True)
    assert not set(batch["anatomy_id"].flatten().tolist()) & {shape.anatomy_id for shape in shapes_of(RANGES)}


def test_frames_of_no_whole_batch_are_refused():
    with pytest.raises(ValueError, match="must be multiples of the batch size 50, got 70, 0"):
        next(validation_worlds(RANGES, 70))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"dataset": "archive", "worlds": "{}"},
            "worlds are of frames that are rendered: give --data simulated:on-the",
        ),
        (
            {"data": "simulated:on-the-fly", "worlds": '{"legs": 2}'},
            "worlds: legs is a share and must be from 0 to 1",
        ),
        ({"data": "simulated:on-the-fly", "worlds": "{legs"}, "worlds must be JSON"),
    ],
)
def test_settings_of_worlds_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(TrainingError, match=re.escape(message)):
        DataSettings(**settings)


def test_the_committed_configuration_names_every_range():
    """None is left to a default that may change."""
    worlds = yaml.safe_load(Path("training/configs/robust.yaml").read_text())["worlds"]
    assert worlds.keys() == vars(WorldRanges()).keys()
    assert WorldRanges.of(worlds) == WorldRanges()
