"""Cameras of a study: read, and compared with the images and with each other."""

import glob
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from veriserum_hf.calibration import DistortionMap, ImageMap, read_distortion, read_image_map
from veriserum_hf.core import CameraRow, FloatArray, PlaneName, one_line
from veriserum_hf.dataset.study import CameraFile, CameraMatrices, Study, StudyPlane
from veriserum_hf.dataset.study_images import PlaneImages
from veriserum_hf.errors import CalibrationError, ConversionError
from veriserum_hf.geometry import FIELD_MM, Camera, read_jointtrack, read_mayacam

_TABLE = ".csv"  # of XMALab
_PIXEL_TOLERANCE = 1e-3
_SAME_SOURCE_MM = 1.0
_NEAREST_MM, _FARTHEST_MM = 50.0, 10_000.0  # from a source, that a knee may be
_RAYS = 9  # along each edge of an image


@dataclass(frozen=True)
class PlaneCamera:
    """Camera of one plane, and the images that it is of.

    Attributes
    ----------
    camera : of the corrected images.
    row : the same as the ``camera_*`` field of a row.
    size : (rows, columns) of the corrected images, px.
    covered : share of them that the recorded images cover, where a table corrects them.

    """

    camera: Camera
    row: CameraRow
    size: tuple[int, int]
    covered: float = 1.0


def read_correction(path: Path, plane: PlaneName) -> DistortionMap | ImageMap:
    """Read a distortion: an undistortion table of XMALab (CSV), or a calibration of this package.

    Raises
    ------
    CalibrationError
        If it cannot be read, or is neither.

    """
    if path.suffix.lower() == _TABLE:
        return read_image_map(path)
    try:
        return read_distortion(path)
    except CalibrationError as error:
        try:
            return read_distortion(path, plane)  # of several fits, that of the plane
        except CalibrationError:
            raise error from None


def correction_files(path: Path) -> list[Path]:
    """Files that a distortion is read from: points of XMALab, and where they belong, lie next to each other."""
    if path.suffix.lower() != _TABLE:
        return [path]
    return sorted({path, *path.parent.glob(f"{glob.escape(path.stem.rpartition('_')[0])}_*{path.suffix}")})


def cameras_of_study(study: Study, images: Mapping[PlaneName, PlaneImages]) -> dict[PlaneName, PlaneCamera]:
    """Read the camera of every plane.

    Raises
    ------
    ConversionError
        If a file cannot be read or is of images of another size, or the planes do not meet.

    """
    found = {}
    for plane in study.planes:
        where = f"{study.file.name}: {one_line(plane.name)}"
        try:
            found[plane.column] = _camera(study, plane, images[plane.column].size)
        except CalibrationError as error:
            raise ConversionError(f"{where}: {error}") from error
    if len(found) > 1:
        _check_they_meet(study, found)
    return found


def proposals_of(
    study: Study, images: Mapping[PlaneName, PlaneImages], cameras: Mapping[PlaneName, PlaneCamera]
) -> list[str]:
    """Sentences on what DICOM files state of their cameras, beside the cameras that were given; nothing is taken."""
    sentences = []
    for plane in study.planes:
        proposal = next((stack.proposal for stack in images[plane.column].stacks if stack.proposal), None)
        if proposal is None:
            continue
        if proposal.states_nothing:
            sentences.append(f"{one_line(plane.name)}: DICOM does not describe the camera: {proposal.text}")
            continue
        fx, fy = cameras[plane.column].camera.intrinsics.diagonal()[:2]
        focal = ""
        if proposal.pixel_size_mm and proposal.source_to_detector_mm:
            rows_px, columns_px = (proposal.source_to_detector_mm / edge for edge in proposal.pixel_size_mm)
            focal = f", which would be focal lengths of {columns_px:.1f} and {rows_px:.1f} px"
        sentences.append(
            f"{one_line(plane.name)}: DICOM states, and nothing of it was taken: {proposal.text}{focal}; the camera "
            f"that was given has {fx:.1f} and {fy:.1f} px"
        )
    return sentences


def _camera(study: Study, plane: StudyPlane, stored: tuple[int, int]) -> PlaneCamera:
    given = plane.camera
    correction = None if plane.distortion is None else read_correction(plane.distortion, plane.column)
    if isinstance(correction, ImageMap):
        covered = float(correction.valid(stored).mean())
        return replace(_camera_of(study, given, stored, None, "the images have"), covered=covered)
    if correction is None:
        return _camera_of(study, given, stored, None, "the images have")
    size = _corrected_size(given)
    return _camera_of(study, given, size, FIELD_MM / size[0], "corrected images have")


def _camera_of(
    study: Study,
    given: CameraFile | CameraMatrices,
    size: tuple[int, int],
    known_pixel_mm: float | None,
    whose: str,
) -> PlaneCamera:
    """Camera of images of a size, the pixels of which are known where this package corrects them."""
    if isinstance(given, CameraMatrices):
        _check_size(given.size, size, whose, "the camera")
        pixel_mm = _pixel_size_mm(given.row["pixel_size_mm"], known_pixel_mm)
        described: CameraRow = {**given.row, "pixel_size_mm": pixel_mm}
        camera = Camera.from_row(described, size)
        row = camera.to_row(size, pixel_mm)
        sid_mm, foot_mm = given.row["source_to_intensifier_mm"], given.row["principal_point_mm"]
        if sid_mm is not None:  # as it is given
            row["source_to_intensifier_mm"] = sid_mm
        if foot_mm is not None:
            row["principal_point_mm"] = foot_mm
        return PlaneCamera(camera, row, size)
    if given.kind == "mayacam":
        camera, stated = read_mayacam(given.path)
        _check_size(stated, size, whose, study.name_of(given.path))
        pixel_mm = _pixel_size_mm(given.pixel_size_mm, known_pixel_mm)
    else:
        camera, jointtrack_mm = read_jointtrack(given.path, size)
        pixel_mm = _pixel_size_mm(jointtrack_mm, known_pixel_mm)
    return PlaneCamera(camera, camera.to_row(size, pixel_mm), size)


def _pixel_size_mm(stated: float | None, known: float | None) -> float | None:
    """Edge of a pixel as it is stated, or as it is known of images that this package corrects."""
    if stated is not None and known is not None and abs(stated / known - 1) > _PIXEL_TOLERANCE:
        raise CalibrationError(
            f"the camera's pixels have {stated:g} mm, but corrected images of {FIELD_MM / known:.0f} px over "
            f"{FIELD_MM:g} mm have pixels of {known:.4f} mm; correct the wrong one"
        )
    return stated if stated is not None else known


def _check_size(stated: tuple[int, int] | None, size: tuple[int, int], whose: str, camera: str) -> None:
    if stated is not None and stated != size:
        rows, columns = stated
        raise CalibrationError(
            f"{camera} is of images of {columns} x {rows} px, but {whose} {size[1]} x {size[0]} px; give the camera "
            "of these images: of resized or cropped ones it has other intrinsics"
        )


def _corrected_size(given: CameraFile | CameraMatrices) -> tuple[int, int]:
    """Size of images that a calibration of this package corrects: square, as the camera states it."""
    if isinstance(given, CameraMatrices):
        size = given.size
    elif given.kind == "mayacam":
        size = read_mayacam(given.path)[1]
    else:
        edge = round(FIELD_MM / read_jointtrack(given.path, 1)[1])
        size = (edge, edge)
    how = f"images are corrected by a calibration of this package, N x N px over {FIELD_MM:g} mm"
    if size is None:
        raise CalibrationError(f"{how}, and the camera does not state N; add rows and columns beside intrinsics")
    if size[0] != size[1] or not 32 <= size[0] <= 4096:
        raise CalibrationError(
            f"{how}, but the camera is of images of {size[1]} x {size[0]} px; expected a square of 32 to 4096 px"
        )
    return size


def _check_they_meet(study: Study, cameras: Mapping[PlaneName, PlaneCamera]) -> None:
    """Refuse two planes that see nothing in common."""
    one, other = (cameras[plane.column] for plane in study.planes)
    names = " and ".join(one_line(plane.name) for plane in study.planes)
    apart_mm = float(np.linalg.norm(one.camera.source_mm - other.camera.source_mm))
    if apart_mm < _SAME_SOURCE_MM:
        raise ConversionError(
            f"{study.file.name}: {names} have their X-ray sources at the same place ({apart_mm:.2g} mm apart), "
            "expected two planes of one world; JointTrack calibrations do not state where the planes are: give "
            "MayaCam files, or intrinsics and world_to_camera"
        )
    if _sees(one, other) and _sees(other, one):
        return
    distance_mm, depths_mm = where_they_meet(one, other)
    place = (
        "nowhere: they are parallel"
        if not np.isfinite(depths_mm).all()
        else f"{depths_mm[0]:.0f} mm in front of the first source and {depths_mm[1]:.0f} mm of the second"
    )
    raise ConversionError(
        f"{study.file.name}: {names} do not meet: no part of one plane's field lies in the other's. The rays of the "
        f"images' centres pass each other at {distance_mm:.0f} mm, {place}. Expected cameras of one world, in mm: of "
        "the same calibration, and each with its own images"
    )


def where_they_meet(one: PlaneCamera, other: PlaneCamera) -> tuple[float, list[float]]:
    """Distance of the rays of two images' centres, mm, and the depths from both sources where they are nearest."""
    center, other_center = (((np.array(each.size[::-1]) - 1) / 2) for each in (one, other))
    point = one.camera.triangulate(center, other.camera, other_center)
    distance_mm = _distance_mm(one.camera.rays(center), other.camera.rays(other_center))
    return distance_mm, [float(each.camera.depths_mm(point)) for each in (one, other)]


def _distance_mm(ray: tuple[FloatArray, FloatArray], other: tuple[FloatArray, FloatArray]) -> float:
    """Distance of two lines, mm."""
    normal = np.cross(ray[1], other[1])
    length = np.linalg.norm(normal)
    between = other[0] - ray[0]
    if length < 1e-9:
        return float(np.linalg.norm(np.cross(ray[1], between)))
    return float(abs(between @ normal) / length)


def _sees(one: PlaneCamera, other: PlaneCamera) -> bool:
    """Whether a part of one plane's field, in front of its source, lies in the other plane's field."""
    rows, columns = one.size
    grid = np.meshgrid(np.linspace(0, columns - 1, _RAYS), np.linspace(0, rows - 1, _RAYS))
    source, directions = one.camera.rays(np.stack(grid, axis=-1).reshape(-1, 2))
    R, t = other.camera.world_to_camera[:3, :3], other.camera.world_to_camera[:3, 3]
    origin, along = R @ source + t, directions @ R.T  # of the rays in the other camera
    K, (height, width) = other.camera.intrinsics, other.size
    nearest, farthest = np.full(len(along), _NEAREST_MM), np.full(len(along), _FARTHEST_MM)
    # A point of the other camera's frame is in its image where, for each edge, f x + (c - edge) z has the right sign.
    for normal, least in (
        (np.array([K[0, 0], 0, K[0, 2] + 0.5]), 0.0),
        (np.array([-K[0, 0], 0, width - 0.5 - K[0, 2]]), 0.0),
        (np.array([0, K[1, 1], K[1, 2] + 0.5]), 0.0),
        (np.array([0, -K[1, 1], height - 0.5 - K[1, 2]]), 0.0),
        (np.array([0.0, 0.0, 1.0]), _NEAREST_MM),
    ):
        start, slope = float(origin @ normal) - least, along @ normal  # start + s slope >= 0
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = -start / slope
        nearest = np.where(slope > 0, np.maximum(nearest, crossing), nearest)
        farthest = np.where(slope < 0, np.minimum(farthest, crossing), farthest)
        farthest = np.where((slope == 0) & (start < 0), -np.inf, farthest)
    return bool((nearest < farthest).any())
