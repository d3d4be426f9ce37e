"""Settings of a training: the YAML file."""

from typing import Any

import yaml

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, Case, Group, replaced
from tests.fuzz.commands import check_settings

settings = Group("training-settings", "dataset", check_settings, times=5)

COUNTS = ("batch_size", "crop_size", "map_size", "map_channels", "hidden_size", "num_train_epochs", "eval_steps")
REALS = ("learning_rate", "weight_decay", "max_grad_norm", "ema_decay", "plane_dropout", "crop_jitter_px")


def _put(case: Case, **changed: Any) -> str:
    path = case.data / "settings.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changed))
    return str(changed)[:100]


def _text(case: Case, text: str | bytes) -> str:
    path = case.data / "settings.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return repr(text)[:60]


@settings(NOTICED)
def no_mapping(case: Case) -> str:
    """The file is no mapping, or no YAML."""
    return _text(
        case,
        case.one(
            ("", "- 1\n- 2\n", "text", "3", ": [", "a: b: c", "\t", "\x00", b"\xff\xfe\x00", "null", "- " * 999)
        ),
    )


@settings(NOTICED)
def object_of_python(case: Case) -> str:
    """The file makes an object of Python, or refers to itself."""
    return _text(
        case,
        case.one(
            (
                f"batch_size: !!python/object/apply:os.system ['touch {case.trap}']\n",
                "backbone_config: &a {x: *a}\n",
                "!!binary aGk=\n",
                "batch_size: !!timestamp 2001-01-01\n",
            )
        ),
    )


@settings(NOTICED)
def grows_without_end(case: Case) -> str:
    """Few lines that stand for a thousand million values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return _text(case, "\n".join([*lines, "batch_size: *a9", ""]))


@settings(NOTICED)
def name_unknown(case: Case) -> str:
    """A setting is misspelt."""
    return _put(case, **{case.one(("batchsize", "learning_rat", "Crop_size", "seed ", "--seed", "1")): 3})


@settings(NOTICED)
def count_impossible(case: Case) -> str:
    """A number of things is negative, no number, or absurd."""
    return _put(case, **{case.one(COUNTS): case.one((-1, 0, "x", 1.5, None, [], {}, "1_0", float("nan")))})


@settings(NOTICED)
def count_absurd(case: Case) -> str:
    """A size of the network is absurd."""
    return _put(
        case, **{case.one(("map_size", "map_channels", "hidden_size", "crop_size")): case.one((10**6, 10**12))}
    )


@settings(NOTICED)
def real_impossible(case: Case) -> str:
    """A rate is negative, infinite, or no number."""
    return _put(case, **{case.one(REALS): case.one((-1.0, float("nan"), float("inf"), "x", [], {}, "1,0"))})


@settings(NOTICED)
def backbone_wrong(case: Case) -> str:
    """The backbone is unknown, absurd, or no mapping."""
    return _put(
        case,
        backbone_config=case.one(
            (
                3,
                "x",
                [],
                {},
                {"model_type": "nothing"},
                {"model_type": "resnet", "depths": "x"},
                {"model_type": "resnet", "depths": [10**6, 10**6], "hidden_sizes": [8, 8]},
                {"model_type": "resnet", "hidden_sizes": [10**7, 10**7], "depths": [1, 1]},
                {"model_type": "bert"},
                {"model_type": ["resnet"]},
            )
        ),
    )


@settings(NOTICED)
def augmentation_wrong(case: Case) -> str:
    """An augmentation is unknown, or its strength impossible."""
    return _put(
        case,
        augmentation=case.one(
            ({"nothing": 1}, {"noise": "x"}, {"noise": -1}, {"rotation_deg": 1e30}, [], 3, "x", {3: 4})
        ),
    )


@settings(NOTICED)
def planes_wrong(case: Case) -> str:
    """The planes are none, unknown, or twice."""
    return _put(case, planes=case.one(([], ["x"], ["bs", "bs"], 3, {"bs": 1}, [None])))


@settings(NOTICED)
def head_unknown(case: Case) -> str:
    """A choice is none of those that there are."""
    name = case.one(("head", "data", "mixed_precision", "dataset_config_name"))
    return _put(case, **{name: case.one(("other", 3, [], ""))})


@settings(OPEN)
def any_setting(case: Case) -> str:
    """Any setting has any value."""
    path = case.data / "settings.yaml"
    names = sorted(yaml.safe_load(path.read_text()))
    return _put(case, **{case.one(names): case.one((None, -1, 0, 1, "x", "", [], {}, True, 1e300, "\x1b[2J", ["x"]))})


@settings(HARMLESS)
def comments_and_order(case: Case) -> str:
    """The same settings in another order, with comments."""
    path = case.data / "settings.yaml"
    given = list(yaml.safe_load(path.read_text()).items())
    case.random.shuffle(given)
    return _text(case, "# settings\n" + yaml.safe_dump(dict(given), sort_keys=False) + "# end\n")[:20]


@settings(NOTICED)
def special_file(case: Case) -> str:
    """A pipe, a device, a folder or nothing in the place of the file."""
    return replaced(case, case.data / "settings.yaml")
