"""``veriserum import``: own frames to the rows that everybody else has, and what is wrong with a study."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trimesh
import yaml
from datasets import load_dataset

from tests.dataset.conftest import content
from tests.fixtures.archives import write_archive
from tests.fixtures.studies import NAMES, converted_rows, write_study
from tests.jobs.processes import run_here
from veriserum_hf.core import PLANES
from veriserum_hf.dataset import ImportOptions, import_study
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.plan import Options
from veriserum_hf.dataset.study_rows import FrameRows
from veriserum_hf.errors import ConversionError
from veriserum_hf.geometry import Camera
from veriserum_hf.hub.datasets import ConvertedFolder
from veriserum_hf.poses import read_trajectory, write_trajectory

EDGE_PX = 96
TRIALS, FRAMES = 2, 3


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two trials of one calibration."""
    root = tmp_path_factory.mktemp("study") / "archive"
    return write_archive(
        root, trials=TRIALS, frames_per_trial=FRAMES, frame_size=(208, 200), extension="png", bit_depth=16
    )


@pytest.fixture(scope="module")
def converted(archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "out"
    options = Options(size=EDGE_PX, encoding="png")
    return convert_archive(archive.root, out, options=options, workers=1).output


@pytest.fixture(scope="module")
def good(converted, tmp_path_factory):
    """The study's folder; not to be changed."""
    return write_study(tmp_path_factory.mktemp("good"), converted).parent


@pytest.fixture
def study(good, tmp_path):
    """A copy of the study that may be changed: its YAML file."""
    shutil.copytree(good, tmp_path / "study")
    return tmp_path / "study/study.yaml"


def changed(study, change):
    """Change the content of a study's YAML file."""
    found = yaml.safe_load(study.read_text())
    change(found)
    study.write_text(json.dumps(found))  # which is YAML, and never has references
    return study


def one_trial(study, plane_count=2):
    """A study of one trial, in the short form."""

    def shorten(found):
        trial = found.pop("trials")[0]
        for name in list(found["planes"])[plane_count:]:
            del found["planes"][name]
        for name, plane in found["planes"].items():
            plane["images"] = trial["images"][name]
        found["initial_poses"] = trial["initial_poses"]
        found["trial"] = {"id": trial["id"], "task": "lunge", "frame_rate_hz": 100}

    return changed(study, shorten)


def of_plane(name, **fields):
    def change(found):
        found["planes"][name].update(fields)

    return change


def images_of(study, name="camera_1", trial=0):
    found = yaml.safe_load(study.read_text())
    return sorted(study.parent.glob(found["trials"][trial]["images"][name]))


def refused(study, change=None, **options):
    """What an import says that is refused; nothing is written."""
    if change is not None:
        changed(study, change)
    out = study.parent.parent / "out"
    with pytest.raises(ConversionError) as error:
        import_study(study, out, options=ImportOptions(**options), workers=1)
    assert not out.exists() and not out.with_name("out.incomplete").exists()
    return str(error.value)


def rows_of(study, out, **options):
    return converted_rows(import_study(study, out, options=ImportOptions(**options), workers=1).output)


@pytest.fixture(scope="module")
def imported(good, tmp_path_factory):
    return import_study(good / "study.yaml", tmp_path_factory.mktemp("imported") / "out", workers=1).output


def test_an_archive_and_the_same_frames_imported_give_the_same_rows(imported, converted):
    """But for ids, the kind of the poses, and the anatomies that nothing shows."""
    before, after = converted_rows(converted), converted_rows(imported)
    assert len(before) == len(after) == TRIALS * FRAMES
    for one, other in zip(before, after, strict=True):
        assert set(one) == set(other)
        for plane in PLANES:
            a, b = (
                cv2.imdecode(np.frombuffer(row.pop(f"image_{plane}")["bytes"], np.uint8), cv2.IMREAD_UNCHANGED)
                for row in (one, other)
            )
            np.testing.assert_array_equal(a, b)
            assert one.pop(f"camera_{plane}") == other.pop(f"camera_{plane}")
        for component in ("femur", "tibia"):
            pose, same = one.pop(component), other.pop(component)
            if pose["anatomy_id"] == same["anatomy_id"]:
                assert pose["kind"] == "refined" and same["kind"] == "initial"
            np.testing.assert_allclose(pose["translation_mm"], same["translation_mm"], atol=1e-6)
            np.testing.assert_allclose(pose["quaternion_xyzw"], same["quaternion_xyzw"], atol=1e-8)
        one.pop("implant_pair"), other.pop("implant_pair")
        assert one == other
    of_both = [load_dataset(str(out), split="train", streaming=True).features for out in (converted, imported)]
    assert of_both[0] == of_both[1]


def test_the_card_and_the_records_state_where_everything_came_from(imported, good):
    card = (imported / "README.md").read_text()
    for words in ("`camera_1`", "columns `image_fs` and `camera_fs`", "kind `initial`", "`femur.stl`", "By trial"):
        assert words in card
    assert "{" not in card.partition("---\n\n#")[2].replace("{}", "")
    record = json.loads((imported / "conversion.json").read_text())
    assert record["archive"]["tables"] == "study.yaml" and record["archive"]["simulated"] is False
    everything = b"".join(content(imported).values())
    assert str(good.parent).encode() not in everything  # nothing of this machine's folders


def test_the_same_import_changes_nothing_and_another_place_gives_the_same_bytes(imported, good, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in imported.rglob("*")}
    assert (
        import_study(good / "study.yaml", imported, workers=1).counts["calibrated"]["measurements"] == TRIALS * FRAMES
    )
    assert {path: path.stat().st_mtime_ns for path in imported.rglob("*")} == before
    shutil.copytree(good, tmp_path / "elsewhere")
    copy = import_study(tmp_path / "elsewhere/study.yaml", tmp_path / "out", workers=1).output
    assert content(copy) == content(imported)
    images_of(tmp_path / "elsewhere/study.yaml")[0].write_bytes(
        images_of(good / "study.yaml", "camera_2")[0].read_bytes()
    )
    with pytest.raises(ConversionError, match="not the result of this conversion"):
        import_study(tmp_path / "elsewhere/study.yaml", tmp_path / "out", workers=1)


def test_an_interrupted_import_resumes_to_the_same_bytes(study, imported, tmp_path, monkeypatch):
    from veriserum_hf.dataset import shards

    done = []

    def stop_at_third(self, advance, run=shards.ShardJob.run):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(self)
        run(self, advance)

    monkeypatch.setattr(shards.ShardJob, "run", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        import_study(study, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists() and (tmp_path / "out.incomplete").exists()
    monkeypatch.undo()
    assert content(import_study(study, tmp_path / "out", workers=1).output) == content(imported)


def test_damaged_frames_are_rejected_and_the_rest_is_imported_by_several_workers(study, tmp_path):
    damaged = images_of(study)[1]
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    ran = run_here("import", study, tmp_path / "out", "--split", "test", "--workers", 2)
    assert ran.returncode == 3, ran.stderr
    assert "1 rows were rejected" in ran.stderr and "has no frame in" not in ran.stderr
    assert "has no frame in" not in (tmp_path / "out/README.md").read_text()
    (rejected,) = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert rejected["measurement_id"] == 2 and damaged.name in rejected["detail"]
    assert [row["measurement_id"] for row in converted_rows(tmp_path / "out")] == [1, 3, 4, 5, 6]
    assert {shard.name.partition("-")[0] for shard in (tmp_path / "out/calibrated").iterdir()} == {"test"}


def test_a_study_of_one_plane_and_one_trial(study, tmp_path):
    ran = run_here("import", one_trial(study, plane_count=1), tmp_path / "out", "--json", "--workers", 1)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["counts"]["calibrated"]["measurements"] == FRAMES
    rows = converted_rows(tmp_path / "out")
    assert [(row["measurement_id"], row["frame_index"], row["task"]) for row in rows] == [
        (1, 0, "lunge"),
        (2, 1, "lunge"),
        (3, 2, "lunge"),
    ]
    assert all(row["image_fs"] is None and row["camera_fs"] is None and row["femur"] for row in rows)
    assert "100 frames a second" in (tmp_path / "out/README.md").read_text()


def test_frames_are_sorted_by_their_numbers_and_it_is_said(study, tmp_path):
    one_trial(study)
    for name in NAMES.values():
        for number, path in enumerate(sorted(study.parent.glob(f"trial_11/{name}/*.png"))):
            path.rename(path.with_name(f"frame_{9 + number}.png"))
    result = import_study(study, tmp_path / "out", workers=1)
    first = converted_rows(result.output)[0]
    assert first["image_bs"]["path"] == "frame_9.png"
    expected = "frame_9.png is image 1, where plain sorting would have frame_10.png"
    assert any(expected in note for note in result.problems)


def test_pages_of_a_tiff_count_one_by_one_and_inverted_ones_are_inverted(study, tmp_path):
    one_trial(study)
    before = rows_of(study, tmp_path / "before")
    for name in NAMES.values():
        paths = sorted(study.parent.glob(f"trial_11/{name}/*.png"))
        levels = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
        cv2.imwritemulti(str(paths[0].with_name("all.tif")), levels)
        for path in paths:
            path.unlink()
    changed(study, of_plane("camera_1", images="trial_11/camera_1/all.tif"))
    changed(study, of_plane("camera_2", images="trial_11/camera_2/*.tif"))
    after = rows_of(study, tmp_path / "after")
    for one, other in zip(before, after, strict=True):
        assert one["image_fs"]["bytes"] == other["image_fs"]["bytes"]
    white_is_zero = study.parent / "trial_11/camera_2/all.tif"
    white_is_zero.write_bytes(inverted_tiff(white_is_zero))
    result = import_study(study, tmp_path / "inverted", workers=1)
    assert [row["image_fs"]["bytes"] for row in converted_rows(result.output)] == [
        row["image_fs"]["bytes"] for row in before
    ]
    assert any("camera_2: 1 of 1 files store X-rays dark" in note for note in result.problems)
    assert "stored inverted" in (result.output / "README.md").read_text()


def inverted_tiff(path):
    """The same pages with 0 as white; Pillow inverts the levels."""
    from PIL import Image, ImageSequence

    with Image.open(path) as opened:
        pages = [Image.fromarray(np.array(page)) for page in ImageSequence.Iterator(opened)]
    pages[0].save(path, save_all=True, append_images=pages[1:], tiffinfo={262: 0}, compression="raw")
    return path.read_bytes()


def test_sixteen_bits(archive, tmp_path):
    """A file of 12 bits in 16: white is decided by a sample, and both depths can be written, as `convert` does."""
    out = convert_archive(
        archive.root, tmp_path / "converted", options=Options(size=EDGE_PX, encoding="png", bits=16), workers=1
    ).output
    study = one_trial(write_study(tmp_path / "study", out))
    deep = rows_of(study, tmp_path / "deep", bits=16)
    for one, other in zip(converted_rows(out), deep, strict=False):
        a, b = (cv2.imdecode(np.frombuffer(r["image_bs"]["bytes"], np.uint8), -1) for r in (one, other))
        assert a.dtype == b.dtype == np.uint16
        np.testing.assert_array_equal(a, b)
    for path in study.parent.rglob("*.png"):
        cv2.imwrite(str(path), cv2.imread(str(path), -1) >> 4)
    (row, *_) = rows_of(study, tmp_path / "flat")
    shown = cv2.imdecode(np.frombuffer(row["image_bs"]["bytes"], np.uint8), -1)
    assert shown.dtype == np.uint8
    np.testing.assert_allclose(shown, b_of(deep[0]) / 257, atol=1)


def b_of(row):
    return cv2.imdecode(np.frombuffer(row["image_bs"]["bytes"], np.uint8), -1).astype(float)


def test_cameras_of_files_and_poses_of_other_formats(study, tmp_path):
    """MayaCam files give the cameras of the matrices; a pose file with measurement ids the poses of the lines."""
    before = rows_of(study, tmp_path / "before")
    for name in NAMES.values():
        changed(study, of_plane(name, camera={"mayacam": f"{name}.txt"}))
    poses = [
        {
            "measurement_id": row["measurement_id"],
            "component": component,
            **{name: row[component][name] for name in ("anatomy_id", "translation_mm", "quaternion_xyzw")},
        }
        for row in before
        for component in ("femur", "tibia")
    ]
    pq.write_table(pa.Table.from_pylist(poses[:-1]), study.parent / "poses.parquet")

    def one_file(found):
        for trial in found["trials"]:
            trial["initial_poses"] = {part: {"file": "poses.parquet"} for part in ("femur", "tibia")}

    after = rows_of(changed(study, one_file), tmp_path / "after")
    for one, other in zip(before, after, strict=True):
        for plane in PLANES:
            a, b = (Camera.from_row(row[f"camera_{plane}"]) for row in (one, other))
            np.testing.assert_allclose(a.intrinsics, b.intrinsics, atol=1e-9)
            np.testing.assert_allclose(a.world_to_camera, b.world_to_camera, atol=1e-9)
            assert other[f"camera_{plane}"]["pixel_size_mm"] is None
        np.testing.assert_allclose(one["femur"]["quaternion_xyzw"], other["femur"]["quaternion_xyzw"], atol=1e-12)
    assert after[-1]["tibia"] is None and after[-1]["implant_pair"].endswith("-none")
    pq.write_table(pa.Table.from_pylist(poses[:-2]), study.parent / "poses.parquet")
    result = import_study(study, tmp_path / "fewer", workers=1)
    assert result.counts["calibrated"]["without_pose"] == 1
    assert (
        "Poses of the 6 frames of the study: 5 of the femur, 5 of the tibia; 1 without any."
        in (result.output / "README.md").read_text()
    )


def put(*path, value=None):
    """Set a field, or remove it where no value is given."""

    def change(found):
        *folders, name = path
        for folder in folders:
            found = found[folder]
        if value is None:
            del found[name]
        else:
            found[name] = value

    return change


CAMERA_1 = ("planes", "camera_1")
TRIAL = ("trials", 0)
FEMUR = (*TRIAL, "initial_poses", "femur")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("planes"), "planes is missing, expected a mapping"),
        (put("planes", value={}), "planes: found {}, expected one or two planes"),
        (put("planes", value=[1]), "planes: found [1], expected a mapping"),
        (put("plane", value={}), "plane is not a field, expected planes, side, implants"),
        (put("sides", value="left"), "did you mean side?"),
        (put("side", value="both"), "side: found 'both', expected left or right"),
        (put(*CAMERA_1, "camera"), "camera is missing, expected one of {mayacam: FILE}, {jointtrack: FILE}"),
        (put(*CAMERA_1, "camera", value={}), "found none of them, expected one of {mayacam"),
        (put(*CAMERA_1, "camera", "mayacam", value="a.txt"), "found mayacam and intrinsics, expected one of"),
        (put(*CAMERA_1, "camera", value={"mayacam": "a", "rows": 3}), "rows stands beside mayacam"),
        (put(*CAMERA_1, "camera", value={"mayacam": 3}), "mayacam: found 3, expected text"),
        (put(*CAMERA_1, "camera", value={"mayacam": "nowhere.txt"}), "there is no file nowhere.txt"),
        (put(*CAMERA_1, "camera", value={"mayacam": "study.yaml"}), "expected"),
        (put(*CAMERA_1, "camera", "world_to_camera"), "world_to_camera is missing, expected 4 rows of 4 finite"),
        (put(*CAMERA_1, "camera", "intrinsics", 0, 1, value=0.5), "no skew"),
        (put(*CAMERA_1, "camera", "intrinsics", 0, 1, value=float("nan")), "expected 3 rows of 3 finite numbers"),
        (put(*CAMERA_1, "camera", "pixel_size_mm", value=-1), "pixel_size_mm: found -1, expected a positive number"),
        (put(*CAMERA_1, "camera", "pixel_size_mm", value=0.3), "correct the wrong ones"),
        (put(*CAMERA_1, "camera", "rows", value=EDGE_PX + 1), f"the images have {EDGE_PX} x {EDGE_PX} px"),
        (put(*CAMERA_1, "distortion", value="femur.stl"), "camera_1"),
        (put(*CAMERA_1, "images", value="*.png"), "images stands beside trials"),
        (put("trial", value={}), "trial and trials are both given"),
        (put("trials", value={}), "trials: found {}, expected a list of trials"),
        (put(*TRIAL, "images", "camera_1"), "camera_1 is missing, expected a pattern of files"),
        (put(*TRIAL, "images", "camera_3", value="*.png"), "camera_3 is not a field, expected camera_1, camera_2"),
        (put(*TRIAL, "images", "camera_1", value="*.bmp"), "no file matches *.bmp"),
        (put(*TRIAL, "images", "camera_1", value=[]), "expected a pattern of files"),
        (put(*TRIAL, "images", "camera_1", value="*.stl"), "2 of 2 files cannot be used"),
        (put(*TRIAL, "id", value="1"), "id: found '1', expected a whole number, 0 or more"),
        (put(*TRIAL, "id", value=18), "id 18 occurs twice"),
        (put(*TRIAL, "frame_rate_hz", value=0), "frame_rate_hz: found 0, expected a positive number"),
        (put(*TRIAL, "subject", value=-1), "subject: found -1"),
        (put(*TRIAL, "initial_poses", "patella", value={}), "patella is not a field, expected femur, tibia"),
        (put(*FEMUR, "plane", value="fs"), "plane: found 'fs', expected camera_1 or camera_2"),
        (put(*FEMUR, "plane", value="camera_2"), "such a file are in the world of the cameras; remove plane"),
        (put(*FEMUR, "file", value="femur.stl"), "femur.stl"),
        (put(*FEMUR, "file", value="f" * 300), "there is no file fff"),
        (put(*TRIAL, "task", value="\ud800"), "task: found '\\ud800', expected text"),
        (put("implants", "femur", "mesh", value="~no one/femur.stl"), "there is no file ~no one/femur.stl"),
        (put("implants", "femur"), "femur has poses but no mesh"),
        (put("implants", "femur", "anatomy_id"), "anatomy_id is missing, expected a whole number"),
        (put("implants", "femur", "mesh", value="study.yaml"), "implants: femur: study.yaml: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_in_the_yaml_file_is_named(study, change, words):
    message = refused(study, change)
    assert words in message and "study.yaml" in message


def test_an_anatomy_twice(study):
    def twice(found):
        found["implants"]["tibia"]["anatomy_id"] = found["implants"]["femur"]["anatomy_id"]

    assert "occurs twice" in refused(study, twice)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found None, expected a mapping"),
        ("a: [", "not YAML"),
        ("a: &a {b: *a}", "references"),
        ("\xff", "expected"),
        ("- 1", "found [1]"),
    ],
    ids=["empty", "broken", "recursive", "bytes", "list"],
)
def test_a_file_that_is_no_study(study, text, words):
    study.write_bytes(text.encode("latin-1"))
    assert words in refused(study)


def test_the_yaml_file_is_missing_or_a_folder(tmp_path):
    for path in (tmp_path / "nowhere.yaml", tmp_path):
        with pytest.raises(ConversionError, match="Expected a YAML file"):
            import_study(path, tmp_path / "out")


def test_planes_with_different_numbers_of_frames(study):
    images_of(study)[0].unlink()
    message = refused(study)
    assert "trial 11: found 2 of camera_1 and 3 of camera_2 images" in message


def test_an_image_that_is_listed_twice(study):
    def twice(found):
        found["trials"][1]["images"] = found["trials"][0]["images"]

    assert "frame_1.png is listed twice" in refused(study, twice)
    assert "is listed twice" in refused(study, put(*TRIAL, "images", "camera_2", value="trial_11/camera_1/*.png"))


def test_images_of_different_sizes(study):
    path = images_of(study)[1]
    cv2.imwrite(str(path), cv2.imread(str(path), -1)[:-1])
    assert f"{path.name} has {EDGE_PX} x {EDGE_PX - 1} px" in refused(study)


def test_files_that_are_no_images_are_all_named(study):
    for path in images_of(study)[:2]:
        path.write_text("no image")
    message = refused(study)
    assert "2 of 3 files cannot be used" in message and "frame_1.png" in message and "frame_2.png" in message


def test_what_a_pattern_finds_that_is_no_file_is_named(study):
    path = study.parent / "trial_11/camera_1"
    (path / "notes.png").mkdir()
    (path / "lost.png").symlink_to("nowhere")
    message = refused(study)
    assert "2 of 5 files cannot be used" in message and "notes.png" in message and "lost.png" in message


def test_a_mayacam_file_of_another_image_size(study):
    changed(study, of_plane("camera_2", camera={"mayacam": "camera_2.txt"}))
    path = study.parent / "camera_2.txt"
    path.write_text(path.read_text().replace(f"{EDGE_PX},{EDGE_PX}", f"{2 * EDGE_PX},{2 * EDGE_PX}"))
    message = refused(study)
    assert f"camera_2.txt is of images of {2 * EDGE_PX} x {2 * EDGE_PX} px, but the images have" in message


def test_planes_that_do_not_meet(study):
    def behind(found):
        for row in found["planes"]["camera_2"]["camera"]["world_to_camera"][:3]:
            row[3] += 3000.0

    message = refused(study, behind)
    assert "camera_1 and camera_2 do not meet" in message and "in front of the first source" in message

    def same(found):
        found["planes"]["camera_2"]["camera"] = found["planes"]["camera_1"]["camera"]

    assert "X-ray sources at the same place" in refused(study, same)


def test_another_number_of_poses_than_frames(study):
    path = study.parent / "trial_11/femur.tra"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    message = refused(study)
    assert "femur.tra: found 2 poses, expected one for each of the 3 frames" in message


def test_poses_outside_of_the_images(study):
    path = study.parent / "trial_11/femur.tra"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for line in lines:
        line[7] = str(float(line[7]) + 500.0)
    path.write_text("".join(",".join(line) + "\n" for line in lines))
    message = refused(study)
    assert "femur: poses of 3 of 6 frames" in message and "(measurement_id 1, 2, 3)" in message


def test_poses_of_a_camera_need_its_name(study):
    camera = Camera.from_row(yaml.safe_load(study.read_text())["planes"]["camera_2"]["camera"])
    T = read_trajectory(study.parent / "trial_11/femur.tra")
    write_trajectory(study.parent / "femur.jts", T, camera)
    change = put(*TRIAL, "initial_poses", "femur", value={"file": "femur.jts"})
    assert "name its plane beside the file: plane: camera_1 or camera_2" in refused(study, change)
    changed(study, put(*TRIAL, "initial_poses", "femur", value={"file": "femur.jts", "plane": "camera_2"}))
    rows = rows_of(study, study.parent.parent / "jts")
    np.testing.assert_allclose([row["femur"]["translation_mm"] for row in rows[:FRAMES]], T[:, :3, 3], atol=1e-6)


def test_a_mesh_that_is_not_closed_or_not_in_mm(study):
    path = study.parent / "femur.stl"
    mesh = trimesh.load_mesh(path)
    mesh.copy().apply_scale(0.001).export(path)
    assert "femur.stl: wrong unit" in refused(study)
    mesh.update_faces(mesh.triangles_center[:, 2] < np.median(mesh.triangles_center[:, 2]))
    mesh.export(path)
    assert "not closed" in refused(study)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"split": "all"}, "split must be one of"), ({"bits": 12}, "bits"), ({"bits": 16, "encoding": "jpeg"}, "JPEG")],
    ids=["split", "bits", "jpeg"],
)
def test_options(options, words):
    with pytest.raises(ConversionError, match=words):
        ImportOptions(**options)


def test_the_output_cannot_be_where_the_frames_are(study):
    with pytest.raises(ConversionError, match="which is read"):
        import_study(study, study.parent)
    with pytest.raises(ConversionError, match="which is read"):
        import_study(study, Path(study.parent, "trial_11"))


def test_a_correction_of_this_package(archive, tmp_path):
    """Raw frames with a distortion and the camera of the corrected image give the rows that `convert` gives."""
    out = convert_archive(
        archive.root,
        tmp_path / "out",
        configs=("calibrated", "raw"),
        options=Options(size=128, encoding="png"),
        workers=1,
    ).output
    corrected, raw = converted_rows(out)[:FRAMES], converted_rows(out, "raw")[:FRAMES]
    planes = {}
    for plane, name in NAMES.items():
        (tmp_path / f"{name}.distortion").write_text(raw[0][f"distortion_{plane}"])
        for row in raw:
            (tmp_path / f"{name}_{row['frame_index']}.png").write_bytes(row[f"image_{plane}"]["bytes"])
        planes[name] = {
            "images": f"{name}_*.png",
            "camera": {**corrected[0][f"camera_{plane}"], "rows": 128, "columns": 128},
            "distortion": f"{name}.distortion",
        }
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump({"planes": planes}))
    rows = rows_of(study, tmp_path / "imported", white=raw[0]["white_level"])
    for one, other in zip(corrected, rows, strict=True):
        for plane in PLANES:
            assert one[f"image_{plane}"]["bytes"] == other[f"image_{plane}"]["bytes"]
            assert one[f"camera_{plane}"] == other[f"camera_{plane}"]
        assert other["femur"] is None
    del planes["camera_1"]["camera"]["rows"], planes["camera_1"]["camera"]["columns"]
    study.write_text(yaml.safe_dump({"planes": planes}))
    assert "add rows and columns beside intrinsics" in refused(study)


def test_a_trial_of_autoscoper(study, imported, tmp_path):
    (study.parent / "trial.cfg").write_text(
        "Version 1.1\nmayaCam_csv camera_1.txt\nmayaCam_csv camera_2.txt\n"
        "CameraRootDir trial_11/camera_1\nCameraRootDir trial_11/camera_2\n"
    )
    result = import_study(study.parent / "trial.cfg", tmp_path / "out", workers=1)
    rows = converted_rows(result.output)
    assert set(result.counts) == {"calibrated"} and [row["measurement_id"] for row in rows] == [1, 2, 3]
    for row, same in zip(rows, converted_rows(imported), strict=False):
        assert row["image_fs"] == same["image_fs"] and row["femur"] is None
        assert "`trial_11/camera_1/*`" in (result.output / "README.md").read_text()
    (study.parent / "trial.cfg").write_text("Version 3\n")
    with pytest.raises(ConversionError, match="version '3'"):
        import_study(study.parent / "trial.cfg", tmp_path / "other")


def test_a_dicom_of_several_frames_is_shown_the_camera_it_states(study, tmp_path):
    """MONOCHROME1 is inverted, the file states its 12 bits, and nothing of the patient gets into the rows."""
    pytest.importorskip("pydicom")
    from tests.fixtures.dicoms import write_dicom

    one_trial(study, plane_count=1)
    before = rows_of(study, tmp_path / "before")
    levels = [cv2.imread(str(path), -1) for path in sorted((study.parent / "trial_11/camera_1").iterdir())]
    stored = 4095 - np.rint(np.stack(levels) * (4095 / 255)).astype(np.uint16)
    spacing = {"ImagerPixelSpacing": [0.4, 0.4], "DistanceSourceToDetector": 1200.0}
    write_dicom(study.parent / "run.dcm", stored, bits=12, PhotometricInterpretation="MONOCHROME1", **spacing)
    changed(study, of_plane("camera_1", images="run.dcm"))
    result = import_study(study, tmp_path / "after", workers=1)
    for one, other in zip(before, converted_rows(result.output), strict=True):
        np.testing.assert_array_equal(b_of(one), b_of(other))
        assert one["camera_bs"] == other["camera_bs"]
    notes = " ".join(result.problems)
    assert "1 of 1 files store X-rays dark" in notes
    assert "nothing of it was taken: Imager Pixel Spacing 0.4" in notes and "3000.0 and 3000.0 px" in notes
    assert not any(b"Doe" in data for data in content(result.output).values())
    write_dicom(study.parent / "run.dcm", stored, bits=12, PhotometricInterpretation="MONOCHROME1")
    notes = " ".join(import_study(study, tmp_path / "silent", workers=1).problems)
    assert "nothing of it was taken" not in notes and "DICOM does not describe the camera" in notes


def test_a_folder_whose_name_has_characters_of_a_pattern(study, imported, tmp_path):
    """`trial [1]` is that folder, and not `trial 1`."""
    (study.parent / "trial_18").rename(study.parent / "trial 1")
    (study.parent / "trial_11").rename(study.parent / "trial::ü [1]*")
    one_trial(study)
    changed(study, of_plane("camera_1", images="trial::ü [1]*/camera_1/*.png"))
    changed(study, of_plane("camera_2", images="trial::ü [1]*/camera_2/frame_[123].png"))
    changed(study, put("initial_poses", value=None))
    for one, other in zip(rows_of(study, tmp_path / "out"), converted_rows(imported), strict=False):
        assert one["image_bs"]["bytes"] == other["image_bs"]["bytes"]
        assert one["image_fs"]["bytes"] == other["image_fs"]["bytes"]


def test_a_name_that_is_not_utf_8_is_refused(study):
    path = images_of(study)[0]
    try:
        path.rename(path.with_name("frame_\udcff.png"))
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    assert "frame_\\udcff.png is not a name in UTF-8" in refused(study)


def test_planes_that_lack_frames_of_different_moments(study, tmp_path):
    """As many images of each plane, and yet two that were not taken together."""
    changed(study, put(*TRIAL, "initial_poses", value=None))
    images_of(study, "camera_1")[0].unlink()
    images_of(study, "camera_2")[2].unlink()
    problems = import_study(study, tmp_path / "out", workers=1).problems
    assert [each for each in problems if "image 1 is frame_2.png of camera_1 and frame_1.png of camera_2" in each]
    for path in images_of(study, "camera_2"):  # with numbers of their own
        path.rename(path.with_name(f"{path.stem}00.png"))
    assert import_study(study, tmp_path / "other", workers=1).problems == []


def test_files_of_different_depths_in_a_plane_are_named(study, tmp_path):
    path = images_of(study)[0]
    cv2.imwrite(str(path), cv2.imread(str(path), -1).astype(np.uint16) * 16)
    problems = import_study(study, tmp_path / "out", workers=1).problems
    assert problems == [
        "camera_1: files have 8 and 16 bits: white is 255 in those of 8 bits, and one grey level in all others"
    ]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"component": "tibia"}, "none of its poses is of femur"),
        ({"anatomy_id": 77}, "none of its poses is of femur"),
        ({"trial_id": 12}, "states trial_id 12, but this frame of the study has 11"),
        ({"frame_index": 100}, "states frame_index 100, but this frame of the study has 0"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_a_pose_file_of_other_frames(study, wrong, words):
    about = {"measurement_id": 1, "trial_id": 11, "frame_index": 0, "component": "femur"}
    about["anatomy_id"] = yaml.safe_load(study.read_text())["implants"]["femur"]["anatomy_id"]
    pose = {"translation_mm": [0.0, 0.0, 900.0], "quaternion_xyzw": [0.0, 0.0, 0.0, 1.0]}
    pq.write_table(pa.Table.from_pylist([about | pose | wrong]), study.parent / "poses.parquet")
    assert words in refused(study, put(*FEMUR, "file", value="poses.parquet"))


@pytest.mark.parametrize("wrong", ["cm", "transposed"])
def test_cameras_that_meet_where_no_knee_would_be_are_named(study, tmp_path, wrong):
    """Without poses, nothing else shows that they are in cm, or camera to world."""

    def change(found):
        for number, plane in enumerate(found["planes"].values()):
            T = np.array(plane["camera"]["world_to_camera"])
            if wrong == "cm":
                T[:3, 3] /= 10
            elif number:
                tilted = np.eye(4)  # about the ray of the centre of the image, by 30 deg
                tilted[:2, :2] = [[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]]
                T = tilted @ T
                T[:3, :3] = T[:3, :3].T.copy()
            plane["camera"]["world_to_camera"] = T.tolist()
        for trial in found["trials"]:
            trial["initial_poses"] = None

    changed(study, change)
    (problem,) = import_study(study, tmp_path / "out", workers=1).problems
    assert problem.startswith("camera_1 and camera_2: the rays of the images' centres pass each other at")
    assert "compare whether world_to_camera maps the world to the camera, and is in mm" in problem


@pytest.mark.parametrize(("edge_px", "words"), [(100, "the table is for images of 100 x 100 px"), (48, "of 48 x 48")])
def test_a_table_of_images_of_another_size_is_refused_before_anything_is_written(study, edge_px, words):
    rows, columns = np.mgrid[:edge_px, :edge_px]
    np.savetxt(study.parent / "camera_1_LUT.csv", np.vstack([columns, rows]), delimiter=",", fmt="%d")
    assert words in refused(study, put(*CAMERA_1, "distortion", value="camera_1_LUT.csv"))


def test_points_that_correct_a_part_of_the_image_only_are_named(study, tmp_path):
    """A table of points states no size: that of another camera may fit."""
    places = np.stack(np.meshgrid(np.linspace(5, 45, 9), np.linspace(5, 45, 9)), axis=-1).reshape(-1, 2)
    for name, points in (("INPTS", places + 0.5), ("BSPTS", places)):
        np.savetxt(study.parent / f"camera_1_{name}.csv", points, delimiter=",")
    changed(study, put(*CAMERA_1, "distortion", value="camera_1_INPTS.csv"))
    (problem,) = import_study(study, tmp_path / "out", workers=1).problems
    assert problem.startswith("camera_1: camera_1_INPTS.csv covers 38%")


def test_an_image_that_is_blank_once_it_is_scaled_is_rejected(study, tmp_path):
    """Its grey levels, 40000 to 40255, are one level of 8 bits."""
    one_trial(study)
    for path in (study.parent / "trial_11/camera_1").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), -1) + np.uint16(40_000))
    rejected = import_study(study, tmp_path / "out", workers=1).rejected
    assert [row["reason"] for row in rejected] == ["no contrast"] * FRAMES
    assert "frame_1.png, image 1, with 65535 as white, in 8 bits: " in str(rejected[0]["detail"])
    assert rows_of(study, tmp_path / "deep", bits=16)


def test_an_image_that_disappears_meanwhile(study, tmp_path, monkeypatch):
    make = FrameRows.make

    def remove(maker, plan, bright):
        for path in images_of(study)[:1]:
            path.unlink()
        return make(maker, plan, bright)

    monkeypatch.setattr(FrameRows, "make", remove)
    with pytest.raises(ConversionError, match="or a file that it names, has changed while it was imported"):
        import_study(study, tmp_path / "out", workers=1)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1.0, 0, 0, 0.001), ["the detector lies 1 mm from the X-ray source"]),
        ((1000, 300, 0, 1), ["the principal point (347.5, 47.5) px lies far outside of images of 96 x 96 px"]),
        ((20.0, 0, 0, 1), ["focal lengths of 20 and 20 px", "the detector lies 20 mm"]),
        ((1198, 0, 0, 3), []),
    ],
    ids=["metres", "offset in px", "focal length", "good"],
)
def test_a_camera_that_no_x_ray_system_has_is_named(study, tmp_path, numbers, words):
    one_trial(study, plane_count=1)
    (study.parent / "camera.txt").write_text("JT_INTCALIB\n" + "".join(f"{number}\n" for number in numbers))
    changed(study, of_plane("camera_1", camera={"jointtrack": "camera.txt"}))
    changed(study, put("initial_poses", value=None))
    problems = import_study(study, tmp_path / "out", workers=1).problems
    assert len(problems) == len(words) and all(map(str.__contains__, problems, words))


def test_dicom_files_that_number_themselves_in_another_order_are_named(study, tmp_path):
    pytest.importorskip("pydicom")
    from tests.fixtures.dicoms import write_dicom

    one_trial(study, plane_count=1)
    for number, path in enumerate(sorted((study.parent / "trial_11/camera_1").iterdir()), 1):
        write_dicom(study.parent / f"{4 - number}.dcm", cv2.imread(str(path), -1), InstanceNumber=number)
    changed(study, of_plane("camera_1", images="?.dcm"))
    assert [
        "study.yaml: camera_1: image 2 is 2.dcm, which states Instance Number 2, and the one before it 3" in problem
        for problem in import_study(study, tmp_path / "out", workers=1).problems
    ] == [True, False]
    changed(study, of_plane("camera_1", images=["3.dcm", "2.dcm", "1.dcm"]))
    (problem,) = import_study(study, tmp_path / "listed", workers=1).problems
    assert "Instance Number" not in problem


def test_masks_beside_the_images_are_rejected_and_named(study, tmp_path):
    """A frame is rejected as a whole, so that the planes stay aligned."""
    one_trial(study)
    for name in NAMES.values():
        for path in sorted((study.parent / "trial_11" / name).iterdir()):
            mask = np.where(cv2.imread(str(path), -1) > 128, np.uint8(255), np.uint8(0))
            cv2.imwrite(str(path.with_name(f"{path.stem}_mask_femur.png")), mask)
    changed(study, put("initial_poses", value=None))
    result = import_study(study, tmp_path / "out", workers=1)
    counts = result.counts["calibrated"]
    assert counts["measurements"] == 2 * FRAMES and counts["rejected"] == {"mask": FRAMES}
    assert counts["without_pose"] == FRAMES  # of the rows
    assert "its only grey levels are 0 and 255" in str(result.rejected[0]["detail"])
    for row in converted_rows(result.output):
        assert row["image_bs"]["path"] == row["image_fs"]["path"] and "mask" not in row["image_bs"]["path"]
    notes = [each for each in result.problems if "3 like frame_1.png, 3 like frame_1_mask_femur.png" in each]
    assert [each.split(":")[1] for each in notes] == [" camera_1", " camera_2"]


def test_every_measurement_names_its_files(study, imported, tmp_path):
    lines = [json.loads(line) for line in (imported / "sources.jsonl").read_text().splitlines()]
    assert [line["measurement_id"] for line in lines] == list(range(1, TRIALS * FRAMES + 1))
    for line, row in zip(lines, converted_rows(imported), strict=True):
        assert line["file_fs"] == f"trial_{row['trial_id']}/camera_2/{row['image_fs']['path']}"
        assert line["page_bs"] is line["page_fs"] is None and line["frame_index"] == row["frame_index"]
    assert "  sources.jsonl" in (imported / "SHA256SUMS").read_text()
    assert Path("sources.jsonl") in ConvertedFolder.open(imported).files
    one_trial(study, plane_count=1)
    levels = [cv2.imread(str(path), -1) for path in sorted((study.parent / "trial_11/camera_1").iterdir())]
    cv2.imwritemulti(str(study.parent / "all.tif"), levels)
    changed(study, of_plane("camera_1", images="all.tif"))
    out = import_study(study, tmp_path / "out", workers=1).output
    line = json.loads((out / "sources.jsonl").read_text().splitlines()[1])
    assert line == {
        **{"measurement_id": 2, "trial_id": 11, "frame_index": 1},
        **{"file_bs": "all.tif", "page_bs": 1, "file_fs": None, "page_fs": None},
    }


def test_files_elsewhere_have_the_shortest_distinct_names(study, tmp_path):
    one_trial(study)
    for name in NAMES.values():
        (tmp_path / "cameras" / name).mkdir(parents=True)
        file = tmp_path / "cameras" / name / "mayacam2.txt"
        shutil.copy(study.parent / f"{name}.txt", file)
        changed(study, of_plane(name, camera={"mayacam": str(file)}))
    shutil.copytree(study.parent / "trial_11/camera_2", tmp_path / "images")
    first, *_ = sorted((tmp_path / "images").iterdir())
    first.rename(first.with_name("first_1.png"))  # so that names follow two patterns, which a note names
    changed(study, put("initial_poses", value=None))
    changed(study, of_plane("camera_2", images=str(tmp_path / "images/*.png")))
    out = import_study(study, tmp_path / "out", workers=1).output
    card = (out / "README.md").read_text()
    assert "`camera_1/mayacam2.txt`" in card and "`camera_2/mayacam2.txt`" in card and "`*.png`" in card
    assert "relative to the study's YAML file; of files elsewhere they are the last parts" in card
    assert json.loads((out / "sources.jsonl").read_text().splitlines()[0])["file_fs"] == "first_1.png"
    assert not any(str(tmp_path).encode() in data for data in content(out).values())


@pytest.mark.parametrize(
    ("license", "head", "words"),
    [
        ("cc-by-4.0", ["license: cc-by-4.0"], "cc-by-4.0, as"),
        ("For *research*", [], "For \\*research\\*, as"),
    ],
)
def test_the_card_shows_description_and_license_as_plain_text(study, tmp_path, license, head, words):
    one_trial(study, plane_count=1)
    changed(study, put("license", value=license))
    changed(study, put("description", value="Gait of one knee,\n# Institute {of} <b>[Bones](x)</b>, 3.5 kg_a."))
    card = (import_study(study, tmp_path / "out", workers=1).output / "README.md").read_text()
    assert "\nGait of one knee, \\# Institute \\{of\\} \\<b\\>\\[Bones\\](x)\\</b\\>, 3.5 kg\\_a.\n" in card
    stated = card.partition("\n---")[0]
    assert [line for line in stated.splitlines() if line.startswith("license")] == head
    assert words in card


def test_a_description_that_is_no_text_is_refused(study):
    assert "description: found 3, expected text" in refused(study, put("description", value=3))


def test_images_with_bright_metal_are_inverted_where_the_study_states_it(study, imported, tmp_path):
    one_trial(study, plane_count=1)
    paths = sorted((study.parent / "trial_11/camera_1").iterdir())
    for number, path in enumerate(paths):
        levels = cv2.imread(str(path), -1)
        deep = np.uint16(4095) - levels.astype(np.uint16) * 16  # of 12 bits
        cv2.imwrite(str(path), deep if number else 255 - levels)
    changed(study, of_plane("camera_1", inverted=True))
    result = import_study(study, tmp_path / "out", options=ImportOptions(white=4095), workers=1)
    for row, same in zip(converted_rows(result.output), converted_rows(imported), strict=False):
        np.testing.assert_allclose(b_of(row), b_of(same), atol=1)
    assert "3 files, 3 of them stored inverted" in (result.output / "README.md").read_text()
    cv2.imwritemulti(str(study.parent / "all.tif"), [cv2.imread(str(paths[0]), -1)])
    (study.parent / "all.tif").write_bytes(inverted_tiff(study.parent / "all.tif"))
    words = "inverted: found true, but all.tif states that it stores X-rays dark, and is inverted for it; remove"
    shutil.rmtree(tmp_path / "out")
    assert words in refused(study, of_plane("camera_1", images="all.tif"))
    assert "inverted: found 'yes', expected true or false" in refused(study, of_plane("camera_1", inverted="yes"))
