"""``veriserum push-dataset``: a converted folder, to the hub and back, through failures and a killed process."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
import trimesh
import yaml
from datasets import load_dataset, load_dataset_builder
from huggingface_hub import DatasetCard

from tests.fixtures.archives import write_archive
from tests.hub.faults import Fault
from tests.hub.server import TOKEN
from tests.jobs.processes import at_work, run_here
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import HubError
from veriserum_hf.hub.datasets import ConvertedFolder, made_files, push_dataset
from veriserum_hf.poses import MANUAL_SCHEMA, write_poses
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

NAME = "my-lab/veriserum"
LOAD = f"""
import json
from datasets import load_dataset

def ids(rows):
    return [row["measurement_id"] for row in rows]

whole, stream = load_dataset("{NAME}"), load_dataset("{NAME}", streaming=True)
meshes = load_dataset("{NAME}", "anatomies", revision="1.0.0")["train"]
print(json.dumps({{
    "whole": {{split: ids(rows) for split, rows in whole.items()}},
    "stream": {{split: ids(rows) for split, rows in stream.items()}},
    "femur": whole["train"][0]["femur"],
    "pixels": sum(whole["test"][0]["image_bs"].tobytes()),
    "config": whole["train"].info.config_name,
    "faces": {{row["anatomy_id"]: len(row["mesh"].faces) for row in meshes}},
}}))
"""
# The program, whose waits between two attempts take a twentieth of the time.
HASTY = """
import sys, time

sleep = time.sleep
time.sleep = lambda seconds: sleep(seconds / 20)
sys.argv[0] = "veriserum"
from veriserum_hf.cli import main
main()
"""


def run(hub, home, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", HASTY, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=hub.environment(home) | environment,
    )


def sha256_of(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def held(hub, name=NAME):
    """SHA-256 of each file on the hub's disk."""
    return {
        path: hashlib.sha256(hub.store.object(entry.sha256).read_bytes()).hexdigest()
        for path, entry in hub.repository(name).head.files.items()
        if path != ".gitattributes"
    }


def as_pushed(folder):
    """What the hub is to hold: the folder's files, the card with the name filled in, and what is made of them."""
    card = (folder / "README.md").read_text().replace("PATH_OR_ORG/NAME", NAME)
    made = made_files(ConvertedFolder.open(folder), NAME, "1.0.0") | {"README.md": card.encode()}
    return sha256_of(folder) | {path: hashlib.sha256(content).hexdigest() for path, content in made.items()}


MADE = {"croissant.json", "eval.yaml"} | {
    f"implants/ana_{id:06d}.{ending}" for id in range(1, 6) for ending in ("glb", "png")
}


@pytest.fixture(scope="module")
def small(tiny, tmp_path_factory):
    """Eight trials of three frames in a few shards, with implants."""
    out = tmp_path_factory.mktemp("small") / "out"
    return convert_archive(tiny.root, out, options=Options(size=64), shard_size_bytes=20_000, workers=1).output


@pytest.fixture
def copy(small, tmp_path):
    """A copy of it that may be changed."""
    shutil.copytree(small, tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.usefixtures("online")
def test_many_shards_through_failures_and_a_kill(hub, tmp_path):
    """In four commits of fifty files at most; some are there when it is killed, and some are left."""
    archive = write_archive(tmp_path / "archive", trials=8, frames_per_trial=20, frame_size=(104, 100))
    out = convert_archive(
        archive.root, tmp_path / "out", options=Options(size=32), shard_size_bytes=1, workers=1
    ).output
    expected = as_pushed(out)
    assert sum(path.endswith(".parquet") for path in expected) > 150
    hub.fail(Fault("upload", every=5, how=("drop", "429", "500")))
    command = (sys.executable, "-c", HASTY, "push-dataset", out, NAME)

    def some_are_there():
        return (repository := hub.repository(NAME)) is not None and len(repository.commits) >= 3

    with at_work(*command, until=some_are_there, environment=hub.environment(tmp_path / "home")) as process:
        process.kill()
    hub.settle()
    there = held(hub)
    assert 0 < len(there) < len(expected)
    assert "README.md" not in there
    assert hub.repository(NAME).tags == {}
    assert there.items() <= expected.items()

    ran = run(hub, tmp_path / "home", "push-dataset", out, NAME, "--json")
    assert ran.returncode == 0, ran.stderr
    assert "signature" not in ran.stderr  # of the addresses to upload to
    pushed = json.loads(ran.stdout)
    assert held(hub) == expected
    assert set(pushed["uploaded"]) == expected.keys() - there.keys()
    assert set(pushed["already_there"]) == there.keys()
    assert hub.repository(NAME).tags == {"1.0.0": pushed["revision"]}
    uploads = [request for request in hub.requests() if request["method"] == "PUT"]
    failed = [request for request in uploads if request["fault"]]
    assert len(failed) >= len(uploads) // 5 >= 30  # those that the kill cut off are not in the list
    assert {request["fault"] for request in failed} == {"drop", "429", "500"}
    assert set(Counter(request["path"] for request in uploads if request["status"] == 200).values()) == {1}

    before = len(hub.requests())
    ran = run_here("push-dataset", out, NAME)
    assert ran.returncode == 0, ran.stderr
    assert f"0 files uploaded, {len(expected)} were there: {hub.url}/datasets/{NAME}, version 1.0.0" in ran.stdout
    written = {request["path"] for request in hub.requests()[before:] if request["method"] not in ("GET", "HEAD")}
    assert {path for path in written if str(path).startswith(("/_lfs", "/api/datasets"))} == set()


def test_it_is_loaded_with_the_three_lines_that_everybody_knows(online, small, tmp_path):
    push_dataset(small, NAME)
    environment = online.environment(tmp_path / "other-home")  # an empty cache, and nothing of the folder
    ran = subprocess.run(
        [sys.executable, "-c", LOAD], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    rows = load_dataset(str(small), cache_dir=str(tmp_path / "cache"))
    expected = {split: split_rows["measurement_id"][:] for split, split_rows in rows.items()}
    assert found["whole"] == found["stream"] == expected
    assert found["femur"] == rows["train"][0]["femur"]
    assert found["pixels"] == sum(rows["test"][0]["image_bs"].tobytes())
    assert found["config"] == "calibrated"
    meshes = load_dataset(str(small), "anatomies", cache_dir=str(tmp_path / "cache"))["train"]
    assert found["faces"] == {str(row["anatomy_id"]): len(row["mesh"].faces) for row in meshes}


def test_the_token_appears_nowhere(hub, small, tmp_path):
    """Whatever the log level of huggingface_hub, and whatever fails."""
    home, loud = tmp_path / "home", {"HF_HUB_VERBOSITY": "debug", "HF_DEBUG": "1"}
    hub.fail(Fault("upload", every=4, how=("drop", "429", "500"), times=3), Fault("tag", how=("500",), times=1))
    runs = [run(hub, home, "push-dataset", small, NAME, **loud)]
    runs.append(run(hub, home, "push-dataset", small, NAME, "--json", **loud))
    hub.fail(refuse_token=True)
    runs.append(run(hub, home, "push-dataset", small, NAME, **loud))
    assert [ran.returncode for ran in runs] == [0, 0, 2]
    assert "does not accept the token" in runs[-1].stderr
    assert "authorization" in runs[0].stderr  # it does log what it sends
    assert [TOKEN in ran.stdout + ran.stderr for ran in runs] == [False] * 3
    searched = [path for folder in (home, hub.folder, small) for path in folder.rglob("*") if path.is_file()]
    assert len(searched) > 20
    assert [path for path in searched if TOKEN.encode() in path.read_bytes()] == []


def test_what_goes_wrong_is_one_message_and_exit_status_2(online, small, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    ran = run_here("push-dataset", small, NAME)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith(f"error: there is no token for {online.url}. Log in with `hf auth login`")
    assert len(ran.stderr.splitlines()) == 1


def test_a_dry_run_lists_what_would_go(online, copy):
    (copy / "notes.txt").write_text("mine")
    ran = run_here("push-dataset", copy, NAME, "--dry-run")
    *listed, summary = ran.stdout.splitlines()
    assert set(listed) == set(sha256_of(copy)) - {"notes.txt"} | MADE
    assert listed[-1] == "README.md"
    assert summary.startswith(f"{len(listed)} files would be uploaded, 0 were there: ")
    assert "not pushed, as the conversion did not write it: notes.txt" in ran.stderr
    assert online.repository(NAME) is None


def test_a_dry_run_needs_neither_a_token_nor_a_hub(online, small, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    without_token = push_dataset(small, NAME, dry_run=True)
    assert without_token.uploaded[-1] == "README.md" and len(without_token.uploaded) == len(
        sha256_of(small) | dict.fromkeys(MADE)
    )
    assert without_token.not_compared.startswith("there is no token for ")
    assert online.requests() == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://user:secret@127.0.0.1:9")
    ran = run_here("push-dataset", small, NAME, "--dry-run")
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[:-1] == without_token.uploaded
    assert "not compared with the hub: cannot reach http://***@127.0.0.1:9" in ran.stderr
    assert "secret" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "pattern",
    ["../x.parquet", "calibrated/../../x.parquet", "/etc/*", "C:/x.parquet", "..\\\\x.parquet", "*/../../*.parquet"],
)
def test_a_card_that_leaves_its_folder_is_refused(online, copy, pattern):
    card = copy / "README.md"
    card.write_text(card.read_text().replace("path: calibrated/test-*.parquet", f'path: "{pattern}"'))
    assert pattern in card.read_text()
    with pytest.raises(
        HubError, match=r"README\.md: the data files .* are outside the folder; expected shards below it"
    ):
        push_dataset(copy, NAME)
    assert online.requests() == [] and online.repository(NAME) is None


def test_shards_and_records_that_are_links_are_refused(online, copy, tmp_path):
    shard = next((copy / "calibrated").glob("*.parquet"))
    moved = tmp_path / "elsewhere.parquet"
    shard.rename(moved)
    shard.symlink_to(moved)
    with pytest.raises(HubError, match=rf"{shard.name} is a link, or no file; expected a regular file"):
        push_dataset(copy, NAME)
    shard.unlink()
    moved.rename(shard)
    (copy / "calibrated").rename(tmp_path / "calibrated")
    (copy / "calibrated").symlink_to(tmp_path / "calibrated")
    with pytest.raises(HubError, match="is a link, or no file"):
        push_dataset(copy, NAME)
    (copy / "calibrated").unlink()
    (tmp_path / "calibrated").rename(copy / "calibrated")
    (copy / "splits.json").rename(tmp_path / "splits.json")
    (copy / "splits.json").symlink_to(tmp_path / "splits.json")
    with pytest.raises(HubError, match=r"splits\.json is a link, or no file"):
        push_dataset(copy, NAME)
    assert online.requests() == []


def test_the_images_are_published_by_decision_only(online, small):
    with pytest.raises(HubError) as raised:
        push_dataset(small, NAME, public=True)
    assert str(raised.value) == (
        'the images are "In Copyright - Non-Commercial Use Permitted" (ETH Zurich), and publishing a copy needs '
        "the permission of the rights holder. With it: --public --accept-data-licence. Without --public, "
        f"{NAME} is private. Nothing was pushed"
    )
    assert online.requests() == []
    push_dataset(small, NAME)
    assert online.repository(NAME).private is True
    push_dataset(small, NAME, public=True, accept_data_licence=True)
    assert online.repository(NAME).private is False


def test_own_frames_are_not_published_without_the_laboratory_and_the_people_in_them(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "imported")
    record = json.loads((folder / "conversion.json").read_text())
    record["archive"]["imported"] = True
    (folder / "conversion.json").write_text(json.dumps(record))
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(HubError, match=r"^the frames are those of a laboratory, and publishing them needs its permi"):
        push_dataset(folder, NAME, public=True)


def test_simulated_frames_are_under_no_such_terms(online, tmp_path):
    settings = Settings(trials=3, frames_per_trial=1, pairs=1, height_px=200, marker_frames=0)
    archive = simulate(tmp_path / "archive", settings, workers=1)
    out = convert_archive(
        archive, tmp_path / "out", configs=("calibrated",), options=Options(size=32), workers=1
    ).output
    push_dataset(out, NAME, public=True)
    assert online.repository(NAME).private is False
    DatasetCard.load(NAME).validate()


def test_the_card_on_the_hub_is_valid_and_complete(online, small):
    push_dataset(small, NAME)
    card = DatasetCard.load(NAME)
    card.validate()
    assert card.data.license == "other"
    data = card.data.to_dict()
    assert {
        "license_name",
        "license_link",
        "pretty_name",
        "task_categories",
        "tags",
        "size_categories",
    } <= data.keys()
    assert {config["config_name"] for config in data["configs"]} == {"calibrated", "anatomies"}
    assert {info["config_name"] for info in data["dataset_info"]} == {"calibrated", "anatomies"}
    assert f'load_dataset("{NAME}", "calibrated")' in card.text
    assert "PATH_OR_ORG" not in card.text
    for heading in ("Frames and conventions", "Calibration", "Poses", "Splits", "Licence", "Citation"):
        assert f"\n## {heading}\n" in card.text
    for words in ("fs intensifier", "`refined`", "`target`", "`manual`", "benchmarks only", "@inproceedings"):
        assert words in card.text
    held_files = online.repository(NAME).head.files
    for config in data["configs"]:
        for files in config["data_files"]:
            assert any(Path(path).match(files["path"]) for path in held_files)


def file_of(hub, path):
    return hub.store.object(hub.repository(NAME).head.files[path].sha256).read_bytes()


def test_implants_are_there_as_thumbnails_and_models_that_any_viewer_shows(online, small):
    push_dataset(small, NAME)
    for row in load_dataset(str(small), "anatomies", split="train"):
        name = f"implants/ana_{row['anatomy_id']:06d}"
        image = np.asarray(PIL.Image.open(io.BytesIO(file_of(online, f"{name}.png"))))
        assert image.shape == (256, 256) and image[0, 0] == 255 and (image < 200).mean() > 0.02
        dark = np.argwhere(image < 250)
        assert dark.min() >= 2 and dark.max() <= 253 and np.ptp(dark, axis=0).max() > 150  # fills it, and is whole
        scene = trimesh.load(io.BytesIO(file_of(online, f"{name}.glb")), file_type="glb")
        np.testing.assert_allclose(scene.extents, row["mesh"].extents / 1000, rtol=1e-5)  # metres


def test_the_benchmark_names_its_tasks(online, small):
    push_dataset(small, NAME)
    document = yaml.safe_load(file_of(online, "eval.yaml"))
    assert document["evaluation_framework"] == "veriserum-hf"
    assert {"id": "rotation_deg_median", "config": "calibrated", "split": "test"} in document["tasks"]
    card = DatasetCard.load(NAME).text
    assert all(f"`{task['id']}`" in card for task in document["tasks"])


def test_croissant_describes_every_field_and_what_the_data_are_for(online, small):
    push_dataset(small, NAME)
    document = json.loads(file_of(online, "croissant.json"))
    assert document["url"] == f"{online.url}/datasets/{NAME}"
    features = load_dataset_builder(str(small)).info.features
    (calibrated,) = (each for each in document["recordSet"] if each["@id"] == "calibrated")
    fields = {each["name"]: each for each in calibrated["field"]}
    assert set(fields) == set(features)
    camera = {each["name"]: each for each in fields["camera_bs"]["subField"]}
    assert camera["world_to_camera"]["arrayShape"] == "-1,4"
    assert camera["world_to_camera"]["source"]["transform"] == {"jsonPath": "world_to_camera"}
    assert {name for name in document if name.startswith("rai:")} >= {
        "rai:dataCollection",
        "rai:dataAnnotationProtocol",
        "rai:dataLimitations",
        "rai:personalSensitiveInformation",
    }


def test_croissant_is_valid(small, tmp_path):
    """By the library of the format; it is no requirement, as one that it requires has no wheel."""
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    (tmp_path / "croissant.json").write_bytes(
        made_files(ConvertedFolder.open(small), NAME, "1.0.0")["croissant.json"]
    )
    metadata = mlcroissant.Dataset(tmp_path / "croissant.json").metadata
    assert not metadata.issues.errors
    assert {each.id for each in metadata.record_sets} == {"calibrated", "anatomies"}


def zeroed(path):
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: next((f / "calibrated").glob("train-*")).unlink(), r"shards of calibrated hold [\d,]+ bytes; exp"),
        (lambda f: (f / "README.md").unlink(), r"has no README\.md: expected a folder that `veriserum convert` made"),
        (lambda f: (f / "README.md").write_text("# mine"), r"README\.md is not as `veriserum convert` wrote it"),
        (
            lambda f: (f / "README.md").write_text("---\nconfigs: [\n---\n"),
            r"README\.md is not as `veriserum convert`",
        ),
        (lambda f: (f / "conversion.json").write_text("{"), r"conversion\.json or README\.md is not as"),
        (lambda f: zeroed(next((f / "calibrated").glob("train-*"))), r"is damaged: calibrated/train-.* SHA256SUMS"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(online, copy, damage, message):
    damage(copy)
    with pytest.raises(HubError, match=message):
        push_dataset(copy, NAME)
    assert online.requests() == []


def test_a_conversion_with_other_shards_does_not_go_over_another(online, small, tiny, tmp_path):
    push_dataset(small, NAME)
    other = convert_archive(
        tiny.root, tmp_path / "out", options=Options(size=64), shard_size_bytes=10**9, workers=1
    ).output
    with pytest.raises(
        HubError, match=r"holds files that do not belong to this push: .* Nothing was changed: choose another"
    ):
        push_dataset(other, NAME, version="1.1.0")
    assert held(online) == as_pushed(small)


def manual(folder, path, frames=3, **changed):
    """A file of poses as `veriserum match` writes it: the labels of the first training frames."""
    rows = []
    for row in load_dataset(str(folder), split="train", cache_dir=str(path.parent / "cache")).select(range(frames)):
        for component in ("femur", "tibia"):
            ids = {name: row[name] for name in ("measurement_id", "trial_id", "frame_index")}
            pose = {name: row[component][name] for name in ("anatomy_id", "translation_mm", "quaternion_xyzw")}
            accepted = {"kind": "manual", "method": "manual", "verdict": "not assessed", "observer": "A. Reader"}
            rows.append(ids | pose | accepted | {"component": component} | changed)
    write_poses(path, pa.Table.from_pylist(rows, MANUAL_SCHEMA))
    return path


def test_poses_matched_by_hand_become_a_configuration(online, small, tmp_path):
    first, second = manual(small, tmp_path / "a.parquet"), manual(small, tmp_path / "b.csv", observer="B. Reader")
    ran = run_here("push-dataset", small, NAME, "--poses", first, "--poses", second)
    assert ran.returncode == 0, ran.stderr
    assert "12 poses are pushed with the name of who matched them: A. Reader, B. Reader" in ran.stderr
    code = f"""
import json
from datasets import load_dataset
matched = load_dataset("{NAME}", "matched", split="manual")
print(json.dumps([matched["observer"][:], matched["kind"][:], len(load_dataset("{NAME}", split="train")), matched[0]],
                 default=str))
"""
    environment = online.environment(tmp_path / "other-home")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    observers, kinds, frames, pose = json.loads(ran.stdout)
    row = load_dataset(str(small), split="train", cache_dir=str(tmp_path / "cache"))
    assert (Counter(observers), set(kinds), frames) == ({"A. Reader": 6, "B. Reader": 6}, {"manual"}, len(row))
    assert pose["translation_mm"] == row[0]["femur"]["translation_mm"]
    card = DatasetCard.load(NAME)
    card.validate()
    assert "12 poses of 3 frames that A. Reader, B. Reader matched" in card.text

    before = len(online.repository(NAME).commits)
    ran = run_here("push-dataset", small, NAME, "--poses", first, "--poses", second)
    assert (ran.returncode, "0 files uploaded" in ran.stdout) == (0, True), ran.stderr
    assert len(online.repository(NAME).commits) == before


def test_poses_of_other_frames_or_that_nobody_accepted_are_not_pushed(online, small, tmp_path):
    for changed, why in (
        ({"kind": "refined"}, "holds poses that nobody has accepted"),
        ({"measurement_id": 999}, "has poses of 1 frames that"),
        ({"anatomy_id": 7}, "the pose is of femur 7, the label of femur 1"),
    ):
        path = manual(small, tmp_path / "m.parquet", 1, **changed)
        ran = run_here("push-dataset", small, NAME, "--poses", path)
        assert (ran.returncode, why in ran.stderr) == (2, True), ran.stderr
        path.unlink()
    assert online.requests() == []
