"""Images of a study: which files a pattern names, in which order, and what all images of a plane have in common."""

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from veriserum_hf.archive import Stack, highest_level, open_stack, white_level
from veriserum_hf.core import Grey, PlaneName, listed, one_line
from veriserum_hf.dataset.study import Study, StudyPlane, StudyTrial
from veriserum_hf.dataset.study_fields import expanded, is_text
from veriserum_hf.errors import ArchiveError, ConversionError, FrameError

_SAMPLED_FRAMES = 16
_DEEP = 16  # bits of a file that may hold fewer
_MOST_PATTERNS = 4  # of names in one folder; where there are more, the names follow none


@dataclass(frozen=True)
class Image:
    """One image: its file, and which of the file's pages or frames it is, from 0."""

    path: Path
    index: int


@dataclass(frozen=True)
class PlaneImages:
    """Images of one plane.

    Attributes
    ----------
    by_trial : of every trial, in the order of the trials.
    stacks : the files.
    size : (rows, columns) of each image as it is stored, px.
    notes : sentences on order and polarity.

    """

    by_trial: tuple[tuple[Image, ...], ...]
    stacks: tuple[Stack, ...]
    size: tuple[int, int]
    notes: tuple[str, ...]

    def white_level(self) -> int:
        """Grey level that is white in images of more than 8 bits, as the files state it or by a sample of them."""
        bits = max(stack.bits for stack in self.stacks)
        if bits != _DEEP:
            return int(2**bits - 1)
        every = [(stack, index) for stack in self.stacks for index in range(stack.count)]
        levels = []
        for stack, index in every[:: max(1, len(every) // _SAMPLED_FRAMES)]:
            try:
                levels.append(highest_level(radiograph(stack, index)))
            except FrameError:  # it will be among the rejected rows
                continue
        return white_level(levels) if levels else 2**_DEEP - 1


def radiograph(stack: Stack, index: int) -> Grey:
    """Grey levels of one image of a file, as `Stack.read` returns them.

    Raises
    ------
    FrameError
        With the reasons of `Stack.read`, and ``mask`` for an image of two grey levels.

    """
    frame = stack.read(index)
    low, high = frame.min(), frame.max()
    if ((frame == low) | (frame == high)).all():
        raise FrameError(
            "mask", f"its only grey levels are {low} and {high}, expected a radiograph; give a pattern without masks"
        )
    return frame


def images_of(study: Study) -> dict[PlaneName, PlaneImages]:
    """Open the image files of every plane; their headers are read, not their pixels.

    Raises
    ------
    ConversionError
        If a pattern finds no file, a file is no image or is listed twice, images of a plane have different sizes, or
        planes have different numbers of images.

    """
    found = {plane.column: _of_plane(study, plane) for plane in study.planes}
    _check_once(study, found)
    notes = []
    for number, trial in enumerate(study.trials):
        counts = {plane.name: len(found[plane.column].by_trial[number]) for plane in study.planes}
        if len(set(counts.values())) > 1:
            sizes = " and ".join(f"{count} of {one_line(name)}" for name, count in counts.items())
            raise ConversionError(
                f"{_of(study, trial)}: found {sizes} images, expected as many of each plane: the first image of one "
                "plane shows the same moment as the first one of the other"
            )
        if len(found) > 1 and (note := _other_numbers(study, trial, [found[c].by_trial[number] for c in found])):
            notes.append(note)
    if notes:
        first = next(iter(found))
        found[first] = replace(found[first], notes=(*found[first].notes, *notes))
    return found


def _of(study: Study, trial: StudyTrial) -> str:
    return f"{study.file.name}: trial {trial.id}" if len(study.trials) > 1 else study.file.name


def _of_plane(study: Study, plane: StudyPlane) -> PlaneImages:
    name = one_line(plane.name)
    by_trial: list[tuple[Image, ...]] = []
    stacks: list[Stack] = []
    notes: list[str] = []
    for trial in study.trials:
        where = f"{_of(study, trial)}: {name}"
        paths = [path for each in trial.images[plane.column] for path in _matching(study, where, each, notes)]
        opened = _opened(study, where, paths)
        by_trial.append(tuple(Image(each.path, index) for each in opened for index in range(each.count)))
        stacks += opened
        notes += _other_instances(where, opened)
    _check_alike(study, name, stacks)
    if len(depths := sorted({stack.bits for stack in stacks})) > 1:
        notes.append(
            f"{name}: files have {' and '.join(map(str, depths))} bits: white is 255 in those of 8 bits, and one "
            "grey level in all others"
        )
    _check_polarity(study, plane, stacks)
    if inverted := sum(stack.inverted for stack in stacks):
        notes.append(
            f"{name}: {inverted} of {len(stacks)} files store X-rays dark, as they state themselves (WhiteIsZero, "
            "MONOCHROME1); their grey levels were inverted, so that metal is dark"
        )
    return PlaneImages(tuple(by_trial), tuple(stacks), stacks[0].size, tuple(dict.fromkeys(notes)))


def _other_numbers(study: Study, trial: StudyTrial, planes: Sequence[Sequence[Image]]) -> str:
    """Sentence where files of both planes are counted alike, and those of one moment have different numbers."""
    one, other = (_numbers(images) for images in planes)
    if one == other or not set(one) & set(other):
        return ""
    place = next(k for k, numbers in enumerate(zip(one, other, strict=True)) if numbers[0] != numbers[1])
    files = [
        f"{one_line(images[place].path.name)} of {one_line(plane.name)}"
        for plane, images in zip(study.planes, planes, strict=True)
    ]
    return (
        f"{_of(study, trial)}: image {place + 1} is {' and '.join(files)}, whose numbers differ; images are paired "
        "in their order: compare whether both planes have the same moments"
    )


def _other_instances(where: str, stacks: Sequence[Stack]) -> list[str]:
    """Sentence where DICOM files number themselves in another order than that of their names."""
    stated = [stack.proposal.instance_number if stack.proposal else None for stack in stacks]
    numbers = [number for number in stated if number is not None]
    place = next((k for k, (one, after) in enumerate(pairwise(numbers), 2) if after < one), None)
    if place is None or len(numbers) < len(stacks):
        return []
    return [
        f"{where}: image {place} is {one_line(stacks[place - 1].path.name)}, which states Instance Number "
        f"{numbers[place - 1]}, and the one before it {numbers[place - 2]}; images are in the order of the names of "
        "their files: list them in the order of their moments if that is another"
    ]


def _numbers(images: Sequence[Image]) -> list[tuple[int, ...]]:
    """Those numbers in the names of the files that count the images; empty where names do not count them."""
    found = [tuple(map(int, re.findall("[0-9]+", image.path.stem))) for image in images]
    if len({image.path for image in images}) < len(images) or len({len(each) for each in found}) != 1:
        return []
    count = [k for k, values in enumerate(zip(*found, strict=True)) if len(set(values)) > 1]
    return [tuple(each[k] for k in count) for each in found] if count else []


def natural_key(name: str) -> list[tuple[int, str]]:
    """Key to sort names by the numbers in them: frame_9 before frame_10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), part) if number % 2 else (-1, part) for number, part in enumerate(parts)]


def _matching(study: Study, where: str, pattern: str, notes: list[str]) -> list[Path]:
    """Files that a pattern names, sorted by the numbers in their names."""
    pattern = expanded(pattern)
    literal = study.folder / pattern
    if os.path.isfile(literal):  # noqa: PTH113 - also where its name has characters of a pattern, or is too long
        return [literal]
    if os.path.isdir(literal.parent):  # noqa: PTH112 - also where the folder's name has such characters
        pattern = str(Path(glob.escape(str(Path(pattern).parent)), Path(pattern).name))
    try:
        names = glob.glob(pattern, root_dir=study.folder, recursive=True)  # noqa: PTH207 - absolute ones too
    except (ValueError, re.error, OSError) as error:
        raise ConversionError(f"{where}: images: {one_line(pattern)} is no pattern of files: {error}") from error
    names = sorted(names, key=natural_key)
    if odd := next((name for name in names if not is_text(str(study.folder / name))), None):
        raise ConversionError(
            f"{where}: images: {one_line(str(study.folder / odd))} is not a name in UTF-8, which rows can hold; "
            "rename the file or folder"
        )
    if not names:
        folder = literal.parent
        there = sorted(folder.iterdir()) if folder.is_dir() else []
        holds = f"; {folder.name} holds {listed(path.name for path in there)}" if there else ""
        raise ConversionError(
            f"{where}: images: no file matches {one_line(pattern)}, expected images relative to the folder of "
            f"{study.file.name}{holds}"
        )
    if names != (plain := sorted(names)):
        first = next(k for k, (one, other) in enumerate(zip(names, plain, strict=True)) if one != other)
        notes.append(
            f"{where}: images are sorted by the numbers in their names: {Path(names[first]).name} is image "
            f"{first + 1}, where plain sorting would have {Path(plain[first]).name}"
        )
    if note := _other_patterns([Path(name).name for name in names]):
        notes.append(f"{where}: images: {one_line(Path(pattern).name)} {note}")
    return [study.folder / name for name in names]


def _other_patterns(names: Sequence[str]) -> str:
    """Sentence where names differ in more than their numbers, as those of masks beside images do."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub("[0-9]+", "0", name), []).append(name)
    if not 1 < len(alike) <= _MOST_PATTERNS or len(alike) == len(names):
        return ""
    counts = ", ".join(f"{len(each)} like {one_line(each[0])}" for each in alike.values())
    return (
        f"matches {len(names)} files whose names differ in more than their numbers: {counts}; compare whether all "
        "are images of the plane: others, such as masks, are counted as frames"
    )


def _opened(study: Study, where: str, paths: Sequence[Path]) -> list[Stack]:
    stacks, unreadable = [], []
    for path in paths:
        try:
            stacks.append(open_stack(path))
        except (FrameError, ArchiveError) as error:
            unreadable.append(f"{study.name_of(path)} ({error})")
    if unreadable:
        raise ConversionError(
            f"{where}: images: {len(unreadable)} of {len(paths)} files cannot be used: {listed(unreadable, 3)}. "
            "Remove or replace them, or give a pattern that does not match them"
        )
    return stacks


def _check_polarity(study: Study, plane: StudyPlane, stacks: Sequence[Stack]) -> None:
    """Refuse to invert images of files that state their polarity, which is heeded."""
    stated = next((stack for stack in stacks if stack.inverted or stack.kind == "DICOM"), None)
    if plane.inverted and stated is not None:
        how = "dark, and is inverted for it" if stated.inverted else "bright"
        raise ConversionError(
            f"{study.file.name}: {one_line(plane.name)}: inverted: found true, but {study.name_of(stated.path)} "
            f"states that it stores X-rays {how}; remove inverted, or give PNG or TIFF files that do not state it"
        )


def _check_alike(study: Study, name: str, stacks: Sequence[Stack]) -> None:
    first = stacks[0]
    other = next((stack for stack in stacks if stack.size != first.size), None)
    if other is not None:
        (rows, columns), (other_rows, other_columns) = first.size, other.size
        raise ConversionError(
            f"{study.file.name}: {name}: {study.name_of(other.path)} has {other_columns} x {other_rows} px, "
            f"{study.name_of(first.path)} {columns} x {rows}; expected one size, that of the plane's camera"
        )


def _check_once(study: Study, found: dict[PlaneName, PlaneImages]) -> None:
    seen: set[str] = set()
    for path in (stack.path for images in found.values() for stack in images.stacks):
        real = os.path.realpath(path)
        if real in seen:
            raise ConversionError(
                f"{study.file.name}: {study.name_of(path)} is listed twice, expected every image once: in one plane "
                "and one trial"
            )
        seen.add(real)


def every_file(images: Mapping[PlaneName, PlaneImages]) -> Iterator[Path]:
    """Files of all planes."""
    return (stack.path for each in images.values() for stack in each.stacks)
