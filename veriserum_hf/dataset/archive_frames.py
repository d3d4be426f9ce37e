"""Frames directly from an archive: rows of the plan of a conversion, corrected when they are read."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self, cast

import pyarrow as pa
import trimesh

from veriserum_hf.archive import RawFormat, VeriserumArchive
from veriserum_hf.calibration import RefinedCameras, refined_cameras_sha256
from veriserum_hf.core import CAMERA_OF, CameraRow, FrameRow
from veriserum_hf.dataset.convert import convert, images_of
from veriserum_hf.dataset.frames import Frames
from veriserum_hf.dataset.plan import Options, PlanRow, make_plan
from veriserum_hf.dataset.replaced_cameras import with_cameras
from veriserum_hf.dataset.whole_camera import whole_camera
from veriserum_hf.errors import FrameError
from veriserum_hf.jobs import single_threaded_opencv


@dataclass(frozen=True, eq=False)
class ArchiveFrames(Frames):
    """Rows that an archive would be converted to.

    Attributes
    ----------
    plan : rows of `veriserum_hf.dataset.plan.make_plan`.
    options, raw : see `veriserum_hf.dataset.convert.images_of`.
    fingerprint : of the archive.
    cameras : hash of the refined cameras that the rows have; None where these are the archive's.

    """

    plan: pa.Table
    options: Options
    raw: RawFormat
    fingerprint: str
    cameras: str | None = None

    @property
    def column_names(self) -> list[str]:
        """Fields of a row."""
        return list(self.options.features)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.plan)

    def table(self, *names: str) -> pa.Table:
        """Return some columns of every row."""
        return self.plan.select(names)

    def taken(self, indices: Sequence[int]) -> "ArchiveFrames":
        """Return these rows in this order, in separate buffers: they are sent to other processes."""
        return replace(self, plan=self.plan.take(pa.array(indices, pa.int64())))

    def at_size(self, size: int) -> "ArchiveFrames":
        """Return the frames with images of ``size`` px, and cameras for these."""
        plan = self.plan
        for column, field in enumerate(plan.schema):
            if field.name in CAMERA_OF.values():
                cameras: list[CameraRow] = plan[column].to_pylist()
                resized = {repr(camera): camera for camera in cameras}  # few, of many frames
                for key, camera in resized.items():
                    resized[key] = whole_camera(camera, size)
                plan = plan.set_column(column, field, pa.array([resized[repr(each)] for each in cameras], field.type))
        return replace(self, plan=plan, options=replace(self.options, size=size))

    def with_cameras(self, cameras: RefinedCameras) -> Self:
        """Return the frames with refined cameras, where their trial has some; CalibrationError if they are others."""
        return replace(self, plan=with_cameras(self.plan, cameras), cameras=refined_cameras_sha256(cameras))

    def read(self) -> Iterator[FrameRow | FrameError]:
        """Every row with its images as arrays, or why they cannot be read."""
        for index in range(len(self.plan)):
            (row,) = self.plan.slice(index, 1).to_pylist()
            yield self._finished(row)

    def _finished(self, row: PlanRow) -> FrameRow | FrameError:
        try:
            with single_threaded_opencv():
                images = images_of(row, self.options, self.raw)
        except FrameError as error:
            return error
        whole = row | {f"image_{plane}": image for plane, image in images.items()}
        return cast(FrameRow, {name: whole[name] for name in self.options.features})

    def digest(self) -> str:
        """Hash of the ids of the rows, the archive's tables, and name, size and time of each of its files."""
        content = [self.fingerprint, asdict(self.options), self.table("measurement_id").to_pylist()]
        content += [self.cameras] if self.cameras else []
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def frames_of_archive(archive: VeriserumArchive, options: Options) -> dict[str, ArchiveFrames]:
    """Frames of a configuration by split; ConversionError if there are none."""
    raw, fingerprint = archive.raw_format, archive.fingerprint()
    plan = make_plan(archive, options)
    return {split: ArchiveFrames(rows, options, raw, fingerprint) for split, rows in plan.splits.items()}


def meshes_of_archive(archive: VeriserumArchive) -> tuple[dict[int, trimesh.Trimesh], dict[int, str]]:
    """Implants by anatomy id, mm, and why the others cannot be used; ConversionError if there are none."""
    options = Options(config="anatomies")
    finished, rejected = convert(make_plan(archive, options).splits["train"], options, archive.raw_format)
    rows = (options.features.decode_example(row) for row in finished.to_pylist())
    return {row["anatomy_id"]: row["mesh"] for row in rows}, {each.id: each.detail for each in rejected}
