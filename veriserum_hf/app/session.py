"""What a person does in the workbench: frames, moves, undo, acceptance. It knows nothing of a browser."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
from scipy.spatial.transform import Rotation

from veriserum_hf.app import moves
from veriserum_hf.app.initial import PoseSource, initial_pose, placed
from veriserum_hf.app.own_pose import History, OwnPose, accepted_row, is_same, of_row
from veriserum_hf.app.saved import ManualPoses
from veriserum_hf.app.trials import OpenFrame, Place, Trials
from veriserum_hf.core import COMPONENTS, FAILED, Component, FloatArray, PlaneName, PoseFileRow, Poses
from veriserum_hf.errors import MatchError
from veriserum_hf.geometry import Camera, euler_zxy_to_matrix, make_transform

_LEAST_RADIUS_MM = 5.0
Move = Callable[[FloatArray, Camera], FloatArray]  # of a pose, seen by a camera


class Session:
    """One person's work on the trials of a data set.

    Parameters
    ----------
    trials : their frames.
    sources : poses of files, and the data set's own.
    saved : the file of accepted poses.
    observer : who accepts poses.
    flagged : measurements that a check of labels has flagged.

    """

    def __init__(
        self,
        trials: Trials,
        sources: Sequence[PoseSource],
        saved: ManualPoses,
        observer: str,
        flagged: frozenset[int] = frozenset(),
    ) -> None:
        self.trials, self.sources, self.saved, self.observer, self.flagged = trials, sources, saved, observer, flagged
        self.shapes = trials.shapes
        self._own: dict[int, dict[Component, OwnPose]] = {}
        self._histories: dict[int, History] = {}
        self._drag: tuple[str, dict[Component, OwnPose]] | None = None  # its name, and the poses before
        self._dropped: deque[str] = deque(maxlen=100)  # names of the last drags that have ended
        self.verdicts: dict[int, dict[Component, PoseFileRow]] = {}  # of registrations that this program has made
        self.selected: Component = COMPONENTS[0]
        self.frame: OpenFrame
        self.go_to(self._first_place())

    @property
    def place(self) -> Place:
        """The frame that is shown."""
        return self.frame.place

    @property
    def own(self) -> Mapping[Component, OwnPose]:
        """Poses of the frame that is shown."""
        return self._own[self.place.measurement_id]

    @property
    def history(self) -> History:
        """Changes of the frame that is shown."""
        return self._histories.setdefault(self.place.measurement_id, History())

    @property
    def dragging(self) -> bool:
        """Whether an implant follows the pointer."""
        return self._drag is not None

    # Frames

    def go_to(self, place: Place) -> None:
        """Show a frame; its implants begin as `initial_pose` says, unless they were moved before."""
        self.drop()
        self.frame = self.trials.open_frame(place)
        self.own_of(place)
        if self.selected not in self.own:
            self.selected = next(iter(self.own), self.selected)

    def step(self, by: int) -> None:
        """Show a frame before or after this one; the first or last stays."""
        places = self.trials.of_trial[self.place.trial_id]
        at = min(max(places.index(self.place) + by, 0), len(places) - 1)
        if places[at] != self.place:
            self.go_to(places[at])

    def next_of(self, wanted: Callable[[Place], bool]) -> bool:
        """Show the next frame that is wanted, of this trial or the following ones; False where there is none."""
        every = [place for trial in self.trials.ids() for place in self.trials.of_trial[trial]]
        at = every.index(self.place)
        found = next((place for place in every[at + 1 :] + every[:at] if wanted(place)), None)
        if found is not None:
            self.go_to(found)
        return found is not None

    def own_of(self, place: Place) -> dict[Component, OwnPose]:
        """Poses of a frame as they are now, by component."""
        own = self._own.setdefault(place.measurement_id, {})
        history = self._histories.get(place.measurement_id)
        if history is None or not (history.past or history.future):  # untouched: what was accepted since counts
            own.clear()
            for component in COMPONENTS:
                pose = initial_pose(self.trials, self.sources, self.saved, place, component)
                if pose is not None:
                    own[component] = pose
        return own

    def is_accepted(self, place: Place, component: Component, own: OwnPose) -> bool:
        """Whether a pose is what the file holds."""
        held = self.saved.of_frame(place.measurement_id).get(component)
        return held is not None and is_same(own, held)

    # Moves

    def drag(self, plane: PlaneName, mode: str, name: str, from_px: FloatArray, to_px: FloatArray) -> None:
        """Let the implant follow the pointer, from where it was when the drag of this name began.

        Parameters
        ----------
        plane : whose image the pointer is in.
        mode : ``shift`` in the image's plane, ``turn`` about its axis, or ``tilt`` out of it.
        name : of the drag: a new one begins where the implant is.
        from_px, to_px : the pointer when it began and now, (2,) (column, row).

        """
        before = self._before_drag(name)
        shape = self.shapes[before.anatomy_id]
        center_mm, radius_mm = shape.center_mm, max(shape.reach_mm, _LEAST_RADIUS_MM)

        def move(T: FloatArray, camera: Camera) -> FloatArray:
            if mode == "turn":
                return moves.turned(T, center_mm, camera, from_px, to_px)
            if mode == "tilt":
                return moves.tilted(T, center_mm, radius_mm, camera, from_px, to_px)
            return moves.dragged(T, center_mm, camera, from_px, to_px)

        self._set(before.moved(self._checked(move(before.T_world_implant, self._camera(plane)))))

    def follow(self, name: str, component: Component, T_world_implant: FloatArray) -> None:
        """Let an implant follow a gizmo, as in `drag`: to a pose, (4, 4) mm."""
        self.selected = component
        before = self._before_drag(name)
        self._set(before.moved(self._checked(T_world_implant)))

    def drop(self, name: str | None = None) -> None:
        """End a drag, if there is one, or the one of this name, where the implant is now."""
        if self._drag is None or name not in (None, self._drag[0]):
            return
        ended, before = self._drag
        self._drag = None
        self._dropped.append(ended)
        if before != self.own:
            self.history.keep(before)

    def move(self, plane: PlaneName, move: Move) -> None:
        """Move the selected implant as a plane shows it; one step to undo."""
        self.drop()
        own = self._selected_pose()
        moved = self._checked(move(own.T_world_implant, self._camera(plane)))
        self.history.keep(self.own)
        self._set(own.moved(moved))

    def set_numbers(self, translation_mm: Sequence[float], rz_rx_ry_deg: Sequence[float]) -> None:
        """Move the selected implant to typed numbers: its origin in the world, and its Euler angles ZXY."""
        self.drop()
        own = self._selected_pose()
        if not np.isfinite([*translation_mm, *rz_rx_ry_deg]).all():
            raise MatchError("a pose has three finite mm and three finite degrees")
        moved = self._checked(make_transform(euler_zxy_to_matrix(rz_rx_ry_deg), translation_mm))
        self.history.keep(self.own)
        self._set(own.moved(moved))

    def place_implant(self, component: Component, anatomy_id: int) -> None:
        """Put an implant into the frame where its images' centres meet, or replace it by another one."""
        self.drop()
        if anatomy_id not in self.trials.anatomies(component):
            raise MatchError(f"the data set has no {component} {anatomy_id} with a mesh")
        there = self.own.get(component)
        pose = placed(self.frame, anatomy_id, self.shapes[anatomy_id].center_mm)
        if there is not None:
            pose = OwnPose(anatomy_id, there.T_world_implant, "placed")
        self.history.keep(self.own)
        self._own[self.place.measurement_id][component] = pose
        self.selected = component

    def undo(self) -> None:
        """Take the last change of this frame back."""
        self.drop()
        self._restore(self.history.undone(self.own))

    def redo(self) -> None:
        """Make the change again that was taken back last."""
        self.drop()
        self._restore(self.history.redone(self.own))

    # Results

    def accept(self, components: Sequence[Component]) -> None:
        """Write the poses of these implants to the file, with who and when."""
        self.drop()
        now, ids = datetime.now(UTC).replace(microsecond=0), self.place.ids()
        own = {name: self.own[name] for name in components if name in self.own}
        if not own:
            raise MatchError("this frame has no pose to accept; place an implant first")
        if not self.frame.views:
            raise MatchError("this frame shows no image that a pose could be compared with; nothing was accepted")
        self.saved.accept([accepted_row(pose, ids, name, self.observer, now) for name, pose in own.items()])

    def starts(self, places: Sequence[Place]) -> dict[int, Poses]:
        """Poses of frames as they are now, as initial poses of a registration."""
        self.drop()
        return {
            place.measurement_id: {name: own.as_row() for name, own in self.own_of(place).items()} for place in places
        }

    def apply(
        self,
        rows: Sequence[PoseFileRow],
        starts: Mapping[int, Poses],
        components: Sequence[Component],
        network: str = "",
    ) -> int:
        """Take over what a registration or a network has found, and return the number of poses moved meanwhile.

        A failed pose changes nothing, nor does one where the implant is not any more where it was in ``starts``, nor
        one of another frame whose pose has been accepted. An implant without a pose gets one.
        """
        moved_meanwhile, changed = 0, set[int]()
        for row in rows:
            id, component = int(row["measurement_id"] or 0), row["component"]
            if component not in components:
                continue
            if not network:
                self.verdicts.setdefault(id, {})[component] = row
            own = self._own.get(id, {}).get(component)
            if not is_same(own, starts.get(id, {}).get(component)):
                moved_meanwhile += 1
            elif row.get("verdict") != FAILED and self._may_change(id, component):
                if id not in changed:  # one step to undo
                    self._histories.setdefault(id, History()).keep(self._own[id])
                    changed.add(id)
                self._own[id][component] = of_row(row, network or (own.start if own else str(row.get("start"))))
        return moved_meanwhile

    def _may_change(self, measurement_id: int, component: Component) -> bool:
        return measurement_id == self.place.measurement_id or component not in self.saved.of_frame(measurement_id)

    # Parts of the above

    def _first_place(self) -> Place:
        """The first frame that is not accepted yet, of a trial that was begun if there is one."""
        begun = [id for id in self.trials.ids() if any(self._holds(place) for place in self.trials.of_trial[id])]
        for id in [*begun, *self.trials.ids()]:
            for place in self.trials.of_trial[id]:
                if not self._holds(place):
                    return place
        return self.trials.of_trial[self.trials.ids()[0]][0]

    def _holds(self, place: Place) -> bool:
        return bool(self.saved.of_frame(place.measurement_id))

    def _before_drag(self, name: str) -> OwnPose:
        """Pose of the selected implant when the drag of this name began, which may be now."""
        if name in self._dropped:
            raise MatchError("the drag was ended by a key or another page; the implant stays where it is")
        if self._drag is None or self._drag[0] != name:
            self.drop()
            self._selected_pose()
            self._drag = name, dict(self.own)
        return self._drag[1][self.selected]

    def _selected_pose(self) -> OwnPose:
        if self.selected not in self.own:
            raise MatchError(f"this frame has no {self.selected} to move; place it first")
        return self.own[self.selected]

    def _camera(self, plane: PlaneName) -> Camera:
        if plane not in self.frame.views:
            raise MatchError(f"this frame has no image of {plane}")
        return self.frame.views[plane].camera

    def _checked(self, T_world_implant: FloatArray) -> FloatArray:
        shape = self.shapes[self.own[self.selected].anatomy_id]
        for view in self.frame.views.values():
            shape.check_in_front(T_world_implant, view.camera, self.selected)
        T_world_implant[:3, :3] = Rotation.from_matrix(T_world_implant[:3, :3]).as_matrix()  # of many small steps
        return T_world_implant

    def _set(self, own: OwnPose) -> None:
        self._own[self.place.measurement_id][self.selected] = own

    def _restore(self, poses: Mapping[Component, OwnPose] | None) -> None:
        if poses is None:
            raise MatchError("there is nothing more to take back or to make again in this frame")
        self._own[self.place.measurement_id] = dict(poses)
