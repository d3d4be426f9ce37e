"""Frames of any size, shape and number of planes are predicted, evaluated and learned from."""

from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
import trimesh
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import pipeline

from tests.modeling.frames import ANATOMIES, SIZE, model
from tests.modeling.test_canvas import cropped, frame, shot
from veriserum_hf.dataset.model_frames import frame_of_row
from veriserum_hf.dataset.plan import Options
from veriserum_hf.dataset.stored import StoredFrames
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import Camera
from veriserum_hf.inference.labelled import predict_labelled
from veriserum_hf.inference.models import check_fit
from veriserum_hf.inference.predictions import predict_frames
from veriserum_hf.modeling import VeriserumImageProcessor
from veriserum_hf.training.augment import Augmentation, augment
from veriserum_hf.training.batches import collate, image_size_of, model_inputs, sample_of
from veriserum_hf.training.run import TrainingRun
from veriserum_hf.training.samples import FrameSamples

MESHES = {entry["id"]: trimesh.creation.box((60, 40, 50)) for entry in ANATOMIES}


def row_of(images, id):
    """A row with poses near the planes' centre."""
    pose = {"pose_id": id, "kind": "manual", "translation_mm": [1.0, 2.0, 380.0], "quaternion_xyzw": [0, 0, 0, 1.0]}
    empty = {name: None for plane in ("bs", "fs") for name in (f"image_{plane}", f"camera_{plane}")}
    ids = {"measurement_id": id, "trial_id": 1, "frame_index": id, "task": "gait", "subject": 1, "implant_pair": "a"}
    return empty | images | ids | {"femur": pose | {"anatomy_id": 3}, "tibia": pose | {"anatomy_id": 7}}


def of_another_rig(shape=(150, 210)):
    """A plane of another laboratory, whose calibration knows pixels only."""
    K = [[500.0, 0, 96.0], [0, 503.0, 81.0], [0, 0, 1]]
    camera = Camera(K, [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1360], [0, 0, 0, 1]])
    return {"image_bs": shot(camera, shape), "camera_bs": camera.to_row(shape)}


def rows():
    """Two planes; one; planes of different sizes, one of them a part; one again, not square; two of another size."""
    one = {name: value for name, value in frame(edge=SIZE).items() if name.endswith("bs")}
    part = cropped(frame(edge=SIZE), "fs", (7, 5), (50, 44))
    images = [frame(edge=SIZE), one, part, of_another_rig(), frame(edge=96)]
    return [row_of(each, id) for id, each in enumerate(images, 1)]


@pytest.fixture(scope="module")
def dataset():
    """The same as a data set."""
    return datasets.Dataset.from_list(rows(), features=Options(config="calibrated", encoding="png").features)


def test_each_frame_gets_the_poses_that_it_gets_alone(dataset):
    made = model(plane_dropout=0.1).eval()
    frames = [frame_of_row(row, SIZE) for row in StoredFrames(dataset).read()]
    together = [row for batch in predict_frames(made, frames, 16) for row in batch]
    alone = [row for each in frames for batch in predict_frames(made, [each], 1) for row in batch]
    assert [row["measurement_id"] for row in together] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one["translation_mm"], other["translation_mm"], atol=1e-2)
    with pytest.raises(TrainingError, match=r"the model refuses measurement 2: this model needs image_bs and"):
        list(predict_frames(model(plane_dropout=0.0).eval(), frames, 16))


def test_a_pipeline_takes_frames_of_different_sizes_together(tmp_path):
    model(plane_dropout=0.1).save_pretrained(tmp_path)
    VeriserumImageProcessor(size=SIZE).save_pretrained(tmp_path)
    estimate = pipeline("dual-plane-pose-estimation", model=str(tmp_path), batch_size=2)
    for frames in ([rows()[0], rows()[2], rows()[4]], [rows()[1], rows()[3]]):
        for found, alone in zip(estimate(frames), (estimate(each) for each in frames), strict=True):
            for one, other in zip(found, alone, strict=True):
                np.testing.assert_allclose(one["translation_mm"], other["translation_mm"], atol=1e-2)


def test_a_plane_that_a_model_needs_is_missed_before_anything_is_predicted(dataset):
    for made, lacking in [
        (model(plane_dropout=0.0), "2 of 5 frames have no plane that the model needs: it takes bs and fs. One plane"),
        (model(head="pooled"), "2 of 5 frames have no plane that the model needs: it takes bs and fs. One plane"),
        (model(planes=["fs"]), "2 of 5 frames have no plane that the model needs: it takes fs. One plane"),
        (model(planes=["bs"]), None),
        (model(plane_dropout=0.1), None),
    ]:
        made.points_implant_mm.copy_(torch.zeros(3) + torch.tensor(MESHES[3].vertices[0]))
        if lacking is None:
            check_fit(made, StoredFrames(dataset), MESHES)
            continue
        with pytest.raises(TrainingError, match=f"^{lacking}"):
            check_fit(made, StoredFrames(dataset), MESHES)


def test_images_of_a_detector_of_another_size_keep_their_edge_up_to_the_native_one():
    def other(pixel_mm, shape):
        K = [[1200 / pixel_mm, 0, shape[1] / 2], [0, 1200 / pixel_mm, shape[0] / 2], [0, 0, 1]]
        camera = Camera(K, of_another_rig()["camera_bs"]["world_to_camera"])
        return row_of({"image_bs": np.zeros(shape, np.uint8), "camera_bs": camera.to_row(shape, pixel_mm)}, 1)

    sizes = {(0.1, (900, 800)): 900, (0.1, (2048, 1536)): 1600, (0.7, (300, 420)): 420, (9.0, (20, 24)): 32}
    assert {key: image_size_of(other(*key)) for key in sizes} == sizes
    assert sample_of(other(0.1, (900, 800)))["image_bs"].shape == (1, 900, 900)


def test_rows_of_any_camera_are_learned_from_and_evaluated(dataset):
    assert [image_size_of(row) for row in rows()] == [64, 64, 64, 210, 96]
    samples = FrameSamples(dataset, size=SIZE)
    single = [augment(samples[index], Augmentation(), np.random.default_rng(0)) for index in (1, 3)]
    made = model(planes=["bs"]).train()
    batch = collate(single)
    assert batch["image_bs"].shape == (2, 1, SIZE, SIZE) and "image_fs" not in batch
    made(**model_inputs(batch)).loss.backward()
    found = predict_labelled(made, DataLoader(single, 1, collate_fn=collate), Accelerator(cpu=True), planes=("bs",))
    assert found.measurement_id.tolist() == [2, 2, 4, 4] and list(found.cameras) == ["bs"]
    both = collate([samples[index] for index in (0, 2, 4)])
    assert both["image_fs"].shape == (3, 1, SIZE, SIZE)
    whole = sample_of(rows()[0], 96)
    assert torch.equal(samples[2]["image_bs"], samples[0]["image_bs"])  # the part is of the other plane
    np.testing.assert_allclose(
        samples[2]["camera_fs"]["intrinsics"], samples[0]["camera_fs"]["intrinsics"], atol=1e-9
    )
    np.testing.assert_allclose(whole["camera_fs"]["intrinsics"], sample_of(rows()[4])["camera_fs"]["intrinsics"])


def test_what_cannot_be_learned_from_is_named(dataset):
    samples, (whole, one, *_) = FrameSamples(dataset, size=SIZE), rows()
    message = r"measurement 1 has image_fs, measurement 2 has not; a batch takes frames of the same planes: use rows"
    for order in ((0, 1), (1, 0)):
        with pytest.raises(TrainingError, match=message):
            collate([samples[index] for index in order])
    for row, message in [
        (one | {"camera_bs": None}, "measurement 2 has no camera; expected that of a plane at least"),
        (one | {"image_bs": None}, "measurement 2 has camera_bs, but no image_bs; expected both or neither"),
        (
            whole | {"image_bs": np.zeros((4, 5, 3), np.uint8)},
            "measurement 1: image_bs is 4 x 5 x 3 px, expected",
        ),
        (whole | {"image_fs": whole["image_fs"][:50]}, "measurement 1, camera_fs: the image has 64 x 50 px, but its"),
        (
            one | {"camera_bs": one["camera_bs"] | {"source_to_intensifier_mm": None, "pixel_size_mm": 1e-4}},
            "measurement 2: image_bs of 64 x 64 px shows, by its camera, as much as 0.0064 mm of the Veriserum",
        ),
    ]:
        with pytest.raises(TrainingError, match=f"^{message}"):
            sample_of(row)


def test_frames_that_a_model_in_training_refuses_are_named(dataset):
    run = TrainingRun.__new__(TrainingRun)
    run.accelerator, run.settings = Accelerator(cpu=True), SimpleNamespace(optimization=None)
    run._trained = model(plane_dropout=0.0).train()
    batch = collate([FrameSamples(dataset, size=SIZE)[1]])
    with pytest.raises(TrainingError, match=r"^the model refuses measurement 2: this model needs image_bs and"):
        run._accumulate(batch)
