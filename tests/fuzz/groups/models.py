"""Checkpoints: configuration, weights, image processor."""

import json
import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, SAFE, Case, Group, replaced
from tests.fuzz.commands import check_model

models = Group("checkpoints", "dataset", check_model, times=7)


def _config_file(case: Case) -> Path:
    case.touch_all()
    return case.data / "model/config.json"


@contextmanager
def _changed_config(case: Case) -> Iterator[dict[str, Any]]:
    """The configuration, which is written as the block leaves it."""
    path = _config_file(case)
    config = json.loads(path.read_text())
    yield config
    path.write_text(json.dumps(config))


def _weights(case: Case) -> tuple[Path, bytes, dict[str, Any], bytes]:
    """The file, its content, its header, and what follows that."""
    case.touch_all()
    path = case.data / "model/model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return path, content, json.loads(content[8 : 8 + length]), content[8 + length :]


def _with_header(path: Path, header: object, rest: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)


@models(NOTICED)
def config_broken(case: Case) -> str:
    """The configuration is not JSON, of another kind, empty, or gone."""
    path = _config_file(case)
    text = case.one(("", "{", "[]", "null", "3", "{}", '{"model_type": "bert"}', "\x00\xff", "[" * 100_000, None))
    path.unlink()
    if text is not None:
        path.write_text(text)
    return repr(text)[:40]


@models(NOTICED)
def size_absurd(case: Case) -> str:
    """A size of the model is absurdly large, negative, or no number."""
    with _changed_config(case) as config:
        name = case.one(("image_size", "crop_size", "locator_size", "map_channels", "map_size", "hidden_size"))
        config[name] = case.one((10**6, 10**9, 2**62, -1, 0, "x", None, 1.5, [], 1e400))
    return f"{name} = {config[name]}"


@models(NOTICED)
def backbone_absurd(case: Case) -> str:
    """The backbone is unknown, absurdly deep or wide, or no mapping."""
    with _changed_config(case) as config:
        backbone = config["backbone_config"]
        how = case.one(("kind", "depths", "hidden_sizes", "embedding_size", "nothing", "layer_type"))
        if how == "kind":
            backbone["model_type"] = case.one(("nothing", "bert", "../x", 3, None, ["resnet"]))
        elif how == "nothing":
            config["backbone_config"] = case.one((None, [], "resnet", 5))
        else:
            backbone[how] = case.one(([10**6, 10**6], [0, 0], [-1, 2], 10**7, "x", None, [1] * 1000))
    return f"{how} = {str(backbone.get(how, backbone.get('model_type')))[:40]}"


@models(NOTICED)
def anatomies_wrong(case: Case) -> str:
    """The implants are none, unknown, twice, of no component, or 700,000."""
    with _changed_config(case) as config:
        known = config["anatomies"]
        config["anatomies"] = case.one(
            (
                [],
                None,
                known * 2,
                [{"id": n, "component": "femur"} for n in range(700_000)],
                [each | {"component": "hip"} for each in known],
                [each | {"id": str(each["id"])} for each in known],
                known[:1],
                [1, 2],
                "x",
                [{"id": each["id"]} for each in known],
            )
        )
    return str(config["anatomies"])[:60]


@models(NOTICED)
def choice_unknown(case: Case) -> str:
    """A choice of the configuration is none of those that there are."""
    with _changed_config(case) as config:
        name, value = case.one(
            (
                ("head", "other"),
                ("planes", []),
                ("planes", ["bs", "bs"]),
                ("planes", "bs"),
                ("head", None),
                ("planes", [3]),
            )
        )
        config[name] = value
    return f"{name} = {value}"


@models(OPEN)
def any_setting(case: Case) -> str:
    """Any setting of the configuration has any value, or is missing."""
    with _changed_config(case) as config:
        place = config
        name = case.one(sorted(config))
        if name == "backbone_config" and case.random.random() < 0.8:
            place = config[name]
            name = case.one(sorted(place))
        value = case.one(("gone", None, -1, 0, 10**6, 10**12, 1e400, "x", "", [], {}, [[1]], True, "\x1b[2J"))
        if value == "gone":
            del place[name]
        else:
            place[name] = value
    return f"{name} = {value}"


@models(NOTICED)
def code_of_its_own(case: Case) -> str:
    """The configuration names code next to it: nothing of it may be run."""
    with _changed_config(case) as config:
        config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
        config["model_type"] = "evil"
    (_config_file(case).parent / "evil.py").write_text(f"open({str(case.trap)!r}, 'w').close()\n")
    return ""


@models(NOTICED)
def weights_cut(case: Case) -> str:
    """The weights break off, are empty, or gone."""
    path, content, _, _ = _weights(case)
    path.unlink()
    length = case.one((None, 0, 4, 8, 100, len(content) // 2, len(content) - 1))
    if length is not None:
        path.write_bytes(content[:length])
    return f"{length} bytes"


@models(NOTICED)
def header_wrong(case: Case) -> str:
    """The header of the weights is no JSON, longer than the file, or of absurd length."""
    path, content, _, rest = _weights(case)
    how = case.one(("length", "json", "list", "empty"))
    if how == "length":
        path.write_bytes(struct.pack("<Q", case.one((0, 2**63, 10**9, len(content)))) + content[8:])
    elif how == "json":
        path.write_bytes(content[:8] + b"{" * 50 + content[58:])
    else:
        _with_header(path, [] if how == "list" else {}, rest)
    return how


@models(NOTICED)
def tensor_wrong(case: Case) -> str:
    """A tensor has another shape, kind or place, or is missing."""
    path, _, header, rest = _weights(case)
    name = case.one(sorted(set(header) - {"__metadata__"}))
    how = case.one(("shape", "kind", "place", "missing", "negative"))
    if how == "missing":
        del header[name]
    elif how == "shape":
        header[name]["shape"] = case.one(([10**9, 10**9], [1], [], [7, 7, 7]))
    elif how == "kind":
        header[name]["dtype"] = case.one(("I8", "F64", "X", None))
    elif how == "place":
        header[name]["data_offsets"] = case.one(([0, 10**15], [5, 1], [10**12, 10**12 + 4], [0, 0]))
    else:
        header[name]["shape"] = [-1, 4]
    _with_header(path, header, rest)
    return f"{name} {how}"


@models(NOTICED)
def weights_not_finite(case: Case) -> str:
    """Every weight is NaN or infinite."""
    path, _, header, rest = _weights(case)
    value = struct.pack("<f", case.one((float("nan"), float("inf"))))
    _with_header(path, header, value * (len(rest) // 4))
    return ""


@models(OPEN)
def weights_changed(case: Case) -> str:
    """Random bytes of the weights are others."""
    path, content, _, _ = _weights(case)
    changed = bytearray(content)
    for _ in range(case.one((1, 20))):
        changed[case.random.randrange(len(changed))] = case.random.randrange(256)
    path.write_bytes(changed)
    return ""


@models(NOTICED)
def pickle_alone(case: Case) -> str:
    """The weights are a pickle that does something: it may not be loaded."""
    path, _, _, _ = _weights(case)
    path.unlink()

    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (open, (str(case.trap), "w"))

    (path.parent / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    return ""


@models(NOTICED)
def shards_named_elsewhere(case: Case) -> str:
    """An index names shards of weights outside of the folder, or that are not there."""
    path, content, header, _ = _weights(case)
    path.unlink()
    outside = case.folder / "outside.safetensors"
    outside.write_bytes(content)
    to = case.one(("../../outside.safetensors", str(outside), "nothing.safetensors", "", 3))
    index = {"metadata": {}, "weight_map": {name: to for name in header if name != "__metadata__"}}
    (path.parent / "model.safetensors.index.json").write_text(json.dumps(index))
    return str(to)


@models(SAFE)
def processor_broken(case: Case) -> str:
    """The image processor's settings are broken, or of another size."""
    path = case.data / "model/preprocessor_config.json"
    path.write_text(case.one(("", "{", "[]", '{"size": 7}', '{"size": 1e9}', '{"size": "x"}', '{"size": -1}')))
    return path.read_text()


@models(NOTICED)
def special_file(case: Case) -> str:
    """A pipe, a folder or a device in the place of a file of the model."""
    case.touch_all()
    return replaced(case, case.data / "model" / case.one(("config.json", "model.safetensors")))


@models(HARMLESS)
def more_files(case: Case) -> str:
    """Files that nobody reads lie next to the model."""
    for name in ("README.md", "training_args.bin", "notes.txt", "evil.py"):
        (case.data / "model" / name).write_bytes(b"\x80\x04\xff")
    return ""


@models(NOTICED)
def model_of_other_implants(case: Case) -> str:
    """The model knows the implants by other ids than the data set."""
    with _changed_config(case) as config:
        for each in config["anatomies"]:
            each["id"] += 50
    return ""
