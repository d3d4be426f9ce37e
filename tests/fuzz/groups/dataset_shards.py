"""Shards of a converted data set."""

import io
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.cases import NOTICED, OPEN, Case, Group, replaced
from tests.fuzz.commands import check_dataset
from tests.fuzz.png import png
from tests.fuzz.shards import changed_row, shard
from tests.fuzz.strange import HUGE, STRANGE_TEXT

shards = Group("dataset-shards", "dataset", check_dataset, times=5)


@shards(NOTICED)
def cut(case: Case) -> str:
    """A shard breaks off."""
    path = shard(case)
    content = path.read_bytes()
    path.write_bytes(content[: case.one((0, 4, 8, len(content) // 2, len(content) - 1))])
    case.touch_all()
    return path.name


@shards(OPEN)
def bytes_changed(case: Case) -> str:
    """Random bytes of a shard are others."""
    path = shard(case, case.one(("calibrated", "anatomies")))
    content = bytearray(path.read_bytes())
    for _ in range(case.one((1, 10, 100))):
        content[case.random.randrange(len(content))] = case.random.randrange(256)
    path.write_bytes(content)
    case.touch_all()
    return path.name


@shards(OPEN)
def footer_changed(case: Case) -> str:
    """Bytes of a shard's footer are others: its schema, its counts, its places."""
    path = shard(case)
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[-8:-4], "little")
    for _ in range(case.one((1, 3, 10))):
        content[-8 - case.random.randrange(length) - 1] = case.random.randrange(256)
    path.write_bytes(content)
    case.touch_all()
    return path.name


@shards(NOTICED)
def shard_missing(case: Case) -> str:
    """A shard that the card names is missing, or a folder."""
    path = shard(case)
    path.unlink()
    if case.random.random() < 0.5:
        path.mkdir()
    case.touch_all()
    return path.name


@shards(NOTICED)
def column_missing(case: Case) -> str:
    """A column is missing."""
    path = shard(case)
    name = case.one(("image_bs", "camera_fs", "femur", "measurement_id", "trial_id", "frame_index"))
    pq.write_table(pq.read_table(path).drop_columns([name]), path)
    case.touch_all()
    return f"{path.name} {name}"


@shards(NOTICED)
def column_of_another_type(case: Case) -> str:
    """A column holds text instead of what it held."""
    path = shard(case)
    table = pq.read_table(path)
    name = case.one(("measurement_id", "camera_bs", "femur", "image_bs"))
    at = table.column_names.index(name)
    text = case.one(("x", "", None))
    pq.write_table(table.set_column(at, name, pa.array([text] * len(table), pa.string())), path)
    case.touch_all()
    return f"{path.name} {name} = {text!r}"


@shards(NOTICED)
def value_null(case: Case) -> str:
    """A value that every row has is null."""
    name = case.one(("camera_bs", "camera_fs", "image_bs", "measurement_id", "trial_id"))

    def change(row: dict[str, Any]) -> str:
        case.touch_all()  # a row without its id has another key
        row[name] = None
        return name

    return changed_row(case, shard(case), change)


@shards(OPEN)
def poses_null(case: Case) -> str:
    """A frame without the pose of one implant, or both."""

    def change(row: dict[str, Any]) -> str:
        names = case.one((("femur",), ("tibia",), ("femur", "tibia")))
        row.update(dict.fromkeys(names))
        return " ".join(names)

    return changed_row(case, shard(case), change)


@shards(NOTICED)
def camera_wrong(case: Case) -> str:
    """A camera's focal length or pose is impossible."""

    def change(row: dict[str, Any]) -> str:
        camera = row[case.one(("camera_bs", "camera_fs"))]
        how = case.one(("intrinsics", "world_to_camera"))
        at, value = case.one(((0, 0), (1, 1), (2, 2))), case.one((0.0, -1.0, float("nan"), *HUGE[:5]))
        camera[how][at[0]][at[1]] = value
        return f"{how} {at} = {value}"

    return changed_row(case, shard(case), change)


@shards(NOTICED)
def camera_contradicts_itself(case: Case) -> str:
    """The camera's K has half the focal length, while its other numbers say otherwise."""

    def change(row: dict[str, Any]) -> str:
        for k in (0, 1):
            row["camera_bs"]["intrinsics"][k][k] /= 2
        return "K"

    return changed_row(case, shard(case), change)


@shards(NOTICED)
def camera_of_another_shape(case: Case) -> str:
    """A camera's matrix lacks a row or a number."""

    def change(row: dict[str, Any]) -> str:
        matrix = row["camera_fs"][case.one(("intrinsics", "world_to_camera"))]
        matrix[-1:] = case.one(([], [[]], [[0.0]], [[0.0, 0.0, 1.0]] * 3))
        return f"{len(matrix)} rows"

    path = shard(case)
    return changed_row(case, path, change)


@shards(NOTICED)
def pose_wrong(case: Case) -> str:
    """A label's translation or rotation is impossible."""

    def change(row: dict[str, Any]) -> str:
        label = row[case.one(("femur", "tibia"))]
        how = case.one(("translation_mm", "quaternion_xyzw"))
        label[how] = [case.one((float("nan"), *HUGE[:5]))] * len(label[how]) if case.random.random() < 0.7 else []
        return f"{how} = {label[how]}"

    return changed_row(case, shard(case), change)


@shards(NOTICED)
def implant_unknown(case: Case) -> str:
    """A label's implant is not among the anatomies."""

    def change(row: dict[str, Any]) -> str:
        row["tibia"]["anatomy_id"] = case.one((99, -1, 2**60))
        return str(row["tibia"]["anatomy_id"])

    return changed_row(case, shard(case), change)


@shards(NOTICED)
def image_no_image(case: Case) -> str:
    """An image is no image."""

    def change(row: dict[str, Any]) -> str:
        row["image_bs"]["bytes"] = case.one((b"", b"x" * 999, b"\xff\xd8\xff\xe0", row["image_bs"]["bytes"][:300]))
        return f"{len(row['image_bs']['bytes'])} bytes"

    return changed_row(case, shard(case), change)


@shards(NOTICED)
def image_of_another_size(case: Case) -> str:
    """An image is not of the size that its camera is for."""

    def change(row: dict[str, Any]) -> str:
        buffer = io.BytesIO()
        size = case.one(((32, 32), (64, 63), (640, 640), (1, 1)))
        PIL.Image.new("L", size, 90).save(buffer, "PNG")
        row["image_fs"]["bytes"] = buffer.getvalue()
        return str(size)

    return changed_row(case, shard(case), change)


@shards(NOTICED)
def image_bomb(case: Case) -> str:
    """An image says that it has 2 to 10 thousand million pixels."""

    def change(row: dict[str, Any]) -> str:
        row["image_bs"]["bytes"] = png(*case.one(((100_000, 100_000), (50_000, 40_000))), b"\0" * 1000)
        return ""

    return changed_row(case, shard(case), change)


@shards(NOTICED)
def mesh_wrong(case: Case) -> str:
    """An implant's mesh is no mesh."""

    def change(row: dict[str, Any]) -> str:
        content = row["mesh"]["bytes"]
        row["mesh"]["bytes"] = case.one((b"", b"x" * 500, content[:1000], b"solid x\nendsolid x\n", b"PK\3\4"))
        return f"{len(row['mesh']['bytes'])} bytes"

    return changed_row(case, shard(case, "anatomies"), change)


@shards(NOTICED)
def id_twice(case: Case) -> str:
    """The same frame is there twice."""
    path = shard(case)
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    return path.name


@shards(OPEN)
def text_strange(case: Case) -> str:
    """A row's task is strange text."""

    def change(row: dict[str, Any]) -> str:
        row["task"] = case.one(STRANGE_TEXT)
        return repr(row["task"][:40])

    return changed_row(case, shard(case), change)


@shards(OPEN)
def columns_in_another_order(case: Case) -> str:
    """A shard's columns in another order, in other row groups, with another compression."""
    path = shard(case)
    table = pq.read_table(path)
    names = list(table.column_names)
    if case.random.random() < 0.5:
        case.random.shuffle(names)
    pq.write_table(table.select(names), path, row_group_size=1, compression=case.one(("gzip", "zstd", "none")))
    return path.name


@shards(OPEN)
def shard_is_a_pipe(case: Case) -> str:
    """A shard is a named pipe, or a link to a device or to nothing."""
    case.touch_all()
    return replaced(case, shard(case), ("pipe", "/dev/zero", "nowhere"))
