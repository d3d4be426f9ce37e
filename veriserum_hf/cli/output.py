"""What commands share: where they print to, progress, and the options that mean the same everywhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

out, err = Console(), Console(stderr=True)


def say(text: str) -> None:
    """Print a line as it is: not wrapped, not coloured."""
    out.print(text, soft_wrap=True, highlight=False, markup=False)


class _Rate(ProgressColumn):
    """Rows a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate of the last seconds, to two digits where it is slow."""
        speed = task.finished_speed or task.speed
        number = f"{speed:.2g}" if speed and speed < 10 else f"{speed:.0f}" if speed else "-"
        return Text(f"{number} {self.unit}/s", style="progress.data.speed")


@contextmanager
def show_progress(what: str, unit: str, when_interrupted: str = "") -> Iterator[Callable[[int, int], None]]:
    """Progress bar on standard error, from the first time that there is something to count."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn())
    bar = Progress(*columns, console=err)
    task = bar.add_task(what, total=None)

    def advance(done: int, total: int) -> None:
        if not bar.live.is_started:
            bar.start()
            bar.reset(task, total=total, completed=done)  # rows that were done before do not count as speed
        bar.update(task, total=total, completed=done)
        if done == total:
            bar.stop()  # only one at a time can be shown

    try:
        yield advance
    except KeyboardInterrupt:
        err.print(f"interrupted{when_interrupted}")
        sys.exit(130)
    finally:
        if bar.live.is_started:
            bar.stop()
