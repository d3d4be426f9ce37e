"""Sections of a report: agreement of sources with the labels, and with each other: of observers, repeatability."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations

from veriserum_hf.core import PoseRow
from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation import AGREEMENT_NOTE, Agreements, agreement_table
from veriserum_hf.knee import JointPairs
from veriserum_hf.poses import Estimates, estimates_of
from veriserum_hf.reports.bland_altman import bland_altman
from veriserum_hf.reports.blocks import Block, heading, image, note, table
from veriserum_hf.reports.joint import Joint, agreements_of
from veriserum_hf.reports.pages import svg_url
from veriserum_hf.reports.sources import PoseSource, Reference


@dataclass(frozen=True, eq=False)
class SourceAgreement:
    """Agreement of two sources, or of a source and the labels.

    Attributes
    ----------
    first, second : names of the sources; the second one may be the labels.
    comparison : ``"intra-observer"``, ``"inter-observer"``, or None where it is not known who made all poses.
    frames, trials : in which both have a pose of the same implant.
    agreement : of `agreements_of`.
    joint : the coordinates that are compared; None where no frame has both implants.

    """

    first: str
    second: str
    comparison: str | None
    frames: int
    trials: int
    agreement: Agreements
    joint: JointPairs | None

    @property
    def title(self) -> str:
        """What is compared, and in how many frames."""
        kind = f", {self.comparison}" if self.comparison else ""
        where = f"{_count(self.frames, 'frame')} of {_count(self.trials, 'trial')}"
        return f"{self.first} minus {self.second}{kind}: {where}"

    def document(self) -> dict[str, object]:
        """Plain numbers."""
        names = ("first", "second", "comparison", "frames", "trials")
        return {name: getattr(self, name) for name in names} | {**self.agreement}


def label_agreements(reference: Reference, sources: Sequence[PoseSource], joint: Joint) -> list[SourceAgreement]:
    """Agreement of each source with the labels."""
    return [_agreement(each.name, reference.kind, None, each.estimates, reference, joint) for each in sources]


def source_agreements(reference: Reference, sources: Sequence[PoseSource], joint: Joint) -> list[SourceAgreement]:
    """Agreement of every two sources that have poses of the same implants in the same frames of the split.

    Raises
    ------
    TrainingError
        If such poses are of different implants.

    """
    of_split = set(reference.rows["measurement_id"][:])
    found = []
    for first, second in combinations(sources, 2):
        shared = of_split & first.poses.keys() & second.poses.keys()
        if not any(first.poses[frame].keys() & second.poses[frame].keys() for frame in shared):
            continue
        try:
            pairs = estimates_of(first.table, reference.rows, second.table)
        except TrainingError as error:
            raise TrainingError(f"{first.name} and {second.name}: {error}") from error
        found.append(_agreement(first.name, second.name, _comparison(first, second), pairs, reference, joint))
    return found


def _agreement(
    first: str, second: str, comparison: str | None, pairs: Estimates, reference: Reference, joint: Joint
) -> SourceAgreement:
    of_joint = joint.pairs(pairs)
    return SourceAgreement(
        first,
        second,
        comparison,
        len(set(pairs.measurement_id.tolist())),
        len(set(pairs.trial_id.tolist())),
        agreements_of(pairs, reference.meshes, joint, of_joint),
        of_joint,
    )


def _comparison(first: PoseSource, second: PoseSource) -> str | None:
    """Whether one observer made both sources, or another one each."""
    one, other = _observers(first), _observers(second)
    if len(one) != 1 or len(other) != 1 or "" in one | other:
        return None
    return "intra-observer" if one == other else "inter-observer"


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


def joint_blocks(agreements: Sequence[SourceAgreement]) -> list[Block]:
    """Agreement in the coordinates of the joint, as a table and as Bland-Altman figures."""
    blocks: list[Block] = []
    for each in agreements:
        blocks.append(heading(each.title))
        if each.joint is None:
            blocks.append(note(each.agreement["about_joint"]))
            continue
        figure = bland_altman(each.joint, each.agreement["joint"])
        shown = f"Bland-Altman figures of {each.first} minus {each.second}"
        blocks += [table(agreement_table({"joint": each.agreement["joint"]})), image(svg_url(figure), shown)]
    return blocks


def implant_blocks(agreements: Sequence[SourceAgreement]) -> list[Block]:
    """Agreement of the implants' poses, as tables."""
    blocks: list[Block] = []
    for each in agreements:
        single = dict(each.agreement["by_implant"])
        every = {"all": single.pop("all")}
        closed = f"{len(single)} implants, one by one"
        blocks += [heading(each.title), table(agreement_table(every)), table(agreement_table(single), closed)]
    return [*blocks, note(AGREEMENT_NOTE)]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
