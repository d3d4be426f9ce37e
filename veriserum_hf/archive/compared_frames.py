"""Frames of an archive compared with the outlines of their labels, as read and in other readings."""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import trimesh

from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.evidence import SIZE, Fields, Implant, agreement, flipped, surface
from veriserum_hf.archive.frames import read_frame
from veriserum_hf.archive.meshes import read_mesh
from veriserum_hf.archive.readings import AGREES, contradicting_alone
from veriserum_hf.archive.table_specs import Row
from veriserum_hf.calibration import DistortionMap
from veriserum_hf.core import PLANES, FloatArray, Grey, PlaneName
from veriserum_hf.errors import FrameError
from veriserum_hf.geometry import DualPlaneRig

ENOUGH = 4  # trials, to see whether the present reading is the right one
_MOSTLY = 0.8
_MOST_IN_EVERY_READING = 120  # frames; more would not show more where images do not show the labels
_MORE_FRAMES = 4  # of a trial whose first frame contradicts the present reading
_RAW_ROWS = 400  # finer pixels than an outline needs
Scores = dict[str, FloatArray]  # by kind of pose


class _RawFields(Fields):
    """Images of raw frames by plane."""

    def __init__(
        self, raw: Mapping[PlaneName, Grey], distortions: Mapping[PlaneName, DistortionMap], rig: DualPlaneRig
    ) -> None:
        cameras = {plane: rig[plane].at(SIZE) for plane in PLANES}
        super().__init__(cameras, dict.fromkeys(PLANES, (SIZE, SIZE)), interchangeable=True)
        self._raw, self._distortions = raw, distortions

    def image(self, file: PlaneName, plane: PlaneName, flip: int) -> Grey:
        """See `Fields`."""
        return self._distortions[plane].correct(flipped(self._raw[file], flip), SIZE)


class ComparedFrames:
    """Agreement of labels and images of single frames of an archive."""

    def __init__(self, archive: VeriserumArchive) -> None:
        self._archive = archive
        self._surface = lru_cache(maxsize=None)(self._read_surface)
        self._poses = archive.poses.filter(pc.invert(archive.poses["obsolete"]))  # by measurement, in ascending order
        self._measurements = np.asarray(self._poses["measurement_id"])
        self._in_every_reading = 0  # frames

    def labelled_frames(self) -> pa.Table:
        """Rows of the frames that have files of both planes and current poses."""
        frames = self._archive.frames
        usable = pc.and_(frames["path_bs"].is_valid(), frames["path_fs"].is_valid())
        return frames.filter(pc.and_(usable, pc.is_in(frames["measurement_id"], self._poses["measurement_id"])))

    def of_trials(self, count: int) -> dict[int, list[Scores]]:
        """Scores of one frame of each of some trials, evenly spread, and of more where it contradicts the labels."""
        frames = self.labelled_frames()
        all_trials = np.asarray(frames["trial_id"])
        trials = list(dict.fromkeys(all_trials.tolist()))
        chosen = np.unique(np.linspace(0, len(trials) - 1, min(count, len(trials))).round().astype(int))
        found: dict[int, list[Scores]] = {}
        agreed = 0
        for trial in [trials[n] for n in chosen]:
            if self._in_every_reading >= _MOST_IN_EVERY_READING:
                break
            # Once some trials have agreed as they are read, others are compared in every reading if they do not.
            briefly = agreed >= max(ENOUGH, _MOSTLY * len(found))
            of_trial = self.of_frames(self._spread(frames.filter(all_trials == trial).to_pylist()), briefly)
            first = next(of_trial, None)
            if first is None:
                continue
            found[trial] = [first]
            agreed += _agrees(first)
            if len(chosen) < ENOUGH or any(contradicting_alone(each) for each in first.values()):
                found[trial] += [each for each, _ in zip(of_trial, range(_MORE_FRAMES), strict=False)]
        return found

    def _poses_of(self, measurement_id: int) -> pa.Table:
        first, end = np.searchsorted(self._measurements, (measurement_id, measurement_id + 1))
        return self._poses.slice(first, end - first)

    def _spread(self, frames: list[Row]) -> list[Row]:
        """Frames of a trial: first those with poses of most kinds, then from its centre outwards."""
        kinds = [len(set(self._poses_of(row["measurement_id"])["kind"].to_pylist())) for row in frames]
        order = sorted(range(len(frames)), key=lambda n: (-kinds[n], abs(n - len(frames) // 2)))
        return [frames[n] for n in order]

    def of_frames(self, frames: Iterable[Row], briefly: bool) -> Iterator[Scores]:
        """Scores of the frames that can be compared."""
        for row in frames:
            try:
                scores = self._of_frame(row, briefly)
            except FrameError:  # a frame or a mesh that cannot be used is reported elsewhere
                continue
            if scores:
                yield scores

    def _of_frame(self, row: Row, briefly: bool) -> Scores:
        archive, poses = self._archive, self._poses_of(row["measurement_id"]).to_pylist()
        rig = archive.source_calibrations[poses[0]["source_calibration_id"]]
        implants: dict[str, list[Implant]] = {}
        for pose in poses:
            points = self._surface(pose["anatomy_id"])
            if points is not None:
                placed = Implant(points, pose["translation_mm"], pose["quaternion_xyzw"])
                implants.setdefault(pose["kind"], []).append(placed)
        if not implants:
            return {}
        raw = {plane: self._frame(row[f"path_{plane}"]) for plane in PLANES}
        fields = _RawFields(raw, archive.distortions[poses[0]["distortion_calibration_id"]], rig)
        if briefly:
            scores = {kind: agreement(fields, each, as_read=True) for kind, each in implants.items()}
            if _agrees(scores):
                return scores
        self._in_every_reading += 1
        return {kind: agreement(fields, each) for kind, each in implants.items()}

    def _frame(self, path: str) -> Grey:
        frame = read_frame(path)
        self._archive.raw_format.check_shape(frame)
        height, width = frame.shape
        if height <= _RAW_ROWS:
            return frame
        size = round(width * _RAW_ROWS / height), _RAW_ROWS
        small: Grey = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        return small

    def _read_surface(self, anatomy_id: int) -> FloatArray | None:
        anatomy = self._archive.anatomies.get(anatomy_id)
        if anatomy is None or anatomy.path is None:
            return None
        try:
            stl = trimesh.util.wrap_as_stream(read_mesh(anatomy.path, anatomy.category).data)
        except FrameError:  # as of a frame
            return None
        mesh = trimesh.load_mesh(stl, file_type="stl", process=False)
        return surface(mesh) if 0 < mesh.area < np.inf else None


def _agrees(frame: Scores) -> bool:
    """Whether the labels of a frame agree with both images as they are read."""
    return all((scores[:, 0, 0, 0] >= AGREES).all() for scores in frame.values())
