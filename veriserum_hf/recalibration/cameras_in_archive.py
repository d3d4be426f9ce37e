"""Refined cameras in an archive: a new source calibration for each, which holds for the trials of its rig.

Cameras are refined for trials, while poses name calibrations by id, and trials of several rigs may name the same. So
no row is changed: a rig becomes a new row, with the pose of ``fs`` in ``inter_plane_calibration``, and
``veriserum_hf_refined_cameras`` states for each of its trials which calibration it replaces there.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
from scipy.spatial.transform import Rotation

from veriserum_hf.archive import REFINED_CAMERAS, VeriserumArchive, check_rig
from veriserum_hf.calibration import RefinedCameras, RefinedRig, refined_cameras_sha256
from veriserum_hf.core import PLANES, CameraRow, FloatArray, PlaneName, listed
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import DualPlaneRig, Plane, invert_transform, make_transform, transform_points
from veriserum_hf.recalibration.new_rows import LinkedRows, NewRow, Row, add_rows
from veriserum_hf.recalibration.write_calibration import inter_plane_rows, source_columns, stamped

_COLUMNS = {
    "id": "INTEGER PRIMARY KEY",
    **dict.fromkeys(("trial_id", "replaced_id", "source_int_calibration_id"), "INTEGER NOT NULL"),
    **dict.fromkeys(("bs_tx", "bs_ty", "bs_tz"), "REAL NOT NULL"),
    **dict.fromkeys(("plane_covariance", "cameras_sha256"), "TEXT NOT NULL"),
    "method": "TEXT",
    "update_timestamp": "TEXT",
}
_SAME_ROTATION = 1e-9
_ROUNDING_MM = 1e-6


@dataclass(frozen=True, eq=False)
class NewCameras:
    """Refined cameras of some trials in place of one source calibration.

    Attributes
    ----------
    rig : what was refined.
    replaced : id of the source calibration.
    trials : of the rig, whose frames have it.
    others : trials that keep it: no improved rig replaces it there.
    before, after : stored and refined planes.

    """

    rig: RefinedRig
    replaced: int
    trials: tuple[int, ...]
    others: tuple[int, ...]
    before: DualPlaneRig
    after: DualPlaneRig

    @property
    def fs_motion(self) -> FloatArray:
        """Motion of the ``fs`` source and its axes, (4, 4); that of the intensifier follows its distance, too."""
        before, after = (rig["fs"].world_to_camera for rig in (self.before, self.after))
        return invert_transform(after) @ before

    @property
    def fs_shift_mm(self) -> FloatArray:
        """Shift of the ``fs`` plane at the implants, (3,)."""
        shift: FloatArray = transform_points(self.fs_motion, self.rig.center_mm[None])[0] - self.rig.center_mm
        return shift

    @property
    def fs_rotation_deg(self) -> FloatArray:
        """Rotation vector of the ``fs`` plane about the world's axes, (3,)."""
        rotation: FloatArray = Rotation.from_matrix(self.fs_motion[:3, :3]).as_rotvec(degrees=True)
        return rotation

    @property
    def deviations(self) -> FloatArray:
        """Standard deviations of both, (6,)."""
        deviations: FloatArray = np.sqrt(self.rig.plane_covariance.diagonal())
        return deviations

    def change(self, plane: PlaneName) -> FloatArray:
        """Change of a plane's principal point (h, v) and distance, (3,) mm."""
        before, after = (
            np.array([*rig[plane].principal_point_mm, rig[plane].sid_mm]) for rig in (self.before, self.after)
        )
        change: FloatArray = after - before
        return change

    def document(self) -> dict[str, object]:
        """What changes, in the archive's terms, as JSON."""
        changes = {plane: self.change(plane).tolist() for plane in PLANES}
        return {
            "trials": list(self.trials),
            "replaced_source_int_calibration_id": self.replaced,
            "trials_that_keep_it": list(self.others),
            "fs_shift_mm": self.fs_shift_mm.tolist(),
            "fs_shift_sd_mm": self.deviations[:3].tolist(),
            "fs_rotation_deg": self.fs_rotation_deg.tolist(),
            "fs_rotation_sd_deg": self.deviations[3:].tolist(),
            "principal_point_change_mm": {plane: change[:2] for plane, change in changes.items()},
            "sid_change_mm": {plane: change[2] for plane, change in changes.items()},
        }

    def texts(self) -> dict[str, str]:
        """What changes, by name, in words."""
        found = {}
        for name, values, part, unit in (
            ("fs shift", self.fs_shift_mm, slice(3), "mm at the implants"),
            ("fs rotation", self.fs_rotation_deg, slice(3, 6), "degrees about the world's axes"),
        ):
            if not any(unknown.startswith(name) for unknown in self.rig.unknowns):
                continue  # held
            stated = zip("xyz", values, self.deviations[part], strict=True)
            found[name] = f"{', '.join(f'{axis} {value:+.3f} +- {sd:.3f}' for axis, value, sd in stated)} {unit}"
        for plane in PLANES:
            h_mm, v_mm, sid_mm = self.change(plane)
            if np.abs(self.change(plane)).max() > _ROUNDING_MM:
                found[f"{plane} source"] = f"principal point h {h_mm:+.3f}, v {v_mm:+.3f} mm, SID {sid_mm:+.3f} mm"
        return found


def new_cameras(archive: VeriserumArchive, cameras: RefinedCameras) -> list[NewCameras]:
    """Return what improved rigs change; nothing is written.

    Raises
    ------
    CalibrationError
        If a trial is not in the archive, has no pose that names a calibration, or other cameras than those that were
        refined; or the refined ones cannot be those of an archive.

    """
    sources = _sources_by_trial(archive)
    found = []
    replaced: dict[int, set[int]] = defaultdict(set)  # trials by id
    for rig in cameras.rigs:
        if rig.verdict != "improved":
            continue
        trials = defaultdict(list)
        after: dict[int, DualPlaneRig] = {}
        for trial in rig.trials:
            for id in _replaced(archive, rig, trial, sources.get(trial, set()), cameras.source, after):
                trials[id].append(trial)
        for id, of in sorted(trials.items()):
            replaced[id] |= set(of)
            found.append(NewCameras(rig, id, tuple(sorted(of)), (), archive.source_calibrations[id], after[id]))
    return [replace(each, others=_others(sources, each.replaced, replaced[each.replaced])) for each in found]


def write_cameras(archive: VeriserumArchive, cameras: RefinedCameras, changes: Sequence[NewCameras]) -> list[int]:
    """Add the new calibrations to the archive; all of them, or none.

    Parameters
    ----------
    archive : which they are of.
    cameras : which they were made from, for the hash.
    changes : see `new_cameras`.

    Returns
    -------
    The new ids in ``source_int_calibration``.

    Raises
    ------
    ArchiveError
        If the archive cannot be written to. Nothing was changed then.

    """
    hash = refined_cameras_sha256(cameras)
    rows = []
    for each in changes:
        row = stamped(archive, {}) | source_columns(each.after)
        of_package: Row = {name: row[name] for name in ("method", "update_timestamp")}
        bs_center_mm = each.after["bs"].T_world_intensifier[:3, 3].tolist()
        of_package |= dict(zip(("bs_tx", "bs_ty", "bs_tz"), bs_center_mm, strict=True))
        of_package |= {"plane_covariance": json.dumps(each.rig.plane_covariance.tolist()), "cameras_sha256": hash}
        refined = [of_package | {"trial_id": trial, "replaced_id": each.replaced} for trial in each.trials]
        linked = [
            inter_plane_rows(each.after, row),
            LinkedRows(REFINED_CAMERAS, _COLUMNS, "source_int_calibration_id", refined),
        ]
        rows.append(NewRow(row, linked))
    return add_rows(archive, "source_int_calibration", rows) if rows else []


def _others(sources: Mapping[int, set[int]], id: int, replaced: set[int]) -> tuple[int, ...]:
    """Trials that have a calibration, without these."""
    return tuple(sorted(trial for trial, ids in sources.items() if id in ids and trial not in replaced))


def _sources_by_trial(archive: VeriserumArchive) -> dict[int, set[int]]:
    """Ids of the source calibrations that current poses of each trial have."""
    trial_of = dict(zip(*(archive.frames[name].to_pylist() for name in ("measurement_id", "trial_id")), strict=True))
    current = archive.poses.filter(pc.invert(archive.poses["obsolete"]))
    found: dict[int, set[int]] = {trial: set() for trial in trial_of.values()}
    for measurement, id in zip(
        *(current[name].to_pylist() for name in ("measurement_id", "source_calibration_id")), strict=True
    ):
        if measurement in trial_of:
            found[trial_of[measurement]].add(id)
    return found


def _replaced(
    archive: VeriserumArchive,
    rig: RefinedRig,
    trial: int,
    ids: set[int],
    source: str,
    after: dict[int, DualPlaneRig],
) -> list[int]:
    """Ids of a trial's calibrations that the rig replaces; their refined planes are added to ``after``.

    Poses of another kind may name another calibration, which stays.
    """
    where = f"{archive.layout.root}, trial {trial}"
    if not ids:
        raise CalibrationError(
            f"{where}: it is not there, or no current pose names its calibration; expected the archive that "
            f"{source} was refined with"
        )
    found, errors = [], []
    for id in sorted(ids):
        try:
            after[id] = after.get(id) or _refined(rig, archive.source_calibrations[id])
            found.append(id)
        except CalibrationError as error:
            errors.append(f"source_int_calibration id {id}: {error}")
    if not found:
        raise CalibrationError(
            f"{where}, {listed(errors, 3)}. Expected the cameras that {source} was refined from; nothing was written"
        )
    return found


def _refined(rig: RefinedRig, stored: DualPlaneRig) -> DualPlaneRig:
    """Refined planes; CalibrationError if the stored ones are others, or an archive cannot have them."""
    planes: dict[PlaneName, Plane] = {plane: stored[plane] for plane in PLANES}
    for plane, before in rig.before.items():
        size, after = before.image_shape[0], rig.after[plane]
        try:
            camera = rig.replaced(plane, stored[plane].camera(size), (size, size))
        except CalibrationError as error:
            raise CalibrationError(f"{plane}: {error}") from error
        unchanged = all(
            np.array_equal(getattr(before, name), getattr(after, name)) for name in ("intrinsics", "world_to_camera")
        )
        planes[plane] = stored[plane] if unchanged else _plane(camera)
    refined = DualPlaneRig(planes["bs"], planes["fs"])
    if np.abs(refined["bs"].T_world_intensifier[:3, :3] - np.eye(3)).max() > _SAME_ROTATION:
        raise CalibrationError("bs is rotated; expected the axes of its intensifier, which are an archive's world")
    check_rig(refined)
    return refined


def _plane(camera: CameraRow) -> Plane:
    """The plane of a row's camera with a distance and a principal point in mm."""
    foot_mm, sid_mm = camera["principal_point_mm"], camera["source_to_intensifier_mm"]
    if foot_mm is None or sid_mm is None:
        raise CalibrationError("the camera has no principal point or distance in mm")
    T_world_camera = invert_transform(np.asarray(camera["world_to_camera"], dtype=np.float64))
    axes: FloatArray = T_world_camera[:3, :3] * (1.0, -1.0, -1.0)
    center_mm = T_world_camera[:3, 3] - axes @ np.array([*foot_mm, sid_mm])
    return Plane(make_transform(axes, center_mm), np.array(foot_mm), sid_mm)
