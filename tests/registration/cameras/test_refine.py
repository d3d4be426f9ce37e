"""Cameras of groups of frames: what is refined, what is left as it is, and what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.registration.scenes import displaced, transform
from veriserum_hf.calibration import RefinedCameras, read_refined_cameras, refined_cameras_json
from veriserum_hf.cli.app import app
from veriserum_hf.errors import RegistrationError
from veriserum_hf.registration import Tolerances, refine_cameras
from veriserum_hf.registration.cameras.observed import Observed
from veriserum_hf.registration.cameras.refine import refined_rig
from veriserum_hf.registration.cameras.unknowns import Rig, Unknowns
from veriserum_hf.registration.cameras.verdict import kept_rig
from veriserum_hf.registration.frame import Frame
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.inputs import views_of
from veriserum_hf.registration.outline.search import FINE
from veriserum_hf.reports import refined_cameras_page


def observed(row, meshes, off, count):
    """A frame several times from other initial poses, seen by cameras with these errors of fs."""
    implants = {
        name: Implant(row[name]["anatomy_id"], meshes[row[name]["anatomy_id"]]) for name in ("femur", "tibia")
    }
    views = views_of(row, ("bs", "fs"))
    rig = Rig({p: v.camera for p, v in views.items()}, {p: v.pixel_mm for p, v in views.items()}, np.zeros(3))
    unknowns = Unknowns(rig, [], ("fs-pose",), Tolerances())
    cameras = unknowns.cameras(np.pad(off, (0, len(unknowns.names) - len(off))))
    views = {plane: replace(view, camera=cameras[plane]) for plane, view in views.items()}
    for n in range(count):
        rng = np.random.default_rng(n)
        T = np.array([displaced(transform(row[name]), each.mesh, rng, 0.3, 0.3) for name, each in implants.items()])
        frame = Frame(views, implants, T)
        state = frame.outlines.solver(FINE).run(frame.outlines.initial_state(T), FINE.passes)
        yield Observed.of(n, n, frame, state)


def vectors(cells):
    """Displacements (8, 8, 2), NaN where there is no outline."""
    return np.array([[(np.nan, np.nan) if cell is None else cell for cell in row] for row in cells], float)


@pytest.fixture(scope="module")
def found(rows, coarse_meshes):
    frames = list(observed(rows[0], coarse_meshes, np.array([0, 0.3, 0, 0, 0, 0]), 10))
    return refined_rig("session 1", [1], frames, ("fs-pose",), Tolerances(), excluded=[77])


def test_frames_in_one_pose_determine_nothing_and_the_stored_cameras_stay(found):
    assert found.verdict == "not determined" and "one pose" in str(found.details["reason"])
    for plane, camera in found.after.items():
        np.testing.assert_array_equal(camera.world_to_camera, found.before[plane].world_to_camera)
    vertical = found.unknowns.index("fs shift y mm")
    assert found.estimate[vertical] == pytest.approx(-0.3, abs=0.05)


def test_details_state_what_the_images_alone_determine_and_residuals_before_and_after(found):
    details, vertical = found.details, found.unknowns.index("fs shift y mm")
    of_images, stated = details["image_standard_deviations"], details["standard_deviations"]
    assert 0 < of_images[vertical] < stated[vertical] < details["tolerances"][vertical] == 2
    assert details["sid_mm"].keys() == details["residual_fields"].keys() == {"bs", "fs"}
    squares = {
        state: sum(np.nansum(np.square(vectors(field[state]))) for field in details["residual_fields"].values())
        for state in ("before", "after")
    }
    assert 0 < squares["after"] < squares["before"]
    misfits = details["left_out_misfits_px"]
    assert len(misfits["before"]) == len(misfits["after"]) == len(details["frames"]) == 10


def test_the_page_has_verdict_reason_and_figures_and_is_one_file(found, tmp_path):
    """Also of the file that was written."""
    cameras = RefinedCameras((found,), "session")
    (tmp_path / "cameras.json").write_text(refined_cameras_json(cameras))
    page = refined_cameras_page(cameras, "OUT & more", {"initial poses": "refined"})
    read = read_refined_cameras(tmp_path / "cameras.json")
    assert page == refined_cameras_page(read, "OUT & more", {"initial poses": "refined"})
    words = re.sub(r"<[^>]*>", " ", page)
    for stated in ("not determined", "all frames show the implants in one pose", "OUT &amp; more", "77"):
        assert stated in words
    assert words.index("one pose") < words.index("Residual fields") < words.index("SHA-256 of the cameras")
    assert len(re.findall(r'<img src="data:image/svg\+xml;base64,', page)) == 5
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)


def test_time_between_planes_needs_two(rows, coarse_meshes):
    frames = list(observed(rows[0], coarse_meshes, np.zeros(6), 1)) * 10
    alone = [replace(each, views={"bs": each.views["bs"]}, levels={}) for each in frames]
    with pytest.raises(RegistrationError, match="session 1: the frames are of bs alone"):
        refined_rig("session 1", [1], alone, ("sid", "time"), Tolerances())


def test_time_between_planes_needs_frames_in_a_row(dataset):
    message = "session 1: 1 of 3 frames have poses of the frames right before and after them"
    with pytest.raises(RegistrationError, match=message):
        refine_cameras(str(dataset), free=("time",), frame_rate_hz=30.0)


def test_a_group_with_too_few_frames_keeps_its_cameras_in_a_file_and_a_page(rows, tmp_path):
    rig = kept_rig("session 2", [3], views_of(rows[0], ("bs", "fs")), Tolerances(plane_mm=1.0), "4 frames with poses")
    cameras = RefinedCameras((rig,), "session")
    (tmp_path / "cameras.json").write_text(refined_cameras_json(cameras))
    read = read_refined_cameras(tmp_path / "cameras.json")
    row = rows[0] | {"trial_id": 3}
    assert read.applied(row)["camera_fs"] == row["camera_fs"]
    assert read.rigs[0].plane_covariance[0, 0] == 1.0
    page = refined_cameras_page(read, "OUT", {})
    assert "4 frames with poses. The stored cameras stay." in page


def test_too_few_frames_are_refused(dataset):
    with pytest.raises(RegistrationError, match=r"session 1 has 3.* has \d; expected at least 10"):
        refine_cameras(str(dataset))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--free", "fs-pose,focus"], "--free has 'focus'; expected some of fs-pose, sid, principal-point, time"),
        (["--free", "time"], "needs the frame rate of the trials, which data sets do not hold; it is None"),
        (["--report", "page.png"], "--report page.png: expected a path that ends in .html in a folder that exists"),
        (["--per", "all"], "cameras of 2 sessions, which cannot be refined as one"),
    ],
)
def test_wrong_requests_are_named(dataset, tmp_path, options, message):
    output = tmp_path / "cameras.json"
    found = CliRunner().invoke(app, ["refine-cameras", str(dataset), "-o", str(output), *options])
    assert message in " ".join((found.stderr + str(found.exception)).split()) and not output.exists()
