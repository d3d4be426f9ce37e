"""What is printed is shown as it is, and the rate that progress shows."""

import json

import pytest
from rich.progress import Progress

from tests.jobs.processes import run_here
from veriserum_hf.cli.output import err, out, print_error, print_json, print_parts, print_text, show_progress, warn
from veriserum_hf.cli.progress import Rate, new_bar


@pytest.mark.parametrize(
    ("frames", "seconds", "shown"),
    [
        (0, 10, "- frames/s"),
        (4, 10, "0.4 frames/s"),
        (1, 24, "0.042 frames/s"),
        (14, 3, "4.7 frames/s"),
        (249, 25, "10 frames/s"),
        (1234, 10, "123 frames/s"),
    ],
)
def test_slow_work_has_a_rate_too(frames, seconds, shown):
    now = 0.0
    rate = Rate("frames")
    progress = Progress(rate, get_time=lambda: now)
    task = progress.add_task("registering", total=5000)
    progress.update(task, completed=1)
    now = float(seconds)
    progress.update(task, completed=1 + frames)
    assert rate.render(progress.tasks[0]).plain == shown


def test_the_rate_is_known_once_one_slow_frame_is_done(monkeypatch):
    now, bars = 0.0, []

    def timed(*arguments):
        bars.append(new_bar(*arguments))
        bars[0].get_time = lambda: now
        return bars[0]

    monkeypatch.setattr("veriserum_hf.cli.progress.new_bar", timed)
    with show_progress("registering", "frames") as advance:
        advance(3, 10)
        assert bars[0].tasks[0].speed is None
        now = 50.0
        advance(4, 10)
        assert bars[0].tasks[0].speed == 0.02 and bars[0].tasks[0].time_remaining == 300


OBEYED = "[/b]x [link=https://example.org]y[/link] [red]\x1b[31m\u202e\udcff :smile: \\"
SHOWN = "[/b]x [link=https://example.org]y[/link] [red]\\x1b[31m\\u202e\\udcff :smile: \\"


@pytest.mark.parametrize(
    ("show", "printed"),
    [
        (print_text, SHOWN),
        (warn, SHOWN),
        (out().print, SHOWN),
        (err().print, SHOWN),
        (print_error, f"error: {SHOWN}"),
        (lambda text: print_parts(text, (text, "bold"), " end"), f"{SHOWN}{SHOWN} end"),
    ],
)
def test_no_text_is_obeyed_wherever_it_is_printed(capsys, show, printed):
    show(OBEYED)
    captured = capsys.readouterr()
    assert captured.out + captured.err == f"{printed}\n"


def test_json_is_valid_whatever_is_in_it(capsys):
    print_json({"name \udcff": ["\udcff\x1b", float("nan"), 1.5, (None, float("-inf"))]})
    assert json.loads(capsys.readouterr().out) == {"name \\udcff": ["\\udcff\x1b", None, 1.5, [None, None]]}


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_text_of_an_archive_is_shown_by_its_audit(download, as_json):
    task = "[/b]x [link=https://example.org]y[/link] \x1b]8;;https://example.org\x1b\\\u202e\nerror: gone"
    download.sql(
        f"UPDATE trials SET task = '{task}' WHERE id = 11;"
        "UPDATE trials SET task = CAST(x'ff41' AS TEXT) WHERE id = 18;"
        f"UPDATE poses SET method = '{task}' WHERE id = 1; UPDATE anatomies SET category = '{task}' WHERE id = 1"
    )
    done = run_here("audit", download.root, *as_json)
    assert done.returncode == 2 and not {"\x1b", "\u202e"} & set(done.stdout)
    if as_json:
        document = json.loads(done.stdout)
        assert document["counts"]["tasks"] == {task: 3, "\ufffdA": 3, "stair_descent": 3, "chair_sit": 3}
    else:
        assert "[/b]x [link=https://example.org]y[/link] \\x1b]8;;" in done.stdout
        assert not any(line.startswith("error") for line in done.stdout.splitlines())


def test_an_archive_whose_folder_has_a_name_that_is_not_utf_8(download):
    folder = download.root.parent / "na\udcffme"
    download.root.rename(folder)
    done = run_here("audit", folder)
    assert done.returncode == 2
    assert "na\\udcffme: the name holds bytes that are not UTF-8. Rename it" in done.stdout
