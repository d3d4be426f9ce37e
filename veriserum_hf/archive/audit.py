"""Every check of an archive in one report."""

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.clipped_frames import ClippedShares, clipped_shares
from veriserum_hf.archive.conventions import TRIALS_DEEP, assess_conventions
from veriserum_hf.archive.copies import report_copies
from veriserum_hf.archive.frame_checks import check_frame
from veriserum_hf.archive.frames import RawFormat
from veriserum_hf.archive.mesh_audit import audit_meshes
from veriserum_hf.archive.neighbours import TrialNeighbours
from veriserum_hf.archive.odd_frames import Stored, report_odd_frames
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.single_frames import report_single_frames
from veriserum_hf.core import PLANES, PlaneName
from veriserum_hf.errors import ArchiveError

Counts = dict[str, int | dict[str, int]]


@dataclass
class AuditReport:
    """What an audit found.

    Attributes
    ----------
    path : the archive.
    findings : decisions and problems.
    counts : how many there are of what; empty where the tables could not be read.
    archive : the archive itself; None where the tables could not be read.
    clipped : how much of the frames of each plane is clipped; None where they were not decoded.

    """

    path: str
    findings: Findings
    counts: Counts = field(default_factory=dict)
    archive: VeriserumArchive | None = None
    clipped: dict[PlaneName, ClippedShares] | None = None

    @property
    def exit_status(self) -> int:
        """0 clean, 1 problems, 2 unusable."""
        if self.findings.structural:
            return 2
        return 1 if self.findings.problems else 0

    def as_json(self) -> dict[str, object]:
        """Return the report as plain dictionaries and lists."""
        status = ("clean", "problems", "unusable")[self.exit_status]
        by_kind = dict(Counter(problem.kind for problem in self.findings.problems))
        document: dict[str, object] = {
            "archive": self.path,
            "status": status,
            "counts": self.counts,
            "problem_counts": by_kind,
        }
        if self.clipped is not None:
            document["clipped"] = self.clipped
        return document | self.findings.as_json()


def audit_archive(
    path: str | os.PathLike[str],
    *,
    deep: bool = False,
    white_level: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Check an archive.

    Parameters
    ----------
    path : the archive's folder, database or pose CSV.
    deep : also decode every frame, compare it with its neighbours, count its clipped pixels, read every mesh, look
        for frames that are copies of each other, and compare labels with images.
    white_level : grey level that is white in frames of 16 bits; None: decided by a sample of them.
    progress : called with the number of frames decoded and of all.

    """
    findings = Findings()
    report = AuditReport(str(path), findings)
    try:
        archive = VeriserumArchive(path, findings=findings, white_level=white_level)
    except ArchiveError:
        return report  # the reason is the last of the findings
    report.archive, report.counts = archive, _counts(archive)
    if deep and not findings.structural:
        report.clipped = _decode_all(archive, findings, progress)
        report_copies(archive.frames, archive.layout, findings)
        assess_conventions(archive, findings, TRIALS_DEEP)
        if not findings.structural:
            report_single_frames(archive, findings)
    return report


def _counts(archive: VeriserumArchive) -> Counts:
    frames, poses = archive.frames, archive.poses
    current = poses.filter(pc.invert(poses["obsolete"]))
    tasks = pc.fill_null(frames["task"], "")
    return {
        "measurements": frames.num_rows,
        "trials": len(pc.unique(frames["trial_id"])),
        "tasks": _count(pc.if_else(pc.equal(tasks, ""), "unknown", tasks)),
        "frame_files": {plane: len(archive.layout.frames[plane]) for plane in PLANES},
        "frames_with_both_planes": pc.sum(pc.and_(frames["path_bs"].is_valid(), frames["path_fs"].is_valid())).as_py()
        or 0,
        "poses": dict(sorted(_count(current["kind"]).items())),
        "obsolete_poses": poses.num_rows - current.num_rows,
        "implants": {str(anatomy.id): anatomy.component for anatomy in archive.anatomies.values()},
        "distortion_calibrations": len(archive.distortions),
        "source_calibrations": len(archive.source_calibrations),
        "calibration_frames": archive.calibration_frames.num_rows,
    }


def _count(column: pa.ChunkedArray) -> dict[str, int]:
    return {each["values"]: each["counts"] for each in pc.value_counts(column).to_pylist()}


def _decode_all(
    archive: VeriserumArchive, findings: Findings, progress: Callable[[int, int], None] | None
) -> dict[PlaneName, ClippedShares]:
    """Read every frame that has a row, and every mesh; decoding releases the interpreter, so threads share it."""
    meshes = [anatomy for anatomy in archive.anatomies.values() if anatomy.path]
    where, planes = archive.layout.relative, [archive.frames[f"path_{plane}"].to_pylist() for plane in PLANES]
    # Measurement by measurement, so that the frames of a trial are compared soon.
    checks: dict[str, RawFormat | None] = dict.fromkeys(
        (path for row in zip(*planes, strict=True) for path in row if path), archive.raw_format
    )
    checks |= dict.fromkeys(archive.calibration_frames["path"].to_pylist())
    known = {(problem.kind, problem.where) for problem in findings.problems}
    neighbours = TrialNeighbours(archive.frames, archive.layout, findings)
    stored: dict[str, Stored] = {}
    clipped: dict[str, float] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(check_frame, checks, map(where, checks), checks.values())
        for done, (path, checked) in enumerate(zip(checks, results, strict=True), start=1):
            findings.problems += [each for each in checked.problems if (each.kind, each.where) not in known]
            if checks[path] is not None:
                neighbours.add(path, checked.thumbnail)
            if checked.stored is not None:
                stored[path] = checked.stored
            if checked.clipped is not None:
                clipped[path] = checked.clipped
            if progress:
                progress(done, len(checks) + len(meshes))
    report_odd_frames(stored, archive.frames, archive.layout, findings)
    for done, _ in enumerate(audit_meshes(meshes, archive.layout, findings), start=len(checks) + 1):
        if progress:
            progress(done, len(checks) + len(meshes))
    of_planes = dict(zip(PLANES, planes, strict=True))
    return clipped_shares(
        {plane: [clipped[path] for path in of_planes[plane] if path in clipped] for plane in PLANES}
    )
