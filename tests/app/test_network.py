"""Implants placed by a network: a tiny one that has learned nothing, so its poses are like no others."""

import pytest

from tests.app.browsers import Page, browser, needs_chromium
from tests.app.servers import serving
from tests.cli.commands import outcome
from tests.fixtures.made_once import made_once
from tests.registration.sources import save_untrained
from veriserum_hf.app.commands import do
from veriserum_hf.app.prediction import Predictor
from veriserum_hf.poses import poses_by_frame, read_poses


@pytest.fixture(scope="module")
def model(trials, tmp_path_factory):
    return made_once(tmp_path_factory, "network_to_match", lambda folder: save_untrained(trials.source, folder))


@pytest.fixture(scope="module")
def expected(trials, model):
    """Poses of the network by measurement id and component."""
    return Predictor(trials, str(model)).poses()


def at(pose):
    return pytest.approx(pose["translation_mm"], abs=1e-3)


def test_an_implant_without_a_pose_gets_one_and_one_that_was_moved_meanwhile_stays(opened):
    session = opened()
    session.sources = []
    session.go_to(session.place)
    assert not session.own
    starts = session.starts([session.place])
    ids = session.place.ids() | {"verdict": "not assessed"}
    (femur, *_), (tibia, *_) = map(list, map(session.trials.anatomies, ("femur", "tibia")))
    rows = [
        ids
        | {"component": name, "anatomy_id": id, "translation_mm": [x, 0.0, 0.0], "quaternion_xyzw": [0, 0, 0, 1.0]}
        for name, id, x in (("femur", femur, 1.0), ("tibia", tibia, 2.0))
    ]
    assert session.apply(rows, starts, ["femur", "tibia"], "model run") == 0
    assert [own.T_world_implant[0, 3] for own in session.own.values()] == [1.0, 2.0]
    assert session.own["tibia"].start == "model run"
    assert not session.verdicts
    do(session, {"do": "undo"})
    assert not session.own

    do(session, {"do": "place", "component": "femur", "anatomy_id": femur})
    placed = session.own["femur"]
    assert session.apply(rows, starts, ["femur", "tibia"], "model run") == 1
    assert session.own["femur"] == placed
    assert session.own["tibia"].T_world_implant[0, 3] == 2.0


@pytest.mark.slow
def test_a_frame_and_a_trial_are_placed_and_accepted_poses_of_other_frames_stay(trial, model, expected, tmp_path):
    output = tmp_path / "manual.parquet"
    with (
        serving(trial.dataset, "--poses", trial.near, "--model", model, "--output", output) as server,
        server.socket() as page,
    ):
        assert page.parts["about"]["model"] == str(model)
        first, before = page.parts["frame"]["measurement_id"], page.parts["poses"]["own"]

        def predict(**message):
            assert not page.do("predict", **message)
            while page.parts["refining"]["what"] is not None:
                page.receive()
            return page.parts["poses"]["own"]

        assert predict().keys() == {"femur", "tibia"}
        for name, own in page.parts["poses"]["own"].items():
            assert own["translation_mm"] == at(expected[first][name])
            assert own["start"] == f"model {model.name}"
        assert not page.do("undo")
        assert page.parts["poses"]["own"] == before
        assert not page.do("accept")

        assert not page.do("step", by=1)
        second = page.parts["frame"]["measurement_id"]
        own = predict(trial=True)
        assert {name: own[name]["translation_mm"] for name in own} == {
            name: at(pose) for name, pose in expected[second].items()
        }
        assert not page.do("accept")
        assert page.said == [f"trial {page.parts['frame']['trial_id']}: 20 poses"]
        assert not page.do("step", by=-1)
        own = page.parts["poses"]["own"]
        assert own["femur"]["translation_mm"] == before["femur"]["translation_mm"]
        assert own["tibia"]["translation_mm"] == at(expected[first]["tibia"])
    accepted = poses_by_frame(read_poses(output))
    assert accepted[second]["femur"]["start"] == f"model {model.name}"
    assert accepted[second]["femur"]["method"] == "manual"


@pytest.mark.slow
@needs_chromium
def test_a_button_and_a_key_for_a_network_are_there_where_there_is_one(trial, model, expected, tmp_path):
    with browser() as chromium:
        with serving(trial.dataset, "--output", tmp_path / "none.parquet") as server:
            page = Page(chromium, server.address)
            assert not page.page.is_visible("#predict")
            page.press("p")
            assert not page.message()
            page.page.close()
            with server.socket() as socket:
                assert "start `veriserum match` with --model" in socket.do("predict")
        with serving(trial.dataset, "--model", model, "--output", tmp_path / "manual.parquet") as server:
            page = Page(chromium, server.address)
            before = page.own("femur")["translation_mm"]
            page.page.click("#predict")
            page.until("workbench.state.poses.own.femur.start.startsWith('model')")
            for name in ("femur", "tibia"):
                assert page.own(name)["translation_mm"] == at(expected[page.measurement][name])
            page.press("Control+z")
            assert page.own("femur")["translation_mm"] == before
            page.press("p")
            page.until("workbench.state.poses.own.femur.start.startsWith('model')")
            page.press(".")
            page.page.click("#predict-trial")
            page.until("document.querySelector('#message').textContent.includes('20 poses')")
            assert page.own("tibia")["translation_mm"] == at(expected[page.measurement]["tibia"])
            assert not page.errors, page.errors
            page.page.close()


def test_a_model_that_is_none_or_of_other_implants_is_one_message(trial, tmp_path):
    options = "match", trial.dataset, "--no-browser", "--output", tmp_path / "m.parquet"
    status, _, error = outcome(*options, "--model", tmp_path)
    assert (status, "holds no model: there is no config.json" in error) == (2, True), error
