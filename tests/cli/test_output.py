"""The rate that progress shows."""

import pytest
from rich.progress import Progress

from veriserum_hf.cli.progress import Rate


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
