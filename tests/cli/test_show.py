"""``veriserum show`` as a user runs it: which frame, which poses, which file, and what it refuses."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rerun.chunk import RrdReader

from tests.cli.commands import WITHOUT_TORCH, outcome
from tests.fixtures.other_cameras import cropped, on_files, one_plane, rewrite
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.viewer.outline_image import draw_outlines
from veriserum_hf.viewer.outlines import COLORS, PoseSet, label_of
from veriserum_hf.viewer.overlay import draw_axes

SHOW_WITHOUT_TORCH = f"""{WITHOUT_TORCH}
from veriserum_hf.cli import main

main()
"""
CONFIGS = ("calibrated", "manual", "raw", "anatomies")


@pytest.fixture(scope="module")
def converted(tiny, tmp_path_factory):
    """The tiny archive as a data set in both formats."""
    made = {}
    for format, configs in (("parquet", CONFIGS), ("arrow", ("calibrated", "anatomies"))):
        folder = tmp_path_factory.mktemp("converted") / format
        options = Options(size=128, encoding="png")
        made[format] = convert_archive(
            tiny.root, folder, configs=configs, options=options, format=format, workers=1
        ).output
    return made


@pytest.fixture(scope="module")
def dataset(converted):
    return converted["parquet"]


@pytest.fixture(scope="module")
def rows(dataset):
    """Rows of calibrated by split, in their order."""
    return {name: list(each) for name, each in datasets.load_dataset(str(dataset), streaming=True).items()}


@pytest.fixture(scope="module")
def meshes(dataset):
    return open_rows(str(dataset), "anatomies").meshes


@pytest.fixture
def show(dataset, monkeypatch, tmp_path):
    """Exit status, standard output and standard error of the command, run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    return lambda *arguments, of=dataset: outcome("show", of, *arguments)


def poses_of(rows, by_mm=0.0, **more):
    """A table of poses of rows, moved, as `predict` and `register` write."""
    return pa.Table.from_pylist(
        [
            {
                "measurement_id": row["measurement_id"],
                "component": part,
                "anatomy_id": row[part]["anatomy_id"],
                "translation_mm": (np.array(row[part]["translation_mm"]) + by_mm).tolist(),
                "quaternion_xyzw": row[part]["quaternion_xyzw"],
                **more,
            }
            for row in rows
            for part in ("femur", "tibia")
        ]
    )


def set_of(name, table, measurement_id):
    poses = {row["component"]: row for row in table.to_pylist() if row["measurement_id"] == measurement_id}
    return PoseSet(name, poses)


def assert_shows(path, image):
    np.testing.assert_array_equal(cv2.imread(str(path)), image)


def test_without_more_the_first_frame_of_train_is_drawn_with_axes(show, rows, tmp_path):
    status, printed, _ = show()
    assert status == 0 and printed == "written to frame.png\n"
    assert_shows(tmp_path / "frame.png", draw_axes(rows["train"][0]))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_frame_is_found_by_its_row_and_by_its_id(show, rows, tmp_path, split):
    row = rows[split][2]
    assert show("--split", split, "--row", 2, "-o", "by_row.png")[0] == 0
    before = sum(len(each) for name, each in rows.items() if list(rows).index(name) < list(rows).index(split))
    assert show("--split", "all", "--row", before + 2, "-o", "by_row_of_all.png")[0] == 0
    assert show("--measurement", row["measurement_id"], "-o", "by_id.png")[0] == 0
    for name in ("by_row.png", "by_row_of_all.png", "by_id.png"):
        assert_shows(tmp_path / name, draw_axes(row))


def test_a_frame_of_another_format_or_configuration_is_found(show, converted, rows, dataset, tmp_path):
    row = rows["train"][-1]
    assert show("--measurement", row["measurement_id"], of=converted["arrow"])[0] == 0
    assert_shows(tmp_path / "frame.png", draw_axes(row))
    manual = next(iter(datasets.load_dataset(str(dataset), "manual", split="test", streaming=True)))
    assert show("--config", "manual")[0] == 0  # which has no train
    assert_shows(tmp_path / "frame.png", draw_axes(manual))
    assert show("--config", "manual", "--measurement", manual["measurement_id"])[0] == 0
    assert_shows(tmp_path / "frame.png", draw_axes(manual))


def test_outlines_of_the_label_and_of_files(show, rows, meshes, tmp_path):
    row = rows["train"][0]
    id, label = row["measurement_id"], label_of(row)
    assert show("--outline")[0] == 0
    assert_shows(tmp_path / "frame.png", draw_outlines(row, [label], meshes))

    tables = [poses_of(rows["train"], 0.5, verdict="converged"), poses_of(rows["train"], -0.5)]
    for name, table in zip(("registered", "predicted"), tables, strict=True):
        pq.write_table(table, f"{name}.parquet")
    assert show("--poses", "registered.parquet", "--poses", "predicted.parquet")[0] == 0
    sets = [set_of("registered", tables[0], id), set_of("predicted", tables[1], id)]
    assert_shows(tmp_path / "frame.png", draw_outlines(row, [label, *sets], meshes))


def test_files_of_one_name_are_called_by_their_paths(show, rows, meshes, tmp_path):
    row, table = rows["train"][0], poses_of(rows["train"])
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        pq.write_table(table, f"{folder}/poses.parquet")
    assert show("--poses", "a/poses.parquet", "--poses", "b/poses.parquet")[0] == 0
    sets = [set_of(name, table, row["measurement_id"]) for name in ("a/poses.parquet", "b/poses.parquet")]
    assert_shows(tmp_path / "frame.png", draw_outlines(row, [label_of(row), *sets], meshes))


def test_a_data_set_with_one_plane_and_cameras_of_which_pixels_are_known_is_drawn(show, dataset, rows, tmp_path):
    """Its image is a part of the whole one."""
    folder = tmp_path / "OUT"
    shutil.copytree(dataset, folder)

    def part(row):
        return one_plane(cropped(row, "bs", (30, 20), (90, 70)))

    rewrite(folder, on_files(part))
    row = rows["train"][0]
    assert show(of=folder)[0] == 0
    assert_shows(tmp_path / "frame.png", draw_axes(part(row)))
    assert show("--outline", of=folder)[0] == 0
    assert cv2.imread("frame.png").shape[1] == 900
    assert show("--trial", row["trial_id"], "-o", "trial.mp4", of=folder)[0] == 0
    read, image = cv2.VideoCapture("trial.mp4").read()
    assert read and image.shape[1] == 480 and image[:480].std() > 10


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_a_trial_becomes_a_gif_of_its_frames(show, converted, rows, tmp_path, format):
    of_trial = [row for row in rows["test"] if row["trial_id"] == rows["test"][0]["trial_id"]]
    pq.write_table(poses_of(of_trial[1:], 0.5), "few.parquet")
    status, printed, stderr = show("--trial", of_trial[0]["trial_id"], "--poses", "few.parquet", of=converted[format])
    assert status == 0 and printed == "written to trial.gif\n" and "3/3" in stderr
    with Image.open(tmp_path / "trial.gif") as film:
        assert film.n_frames == len(of_trial) == 3
        images, durations_ms = [], []
        for number in range(film.n_frames):
            film.seek(number)
            durations_ms.append(film.info["duration"])
            images.append(np.asarray(film.convert("RGB"))[:480].astype(int))
    assert sum(durations_ms) == 200  # 15 a second
    for number, image in enumerate(images):
        seen = [(np.abs(image - COLORS[kind][::-1]).max(axis=2) < 40).sum() > 50 for kind in (0, 1)]
        assert seen == [True, number > 0]


def test_a_trial_becomes_an_mp4_that_plays(show, rows, tmp_path):
    assert show("--trial", rows["train"][0]["trial_id"], "-o", "trial.MP4")[0] == 0
    film = cv2.VideoCapture(str(tmp_path / "trial.MP4"))
    assert (film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)) == (3, 15)
    read, image = film.read()
    assert read and image.shape[1] == 960 and image[:480].std() > 10
    assert [path.name for path in tmp_path.iterdir()] == ["trial.MP4"]


def test_browsers_play_an_mp4_while_they_load_it(show, rows):
    assert show("--trial", rows["train"][0]["trial_id"], "-o", "trial.mp4")[0] == 0
    film = cv2.VideoCapture("trial.mp4")
    codec, pixels = (
        int(film.get(number)).to_bytes(4, "little")
        for number in (cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_CODEC_PIXEL_FORMAT)
    )
    assert (codec, pixels) == (b"h264", b"I420")
    content = Path("trial.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_without_ffmpeg_an_mp4_is_refused_with_the_way_out(show, rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    status, _, stderr = show("--trial", rows["train"][0]["trial_id"], "-o", "trial.mp4")
    assert status == 2 and not list(tmp_path.iterdir())
    assert (
        "an MP4 needs ffmpeg" in stderr
        and 'pip install "veriserum-hf[viz]", or choose a name that ends in .gif' in stderr
    )


def test_a_trial_becomes_a_recording(show, rows, tmp_path):
    first, other = rows["train"][0]["trial_id"], rows["test"][0]["trial_id"]
    pq.write_table(poses_of(rows["test"], 0.5, verdict="converged"), "registered.parquet")
    status, printed, stderr = show("--trial", other, "--poses", "registered.parquet", "--rrd", "trial.rrd")
    assert status == 0 and printed == "written to trial.rrd\n" and "3/3" in stderr
    chunks = list(RrdReader("trial.rrd").stream())
    frames = {
        name for chunk in chunks if chunk.entity_path == "/frame" for name in chunk.to_record_batch()[1].to_pylist()
    }
    entities = {chunk.entity_path.replace("\\", "") for chunk in chunks}
    assert len(frames) == 3
    assert {
        "/world/implants/label (refined)/femur",
        "/verdicts/registered/tibia",
        "/kinematics/flexion_deg/registered",
    } <= entities
    assert show("--rrd", "first.rrd")[0] == 0
    found = {chunk.entity_path: chunk for chunk in RrdReader("first.rrd").stream()}
    assert f"trial {first}" in str(found["/__properties"].to_record_batch())


def test_without_rerun_the_extra_is_named(dataset, rows, tmp_path):
    script = SHOW_WITHOUT_TORCH.replace('"torch"', '"rerun"')
    arguments = ["show", str(dataset), "--trial", str(rows["train"][0]["trial_id"]), "--rrd", "trial.rrd"]
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2 and not list(tmp_path.iterdir())
    assert 'pip install "veriserum-hf[rerun]"' in " ".join(ran.stderr.split())


def test_a_film_that_ffmpeg_cannot_write_leaves_nothing(show, rows, tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho No space left on device >&2\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    status, _, stderr = show("--trial", rows["train"][0]["trial_id"], "-o", "trial.mp4")
    assert status == 2 and "cannot write trial.mp4: ffmpeg: No space left on device" in stderr
    assert list(tmp_path.iterdir()) == [program]


def test_frames_of_a_trial_are_in_their_order(converted, rows):
    from veriserum_hf.dataset.selection import rows_found

    trial = rows["train"][0]["trial_id"]
    opened = open_rows(str(converted["parquet"]), "calibrated", streaming=True, where=("trial_id", trial))
    found = rows_found(opened, None)
    expected = [row["measurement_id"] for row in rows["train"] if row["trial_id"] == trial]
    assert [row["frame_index"] for row in found] == [0, 1, 2]
    assert [row["measurement_id"] for row in found] == expected


def test_it_works_without_torch(dataset, rows, tmp_path):
    row = rows["train"][0]
    pq.write_table(poses_of(rows["train"]), tmp_path / "poses.parquet")
    arguments = [dataset, "--measurement", row["measurement_id"], "--poses", "poses.parquet"]
    ran = subprocess.run(
        [sys.executable, "-c", SHOW_WITHOUT_TORCH, "show", *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"USE_TORCH": "0"},  # or datasets asks for its version
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "frame.png").is_file()


def test_what_cannot_be_done_is_reported_in_one_message(show, tiny, dataset, converted, rows, tmp_path):
    row, elsewhere = rows["train"][0], rows["test"]
    id, trial = row["measurement_id"], row["trial_id"]
    pq.write_table(poses_of(elsewhere), "other.parquet")
    pq.write_table(poses_of([row], anatomy_id=77), "strange.parquet")
    pq.write_table(poses_of([row], trial_id=trial + 1), "foreign.parquet")
    Path("text.parquet").write_text("no Parquet")
    Path("folder.png").mkdir()
    Path("folder.gif").mkdir()
    Path("folder.rrd").mkdir()
    ids = [other["measurement_id"] for other in elsewhere]
    refused = {
        ("--row", 1, "--trial", trial): "choose the frame in one way: --row, --measurement or --trial",
        ("--row", 1000): "calibrated train has no row 1000",
        ("--measurement", 1000): "calibrated has no measurement 1000 in train, ",
        ("--measurement", id, "--split", "test"): f"calibrated has no measurement {id} in test",
        ("--trial", 1000): "calibrated has no trial 1000 in train, ",
        (
            "--measurement",
            id,
            "--split",
            "tset",
        ): "calibrated has no split tset; there are train, ",
        ("--split", "tset"): "calibrated has no split tset; there are train, validation, test and all",
        ("--config", "anatomies"): "anatomies holds no corrected images; choose calibrated, manual or target",
        ("--config", "raw", "--trial", trial): "raw holds no corrected images; choose calibrated, manual or target",
        ("--poses", "other.parquet"): (
            f"other.parquet has no pose of measurement {id}; it has poses of {len(ids)} measurements, {min(ids)} to "
            f"{max(ids)}"
        ),
        ("--poses", "other.parquet", "--trial", trial): f"other.parquet has no pose of trial {trial}; it has",
        ("--poses", "strange.parquet"): f"strange.parquet, measurement {id}: the pose is of femur 77, the label of",
        ("--poses", "foreign.parquet"): (
            f"foreign.parquet, measurement {id}: trial_id of the femur's pose is {trial + 1}, the data set's is"
        ),
        (
            "--poses",
            "foreign.parquet",
            "--trial",
            trial,
        ): f"trial_id of the femur's pose is {trial + 1}, the data set",
        ("--poses", "none.parquet"): "there is no file none.parquet",
        ("--poses", "text.parquet"): "text.parquet cannot be read as Parquet",
        ("-o", "a.jpg"): "cannot write a frame to a.jpg; expected a name that ends in .png",
        ("-o", "a.gif"): "cannot write a frame to a.gif; expected a name that ends in .png, or --trial N",
        ("-o", "none/a.png"): "cannot write none/a.png: No such file or directory; give a path in a folder that",
        ("-o", "folder.png"): "cannot write folder.png: Is a directory",
        ("--trial", trial, "-o", "a.png"): "cannot write a trial to a.png; expected a name that ends in .gif or .mp4",
        ("--trial", trial, "-o", "none/a.mp4"): "cannot write none/a.mp4: there is no folder none",
        ("--trial", trial, "-o", "folder.gif"): "cannot write folder.gif: Is a directory",
        ("--trial", trial, "--rrd", "a.mp4"): "cannot write a recording to a.mp4; expected a name that ends in .rrd",
        ("--trial", trial, "--rrd", "none/a.rrd"): "cannot write none/a.rrd: there is no folder none",
        ("--trial", trial, "--rrd", "folder.rrd"): "cannot write folder.rrd: Is a directory",
        ("--row", 1, "--rrd", "a.rrd"): "--rrd holds a whole trial: give --trial with it, and no --output, --row or",
    }
    there = sorted(tmp_path.iterdir())
    for arguments, message in refused.items():
        status, printed, stderr = show(*arguments)
        assert status == 2 and printed == "" and message in stderr and "Traceback" not in stderr, (arguments, stderr)
    assert sorted(tmp_path.iterdir()) == there
    assert "is an archive, not a data set: `veriserum convert" in show(of=tiny.root)[2]
    assert "cannot load" in show(of=tmp_path / "none")[2]


def test_outlines_need_the_implants(show, tiny, tmp_path):
    output = tmp_path / "OUT"
    convert_archive(tiny.root, output, configs=("calibrated",), options=Options(size=64), workers=1)
    assert show(of=output)[0] == 0
    status, _, stderr = show("--outline", of=output)
    assert status == 2 and f"cannot load {output} anatomies: " in stderr, stderr


def test_a_frame_that_cannot_be_decoded_is_named(show, tiny, tmp_path):
    output = tmp_path / "OUT"
    convert_archive(tiny.root, output, configs=("calibrated",), options=Options(size=64), workers=1)
    shard = next((output / "calibrated").glob("train-*.parquet"))
    table = pq.read_table(shard)
    images = table["image_bs"].to_pylist()
    images[0]["bytes"] = images[0]["bytes"][:-300]
    column = table.schema.get_field_index("image_bs")
    pq.write_table(table.set_column(column, table.field(column), pa.array(images, table.field(column).type)), shard)
    status, _, stderr = show(of=output)
    assert status == 2 and f"measurement {table['measurement_id'][0].as_py()} cannot be decoded: " in stderr, stderr
