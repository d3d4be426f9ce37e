"""The server: who may talk to it, what it survives, and that nothing leaves this machine."""

import http.client
import os
import signal
import subprocess
import time

import psutil
import pytest
from websockets.exceptions import InvalidStatus

from tests.app.servers import VERISERUM, serving
from tests.cli.commands import outcome
from veriserum_hf.poses import read_poses

# For a process that it is started with: whom it wanted to reach but this machine.
_WATCH = """
import os
import sys

with open({started!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")

def note(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", None, b"127.0.0.1"):
        with open({log!r}, "a") as file:
            file.write(f"{{event}} {{host}}\\n")
        raise OSError("nothing may leave this machine")

sys.addaudithook(note)
"""


@pytest.fixture
def server(trial, tmp_path):
    with serving(trial.dataset, "--poses", trial.near, "--output", tmp_path / "manual.parquet") as found:
        yield found


def get(server, path, **headers):
    connection = http.client.HTTPConnection(server.host)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), dict(answer.headers)


@pytest.mark.slow
def test_only_the_page_that_was_served_here_drives_it(server):
    with server.socket() as page:
        assert page.parts["frame"]["number"] == 1
    for refused in (
        {"origin": "http://elsewhere.example"},
        {"origin": f"http://127.0.0.1:{int(server.host.split(':')[1]) + 1}"},
        {"origin": "null"},
        {"host": "elsewhere.example", "origin": "http://elsewhere.example"},
        {"path": "/scene/socket", "origin": "http://elsewhere.example"},
    ):
        with pytest.raises(InvalidStatus) as status, server.socket(**refused):
            pass
        assert status.value.response.status_code == 403
    assert get(server, "/", Host="elsewhere.example")[0] == 403
    assert get(server, "/image/1/bs.png", Host="elsewhere.example")[0] == 403


@pytest.mark.slow
def test_pages_and_images_are_served_and_nothing_else(server):
    status, page, headers = get(server, "/")
    assert status == 200
    assert b"veriserum match" in page
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    with server.socket() as socket:
        measurement = socket.parts["frame"]["measurement_id"]
    status, image, headers = get(server, f"/image/{measurement}/bs.png")
    assert (status, headers["Content-Type"], image[:4]) == (200, "image/png", b"\x89PNG")
    for path in (
        "/page/../server.py",
        "/page/%2e%2e/server.py",
        "/image/999/bs.png",
        "/image/1/xs.png",
        "/etc/passwd",
    ):
        assert get(server, path)[0] == 404


@pytest.mark.slow
def test_with_a_token_nothing_but_the_empty_page_is_shown_without_it(trial, tmp_path):
    token = "0123456789abcdef"
    with serving(trial.dataset, "--output", tmp_path / "m.parquet", "--host", "0.0.0.0", "--token", token) as server:
        server.host = f"127.0.0.1:{server.host.split(':')[1]}"
        assert server.query == f"token={token}"
        with server.socket() as page:
            measurement = page.parts["frame"]["measurement_id"]
        assert get(server, "/")[0] == 200
        for query in ("", "token=", "token=0123456789abcdeX"):
            with pytest.raises(InvalidStatus), server.socket(query=query):
                pass
            assert get(server, f"/image/{measurement}/bs.png?{query}")[0] == 403
            assert get(server, f"/scene?{query}")[0] == 403
        assert get(server, f"/image/{measurement}/bs.png?token={token}")[0] == 200


def test_it_does_not_listen_elsewhere_without_a_token(trial, tmp_path):
    out = "--output", tmp_path / "m.parquet", "--no-browser"
    for options, why in (
        (("--host", "0.0.0.0"), "give a --token of at least 16 characters"),
        (("--host", "0.0.0.0", "--token", "short"), "the token has 5 characters"),
    ):
        status, _, error = outcome("match", trial.dataset, *out, *options)
        assert (status, why in error) == (2, True), error


@pytest.mark.slow
def test_what_was_accepted_survives_a_kill_and_a_second_server_is_refused(trial, tmp_path):
    output = tmp_path / "manual.parquet"
    with serving(trial.dataset, "--poses", trial.near, "--output", output, "--observer", "A. Reader") as server:
        with server.socket() as page:
            assert not page.do("nudge", plane="bs", move="up", step=1)
            assert not page.do("accept", both=True)
            second = subprocess.run(
                [VERISERUM, "match", trial.dataset, "--output", output, "--no-browser", "--port", "0"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert second.returncode == 2
            assert "is held by another `veriserum match`" in second.stderr
            accepted = page.parts["poses"]["own"]["femur"]["translation_mm"]
        server.kill()
    assert len(read_poses(output)) == 2
    with serving(trial.dataset, "--poses", trial.near, "--output", output) as server, server.socket() as page:
        assert page.parts["trial"]["accepted"] == 2
        assert page.parts["frame"]["number"] == 2
        assert not page.do("step", by=-1)
        assert page.parts["poses"]["own"]["femur"]["translation_mm"] == pytest.approx(accepted, abs=1e-4)
        assert page.parts["poses"]["own"]["femur"]["accepted"]


@pytest.mark.slow
def test_two_pages_share_one_session_and_one_that_goes_away_in_mid_drag_loses_nothing(server):
    with server.socket() as stays:
        with server.socket() as goes:
            center = goes.parts["poses"]["own"]["femur"]["center_px"]["bs"]
            drag = {"plane": "bs", "mode": "shift", "name": "x", "from": center}
            for by in (5, 10):
                assert not goes.do("drag", **drag, to=[center[0] + by, center[1]])
        while stays.parts["poses"]["undo"] != 1:  # the drag has ended as one change
            stays.receive()
        moved = stays.parts["poses"]["own"]["femur"]["center_px"]["bs"]
        assert moved == pytest.approx([center[0] + 10, center[1]], abs=0.02)
        assert not stays.do("undo")
        assert stays.parts["poses"]["own"]["femur"]["center_px"]["bs"] == pytest.approx(center, abs=0.02)


@pytest.mark.slow
def test_a_page_does_not_move_or_accept_what_another_page_has_turned_to(server, tmp_path):
    with server.socket() as one, server.socket() as other:
        first, center = one.parts["frame"]["measurement_id"], one.parts["poses"]["own"]["femur"]["center_px"]["bs"]
        drag = {"plane": "bs", "mode": "shift", "name": "x", "from": center, "frame": first}
        assert not one.do("drag", **drag, to=[center[0] + 10, center[1]])
        assert not other.do("step", by=1)
        second = other.parts["poses"]["own"]
        assert "nothing was changed" in one.do("drag", **drag, to=[center[0] + 20, center[1]])
        assert "nothing was changed" in one.do("accept", both=True, frame=first)
        assert "nothing was changed" in one.do("refine", both=True, frame=first)
        assert one.parts["poses"]["own"] == second
        assert not (tmp_path / "manual.parquet").exists()
        assert not other.do("step", by=-1)
        moved = other.parts["poses"]["own"]["femur"]["center_px"]["bs"]
        assert moved == pytest.approx([center[0] + 10, center[1]], abs=0.02)


@pytest.mark.slow
def test_a_registration_whose_process_is_killed_changes_nothing_and_can_be_begun_again(server):
    with server.socket() as page:
        before = page.parts["poses"]["own"]
        assert not page.do("refine", trial=True)
        while page.parts["refining"]["done"] < 1:
            page.receive()
        for process in psutil.Process(server.process.pid).children():
            if "spawn_main" in " ".join(process.cmdline()):
                process.kill()
        while not page.said:
            page.receive()
        assert "the registration's process was killed; refine again" in page.said[0]
        assert page.parts["poses"]["own"] == before
        assert not page.do("refine")
        while page.parts["refining"]["what"] is not None:
            page.receive()
        assert page.parts["poses"]["own"]["femur"]["registered"]["verdict"] == "converged"


@pytest.mark.slow
def test_an_interrupt_ends_a_registration_that_is_under_way_and_all_processes(trial, server):
    with server.socket() as page:
        assert not page.do("refine", trial=True)
        while page.parts["refining"]["done"] < 1:
            page.receive()
        processes = psutil.Process(server.process.pid).children(recursive=True)
        assert processes
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
    assert not psutil.wait_procs(processes, timeout=10)[1]
    said = server.process.stderr.read()
    assert said.startswith(f"opening {trial.dataset}: reading its frames and implants ...")
    assert "Traceback" not in said


@pytest.mark.slow
def test_what_is_no_message_is_answered_in_words(server):
    with server.socket() as page:
        for text in ("", "{", "[]", '"drag"', "[" * 50_000, '{"do": "nudge", "number": 7}'):
            page.socket.send(text)
            while "done" not in (answer := page.receive()):
                pass
            assert "reload" in answer["error"]
        page.socket.send(b"\xff\x00")
        while "done" not in (answer := page.receive()):
            pass
        assert "reload" in answer["error"]
        assert not page.do("nudge", plane="fs", move="down", step=0.1)


@pytest.mark.slow
def test_a_trial_is_refined_and_the_page_stays_alive_meanwhile(trial, server):
    with server.socket() as page:
        assert not page.do("refine", trial=True)
        assert "under way" in page.do("refine")
        while page.parts["refining"]["done"] < 1:
            page.receive()
        started = time.monotonic()
        assert not page.do("step", by=1)
        assert time.monotonic() - started < 5
        assert not page.do("stop")
        while page.parts["refining"]["what"] is not None:
            page.receive()
        while not page.said:
            page.receive()
        assert "stopped, nothing was changed" in page.said[0]
        assert not page.do("refine", both=True)
        while page.parts["refining"]["what"] is not None:
            page.receive()
        assert page.parts["poses"]["own"]["femur"]["registered"]["verdict"] == "converged"


@pytest.mark.slow
def test_nothing_leaves_this_machine(trial, tmp_path):
    """Whom the server wants to reach, from its start to a registration and the 3-D scene, is denied and noted."""
    log, started = tmp_path / "reached", tmp_path / "started"
    (tmp_path / "sitecustomize.py").write_text(_WATCH.format(log=str(log), started=str(started)))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with serving(
        trial.dataset, "--poses", trial.near, "--output", tmp_path / "m.parquet", PYTHONPATH=path, HF_HUB_OFFLINE="0"
    ) as server:
        assert get(server, "/scene")[0] == 200
        with server.socket() as page:
            assert not page.do("refine")
            while page.parts["refining"]["what"] is not None:
                page.receive()
            assert page.parts["poses"]["own"]["femur"]["registered"]
            assert not page.do("accept")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
    assert len(set(started.read_text().split())) >= 2  # the server, and the process that registers
    assert not log.exists(), log.read_text()


def test_wrong_files_are_one_message(trial, tmp_path):
    nothing, folder = tmp_path / "nothing.parquet", tmp_path / "folder"
    folder.mkdir()
    for options, why in (
        (("--poses", nothing), "there is no file"),
        (("--output", folder), "--output needs a file in a folder that exists"),
        (("--output", tmp_path / "missing" / "m.parquet"), "--output needs a file in a folder that exists"),
        (("--check", trial.near), "cannot be read as the output of `veriserum check-labels`"),
        (("--output", trial.near), "holds other poses"),
    ):
        arguments = {"--output": tmp_path / "m.parquet", options[0]: options[1]}
        status, _, error = outcome(
            "match", trial.dataset, "--no-browser", *(x for item in arguments.items() for x in item)
        )
        assert (status, why in error) == (2, True), error
