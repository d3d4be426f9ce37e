"""``veriserum calibrate`` as a user runs it: numbers, exit statuses, what goes where, and what is refused."""

import json
import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.commands import run
from tests.jobs.processes import run_here
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.calibration import phantoms
from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry.pose import angle_between_deg
from veriserum_hf.geometry.rig import NOMINAL_T_WORLD_FS

calibrate = partial(run_here, "calibrate")
DATA = Path(phantoms.__file__).with_name("phantom_data")
RIM_PX = np.array([[831.5, 799.5], [300, 300], [1300, 400], [800, 1400]])


@pytest.fixture
def refusal():
    """Standard error of a command that is refused, with status 2 and nothing on standard output."""

    def errors(*arguments):
        done = calibrate(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        return " ".join(done.stderr.split())

    return errors


def frames_of(root, phantom):
    rows = [row for row in VeriserumArchive(root).calibration_frames.to_pylist() if row["phantom"] == phantom]
    by_plane = {plane: [row for row in rows if row["plane"] == plane] for plane in PLANES}
    return {
        plane: [Path(row["path"]) for row in own if row["calibration_trial_id"] == own[0]["calibration_trial_id"]]
        for plane, own in by_plane.items()
    }


@pytest.fixture(scope="module")
def grids(pristine_laboratory):
    """Grid frame by plane of the first day, whose distortion calibration has the id 2."""
    return {plane: paths[0] for plane, paths in frames_of(pristine_laboratory, "sipla_grid").items()}


@pytest.fixture(scope="module")
def markers(pristine_laboratory):
    """Frames of the marker phantom by plane of the first day, whose source calibration has the id 1."""
    return frames_of(pristine_laboratory, "sipla_cylinder")


@pytest.fixture(scope="module")
def trial(pristine_laboratory):
    return VeriserumArchive(pristine_laboratory).source_trials[1]["bs"]


@pytest.fixture(scope="module")
def true_fs(pristine_laboratory):
    """Pose of the fs intensifier that drew the frames: not the nominal one."""
    drawn = json.loads((pristine_laboratory / "simulation.json").read_text())
    T_world_fs = np.array(drawn["rig_by_source_calibration"]["1"]["fs"]["T_world_intensifier"])
    assert np.linalg.norm((T_world_fs - NOMINAL_T_WORLD_FS)[:3, 3]) == pytest.approx(2.0)
    return T_world_fs


def test_distortions_are_printed_with_what_is_known_of_them(pristine_laboratory, grids):
    done = calibrate("distortion", grids["bs"], grids["fs"])
    assert done.returncode == 0, done.stderr
    for plane in PLANES:
        assert f"{plane} {grids[plane]}\n" in done.stdout
    for line in [
        r"beads +\d{4} fitted of \d{4} in the field, 0 outliers",
        r"residual +0\.\d{4} mm RMS",
        r"prediction +0\.\d{4} mm RMS for a held-out bead by the stored form, 0\.\d{4} mm by degree 5: the stored",
        r"stored +misses beads by 0\.\d{4} mm RMS, 0\.\d{3} mm at most, beads of a held-out region by 0\.\d{4} mm",
        r"degree 9 +misses beads by 0\.\d{4} mm RMS, 0\.\d{3} mm at most, beads of a held-out region by 0\.\d{4} mm",
        r"map +known to 0\.00\d\d mm at the centre, 0\.0\d{3} mm at the rim of the beads \(one standard deviation\)",
        r"phantom +rotated by -?\d\.\d\d degrees, upright",
    ]:
        assert len(re.findall(line, done.stdout)) == 2, line
    texts = re.findall(r"distortion +(\S+;\S+)\n", done.stdout)
    stored = VeriserumArchive(pristine_laboratory).distortions[2]
    for plane, text in zip(PLANES, texts, strict=True):
        np.testing.assert_allclose(Distortion.from_string(text).to_mm(RIM_PX), stored[plane].to_mm(RIM_PX), atol=0.05)


def test_json_is_one_list_on_standard_output_and_nothing_else(grids, markers):
    frames = (grids["fs"], markers["bs"][0], "nowhere/fs_000001.tif")
    done = run("calibrate", "distortion", *frames, "--json", FORCE_COLOR="1")
    assert done.returncode == 3
    good, other, missing = json.loads(done.stdout)
    assert (good["frame"], good["plane"], good["upright"]) == (str(grids["fs"]), "fs", True)
    assert good.keys() >= {
        *("distortion", "beads_found", "beads_expected", "outliers", "residual_mm_rms", "mapped_std_mm_max"),
        *("mapped_std_mm_center", "rotation_deg", "recommendation", "cv_mm_rms", "degree5_cv_mm_rms"),
    }
    assert good["beads_found"] > 0.99 * good["beads_expected"]
    assert [form["form"] for form in good["forms"]] == ["stored", *(f"degree {degree}" for degree in range(4, 10))]
    assert good["chosen"] == good["forms"][0] | {"distortion": good["distortion"]}
    assert Distortion.from_string(good["distortion"]).to_string() == good["distortion"]
    assert other["error"].startswith(f"{markers['bs'][0]}: frame of another phantom: ")
    assert missing["error"] == "nowhere/fs_000001.tif: there is no such file"
    assert "fitting" in done.stderr and "frame of another phantom" in done.stderr.replace("\n", " ")


def test_own_phantoms_are_named_by_files(grids, markers, tmp_path, refusal):
    """The shipped files under a path of one's own give the numbers of the default; a wrong one is refused."""
    for name in ("sipla_grid", "cylinder"):
        (tmp_path / f"{name}.yaml").write_text((DATA / f"{name}.yaml").read_text())
    (default,) = json.loads(calibrate("distortion", grids["bs"], "--json").stdout)
    (own,) = json.loads(
        calibrate("distortion", grids["bs"], "--json", "--phantom", tmp_path / "sipla_grid.yaml").stdout
    )
    assert own == default
    text = tmp_path / "distortion.txt"
    text.write_text(default["distortion"])
    frames = (*markers["bs"][:2], "--distortion", text, "--json")
    found, same = (
        calibrate("source", *frames, *phantom).stdout for phantom in ((), ("--phantom", tmp_path / "cylinder.yaml"))
    )
    assert same == found
    assert refusal("distortion", grids["bs"], "--phantom", "other.yaml").startswith(
        "error: other.yaml: there is no such"
    )
    message = refusal("source", *frames, "--phantom", tmp_path / "sipla_grid.yaml")
    assert message.endswith("sipla_grid.yaml: kind: found 'grid', expected `markers`")


def blank(folder):
    path = folder / "bs_000001.png"
    assert cv2.imwrite(str(path), np.full((800, 832), 128, np.uint8))
    return path


def broken(folder):
    path = folder / "cal_fs_000001.tif"
    path.write_bytes(b"II*\0" + b"\0" * 1000)
    return path


def unnamed(folder):
    path = folder / "grid.png"
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (blank, r"bs_000001\.png: no contrast: the frame is blank"),
        (broken, r"cal_fs_000001\.tif: truncated: no image can be found in the 1004 bytes of the TIFF"),
        (
            unnamed,
            r"grid\.png: its name does not state the plane, expected one like cal_bs_0.* --plane bs",
        ),
        (lambda folder: folder / "bs_000009.tif", r"bs_000009\.tif: there is no such file"),
        (lambda folder: folder, r": this is a folder; give the frames that are in it"),
    ],
)
def test_a_frame_that_cannot_be_fitted_is_named(tmp_path, make, message, refusal):
    stderr = refusal("distortion", make(tmp_path))
    assert re.search(message, stderr), stderr


def test_a_plane_is_given_where_the_name_does_not_state_it(grids, tmp_path):
    path = tmp_path / "monday.tif"
    path.write_bytes(grids["fs"].read_bytes())
    done = calibrate("distortion", path, "--plane", "fs", "--json")
    assert [document["plane"] for document in json.loads(done.stdout)] == ["fs"]
    done = calibrate("distortion", grids["fs"], "--plane", "bs")
    assert done.returncode == 2
    assert "its name states fs, but bs was requested" in done.stderr


def test_a_mirrored_grid_is_fitted_but_not_written(laboratory, grids, tmp_path):
    mirrored = tmp_path / grids["fs"].name
    assert cv2.imwrite(str(mirrored), np.flip(cv2.imread(str(grids["fs"]), cv2.IMREAD_UNCHANGED), 1))
    assert "NOT upright" in calibrate("distortion", mirrored).stdout
    database = next(laboratory.glob("*.db"))
    before = database.read_bytes()
    done = calibrate("distortion", grids["bs"], mirrored, "--write", laboratory)
    assert done.returncode == 2
    assert "error: fs: the phantom is rotated by" in done.stderr and "Nothing was written" in done.stderr
    assert database.read_bytes() == before


def test_distortions_are_written(laboratory, grids):
    own = {plane: laboratory / path.relative_to(path.parents[1]) for plane, path in grids.items()}
    done = calibrate("distortion", own["fs"], own["bs"], "--write", laboratory, "--json")
    assert done.returncode == 0, done.stderr
    documents = json.loads(done.stdout)
    assert {document["distortion_calibration_id"] for document in documents} == {9}
    archive = VeriserumArchive(laboratory)
    for document in documents:
        assert archive.distortions[9][document["plane"]].to_string() == document["distortion"]
    assert archive.distortion_trials[9] == archive.distortion_trials[2]


def test_writing_a_distortion_takes_both_planes(laboratory, grids, markers):
    database = next(laboratory.glob("*.db"))
    before = database.read_bytes()
    done = calibrate("distortion", grids["bs"], "--write", laboratory)
    assert done.returncode == 2
    assert f"error: --write takes one frame of each plane, bs and fs; found {grids['bs']} (bs)" in done.stderr
    done = calibrate("distortion", grids["bs"], markers["fs"][0], "--write", laboratory)
    assert done.returncode == 2
    assert "nothing was written: --write needs a fit of every frame" in done.stderr
    assert database.read_bytes() == before


def test_a_rig_is_found_written_and_used_under_the_new_id(laboratory, true_fs, trial):
    before = VeriserumArchive(laboratory)
    done = calibrate("rig", "--calibration-trial", trial, "--distortion-id", 2, "--write", laboratory)
    assert done.returncode == 0, done.stderr
    assert "written to" in done.stdout and "source_int_calibration id 6 (its fs pose: inter_plane_cal" in done.stdout
    for line in (
        "bs principal point   h ",
        "fs source distance   SID ",
        "fs centre            x ",
        "(nominal 360, 0,",
    ):
        assert line in done.stdout
    after = VeriserumArchive(laboratory)
    rig, stored = after.source_calibrations[6], before.source_calibrations[1]
    assert np.linalg.norm((rig["fs"].T_world_intensifier - true_fs)[:3, 3]) < 0.4
    assert angle_between_deg(rig["fs"].T_world_intensifier[:3, :3], true_fs[:3, :3]) < 0.1
    for plane in PLANES:
        np.testing.assert_allclose(rig[plane].principal_point_mm, stored[plane].principal_point_mm, atol=1.5)
        assert rig[plane].sid_mm == pytest.approx(stored[plane].sid_mm, abs=1.5)
    np.testing.assert_array_equal(after.source_calibrations[1]["fs"].T_world_intensifier, NOMINAL_T_WORLD_FS)
    assert after.source_trials[6] == after.source_trials[1]
    assert after.poses.equals(before.poses)


def test_a_rig_from_files_alone(grids, markers, true_fs):
    arguments = [*markers["fs"], *reversed(markers["bs"]), "--grid", grids["bs"], "--grid", grids["fs"], "--json"]
    done = calibrate("rig", *arguments)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["frames"], document["left_out"]) == (4, [])
    off_mm = np.array(document["fs_center_mm"]) - true_fs[:3, 3]
    assert (np.abs(off_mm) < 5 * np.array(document["fs_shift_std_mm"])).all()
    np.testing.assert_allclose(np.array(document["T_world_fs"])[:3, 3], document["fs_center_mm"])
    np.testing.assert_allclose(
        np.array(document["fs_center_mm"]) - NOMINAL_T_WORLD_FS[:3, 3], document["fs_shift_mm"], atol=1e-9
    )
    for plane in PLANES:
        assert document[plane].keys() == {
            "principal_point_mm",
            "principal_point_std_mm",
            "sid_mm",
            "sid_std_mm",
        }


def test_frames_that_have_no_partner_or_show_no_phantom_are_skipped(grids, markers, pristine_laboratory):
    arguments = [*markers["bs"], *markers["fs"][1:], grids["fs"]]
    done = calibrate("rig", *arguments, "--archive", pristine_laboratory, "--distortion-id", 2, "--json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert document["frames"] == 3
    left_out = {entry["frame"]: entry["error"] for entry in document["left_out"]}
    assert left_out.keys() == {str(markers["bs"][0]), str(grids["fs"])}
    assert "no usable frame of the other plane" in left_out[str(markers["bs"][0])]
    assert "spots are in the frame" in left_out[str(grids["fs"])]
    assert done.stderr.count("skipped: ") == 2


def test_a_source_is_found_with_a_distortion_from_a_file(markers, pristine_laboratory, tmp_path):
    archive = VeriserumArchive(pristine_laboratory)
    text = tmp_path / "fs.txt"
    text.write_text(archive.distortions[2]["fs"].to_string() + "\n")
    done = calibrate("source", *markers["fs"], "--distortion", text, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    stored = archive.source_calibrations[1]["fs"]
    off_mm = [*(np.array(document["principal_point_mm"]) - stored.principal_point_mm)]
    off_mm.append(document["sid_mm"] - stored.sid_mm)
    std_mm = [*document["principal_point_std_mm"], document["sid_std_mm"]]
    assert (np.abs(off_mm) < 5 * np.array(std_mm)).all()
    assert (document["plane"], document["frames"]) == ("fs", 4)
    assert 0 < document["markers_used"] <= document["markers_seen"]


def test_a_source_is_written_with_a_copy_of_the_other_plane(laboratory, trial):
    options = ["--calibration-trial", trial, "--plane", "bs", "--distortion-id", 2, "--write", laboratory]
    done = calibrate("source", *options)
    assert done.returncode == 2
    assert "error: --write also needs --source-id N" in done.stderr
    done = calibrate("source", *options, "--source-id", 3)
    assert done.returncode == 0, done.stderr
    assert "source_int_calibration id 6\n" in done.stdout
    archive = VeriserumArchive(laboratory)
    new, copied = archive.source_calibrations[6], archive.source_calibrations[3]
    assert (new["fs"].sid_mm, *new["fs"].principal_point_mm) == (
        copied["fs"].sid_mm,
        *copied["fs"].principal_point_mm,
    )
    assert new["bs"].sid_mm != copied["bs"].sid_mm
    assert archive.source_trials[6] == {"bs": trial, "fs": archive.source_trials[3]["fs"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["source", "{grid}", "--archive", "{root}", "--distortion-id", "2"], "no frame can be used, of 1 in all:"),
        (["source", "{bs}"], "give the distortion of the frames in one way"),
        (["source", "{bs}", "{fs}", "--grid", "{grid}"], "the frames are of both planes"),
        (["source", "{bs}", "--distortion-id", "2"], "--distortion-id 2 needs the archive that it is of"),
        (["source", "--archive", "{root}", "--distortion-id", "2"], "give either frames of the marker phantom, or"),
        (["source", "{bs}", "--distortion", "{bs}"], "it is not text in UTF-8"),
        (["source", "{bs}", "--distortion", "none.txt"], "none.txt: No such file or directory"),
        (["rig", "{bs}", "{bs}", "--archive", "{root}", "--distortion-id", "2"], "2 frames of bs have the number"),
        (
            ["rig", "{bs}", "{fs}", "--grid", "{grid}"],
            "of each plane is needed, bs and fs, each after its own --grid; found {grid} (bs)",
        ),
        (["rig", "{bs}", "{fs}", "--archive", "{root}", "--distortion-id", "3"], "calibration 3; there are 2, 5, 8"),
        (
            ["rig", "{bs}", "{fs}", "--archive", "{root}", "--distortion-id", "2", "--source-id", "9"],
            "no usable source calibration 9; there are 1, 3, 5",
        ),
        (
            ["rig", "--archive", "{root}", "--calibration-trial", "1", "--distortion-id", "2"],
            "there are 3 (sipla_grid",
        ),
        (["rig", "--calibration-trial", "1", "--distortion-id", "2"], "needs the archive that it is of"),
        (
            ["rig", "{bs}", "{fs}", "--archive", "{root}", "--write", "elsewhere"],
            "differ; ids must be of the archive",
        ),
        (["rig", "{bs}", "{fs}", "--archive", "nowhere", "--distortion-id", "2"], "there is nothing here"),
        (["distortion", "{grid}", "--report", "nowhere/page.png"], "expected a path that ends in .png in a folder"),
        (["distortion", "{grid}", "--report", "page.pdf"], "expected a path that ends in .png in a folder"),
    ],
)
def test_what_cannot_be_done_is_one_message(pristine_laboratory, grids, markers, arguments, message, refusal):
    places = {"root": pristine_laboratory, "grid": grids["bs"], "bs": markers["bs"][0], "fs": markers["fs"][0]}
    assert message.format(**places) in refusal(*(argument.format(**places) for argument in arguments))


def test_a_refusal_is_a_message_and_no_traceback(grids):
    done = calibrate("source", grids["bs"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: give the distortion of the frames in one way")
    assert "Traceback" not in done.stderr


def test_too_few_markers_are_refused(grids, markers, tmp_path, refusal):
    path = tmp_path / markers["bs"][0].name
    frame = cv2.imread(str(markers["bs"][0]), cv2.IMREAD_UNCHANGED)
    bright = int(np.median(frame[300:500, 300:500]))
    frame[:330], frame[470:] = bright, bright
    assert cv2.imwrite(str(path), frame)
    stderr = refusal("source", path, "--grid", grids["bs"])
    assert re.search(r"\d+ (round, dark )?spots are in the frame", stderr), stderr


def test_pages_are_drawn_in_addition_to_the_numbers(grids, markers, tmp_path):
    done = calibrate("distortion", *grids.values(), "--report", tmp_path / "page.png")
    assert done.returncode == 0, done.stderr
    done = calibrate(
        "rig", *markers["bs"][:2], *markers["fs"][:2], "--report", tmp_path / "rig.png",
        *(argument for grid in grids.values() for argument in ("--grid", grid)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {path.name for path in tmp_path.iterdir()}
    assert pages == {"rig.png", *(f"page_{path.stem}.png" for path in grids.values())}
    assert all(cv2.imread(str(path)) is not None for path in tmp_path.iterdir())


def test_no_page_takes_the_place_of_another(grids, tmp_path, refusal):
    again = tmp_path / grids["bs"].name
    again.write_bytes(grids["bs"].read_bytes())
    page = tmp_path / f"page_{again.stem}.png"
    stderr = refusal("distortion", grids["bs"], again, "--report", tmp_path / "page.png")
    assert f"the page of {again} would replace that of {grids['bs']}, both {page}" in stderr
    assert not page.exists()


def test_help_states_the_exit_status_and_what_is_written(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = calibrate("rig", "--help")
    help_text = " ".join(done.stdout.split())
    assert "Exit status: 0 done, 2 not done, 3 done but frames were skipped." in help_text
    assert "inter_plane_calibration, created if absent. The pose applies to the new id only" in help_text
