"""A person's work on a trial: frames, moves, undo, acceptance, and going on after whatever happened."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.fixtures.other_cameras import one_plane
from tests.jobs.processes import small_disk
from veriserum_hf.app.commands import do
from veriserum_hf.app.document import Document
from veriserum_hf.app.own_pose import transform_of
from veriserum_hf.app.session import Session
from veriserum_hf.app.shapes import Shapes
from veriserum_hf.app.timeline import marks, needs_work
from veriserum_hf.app.trials import OpenFrame, Trials
from veriserum_hf.errors import MatchError
from veriserum_hf.geometry import Camera
from veriserum_hf.poses import MANUAL_SCHEMA, read_poses


def nudge(session, move="right", step=1.0, plane="bs"):
    do(session, {"do": "nudge", "plane": plane, "move": move, "step": step})


def center_px(session, plane, component=None):
    own = session.own[component or session.selected]
    center_mm = own.T_world_implant[:3, :3] @ session.shapes[own.anatomy_id].center_mm + own.T_world_implant[:3, 3]
    return session.frame.views[plane].camera.project(center_mm)


def drag(session, by, plane="bs", name="one", mode="shift"):
    start = center_px(session, plane) if mode == "shift" else center_px(session, plane) + (40, 0)
    message = {"do": "drag", "plane": plane, "mode": mode, "name": name, "from": start.tolist()}
    do(session, message | {"to": (start + by).tolist()})


def test_a_drag_in_one_image_is_seen_in_the_other_where_the_cameras_say(opened):
    session = opened()
    before = session.own["femur"].T_world_implant
    drag(session, (30.0, -12.0), plane="fs")
    views = session.frame.views
    shift_mm = session.own["femur"].T_world_implant[:3, 3] - before[:3, 3]
    camera = views["fs"].camera
    assert camera.world_to_camera[2, :3] @ shift_mm == pytest.approx(0, abs=1e-9)
    shape = session.shapes[session.own["femur"].anatomy_id]
    outline = np.concatenate(shape.contours(session.own["femur"].T_world_implant, views["bs"]))
    corners = shape.meshes.fine.vertices @ before[:3, :3].T + before[:3, 3] + shift_mm
    seen = views["bs"].camera.project(corners)
    np.testing.assert_allclose(outline.min(axis=0), seen.min(axis=0), atol=0.5)
    np.testing.assert_allclose(outline.max(axis=0), seen.max(axis=0), atol=0.5)


def test_one_drag_is_one_step_to_undo_and_what_was_undone_can_be_made_again(opened):
    session = opened()
    first = session.own["femur"].T_world_implant.copy()
    for by in (1, 5, 20):
        drag(session, (by, 0))
        drag_end = session.own["femur"].T_world_implant.copy()
    do(session, {"do": "drop"})
    nudge(session, "tilt up", 0.1)
    do(session, {"do": "undo"})
    np.testing.assert_array_equal(session.own["femur"].T_world_implant, drag_end)
    do(session, {"do": "undo"})
    np.testing.assert_array_equal(session.own["femur"].T_world_implant, first)
    with pytest.raises(MatchError, match="nothing more"):
        do(session, {"do": "undo"})
    do(session, {"do": "redo"})
    np.testing.assert_array_equal(session.own["femur"].T_world_implant, drag_end)


def test_a_drag_that_something_else_has_ended_moves_nothing_any_more(opened):
    session = opened()
    drag(session, (10, 0), name="one")
    nudge(session, "up")
    shown = session.own["femur"].T_world_implant.copy()
    with pytest.raises(MatchError, match="the drag was ended"):
        drag(session, (20, 0), name="one")
    np.testing.assert_array_equal(session.own["femur"].T_world_implant, shown)
    drag(session, (3, 0), name="two")
    do(session, {"do": "drop", "name": "one"})
    drag(session, (6, 0), name="two")
    do(session, {"do": "drop", "name": "two"})
    assert len(session.history.past) == 3


def test_what_was_meant_for_a_frame_does_not_change_the_one_that_another_page_went_to(opened):
    session = opened()
    first = session.place.measurement_id
    do(session, {"do": "step", "by": 1, "frame": first})
    before = dict(session.own)
    accept, up = {"do": "accept", "both": True}, {"do": "nudge", "plane": "bs", "move": "up", "step": 1}
    for message in (accept, up):
        with pytest.raises(MatchError, match="nothing was changed; look at it"):
            do(session, message | {"frame": first})
    assert session.own == before
    assert not session.saved.ids()
    do(session, accept | {"frame": session.place.measurement_id})
    assert session.saved.ids() == [session.place.measurement_id]
    do(session, {"do": "step", "by": 1, "frame": first})  # keys that are pressed faster than frames are shown


@pytest.mark.slow
def test_a_large_mesh_is_prepared_elsewhere_and_its_implant_can_be_moved_meanwhile(opened, trial, trials):
    dense = {id: mesh.subdivide().subdivide() for id, mesh in trials.source.meshes.items()}
    assert min(len(mesh.faces) for mesh in dense.values()) > 30_000
    session = opened()
    expected = Document(session).poses()["own"]
    large = Trials.open(str(trial.dataset))
    large.shapes = Shapes(dense)
    session = Session(large, session.sources, session.saved, session.observer)
    prepared = threading.Semaphore(0)
    session.shapes.changed = prepared.release
    document = Document(session)
    for name, own in document.poses()["own"].items():
        assert "is being prepared: its mesh has" in own["problem"]
        assert own["center_px"] == expected[name]["center_px"]
        assert not own["outlines"]
    nudge(session)
    do(session, {"do": "undo"})
    for _ in range(2):
        assert prepared.acquire(timeout=300)
    for name, own in document.poses()["own"].items():
        assert not own["problem"]
        for plane in ("bs", "fs"):
            shown, exact = (np.concatenate(each["outlines"][plane]) for each in (own, expected[name]))
            np.testing.assert_allclose(shown.max(axis=0), exact.max(axis=0), atol=0.3)
    session.shapes.close()


def test_femur_and_tibia_move_apart(opened):
    session = opened()
    femur, tibia = (session.own[name].T_world_implant.copy() for name in ("femur", "tibia"))
    do(session, {"do": "select", "component": "tibia"})
    do(session, {"do": "wheel", "plane": "fs", "mm": -1})
    np.testing.assert_array_equal(session.own["femur"].T_world_implant, femur)
    assert np.linalg.norm(session.own["tibia"].T_world_implant[:3, 3] - tibia[:3, 3]) == pytest.approx(1)


def test_numbers_can_be_typed(opened):
    session = opened()
    shown = Document(session).poses()["own"]["femur"]
    typed = [shown["translation_mm"][0] + 2.5, *shown["translation_mm"][1:]]
    do(session, {"do": "numbers", "mm": typed, "deg": shown["rz_rx_ry_deg"]})
    assert Document(session).poses()["own"]["femur"]["translation_mm"] == pytest.approx(typed)
    with pytest.raises(MatchError, match="finite"):
        do(session, {"do": "numbers", "mm": [float("nan"), 0, 0], "deg": [0, 0, 0]})


def test_an_implant_never_reaches_a_source(opened):
    session = opened()
    before = session.own["femur"].T_world_implant.copy()
    with pytest.raises(MatchError, match="would reach the X-ray source; it stays"):
        for _ in range(20):
            do(session, {"do": "wheel", "plane": "bs", "mm": -900})
    assert session.own["femur"].T_world_implant[2, 3] < 2000
    assert not np.array_equal(session.own["femur"].T_world_implant, before)


def test_an_accepted_pose_is_in_the_file_with_who_and_when(opened):
    session = opened("B. Reader")
    nudge(session)
    do(session, {"do": "accept"})
    table = read_poses(opened.path)
    assert table.schema.names == MANUAL_SCHEMA.names
    (row,) = table.to_pylist()
    assert (row["kind"], row["method"], row["observer"]) == ("manual", "manual", "B. Reader")
    assert (row["verdict"], row["start"], row["component"]) == ("not assessed", "near", "femur")
    assert timedelta() <= datetime.now(UTC) - row["accepted_utc"] < timedelta(hours=1)
    np.testing.assert_allclose(transform_of(row), session.own["femur"].T_world_implant, atol=1e-12)
    do(session, {"do": "accept", "both": True})
    assert len(read_poses(opened.path)) == 2


def test_opening_again_goes_on_at_the_first_frame_without_a_pose(opened):
    session = opened()
    nudge(session)
    accepted = session.own["femur"].T_world_implant.copy()
    do(session, {"do": "accept", "both": True})
    again = opened()
    assert again.place.frame_index == session.place.frame_index + 1
    again.go_to(session.place)
    np.testing.assert_allclose(again.own["femur"].T_world_implant, accepted, atol=1e-12)
    assert Document(again).poses()["own"]["femur"]["accepted"]
    nudge(again)
    assert not Document(again).poses()["own"]["femur"]["accepted"]


def test_the_next_frame_begins_with_the_correction_of_its_neighbour(opened):
    """The motion is that of the given poses; their error is that of the neighbour, in the implant's frame."""
    session = opened()
    first, given = session.place, session.sources[0].frames
    nudge(session, "left", 1.0)
    nudge(session, "turn left", 1.0)
    session.accept(["femur"])
    correction = (
        np.linalg.inv(transform_of(given[first.measurement_id]["femur"])) @ session.own["femur"].T_world_implant
    )
    session.step(1)
    own, here = session.own["femur"], given[session.place.measurement_id]
    np.testing.assert_allclose(own.T_world_implant, transform_of(here["femur"]) @ correction, atol=1e-9)
    assert own.start == "near with the correction of frame 0"
    np.testing.assert_allclose(session.own["tibia"].T_world_implant, transform_of(here["tibia"]), atol=1e-12)


def test_without_given_poses_the_next_frame_begins_where_its_neighbour_was_accepted(opened):
    session = opened()
    nudge(session, "left", 1.0)
    session.accept(["femur"])
    accepted = session.own["femur"].T_world_implant.copy()
    session.sources = []
    session.step(1)
    np.testing.assert_allclose(session.own["femur"].T_world_implant, accepted, atol=1e-12)
    assert session.own["femur"].start == "frame 0"
    assert "tibia" not in session.own


def test_a_full_disk_accepts_nothing_and_loses_nothing(opened):
    session = opened()
    do(session, {"do": "accept"})
    before = opened.path.read_bytes()
    with small_disk(1000), pytest.raises(MatchError, match="cannot write"):
        do(session, {"do": "accept", "both": True})
    assert opened.path.read_bytes() == before
    assert list(session.saved.of_frame(session.place.measurement_id)) == ["femur"]
    do(session, {"do": "accept", "both": True})
    assert len(read_poses(opened.path)) == 2


def test_a_file_is_held_by_one_process(opened):
    opened()
    script = f"""
from pathlib import Path
from veriserum_hf.app.saved import held
with held(Path({str(opened.path)!r}), {{}}):
    pass
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "is held by another `veriserum match`" in done.stderr
    opened.close()
    assert not subprocess.run([sys.executable, "-c", script], check=False).returncode


def test_other_poses_are_never_overwritten(opened, trial, tmp_path):
    copy = tmp_path / "registered.parquet"
    copy.write_bytes(trial.near.read_bytes())
    with pytest.raises(MatchError, match="holds other poses than `veriserum match` writes; it was not changed"):
        opened(path=copy)
    assert copy.read_bytes() == trial.near.read_bytes()


def test_what_another_program_has_written_to_the_file_is_not_overwritten(opened, trial, tmp_path):
    session = opened()
    do(session, {"do": "accept"})
    opened.path.write_bytes(trial.near.read_bytes())
    with pytest.raises(MatchError, match=r"another program has changed .*: nothing was accepted"):
        do(session, {"do": "accept", "both": True})
    assert opened.path.read_bytes() == trial.near.read_bytes()
    assert len(session.saved) == 1
    opened.path.rename(tmp_path / "elsewhere.parquet")
    do(session, {"do": "accept", "both": True})
    assert len(read_poses(opened.path)) == 2


def registered(session, component, verdict="converged", shift_mm=0.0, place=None):
    place = place or session.place
    own = session.own_of(place)[component]
    pose = own.as_row()
    pose["translation_mm"][0] += shift_mm
    return pose | place.ids() | {"component": component, "verdict": verdict, "method": "outline", "score": 0.9}


def test_a_registration_is_taken_over_unless_it_failed_or_the_implant_was_moved_meanwhile(opened):
    session = opened()
    starts = session.starts([session.place])
    good, failed = registered(session, "femur", shift_mm=2.0), registered(session, "tibia", "failed", 3.0)
    before = session.own["tibia"].T_world_implant.copy()
    assert session.apply([good, failed], starts, ["femur", "tibia"]) == 0
    assert session.own["femur"].registered["score"] == 0.9
    np.testing.assert_array_equal(session.own["tibia"].T_world_implant, before)
    session.accept(["femur"])
    (row,) = read_poses(opened.path).to_pylist()
    assert (row["method"], row["verdict"], row["score"]) == ("outline", "converged", 0.9)

    starts = session.starts([session.place])
    again = registered(session, "femur", shift_mm=2.0)
    nudge(session)
    moved = session.own["femur"].T_world_implant.copy()
    assert session.apply([again], starts, ["femur"]) == 1
    np.testing.assert_array_equal(session.own["femur"].T_world_implant, moved)


def test_a_registration_of_the_whole_trial_leaves_accepted_poses_of_other_frames(opened):
    session = opened()
    do(session, {"do": "accept", "both": True})
    first = session.place
    session.step(1)
    places = session.trials.of_trial[first.trial_id]
    starts = session.starts(places)
    rows = [registered(session, "femur", shift_mm=1.0, place=place) for place in places]
    session.apply(rows, starts, ["femur", "tibia"])
    session.go_to(first)
    assert session.own["femur"].T_world_implant[0, 3] == pytest.approx(
        starts[first.measurement_id]["femur"]["translation_mm"][0]
    )
    session.step(2)
    shifted = starts[session.place.measurement_id]["femur"]["translation_mm"][0] + 1
    assert session.own["femur"].T_world_implant[0, 3] == pytest.approx(shifted)


def test_flagged_frames_are_found_until_they_are_accepted(opened):
    session = opened()
    places = session.trials.of_trial[session.place.trial_id]
    session.flagged = frozenset({places[3].measurement_id})
    starts = session.starts([places[6]])
    session.apply([registered(session, "tibia", "ambiguous", place=places[6])], starts, ["tibia"])
    assert [mark.flagged for mark in marks(session, places[0].trial_id)] == [n in (3, 6) for n in range(10)]
    do(session, {"do": "next flagged"})
    assert session.place == places[3]
    do(session, {"do": "accept", "both": True})
    assert not needs_work(session, places[3])
    do(session, {"do": "next flagged"})
    assert session.place == places[6]
    do(session, {"do": "accept", "both": True})
    with pytest.raises(MatchError, match="no other frame is flagged"):
        do(session, {"do": "next flagged"})


def test_residuals_are_how_far_the_poses_of_a_frame_are_apart(opened):
    session = opened()
    for mark in marks(session, session.place.trial_id):
        assert 4 < mark.residual_mm < 8  # of the label, and of one that is 5 mm off


def test_a_frame_of_one_plane_is_matched_in_it(opened, trials):
    session = opened()
    row = next(trials.frames([session.place]).read())
    session.frame = OpenFrame.of_row(session.place, one_plane(row))
    shown = Document(session).frame()
    assert list(shown["planes"]) == ["bs"]
    assert not shown["problem"]
    drag(session, (5, 5))
    with pytest.raises(MatchError, match="no image of fs"):
        nudge(session, plane="fs")


def test_a_plane_without_image_is_said_and_the_other_is_shown(opened, trials):
    session = opened()
    row = next(trials.frames([session.place]).read())
    session.frame = OpenFrame.of_row(session.place, row | {"image_fs": None})
    shown = Document(session).frame()
    assert list(shown["planes"]) == ["bs"]
    assert "no image_fs" in shown["problem"]
    do(session, {"do": "accept"})
    session.frame = OpenFrame.of_row(session.place, row | {"image_bs": None, "image_fs": None})
    assert "no image_bs" in Document(session).frame()["problem"]
    with pytest.raises(MatchError, match="shows no image that a pose could be compared with; nothing was accepted"):
        do(session, {"do": "accept", "both": True})
    assert len(session.saved) == 1


def test_an_implant_without_a_pose_is_placed_where_the_images_meet(opened):
    session = opened()
    del session.own["tibia"]
    session.history.keep(session.own)
    with pytest.raises(MatchError, match="no pose of a tibia"):
        do(session, {"do": "select", "component": "tibia"})
    do(session, {"do": "place", "component": "tibia", "anatomy_id": 3})
    assert session.selected == "tibia"
    for plane, view in session.frame.views.items():
        assert np.linalg.norm(center_px(session, plane) - (view.columns_rows - 1) / 2) < 30
    with pytest.raises(MatchError, match="no tibia 99"):
        do(session, {"do": "place", "component": "tibia", "anatomy_id": 99})


@pytest.mark.parametrize(
    "message",
    [None, [], "drag", {"do": "format"}, {"do": "nudge"}, {"do": "nudge", "plane": "bs", "move": "up", "step": "x"},
     {"do": "drag", "plane": "xy", "mode": "shift", "name": "a", "from": [0, 0], "to": [1, 1]},
     {"do": "drag", "plane": "bs", "mode": "shift", "name": "a", "from": [0, None], "to": [1, 1]},
     {"do": "wheel", "plane": "bs", "mm": 1e9}, {"do": "go to", "measurement_id": -5},
     {"do": "trial", "trial_id": {}}],
)  # fmt: skip
def test_what_is_no_message_of_the_page_changes_nothing(opened, message):
    session = opened()
    before = dict(session.own)
    with pytest.raises(MatchError, match="reload"):
        do(session, message)
    assert session.own == before
    assert not session.history.past


def test_cameras_are_those_of_the_rows(opened, trials):
    session = opened()
    row = next(trials.frames([session.place]).read())
    for plane, view in session.frame.views.items():
        np.testing.assert_array_equal(view.camera.intrinsics, Camera.from_row(row[f"camera_{plane}"]).intrinsics)
