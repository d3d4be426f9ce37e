"""Shards of raw frames of a converted data set."""

import io
from typing import Any

import PIL.Image

from tests.fuzz.cases import NOTICED, SAFE, Case, Group
from tests.fuzz.commands import check_raw_dataset
from tests.fuzz.shards import changed_row, shard

raw = Group("dataset-raw", "dataset", check_raw_dataset, times=8)


@raw(SAFE)
def raw_bytes_zeroed(case: Case) -> str:
    """A run of zeros in a raw frame's file."""

    def change(row: dict[str, Any]) -> str:
        content = bytearray(row["image_bs"]["bytes"])
        at = case.random.randrange(len(content) - 600)
        content[at : at + 512] = bytes(512)
        row["image_bs"]["bytes"] = bytes(content)
        return f"at {at} of {len(content)}"

    return changed_row(case, shard(case, "raw"), change)


@raw(NOTICED)
def raw_cut(case: Case) -> str:
    """A raw frame's file breaks off."""

    def change(row: dict[str, Any]) -> str:
        content = row["image_fs"]["bytes"]
        row["image_fs"]["bytes"] = content[: case.one((0, 2, 100, len(content) // 2, len(content) - 2))]
        return f"{len(row['image_fs']['bytes'])} bytes"

    return changed_row(case, shard(case, "raw"), change)


@raw(NOTICED)
def distortion_wrong(case: Case) -> str:
    """A raw frame's distortion is no list of numbers, or of too few."""

    def change(row: dict[str, Any]) -> str:
        parts = row["distortion_bs"].split(",")
        row["distortion_bs"] = case.one(
            ("", "x", None, ",".join(parts[:-1]), ",".join(["nan", *parts[1:]]), "0," * 32)
        )
        return repr(row["distortion_bs"])[:40]

    return changed_row(case, shard(case, "raw"), change)


@raw(NOTICED)
def raw_of_another_size(case: Case) -> str:
    """A raw frame is not of the ratio of raw frames."""

    def change(row: dict[str, Any]) -> str:
        buffer = io.BytesIO()
        size = case.one(((400, 400), (3, 2), (4000, 10)))
        PIL.Image.new("L", size, 90).save(buffer, "PNG")
        row["image_bs"]["bytes"] = buffer.getvalue()
        return str(size)

    return changed_row(case, shard(case, "raw"), change)
