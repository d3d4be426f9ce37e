"""Frames on which a checkpoint is measured, of six kinds of worlds, with their meshes and what is true of them."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

from tests.benchmarks.independent_frames import SIZE_PX
from tests.benchmarks.real_frames import IMPLANTS, ONE_PLANE, TWO_PLANES, study
from tests.benchmarks.registered_frames import HELD_OUT, archived, cluttered, independent
from veriserum_hf.core import CAMERA_OF, COMPONENTS, IMAGE_OF, PLANES, Component, FloatArray
from veriserum_hf.simulation import WorldRanges, implant_mesh
from veriserum_hf.training.trust import FRAMES
from veriserum_hf.training.worlds import shapes_of, validation_worlds

_BATCH = 20  # frames that are rendered at once
_OFF = ("crops", "legs", "second_legs", "cables", "tables", "collimators", "hollow", "opaque", "apart", "motion")
_NONE = (0.0, 0.0)
# The simulator's own looks, in the rigs of others.
OTHER_RIGS = WorldRanges(
    **dict.fromkeys(_OFF, 0.0),  # type: ignore[arg-type]
    shapes=1,
    own_shapes=1.0,
    other_rigs=1.0,
    holders=1.0,
    metal=(0.1, 0.19),
    stray=(0.02, 0.08),
    noise=(0.8, 1.2),
    mottle=_NONE,
    clipped=_NONE,
    dark=_NONE,
    plain=1.0,
)


@dataclass(frozen=True, eq=False)
class Shown:
    """A frame as it is given to a model and to a registration.

    Attributes
    ----------
    row : images, cameras, and the implants' ids.
    meshes : of its implants, by id.
    truth : `T_world_implant` by component, of implants that have one.

    """

    row: dict[str, Any]
    meshes: dict[int, trimesh.Trimesh]
    truth: dict[Component, FloatArray]


def simulated(folder: Path, count: int) -> Iterator[Shown]:
    """Frames of a simulated archive, converted, that no model was trained on; all implant pairs."""
    archived(folder)
    for index in _spread(count):
        row, truth = cluttered(folder, index)
        yield _of_simulator(row, truth)


def another_renderer(folder: Path, count: int) -> Iterator[Shown]:
    """Frames by another renderer and imaging chain; they are drawn once and kept."""
    for index in _spread(count):
        path = folder / "independent" / f"{index:03d}.npz"
        if not path.exists():
            row, truth = independent(folder, index)
            images = {name: row[name] for name in IMAGE_OF.values()}
            numbers = {component: row[component]["anatomy_id"] for component in COMPONENTS}
            cameras = {
                f"{camera} {part}": row[camera][part]
                for camera in CAMERA_OF.values()
                for part in ("intrinsics", "world_to_camera")
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:  # whole or not
                np.savez_compressed(file, **images, **cameras, **numbers, **{f"T {n}": T for n, T in truth.items()})
            Path(file.name).replace(path)
        with np.load(path, allow_pickle=False) as kept:
            row = {name: kept[name] for name in IMAGE_OF.values()}
            for camera in CAMERA_OF.values():
                row[camera] = _camera(kept[f"{camera} intrinsics"], kept[f"{camera} world_to_camera"], SIZE_PX)
            row |= {component: {"anatomy_id": int(kept[component])} for component in COMPONENTS}
            yield _of_simulator(row, {component: kept[f"T {component}"] for component in COMPONENTS})


def worlds(ranges: WorldRanges, count: int, size: int, *, held_out: bool = False) -> Iterator[Shown]:
    """Frames of randomised worlds on canvases of this size, the same at every call: their images without the canvas.

    What continues an image's rim is no image: a registration would look for outlines there. To none of them trust is
    fitted.
    """
    meshes = {shape.anatomy_id: shape.mesh for shape in shapes_of(ranges, held_out=held_out)}
    whole = -(-count // _BATCH) * _BATCH
    frames = validation_worlds(ranges, whole, start=FRAMES, batch_size=_BATCH, size=size, held_out=held_out)
    for first, batch in zip(range(0, whole, _BATCH), frames, strict=True):
        for number in range(min(_BATCH, count - first)):
            ids = batch["anatomy_id"][number].tolist()
            row: dict[str, Any] = {
                component: {"anatomy_id": id} for component, id in zip(COMPONENTS, ids, strict=True)
            }
            for plane, image_px in zip(PLANES, batch["image_px"][number].tolist(), strict=True):
                left, top, columns, rows = image_px
                camera: Any = batch[CAMERA_OF[plane]]
                canvas = batch[IMAGE_OF[plane]][number, 0].numpy()
                row[IMAGE_OF[plane]] = canvas[top : top + rows, left : left + columns]
                intrinsics = camera["intrinsics"][number].numpy() - [[0, 0, left], [0, 0, top], [0, 0, 0]]
                row[CAMERA_OF[plane]] = _camera(intrinsics, camera["world_to_camera"][number].numpy(), size)
            labels: torch.Tensor = batch["labels"][number]
            truth = {component: T.numpy() for component, T in zip(COMPONENTS, labels, strict=True)}
            yield Shown(row, {id: meshes[id] for id in ids}, truth)


def real(folder: Path, planes: int) -> Iterator[Shown]:
    """Real frames of other laboratories with one plane or two, that have a reference."""
    for name in ONE_PLANE if planes == 1 else (TWO_PLANES,):
        of = study(folder, name)
        for number, row in enumerate(of.rows):
            truth: Any = of.initial(number)
            if truth:
                named = {component: {"anatomy_id": id} for component, id in IMPLANTS.items()}
                meshes = {id: of.meshes[component] for component, id in IMPLANTS.items()}
                yield Shown({**row, **named}, meshes, truth)


def seen_by(shown: Shown, planes: tuple[str, ...]) -> Shown:
    """The same frame, seen by these planes alone."""
    hidden = {IMAGE_OF[plane]: None for plane in PLANES if plane not in planes}
    return replace(shown, row={**shown.row, **hidden})


def _of_simulator(row: dict[str, Any], truth: Any) -> Shown:
    ids = [row[component]["anatomy_id"] for component in COMPONENTS]
    images = {name: np.asarray(row[name]) for name in IMAGE_OF.values()}
    return Shown({**row, **images}, {id: implant_mesh(id) for id in ids}, truth)


def _camera(intrinsics: FloatArray, world_to_camera: FloatArray, size: int) -> dict[str, Any]:
    return {
        "intrinsics": intrinsics.tolist(),
        "world_to_camera": world_to_camera.tolist(),
        "pixel_size_mm": 360 / size,
    }


def _spread(count: int) -> list[int]:
    frames = HELD_OUT.trials * HELD_OUT.frames_per_trial
    return np.unique(np.linspace(0, frames - 1, count).astype(int)).tolist()
