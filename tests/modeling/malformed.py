"""Malformed checkpoints: changes of every file that a checkpoint holds."""

import copy
import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

VALUES: dict[str, Any] = {
    "null": None,
    "text": "x",
    "bool": True,
    "list": [],
    "dict": {},
    "negative": -1,
    "zero": 0,
    "fraction": 1.5,
    "million": 10**6,
    "huge": 10**18,
    "400 digits": 10**400,
    "nan": math.nan,
    "infinite": math.inf,
    "long list": [1] * 100_000,
    "nested": [[[[[[[[[[[[1]]]]]]]]]]]],
}
Change = Callable[[Path], None]


def mutations(folder: Path) -> Iterator[tuple[str, Change]]:
    """Name and change of each: of config.json, its backbone, its anatomies, other files, and the weights."""
    config = json.loads((folder / "config.json").read_text())
    for field in [
        *config,
        "transformers_weights",
        "quantization_config",
        "num_labels",
        "id2label",
        "attn_implementation",
    ]:
        yield from _of_field(field, (), field in config)
    for field in config["backbone_config"]:
        yield from _of_field(field, ("backbone_config",), True)
    for field in ("id", "component"):
        yield from _of_field(field, ("anatomies", 0), True)
    yield from _special()
    yield from _of_text("config.json")
    yield from _of_text("preprocessor_config.json")
    for name, value in VALUES.items():
        yield f"preprocessor size {name}", _json("preprocessor_config.json", ("size",), value)
    yield from _of_weights((folder / "model.safetensors").read_bytes())


def _of_field(field: str, place: tuple[str | int, ...], there: bool) -> Iterator[tuple[str, Change]]:
    where = ".".join(map(str, (*place, field)))
    if there:
        yield f"{where} missing", _json("config.json", (*place, field), _json)
    for name, value in VALUES.items():
        yield f"{where} {name}", _json("config.json", (*place, field), value)


def _json(file: str, place: tuple[str | int, ...], value: Any) -> Change:
    """Set a value of a JSON file, or remove it where the value is this function."""

    def change(folder: Path) -> None:
        path = folder / file
        content = json.loads(path.read_text()) if path.exists() else {}
        inner = content
        for key in place[:-1]:
            inner = inner[key]
        if value is _json:
            del inner[place[-1]]
        else:
            inner[place[-1]] = value
        path.write_text(json.dumps(content))

    return change


def _special() -> Iterator[tuple[str, Change]]:
    many = [{"id": id, "component": "femur" if id else "tibia"} for id in range(900)]
    for name, place, value in [
        ("700,000 anatomies", ("anatomies",), many * 778),
        ("900 anatomies", ("anatomies",), many),
        ("twice the same anatomy", ("anatomies",), [*many[:2], *many[:2]]),
        ("a femur alone", ("anatomies",), many[1:2]),
        ("planes twice", ("planes",), ["bs", "bs"]),
        ("planes unknown", ("planes",), ["bs", "side"]),
        ("planes of lists", ("planes",), [["bs"], ["fs"]]),
        ("depths 1e6", ("backbone_config", "depths"), [10**6, 1]),
        ("depths 1e5", ("backbone_config", "depths"), [10**5, 10**5]),
        ("depths 5000", ("backbone_config", "depths"), [5000, 1]),
        ("depths of texts", ("backbone_config", "depths"), ["1", "1"]),
        ("more depths", ("backbone_config", "depths"), [1, 2, 1, 1]),
        ("widths 1e6", ("backbone_config", "hidden_sizes"), [10**6, 10**6]),
        ("widths 50000", ("backbone_config", "hidden_sizes"), [50_000, 50_000]),
        ("hidden size 65536", ("hidden_size",), 65536),
        ("map of 1024", ("map_size",), 1024),
        ("map channels 65536", ("map_channels",), 65536),
        ("another family", ("backbone_config", "model_type"), "convnext"),
        ("no vision", ("backbone_config", "model_type"), "bert"),
        ("of timm", ("backbone_config", "model_type"), "timm_backbone"),
        ("labels", ("backbone_config", "id2label"), {str(id): str(id) for id in range(200_000)}),
        ("another model", ("model_type",), "resnet"),
        ("layers 1e6", ("backbone_config",), {"model_type": "vit", "num_hidden_layers": 10**6}),
        ("layers 1e9", ("backbone_config",), {"model_type": "swin", "depths": [10**9]}),
        ("image 1e6", ("backbone_config",), {"model_type": "vit", "image_size": 10**6}),
        ("window 1e5", ("backbone_config",), {"model_type": "swin", "window_size": 10**5}),
    ]:
        yield name, _json("config.json", place, value)


def _written(file: str, content: bytes) -> Change:
    return lambda folder: (folder / file).write_bytes(content) and None


def _of_text(file: str) -> Iterator[tuple[str, Change]]:
    def cut(folder: Path) -> None:
        whole = (folder / file).read_bytes() if (folder / file).exists() else b'{"size": 64}'
        (folder / file).write_bytes(whole[: len(whole) // 2])

    def folder_instead(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        (folder / file).mkdir()

    yield f"{file} cut", cut
    yield f"{file} a folder", folder_instead
    for name, content in {
        "empty": b"",
        "a list": b"[]",
        "a number": b"1e999",
        "null": b"null",
        "a text": b'"x"',
        "deep": b"[" * 100_000 + b"]" * 100_000,
        "not UTF-8": b'{"head": "\xff"}',
        "zeros": bytes(1000),
        "large": b" " * 11_000_000 + b"{}",
        "a long number": b'{"image_size": ' + b"9" * 5000 + b"}",
    }.items():
        yield f"{file} {name}", _written(file, content)


def _of_weights(data: bytes) -> Iterator[tuple[str, Change]]:
    size = struct.unpack("<Q", data[:8])[0]
    header, tensors = json.loads(data[8 : 8 + size]), data[8 + size :]

    def with_header(change: Callable[[dict[str, Any]], object], rest: bytes = tensors) -> Change:
        changed = copy.deepcopy(header)
        change(changed)
        text = json.dumps(changed).encode()
        return _written("model.safetensors", struct.pack("<Q", len(text)) + text + rest)

    first = next(name for name in header if name != "__metadata__" and len(header[name]["shape"]) == 2)
    contents: dict[str, bytes] = {
        "empty": b"",
        "7 bytes": data[:7],
        "no header": data[:8],
        "half a header": data[: 8 + size // 2],
        "half": data[: len(data) // 2],
        "a byte less": data[:-1],
        "a byte more": data + b"\0",
        "zeros": bytes(len(data)),
        "header of 2**63": struct.pack("<Q", 2**63) + data[8:],
        "header of 1e9": struct.pack("<Q", 10**9) + data[8:],
        "header no JSON": data[:8] + b"x" * size + tensors,
        "deep header": struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000,
        "a pickle": b"\x80\x04}q\x00." + bytes(100),
        "nan": data[: 8 + size] + b"\xff\xff\xff\x7f" * (len(tensors) // 4) + tensors[len(tensors) // 4 * 4 :],
    }
    for name, content in contents.items():
        yield f"weights {name}", _written("model.safetensors", content)
    changes: dict[str, Callable[[dict[str, Any]], object]] = {
        "without a tensor": lambda header: header.pop(first),
        "renamed": lambda header: header.update({"other": header.pop(first)}),
        "another shape": lambda header: header[first].update(shape=header[first]["shape"][::-1] + [1]),
        "negative shape": lambda header: header[first].update(shape=[-1, 2]),
        "huge shape": lambda header: header[first].update(shape=[10**9, 10**9]),
        "shape of text": lambda header: header[first].update(shape="x"),
        "another type": lambda header: header[first].update(dtype="I32"),
        "unknown type": lambda header: header[first].update(dtype="F7"),
        "offsets beyond": lambda header: header[first].update(data_offsets=[0, 10**12]),
        "offsets reversed": lambda header: header[first].update(data_offsets=header[first]["data_offsets"][::-1]),
        "metadata of numbers": lambda header: header.update(__metadata__={"format": 1}),
        "without metadata": lambda header: header.pop("__metadata__", None),
        "of another framework": lambda header: header.update(__metadata__={"format": "nonsense"}),
        "no tensors": lambda header: [header.pop(name) for name in list(header) if name != "__metadata__"],
    }
    for name, change in changes.items():
        yield f"weights {name}", with_header(change)

    def pickled(file: str) -> Change:
        def change(folder: Path) -> None:
            (folder / "model.safetensors").unlink()
            (folder / file).write_bytes(
                b"\x80\x04." if file.endswith("bin") else b'{"metadata": {}, "weight_map": {}}'
            )

        return change

    for file in (
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "model.safetensors.index.json",
        "flax_model.msgpack",
    ):
        yield f"only {file}", pickled(file)
