"""A trial as a recording for the viewer of Rerun (``.rrd``), by frame: what `show` draws, in the world's mm.

``world/bs``, ``world/fs``
    the cameras: ``world_to_camera`` and the whole ``intrinsics`` of the row, with the image and the outlines below
    them. Images are the corrected ones, so that a pinhole has no distortion to leave out.
``world/implants/SOURCE/femur``
    the implants at the poses of each source.
``kinematics``, ``verdicts``, ``details``, ``frame``
    angles of the knee, verdicts and their reasons by source, and the name of the frame.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import trimesh

from veriserum_hf.core import (
    COMPONENTS,
    CONVERGED,
    FAILED,
    PLANES,
    VERDICTS,
    Component,
    FileRow,
    FloatArray,
    FrameRow,
    PlaneName,
    PoseRow,
    Poses,
)
from veriserum_hf.dataset import with_images
from veriserum_hf.errors import VeriserumError
from veriserum_hf.geometry import KNEE_ANGLES, knee_angles_deg, make_transform, quaternion_to_matrix
from veriserum_hf.jobs import write_file, writing
from veriserum_hf.rendering import simplified
from veriserum_hf.viewer.captions import frame_name
from veriserum_hf.viewer.outlines import COLORS, PoseSet, Traced, trace_planes
from veriserum_hf.viewer.recording_layout import TIMELINE, layout, rerun
from veriserum_hf.viewer.views import View, grey_of, views_of

RECORDING_SUFFIX = ".rrd"
_SHAPE_MM = 0.02  # by which the surface of a shown mesh may differ from that of the implant
_LINE_PT = 1.0  # half the width of an outline
_VERDICT_COLORS = {CONVERGED: (0, 158, 115), "ambiguous": (240, 228, 66), FAILED: (213, 94, 0)}


def check_recording(output: Path) -> None:
    """Raise VeriserumError unless a file's name is that of a recording in an existing folder."""
    if output.suffix.lower() != RECORDING_SUFFIX:
        raise VeriserumError(f"cannot write a recording to {output}; expected a name that ends in {RECORDING_SUFFIX}")
    if not output.absolute().parent.is_dir():
        raise VeriserumError(f"cannot write {output}: there is no folder {output.parent}")


def write_recording(
    rows: Sequence[FileRow],
    sets: Sequence[Sequence[PoseSet]],
    meshes: Mapping[int, trimesh.Trimesh],
    output: Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the frames of a trial as one file that Rerun's own viewer opens; nothing is sent anywhere.

    Parameters
    ----------
    rows : of `veriserum_hf.dataset.rows_found`, of one trial.
    sets : poses of each row, of the same kinds in the same order.
    meshes : of the implants by anatomy id, mm. They are shown with fewer triangles where no place of their surface
        moves by more than 0.02 mm; outlines are those of the whole meshes.
    output : file to write.
    progress : called with the number of frames done and of all.

    Raises
    ------
    VeriserumError
        See `draw_trial`; or if the file cannot be written.

    """
    check_recording(output)
    stream = rerun.RecordingStream("veriserum", send_properties=False)
    # To memory, since Rerun's own writer of files neither raises an error nor ends where the disk is full.
    memory = stream.memory_recording()
    stream.set_log_time_enabled(False)
    stream.set_log_tick_enabled(False)
    recording = _Recording(stream, _sources(sets[0]), meshes)
    stream.send_recording_name(f"trial {rows[0]['trial_id']}")
    # The first of each plane.
    cameras = {plane: view.camera for row in reversed(rows) for plane, view in views_of(row).items()}
    up = -next(cameras[plane] for plane in PLANES if plane in cameras).world_to_camera[1, :3]
    stream.send_blueprint(layout(cameras, up, sets))
    recording.describe(up)
    for number, (row, frame, of_row) in enumerate(zip(rows, with_images(rows), sets, strict=True), 1):
        stream.set_time(TIMELINE, sequence=row["frame_index"])
        recording.add(frame, trace_planes(row, of_row, meshes), of_row)
        if progress:
            progress(number, len(rows))
    with writing(output):
        write_file(output, memory.drain_as_bytes())


def _sources(sets: Sequence[PoseSet]) -> list[str]:
    """Names of the sources of poses, each once."""
    names: list[str] = []
    for poses in sets:
        names.append(poses.name if poses.name not in names else f"{poses.name} ({len(names)})")
    return names


@dataclass(eq=False)
class _Recording:
    """Frames that are added to a stream of Rerun, which shows the last state of whatever a frame does not change.

    ``shown`` is that state, of what is added only where it changes, by the parts of an entity's path.
    """

    stream: rerun.RecordingStream
    sources: Sequence[str]
    meshes: Mapping[int, trimesh.Trimesh]
    shown: dict[tuple[str, ...], object] = field(default_factory=dict)

    def describe(self, up: FloatArray) -> None:
        """Add what is the same in all frames: names, colours, and the direction (3,) that is up in the world."""
        axis = int(np.abs(up).argmax())
        name = f"RIGHT_HAND_{'XYZ'[axis]}_{'UP' if up[axis] > 0 else 'DOWN'}"
        self._log(("world",), getattr(rerun.ViewCoordinates, name), static=True)
        for kind, source in enumerate(self.sources):
            for angle in KNEE_ANGLES:
                lines = rerun.SeriesLines(colors=_rgb(kind), names=source)
                self._log(("kinematics", angle, source), lines, static=True)
            for component in COMPONENTS:
                colors = [_VERDICT_COLORS[verdict] for verdict in VERDICTS]
                states = rerun.StateConfiguration(values=list(VERDICTS), colors=colors)
                self._log(("verdicts", source, component), states, static=True)
        for plane in PLANES:
            # Integers are centres of pixels here, and edges of pixels in Rerun.
            self._log(("world", plane, "image"), rerun.Transform3D(translation=(-0.5, -0.5, 0.0)), static=True)

    def add(self, row: FrameRow, planes: Mapping[PlaneName, Traced], sets: Sequence[PoseSet]) -> None:
        """Add a frame."""
        self._log(("frame",), rerun.TextDocument(frame_name(row)))
        for plane in PLANES:
            self._add_plane(row, plane, planes.get(plane))
        for source, poses in zip(self.sources, sets, strict=True):
            self._add_angles(source, poses.poses)
            for component in COMPONENTS:
                self._add_pose(source, component, poses.poses.get(component))

    def _add_plane(self, row: FrameRow, plane: PlaneName, traced: Traced | None) -> None:
        camera = ("world", plane)
        if traced is None:
            self._clear(camera)
            return
        self._add_camera(camera, traced.view)
        _, png = cv2.imencode(".png", grey_of(row, plane))
        image = (*camera, "image")
        self._log(image, rerun.EncodedImage(contents=png.tobytes(), media_type="image/png"))
        outlines = {(trace.kind, trace.component): trace.contours_px for trace in traced.traces}
        for kind, source in enumerate(self.sources):
            for component in COMPONENTS:
                closed = [np.concatenate([line, line[:1]]) for line in outlines.get((kind, component), ())]
                lines = rerun.LineStrips2D(closed, colors=_rgb(kind), radii=rerun.Radius.ui_points(_LINE_PT))
                self._log((*camera, "outlines", source, component), lines)

    def _add_camera(self, entity: tuple[str, ...], view: View) -> None:
        K, world_to_camera = view.camera.intrinsics, view.camera.world_to_camera
        if not self._changes(entity, (K.tobytes(), world_to_camera.tobytes(), view.size)):
            return
        pinhole = rerun.Pinhole(
            image_from_camera=K,
            resolution=view.size[::-1],
            camera_xyz=rerun.ViewCoordinates.RDF,
            image_plane_distance=view.detector_mm,
        )
        transform = rerun.Transform3D(
            mat3x3=world_to_camera[:3, :3],
            translation=world_to_camera[:3, 3],
            relation=rerun.TransformRelation.ChildFromParent,
        )
        self._log(entity, pinhole)
        self._log(entity, transform)

    def _add_pose(self, source: str, component: Component, pose: PoseRow | None) -> None:
        verdict = None if pose is None else pose.get("verdict")
        if self._changes(("verdicts", source, component), verdict):
            state = rerun.StateChange(state=verdict) if verdict else rerun.Clear(recursive=False)
            self._log(("verdicts", source, component), state)
        entity = ("world", "implants", source, component)
        if pose is None:
            self._clear(entity)
            return
        if detail := pose.get("detail"):
            self._log(("details", source, component), rerun.TextLog(detail))
        quaternion = rerun.Quaternion(xyzw=pose["quaternion_xyzw"])
        self._log(entity, rerun.Transform3D(translation=pose["translation_mm"], quaternion=quaternion))
        if self._changes((*entity, "mesh"), pose["anatomy_id"]):
            mesh = simplified(self.meshes[pose["anatomy_id"]], _SHAPE_MM)
            surface = rerun.Mesh3D(
                vertex_positions=mesh.vertices,
                triangle_indices=mesh.faces,
                vertex_normals=mesh.vertex_normals,
                albedo_factor=_rgb(self.sources.index(source)),
            )
            self._log((*entity, "mesh"), surface)

    def _add_angles(self, source: str, poses: Poses) -> None:
        if len(poses) < len(COMPONENTS):
            found: list[Any] = [rerun.Clear(recursive=False)] * len(KNEE_ANGLES)
        else:
            femur, tibia = (_transform(poses[component]) for component in COMPONENTS)
            found = [rerun.Scalars(angle) for angle in knee_angles_deg(femur, tibia)]
        for name, angle in zip(KNEE_ANGLES, found, strict=True):
            self._log(("kinematics", name, source), angle)

    def _log(self, entity: tuple[str, ...], content: Any, *, static: bool = False) -> None:
        self.stream.log(list(entity), content, static=static, strict=True)

    def _changes(self, entity: tuple[str, ...], state: object) -> bool:
        """Whether an entity has another state than before."""
        before = self.shown.get(entity)
        self.shown[entity] = state
        return before != state

    def _clear(self, entity: tuple[str, ...]) -> None:
        """Remove an entity, and what is below it, from the frames to come until it is added again."""
        self._log(entity, rerun.Clear(recursive=True))
        self.shown = {each: state for each, state in self.shown.items() if each[: len(entity)] != entity}


def _transform(pose: PoseRow) -> FloatArray:
    return make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])


def _rgb(kind: int) -> tuple[int, int, int]:
    blue, green, red = COLORS[kind]
    return red, green, blue
