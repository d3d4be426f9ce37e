"""Section of a report: errors by verdict, coverage of stated uncertainties, and disagreement of the planes."""

from collections.abc import Sequence

from veriserum_hf.core import CAMERA_OF, NOT_ASSESSED, Table
from veriserum_hf.evaluation import accuracy_table, by_verdict, coverage
from veriserum_hf.poses import DEVIATIONS_95, SessionPlanes, planes_by_session, planes_table, pose_differences
from veriserum_hf.reports.blocks import Block, heading, note, number, table
from veriserum_hf.reports.sources import PoseSource, Reference

_COVERAGE_NOTE = (
    f"For each degree of freedom: the share of errors within {DEVIATIONS_95:.2f} stated standard deviations (SD), "
    "95 % if these are correct and the labels exact; the median of the stated SD; and the 68.3 % quantile of the "
    "absolute errors, which equals a correct SD. Position of the implant's origin along, and rotation vector about, "
    "the world's axes. Errors of the labels are included and lower the share."
)

_PLANES = "By how much the planes disagree:"


def verdict_blocks(reference: Reference, sources: Sequence[PoseSource]) -> list[Block]:
    """Errors by verdict, coverage of stated intervals and disagreement of planes, for every source that has them.

    Initial poses are farther off than any stated interval, and say nothing of these: then there is no coverage.
    """
    return [block for source in sources for block in _of_source(reference, source)]


def _of_source(reference: Reference, source: PoseSource) -> list[Block]:
    verdicts = source.column("verdict")
    blocks: list[Block] = []
    if set(verdicts) - {None, NOT_ASSESSED}:
        groups = by_verdict(source.errors, verdicts)
        counts = [[name, group["count"], _percent(group["count"] / len(verdicts))] for name, group in groups.items()]
        blocks += [table(Table(["verdict", "poses", "share"], counts)), table(accuracy_table(groups))]
    if not reference.initial and (found := _coverage_table(source, verdicts)):
        blocks.append(table(found))
    if sessions := _sessions(reference, source):
        blocks += [note(_PLANES), table(planes_table(sessions))]
    return [heading(source.name), *blocks] if blocks else []


def _sessions(reference: Reference, source: PoseSource) -> list[SessionPlanes]:
    if all(value is None for value in source.column("planes_apart_mm")):
        return []
    rows = reference.rows.select_columns(["measurement_id", "trial_id", *CAMERA_OF.values()])
    return planes_by_session(rows, source.poses)


def _coverage_table(source: PoseSource, verdicts: Sequence[str | None]) -> Table | None:
    differences = pose_differences(source.estimates.T_world_implant, source.estimates.T_world_label)
    covariances = source.column("covariance")
    found = coverage(differences, covariances)
    if not found:
        return None
    header = ["degree of freedom", "poses", "within 95 %", "stated SD", "68.3 % quantile of errors"]
    rows: list[list[object]] = [
        [
            each["name"],
            each["count"],
            _percent(each["within_95"]),
            number(each["stated_sd"]),
            number(each["error_68"]),
        ]
        for each in found
    ]
    names = sorted({verdict for verdict in verdicts if verdict is not None})
    for name in names if len(names) > 1 else ():
        of_verdict = [one if verdict == name else None for one, verdict in zip(covariances, verdicts, strict=True)]
        within = [_percent(each["within_95"]) for each in coverage(differences, of_verdict)]
        if within:
            header.append(f"within 95 %, {name}")
            for row, share in zip(rows, within, strict=True):
                row.append(share)
    return Table(header, rows, note=_COVERAGE_NOTE)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
