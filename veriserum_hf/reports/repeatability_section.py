"""Section of a report: agreement of any two sources, which for poses of observers is their repeatability."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations

from veriserum_hf.core import PoseRow, Table
from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation import Agreement, repeatability
from veriserum_hf.poses import estimates_of
from veriserum_hf.reports.blocks import Block, heading, note, number, table
from veriserum_hf.reports.sources import PoseSource, Reference

_NOTE = (
    "First source minus second: mean (bias), standard deviation (SD) and 95 % limits of agreement, bias -/+ 1.96 SD "
    "(Bland & Altman 1986). Position of the implant's origin along the world's axes, and for each plane along the "
    "ray from the X-ray source (depth), to the right (h) and up (v) in the image; rotation vector about the world's "
    "axes. Where both sources are equally precise, the SD of one of them is this SD divided by 1.41. Frames of one "
    "trial are not independent: with few trials the limits are uncertain."
)


@dataclass(frozen=True)
class SourceAgreement:
    """Agreement of two sources.

    Attributes
    ----------
    first, second : names of the sources.
    comparison : ``"intra-observer"``, ``"inter-observer"``, or None where it is not known who made all poses.
    frames, trials : in which both have a pose of the same implant.
    by_implant : of `veriserum_hf.evaluation.repeatability`.

    """

    first: str
    second: str
    comparison: str | None
    frames: int
    trials: int
    by_implant: Mapping[str, Sequence[Agreement]]


def about_observers(source: PoseSource) -> str | None:
    """Who made the poses of a source, and when; None where it does not state that."""
    observers = _observers(source)
    names = sorted(observers - {""})
    if not names:
        return None
    times = [_day(time) for pose in _poses(source) if isinstance(time := pose.get("accepted_utc"), datetime)]
    days = f", accepted {min(times)} to {max(times)} (UTC)" if times else ""
    return f"{', '.join(names)}{days}{'; of other poses unknown' if '' in observers else ''}"


def _observers(source: PoseSource) -> set[str]:
    """Names in the column ``observer``; empty ones for poses of which it is not stated."""
    return {str(pose.get("observer") or "") for pose in _poses(source)}


def _poses(source: PoseSource) -> Iterator[PoseRow]:
    return (pose for frame in source.poses.values() for pose in frame.values())


def _day(time: datetime) -> str:
    return f"{time.astimezone(UTC) if time.tzinfo else time:%Y-%m-%d}"


def source_agreements(reference: Reference, sources: Sequence[PoseSource]) -> list[SourceAgreement]:
    """Agreement of every two sources that have poses of the same implants in the same frames of the split.

    Raises
    ------
    TrainingError
        If such poses are of different implants.

    """
    of_split = set(reference.rows["measurement_id"])
    found = []
    for first, second in combinations(sources, 2):
        shared = of_split & first.poses.keys() & second.poses.keys()
        if not any(first.poses[frame].keys() & second.poses[frame].keys() for frame in shared):
            continue
        try:
            pairs = estimates_of(first.table, reference.rows, second.table)
        except TrainingError as error:
            raise TrainingError(f"{first.name} and {second.name}: {error}") from error
        found.append(
            SourceAgreement(
                first.name,
                second.name,
                _comparison(first, second),
                len(set(pairs.measurement_id.tolist())),
                len(set(pairs.trial_id.tolist())),
                repeatability(pairs),
            )
        )
    return found


def _comparison(first: PoseSource, second: PoseSource) -> str | None:
    """Whether one observer made both sources, or another one each."""
    one, other = _observers(first), _observers(second)
    if len(one) != 1 or len(other) != 1 or "" in one | other:
        return None
    return "intra-observer" if one == other else "inter-observer"


def repeatability_blocks(agreements: Sequence[SourceAgreement]) -> list[Block]:
    """A table for every two sources."""
    header = ["implant", "degree of freedom", "pairs", "bias", "SD", "95 % limits of agreement"]
    blocks: list[Block] = []
    for each in agreements:
        kind = f", {each.comparison}" if each.comparison else ""
        where = f"{_count(each.frames, 'frame')} of {_count(each.trials, 'trial')}"
        rows = [
            [implant, _title(one["name"]), one["pairs"], _signed(one["bias"]), number(one["sd"]), _limits(one)]
            for implant, degrees in each.by_implant.items()
            for one in degrees
        ]
        blocks += [
            heading(f"{each.first} minus {each.second}{kind}: {where}"),
            table(Table(header, rows, alignment="llr")),
        ]
    return [*blocks, note(_NOTE)] if blocks else []


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _title(name: str) -> str:
    """Degree of freedom for people: ``bs depth, mm``."""
    *words, unit = name.split("_")
    return f"{' '.join(words)}, {unit}"


def _limits(one: Agreement) -> str:
    return "-" if one["limits_95"] is None else " to ".join(map(_signed, one["limits_95"]))


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)
