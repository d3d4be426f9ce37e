"""``veriserum audit``."""

import sys
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.options import Archive, AsJson, White
from veriserum_hf.cli.output import out, print_json, print_parts, print_text, show_progress
from veriserum_hf.core import Table, one_line

if TYPE_CHECKING:
    from veriserum_hf.archive import AuditReport
    from veriserum_hf.recalibration import Refit


def audit(
    archive: Archive,
    as_json: AsJson = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also decode every frame, read every mesh, and compare labels with images.")
    ] = False,
    calibration: Annotated[
        bool, typer.Option("--calibration", help="Also refit every calibration from its phantom frames.")
    ] = False,
    white: White = None,
) -> None:
    """Check an archive: counts, decisions and every problem.

    Exit status: 0 clean, 1 problems, 2 unusable.

    Examples
    --------
    veriserum audit ARCHIVE
    veriserum audit ARCHIVE --deep --calibration
    veriserum audit ARCHIVE --deep --white 4095
    veriserum audit ARCHIVE --json > audit.json
    """
    from veriserum_hf.archive import audit_archive

    report: AuditReport
    refits = None
    with show_progress("decoding", "frames") as progress, show_progress("refitting", "frames") as refit_progress:
        if calibration:
            from veriserum_hf.recalibration import audit_calibrations  # takes as long to load as half an audit

            report = audited = audit_calibrations(
                archive, deep=deep, white_level=white, progress=progress, refit_progress=refit_progress
            )
            refits = audited.calibration
        else:
            report = audit_archive(archive, deep=deep, white_level=white, progress=progress)
    if as_json:
        print_json(report.as_json())
    else:
        _print_report(report, deep, refits)
    sys.exit(report.exit_status)


def _print_report(report: "AuditReport", deep: bool, refits: "list[Refit] | None") -> None:
    document = report.as_json()
    hint = "" if deep else " (frames and meshes were not read; --deep reads them)"
    print_parts((one_line(report.path), "bold"), f": {document['status']}{hint}\n")
    if report.counts:
        counts = [(name.replace("_", " "), _count(count)) for name, count in report.counts.items()]
        print_text(Table([], counts, alignment="l").text())
    if report.clipped is not None:
        _print_clipped(report)
    for decision in report.findings.decisions.values():
        print_parts(f"\n{decision.question} ", (one_line(decision.answer), "bold"))
        print_text(fill(decision.evidence, out().width, initial_indent="  ", subsequent_indent="  "))
    if refits is not None:
        _print_refits(refits)
    _print_problems(report)


def _print_clipped(report: "AuditReport") -> None:
    print_text("\nHow much of the frames is clipped (saturated or underexposed, share of the field)?")
    for plane, shares in (report.clipped or {}).items():
        print_text(
            f"  {plane}: median {shares['median']:.1%}, 95th percentile {shares['p95']:.1%}, maximum "
            f"{shares['max']:.1%}; above 5 % in {shares['frames_above_5_percent']} of {shares['frames']} frames"
        )


def _count(count: object) -> str:
    return ", ".join(f"{key} {value}" for key, value in count.items()) if isinstance(count, dict) else str(count)


def _print_refits(refits: "list[Refit]") -> None:
    print_text("\nDo the calibrations agree with the phantom frames of the archive?")
    print_text("  A refit does not reproduce stored coefficients; the mapped positions are compared.")
    for refit in refits:
        used = refit.frames[0] if len(refit.frames) == 1 else f"{len(refit.frames)} frames"
        detail = (
            "see below" if refit.outcome == "not fitted" else refit.detail
        )  # the problem states the reason in full
        note = (f" ({used})" if refit.frames else "") + (f": {detail}" if detail else "")
        print_parts(f"  {refit.table} {refit.id} {refit.plane} ", (refit.outcome, "bold"), one_line(note))


def _print_problems(report: "AuditReport") -> None:
    by_kind: dict[tuple[bool, str], list[object]] = {}
    for problem in report.findings.problems:
        by_kind.setdefault((not problem.structural, problem.kind), []).append(problem)
    for (usable, kind), problems in sorted(by_kind.items()):
        print_parts("\n", (kind, "bold"), f" ({len(problems)}{'' if usable else ', makes the archive unusable'})")
        for each in problems:
            print_text(f"  {each}")
