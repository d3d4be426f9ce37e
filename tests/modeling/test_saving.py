"""A saved model is the model: through from_pretrained, AutoModel and the pipeline."""

import json
import re

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModel, pipeline

from tests.modeling.frames import SIZE, batch, model, rig, without_labels
from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry import pixel_size_mm
from veriserum_hf.geometry.pose import quaternion_to_matrix
from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseModel


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a model and its image processor."""
    folder = tmp_path_factory.mktemp("run")
    model("convnextv2").save_pretrained(folder)
    VeriserumImageProcessor(size=SIZE).save_pretrained(folder)
    return folder


def rows(inputs):
    """Frames as rows of the data set have them."""
    return [
        {f"image_{plane}": PIL.Image.fromarray(inputs[f"image_{plane}"][frame, 0].numpy()) for plane in PLANES}
        | {
            f"camera_{plane}": {name: tensor[frame].tolist() for name, tensor in inputs[f"camera_{plane}"].items()}
            | {"pixel_size_mm": pixel_size_mm(SIZE)}
            for plane in PLANES
        }
        | {
            name: {"anatomy_id": int(id)}
            for name, id in zip(("femur", "tibia"), inputs["anatomy_id"][frame], strict=True)
        }
        for frame in range(len(inputs["anatomy_id"]))
    ]


def same(one, other):
    for name in ("T_world_implant", "confidence", "anatomy_id"):
        torch.testing.assert_close(one[name], other[name], atol=0, rtol=0, equal_nan=True)
    for plane, px in one.center_px.items():
        assert torch.equal(px, other.center_px[plane])


@pytest.mark.parametrize("changed", [{}, {"head": "pooled"}, {"planes": ["fs"]}, {"map_size": 3}])
@pytest.mark.parametrize("family", ["resnet", "vit", "convnext"])
def test_saved_and_loaded_it_tells_the_same_to_the_last_bit(family, changed, tmp_path):
    made = model(family, **changed).eval()
    made.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = VeriserumPoseModel.from_pretrained(tmp_path)
    assert not loaded.training
    inputs = without_labels(batch())
    with torch.inference_mode():
        same(made(**inputs), loaded(**inputs))
    assert torch.equal(loaded.points_implant_mm, made.points_implant_mm)


def test_auto_classes_know_it(saved):
    made, processor = AutoModel.from_pretrained(saved), AutoImageProcessor.from_pretrained(saved)
    assert type(made) is VeriserumPoseModel and type(processor) is VeriserumImageProcessor
    assert processor.size == SIZE
    inputs = without_labels(batch())
    with torch.inference_mode():
        same(model("convnextv2").eval()(**inputs), made(**inputs))


def test_a_row_of_the_data_set_is_the_batch_of_its_tensors(saved):
    inputs = without_labels(batch())
    made = AutoImageProcessor.from_pretrained(saved)(rows(inputs))
    assert made.keys() == inputs.keys()
    for name, value in inputs.items():
        for key, tensor in value.items() if isinstance(value, dict) else [(None, value)]:
            assert torch.equal(made[name] if key is None else made[name][key], tensor), (name, key)


def test_a_pipeline_tells_poses_as_rows_have_them(saved):
    inputs = without_labels(batch())
    estimator = pipeline("dual-plane-pose-estimation", model=str(saved))
    one, several = estimator(rows(inputs)[0]), estimator(rows(inputs))
    assert len(several) == 3 and several[0] == one
    with torch.inference_mode():
        expected = VeriserumPoseModel.from_pretrained(saved)(**inputs)
    for frame, poses in enumerate(several):
        assert [pose["component"] for pose in poses] == ["femur", "tibia"]
        for index, pose in enumerate(poses):
            T = expected.T_world_implant[frame, index].numpy()
            assert pose["anatomy_id"] == int(inputs["anatomy_id"][frame, index])
            assert pose["quaternion_xyzw"][3] >= 0
            np.testing.assert_allclose(pose["translation_mm"], T[:3, 3], atol=1e-2)
            np.testing.assert_allclose(quaternion_to_matrix(pose["quaternion_xyzw"]), T[:3, :3], atol=1e-4)
            assert pose["confidence"] == pytest.approx(float(expected.confidence[frame, index]), abs=1e-4)
    assert json.loads(json.dumps(several)) == several


def test_a_pooled_head_has_no_confidence(tmp_path):
    model(head="pooled").save_pretrained(tmp_path)
    VeriserumImageProcessor(size=SIZE).save_pretrained(tmp_path)
    poses = pipeline("dual-plane-pose-estimation", model=str(tmp_path))(rows(without_labels(batch(1)))[0])
    assert [pose["confidence"] for pose in poses] == [None, None]


def test_weights_of_another_configuration_are_named(saved, tmp_path):
    def change(change):
        weights = load_file(saved / "model.safetensors")
        change(weights)
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        (tmp_path / "config.json").write_text((saved / "config.json").read_text())

    end = "Load the model with the config.json that was saved with its weights"
    change(lambda weights: weights.pop("narrow.bias"))
    message = f"the weights in {tmp_path} are not those of the configuration: missing narrow.bias (1 in all). {end}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VeriserumPoseModel.from_pretrained(tmp_path)
    change(lambda weights: weights.update(strange=torch.zeros(3)))
    with pytest.raises(ValueError, match=r"configuration: unexpected strange \(1 in all\)"):
        VeriserumPoseModel.from_pretrained(tmp_path)
    change(lambda weights: None)
    config = json.loads((saved / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"map_size": 4}))
    with pytest.raises(ValueError, match=r"configuration: mismatched .*heads\.0\.of_plane\.0\.weight"):
        VeriserumPoseModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"head": "pooled"}))
    with pytest.raises(ValueError, match=r"configuration: missing outputs\.bias, outputs\.weight \(2 in all\)"):
        AutoModel.from_pretrained(tmp_path)


def test_frames_that_do_not_fit_are_refused():
    processor, frame = VeriserumImageProcessor(size=SIZE), rows(without_labels(batch(1)))[0]
    whole = rig(np.random.default_rng(0))["bs"].camera(SIZE)
    resized = frame | {"image_bs": frame["image_bs"].resize((32, 32)), "camera_bs": whole}
    another = frame | {"camera_fs": frame["camera_fs"] | {"pixel_size_mm": pixel_size_mm(512)}}
    colour = frame | {"image_bs": frame["image_bs"].convert("RGB")}
    for frames, message in [
        ([], "no frame was given: expected at least one"),
        (resized, f"frame 0: image_bs is 32 x 32 px, but its camera is that of an image of {SIZE} px (pixel_size_mm"),
        (colour, f"frame 0: image_bs is {SIZE} x {SIZE} x 3 px, expected rows and columns of one grey channel"),
        (another, f"frame 0: image_fs of {SIZE} x {SIZE} px shows, by its camera, as much as 45 mm of the Veriserum"),
        ([frame, frame | {"image_fs": None}], "frame 1 does not have the planes bs and fs: expected"),
        (
            frame | {"image_bs": None, "image_fs": None},
            "frame 0 does not have the planes bs or fs: expected image_bs",
        ),
        (frame | {"camera_bs": None}, "frame 0: image_bs has no camera_bs; a row's own camera is needed"),
    ]:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            processor(frames)


def test_sixteen_bits_are_kept():
    processor, frame = VeriserumImageProcessor(size=SIZE), rows(without_labels(batch(1)))[0]
    deep = np.asarray(frame["image_bs"]).astype(np.uint16) * 257
    found = processor(frame | {"image_bs": PIL.Image.fromarray(deep), "image_fs": deep})
    for plane in PLANES:
        np.testing.assert_array_equal(found[f"image_{plane}"][0, 0].numpy(), deep.astype(np.float32))
