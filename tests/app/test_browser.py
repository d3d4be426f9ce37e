"""The workbench in a real browser, by mouse and keys alone."""

import http.server
import threading

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.app.browsers import Page, browser, needs_chromium
from tests.app.servers import serving
from veriserum_hf.app.own_pose import transform_of
from veriserum_hf.app.shapes import Shapes
from veriserum_hf.geometry import angle_between_deg
from veriserum_hf.poses import poses_by_frame, read_poses

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def shapes(trials):
    return Shapes(trials.source.meshes)


def views(trials, measurement):
    return trials.open_frame(trials.places[measurement]).views


def bounds(points):
    points = np.asarray(points)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def errors(shapes, pose, exact):
    """Distance of the implant's centre in mm, and angle in degrees."""
    T, T_exact = transform_of(pose), transform_of(exact)
    center_mm = np.append(shapes[exact["anatomy_id"]].center_mm, 1)
    return np.linalg.norm((T - T_exact) @ center_mm), angle_between_deg(T[:3, :3], T_exact[:3, :3])


def test_from_a_drag_to_a_refined_pose_that_survives_the_server(trial, trials, shapes, chromium, tmp_path):
    output = tmp_path / "manual.parquet"
    options = (trial.dataset, "--poses", trial.near, "--output", output)
    with serving(*options) as server:
        page = Page(chromium, server.address)
        first = page.measurement
        seen, exact = views(trials, first), trial.truth[first]

        # A drag in one image is seen in the other where the cameras say.
        start = page.center_px("femur", "bs")
        before = bounds(page.outline_px("femur", "fs"))
        shown_mm = page.own("femur")["translation_mm"]
        page.drag("bs", start, (start[0] + 24, start[1] - 15))
        shift_mm = np.subtract(page.own("femur")["translation_mm"], shown_mm)
        assert np.hypot(*np.subtract(page.center_px("femur", "bs"), start) - (24, -15)) < 0.5
        near = trial_pose(trial, first, "femur")
        corners = shapes[near["anatomy_id"]].meshes.fine.vertices @ transform_of(near)[:3, :3].T + shown_mm
        np.testing.assert_allclose(before, bounds(seen["fs"].camera.project(corners)), atol=0.5)
        expected = bounds(seen["fs"].camera.project(corners + shift_mm))
        np.testing.assert_allclose(bounds(page.outline_px("femur", "fs")), expected, atol=0.5)

        # Keys nudge in the image that the pointer is in, and each is one step to undo.
        page.hover("fs")
        there = page.own("femur")
        page.press("ArrowRight", 2)
        page.press("Shift+ArrowUp")
        moved = np.subtract(page.own("femur")["translation_mm"], there["translation_mm"])
        assert np.linalg.norm(moved) == pytest.approx(np.hypot(2.0, 0.1), abs=1e-3)
        page.press("e")
        page.press("Control+z", 4)
        assert page.own("femur")["translation_mm"] == there["translation_mm"]
        page.press("Control+z")
        assert page.own("femur")["translation_mm"] == pytest.approx(shown_mm, abs=1e-3)
        page.press("Control+y")
        assert page.own("femur")["translation_mm"] == there["translation_mm"]
        page.press("Control+z")

        # From 5 mm off to the exact pose.
        assert errors(shapes, near, exact["femur"])[0] == pytest.approx(5, abs=0.01)
        page.refine("Shift+R")
        for component in ("femur", "tibia"):
            assert page.own(component)["registered"]["verdict"] == "converged"
        assert page.page.text_content("#verdict").count("converged") == 2
        page.press("Shift+Enter")
        page.press(".")
        assert page.ask("workbench.state.frame.number") == 2
        page.press("Enter")
        assert page.ask("workbench.state.trial.accepted") == 3
        assert not page.errors, page.errors
        server.kill()
        while len(page.errors) < 2:  # the page tries to connect again, in vain
            page.page.wait_for_timeout(50)
        assert "gone away; every accepted pose is in its file" in page.message()
        page.page.close()

    accepted = poses_by_frame(read_poses(output))
    for component in ("femur", "tibia"):
        mm, _ = errors(shapes, accepted[first][component], exact[component])
        assert mm <= 0.05
    with serving(*options) as server:
        page = Page(chromium, server.address)
        assert page.ask("workbench.state.trial.accepted") == 3
        page.page.click(f"#timeline button[data-measurement='{first}']")
        page.until(f"workbench.state.frame.measurement_id === {first}")
        page.settled()
        assert page.own("femur")["accepted"]
        assert page.own("femur")["translation_mm"] == pytest.approx(
            accepted[first]["femur"]["translation_mm"], abs=1e-4
        )
        assert not page.errors, page.errors
        assert {url.split("/")[2] for url in page.requested} == {server.host}
        page.page.close()


def trial_pose(trial, measurement, component):
    return poses_by_frame(read_poses(trial.near))[measurement][component]


def test_ten_frames_are_matched_by_mouse_and_keys_from_10_mm_and_10_degrees_off(
    trial, trials, shapes, chromium, tmp_path
):
    output = tmp_path / "manual.parquet"
    with serving(trial.dataset, "--poses", trial.far, "--output", output) as server:
        page = Page(chromium, server.address)
        for number in range(10):
            assert page.ask("workbench.state.frame.number") == number + 1
            seen, exact = views(trials, page.measurement), trial.truth[page.measurement]
            for component, key in (("femur", "f"), ("tibia", "t")):
                page.press(key)
                match(page, component, seen, exact[component], shapes)
            page.refine("Shift+R")
            page.press("Shift+Enter")
            page.press(".")
        assert not page.errors, page.errors
        page.page.close()
    accepted = poses_by_frame(read_poses(output))
    assert len(accepted) == 10
    found = [
        errors(shapes, pose, trial.truth[measurement][component])
        for measurement, poses in accepted.items()
        for component, pose in poses.items()
    ]
    assert len(found) == 20
    assert np.max(found, axis=0) == pytest.approx((0, 0), abs=0.1)


def match(page, component, seen, exact, shapes):
    """Drag the implant to where it is seen in each image, and turn it about the axes of the first to a degree."""
    T_exact = transform_of(exact)
    center_mm = T_exact[:3, :3] @ shapes[exact["anatomy_id"]].center_mm + T_exact[:3, 3]
    for plane in ("bs", "fs"):
        target = seen[plane].camera.project(center_mm)
        page.drag(plane, page.center_px(component, plane), target, steps=3)
        assert np.hypot(*np.subtract(page.center_px(component, plane), target)) < 1
    page.hover("bs")
    shown = Rotation.from_euler("ZXY", page.own(component)["rz_rx_ry_deg"], degrees=True)
    left = Rotation.from_matrix(T_exact[:3, :3]) * shown.inv()
    page.turn_by(seen["bs"].camera.world_to_camera[:3, :3] @ left.as_rotvec(degrees=True))


def test_a_page_of_another_site_cannot_drive_it(trial, chromium, tmp_path):
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<title>elsewhere</title>")

        def log_message(self, *_):
            pass

    other = http.server.HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    with serving(trial.dataset, "--output", tmp_path / "manual.parquet") as server:
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{other.server_port}/")
        for path in ("/socket", "/scene/socket"):
            opened = page.evaluate(
                """(address) => new Promise((resolve) => {
                    const socket = new WebSocket(address);
                    socket.onopen = () => resolve(true);
                    socket.onerror = () => resolve(false);
                })""",
                f"ws://{server.host}{path}",
            )
            assert opened is False
        page.close()
    other.shutdown()
    other.server_close()


def test_wheel_modifiers_numbers_legend_and_images(trial, chromium, tmp_path):
    with serving(trial.dataset, "--poses", trial.near, "--output", tmp_path / "manual.parquet") as server:
        page = Page(chromium, server.address)
        center, before = page.center_px("femur", "bs"), page.own("femur")
        page.page.mouse.move(*page.at("bs", center))
        page.page.mouse.wheel(0, -100)
        page.settled()
        page.until("workbench.state.poses.undo === 1")
        along = np.subtract(page.own("femur")["translation_mm"], before["translation_mm"])
        assert np.linalg.norm(along) == pytest.approx(1, abs=1e-3)
        assert page.center_px("femur", "bs") == pytest.approx(center, abs=0.02)

        for modifier in ("Shift", "Alt"):
            turned = page.own("femur")["rz_rx_ry_deg"]
            page.drag("bs", (center[0] + 60, center[1]), (center[0] + 60, center[1] + 20), modifier)
            assert page.center_px("femur", "bs") == pytest.approx(center, abs=0.05)
            assert np.abs(np.subtract(page.own("femur")["rz_rx_ry_deg"], turned)).max() > 3

        page.page.fill("#numbers [name=x]", "-20.5")
        page.page.keyboard.press("Enter")
        page.until("workbench.state.poses.own.femur.translation_mm[0] === -20.5")

        lines = "workbench.panes.bs.actions.outlines('bs').length"
        shown = page.ask(lines)
        page.page.click("#layers label:has-text('label') input")
        assert page.ask(lines) == shown - 2
        page.press("i")
        assert "invert" in page.ask("workbench.panes.bs.image.style.filter")

        scale = page.ask("workbench.panes.fs.view.scale")
        page.page.mouse.move(*page.at("fs", (200, 200)))
        page.page.keyboard.down("Control")
        page.page.mouse.wheel(0, -300)
        page.page.keyboard.up("Control")
        page.until(f"workbench.panes.fs.view.scale > {scale} * 1.5")
        assert page.page.evaluate("() => workbench.panes.fs.toImage({x: 0, y: 0})[0]") > 0
        page.press("0")
        assert page.ask("workbench.panes.fs.view.scale") == pytest.approx(scale)
        assert not page.errors, page.errors
        page.page.close()


def test_a_browser_that_goes_away_in_mid_drag_leaves_the_implant_where_it_was_dragged(trial, chromium, tmp_path):
    with serving(trial.dataset, "--poses", trial.near, "--output", tmp_path / "manual.parquet") as server:
        goes, stays = Page(chromium, server.address), Page(chromium, server.address)
        start = goes.center_px("femur", "bs")
        x, y = goes.at("bs", start)
        goes.page.mouse.move(x, y)
        goes.page.mouse.down()
        goes.page.mouse.move(*goes.at("bs", (start[0] + 20, start[1] + 10)), steps=4)
        goes.settled()
        goes.page.close()
        stays.until("workbench.state.poses.undo === 1")
        assert stays.center_px("femur", "bs") == pytest.approx((start[0] + 20, start[1] + 10), abs=0.5)
        stays.press("Enter")
        assert stays.ask("workbench.state.trial.accepted") == 1
        assert not stays.errors, stays.errors
        stays.page.close()
    (row,) = read_poses(tmp_path / "manual.parquet").to_pylist()
    assert (row["component"], row["kind"]) == ("femur", "manual")


def test_an_implant_follows_its_gizmo_in_the_3d_scene(trial, chromium, tmp_path):
    with serving(trial.dataset, "--poses", trial.near, "--output", tmp_path / "manual.parquet") as server:
        page = Page(chromium, server.address)
        before = {name: page.own(name) for name in ("femur", "tibia")}
        page.press("3")
        scene = page.page.frame_locator("#scene iframe")
        scene.locator("canvas").first.wait_for(timeout=60_000)
        page.page.wait_for_timeout(3000)  # until it is drawn: nothing else says so
        drag_any_handle(page)
        moved = {name: page.own(name) for name in ("femur", "tibia")}
        assert page.own("femur")["translation_mm"] != before["femur"]["translation_mm"] or (
            page.own("tibia")["translation_mm"] != before["tibia"]["translation_mm"]
        )
        page.hover("bs")  # keys are for the images again
        page.press("Control+z")
        for name in ("femur", "tibia"):
            assert page.own(name)["translation_mm"] == before[name]["translation_mm"]
        page.press("Control+y")
        for name in ("femur", "tibia"):
            assert page.own(name)["translation_mm"] == moved[name]["translation_mm"]
        assert {url.split("/")[2] for url in page.requested if not url.startswith(("blob:", "data:"))} == {
            server.host
        }
        assert not page.errors, page.errors
        page.page.close()


def drag_any_handle(page):
    """Drag from places around the centre of the scene until one is on a gizmo; the others turn the view a little."""
    box = page.page.locator("#scene").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    places = [
        (radius * np.cos(angle), radius * np.sin(angle)) for radius in (20, 40, 60) for angle in np.arange(0, 6, 0.6)
    ]
    mouse = page.page.mouse
    for right, down in places:
        mouse.move(x + right, y + down)
        page.page.wait_for_timeout(200)  # until the handle under the pointer is known
        mouse.down()
        mouse.move(x + right + 6, y + down + 4, steps=3)
        mouse.up()
        page.page.wait_for_timeout(500)
        if page.ask("workbench.state.poses.undo"):
            return
    pytest.fail("no handle of a gizmo was found")
