"""The system's Chromium, driven by mouse and keys as a person does."""

import math
import shutil
import time
from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium here: `apt-get install chromium` brings it, see CONTRIBUTING.md"
)


@contextmanager
def browser():
    """Chromium without a window, in which no name but those of this machine can be resolved."""
    options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    options += ["--enable-unsafe-swiftshader"]  # the 3-D scene, without a graphics card
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            yield chromium
        finally:
            chromium.close()


def until(page, expression, timeout_s=120):
    """Wait until an expression is true; a page's policy forbids Playwright's own way."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(f"() => Boolean({expression})"):
        assert time.monotonic() < deadline, (expression, page.text_content("#message"))
        time.sleep(0.02)


class Page:
    """The workbench's page: what it shows, and what a person does there."""

    def __init__(self, chromium, address, width=1280, height=800):
        self.page = chromium.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(120_000)  # the 3-D scene is slow without a graphics card
        self.errors, self.requested = [], []
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.goto(address)
        self.until("workbench.panes.bs.bitmap || workbench.panes.fs.bitmap")

    def ask(self, expression):
        """Value of an expression in the page."""
        return self.page.evaluate(f"() => ({expression})")

    def until(self, expression, timeout_s=120):
        """Wait until an expression is true."""
        until(self.page, expression, timeout_s)

    def message(self):
        """What the page says."""
        return self.page.text_content("#message")

    @property
    def measurement(self):
        """The frame that is shown."""
        return self.ask("workbench.state.frame.measurement_id")

    def own(self, component):
        """Pose of an implant as the page has it."""
        return self.ask(f"workbench.state.poses.own.{component}")

    def center_px(self, component, plane):
        """Its centre in an image."""
        return self.own(component)["center_px"][plane]

    def outline_px(self, component, plane):
        """Corners of its outline in an image."""
        return [px for contour in self.own(component)["outlines"][plane] for px in contour]

    def at(self, plane, px):
        """Where a pixel of an image is on the page."""
        return self.page.evaluate(
            """([plane, px]) => {
                const pane = workbench.panes[plane];
                const box = pane.element.getBoundingClientRect();
                const [x, y] = pane.toPane(px);
                return [box.left + x, box.top + y];
            }""",
            [plane, list(map(float, px))],
        )

    def settled(self):
        """Wait until everything that was asked for is done."""
        self.page.evaluate("() => workbench.settled()")

    def press(self, key, times=1):
        """Press a key."""
        for _ in range(times):
            self.page.keyboard.press(key)
        self.settled()

    def drag(self, plane, start, end, modifier=None, steps=8):
        """Drag with the left button from one pixel of an image to another."""
        (x, y), (to_x, to_y) = self.at(plane, start), self.at(plane, end)
        mouse = self.page.mouse
        if modifier:
            self.page.keyboard.down(modifier)
        mouse.move(x, y)
        mouse.down()
        mouse.move(to_x, to_y, steps=steps)
        mouse.up()
        if modifier:
            self.page.keyboard.up(modifier)
        self.settled()

    def hover(self, plane):
        """Move the pointer into an image: keys act in it."""
        self.page.mouse.move(*self.at(plane, (5, 5)))

    def turn_by(self, degrees):
        """Rotate about the axes to the right, down and away of the image that the pointer is in, by keys."""
        for angle, (more, less) in zip(degrees, (("s", "w"), ("d", "a"), ("e", "q")), strict=True):
            self.press(more if angle > 0 else less, round(abs(angle)))

    def refine(self, key="r"):
        """Refine, and wait for the result."""
        self.press(key)
        self.until("workbench.state.refining.what === null")
        self.settled()


def distance(a, b):
    """Distance of two points."""
    return math.dist(a, b)
