"""What a checkpoint may hold, checked before anything of its size is built."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME
from transformers.utils.hub import cached_file

TRUST_FIELDS = ("means", "deviations", "confidence", "doubt", "limit", "low", "high")
MOST_CONFIG_BYTES = 10_000_000
_MOST_HEADER_BYTES = 20_000_000  # of safetensors; a large backbone's has 0.1 MB
# Of any number and list in a configuration. Names of classes, which backbones carry along, and trials are more.
_MOST_NUMBER, _MOST_ITEMS, _MOST_NAMES = 1e6, 1000, 100_000
_NAMES = ("id2label", "label2id", "training_data.trials")
# What would load other files than the weights, or build something else than the model.
_FORBIDDEN = ("transformers_weights", "quantization_config", "configuration_files", "num_labels")
_TAKE = "Take the config.json that was saved with the weights"
_PLACE = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


def read_fields(file: str | Path) -> dict[str, Any]:
    """Fields of a configuration's file.

    Raises
    ------
    ValueError
        If it is too large, is not JSON, or holds anything else than fields.

    """
    path = Path(file)
    if path.stat().st_size > MOST_CONFIG_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, expected at most {MOST_CONFIG_BYTES:,}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a valid JSON file ({error or 'too deeply nested'})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {_shown(found)}, expected the fields of a configuration")
    return found


def check_fields(fields: Mapping[str, Any], model_type: str, required: tuple[str, ...]) -> None:
    """Check the fields of a saved configuration, whatever they are used for.

    Raises
    ------
    ValueError
        If it is of another model, a field is missing, would load other files, or is larger than any model needs.

    """
    if fields.get("model_type", model_type) != model_type:
        raise ValueError(
            f"config.json is that of a model of type {_shown(fields['model_type'])}, expected {model_type!r}"
        )
    if missing := [name for name in required if fields.get(name) is None]:
        raise ValueError(
            f"config.json has no {', '.join(missing)}; expected all fields that save_pretrained writes. {_TAKE}"
        )
    if found := [name for name in _FORBIDDEN if fields.get(name) is not None]:
        raise ValueError(f"config.json has the field {', '.join(found)}, which no saved pose model has; remove it")
    check_plain(fields)


def check_plain(value: Any, name: str = "", depth: int = 0) -> None:
    """Raise ValueError for a number, a list or a nesting beyond that of any configuration."""
    if depth > 8:
        raise ValueError(f"config.json: {name} is nested too deeply")
    if isinstance(value, (int, float)):
        if not (abs(value) <= _MOST_NUMBER or (name.startswith("anatomies.") and name.endswith(".id"))):
            raise ValueError(
                f"config.json: {name} is {_shown(value)}, expected a number of at most {_MOST_NUMBER:,.0f}"
            )
    elif isinstance(value, str):
        if len(value) > _MOST_ITEMS:
            raise ValueError(f"config.json: {name} has {len(value):,} characters, expected at most {_MOST_ITEMS}")
    elif isinstance(value, (dict, list, tuple)):
        most = _MOST_NAMES if name.endswith(_NAMES) else _MOST_ITEMS
        if len(value) > most:
            raise ValueError(f"config.json: {name} has {len(value):,} entries, expected at most {most:,}")
        items = value.items() if isinstance(value, dict) else ((index, each) for index, each in enumerate(value))
        for key, each in items:
            check_plain(each, f"{name}.{key}".lstrip("."), depth + 1)


def check_trust(fitted: Any, signs: int) -> None:
    """Raise ValueError for what does not say how far poses can be trusted, by so many signs."""
    if not isinstance(fitted, dict) or set(fitted) != set(TRUST_FIELDS):
        raise ValueError(f"trust must have the fields {', '.join(TRUST_FIELDS)}, got {_shown(fitted)}")
    lengths = {"means": signs, "deviations": signs, "confidence": signs + 1, "doubt": signs + 1, "low": 3, "high": 3}
    for name, values in {**fitted, "limit": [fitted["limit"]]}.items():
        length = lengths.get(name, 1)
        if not isinstance(values, list) or len(values) != length or not all(map(_is_finite, values)):
            raise ValueError(f"trust: {name} must be {length} finite numbers, got {_shown(fitted[name])}")
    if min(fitted["deviations"]) <= 0:
        raise ValueError(f"trust: deviations must be above 0, got {_shown(fitted['deviations'])}")


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def place(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``from_pretrained`` that say where its files are."""
    return {name: options[name] for name in _PLACE if options.get(name) is not None}


def weights_file(name_or_path: str | Path, options: Mapping[str, Any]) -> Path:
    """File of a checkpoint's weights.

    Raises
    ------
    ValueError
        If there is none in safetensors, or there are several.
    OSError
        If there is no such checkpoint.

    """
    variant = options.get("variant")
    name = SAFE_WEIGHTS_NAME if variant is None else SAFE_WEIGHTS_NAME.replace(".", f".{variant}.", 1)
    if found := _file(name_or_path, name, options):
        return found
    if _file(name_or_path, SAFE_WEIGHTS_INDEX_NAME, options) or _file(name_or_path, WEIGHTS_INDEX_NAME, options):
        raise ValueError(
            f"the weights in {name_or_path} are divided into several files, expected one {name}. Load them where "
            'they were made, and save them with save_pretrained(folder, max_shard_size="50GB")'
        )
    if _file(name_or_path, WEIGHTS_NAME, options):
        raise ValueError(
            f"{name_or_path} has {WEIGHTS_NAME} and no {name}: a pickle, which may run any code when it is loaded. "
            "Where you trust it, load it with torch and save the model with save_pretrained, which writes safetensors"
        )
    raise ValueError(f"{name_or_path} has no {name}, expected the weights that save_pretrained writes")


def _file(name_or_path: str | Path, name: str, options: Mapping[str, Any]) -> Path | None:
    if Path(name_or_path).is_dir():
        path = Path(name_or_path, options.get("subfolder") or "", name)
        return path if path.is_file() else None
    found = cached_file(str(name_or_path), name, _raise_exceptions_for_missing_entries=False, **place(options))
    return Path(found) if found else None


class Stored(NamedTuple):
    """Sizes of a safetensors file: how many tensors, numbers of all of them, and whole numbers among these."""

    tensors: int
    numbers: int
    integers: int


def stored_sizes(weights: Path) -> Stored:
    """Sizes of a safetensors file, by its header.

    Raises
    ------
    ValueError
        If the file is not safetensors, is cut off, or its header is too large.

    """
    with weights.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > min(_MOST_HEADER_BYTES, weights.stat().st_size):
        raise ValueError(
            f"{weights} is no safetensors file, or cut off: it states a header of {header_bytes:,} bytes"
        )
    try:
        with safe_open(weights, framework="pt") as stored:
            slices = [stored.get_slice(name) for name in stored.keys()]  # noqa: SIM118
            sizes = [math.prod(each.get_shape()) for each in slices]
            whole = [each.get_dtype().startswith(("I", "U", "BOOL")) for each in slices]
            return Stored(len(sizes), sum(sizes), sum(size for size, each in zip(sizes, whole, strict=True) if each))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"{weights} is no whole safetensors file: {error}") from error


def check_size(build: Callable[[], nn.Module], weights: Path) -> None:
    """Check that a model is as large as its weights, without memory for it.

    Names are compared when the weights are loaded; several backbones are stored under other names.

    Parameters
    ----------
    build : makes the model.
    weights : its safetensors file.

    Raises
    ------
    ValueError
        If the model has far more tensors or numbers than there are weights, or cannot be made.

    """
    stored = stored_sizes(weights)
    with _at_most(10 * stored.tensors + 1000), torch.device("meta"):
        try:
            model = build()
        # Backbones check their settings or fail with whatever their arithmetic raises.
        except Exception as error:
            raise ValueError(f"config.json describes no model: {type(error).__name__}: {error}") from error
    tensors = model.state_dict().values()
    expected = sum(tensor.numel() for tensor in tensors)
    if expected > 2 * stored.numbers + 1_000_000:
        largest = max(model.state_dict().items(), key=lambda named: named[1].numel())
        raise ValueError(
            f"config.json describes a model of {expected:,} numbers, but {weights.name} holds {stored.numbers:,}; "
            f"the largest tensor is {largest[0]} {tuple(largest[1].shape)}. {_TAKE}"
        )
    integers = sum(tensor.numel() for tensor in tensors if not tensor.is_floating_point())
    if stored.integers > integers and stored.numbers - stored.integers < expected - integers:
        raise ValueError(
            f"{weights} holds {stored.integers:,} whole numbers, expected {integers:,}: weights are floating-point "
            "numbers. Save them again where they were made"
        )


@contextmanager
def _at_most(modules: int) -> Iterator[None]:
    """Raise ValueError where a model of more modules is made, before it takes minutes."""
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1
        if made > modules:
            raise ValueError(f"it has more than {modules} modules, and its file has weights for far fewer")

    hook = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def check_finite(tensors: Mapping[str, Tensor], name_or_path: object) -> None:
    """Raise ValueError where weights hold numbers that are not finite, as those of a training that diverged do."""
    bad = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not tensor.is_meta and not bool(tensor.isfinite().all())
    ]
    if bad:
        raise ValueError(
            f"the weights in {name_or_path} hold numbers that are not finite: {', '.join(bad[:5])} ({len(bad)} in "
            "all). Take another checkpoint of the training"
        )


def masked(error: Exception) -> str:
    """Message of an error without the user names and passwords of the addresses in it."""
    return re.sub(r"(\w://)[^\s/?#]*@", r"\1***@", str(error))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
