"""Problems of an archive, and decisions on what its files leave open."""

from dataclasses import asdict, dataclass, field

from veriserum_hf.core import one_line
from veriserum_hf.errors import ArchiveError


@dataclass(frozen=True)
class Problem:
    """One problem of an archive.

    Attributes
    ----------
    kind : short, fixed words to count by, such as "dangling id".
    where : the file, table and row.
    what : what was found there and what was expected.
    remedy : the way out.
    structural : whether the archive cannot be relied on, so that nothing is converted from it.

    """

    kind: str
    where: str
    what: str
    remedy: str
    structural: bool = False

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.what}. {self.remedy}")


@dataclass(frozen=True)
class Decision:
    """Something the files leave open, how it was decided, and by what evidence."""

    question: str
    answer: str
    evidence: str


@dataclass
class Findings:
    """Problems and decisions, collected while an archive is read."""

    problems: list[Problem] = field(default_factory=list)
    decisions: dict[str, Decision] = field(default_factory=dict)

    def problem(self, kind: str, where: str, what: str, remedy: str, *, structural: bool = False) -> None:
        """Record a problem and continue."""
        self.problems.append(Problem(kind, where, what, remedy, structural))

    def stop(self, kind: str, where: str, what: str, remedy: str) -> ArchiveError:
        """Error for a structural problem after which nothing more can be read; the caller raises it."""
        self.problems.insert(0, Problem(kind, where, what, remedy, structural=True))  # the first one is reported
        return self.unusable()

    def decide(self, name: str, question: str, answer: str, evidence: str) -> None:
        """Record a decision under a fixed name."""
        self.decisions[name] = Decision(question, answer, evidence)

    @property
    def structural(self) -> list[Problem]:
        """The problems that make the archive unusable."""
        return [problem for problem in self.problems if problem.structural]

    def unusable(self) -> ArchiveError:
        """Error that states the first structural problem and how many more there are."""
        first, *more = self.structural
        rest = f"\n{len(more)} more structural problems; `veriserum audit` lists them all." if more else ""
        return ArchiveError(f"{first}{rest}")

    def as_json(self) -> dict[str, object]:
        """Return everything as plain dictionaries and lists."""
        return {
            "decisions": {name: asdict(decision) for name, decision in self.decisions.items()},
            "problems": [asdict(problem) for problem in self.problems],
        }
