"""The progress bar."""

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

_RATE_OVER_S = 120.0  # so that frames of a minute each have a rate too


class Rate(ProgressColumn):
    """Rows a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate of the last seconds, to two digits where it is slow."""
        speed = task.finished_speed or task.speed
        number = f"{speed:.2g}" if speed and speed < 10 else f"{speed:.0f}" if speed else "-"
        return Text(f"{number} {self.unit}/s", style="progress.data.speed")


def new_bar(what: str, unit: str, console: Console) -> Progress:
    """Return a bar that is not shown yet: task, count, rate and remaining time."""
    columns = (TextColumn(what, markup=False), BarColumn(), MofNCompleteColumn(), Rate(unit), TimeRemainingColumn())
    return Progress(*columns, console=console, speed_estimate_period=_RATE_OVER_S)
