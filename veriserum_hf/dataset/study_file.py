"""The YAML file of a study, or a trial of Autoscoper.

Paths are relative to the file. Every field is checked, and one that is not known is refused: a misspelt option would
be ignored otherwise.
"""

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from veriserum_hf.core import COMPONENTS, PLANES, CameraRow, Component, PlaneName
from veriserum_hf.dataset.study import (
    CameraFile,
    CameraMatrices,
    PoseFile,
    Study,
    StudyImplant,
    StudyPlane,
    StudyTrial,
)
from veriserum_hf.dataset.study_fields import Fields, expanded, read_yaml
from veriserum_hf.errors import CalibrationError, ConversionError
from veriserum_hf.geometry import read_autoscoper

_SIDES = ("left", "right")
_AUTOSCOPER = ".cfg"
_STUDY = ("planes", "side", "implants", "initial_poses", "trial", "trials", "description", "license")
_PLANE = ("images", "camera", "distortion", "inverted")
_MATRICES = (
    *("intrinsics", "world_to_camera", "rows", "columns"),
    *("pixel_size_mm", "source_to_intensifier_mm", "principal_point_mm"),
)
_CAMERA = ("mayacam", "jointtrack", *_MATRICES)
_IMPLANT = ("mesh", "anatomy_id", "label")
_POSES = ("file", "plane")
_TRIAL = ("id", "task", "subject", "frame_rate_hz")
_ONE_CAMERA = (
    "one of {mayacam: FILE}, {jointtrack: FILE}, or intrinsics and world_to_camera as in a row of a data set"
)


def read_study(path: Path) -> Study:
    """Read the YAML file of a study, or a trial of Autoscoper (.cfg), which has cameras and images only.

    Raises
    ------
    ConversionError
        If it cannot be read, or a field is missing, not known, or not as expected.

    """
    file = Path(expanded(str(path))).absolute()
    if file.suffix.lower() == _AUTOSCOPER:
        return _of_autoscoper(file)
    return _StudyReader(file).study(Fields(str(path), read_yaml(file), _STUDY))


def _of_autoscoper(file: Path) -> Study:
    """A study of the cameras and the folders of images of a trial of Autoscoper; its volumes are not taken."""
    try:
        trial = read_autoscoper(file)
    except CalibrationError as error:
        raise ConversionError(str(error)) from error
    if len(trial.cameras) > len(PLANES):
        raise ConversionError(f"{file}: found {len(trial.cameras)} cameras, expected one or two planes")
    names = [folder.name for folder in trial.images]
    if len(set(names)) < len(names):
        names = [f"camera_{number}" for number in range(1, len(names) + 1)]
    planes = tuple(
        StudyPlane(name, column, CameraFile("mayacam", camera, None), None)
        for name, column, camera in zip(names, PLANES, trial.cameras, strict=False)
    )
    images = {column: [f"{glob.escape(str(folder))}/*"] for column, folder in zip(PLANES, trial.images, strict=False)}
    return Study(file, planes, None, {}, (StudyTrial(1, None, None, None, images, {}),))


@dataclass(frozen=True)
class _StudyReader:
    file: Path

    def study(self, fields: Fields) -> Study:
        by_name = fields.of("planes")
        if not 1 <= len(by_name.values) <= len(PLANES):
            raise fields.error("planes", "one or two planes, each with its images and its camera")
        several = "trials" in fields
        if several and "trial" in fields:
            raise ConversionError(f"{fields.where}: trial and trials are both given, expected one of them")
        if several and "initial_poses" in fields:
            raise ConversionError(
                f"{fields.where}: initial_poses stands beside trials, expected it in each trial, beside its images"
            )
        planes, images = [], {}
        for column, name in zip(PLANES, by_name.values, strict=False):
            given = by_name.of(name, _PLANE)
            distortion, inverted = self.optional_path(given, "distortion"), given.truth("inverted")
            planes.append(StudyPlane(name, column, self.camera(given), distortion, inverted))
            if several and "images" in given:
                raise ConversionError(
                    f"{given.where}: images stands beside trials, expected it in each trial: "
                    f"images: {{{name}: trial_1/*.png}}"
                )
            if not several:
                images[column] = given.texts("images")
        implants = self.implants(fields)
        if several:
            trials = self.trials(fields, planes, implants)
        else:
            about = fields.of("trial", _TRIAL) if "trial" in fields else Fields(fields.where, {"id": 1}, _TRIAL)
            trials = [self.trial(about, images, self.poses(fields, planes, implants))]
        side = fields.choice("side", _SIDES) if "side" in fields else None
        description, license = (fields.text(each) if each in fields else None for each in ("description", "license"))
        return Study(self.file, tuple(planes), side, implants, tuple(trials), description, license)

    def path(self, fields: Fields, name: str) -> Path:
        return fields.path(name, self.file.parent)

    def optional_path(self, fields: Fields, name: str) -> Path | None:
        return self.path(fields, name) if name in fields else None

    def camera(self, plane: Fields) -> CameraFile | CameraMatrices:
        if "camera" not in plane:
            raise plane.error("camera", _ONE_CAMERA)
        fields = plane.of("camera", _CAMERA)
        kinds = [name for name in ("mayacam", "jointtrack", "intrinsics") if name in fields]
        if len(kinds) != 1:
            found = " and ".join(kinds) or "none of them"
            raise ConversionError(f"{fields.where}: found {found}, expected {_ONE_CAMERA}")
        allowed = {"mayacam": ("mayacam", "pixel_size_mm"), "jointtrack": ("jointtrack",), "intrinsics": _MATRICES}
        if others := [name for name in fields.values if name in fields and name not in allowed[kinds[0]]]:
            raise ConversionError(
                f"{fields.where}: {' and '.join(others)} stands beside {kinds[0]}, expected only "
                f"{', '.join(allowed[kinds[0]])}"
            )
        pixel_size_mm = fields.positive("pixel_size_mm") if "pixel_size_mm" in fields else None
        if kinds == ["mayacam"]:
            return CameraFile("mayacam", self.path(fields, "mayacam"), pixel_size_mm)
        if kinds == ["jointtrack"]:
            return CameraFile("jointtrack", self.path(fields, "jointtrack"), None)
        size = None
        if "rows" in fields or "columns" in fields:
            size = fields.whole("rows", 1), fields.whole("columns", 1)
        sid = "source_to_intensifier_mm"
        row: CameraRow = {
            "intrinsics": fields.matrix("intrinsics", 3),
            "world_to_camera": fields.matrix("world_to_camera", 4),
            "pixel_size_mm": pixel_size_mm,
            "source_to_intensifier_mm": fields.positive(sid) if sid in fields else None,
            "principal_point_mm": fields.numbers("principal_point_mm", 2) if "principal_point_mm" in fields else None,
        }
        return CameraMatrices(row, size)

    def implants(self, fields: Fields) -> dict[Component, StudyImplant]:
        if "implants" not in fields:
            return {}
        by_component = fields.of("implants", COMPONENTS)
        found: dict[Component, StudyImplant] = {}
        for component in COMPONENTS:
            if component in by_component:
                given = by_component.of(component, _IMPLANT)
                label = given.whole("label", 1) if "label" in given else None
                found[component] = StudyImplant(self.path(given, "mesh"), given.whole("anatomy_id"), label)
        ids = [implant.anatomy_id for implant in found.values()]
        if len(set(ids)) < len(ids):
            raise ConversionError(
                f"{by_component.where}: anatomy_id {ids[0]} occurs twice, expected another one for each implant"
            )
        return found

    def poses(
        self, fields: Fields, planes: list[StudyPlane], implants: Mapping[Component, StudyImplant]
    ) -> dict[Component, PoseFile]:
        if "initial_poses" not in fields:
            return {}
        by_component = fields.of("initial_poses", COMPONENTS)
        found: dict[Component, PoseFile] = {}
        for component in COMPONENTS:
            if component not in by_component:
                continue
            if component not in implants:
                raise ConversionError(
                    f"{by_component.where}: {component} has poses but no mesh; add it to implants, with its "
                    "anatomy_id"
                )
            given = by_component.of(component, _POSES)
            plane = given.choice("plane", [each.name for each in planes]) if "plane" in given else None
            found[component] = PoseFile(self.path(given, "file"), plane)
        return found

    def trial(
        self, fields: Fields, images: Mapping[PlaneName, list[str]], poses: Mapping[Component, PoseFile]
    ) -> StudyTrial:
        return StudyTrial(
            fields.whole("id") if "id" in fields else 1,
            fields.text("task") if "task" in fields else None,
            fields.whole("subject") if "subject" in fields else None,
            fields.positive("frame_rate_hz") if "frame_rate_hz" in fields else None,
            images,
            poses,
        )

    def trials(
        self, study: Fields, planes: list[StudyPlane], implants: Mapping[Component, StudyImplant]
    ) -> list[StudyTrial]:
        given = study.values["trials"]
        if not isinstance(given, list) or not given:
            raise study.error("trials", "a list of trials, each with its id and its images")
        found = []
        for number, each in enumerate(given, 1):
            fields = Fields(f"{study.where}: trials, number {number}", each, (*_TRIAL, "images", "initial_poses"))
            fields.whole("id")
            names = fields.of("images", [plane.name for plane in planes])
            images = {plane.column: names.texts(plane.name) for plane in planes}
            found.append(self.trial(fields, images, self.poses(fields, planes, implants)))
        ids = [trial.id for trial in found]
        if twice := [id for id in ids if ids.count(id) > 1]:
            raise ConversionError(f"{study.where}: trials: id {twice[0]} occurs twice, expected another one for each")
        return found
