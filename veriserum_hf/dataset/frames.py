"""Opened frames, for any kind of storage, and the fields that rows of frames must have."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from veriserum_hf.calibration import RefinedCameras
from veriserum_hf.core import CAMERA_OF, COMPONENTS, IMAGE_OF, Component, FrameRow
from veriserum_hf.errors import DataSetError, FrameError

IDS = ("measurement_id", "trial_id", "frame_index")
_NEEDED = {"measurement_id", *IMAGE_OF.values(), *CAMERA_OF.values(), *COMPONENTS}


class Frames(ABC):
    """Rows of frames in an order. They can be sent to other processes."""

    @property
    @abstractmethod
    def column_names(self) -> list[str]:
        """Fields of a row."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def table(self, *names: str) -> pa.Table:
        """Return some columns of every row; images are not read."""

    @abstractmethod
    def taken(self, indices: Sequence[int]) -> "Frames":
        """Return these rows in this order."""

    @abstractmethod
    def at_size(self, size: int) -> "Frames":
        """Return the frames with images of ``size`` px if they are corrected when read; others stay."""

    @abstractmethod
    def with_cameras(self, cameras: RefinedCameras) -> Self:
        """Return the frames with refined cameras, where their trial has some; CalibrationError if they are others."""

    @abstractmethod
    def read(self) -> Iterator[FrameRow | FrameError]:
        """Every row with its images as arrays, or why they cannot be read."""

    @abstractmethod
    def digest(self) -> str:
        """Hash of the content of the rows."""

    def anatomy_ids(self, component: Component) -> list[int]:
        """Implants that the frames have poses of."""
        ids = pc.struct_field(self.table(component)[component].combine_chunks(), "anatomy_id")
        return sorted(id for id in pc.unique(ids).to_pylist() if id is not None)


def is_raw(columns: Collection[str]) -> bool:
    """Whether rows with these fields hold raw frames, which come with a distortion."""
    return "distortion_bs" in columns


def holds_images(columns: Collection[str]) -> bool:
    """Whether rows with these fields hold corrected images of frames, with cameras and poses."""
    return not is_raw(columns) and set(columns) >= _NEEDED


def check_frames(columns: Collection[str], of: str, *, raw: bool = False) -> None:
    """Refuse rows that do not hold corrected images with cameras and poses.

    Parameters
    ----------
    columns : fields of the rows.
    of : name of the rows, for the message.
    raw : whether raw frames are accepted too.

    Raises
    ------
    DataSetError
        Naming the configurations to choose from.

    """
    if raw and not set(columns) >= _NEEDED:
        raise DataSetError(f"{of} holds no frames; choose calibrated, raw, manual or target")
    if not raw and not holds_images(columns):
        raise DataSetError(f"{of} holds no corrected images; choose calibrated, manual or target")
