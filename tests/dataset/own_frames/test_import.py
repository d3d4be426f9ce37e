"""``veriserum import``: own frames to the rows that everybody else has."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset

from tests.dataset.conftest import content
from tests.dataset.own_frames.conftest import EDGE_PX, FRAMES, TRIALS
from tests.fixtures.refined_cameras import refined
from tests.fixtures.studies import (
    NAMES,
    b_of,
    changed,
    converted_rows,
    converted_size,
    images_of,
    of_plane,
    one_trial,
    put,
    refused,
    rows_of,
    write_study,
)
from tests.jobs.processes import run_here
from veriserum_hf.calibration import SizedCamera, refined_cameras_json
from veriserum_hf.core import PLANES
from veriserum_hf.dataset import ImportOptions, import_study
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import CalibrationError, ConversionError
from veriserum_hf.geometry import Camera
from veriserum_hf.hub.datasets import ConvertedFolder


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


def test_refined_cameras_replace_those_of_a_study(study, imported, tmp_path):
    before = converted_rows(imported)
    shape = converted_size(before[0], "bs")
    stored = {
        plane: SizedCamera(before[0][name]["intrinsics"], before[0][name]["world_to_camera"], shape)
        for plane, name in (("bs", "camera_bs"), ("fs", "camera_fs"))
    }
    trials = sorted({row["trial_id"] for row in before})
    cameras = refined(stored, shift_mm=(1, 0, 0), foot_px=(2, 1), trials=trials)
    (tmp_path / "cameras.json").write_text(refined_cameras_json(cameras))
    result = import_study(study, tmp_path / "out", cameras=tmp_path / "cameras.json", workers=1)
    for row, old in zip(converted_rows(result.output), before, strict=True):
        for plane, after in cameras.rigs[0].after.items():
            camera = Camera.from_row(row[f"camera_{plane}"], shape)
            np.testing.assert_allclose(camera.intrinsics, after.intrinsics)
            np.testing.assert_allclose(camera.world_to_camera, after.world_to_camera)
        assert row["femur"] == old["femur"] and row["image_fs"] == old["image_fs"]
    assert len(json.loads((result.output / "conversion.json").read_text())["options"]["cameras_sha256"]) == 64
    (tmp_path / "other.json").write_text(refined_cameras_json(refined(stored, trials=[999])))
    with pytest.raises(CalibrationError, match="no trial"):
        import_study(study, tmp_path / "other", cameras=tmp_path / "other.json", workers=1)
    assert not (tmp_path / "other").exists()
