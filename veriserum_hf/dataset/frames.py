"""Frames that were opened, whatever they are stored in; and what rows of frames must hold."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from veriserum_hf.core import CAMERA_OF, COMPONENTS, IMAGE_OF, Component, FrameRow
from veriserum_hf.errors import DataSetError, FrameError

IDS = ("measurement_id", "trial_id", "frame_index")
_NEEDED = {"measurement_id", *IMAGE_OF.values(), *CAMERA_OF.values(), *COMPONENTS}


class Frames(ABC):
    """Rows of frames in an order. They travel to other processes."""

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
        """Return the frames with images of ``size`` px where they are corrected as they are read; others stay."""

    @abstractmethod
    def read(self) -> Iterator[FrameRow | FrameError]:
        """Every row with its images as arrays, or why they cannot be had."""

    @abstractmethod
    def digest(self) -> str:
        """Hash of what is in the rows."""

    def anatomy_ids(self, component: Component) -> list[int]:
        """Implants that the frames have poses of."""
        ids = pc.struct_field(self.table(component)[component].combine_chunks(), "anatomy_id")
        return sorted(id for id in pc.unique(ids).to_pylist() if id is not None)


def is_raw(columns: Collection[str]) -> bool:
    """Whether rows with these fields hold raw frames, which have a distortion to be corrected by."""
    return "distortion_bs" in columns


def holds_images(columns: Collection[str]) -> bool:
    """Whether rows with these fields hold corrected images of frames, with cameras and poses."""
    return not is_raw(columns) and set(columns) >= _NEEDED


def check_frames(columns: Collection[str], of: str, *, raw: bool = False) -> None:
    """Refuse rows that do not hold corrected images with cameras and poses.

    Parameters
    ----------
    columns : fields of the rows.
    of : what they are of, for the message.
    raw : whether raw frames will do too.

    Raises
    ------
    DataSetError
        Naming the configurations to choose from.

    """
    if raw and not set(columns) >= _NEEDED:
        raise DataSetError(f"{of} holds no frames; choose calibrated, raw, manual or target")
    if not raw and not holds_images(columns):
        raise DataSetError(f"{of} holds no corrected images; choose calibrated, manual or target")
