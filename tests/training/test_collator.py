"""Rows as ``load_dataset`` gives them become batches that a model learns from in any loop."""

import pytest
import torch
from datasets import load_dataset
from transformers import Trainer, TrainingArguments

import veriserum_hf as vs
from tests.modeling.frames import SIZE, config
from veriserum_hf.dataset import open_rows
from veriserum_hf.errors import TrainingError


@pytest.fixture
def rows(dataset):
    return load_dataset(str(dataset), split="train")


def test_a_trainer_of_transformers_learns_from_rows(rows, dataset, tmp_path):
    meshes = open_rows(str(dataset), "anatomies").meshes
    kinds = {(name, row[name]["anatomy_id"]) for row in rows for name in ("femur", "tibia")}
    torch.manual_seed(0)
    model = vs.VeriserumPoseModel(config(anatomies=[{"id": id, "component": kind} for kind, id in sorted(kinds)]))
    model.set_anatomies({id: torch.tensor(meshes[id].vertices) for _, id in kinds})
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    how = TrainingArguments(
        str(tmp_path),
        max_steps=8,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        remove_unused_columns=False,
        prediction_loss_only=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(model, how, train_dataset=rows, data_collator=vs.PoseCollator(SIZE))
    first = trainer.evaluate(rows)["eval_loss"]
    trainer.train()
    assert trainer.evaluate(rows)["eval_loss"] < first
    assert any(not torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_a_batch_holds_what_a_model_takes(rows):
    batch = vs.PoseCollator(SIZE)([rows[0], rows[1]])
    assert set(batch) == {"image_bs", "image_fs", "camera_bs", "camera_fs", "anatomy_id", "labels"}
    assert batch["image_bs"].shape == (2, 1, SIZE, SIZE)
    assert batch["labels"].dtype == batch["camera_fs"]["world_to_camera"].dtype == torch.float64
    assert batch["labels"][1, 0, :3, 3].tolist() == rows[1]["femur"]["translation_mm"]
    with pytest.raises(TrainingError, match="expected rows with corrected images"):
        vs.PoseCollator(SIZE)([rows.remove_columns("image_bs")[0]])
