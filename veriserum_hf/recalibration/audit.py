"""An archive's audit with its calibrations refitted from their phantom frames."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from veriserum_hf.archive import AuditReport, audit_archive
from veriserum_hf.recalibration.refit import Refit, refit_calibrations

Progress = Callable[[int, int], None]


@dataclass
class CalibrationAudit(AuditReport):
    """What an audit found, the calibrations included.

    Attributes
    ----------
    calibration : every calibration against its phantom frames; None where the archive is unusable.

    """

    calibration: list[Refit] | None = None

    def as_json(self) -> dict[str, object]:
        """Return the report as plain dictionaries and lists."""
        document = super().as_json()
        if self.calibration is not None:
            document["calibration"] = [refit.as_json() for refit in self.calibration]
        return document


def audit_calibrations(
    path: str | os.PathLike[str],
    *,
    deep: bool = False,
    white_level: int | None = None,
    progress: Progress | None = None,
    refit_progress: Progress | None = None,
) -> CalibrationAudit:
    """Check an archive, and refit every calibration whose phantom frames are there.

    Parameters
    ----------
    path, deep, white_level, progress : see `veriserum_hf.archive.audit_archive`.
    refit_progress : called with the number of phantom frames refitted and of all.

    """
    report = audit_archive(path, deep=deep, white_level=white_level, progress=progress)
    refits = None
    if report.archive is not None and not report.findings.structural:
        refits = refit_calibrations(report.archive, report.findings, refit_progress)
    return CalibrationAudit(report.path, report.findings, report.counts, report.archive, report.clipped, refits)
