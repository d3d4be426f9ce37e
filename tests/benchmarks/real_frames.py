"""Real frames of other laboratories, their initial poses, and what the registration of one leads to."""

import io
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.benchmarks.real_edges import edges_at
from tests.fixtures.real_studies import image, real_studies
from tests.fixtures.studies import converted_rows
from veriserum_hf.core import PLANES
from veriserum_hf.dataset import import_study
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import Camera, make_transform, matrix_to_quaternion
from veriserum_hf.poses import transforms

ONE_PLANE, TWO_PLANES = ("single_plane_right", "single_plane_left"), "biplane_tka"
IMPLANTS = {"femur": 1, "tibia": 2}
_POINTS = 50  # fewer of an outline are no evidence

Array = NDArray[np.float64]
Poses = dict[str, Array]
Measured = tuple[int, float, float, float]


class Task(NamedTuple):
    """A registration of one frame.

    Attributes
    ----------
    study, number : which frame.
    start : name of its initial pose.
    grey : name of what is done to its images.
    method : of `register`.

    """

    study: str
    number: int
    start: str
    grey: str = "unchanged"
    method: str = "auto"


@dataclass(frozen=True)
class Found:
    """One registered implant.

    Attributes
    ----------
    T : (4, 4) mm.
    center_mm : (3,) of the mesh, in its own coordinates.
    verdict, detail, score, method : as stated; the verdict is ``refused`` where `register` raised an error.
    covariance : (6, 6) as stated.
    edges : by plane, number of points, median distance and median signed distance in px of the original image, and
        share within a pixel.
    expected : the same with distances to the edges that a rendering with attenuation has.
    seconds : of processor time, for the whole frame.

    """

    T: list[list[float]]
    center_mm: list[float]
    verdict: str
    detail: str
    score: float
    method: str
    covariance: list[list[float]]
    edges: dict[str, Measured]
    expected: dict[str, Measured]
    seconds: float

    @property
    def share(self) -> float:
        """Share of the outline with an edge within a pixel, in the worse plane that shows enough of it."""
        shares = [share for points, *_, share in self.edges.values() if points >= _POINTS]
        return min(shares, default=0.0)


def placed(point_mm: Array, T: Array) -> Array:
    """One point (3,) of an implant in the world, mm."""
    point: Array = T[:3, :3] @ point_mm + T[:3, 3]
    return point


def off(found: Array, other: Array, center_mm: Array) -> tuple[float, float]:
    """Distance of the implant's centre in mm, and angle in deg, between two poses."""
    shift = placed(center_mm, found) - placed(center_mm, other)
    angle = Rotation.from_matrix(found[:3, :3] @ other[:3, :3].T).magnitude()
    return float(np.linalg.norm(shift)), float(np.degrees(angle))


class Study(NamedTuple):
    """Imported rows, images decoded, and meshes by component."""

    rows: list[dict[str, Any]]
    meshes: dict[str, trimesh.Trimesh]

    def initial(self, number: int) -> Poses:
        """The row's own poses."""
        row = self.rows[number]
        return {name: transforms([row[name]])[0] for name in IMPLANTS if row[name]}

    def camera(self, number: int, plane: str) -> Camera:
        row = self.rows[number]
        return Camera.from_row(row[f"camera_{plane}"], row[f"image_{plane}"].shape)


@cache
def study(folder: Path, name: str) -> Study:
    """One of the studies; `prepared` imports it."""
    rows = converted_rows(folder / name)
    for row in rows:
        for plane in PLANES:
            if row[f"image_{plane}"] is not None:
                row[f"image_{plane}"] = image(row, plane)
    meshes = {
        row["anatomy_id"]: trimesh.load_mesh(io.BytesIO(row["mesh"]["bytes"]), file_type="stl")
        for row in converted_rows(folder / name, "anatomies")
    }
    return Study(rows, {component: meshes[id] for component, id in IMPLANTS.items()})


def prepared(folder: Path) -> None:
    """Import the studies, where that is not done yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in real_studies(folder).items():
        import_study(file, folder / name, workers=1)


def moved(T: Array, mesh: trimesh.Trimesh, mm: float, deg: float, seed: Iterable[int]) -> Array:
    """Pose with these errors in random directions; the rotation is about the centre of the mesh."""
    rng = np.random.default_rng(list(seed))
    shift, axis = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
    rotation = Rotation.from_rotvec(deg * axis, degrees=True).as_matrix()
    centre_mm = mesh.bounds.mean(axis=0)
    at = placed(centre_mm, T) + mm * shift
    return make_transform(rotation @ T[:3, :3], at - rotation @ T[:3, :3] @ centre_mm)


def starts(folder: Path, name: str, number: int, poses: Poses, mm: float, seed: int) -> Poses:
    """Poses off by so many mm and deg."""
    meshes = study(folder, name).meshes
    return {
        component: moved(T, meshes[component], mm, mm, (seed, round(mm), number, IMPLANTS[component]))
        for component, T in poses.items()
    }


def _gamma(grey: NDArray[np.uint8], exponent: float) -> NDArray[np.uint8]:
    return np.rint(255 * (grey / 255) ** exponent).astype(np.uint8)


def _stretched(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Contrast stretched so that a hundredth of the field's pixels are clipped on either side."""
    low, high = np.percentile(grey[(grey > 0) & (grey < 255)], (1, 99))
    return np.rint(np.clip(255 * (grey - low) / (high - low), 0, 255)).astype(np.uint8)


GREYS = {
    "unchanged": lambda grey: grey,
    "gamma 0.5": lambda grey: _gamma(grey, 0.5),
    "gamma 2": lambda grey: _gamma(grey, 2.0),
    "contrast stretched": _stretched,
    "inverted": lambda grey: 255 - grey,
}


def register_frame(folder: Path, task: Task, initial: Poses, **limits: float) -> dict[str, Found]:
    """Register one frame, and measure where the edges of its original images are."""
    from veriserum_hf.registration import register

    of = study(folder, task.study)
    row = dict(of.rows[task.number])
    planes = [plane for plane in PLANES if row[f"image_{plane}"] is not None]
    for plane in planes:
        row[f"image_{plane}"] = GREYS[task.grey](row[f"image_{plane}"])
    given = {
        component: {
            "anatomy_id": IMPLANTS[component],
            "translation_mm": T[:3, 3].tolist(),
            "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist(),
        }
        for component, T in initial.items()
    }
    began = time.process_time()
    try:
        poses = register(
            row, {id: of.meshes[name] for name, id in IMPLANTS.items()}, given, method=task.method, **limits
        )
        refused = ""
    except RegistrationError as error:
        poses, refused = {}, str(error)
    seconds = time.process_time() - began
    at = {name: poses[name].T_world_implant if name in poses else initial[name] for name in initial}
    edges, expected = (_edges(of, task.number, at, each) for each in (False, True))
    found = {}
    for name, T in at.items():
        pose = poses.get(name)
        found[name] = Found(
            T.tolist(),
            of.meshes[name].bounds.mean(axis=0).tolist(),
            pose.verdict if pose else "refused",
            pose.detail if pose else refused,
            pose.score if pose else 0.0,
            pose.method if pose else "",
            pose.covariance.tolist() if pose else np.full((6, 6), np.nan).tolist(),
            edges[name],
            expected[name],
            seconds,
        )
    return found


def _edges(of: Study, number: int, poses: Poses, expected: bool) -> dict[str, dict[str, Measured]]:
    """Where the edges of a frame's images are, by component and plane."""
    found: dict[str, dict[str, Measured]] = {name: {} for name in poses}
    for plane in PLANES:
        seen = of.rows[number][f"image_{plane}"]
        if seen is not None:
            edges = edges_at(seen, of.camera(number, plane), of.meshes, poses, expected=expected)
            for name, each in edges.items():
                found[name][plane] = (len(each.offsets_px), each.median_px, each.signed_px, each.share)
    return found
