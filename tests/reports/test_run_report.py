"""``veriserum report`` as a user runs it: the page states what the files contain, and is self-contained."""

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from contextlib import redirect_stdout
from functools import partial
from html.parser import HTMLParser
from io import StringIO
from xml.etree import ElementTree

import cv2
import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer
from scipy.spatial.transform import Rotation

from tests.fixtures.other_cameras import one_plane, rewrite, without_descriptions
from tests.modeling.frames import config
from tests.poses.made import own_pose
from veriserum_hf.cli.report import report
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.errors import VeriserumError
from veriserum_hf.inference.predictions import predict_table, write_predictions
from veriserum_hf.modeling import VeriserumPoseModel

SIZE = 64
PARTS = ("femur", "tibia")
WORST = 5  # number of the frame with the largest error
MANUAL, TARGET = "the data set's own manually matched poses", "the data set's own target poses"
SHIFT_MM = 0.5  # of every other one, along x

app = typer.Typer()
app.command()(report)


@pytest.fixture(scope="module")
def dataset(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "OUT"
    configs = ("calibrated", "manual", "target", "anatomies")
    return convert_archive(tiny.root, folder, configs=configs, options=Options(size=SIZE), workers=1).output


@pytest.fixture(scope="module")
def rows(dataset):
    splits = datasets.load_dataset(str(dataset), "calibrated")
    return list(datasets.concatenate_datasets(list(splits.values())))


@pytest.fixture(scope="module")
def few_rows(dataset):
    """Six frames of two trials, where no more are needed: images take most of a report's time."""
    return list(datasets.load_dataset(str(dataset), "calibrated", split="validation"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, rows):
    """Files of poses: shifted.parquet, rotated.parquet with two frames less, labels.parquet."""
    folder = tmp_path_factory.mktemp("poses")
    pq.write_table(poses_of(rows, shifted), folder / "shifted.parquet")
    pq.write_table(poses_of(rows[2:], rotated), folder / "rotated.parquet")
    pq.write_table(poses_of(rows, lambda *_: {}), folder / "labels.parquet")
    return folder


def poses_of(rows, changed):
    """The rows' own poses with what ``changed`` makes of frame number, component and pose."""
    poses = [
        own_pose(row, part) | changed(number, part, row[part]) for number, row in enumerate(rows) for part in PARTS
    ]
    return pa.Table.from_pylist(poses).replace_schema_metadata({"start": "target <poses>"})


def shifted(number, part, pose):
    x, y, z = pose["translation_mm"]
    bad = (number, part) == (WORST, "tibia")
    return {
        "translation_mm": [x + (9.0 if bad else SHIFT_MM), y, z],
        "verdict": "ambiguous" if bad else "converged",
        "detail": "two minima" if bad else "",
        "covariance": np.diag([0.3**2] * 6).tolist(),
    }


def rotated(number, part, pose):
    """Three degrees of internal rotation more."""
    rotation = Rotation.from_euler("y", 3 if part == "tibia" else 0, degrees=True)
    return {"quaternion_xyzw": (Rotation.from_quat(pose["quaternion_xyzw"]) * rotation).as_quat().tolist()}


def write_report(dataset, output, *arguments, split="all"):
    """What the command prints, and the page that it writes."""
    with redirect_stdout(StringIO()) as printed:
        app(list(map(str, (dataset, "-o", output, "--split", split, *arguments))), standalone_mode=False)
    return printed.getvalue(), output.read_text(encoding="utf-8")


@pytest.fixture
def run(dataset, tmp_path):
    return partial(write_report, dataset, tmp_path / "report.html")


@pytest.fixture(scope="module")
def one_source(dataset, folder):
    """What the report on shifted.parquet prints, and its page."""
    return write_report(dataset, folder / "one.html", "--poses", folder / "shifted.parquet", "--json")


@pytest.fixture(scope="module")
def two_sources(dataset, folder):
    """Page about rotated.parquet and shifted.parquet."""
    return write_report(dataset, folder / "two.html", *both(folder))[1]


def both(folder):
    return ("--poses", folder / "rotated.parquet", "--poses", folder / "shifted.parquet")


class Page(HTMLParser):
    """Headings, cells of tables and addresses of a page, which must be nested properly."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.headings, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data

    def row(self, first, number=0):
        return [row for row in self.rows if row and row[0] == first][number]


def test_the_page_and_the_printed_figures_state_the_errors(one_source, rows, dataset):
    printed, text = one_source
    document = json.loads(printed)
    assert document["config"] == "calibrated"
    assert document["dataset"] == str(dataset) and document["split"] == "all" and document["labels"] is None
    (source,) = document["sources"]
    assert (source["name"], source["frames"], source["poses"]) == ("shifted", len(rows), 2 * len(rows))
    assert source["median"]["translation_mm"] == pytest.approx(SHIFT_MM)
    assert source["median"]["mtre_mm"] == pytest.approx(SHIFT_MM)
    assert source["median"]["rotation_deg"] == pytest.approx(0, abs=1e-5)

    page = Page(text)
    assert page.row("shifted")[1:3] == [str(len(rows)), "8"]
    assert page.headings[1:3] == ["Accuracy", "Kinematics"]
    assert page.headings[-2:] == ["Compared poses and labels", "shifted"]
    assert page.row("shifted")[4].startswith("0.50 ")
    assert page.row("world x")[1].startswith("0.50 ") and page.row("world x")[2].startswith("+0.")
    assert page.row("split") == ["split", f"all: {len(rows)} frames of 8 trials"]
    assert page.row("labels")[1] == "the data set's own refined poses"
    assert page.row("start")[1] == "target <poses>"
    assert page.row("compared")[1].startswith(f"{2 * len(rows)} poses in {len(rows)} of {len(rows)} frames")
    assert page.row("verdict")[1:] == ["poses", "share"]
    assert page.row("ambiguous")[1] == "1" and page.row("converged")[1] == str(2 * len(rows) - 1)
    # A shift of 0.5 mm is within 1.96 x 0.3 mm, one of 9 mm is not.
    assert page.row("x, mm")[1:5] == [str(2 * len(rows)), "97.9 %", "0.300", "0.500"]
    assert page.row("y, mm")[2] == "100.0 %"


def test_the_worst_frame_comes_first_with_its_numbers(two_sources, rows):
    page = Page(two_sources)
    assert "Worst frames of shifted" in page.headings
    worst = [name for name in page.headings if name.startswith("Measurement ")]
    assert len(worst) == 10
    row = rows[WORST]
    assert worst[0] == (
        f"Measurement {row['measurement_id']}, trial {row['trial_id']}, frame {row['frame_index']}, {row['task']}"
    )
    header = next(cells for cells in page.rows if "along bs depth, mm" in cells)
    tibia = page.rows[page.rows.index(header) + 2]
    assert tibia[0] == f"tibia {row['tibia']['anatomy_id']}" and tibia[2:4] == ["9.00", "9.00"]
    assert tibia[-2:] == ["ambiguous", "two minima"]


def test_the_page_is_self_contained_and_its_images_are_valid(two_sources):
    page = Page(two_sources)
    assert not any(what in two_sources for what in ("<link", "url(", "@import", "import(", "fetch("))
    assert set(re.findall(r"<script[^>]*>", two_sources)) == {
        "<script>",
        '<script type="application/json" id="motions">',
    }
    assert set(re.findall(r"https?://[^\"' ]*", two_sources)) == {"http://www.w3.org/2000/svg"}
    within = [address[1:] for address in page.addresses if address.startswith("#")]
    assert len(within) > 10 and all(f'id="{id}"' in two_sources for id in within)
    addresses = [address for address in page.addresses if not address.startswith("#")]
    kinds = [address.split(",")[0] for address in addresses]
    assert kinds == ["data:image/svg+xml;base64"] * 4 + ["data:image/jpeg;base64"] * 10
    images = [b64decode(address.split(",")[1]) for address in addresses]
    for svg in images[:4]:
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    for jpeg in images[4:]:
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).std() > 5


def test_sources_with_other_frames_are_also_compared_on_those_that_all_have(one_source, two_sources, rows):
    page = Page(two_sources)
    assert f"On the {2 * len(rows) - 4} poses that all sources have" in page.headings
    assert "The sources do not have poses of the same implants and frames" in two_sources
    assert [page.row("shifted", number)[1] for number in (0, 1)] == [str(len(rows)), str(len(rows) - 2)]
    assert "that all sources have" not in one_source[1] and "do not have poses of the same" not in one_source[1]


def motions_of(text):
    """The numbers that the page's script draws."""
    return json.loads(re.search(r'id="motions">(.*?)</script>', text)[1])


def test_agreement_of_the_joint_by_source(two_sources, rows):
    page = Page(two_sources)
    assert f"rotated minus label: {len(rows) - 2} frames of 8 trials" in page.headings
    found = {cells[1]: cells for cells in page.rows if cells[0] == "joint" and cells[2] == str(len(rows) - 2)}
    assert found["flexion, deg"][4].startswith(("-0.000 ", "0.000 ", "+0.000 "))
    assert found["internal rotation, deg"][4].startswith("+3.00 [+3.00, +3.00]")
    assert found["internal rotation, deg"][7] == "3.00"


def test_every_trial_has_its_six_coordinates_with_bands(one_source, two_sources, rows):
    found = motions_of(one_source[1])
    assert found["label"] == "label" and [each["name"] for each in found["sources"]] == ["shifted"]
    assert {each["id"] for each in found["trials"]} == {row["trial_id"] for row in rows}
    frames = {row["trial_id"]: [] for row in rows}
    for row in rows:
        frames[row["trial_id"]].append(row["frame_index"])
    page = Page(one_source[1])
    for each in found["trials"]:
        assert each["frame"] == sorted(frames[each["id"]])
        assert f"#trial-{each['id']}" in page.addresses
        (source,) = each["sources"]
        for label, value, deviation in zip(each["label"], source["value"], source["sd"], strict=True):
            assert len(label) == len(value) == len(deviation) == len(each["frame"])
            assert all(0.2 < one < 1.0 for one in deviation)
    bad = rows[WORST]
    trial = next(each for each in found["trials"] if each["id"] == bad["trial_id"])
    place = trial["frame"].index(bad["frame_index"])
    assert trial["sources"][0]["open"] == [place]
    off = np.array(trial["sources"][0]["value"])[3:] - np.array(trial["label"])[3:]
    assert np.linalg.norm(off[:, place]) == pytest.approx(8.5, abs=0.5)  # the axes are not quite perpendicular
    assert np.abs(np.delete(off, place, axis=1)).max() <= 0.0011

    other = motions_of(two_sources)
    lacking = [each for each in other["trials"] if None in each["sources"][0]["value"][0]]
    assert len(lacking) == len({row["trial_id"] for row in rows[:2]})
    rotation = other["trials"][-1]
    assert np.subtract(rotation["sources"][0]["value"][2], rotation["label"][2]) == pytest.approx(3.0, abs=0.002)
    assert set(rotation["sources"][0]["sd"][0]) == {None}


def test_side_and_axes_of_the_knee(run, folder, tmp_path):
    right, left = (
        motions_of(run("--poses", folder / "rotated.parquet", "--side", side, split="validation")[1])["trials"][0]
        for side in ("right", "left")
    )
    signs = [1, -1, -1, -1, 1, 1]
    for sign, one, other in zip(signs, right["label"], left["label"], strict=True):
        assert other == pytest.approx(sign * np.array(one))
    (tmp_path / "axes.yaml").write_text("side: left\n")
    arguments = ("--poses", folder / "rotated.parquet", "--axes", tmp_path / "axes.yaml")
    with pytest.raises(VeriserumError, match=r"axes of femur 1: it has no flat facets .*\. Give landmarks of it"):
        run(*arguments, split="validation")
    with pytest.raises(VeriserumError, match=r"--side left and --axes .*axes.yaml both state the side"):
        run(*arguments, "--side", "left")


@pytest.mark.parametrize("config", ["manual", "target"])
def test_poses_are_compared_with_those_of_another_configuration(run, rows, dataset, tmp_path, config):
    labels = list(datasets.load_dataset(str(dataset), config, split="test"))
    file = tmp_path / "refined.parquet"
    pq.write_table(poses_of(rows, lambda *_: {}), file)
    printed, text = run("--poses", file, "--config", config, "--json", split="test")
    own = {row["measurement_id"]: row for row in rows}
    off_mm = [
        np.linalg.norm(np.subtract(own[row["measurement_id"]][part]["translation_mm"], row[part]["translation_mm"]))
        for row in labels
        for part in PARTS
    ]
    document = json.loads(printed)
    assert document["config"] == config and document["sources"][0]["poses"] == len(off_mm) > 0
    assert document["sources"][0]["median"]["translation_mm"] == pytest.approx(np.median(off_mm)) and min(off_mm) > 0
    page = Page(text)
    assert page.row("configuration")[1] == config
    assert page.row("labels")[1] == {"manual": MANUAL, "target": TARGET}[config]


def test_other_labels_can_be_given(run, folder):
    arguments = ("--poses", folder / "labels.parquet", "--labels", folder / "shifted.parquet", "--json")
    printed, text = run(*arguments, split="validation")
    assert json.loads(printed)["labels"] == str(folder / "shifted.parquet")
    assert json.loads(printed)["sources"][0]["median"]["translation_mm"] == pytest.approx(SHIFT_MM)
    page = Page(text)
    assert page.row("labels", -1)[1] == str(folder / "shifted.parquet")
    assert page.row("world x")[2].startswith("-0.")


def test_the_same_input_gives_the_same_bytes_in_another_process(run, folder, dataset, tmp_path):
    other = tmp_path / "other.html"
    code = "import typer; from veriserum_hf.cli.report import report; typer.run(report)"
    command = [sys.executable, "-c", code, dataset, "-o", other, "--split", "validation", *both(folder)]
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ | {"PYTHONHASHSEED": "7", "HF_HUB_OFFLINE": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert other.read_text(encoding="utf-8") == run(*both(folder), split="validation")[1]


def test_names_that_mean_something_in_html_or_markdown_are_shown_as_they_are(run, folder, tmp_path):
    strange = tmp_path / "<b>a|b&.parquet"
    strange.write_bytes((folder / "shifted.parquet").read_bytes())
    page = Page(run("--poses", strange, split="validation")[1])
    assert page.row("poses")[1] == str(strange)
    assert page.row("<b>a|b&")[4].startswith("0.50 ")


def test_a_pose_that_cannot_be_drawn_is_still_reported(run, few_rows, tmp_path):
    behind = tmp_path / "behind.parquet"
    away = [0.0, 0.0, 5000.0]
    pq.write_table(poses_of(few_rows, lambda number, *_: {"translation_mm": away} if number == 3 else {}), behind)
    text = run("--poses", behind, split="validation")[1]
    assert f"Measurement {few_rows[3]['measurement_id']}" in text and text.count("No image: ") == 1
    assert re.search(r"No image: femur \d+ of behind cannot be drawn in bs: the mesh reaches", text)


def test_a_model_predicts_first(run, folder, rows, dataset, tmp_path):
    torch.manual_seed(0)
    implants = sorted({(part, row[part]["anatomy_id"]) for row in rows for part in PARTS})
    model = VeriserumPoseModel(config(anatomies=[{"id": id, "component": part} for part, id in implants])).eval()
    meshes = open_rows(str(dataset), "anatomies").meshes
    model.set_anatomies({id: torch.tensor(np.array(mesh.vertices)) for id, mesh in meshes.items()})
    model.save_pretrained(tmp_path / "run")
    written = tmp_path / "predicted.parquet"
    shown = open_rows(str(dataset), "calibrated").joined("test")
    write_predictions(model, shown, written, about={"model": "made here"}, batch_size=5)
    assert pq.read_schema(written).metadata[b"model"] == b"made here"
    assert predict_table(model, shown, batch_size=5).equals(pq.read_table(written))
    printed, text = run("--model", tmp_path / "run", "--poses", written, "--json", split="test")
    by_model, by_file = json.loads(printed)["sources"]
    assert (by_model["name"], by_file["name"]) == ("run", "predicted")
    for metric, median in by_file["median"].items():
        assert by_model["median"][metric] == pytest.approx(median, rel=1e-3)
    page = Page(text)
    assert page.row("model")[1] == str(tmp_path / "run") and len(page.row("weights_sha256")[1]) == 64

    model.set_anatomies({id: torch.tensor(np.array(mesh.vertices) + 5) for id, mesh in meshes.items()})
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(VeriserumError, match=r"is another implant than femur \d+ of the model"):
        run("--model", tmp_path / "other")

    model.set_anatomies({id: torch.tensor(np.array(mesh.vertices)) for id, mesh in meshes.items()})
    for head in model.heads:
        head.outputs.bias.data[6] = torch.nan  # after the rotation: an offset
    model.save_pretrained(tmp_path / "diverged")
    with pytest.raises(VeriserumError, match=r"cannot load the model .*diverged: .*not finite"):
        run("--model", tmp_path / "diverged")


def test_a_data_set_of_which_frames_have_one_plane_and_cameras_pixels_only(dataset, few_rows, tmp_path):
    """A frame with one plane and one with two; then one plane alone: nothing of the other is shown."""
    alone, both_planes = few_rows[:2]
    folder = tmp_path / "OUT"
    shutil.copytree(dataset, folder)

    def some(row):
        found = without_descriptions(row)
        return one_plane(found) if row["measurement_id"] == alone["measurement_id"] else found

    rewrite(folder, some)
    table = poses_of([alone, both_planes], lambda *_: {"translation_mm": [1.0, 2.0, 380.0]})
    pq.write_table(table, tmp_path / "moved.parquet")
    arguments = ("--poses", tmp_path / "moved.parquet")
    _, text = write_report(folder, tmp_path / "report.html", *arguments, split="validation")
    page = Page(text)
    axes = [cells[0] for cells in page.rows if cells and cells[0][:2] in ("bs", "fs")]
    assert axes == ["bs h", "bs v", "bs depth", "fs h", "fs v", "fs depth"]
    assert "No image" not in text and sum(src.startswith("data:image/jpeg") for src in page.addresses) == 2
    worst = next(cells for cells in page.rows if "along fs depth, mm" in cells)
    assert sum(len(cells) == len(worst) and "-" in cells for cells in page.rows) == 2  # depths of both implants

    assert "Errors are estimate minus label," in text and "initial" not in text.replace("initial-scale", "")

    def own_frames(row):
        poses = {part: row[part] | {"kind": "initial"} for part in PARTS}
        return one_plane(row) | poses

    rewrite(folder, own_frames)
    table = poses_of([alone, both_planes], lambda *_: {"covariance": np.eye(6).tolist(), "verdict": "ambiguous"})
    pq.write_table(table, tmp_path / "moved.parquet")
    printed, text = write_report(folder, tmp_path / "report.html", *arguments, split="validation")
    assert printed.startswith("compared with initial poses: moved in 2 of ")
    assert "own initial poses of 6 frames" in text and "no measure of accuracy" in text
    headings = Page(text).headings
    assert headings[0].startswith("Poses and initial poses: ") and "Differences from the initial poses" in headings
    assert "Accuracy" not in headings and "within 95 %" not in text
    assert "Differences are estimate minus initial pose," in text and "Errors include" not in text
    assert "ambiguous" in text and "refined" not in text
    assert "No image" not in text and "along bs depth" in text and "fs depth" not in text and "fs h" not in text


def test_errors_are_one_message(run, folder, tmp_path):
    strange = pq.read_table(folder / "shifted.parquet").to_pylist()[0] | {"measurement_id": 10**6}
    pq.write_table(pa.Table.from_pylist([strange]), tmp_path / "strange.parquet")
    same = folder / "shifted.parquet"
    for arguments, split, message in (
        ((), "all", "no poses to compare: give --poses FILE, --model RUN, or several of them"),
        (
            [each for n in range(6) for each in ("--poses", tmp_path / f"{n}.parquet")],
            "all",
            "6 files and models cannot be distinguished in one figure; give at most 5",
        ),
        (("--poses", same, "--poses", same), "all", "shifted.parquet is given twice; expected each file and model"),
        (("--poses", same), "tset", "has no split tset; there are train, .* and all"),
        (("--poses", same, "--config", "raw"), "all", "raw has no corrected images to report on; choose cal"),
        (("--poses", same, "--config", "manual"), "train", "manual has no split train; there are test and all"),
        (("--poses", tmp_path / "strange.parquet"), "all", "strange on .*, split all: nothing to compare: poses of"),
        (("--poses", same, "--labels", tmp_path / "none.parquet"), "all", "there is no file .*none.parquet"),
        (("--poses", same, "-o", same), "all", "--output is an HTML page, such as report.html; got "),
        (("--poses", same, "-o", tmp_path / "no" / "a.html"), "all", "--output needs a file in a folder that exists"),
        (("--poses", same, "-o", tmp_path), "all", "--output needs a file in a folder that exists"),
        (("--model", tmp_path), "all", "holds no model: there is no config.json"),
    ):
        with pytest.raises(VeriserumError, match=message):
            run(*arguments, split=split)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["strange.parquet"]
