"""Training batches that are simulated on demand on the training device, without end.

A frame is like one of a simulated archive (`veriserum_hf.simulation.simulate`): one of the implant pairs in a phase
of one of the activities, with holders, in its own rig, through its own two imaging chains. Frames of a batch
have no motion in common, so that a batch is diverse; some share their holders and distortions, since each mesh is
rendered for all of its frames at once. Holders are replaced one after another.

A batch follows from the seed and its number alone. On a GPU sums are formed in any order, so that a grey level may
differ by one step between two runs.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from veriserum_hf.core import PLANES, FloatArray
from veriserum_hf.rendering import differentiable
from veriserum_hf.simulation import (
    IMPLANTS,
    PAIRS,
    Imaging,
    Settings,
    holders,
    implant_mesh,
    intensifier_torch,
    random_distortion,
    random_source,
    rig_of,
    simulate_trial,
    trial,
)
from veriserum_hf.training.batches import Batch, Cameras, check_rendered

_MOUNTINGS = 40  # to choose from at a time: every pair in every activity
_BATCHES_PER_MOUNTING = 32  # after so many, of all processes, the oldest one is replaced
_FRAMES_PER_MOUNTING = 8  # of a batch, at most: they are rendered together
_MIN_MOUNTINGS = 4  # in a batch
_MAX_TRIALS = 100_000  # of a simulated archive
_ARCHIVE_STREAM, _BATCH_STREAM, _DISTORTION_STREAM = range(3)  # of random numbers, under the seed
_FRAMES_PER_TRIAL = 30  # holders are mounted for the central one, and clear each other in all


@dataclass(frozen=True, eq=False)
class _Solid:
    """A closed surface on the device, its material, and the component that it moves with, by its index."""

    part: differentiable.TensorMesh
    material: str
    component: int


@dataclass(frozen=True, eq=False)
class _Mounting:
    """An implant pair with its holders, an activity, and by plane where corrected images lie in raw frames."""

    anatomy_ids: tuple[int, int]
    task: str
    solids: tuple[_Solid, ...]
    raw_px: tuple[FloatArray, ...]


@dataclass(frozen=True, eq=False)
class _Scenes:
    """m frames of one mounting, to be rendered. Images are all of ``bs``, then all of ``fs``.

    Attributes
    ----------
    mounting : of all of them.
    labels : (m, 2, 4, 4) float64 T_world_implant, mm.
    intrinsics, world_to_camera : (2 m, 3, 3) and (2 m, 4, 4) float64 of the corrected images.
    chains : of the 2 m images.
    noise_seed : of the device's random numbers.

    """

    mounting: _Mounting
    labels: Tensor
    intrinsics: Tensor
    world_to_camera: Tensor
    chains: intensifier_torch.Chains
    noise_seed: int


class SimulatedBatches:
    """An endless iterable of training batches, as `veriserum_hf.training.batches.collate` makes them.

    Images are uint8 on the device, and so is every other tensor. ``measurement_id`` and ``trial_id`` number the
    frames of all batches: every frame is its own trial.

    Parameters
    ----------
    batch_size : dual-plane frames in a batch.
    size : edge of the corrected images, px.
    pairs : how many of the ten implant pairs are shown.
    seed : other seeds give other batches.
    device : where batches are drawn and stay.
    rank, world_size : of this process: its batch k is batch ``k world_size + rank`` of all of them.
    start : number of the first batch, to resume an interrupted run.

    Raises
    ------
    ValueError
        If a number is out of its range.
    SimulationError
        If the number of pairs is out of its range.

    """

    def __init__(
        self,
        batch_size: int,
        *,
        size: int = 512,
        pairs: int = PAIRS,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        check_rendered(batch_size, size, rank, world_size, start, seed)
        self.batch_size, self.size, self.device = batch_size, size, torch.device(device)
        self.rank, self.world_size, self.start = rank, world_size, start
        self._seed = seed
        # An archive that is simulated with the same seed, perhaps to test on, has other trials.
        archive_seed = np.random.SeedSequence((seed, _ARCHIVE_STREAM)).generate_state(1)[0]
        self._settings = Settings(
            trials=_MAX_TRIALS, frames_per_trial=_FRAMES_PER_TRIAL, pairs=pairs, seed=int(archive_seed)
        )
        # Of the instance: the parts of a mounting lie on its device.
        self._implant_on_device = lru_cache(maxsize=len(IMPLANTS))(self._copy_implant)
        self._mounting = lru_cache(maxsize=_MOUNTINGS + 1)(self._mount)

    def __iter__(self) -> Iterator[Batch]:
        # The scenes of the next batch are drawn while this one is rendered and learned from.
        with ThreadPoolExecutor(max_workers=1) as thread:
            step = self.start
            following = thread.submit(self._draw_scenes, step)
            while True:
                groups = following.result()
                following = thread.submit(self._draw_scenes, step + 1)
                yield self._render(groups, step)
                step += 1

    def _draw_scenes(self, step: int) -> list[_Scenes]:
        """All random choices of a batch except its noise."""
        number = step * self.world_size + self.rank
        rng = np.random.default_rng((self._seed, _BATCH_STREAM, number))
        groups = min(self.batch_size, max(_MIN_MOUNTINGS, -(-self.batch_size // _FRAMES_PER_MOUNTING)))
        oldest = number // _BATCHES_PER_MOUNTING
        # Without repetition while there are enough.
        chosen = np.concatenate([rng.permutation(_MOUNTINGS) for _ in range(-(-groups // _MOUNTINGS))])[:groups]
        frames = np.diff(np.linspace(0, self.batch_size, groups + 1).astype(int))
        return [
            self._scenes(self._mounting((oldest + int(index)) % _MAX_TRIALS), int(count), rng)
            for index, count in zip(chosen, frames, strict=True)
        ]

    def _copy_implant(self, anatomy_id: int) -> differentiable.TensorMesh:
        return differentiable.TensorMesh.from_mesh(implant_mesh(anatomy_id), self.device)

    def _mount(self, index: int) -> _Mounting:
        """The implants, the activity and the holders of a simulated archive's trial, and its own distortions."""
        shown, held = trial(self._settings, index), holders(self._settings, index)
        solids = []
        for component, (name, anatomy_id) in enumerate(shown.anatomy_ids.items()):
            solids.append(_Solid(self._implant_on_device(anatomy_id), IMPLANTS[anatomy_id].material, component))
            solids += [
                _Solid(differentiable.TensorMesh.from_mesh(mesh, self.device), material, component)
                for mesh, material in held[name]
            ]
        rng = np.random.default_rng((self._seed, _DISTORTION_STREAM, index))
        raw_px = tuple(intensifier_torch.raw_positions(random_distortion(rng), self.size) for _ in PLANES)
        ids = shown.anatomy_ids
        return _Mounting((ids["femur"], ids["tibia"]), shown.trajectory.task, tuple(solids), raw_px)

    def _scenes(self, mounting: _Mounting, count: int, rng: np.random.Generator) -> _Scenes:
        femur, tibia = (implant_mesh(anatomy_id) for anatomy_id in mounting.anatomy_ids)
        rigs = [rig_of(random_source(rng)) for _ in range(count)]
        moved = [simulate_trial(mounting.task, femur, tibia, rig, 1, rng) for rig in rigs]
        labels = np.stack([[one.T_world_femur[0], one.T_world_tibia[0]] for one in moved])
        planes = [(rig[name], poses) for name in PLANES for rig, poses in zip(rigs, labels, strict=True)]
        weights = np.bincount([solid.component for solid in mounting.solids])
        views = []
        for index, (plane, poses) in enumerate(planes):
            imaging = Imaging.random(rng)
            depths_mm = (plane.world_to_camera @ poses)[:, 2, 3]
            blur_mm = imaging.blur_mm(plane, float(np.average(depths_mm, weights=weights)))
            views.append(intensifier_torch.Exposure(imaging, blur_mm, mounting.raw_px[index // count]))
        return _Scenes(
            mounting,
            self._tensor(labels),
            self._tensor([plane.intrinsics(self.size) for plane, _ in planes]),
            self._tensor([plane.world_to_camera for plane, _ in planes]),
            intensifier_torch.Chains.of(views, self.size, rng, self.device),
            int(rng.integers(2**62)),
        )

    def _tensor(self, values: ArrayLike) -> Tensor:
        return torch.tensor(np.asarray(values), dtype=torch.float64, device=self.device)

    def _render(self, groups: list[_Scenes], step: int) -> Batch:
        both_planes = [self._images(scenes) for scenes in groups]
        image_bs, image_fs = (torch.cat([both.chunk(2)[plane] for both in both_planes])[:, None] for plane in (0, 1))
        camera_bs, camera_fs = (_cameras(groups, plane) for plane in (0, 1))
        numbers = torch.arange(self.batch_size, device=self.device)
        numbers += (step * self.world_size + self.rank) * self.batch_size
        return {
            "image_bs": image_bs,
            "image_fs": image_fs,
            "camera_bs": camera_bs,
            "camera_fs": camera_fs,
            "anatomy_id": torch.tensor(
                [scenes.mounting.anatomy_ids for scenes in groups for _ in scenes.labels], device=self.device
            ),
            "labels": torch.cat([scenes.labels for scenes in groups]),
            "measurement_id": numbers,
            "trial_id": numbers.clone(),
            "task": [scenes.mounting.task for scenes in groups for _ in scenes.labels],
        }

    @torch.no_grad()
    def _images(self, scenes: _Scenes) -> Tensor:
        """Corrected images, (2 m, size, size) uint8."""
        # Sums of path lengths and blurs need float32, whatever the training runs in.
        with torch.autocast(self.device.type, enabled=False):
            rays, edge = intensifier_torch.canvas_rays(scenes.intrinsics, self.size)
            exponent = torch.zeros(len(rays), edge, edge, device=self.device)
            poses = scenes.labels.repeat(len(PLANES), 1, 1, 1).float()
            cameras = (rays.float(), scenes.world_to_camera.float())
            for solid in scenes.mounting.solids:
                component = slice(solid.component, solid.component + 1)
                length_mm = differentiable.path_length([solid.part], poses[:, component], *cameras, edge)[:, 0]
                per_mm = scenes.chains.attenuation_per_mm[solid.material]
                exponent.addcmul_(length_mm, per_mm)
            generator = torch.Generator(self.device).manual_seed(scenes.noise_seed)
            return intensifier_torch.expose(exponent, scenes.chains, self.size, generator)


def _cameras(groups: list[_Scenes], plane: int) -> Cameras:
    """Cameras of a batch, of the plane with this index in ``PLANES``."""
    return {
        "intrinsics": torch.cat([scenes.intrinsics.chunk(2)[plane] for scenes in groups]),
        "world_to_camera": torch.cat([scenes.world_to_camera.chunk(2)[plane] for scenes in groups]),
    }
