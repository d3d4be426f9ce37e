"""Text of the card of imported frames: the planes, and where everything came from."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from veriserum_hf.core import code_span, one_line
from veriserum_hf.dataset.card import TAGS, CardText
from veriserum_hf.dataset.study import CameraFile, StudyPlane
from veriserum_hf.dataset.study_content import StudyContent

_TEMPLATE = Path(__file__).with_name("study_card_template.md")
_CONFIGS = {
    "calibrated": "Images of each plane, their cameras, and an initial pose of each implant where the study has one.",
    "anatomies": "One implant a row, with its mesh in mm.",
}
_LICENCE = "State the licence of the images and meshes here and in the head of this file before you publish them."
_MARKUP = re.compile(r"_|[^\w\s,;:/%()'\"°=@.+-]|^[\s>#+-]+|(?<=^\d)[.)]")
_LICENCES = (
    *("apache-2.0", "bsd-3-clause", "cc0-1.0", "mit", "odbl", "odc-by", "pddl", "unknown", "unlicense"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
)  # that the hub knows by these ids, and that data sets have
_KINDS = {"mayacam": "MayaCam 2.0", "jointtrack": "JointTrack"}
_WORLDS = {
    "mayacam": "**World**: the frame of the MayaCam calibration, which is that of its calibration object; mm, "
    "right-handed.",
    "jointtrack": "**World**: the frame of the JointTrack calibration: origin at the X-ray source, x right, y up, z "
    "back from the image towards the source; mm, right-handed. Images of other studies have other worlds.",
    "matrices": "**World**: the frame that `world_to_camera` of the study refers to; mm, right-handed.",
}


def study_card(content: StudyContent, configs: Sequence[str], above_white: Mapping[str, int]) -> CardText:
    """Text of the card of a study.

    Parameters
    ----------
    content : of the study.
    configs : that have rows.
    above_white : measurements with pixels above white, by configuration.

    """
    study = content.study
    names = " and ".join(code_span(plane.name) for plane in study.planes)
    parts = {
        "title": f"Frames of {code_span(study.file.stem)}",
        "description": "" if study.description is None else f"\n{_plain(study.description)}\n",
        "planes_in_words": f"two planes, {names}" if len(study.planes) > 1 else f"one plane, {names}",
        "images": _images(content, above_white.get("calibrated", 0)),
        "origin": "\n".join(f"- {line}" for line in _origin(content)),
        "names": _names(content),
        "poses": _poses(content),
        "world": _WORLDS[_kind(study.planes[0])],
        "splits": _splits(content.options.split),
        "licence": _LICENCE if study.license is None else f"{_plain(study.license)}, as the study states it.",
    }
    return CardText(
        f"Frames of {study.file.stem}",
        TAGS,
        {config: _CONFIGS[config] for config in configs},
        _TEMPLATE,
        parts,
        license=study.license if study.license in _LICENCES else None,  # the hub wants a link with "other"
        one_split=content.options.split is not None,
    )


def _plain(text: str) -> str:
    """Text of the study within a paragraph of Markdown: on one line, and none of it is markup."""
    return _MARKUP.sub(r"\\\g<0>", one_line(" ".join(text.split())))


def _names(content: StudyContent) -> str:
    """What the names of files are relative to."""
    inside = [path.is_relative_to(content.study.folder) for path in content.names]
    relative = "Names of files are relative to the study's YAML file"
    ends = "the last parts of their paths"
    if all(inside):
        return f"{relative}."
    return f"{relative}; of files elsewhere they are {ends}." if any(inside) else f"Names of files are {ends}."


def _kind(plane: StudyPlane) -> str:
    return plane.camera.kind if isinstance(plane.camera, CameraFile) else "matrices"


def _images(content: StudyContent, above_white: int) -> str:
    options = content.options
    sizes = []
    for plane, recipe in zip(content.study.planes, content.recipes, strict=True):
        rows, columns = content.cameras[plane.column].size
        sizes.append(f"{columns} x {rows} pixels of {code_span(plane.name)}")
        if recipe.white_level > 255:
            sizes[-1] += f" (grey level {recipe.white_level} is white)"
    sentences = [
        f"Images: {' and '.join(sizes)}; {options.bits} bits (white is {2**options.bits - 1}), {options.encoding}. "
        "The files were decoded and encoded again: nothing of their metadata, which may name a patient, is kept."
    ]
    if above_white:
        sentences.append(
            f"**Clipped:** in {above_white} rows, more than 0.1 % of the pixels are brighter than white; "
            "`conversion.json` lists them."
        )
    return " ".join(sentences)


def _origin(content: StudyContent) -> list[str]:
    study, images, names = content.study, content.images, content.names
    lines = [f"Study: {code_span(study.file.name)}{f', {study.side} knee' if study.side else ''}."]
    for plane in study.planes:
        given = plane.camera
        camera = "intrinsics and world_to_camera of the study"
        if isinstance(given, CameraFile):
            camera = f"{code_span(names[given.path])} ({_KINDS[given.kind]})"
        distortion = (
            f"corrected with {code_span(names[plane.distortion])}" if plane.distortion else "taken as corrected"
        )
        stacks = images[plane.column].stacks
        inverted = len(stacks) if plane.inverted else sum(stack.inverted for stack in stacks)
        lines.append(
            f"Plane {code_span(plane.name)}: columns `image_{plane.column}` and `camera_{plane.column}`; camera "
            f"{camera}; distortion {distortion}; {len(stacks)} files"
            f"{f', {inverted} of them stored inverted' if inverted else ''}."
        )
    lines += [_trial(content, number) for number in range(len(study.trials))]
    for component, implant in study.implants.items():
        lines.append(f"Implant {implant.anatomy_id}: {component}, {code_span(names[implant.mesh])}.")
    return lines


def _trial(content: StudyContent, number: int) -> str:
    study, names, trial = content.study, content.names, content.study.trials[number]
    parts = [f"{len(content.images['bs'].by_trial[number])} frames"]
    if trial.task is not None:
        parts.append(f"task {code_span(trial.task)}")
    if trial.frame_rate_hz is not None:
        parts.append(f"{trial.frame_rate_hz:g} frames a second")
    for plane in study.planes:
        patterns = [code_span(names[study.path_of(pattern)]) for pattern in trial.images[plane.column]]
        parts.append(f"{code_span(plane.name)} from {', '.join(patterns)}")
    for component, given in trial.initial_poses.items():
        of_plane = f" in the frame of {code_span(given.plane)}" if given.plane else ""
        parts.append(f"poses of the {component} from {code_span(names[given.path])}{of_plane}")
    return f"Trial {trial.id}: {'; '.join(parts)}."


def _poses(content: StudyContent) -> str:
    """How many frames have initial poses."""
    known: dict[str, list[bool]] = {
        component: [bool(np.isfinite(T).all()) for T in poses]
        for component, poses in content.poses.T_world_implant.items()
    }
    if not known:
        return "The study has no implants, and no poses."
    counts = ", ".join(f"{sum(each)} of the {component}" for component, each in known.items())
    of_frames = list(zip(*known.values(), strict=True))
    without = sum(not any(each) for each in of_frames)
    return f"Poses of the {len(of_frames)} frames of the study: {counts}; {without} without any."


def _splits(split: str | None) -> str:
    if split is not None:
        return f"All trials are in `{split}`, as it was requested."
    return (
        "By trial, never by frame: neighbouring frames of one trial are similar. The split of a trial depends on\n"
        "its id alone."
    )
