"""The Space: what its image is built with, and its pages for anybody, in a real process and a real browser."""

import base64
import hashlib
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.app.browsers import Page, browser, needs_chromium, until
from tests.app.servers import VERISERUM, Server
from tests.training.processes import ROOT
from tests.training.runs import settings_file

SPACE = ROOT / "space"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Data set and model as the image's build makes them, with a smaller network and fewer frames to train on."""
    folder = tmp_path_factory.mktemp("space")
    data, model = folder / "data", folder / "model"
    model.mkdir()
    config = settings_file(folder / "tiny.yaml", max_train_steps=2)
    environment = os.environ | {"PATH": f"{VERISERUM.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([SPACE / "build.sh", data, model, config, "2", "4", "200"], check=True, env=environment)
    assert sorted(path.name for path in model.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    return data, model


@contextmanager
def space(built, folder):
    """The Space's process, in an empty folder."""
    command = [sys.executable, SPACE / "app.py", *built, "--port", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=(folder.parent / "log").open("w"),
        text=True,
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder)},
    ) as process:
        try:
            yield Server(process)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.fixture
def server(built, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    before = sums(built)
    with space(built, folder) as found:
        yield found
        assert not [path for path in folder.rglob("*") if path.is_file()]
    assert sums(built) == before


def sums(folders):
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def image_file(server, plane, measurement=1):
    connection = http.client.HTTPConnection(server.host)
    connection.request("GET", f"/image/{measurement}/{plane}.png")
    return connection.getresponse().read()


@contextmanager
def asking(server):
    """A socket as the page of predictions opens it, and what it is first sent."""
    with connect(f"ws://{server.host}/predict/socket", max_size=None) as socket:
        yield socket, json.loads(socket.recv(60))


def ask(socket, images, measurement=1):
    socket.send(json.dumps({"measurement_id": measurement, "images": images}))
    return json.loads(socket.recv(120))


@needs_chromium
def test_predictions_of_frames_and_files_and_a_session_for_each_page(server, tmp_path):
    with browser() as chromium:
        page, errors, asked = chromium.new_page(), [], []
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.address)
        until(page, "predictions.frames.length === 12 && !predictions.busy")
        page.select_option("#frame", index=3)
        page.click("#predict")
        until(page, "predictions.implants && !predictions.busy")
        until(page, "document.querySelector('#overlay').naturalWidth === 1800")
        rows = page.locator("#poses tbody tr")
        assert rows.count() == 2
        assert "°" in rows.first.text_content() and "unknown" not in rows.first.text_content()
        of_frame = page.evaluate("() => predictions.implants.map((each) => each.translation_mm)")

        # The same images as files: the same poses, and no label to compare them with.
        for plane in ("bs", "fs"):
            with page.expect_download() as download:
                page.click(f"figure:has(#{plane}) a")
            download.value.save_as(tmp_path / f"{plane}.png")
            page.set_input_files(f"#file-{plane}", tmp_path / f"{plane}.png")
        page.click("#predict-files")
        until(page, "!predictions.busy && predictions.implants[0].off_mm === undefined")
        assert page.evaluate("() => predictions.implants.map((each) => each.translation_mm)") == of_frame

        page.select_option("#frame", index=4)  # nothing of another frame is shown beside its images
        assert not page.is_visible("#overlay") and not page.is_visible("#poses")

        (tmp_path / "large.png").write_bytes(b"\x89PNG" + bytes(1_000_001))
        page.set_input_files("#file-fs", tmp_path / "large.png")
        page.click("#predict-files")
        until(page, "document.querySelector('#message').textContent.includes('at most 1,000,000 are taken')")
        page.click("text=match by hand")
        until(page, "window.workbench?.state.poses")

        one, other = (Page(chromium, f"{server.address}match") for _ in range(2))
        assert not one.page.is_visible("#open-scene")
        before = other.own("femur")
        one.hover("bs")
        one.press("ArrowRight")
        one.press("Enter")
        assert one.own("femur")["translation_mm"] != before["translation_mm"]
        assert one.page.text_content("#saved") == "1 pose accepted, not saved"
        other.press(".")
        assert one.ask("workbench.state.frame.number") == 1
        assert other.ask("workbench.state.trial.accepted") == 0
        one.page.reload()
        until(one.page, "window.workbench?.state.trial")
        assert one.ask("workbench.state.trial.accepted") == 0
        for seen in (errors, one.errors, other.errors):
            assert not seen
        assert {url.split("/")[2] for url in asked if not url.startswith(("blob:", "data:"))} == {server.host}


def test_images_that_cannot_be_used_are_answered_in_words(server):
    good = {plane: base64.b64encode(image_file(server, plane)).decode() for plane in ("bs", "fs")}
    small = io.BytesIO()
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(small, "PNG")
    with asking(server) as (socket, first):
        assert first["most_bytes"] == 1_000_000
        for images, why in (
            ({"bs": good["bs"]}, "give two images, of bs and fs"),
            (good | {"fs": "%%%"}, "the page sent no image of fs"),
            (good | {"fs": base64.b64encode(small.getvalue()).decode()}, "it has 64 x 64 px, expected"),
            (good | {"fs": base64.b64encode(b"no image").decode()}, "the image of fs cannot be used"),
            (good | {"fs": good["fs"][: len(good["fs"]) // 8 * 4]}, "the image of fs cannot be used"),
            (good | {"fs": base64.b64encode(bytes(1_000_001)).decode()}, "at most 1,000,000 are taken"),
            (None, "the page sent no images"),
        ):
            assert why in ask(socket, images)["error"]
        assert "no frame of measurement 99" in ask(socket, {}, 99)["error"]
        for text in ("{", "[]", '{"measurement_id": 1}', '{"measurement_id": [], "images": {}}'):
            socket.send(text)
            assert "reload" in json.loads(socket.recv(60))["error"]
        assert len(ask(socket, good)["implants"]) == 2
        assert socket.recv(60).startswith(b"\x89PNG")
        with pytest.raises(ConnectionClosedError, match="1009"):
            ask(socket, {"bs": "A" * 4_000_001})


def test_one_registration_at_a_time_and_as_many_pages_as_can_be(server):
    with server.socket() as one, server.socket(origin="http://elsewhere.example") as other:
        assert not one.do("refine", trial=True)
        assert "another registration is under way" in other.do("refine")
        assert not other.do("stop")
        while one.parts["refining"]["done"] < 1:
            one.receive()
        assert not one.do("stop")
        while not one.said:
            one.receive()
        assert "stopped, nothing was changed" in one.said[0]
        assert not other.do("refine")
        while other.parts["refining"]["what"] is not None:
            other.receive()
        pages = [connect(f"ws://{server.host}/socket") for _ in range(10)]
        with connect(f"ws://{server.host}/socket") as late, pytest.raises(ConnectionClosedError, match="4002"):
            late.recv(60)
        for page in pages:
            page.close()


def test_what_is_pushed_to_the_hub_has_all_that_its_image_is_made_of(built, tmp_path):
    folder = tmp_path / "space-build"
    subprocess.run(["make", "space", f"SPACE={folder}", f"MODEL={built[1]}"], cwd=ROOT, check=True)
    steps = (folder / "Dockerfile").read_text()
    sources = {name for line in re.findall(r"^COPY (.*) \S+$", steps, re.MULTILINE) for name in line.split()}
    assert sources == {"package", "app.py", "build.sh", "model"}
    for name in (*sources, "package/constraints.txt", "package/training/configs/demo.yaml", "model/config.json"):
        assert (folder / name).exists()
    assert (folder / "package/veriserum_hf/app/page/predict.html").is_file()
    parts = tomllib.loads((folder / "package/pyproject.toml").read_text())["tool"]["hatch"]["build"]
    for name in parts["targets"]["wheel"]["force-include"]:
        assert (folder / "package" / name).exists()
    front = (folder / "README.md").read_text().split("---")[1]
    assert "sdk: docker" in front
    (port,) = re.findall(r"^app_port: (\d+)$", front, re.MULTILINE)
    assert f"port: int = {port}" in (folder / "app.py").read_text()
    command = json.loads(re.search(r"^CMD (.*)$", steps, re.MULTILINE)[1])
    assert command == ["python", "app.py", "data", "model", "--host", "0.0.0.0"]


def test_a_folder_without_a_model_is_one_message(built, tmp_path):
    command = [sys.executable, SPACE / "app.py", built[0], tmp_path, "--port", "0"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert f"error: {tmp_path} holds no model: there is no config.json" in ran.stderr
    assert "Traceback" not in ran.stderr
