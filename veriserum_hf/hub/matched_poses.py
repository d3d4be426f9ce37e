"""Poses that a person has matched to the images of a data set: a configuration of their own beside its frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
from datasets import DatasetInfo, Features
from datasets.info import DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard

from veriserum_hf.core import COMPONENTS, MANUAL, LabelRow, listed
from veriserum_hf.dataset import open_rows
from veriserum_hf.errors import HubError
from veriserum_hf.jobs import parquet_bytes
from veriserum_hf.poses import MANUAL_SCHEMA, check_same_frame, poses_by_frame, read_poses

_CONFIG, _SPLIT = "matched", "manual"
_PATH = f"{_CONFIG}/{_SPLIT}-00000-of-00001.parquet"
_CONFIGS_OF_FRAMES = ("calibrated", "target", "manual", "raw")
_LABEL = ("measurement_id", "trial_id", "frame_index", *COMPONENTS)
_TEXT = """
## Poses matched by hand

The configuration `{config}`, split `{split}`, has {poses} poses of {frames} frames that {observers} matched to the
images with `veriserum match`: one implant a row, with `observer`, `accepted_utc`, and by which `method` the pose was
found. They are for comparison with other poses, not for training on their trials.
"""


@dataclass(frozen=True, eq=False)
class MatchedPoses:
    """Poses of one file or several.

    Attributes
    ----------
    table : by `veriserum_hf.poses.MANUAL_SCHEMA`.

    """

    table: pa.Table

    @classmethod
    def read(cls, files: Sequence[Path], folder: Path) -> "MatchedPoses":
        """Read files of poses, and check that they are of a converted folder, and matched by hand.

        Raises
        ------
        HubError
            If a file holds other poses, or poses of frames that the folder has not.
        TrainingError
            If a file is damaged, or its poses are of another data set.

        """
        labels = {label["measurement_id"]: label for label in _labels(folder)}
        tables = []
        for file in files:
            table = read_poses(file)
            frames = poses_by_frame(table)
            kinds = {pose.get("kind") for poses in frames.values() for pose in poses.values()}
            if kinds != {MANUAL}:
                raise HubError(
                    f"{file} holds poses that nobody has accepted; expected those of `veriserum match` (kind "
                    f"{MANUAL!r}). Nothing was pushed"
                )
            if unknown := sorted(frames.keys() - labels.keys()):
                raise HubError(
                    f"{file} has poses of {len(unknown)} frames that {folder} has not: measurements "
                    f"{listed(unknown, 5)}. Give the folder that they were matched in; nothing was pushed"
                )
            for id, poses in frames.items():
                check_same_frame(poses, labels[id], file)
            tables.append(pa.Table.from_pylist(table.to_pylist(), MANUAL_SCHEMA))
        return cls(pa.concat_tables(tables))

    @property
    def observers(self) -> list[str]:
        """Who accepted them; the names are part of what is pushed."""
        return sorted({name or "an unknown person" for name in self.table["observer"].to_pylist()})

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Content of each file of the configuration, by its path in the repository."""
        return {_PATH: parquet_bytes(self.table)}

    def card(self, text: str) -> str:
        """Text of a data set's card, with the configuration added."""
        card = DatasetCard(text)
        size = sum(map(len, self.files.values()))
        split = SplitInfo(_SPLIT, num_bytes=self.table.nbytes, num_examples=len(self.table))
        info = DatasetInfo(
            features=Features.from_arrow_schema(MANUAL_SCHEMA),
            splits=SplitDict({_SPLIT: split}),
            download_size=size,
            dataset_size=self.table.nbytes,
        )
        about = {"data_files": [{"split": _SPLIT, "path": _PATH}]}
        MetadataConfigs({_CONFIG: about}).to_dataset_card_data(card.data)
        DatasetInfosDict({_CONFIG: info}).to_dataset_card_data(card.data)
        card.text = f"{card.text.rstrip()}\n" + _TEXT.format(
            config=_CONFIG,
            split=_SPLIT,
            poses=len(self.table),
            frames=len(set(self.table["measurement_id"].to_pylist())),
            observers=", ".join(self.observers),
        )
        return str(card)


def _labels(folder: Path) -> Iterator[LabelRow]:
    """Ids and poses of every frame of a converted folder; images are not read."""
    config = next((name for name in _CONFIGS_OF_FRAMES if (folder / name).is_dir()), None)
    if config is None:
        raise HubError(f"{folder} has no frames that poses could be of; nothing was pushed")
    for frames in open_rows(str(folder), config, streaming=True).splits.values():
        yield from frames.rows.select_columns(list(_LABEL))
