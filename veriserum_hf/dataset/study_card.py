"""Text of the card of imported frames: the planes, and where everything came from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from veriserum_hf.core import PlaneName, code_span
from veriserum_hf.dataset.card import TAGS, CardText
from veriserum_hf.dataset.study import CameraFile, Study, StudyPlane, StudyTrial
from veriserum_hf.dataset.study_cameras import PlaneCamera
from veriserum_hf.dataset.study_images import PlaneImages
from veriserum_hf.dataset.study_rows import PlaneRecipe

if TYPE_CHECKING:
    from veriserum_hf.dataset.study_import import ImportOptions

_TEMPLATE = Path(__file__).with_name("study_card_template.md")
_CONFIGS = {
    "calibrated": "Images of each plane, their cameras, and an initial pose of each implant where the study has one.",
    "anatomies": "One implant a row, with its mesh in mm.",
}
_LICENCE = "State the licence of the images and meshes here and in the head of this file before you publish them."
_KINDS = {"mayacam": "MayaCam 2.0", "jointtrack": "JointTrack"}
_WORLDS = {
    "mayacam": "**World**: the frame of the MayaCam calibration, which is that of its calibration object; mm, "
    "right-handed.",
    "jointtrack": "**World**: the frame of the JointTrack calibration: origin at the X-ray source, x right, y up, z "
    "back from the image towards the source; mm, right-handed. Images of other studies have other worlds.",
    "matrices": "**World**: the frame that `world_to_camera` of the study refers to; mm, right-handed.",
}


def study_card(
    study: Study,
    images: Mapping[PlaneName, PlaneImages],
    cameras: Mapping[PlaneName, PlaneCamera],
    recipes: Sequence[PlaneRecipe],
    options: "ImportOptions",
    configs: Sequence[str],
    above_white: int,
) -> CardText:
    """Text of the card of a study.

    Parameters
    ----------
    study, images, cameras, recipes, options : of the import.
    configs : that have rows.
    above_white : measurements with pixels above white.

    """
    names = " and ".join(code_span(plane.name) for plane in study.planes)
    parts = {
        "title": f"Frames of {code_span(study.file.stem)}",
        "planes_in_words": f"two planes, {names}" if len(study.planes) > 1 else f"one plane, {names}",
        "images": _images(study, cameras, recipes, options, above_white),
        "origin": "\n".join(f"- {line}" for line in _origin(study, images, cameras)),
        "world": _WORLDS[_kind(study.planes[0])],
        "splits": _splits(options.split),
        "licence": _LICENCE,
    }
    return CardText(
        f"Frames of {study.file.stem}", TAGS, {config: _CONFIGS[config] for config in configs}, _TEMPLATE, parts
    )


def _kind(plane: StudyPlane) -> str:
    return plane.camera.kind if isinstance(plane.camera, CameraFile) else "matrices"


def _images(
    study: Study,
    cameras: Mapping[PlaneName, PlaneCamera],
    recipes: Sequence[PlaneRecipe],
    options: "ImportOptions",
    above_white: int,
) -> str:
    sizes = []
    for plane, recipe in zip(study.planes, recipes, strict=True):
        rows, columns = cameras[plane.column].size
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


def _origin(
    study: Study, images: Mapping[PlaneName, PlaneImages], cameras: Mapping[PlaneName, PlaneCamera]
) -> list[str]:
    lines = [f"Study: {code_span(study.file.name)}{f', {study.side} knee' if study.side else ''}."]
    for plane in study.planes:
        given = plane.camera
        camera = "intrinsics and world_to_camera of the study"
        if isinstance(given, CameraFile):
            camera = f"{code_span(study.name_of(given.path))} ({_KINDS[given.kind]})"
        distortion = (
            f"corrected with {code_span(study.name_of(plane.distortion))}"
            if plane.distortion
            else "taken as corrected"
        )
        inverted = sum(stack.inverted for stack in images[plane.column].stacks)
        lines.append(
            f"Plane {code_span(plane.name)}: columns `image_{plane.column}` and `camera_{plane.column}`; camera "
            f"{camera}; distortion {distortion}; {len(images[plane.column].stacks)} files"
            f"{f', {inverted} of them stored inverted' if inverted else ''}."
        )
    for number, trial in enumerate(study.trials):
        lines.append(_trial(study, trial, len(images["bs"].by_trial[number])))
    for component, implant in study.implants.items():
        lines.append(f"Implant {implant.anatomy_id}: {component}, {code_span(study.name_of(implant.mesh))}.")
    return lines


def _trial(study: Study, trial: StudyTrial, frames: int) -> str:
    parts = [f"{frames} frames"]
    if trial.task is not None:
        parts.append(f"task {code_span(trial.task)}")
    if trial.frame_rate_hz is not None:
        parts.append(f"{trial.frame_rate_hz:g} frames a second")
    for plane in study.planes:
        names = [code_span(study.name_of(study.folder / pattern)) for pattern in trial.images[plane.column]]
        parts.append(f"{code_span(plane.name)} from {', '.join(names)}")
    for component, given in trial.initial_poses.items():
        of_plane = f" in the frame of {code_span(given.plane)}" if given.plane else ""
        parts.append(f"poses of the {component} from {code_span(study.name_of(given.path))}{of_plane}")
    return f"Trial {trial.id}: {'; '.join(parts)}."


def _splits(split: str | None) -> str:
    if split is not None:
        return f"All trials are in `{split}`, as it was requested."
    return (
        "By trial, never by frame: neighbouring frames of one trial are similar. The split of a trial depends on\n"
        "its id alone."
    )
