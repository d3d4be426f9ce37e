"""Studies of own frames: the YAML file, and the files that it names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, Case, Group, replaced
from tests.fuzz.commands import check_study
from tests.fuzz.strange import HUGE, STRANGE_TEXT

studies = Group("studies", "study", check_study, times=3)

_STRANGE: tuple[Any, ...] = (None, True, -1, 0, 1.5, 10**30, "", "x", "\x1b[2J", [], {}, [[]], [None], {"x": 1})


def _file(case: Case) -> Path:
    return case.data / "study.yaml"


def _change(case: Case, change: Callable[[dict[str, Any]], object]) -> str:
    """Change the content of the YAML file; every row may change."""
    found = yaml.safe_load(_file(case).read_text())
    text = change(found)
    _file(case).write_text(json.dumps(found))  # which is YAML
    case.touch_all()
    return str(text)[:100]


def _text(case: Case, text: str | bytes) -> str:
    _file(case).write_bytes(text if isinstance(text, bytes) else text.encode())
    return repr(text)[:60]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every mapping or list of a document, with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in items for place in [(value, key), *_places(each)]]


def _plane(case: Case, found: dict[str, Any]) -> dict[str, Any]:
    plane: dict[str, Any] = found["planes"][case.one(("camera_1", "camera_2"))]
    return plane


def _image(case: Case) -> Path:
    """One image, whose row may change."""
    path: Path = case.one(sorted(case.data.glob("trial_*/*/*.png")))
    return path


@studies(NOTICED)
def no_study(case: Case) -> str:
    """The file is no mapping, or no YAML."""
    return _text(case, case.one(("", "- 1", "text", ": [", "\t", b"\xff\xfe\x00", "null", "planes: 3", "- " * 999)))


@studies(NOTICED)
def object_of_python(case: Case) -> str:
    """The file makes an object of Python, refers to itself, or grows without end."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return _text(
        case,
        case.one(
            (
                f"planes: !!python/object/apply:os.system ['touch {case.trap}']\n",
                "planes: &a {x: *a}\n",
                "\n".join([*lines, "planes: *a9", ""]),
            )
        ),
    )


@studies(OPEN)
def any_value(case: Case) -> str:
    """Any field has any value."""

    def change(found: dict[str, Any]) -> str:
        holder, key = case.one(_places(found))
        holder[key] = case.one(_STRANGE)
        return f"{key} = {holder[key]!r}"

    return _change(case, change)


@studies(OPEN)
def any_text(case: Case) -> str:
    """Any field is strange text."""

    def change(found: dict[str, Any]) -> str:
        holder, key = case.one(_places(found))
        holder[key] = case.one(STRANGE_TEXT)
        return f"{key} = {holder[key]!r}"

    return _change(case, change)


@studies(OPEN)
def field_missing(case: Case) -> str:
    """A field, or an item of a list, is missing."""

    def change(found: dict[str, Any]) -> str:
        holder, key = case.one(_places(found))
        del holder[key]
        return str(key)

    return _change(case, change)


@studies(NOTICED)
def field_misspelt(case: Case) -> str:
    """A field that the study needs has another name."""

    def change(found: dict[str, Any]) -> str:
        holder, key = case.one([place for place in _places(found) if isinstance(place[1], str)])
        holder[key + case.one(("s", " ", "_", "\u200b"))] = holder.pop(key)
        return str(key)

    return _change(case, change)


@studies(NOTICED)
def number_impossible(case: Case) -> str:
    """A number of a camera is no number, or absurd."""

    def change(found: dict[str, Any]) -> str:
        camera = _plane(case, found)["camera"]
        name = case.one(("intrinsics", "world_to_camera"))
        row = case.one(camera[name][:2])
        row[case.one(range(len(row)))] = case.one((*HUGE[:3], "x", None, True, [1.0]))
        return name

    return _change(case, change)


@studies(NOTICED)
def camera_of_another_size(case: Case) -> str:
    """A camera of images of another size."""

    def change(found: dict[str, Any]) -> str:
        camera = _plane(case, found)["camera"]
        camera[case.one(("rows", "columns"))] = case.one((1, 63, 65, 128, 10**9))
        return ""

    return _change(case, change)


@studies(NOTICED)
def rotation_none(case: Case) -> str:
    """World to camera is no rigid transform."""

    def change(found: dict[str, Any]) -> str:
        matrix = np.array(_plane(case, found)["camera"]["world_to_camera"])
        matrix[:3, :3] *= case.one((2.0, -1.0, 0.0))
        _plane(case, found)["camera"]["world_to_camera"] = matrix.tolist()
        return ""

    return _change(case, change)


@studies(NOTICED)
def planes_apart(case: Case) -> str:
    """The planes do not meet, or are the same."""

    def change(found: dict[str, Any]) -> str:
        one, other = (found["planes"][name]["camera"] for name in ("camera_1", "camera_2"))
        if case.one((True, False)):
            one["world_to_camera"] = other["world_to_camera"]
        else:
            one["world_to_camera"][0][3] += case.one((-1.0, 1.0)) * 1500
        return ""

    return _change(case, change)


@studies(NOTICED)
def pattern_wrong(case: Case) -> str:
    """A pattern finds nothing, other things, or is none."""

    def change(found: dict[str, Any]) -> str:
        images = case.one(found["trials"])["images"]
        pattern = case.one(
            ("*.bmp", "", "[", "**", "/dev/zero", "/dev/*", "..", "*.stl", "\x00", "~", ["*.stl"], ".")
        )
        images[case.one(sorted(images))] = pattern
        return str(pattern)

    return _change(case, change)


@studies(NOTICED)
def image_missing(case: Case) -> str:
    """An image is missing: the planes have different numbers of them."""
    path = _image(case)
    path.unlink()
    case.touch_all()
    return path.name


@studies(NOTICED)
def image_of_another_size(case: Case) -> str:
    """An image of another size than the others."""
    path = _image(case)
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[:-3])
    case.touch_all()
    return path.name


@studies(NOTICED)
def image_damaged(case: Case) -> str:
    """An image is cut, empty, or no image."""
    path = _image(case)
    content = path.read_bytes()
    path.write_bytes(case.one((b"", content[:20], content[: len(content) // 2], b"x" * 999)))
    case.touch(f"calibrated {path.stem.rpartition('_')[2]}")
    return path.name


@studies(NOTICED)
def image_special(case: Case) -> str:
    """A pipe, a device, a folder or nothing in the place of an image."""
    case.touch_all()
    return replaced(case, _image(case))


@studies(NOTICED)
def file_special(case: Case) -> str:
    """A pipe, a device, a folder or nothing in the place of the YAML file, a mesh or poses."""
    path = case.one((_file(case), case.data / "femur.stl", *case.data.glob("trial_*/*.tra")))
    return replaced(case, path)


@studies(NOTICED)
def mesh_damaged(case: Case) -> str:
    """A mesh is cut, or in metres."""
    path = case.data / case.one(("femur.stl", "tibia.stl"))
    path.write_bytes(path.read_bytes()[: case.one((0, 80, 500))])
    return path.name


@studies(NOTICED)
def poses_too_few(case: Case) -> str:
    """A file of poses has a pose less or more than there are frames."""
    path = case.one(sorted(case.data.glob("trial_*/*.tra")))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1] if case.one((True, False)) else [*lines, lines[0]]))
    return path.name


@studies(NOTICED)
def poses_outside(case: Case) -> str:
    """Poses lie outside of the images."""
    path = case.one(sorted(case.data.glob("trial_*/*.tra")))
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for line in lines:
        line[7] = str(float(line[7]) + case.one((-1.0, 1.0)) * 5000)
    path.write_text("".join(",".join(line) + "\n" for line in lines))
    return path.name


@studies(NOTICED)
def distortion_wrong(case: Case) -> str:
    """A distortion is no distortion."""

    def change(found: dict[str, Any]) -> str:
        name = case.one(("femur.stl", "study.yaml", "nowhere", "camera_1.txt", "poses.csv", "."))
        (case.data / "poses.csv").write_text("a,b\n1,2\n")
        _plane(case, found)["distortion"] = name
        return name

    return _change(case, change)


@studies(NOTICED)
def mayacam_wrong(case: Case) -> str:
    """A MayaCam file is cut, of another size, or something else."""

    def change(found: dict[str, Any]) -> str:
        name = case.one(("camera_1", "camera_2"))
        path = case.data / f"{name}.txt"
        text = path.read_text()
        path.write_text(
            case.one(("", text[: len(text) // 2], text.replace("64,64", "65,64"), text.replace("1", "x")))
        )
        found["planes"][name]["camera"] = {"mayacam": path.name}
        return name

    return _change(case, change)


@studies(NOTICED)
def listed_twice(case: Case) -> str:
    """Two planes, or two trials, have the same images."""

    def change(found: dict[str, Any]) -> str:
        first, second = found["trials"][:2]
        if case.one((True, False)):
            second["images"] = first["images"]
        else:
            first["images"]["camera_1"] = first["images"]["camera_2"]
        return ""

    return _change(case, change)


@studies(NOTICED)
def id_twice(case: Case) -> str:
    """Two trials, or two implants, have the same id."""

    def change(found: dict[str, Any]) -> str:
        if case.one((True, False)):
            found["trials"][1]["id"] = found["trials"][0]["id"]
        else:
            found["implants"]["tibia"]["anatomy_id"] = found["implants"]["femur"]["anatomy_id"]
        return ""

    return _change(case, change)


@studies(HARMLESS)
def comments_and_style(case: Case) -> str:
    """The same study with comments, in another style of YAML."""
    found = yaml.safe_load(_file(case).read_text())
    flow = case.one((True, False))
    return _text(case, "# study\n" + yaml.safe_dump(found, sort_keys=False, default_flow_style=flow) + "# end\n")[:20]
