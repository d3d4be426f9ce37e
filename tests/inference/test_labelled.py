"""Every implant with a label is evaluated exactly once, with its own frame's task and pose."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from tests.inference.gathering import FRAMES, TIBIA_MISSING, ReadsTheNumber, labels, samples
from tests.training.processes import Started
from veriserum_hf.errors import TrainingError
from veriserum_hf.inference.labelled import predict_labelled
from veriserum_hf.training.batches import collate


def loader(chosen=None, batch_size=8):
    return DataLoader(samples() if chosen is None else chosen, batch_size=batch_size, collate_fn=collate)


def check(found):
    """``found`` maps the names of `Estimates` to what 101 frames give."""
    frame = np.repeat(np.arange(FRAMES), 2)
    kept = ~((frame == TIBIA_MISSING) & (np.arange(2 * FRAMES) % 2 == 1))
    frame = frame[kept]
    np.testing.assert_array_equal(found["measurement_id"], 2**60 + frame)
    np.testing.assert_array_equal(found["trial_id"], frame // 7)
    np.testing.assert_array_equal(found["task"], [f"task {index}" for index in frame])
    np.testing.assert_array_equal(found["component"], np.tile(["femur", "tibia"], FRAMES)[kept])
    tibia = found["component"] == "tibia"
    np.testing.assert_array_equal(found["anatomy_id"], np.where(tibia, 3 + frame % 5, 1 + frame % 2))
    np.testing.assert_array_equal(found["T_world_implant"][:, 0, 3], frame)
    np.testing.assert_array_equal(found["T_world_label"], labels().reshape(-1, 4, 4)[kept])
    np.testing.assert_allclose(found["confidence"], frame / 1000, rtol=1e-6)


def test_in_one_process_every_row_is_the_one_of_its_frame():
    check(vars(predict_labelled(ReadsTheNumber(), loader(), Accelerator(cpu=True))))


def test_two_processes(tmp_path):
    started = Started("tests/inference/gathering.py", tmp_path, processes=2)
    assert started.end() == [0, 0], started.written("errors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npz", "1.npz"]
    for rank in range(2):
        check(np.load(tmp_path / f"{rank}.npz"))


def test_a_plane_that_is_not_to_be_seen_is_not_given():
    class OneEyed(ReadsTheNumber):
        def forward(self, image_bs, image_fs, camera_bs, camera_fs, anatomy_id):
            assert image_fs is None and camera_fs is None
            return super().forward(image_bs, image_fs, camera_bs, camera_fs, anatomy_id)

    found = predict_labelled(OneEyed(), loader(), Accelerator(cpu=True), planes=("bs",))
    check(vars(found))
    assert set(found.cameras) == {"bs", "fs"}


def test_a_model_in_training_goes_on_training_afterwards():
    class NotInTraining(ReadsTheNumber):
        def forward(self, **given):
            assert not self.training and not torch.is_grad_enabled()
            return super().forward(**given)

    model = NotInTraining().train()
    predict_labelled(model, loader(), Accelerator(cpu=True))
    assert model.training
    model.eval()
    predict_labelled(model, loader(), Accelerator(cpu=True))
    assert not model.training


def test_an_input_that_a_model_refuses_is_reported_with_the_frame():
    class Refuses(torch.nn.Module):
        def forward(self, **_):
            raise ValueError("this model needs image_bs and image_fs")

    with pytest.raises(TrainingError, match=rf"refuses measurement {2**60}: this model needs image_bs and image_fs"):
        predict_labelled(Refuses(), loader(), Accelerator(cpu=True), planes=("bs",))


def test_a_pose_that_is_none_is_named():
    class Diverged(ReadsTheNumber):
        def forward(self, **given):
            output = super().forward(**given)
            output.T_world_implant[-1, 1, 0, 3] = torch.nan
            return output

    with pytest.raises(TrainingError, match=rf"row 15 \(measurement {2**60 + 7}, trial 1, tibia 5\): the estimated"):
        predict_labelled(Diverged(), loader(), Accelerator(cpu=True))


def test_without_frames_or_labels_there_is_nothing_to_evaluate():
    with pytest.raises(TrainingError, match="nothing to evaluate: the data set has no frame"):
        predict_labelled(ReadsTheNumber(), [], Accelerator(cpu=True))
    bare = [sample | {"labels": torch.full((2, 4, 4), torch.nan)} for sample in samples()[:3]]
    with pytest.raises(TrainingError, match="nothing to evaluate: there is no implant with a label"):
        predict_labelled(ReadsTheNumber(), loader(bare), Accelerator(cpu=True))
