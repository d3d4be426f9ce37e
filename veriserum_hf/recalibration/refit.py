"""Refit an archive's calibrations from its own phantom frames, and compare with what is stored.

A refit does not reproduce stored numbers: many sets of coefficients describe nearly the same map, and the stored ones
came from another program. So distortions are compared by the mm that they map pixels to, where there were beads, and
sources by their positions, with the uncertainty of the refit.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.spatial import Delaunay

from veriserum_hf.archive import Findings, VeriserumArchive
from veriserum_hf.calibration import (
    RAW_HEIGHT_PX,
    RAW_WIDTH_PX,
    Distortion,
    DistortionMap,
    GridFit,
    RigFit,
    SourceFit,
    fit_rig,
    fit_source,
)
from veriserum_hf.core import PLANES, PlaneName
from veriserum_hf.errors import CalibrationError
from veriserum_hf.recalibration.differences import (
    CERTAIN,
    MOST_ROTATION_DEG,
    MOST_SOURCE_MM,
    Difference,
    inter_plane_differences,
    source_difference,
)
from veriserum_hf.recalibration.phantom_frames import PhantomFrame, Seen, find_in_frames, fit_grid

Numbers = dict[str, float | list[float]]
Outcome = Literal["agrees", "differs", "not fitted", "no frames"]

GRID, MARKERS = "sipla_grid", "sipla_cylinder"
MOST_MAPPED_MM = 0.34  # the resolution that the data set states
_STEP_PX = 16


@dataclass(frozen=True)
class Refit:
    """One stored calibration of one plane compared with its phantom frames.

    Attributes
    ----------
    table, id, plane : the stored calibration.
    outcome : "no frames" where the archive holds none of its phantom, "not fitted" where they cannot be fitted.
    frames : those that were used, as paths within the archive.
    detail : the comparison or the reason, as text.
    numbers : the comparison, mm and degrees; "off" is refitted minus stored.

    """

    table: str
    id: int
    plane: PlaneName
    outcome: Outcome
    frames: list[str] = field(default_factory=list)
    detail: str = ""
    numbers: Numbers = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return it as one flat dictionary."""
        return {name: value for name, value in asdict(self).items() if name != "numbers"} | self.numbers


def refit_calibrations(
    archive: VeriserumArchive, findings: Findings, progress: Callable[[int, int], None] | None = None
) -> list[Refit]:
    """Refit every calibration whose phantom frames the archive holds.

    Distortions are refitted from each frame of the phantom `sipla_grid`, sources from all frames of `sipla_cylinder`
    together: both planes at once where they show the same poses, else each alone.

    Parameters
    ----------
    archive : with its calibrations.
    findings : takes "calibration differs" where mapped mm differ by more than 0.34 mm, or a source by more than 1 mm
        and four standard deviations (the pose of the ``fs`` intensifier likewise), and "phantom not fitted" where a
        frame cannot be used; neither is structural.
    progress : called with the number of frames done and of all.

    """
    return _Refitting(archive, findings, progress).refits()


class _Refitting:
    """The refits of one archive, while they are made."""

    def __init__(
        self, archive: VeriserumArchive, findings: Findings, progress: Callable[[int, int], None] | None
    ) -> None:
        self.archive, self.findings, self.progress = archive, findings, progress
        frames: dict[tuple[str, int, PlaneName], list[PhantomFrame]] = {}
        for row in archive.calibration_frames.sort_by("calibration_measurement_id").to_pylist():
            frame = PhantomFrame(Path(row["path"]), row["plane"], row["calibration_measurement_id"])
            frames.setdefault((row["phantom"], row["calibration_trial_id"], row["plane"]), []).append(frame)

        def by_plane(
            phantom: str, ids: Iterable[int], trials: dict[int, dict[PlaneName, int]]
        ) -> dict[int, dict[PlaneName, list[PhantomFrame]]]:
            return {
                id: {plane: frames.get((phantom, trials[id].get(plane, -1), plane), []) for plane in PLANES}
                for id in ids
            }

        self.grids = by_plane(GRID, archive.distortions, archive.distortion_trials)
        self.markers = by_plane(MARKERS, archive.source_calibrations, archive.source_trials)
        self.done = 0
        self.total = sum(
            len(some)
            for frames_of in (self.grids, self.markers)
            for both in frames_of.values()
            for some in both.values()
        )

    def refits(self) -> list[Refit]:
        """Every calibration, by table, id and plane."""
        distortions = [
            refit
            for id in self.grids
            for plane in PLANES
            for refit in self._distortion(id, plane, self.grids[id][plane])
        ]
        return distortions + [refit for id, frames in self.markers.items() for refit in self._source(id, frames)]

    def _step(self, *, by: int = 1) -> None:
        self.done += by
        if self.progress:
            self.progress(self.done, self.total)

    def _relative(self, frame: PhantomFrame) -> str:
        return self.archive.layout.relative(frame.path)

    def _where(self, table: str, id: int, planes: Iterable[PlaneName]) -> str:
        return f"{self.archive.layout.where(table)}, id {id}, {' and '.join(planes)}"

    def _judged(self, refit: Refit, found: str, expected: str) -> Refit:
        """Report a calibration that differs, with the values that do."""
        if refit.outcome == "differs":
            command = "distortion" if refit.table == "distortion_calibration" else "rig"
            self.findings.problem(
                "calibration differs",
                self._where(refit.table, refit.id, [refit.plane]),
                f"by the refit {found}; expected {expected}",
                f"Run `veriserum calibrate {command}` on its frames; if the refit is right, --write adds it "
                "under a new id. Stored poses keep the calibration that they name.",
            )
        return refit

    def _unfitted(self, table: str, id: int, planes: Sequence[PlaneName], reason: str) -> list[Refit]:
        detail = reason.replace(f"{self.archive.layout.root}{os.sep}", "")
        look = "Check the frames, or take them again"
        if table == "source_int_calibration" and (distortion_id := self.archive.distortions_of_sources.get(id)):
            look = f"Check the frames, and distortion calibration {distortion_id}, which they were read with"
        remedy = f"{look}; the stored calibration stays in use."
        self.findings.problem("phantom not fitted", self._where(table, id, planes), detail, remedy)
        return [Refit(table, id, plane, "not fitted", detail=detail) for plane in planes]

    def _distortion(self, id: int, plane: PlaneName, frames: Sequence[PhantomFrame]) -> list[Refit]:
        table = "distortion_calibration"
        refits = [] if frames else [Refit(table, id, plane, "no frames")]
        for frame in frames:
            try:
                refits.append(self._compared(id, frame, self.archive.distortions[id][plane], fit_grid(frame)))
            except CalibrationError as error:
                refits += self._unfitted(table, id, [plane], str(error))
            self._step()
        return refits

    def _compared(self, id: int, frame: PhantomFrame, stored: DistortionMap, fit: GridFit) -> Refit:
        x_px, y_px = np.meshgrid(np.arange(0, RAW_WIDTH_PX, _STEP_PX), np.arange(0, RAW_HEIGHT_PX, _STEP_PX))
        xy_px = np.stack([x_px.ravel(), y_px.ravel()], axis=1).astype(np.float64)
        xy_px = xy_px[Delaunay(fit.beads_px).find_simplex(xy_px) >= 0]
        # Of both the same form: what the lab's misses is no change of the intensifier.
        fitted = fit.distortion if isinstance(stored, Distortion) else fit.chosen.distortion
        off_mm = np.linalg.norm(fitted.to_mm(xy_px) - stored.to_mm(xy_px), axis=1)
        median_mm, max_mm = float(np.median(off_mm)), float(off_mm.max())
        rotated = (
            "" if fit.upright else f", and the phantom is rotated by {fit.rotation_deg:.0f} degrees in the frame"
        )
        refit = Refit(
            "distortion_calibration",
            id,
            frame.plane,
            "differs" if max_mm > MOST_MAPPED_MM else "agrees",
            [self._relative(frame)],
            f"mapped places differ by {median_mm:.3f} mm (median), {max_mm:.3f} mm at most{rotated}",
            {
                "mapped_off_mm_median": median_mm,
                "mapped_off_mm_max": max_mm,
                "residual_mm_rms": fit.residual_mm_rms,
                "beads_found": fit.beads_found,
                "beads_expected": fit.beads_expected,
                "rotation_deg": fit.rotation_deg,
                "upright": fit.upright,
            },
        )
        return self._judged(
            refit, refit.detail, f"at most {MOST_MAPPED_MM} mm among the beads of {self._relative(frame)}"
        )

    def _source(self, id: int, by_plane: dict[PlaneName, list[PhantomFrame]]) -> list[Refit]:
        table = "source_int_calibration"
        refits = [Refit(table, id, plane, "no frames") for plane in PLANES if not by_plane[plane]]
        distortions = self.archive.distortions.get(self.archive.distortions_of_sources.get(id, -1))
        bs, fs = ({frame.number for frame in by_plane[plane]} for plane in PLANES)
        groups: list[tuple[PlaneName, ...]] = (
            [PLANES] if bs & fs else [(plane,) for plane in PLANES if by_plane[plane]]
        )
        for planes in groups:
            frames = [frame for plane in planes for frame in by_plane[plane]]
            if distortions is None:
                reason = "neither a pose nor a calibration set states which distortion goes with it"
                refits += self._unfitted(table, id, planes, reason)
                self._step(by=len(frames))
                continue
            start = self.archive.source_calibrations[id]
            seen = find_in_frames(frames, distortions, start, lambda *_: self._step())
            try:
                refits += self._fitted(id, planes, seen)
            except CalibrationError as error:
                refits += self._unfitted(table, id, planes, str(error))
        return refits

    def _fitted(self, id: int, planes: Sequence[PlaneName], seen: Seen) -> list[Refit]:
        stored = self.archive.source_calibrations[id]
        fit: SourceFit | RigFit
        if len(planes) == 2:
            fit = fit_rig(seen.pairs(), stored)
            fitted = dict(fit.rig)
        else:
            fit = fit_source(seen.of(planes[0]), stored[planes[0]])
            fitted = {planes[0]: fit.plane}
        if seen.left_out:
            frame, reason = next(iter(seen.left_out.items()))
            count = f"{len(seen.left_out)} of {len(seen.left_out) + len(seen.observations)} frames"
            self._unfitted(
                "source_int_calibration", id, planes, f"{count} cannot be used: {self._relative(frame)}: {reason}"
            )
        refits = []
        for number, plane in enumerate(planes):
            source = slice(3 * number, 3 * number + 3)
            all_off = {"source": source_difference(fitted[plane], stored[plane], fit.standard_deviations[source])}
            if isinstance(fit, RigFit) and plane == "fs":
                all_off |= inter_plane_differences(fit, stored["fs"].T_world_intensifier)
            refits.append(self._source_refit(id, plane, all_off, fit, seen))
        return refits

    def _source_refit(
        self, id: int, plane: PlaneName, all_off: dict[str, Difference], fit: SourceFit | RigFit, seen: Seen
    ) -> Refit:
        numbers: Numbers = {"distortion_id": self.archive.distortions_of_sources[id]}
        numbers |= {name: getattr(fit, name) for name in ("residual_mm_rms", "markers_used", "markers_seen")}
        for name, off in all_off.items():
            numbers |= {f"{name}_off_{off.unit}": off.values.tolist(), f"{name}_std_{off.unit}": off.std.tolist()}
        refit = Refit(
            "source_int_calibration",
            id,
            plane,
            "differs" if any(off.certain.any() for off in all_off.values()) else "agrees",
            [self._relative(frame) for frame in seen.observations if frame.plane == plane],
            "; ".join(off.stated(np.ones(3, dtype=bool)) for off in all_off.values()),
            numbers,
        )
        differs = "; ".join(off.stated(off.certain) for off in all_off.values() if off.certain.any())
        most = f"{MOST_SOURCE_MM:g} mm ({MOST_ROTATION_DEG:g} degrees), or {CERTAIN:g} standard deviations if larger"
        return self._judged(refit, differs, f"no more than {most}")
