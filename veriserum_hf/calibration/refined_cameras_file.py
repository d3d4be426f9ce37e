"""Refined cameras as a JSON document."""

import hashlib
import json
from pathlib import Path
from typing import Any

from veriserum_hf.calibration.refined_cameras import RefinedCameras, RefinedRig
from veriserum_hf.calibration.sized_camera import SizedCamera
from veriserum_hf.core import listed, one_line, read_regular
from veriserum_hf.errors import CalibrationError

_FORMAT, _VERSION = "veriserum refined cameras", 1
_NAMES = ("format", "version", "per", "rigs")
_OF_RIG = (
    "trials",
    "before",
    "after",
    "center_mm",
    "verdict",
    "unknowns",
    "estimate",
    "covariance",
    "plane_covariance",
    "details",
)
_OF_CAMERA = ("intrinsics", "world_to_camera", "image_shape")
_MOST_BYTES = 256_000_000
_WAY_OUT = "expected a file that `veriserum refine-cameras` wrote"


def refined_cameras_json(cameras: RefinedCameras) -> str:
    """Return the document; reading it gives the same numbers, and writing these the same text.

    Raises
    ------
    CalibrationError
        If the details of a rig are no JSON, or have numbers that are not finite.

    """
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "per": cameras.per,
        "rigs": [_document(rig) for rig in cameras.rigs],
    }
    try:
        return json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise CalibrationError(f"details of a rig are no JSON of finite numbers: {error}") from error


def refined_cameras_sha256(cameras: RefinedCameras) -> str:
    """SHA-256 of the document: of a file of the program, that of the file."""
    return hashlib.sha256(refined_cameras_json(cameras).encode()).hexdigest()


def _document(rig: RefinedRig) -> dict[str, object]:
    of_rig: dict[str, object] = {
        "trials": [int(id) for id in rig.trials],
        "before": {str(plane): _document_of_camera(camera) for plane, camera in rig.before.items()},
        "after": {str(plane): _document_of_camera(camera) for plane, camera in rig.after.items()},
        "center_mm": rig.center_mm.tolist(),
        "verdict": rig.verdict,
        "unknowns": list(rig.unknowns),
        "estimate": rig.estimate.tolist(),
        "covariance": rig.covariance.tolist(),
        "plane_covariance": rig.plane_covariance.tolist(),
        "details": dict(rig.details),
    }
    return {name: of_rig[name] for name in _OF_RIG}


def _document_of_camera(camera: SizedCamera) -> dict[str, object]:
    return {
        "intrinsics": camera.intrinsics.tolist(),
        "world_to_camera": camera.world_to_camera.tolist(),
        "image_shape": list(camera.image_shape),
    }


def read_refined_cameras(path: str | Path) -> RefinedCameras:
    """Read what `refined_cameras_json` gives.

    Raises
    ------
    CalibrationError
        If the file cannot be read, is of another format or version, has unknown or missing names, or invalid values;
        file and place are named.

    """
    try:
        text = read_regular(path, _MOST_BYTES).decode("utf-8")
        document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except OSError as error:
        raise CalibrationError(f"{path}: {error.strerror or error}; {_WAY_OUT}") from error
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"{path}: it is not JSON ({error}); {_WAY_OUT}") from error
    try:
        return _cameras(document, str(path))
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error


def _cameras(document: object, source: str) -> RefinedCameras:
    found = document.get("format") if isinstance(document, dict) else document
    if not isinstance(document, dict) or found != _FORMAT:
        raise CalibrationError(f'"format" is {found!r:.60}, expected "{_FORMAT}"; {_WAY_OUT}')
    if (version := document.get("version")) != _VERSION or isinstance(version, bool):
        raise CalibrationError(
            f"version is {version!r:.60}, expected {_VERSION}; a newer veriserum-hf may read it, or refine again"
        )
    _checked(document, _NAMES, "the document")
    rigs = document["rigs"]
    if not isinstance(rigs, list):
        raise CalibrationError(f"rigs is {rigs!r:.60}; expected a list")
    return RefinedCameras(tuple(_rig(rig, f"rigs[{n}]") for n, rig in enumerate(rigs)), document["per"], source)


def _rig(found: object, place: str) -> RefinedRig:
    rig = _checked(found, _OF_RIG, place)
    cameras = {}
    for name in ("before", "after"):
        of_planes = _object(rig[name], f"{place}.{name}")
        cameras[name] = {plane: _camera(of_planes[plane], f"{place}.{name}.{plane}") for plane in of_planes}
    for name in ("trials", "unknowns"):
        if not isinstance(rig[name], list):
            raise CalibrationError(f"{place}.{name} is {rig[name]!r:.60}; expected a list")
    _object(rig["details"], f"{place}.details")
    lists = {name: tuple(rig[name]) for name in ("trials", "unknowns")}
    try:
        return RefinedRig(**{**rig, **cameras, **lists})
    except CalibrationError as error:
        raise CalibrationError(f"{place}: {error}") from error


def _camera(found: object, place: str) -> SizedCamera:
    camera = _checked(found, _OF_CAMERA, place)
    if not isinstance(camera["image_shape"], list):
        raise CalibrationError(f"{place}.image_shape is {camera['image_shape']!r:.60}; expected [rows, columns]")
    try:
        return SizedCamera(camera["intrinsics"], camera["world_to_camera"], tuple(camera["image_shape"]))
    except CalibrationError as error:
        raise CalibrationError(f"{place}: {error}") from error


def _object(found: object, place: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise CalibrationError(f"{place} is {found!r:.60}; expected an object")
    return found


def _checked(found: object, names: tuple[str, ...], place: str) -> dict[str, Any]:
    document = _object(found, place)
    if document.keys() != set(names):
        missing = [name for name in names if name not in document]
        unknown = [name for name in document if name not in names]
        parts = [
            f"{what} {one_line(listed(names))}" for what, names in (("lacks", missing), ("has", unknown)) if names
        ]
        raise CalibrationError(f"{place} {' and '.join(parts)}; expected exactly {', '.join(names)}")
    return document


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{one_line(name):.60} occurs twice in an object")
        found[name] = value
    return found
