"""Whether calibrations can be those of an X-ray rig, and are like the nominal one, their partner and each other.

Nominal values are those of the download: distances of 1851.35 to 1860.54 mm, principal points within 12 mm of the
intensifiers' centres, raw frames that show 351 to 374 mm with their centre within 15 mm of the intensifier's. What no
rig with these intensifiers can be is an error. What is only unlike the nominal rig is a problem that is named: other
laboratories, and other years, may have other rigs. Fluoroscopes, biplane ones included, have distances of 0.9 to 2 m
and intensifiers of 230 to 400 mm; the limits of what is possible are wider than these by half or more.
"""

from collections.abc import Callable, Mapping

import numpy as np

from veriserum_hf.archive.problems import Findings
from veriserum_hf.calibration import RAW_HEIGHT_PX, RAW_WIDTH_PX, DistortionMap
from veriserum_hf.core import PLANES, FloatArray, PlaneName
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import FIELD_MM, NOMINAL_T_WORLD_FS, DualPlaneRig, Plane, angle_between_deg

NOMINAL_SID_MM = 1860.0
_POSSIBLE_SID_MM = (600.0, 3000.0)
_POSSIBLE_PRINCIPAL_POINT_MM = 1.5 * FIELD_MM / 2  # from the intensifier's centre: near its field
_POSSIBLE_ANGLE_DEG = (15.0, 165.0)  # between the planes' normals; nearer to 0 or 180, depth cannot be seen
_POSSIBLE_FIELD_MM = (FIELD_MM / 2, FIELD_MM * 2)  # edges of what a raw frame shows
_POSSIBLE_CENTER_MM = FIELD_MM / 2  # of a raw frame's centre from the intensifier's

_USUAL_SID = 0.1  # part of the nominal distance, and of the partner plane's
_USUAL_PRINCIPAL_POINT_MM = 50.0
_USUAL_FS_MM, _USUAL_FS_DEG = 200.0, 20.0  # of the fs intensifier from its nominal pose
_USUAL_FIELD = 0.2  # part of the field's edge; half of it between the planes
_USUAL_CENTER_MM = 40.0
_USUAL_ROTATION_DEG = 10.0
_USUAL_BEND_MM = 20.0  # root mean square from the best affine map
# From the median of all calibrations of the archive; or six times their usual deviation, where that is more.
_USUAL_DEVIATION_MM = {"source-to-intensifier distance": 50.0, "principal point": 12.0, "mapped raw frame": 10.0}
_ENOUGH_TO_COMPARE = 4

_GRID_PX = np.stack(
    np.meshgrid(np.linspace(0, RAW_WIDTH_PX - 1, 9), np.linspace(0, RAW_HEIGHT_PX - 1, 9)), axis=-1
).reshape(-1, 2)
_FROM_CENTER = np.column_stack([_GRID_PX - _GRID_PX.mean(axis=0), np.ones(len(_GRID_PX))])
_CHECK = "Compare the row with the download's, or refit it: veriserum audit --calibration. It is used as it is."


def check_rig(rig: DualPlaneRig) -> None:
    """Refuse a rig that cannot be.

    Raises
    ------
    CalibrationError
        If a distance, a principal point, or the planes' relative pose is beyond what an X-ray rig can have.

    """
    low, high = _POSSIBLE_SID_MM
    for name, plane in rig.items():
        if not low <= plane.sid_mm <= high:
            raise CalibrationError(
                f"sid_{name} is {plane.sid_mm:g} mm, expected {low:g} to {high:g} mm (nominally {NOMINAL_SID_MM:g} "
                "mm); check the unit"
            )
        if not (np.abs(plane.principal_point_mm) <= _POSSIBLE_PRINCIPAL_POINT_MM).all():
            raise CalibrationError(
                f"principalp_h_{name}, principalp_v_{name} is {_point(plane.principal_point_mm)} mm, expected within "
                f"{_POSSIBLE_PRINCIPAL_POINT_MM:g} mm of the intensifier's centre (nominally within 12 mm)"
            )
    angle_deg = _angle_between_planes_deg(rig)
    if not _POSSIBLE_ANGLE_DEG[0] <= angle_deg <= _POSSIBLE_ANGLE_DEG[1]:
        raise CalibrationError(
            f"the planes look along directions {angle_deg:.1f} deg apart, expected "
            f"{_POSSIBLE_ANGLE_DEG[0]:g} to {_POSSIBLE_ANGLE_DEG[1]:g} deg (nominally 70 deg)"
        )
    gap_mm, parts = _crossing(rig)
    if gap_mm > FIELD_MM / 2 or not all(0 < part < 1 for part in parts):
        raise CalibrationError(
            f"the planes share no field: their central rays pass {gap_mm:.0f} mm from each other, at "
            f"{parts[0]:.2f} (bs) and {parts[1]:.2f} (fs) of the way from intensifier to source, expected at most "
            f"{FIELD_MM / 2:g} mm, and between 0 and 1 (nominally 0 mm, and 0.2)"
        )


def _angle_between_planes_deg(rig: DualPlaneRig) -> float:
    normals = [plane.T_world_intensifier[:3, 2] for plane in rig.values()]
    return float(np.degrees(np.arccos(np.clip(normals[0] @ normals[1], -1, 1))))


def _crossing(rig: DualPlaneRig) -> tuple[float, FloatArray]:
    """How near the planes' central rays pass, mm, and at which part of their ways from intensifier to source."""
    centers = np.stack([plane.T_world_intensifier[:3, 3] for plane in rig.values()])
    ways = np.stack([plane.source_mm for plane in rig.values()]) - centers
    parts = np.linalg.lstsq(np.stack([ways[0], -ways[1]], axis=1), centers[1] - centers[0], rcond=None)[0]
    nearest = centers + parts[:, None] * ways
    return float(np.linalg.norm(nearest[1] - nearest[0])), parts


def check_distortion(distortion: DistortionMap) -> None:
    """Refuse a distortion that does not map the raw frame to about the intensifier's field.

    Raises
    ------
    CalibrationError
        If the mapped raw frame is far too small, too large, beside the field, or mirrored.

    """
    affine, mapped_mm = _affine(distortion)
    if not np.isfinite(mapped_mm).all():
        raise CalibrationError("the raw frame maps to positions that are not finite")
    edges_mm = _edges_mm(affine)
    low, high = _POSSIBLE_FIELD_MM
    if not ((low <= edges_mm) & (edges_mm <= high)).all():
        raise CalibrationError(
            f"the raw frame maps to {edges_mm[0]:.4g} x {edges_mm[1]:.4g} mm, expected {low:g} to {high:g} mm "
            "(nominally 374 x 360 mm)"
        )
    if np.linalg.det(affine[:2]) > 0:
        raise CalibrationError(
            "it maps the raw frame mirrored, expected columns to the right and rows down; if the raw frames are "
            "mirrored, mirror them back and calibrate again"
        )
    if np.linalg.norm(affine[2]) > _POSSIBLE_CENTER_MM:
        raise CalibrationError(
            f"the raw frame's centre maps to {_point(affine[2])} mm, expected within {_POSSIBLE_CENTER_MM:g} mm of "
            "the intensifier's (nominally within 15 mm)"
        )


def _affine(distortion: DistortionMap) -> tuple[FloatArray, FloatArray]:
    """Affine map nearest to a distortion, (per column, per row of the raw frame, centre), and a mapped grid, mm."""
    with np.errstate(all="ignore"):
        mapped_mm = distortion.to_mm(_GRID_PX)
    if not (np.abs(mapped_mm) < 1e100).all():
        return np.full((3, 2), np.nan), np.full_like(mapped_mm, np.nan)
    affine: FloatArray = np.linalg.lstsq(_FROM_CENTER, mapped_mm, rcond=None)[0]
    return affine, mapped_mm


def _edges_mm(affine: FloatArray) -> FloatArray:
    """Width and height of the raw frame on the intensifier, mm."""
    edges: FloatArray = np.linalg.norm(affine[:2], axis=1) * (RAW_WIDTH_PX, RAW_HEIGHT_PX)
    return edges


def compare_rigs(rigs: Mapping[int, DualPlaneRig], where: str, findings: Findings) -> None:
    """Report rigs that are unlike the nominal one, planes unlike their partner, and rigs unlike the others."""
    for id, rig in rigs.items():
        for name, plane in rig.items():
            if abs(plane.sid_mm / NOMINAL_SID_MM - 1) > _USUAL_SID:
                _unusual(findings, where, id, f"sid_{name} is {plane.sid_mm:g} mm, nominally {NOMINAL_SID_MM:g} mm")
            if np.linalg.norm(plane.principal_point_mm) > _USUAL_PRINCIPAL_POINT_MM:
                at = _point(plane.principal_point_mm)
                what = f"the principal point of {name} is {at} mm from the centre, nominally within 12 mm"
                _unusual(findings, where, id, what)
        bs, fs = rig["bs"], rig["fs"]
        if abs(bs.sid_mm / fs.sid_mm - 1) > _USUAL_SID:
            _unusual(
                findings, where, id, f"sid_bs is {bs.sid_mm:g} mm and sid_fs {fs.sid_mm:g} mm, nominally within 10 mm"
            )
        off_mm = float(np.linalg.norm(fs.T_world_intensifier[:3, 3] - NOMINAL_T_WORLD_FS[:3, 3]))
        off_deg = float(angle_between_deg(fs.T_world_intensifier[:3, :3], NOMINAL_T_WORLD_FS[:3, :3]))
        if off_mm > _USUAL_FS_MM or off_deg > _USUAL_FS_DEG:
            what = f"inter_plane_calibration puts fs {off_mm:.0f} mm and {off_deg:.0f} deg from its nominal pose"
            _unusual(findings, where, id, what)
    for name in PLANES:
        _compare(rigs, "source-to-intensifier distance", name, lambda plane: [plane.sid_mm], where, findings)
        _compare(rigs, "principal point", name, lambda plane: plane.principal_point_mm, where, findings)


def _compare(
    rigs: Mapping[int, DualPlaneRig],
    what: str,
    name: PlaneName,
    value: Callable[[Plane], FloatArray | list[float]],
    where: str,
    findings: Findings,
) -> None:
    """Report the rigs whose value in one plane is far from the median of all of them."""
    values = np.array([value(rig[name]) for rig in rigs.values()])
    for id, own, off_mm, usual in _far_off(list(rigs), values, what):
        text = (
            f"the {what} of {name} is {_point(own)} mm, {off_mm:.1f} mm from the archive's median {_point(usual)} mm"
        )
        _unusual(findings, where, id, text)


def _far_off(ids: list[int], values: FloatArray, what: str) -> list[tuple[int, FloatArray, float, FloatArray]]:
    """Ids, values, distances from the median, and the median, of values (n, ...) that lie far from it."""
    if len(ids) < _ENOUGH_TO_COMPARE:
        return []
    median = np.median(values, axis=0)
    off = np.sqrt(((values - median) ** 2).reshape(len(ids), -1).mean(axis=1) * values.shape[-1])
    limit = max(_USUAL_DEVIATION_MM[what], 6 * 1.4826 * float(np.median(off)))
    return [(ids[k], values[k], float(off[k]), median) for k in np.flatnonzero(off > limit)]


def compare_distortions(
    distortions: Mapping[int, Mapping[PlaneName, DistortionMap]], where: str, findings: Findings
) -> None:
    """Report distortions that are unlike the nominal one, planes unlike their partner, and unlike the others."""
    mapped: dict[PlaneName, list[FloatArray]] = {plane: [] for plane in PLANES}
    for id, by_plane in distortions.items():
        edges: dict[PlaneName, FloatArray] = {}
        for name, distortion in by_plane.items():
            affine, mapped_mm = _affine(distortion)
            mapped[name].append(mapped_mm)
            edges[name] = _edges_mm(affine)
            bend_mm = float(np.sqrt(((_FROM_CENTER @ affine - mapped_mm) ** 2).sum(axis=1).mean()))
            rotation_deg = float(np.degrees(np.arctan2(affine[0, 1], affine[0, 0])))
            size = f"{edges[name][0]:.4g} x {edges[name][1]:.4g} mm"
            found = {
                f"the raw frame of {name} maps to {size}, nominally 374 x 360 mm": bool(
                    (np.abs(edges[name] / (374.0, FIELD_MM) - 1) > _USUAL_FIELD).any()
                ),
                f"the centre of the raw frame of {name} maps to {_point(affine[2])} mm, nominally within 15 mm of "
                "the intensifier's": bool(np.linalg.norm(affine[2]) > _USUAL_CENTER_MM),
                f"the raw frame of {name} is rotated by {rotation_deg:.1f} deg, nominally by less than 1 deg": (
                    abs(rotation_deg) > _USUAL_ROTATION_DEG
                ),
                f"the raw frame of {name} is bent by {bend_mm:.1f} mm RMS, nominally by 4 to 6 mm": (
                    bend_mm > _USUAL_BEND_MM
                ),
            }
            for what in (what for what, unusual in found.items() if unusual):
                _unusual(findings, where, id, what)
        if (np.abs(edges["bs"] / edges["fs"] - 1) > _USUAL_FIELD / 2).any():
            sizes = " and ".join(f"{name} {edges[name][0]:.4g} x {edges[name][1]:.4g} mm" for name in PLANES)
            _unusual(findings, where, id, f"the raw frames show {sizes}, nominally within 3 % of each other")
    for name in PLANES:
        for id, _, off_mm, _ in _far_off(list(distortions), np.array(mapped[name]), "mapped raw frame"):
            what = f"distortion_result_{name} maps the raw frame {off_mm:.0f} mm RMS from the archive's median map"
            _unusual(findings, where, id, what)


def _unusual(findings: Findings, where: str, id: int, what: str) -> None:
    findings.problem("unusual calibration", f"{where}, id {id}", what, _CHECK)


def _point(values: FloatArray) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})" if len(values) > 1 else f"{values[0]:g}"
