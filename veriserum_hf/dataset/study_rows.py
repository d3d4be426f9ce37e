"""Rows of a study: planned from what was read, and made one by one by any process."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import pyarrow as pa
from datasets import Features

from veriserum_hf.archive import (
    MOST_ABOVE_WHITE,
    ImplantMesh,
    Stack,
    check_contrast,
    open_stack,
    read_implant_mesh,
    share_above,
)
from veriserum_hf.calibration import DistortionMap, ImageMap
from veriserum_hf.core import (
    COMPONENTS,
    IMAGE_OF,
    PLANES,
    Component,
    Encoding,
    FloatArray,
    Grey,
    ImageFile,
    LabelRow,
    PlaneName,
    PoseRow,
)
from veriserum_hf.dataset.convert import AboveWhite, Rejected, encoded, finished_rows, with_white
from veriserum_hf.dataset.plan import PATH_OF, Plan
from veriserum_hf.dataset.schema import features_of
from veriserum_hf.dataset.splits import SPLITS, split_by_trial
from veriserum_hf.dataset.study import Study
from veriserum_hf.dataset.study_cameras import PlaneCamera, read_correction
from veriserum_hf.dataset.study_images import PlaneImages, radiograph
from veriserum_hf.errors import FrameError
from veriserum_hf.geometry import matrix_to_quaternion

KIND = "initial"  # of the poses
INDEX_OF: Mapping[PlaneName, Literal["index_bs", "index_fs"]] = {"bs": "index_bs", "fs": "index_fs"}


class StudyRow(LabelRow):
    """A row of the plan: with the file of each image, and which of its pages or frames it is."""

    path_bs: str | None
    path_fs: str | None
    index_bs: int | None
    index_fs: int | None


class ImplantRow(TypedDict):
    """A row of the plan of the implants."""

    anatomy_id: int
    component: str
    category: str
    description: str
    path: str
    label: int | None


def plan_frames(
    study: Study,
    images: Mapping[PlaneName, PlaneImages],
    cameras: Mapping[PlaneName, PlaneCamera],
    poses: Mapping[Component, FloatArray],
    split: str | None,
) -> Plan:
    """Plan the rows of the frames: 1, 2, ... in the order of the images.

    Parameters
    ----------
    study : the study.
    images, cameras : of every plane.
    poses : by component, ``T_world_implant`` (frames, 4, 4) mm of all trials; NaN where there is none.
    split : that all trials are in; None: each by its id.

    """
    trials = split_by_trial([trial.id for trial in study.trials], ())
    if split is not None:
        trials = dict.fromkeys(trials, split)
    rows: dict[str, list[StudyRow]] = {name: [] for name in SPLITS}
    id = 0
    for number, trial in enumerate(study.trials):
        shown = {plane: each.by_trial[number] for plane, each in images.items()}
        for index in range(len(shown["bs"])):
            id += 1
            femur, tibia = (_pose(id, study, component, poses) for component in COMPONENTS)
            camera_bs, camera_fs = (cameras[plane].row if plane in cameras else None for plane in PLANES)
            path_bs, path_fs = (str(shown[plane][index].path) if plane in shown else None for plane in PLANES)
            index_bs, index_fs = (shown[plane][index].index if plane in shown else None for plane in PLANES)
            row: StudyRow = {
                "measurement_id": id,
                "trial_id": trial.id,
                "frame_index": index,
                "task": trial.task,
                "subject": trial.subject,
                "implant_pair": "-".join(str(pose["anatomy_id"]) if pose else "none" for pose in (femur, tibia)),
                "camera_bs": camera_bs,
                "camera_fs": camera_fs,
                "femur": femur,
                "tibia": tibia,
                "path_bs": path_bs,
                "path_fs": path_fs,
                "index_bs": index_bs,
                "index_fs": index_fs,
            }
            rows[trials[trial.id]].append(row)
    schema = _frame_schema()
    splits = {name: pa.Table.from_pylist(each, schema) for name, each in rows.items() if each}
    unposed = [row["measurement_id"] for each in rows.values() for row in each if not (row["femur"] or row["tibia"])]
    return Plan(splits, trials, measurements=id, without_initial=frozenset(unposed if study.implants else ()))


def _pose(id: int, study: Study, component: Component, poses: Mapping[Component, FloatArray]) -> PoseRow | None:
    if component not in poses or not np.isfinite(T := poses[component][id - 1]).all():
        return None
    return {
        "pose_id": len(COMPONENTS) * (id - 1) + COMPONENTS.index(component) + 1,
        "anatomy_id": study.implants[component].anatomy_id,
        "translation_mm": (T[:3, 3] + 0.0).tolist(),  # no -0.0
        "quaternion_xyzw": (matrix_to_quaternion(T[:3, :3]) + 0.0).tolist(),
        "kind": KIND,
    }


def _frame_schema() -> pa.Schema:
    schema = features_of("calibrated").arrow_schema
    fields = [field for field in schema if field.name not in IMAGE_OF.values()]
    files = [(name, pa.string()) for name in PATH_OF.values()] + [(name, pa.int64()) for name in INDEX_OF.values()]
    return pa.schema([*fields, *(pa.field(*each) for each in files)])


def plan_implants(study: Study) -> Plan:
    """Plan the rows of the implants."""
    side = f" of a {study.side} knee" if study.side else ""
    rows: list[ImplantRow] = [
        {
            "anatomy_id": implant.anatomy_id,
            "component": component,
            "category": f"{component}_implant",
            "description": f"{study.name_of(implant.mesh)}{side}",
            "path": str(implant.mesh),
            "label": implant.label,
        }
        for component, implant in study.implants.items()
    ]
    text = dict.fromkeys(("component", "category", "description", "path"), pa.string())
    schema = pa.schema({"anatomy_id": pa.int64(), **text, "label": pa.int64()})
    return Plan({"train": pa.Table.from_pylist(rows, schema)}, {}, measurements=len(rows))


@dataclass(frozen=True)
class PlaneRecipe:
    """How an image of a plane becomes that of a row.

    Attributes
    ----------
    plane : its column.
    distortion : file; None: the images are corrected already.
    size : (rows, columns) of the image in the row, px.
    white_level : grey level that is white in images of more than 8 bits.
    inverted : whether metal is bright in the files, which do not state it.

    """

    plane: PlaneName
    distortion: Path | None
    size: tuple[int, int]
    white_level: int
    inverted: bool

    def with_dark_metal(self, frame: Grey) -> Grey:
        """Return the image with its grey levels inverted, where metal is bright."""
        if not self.inverted:
            return frame
        white = frame.dtype.type(255 if frame.dtype == np.uint8 else self.white_level)
        return white - np.minimum(frame, white)

    def corrected(self, frame: Grey) -> Grey:
        """Return the image with its distortion corrected."""
        if self.distortion is None:
            return frame
        correction = _correction(self.distortion, self.distortion.stat().st_mtime_ns, self.plane)
        return (
            correction.correct(frame) if isinstance(correction, ImageMap) else correction.correct(frame, self.size[0])
        )


@lru_cache(maxsize=2)
def _correction(path: Path, modified_ns: int, plane: PlaneName) -> DistortionMap | ImageMap:
    """Distortion of a plane, as long as its file is the same."""
    return read_correction(path, plane)


@lru_cache(maxsize=8)
def _stack(path: Path, modified_ns: int) -> Stack:
    """Frames of a file, as long as it is the same: a TIFF with thousands of pages is looked through once."""
    return open_stack(path)


@dataclass(frozen=True)
class FrameRows:
    """Makes rows of frames.

    Attributes
    ----------
    recipes : one for each plane.
    encoding, bits : of the images.

    """

    recipes: tuple[PlaneRecipe, ...]
    encoding: Encoding
    bits: int

    @property
    def features(self) -> Features:
        """Features of the finished rows."""
        return features_of("calibrated", self.bits)

    def make(self, plan: pa.Table, bright: list[AboveWhite]) -> tuple[pa.Table, list[Rejected]]:
        """Finished rows, and those that could not be made; adds to the frames that are brighter than white."""
        return finished_rows(plan, self.features, partial(self._files, bright))

    def _files(self, bright: list[AboveWhite], row: StudyRow) -> dict[str, ImageFile | None]:
        files: dict[str, ImageFile | None] = dict.fromkeys(IMAGE_OF.values())
        for recipe in self.recipes:
            path, index = Path(row[PATH_OF[recipe.plane]] or ""), row[INDEX_OF[recipe.plane]] or 0
            try:
                frame = radiograph(_stack(path, path.stat().st_mtime_ns), index)
            except FrameError as error:
                raise FrameError(error.reason, f"{path.name}, image {index + 1}: {error.detail}") from error
            except (FileNotFoundError, IndexError) as error:  # `import_study` says at its end what has changed
                raise FrameError("unreadable", f"{path.name}, image {index + 1}: it is no longer there") from error
            if (share := share_above(frame, recipe.white_level)) > MOST_ABOVE_WHITE:
                bright.append(AboveWhite(row["measurement_id"], recipe.plane, share))
            image = with_white(recipe.with_dark_metal(frame), recipe.white_level, self.bits, recipe.corrected)
            try:
                check_contrast(image)
            except FrameError as error:
                scaled = f"with {recipe.white_level} as white, in {self.bits} bits"
                raise FrameError(error.reason, f"{path.name}, image {index + 1}, {scaled}: {error.detail}") from error
            files[IMAGE_OF[recipe.plane]] = encoded(image, path.stem, self.encoding)
        return files


@dataclass(frozen=True)
class ImplantRows:
    """Makes rows of implants."""

    @property
    def features(self) -> Features:
        """Features of the finished rows."""
        return features_of("anatomies")

    def make(self, plan: pa.Table, bright: list[AboveWhite]) -> tuple[pa.Table, list[Rejected]]:
        """Finished rows, and those that could not be made."""
        return finished_rows(plan, self.features, _mesh_file)


def _mesh_file(row: ImplantRow) -> dict[str, ImageFile | None]:
    mesh: ImplantMesh = read_implant_mesh(Path(row["path"]), label=row["label"])
    return {"mesh": {"bytes": mesh.data, "path": f"{Path(row['path']).stem}.stl"}}
