"""A model for use, and whether it fits the frames and implants of a data set."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import trimesh
from scipy.spatial import KDTree

from veriserum_hf.core import CAMERA_OF, PLANES, FloatArray, PlaneName, masked
from veriserum_hf.dataset import Frames, Rows, check_reachable, no_folder
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import mesh_axes

try:
    import torch
    from safetensors import SafetensorError
    from transformers.utils import IMAGE_PROCESSOR_NAME, SAFE_WEIGHTS_NAME
    from transformers.utils.hub import cached_file
    from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    from veriserum_hf.core import COMPONENTS
    from veriserum_hf.modeling import VeriserumPoseModel, located, read_fields, released
except ImportError as error:
    raise ImportError('evaluating a model needs torch: pip install "veriserum-hf[train]"') from error

_OFF_MM = 0.1  # by which a model's points may miss the vertices that they were taken from


def load_model(name: str, device: str | torch.device | None = None) -> VeriserumPoseModel:
    """Load a trained model for use: in evaluation mode, without bars that show how weights are read.

    Parameters
    ----------
    name : output folder of a training, or the name of a released checkpoint or on the hub.
    device : to put it on; None for the GPU if there is one, else the CPU.

    Raises
    ------
    TrainingError
        If there is no such model, or it cannot be read.

    """
    names = ", ".join(released())
    checkpoint = f"a released checkpoint ({names}), " if names else ""
    expected = f"the output folder of a training, {checkpoint}or a model on the hub"
    name = located(name)
    check_reachable(name, f"the model {name}", TrainingError, expected)
    if Path(name).is_dir() and not Path(name, "config.json").is_file():
        raise TrainingError(
            f"{name} holds no model: there is no config.json. Expected the output folder of a training"
        )
    try:
        with _without_progress_bars():
            model = VeriserumPoseModel.from_pretrained(name)  # in evaluation mode
        _check_processor(Path(name), model.config.image_size)
    except (OSError, ValueError, SafetensorError) as error:
        why = f"{no_folder(name)}{masked(str(error)).rstrip('.')}"
        raise TrainingError(f"cannot load the model {name}: {why}. Expected {expected}") from error
    # Not the model's own `to`, which transformers wraps without types. Convolutions are faster with channels last.
    there: VeriserumPoseModel = torch.nn.Module.to(model, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return torch.nn.Module.to(there, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _check_processor(folder: Path, size: int) -> None:
    """Raise ValueError where a folder's image processor takes images of another size than the model."""
    file = folder / IMAGE_PROCESSOR_NAME
    if file.exists() and (found := read_fields(file).get("size")) != size:
        raise ValueError(
            f"{file} has the size {found!r:.60}, config.json the image_size {size}. Take the files that "
            "were saved together"
        )


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()


def weights_sha256(name: str) -> str | None:
    """Hash of the weights of a model, see `load_model`; None where they are not in one file."""
    try:
        with Path(str(cached_file(located(name), SAFE_WEIGHTS_NAME))).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def planes_seen(model: VeriserumPoseModel, requested: Sequence[PlaneName] | None) -> tuple[PlaneName, ...]:
    """Planes to show a model: those requested, or all that it was made for; TrainingError for any other."""
    own: tuple[PlaneName, ...] = tuple(plane for plane in PLANES if plane in model.config.planes)
    if requested and (unknown := set(requested) - set(own)):
        raise TrainingError(f"the model uses {' and '.join(own)} alone, not {' and '.join(sorted(unknown))}")
    return tuple(requested) if requested else own


def _check_planes(model: VeriserumPoseModel, frames: Frames) -> None:
    """Raise TrainingError where frames lack a plane that a model needs."""
    config = model.config
    present = [
        pc.is_valid(pc.struct_field(frames.table(CAMERA_OF[plane])[CAMERA_OF[plane]].combine_chunks(), "intrinsics"))
        for plane in PLANES
        if plane in config.planes
    ]
    both = not config.plane_dropout or config.head == "pooled"
    usable = reduce(pc.and_ if both else pc.or_, present)
    if lacking := len(frames) - (pc.sum(usable).as_py() or 0):
        needs = " and ".join(config.planes) if both else " or ".join(config.planes)
        raise TrainingError(
            f"{lacking} of {len(frames)} frames have no plane that the model needs: it takes {needs}. One plane "
            "suffices for a model that was trained with plane_dropout, or with that plane alone"
        )


@dataclass(frozen=True, eq=False)
class NamedImplants:
    """Implants that a model was given the meshes of; none of a model that knows its implants.

    Attributes
    ----------
    anatomies : their ids and components.
    points : (implants, n, 6) float32 of their surfaces, with normals.
    axes : (implants, 4, 4) ``T_implant_axes`` of these, mm.

    """

    anatomies: list[Any]
    points: FloatArray
    axes: FloatArray

    @classmethod
    def of(cls, model: VeriserumPoseModel) -> "NamedImplants":
        """Those of a model."""
        if model.config.implants != "mesh":
            return cls([], np.zeros((0, 0, 6)), np.zeros((0, 4, 4)))
        return cls(model.anatomies, model.named_points.numpy(force=True), model.named_axes.numpy(force=True))

    def give_to(self, model: VeriserumPoseModel) -> None:
        """Give the same to another copy of the model."""
        if model.config.implants == "mesh":
            model.anatomies = self.anatomies
            model.named_points = torch.from_numpy(self.points).to(model.named_points.device)
            model.named_axes = torch.from_numpy(self.axes).to(model.named_axes.device)

    def digest(self) -> str:
        """Hash of them."""
        content = json.dumps(self.anatomies).encode() + self.points.tobytes() + self.axes.tobytes()
        return hashlib.sha256(content).hexdigest()


def fit_to(model: VeriserumPoseModel, frames: Frames, rows: Rows[Any]) -> None:
    """Give a model the meshes of a data set where it takes meshes, and check that it fits the frames.

    Raises
    ------
    TrainingError
        See `check_fit`; also for a mesh without area.

    """
    if model.config.implants == "mesh":
        try:
            model.set_meshes(rows.meshes, rows.components, mesh_axes(rows.meshes, rows.components))
        except ValueError as error:
            raise TrainingError(f"the meshes of {rows.name} cannot be given to the model: {error}") from error
    check_fit(model, frames, rows.meshes)


def check_fit(model: VeriserumPoseModel, frames: Frames, meshes: Mapping[int, trimesh.Trimesh]) -> None:
    """Check that a model was made for the planes of these frames, and for these very implants.

    A model that is given meshes fits all of them. Otherwise, ids do not identify implants: implant 1 of a simulated
    data set is another than implant 1 of the download. But the surface points that a model keeps are vertices of the
    mesh that it was made from, and of no other.

    Raises
    ------
    TrainingError
        Naming what the model expects and what the data set has.

    """
    _check_planes(model, frames)
    known = {(entry["component"], entry["id"]): index for index, entry in enumerate(model.anatomies)}
    for component in COMPONENTS:
        for id in frames.anatomy_ids(component):
            if id not in meshes:
                raise TrainingError(
                    f"the data set has poses of {component} {id}, but no mesh of it among its anatomies"
                )
            if (component, id) not in known:
                names = ", ".join(f"{name} {number}" for name, number in known) or "none"
                raise TrainingError(
                    f"the data set shows {component} {id}, the model knows {names}; evaluate it on the implants it "
                    "was trained on"
                )
            if model.config.implants == "mesh":
                continue
            points_mm = model.points_implant_mm[known[component, id]].numpy(force=True)
            off_mm = float(KDTree(meshes[id].vertices).query(points_mm)[0].max())
            if off_mm > _OFF_MM:
                raise TrainingError(
                    f"{component} {id} of the data set is another implant than {component} {id} of the model: the "
                    f"vertices of the model's are up to {off_mm:.1f} mm away from those of the data set's mesh. "
                    "Evaluate it on a data set of the archive that it was trained on"
                )
