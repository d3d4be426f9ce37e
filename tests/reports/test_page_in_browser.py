"""The page of a report in a real browser: its figures are drawn, and every section is reached."""

import pyarrow.parquet as pq
import pytest

from tests.app.browsers import browser, needs_chromium
from tests.reports.test_run_report import dataset, poses_of, rows, shifted, write_report  # noqa: F401 - fixtures

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def page(dataset, rows, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("page")
    pq.write_table(poses_of(rows, shifted), folder / "shifted.parquet")
    write_report(dataset, folder / "report.html", "--poses", folder / "shifted.parquet")
    with browser() as chromium:
        shown = chromium.new_page(viewport={"width": 1200, "height": 800})
        shown.problems, shown.requested = [], []
        shown.on("console", lambda message: shown.problems.append(message.text))
        shown.on("pageerror", lambda error: shown.problems.append(str(error)))
        shown.on("request", lambda request: shown.requested.append(request.url))
        shown.goto((folder / "report.html").as_uri())
        yield shown


def test_the_result_is_first_and_every_section_is_reached(page):
    titles = page.locator("h2").all_text_contents()
    assert titles[:2] == ["Accuracy", "Kinematics"] and titles[-1] == "Compared poses and labels"
    assert page.locator("nav a").all_text_contents() == titles
    assert page.locator("h2").first.bounding_box()["y"] < 800
    for title in titles:
        page.click(f"nav a:text-is('{title}')")
        top = page.locator(f"h2:text-is('{title}')").bounding_box()["y"]
        assert -1 <= top < 800
    assert page.locator("img").evaluate_all("images => images.every((image) => image.naturalWidth > 100)")


def test_a_trial_is_drawn_when_it_is_opened(page, rows):  # noqa: F811
    trial = f"#trial-{rows[0]['trial_id']}"
    assert page.locator(f"{trial} svg").count() == 0
    page.click(f"a[href='{trial}']")
    panels = page.locator(f"{trial} .panels > svg")
    assert panels.count() == 6
    assert page.locator(f"{trial} .band").count() == 6 and page.locator(f"{trial} .line").count() == 12
    assert not page.locator(trial).evaluate("trial => trial.innerHTML.includes('NaN')")

    box = panels.first.bounding_box()
    page.mouse.move(box["x"] + 0.98 * box["width"], box["y"] + 0.5 * box["height"])
    assert page.locator(f"{trial} .note").text_content().startswith("frame 2;")
    assert page.locator(f"{trial} .readout").nth(3).text_content().count("±") == 1

    page.click(f"{trial} button:text-is('shifted')")
    assert page.locator(f"{trial} .band").count() == 0 and page.locator(f"{trial} .line").count() == 6
    page.click(f"{trial} button:text-is('shifted')")
    left, right, y = box["x"] + 0.45 * box["width"], box["x"] + 0.9 * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(right, y)
    page.mouse.down()
    page.mouse.move(left, y, steps=3)
    page.mouse.up()
    page.mouse.move(left - 0.25 * box["width"], y)
    assert page.locator(f"{trial} .note").text_content().startswith("frame 1;")
    page.dblclick(f"{trial} .panels > svg >> nth=0", position={"x": 60, "y": 100})
    page.mouse.move(box["x"] + 5, y)
    assert page.locator(f"{trial} .note").text_content().startswith("frame 0;")


def test_nothing_was_requested_and_no_error_was_logged(page):
    assert page.problems == []
    assert [url for url in page.requested if not url.startswith("data:")] == [page.url.split("#")[0]]
