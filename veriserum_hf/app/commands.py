"""What a page may ask for: messages of JSON, checked, and done by the session."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from veriserum_hf.app import moves
from veriserum_hf.app.session import Move, Session
from veriserum_hf.app.timeline import needs_work
from veriserum_hf.core import COMPONENTS, PLANES, Component, FloatArray, PlaneName
from veriserum_hf.errors import MatchError
from veriserum_hf.geometry import Camera

Message = Mapping[str, Any]
_MODES = ("shift", "turn", "tilt")
_MOST_MM = 1000.0
# Right, down and away from the source, mm; about the image's axes to the right, down and away, deg.
_NUDGES: Mapping[str, tuple[float, ...]] = {
    "right": (1, 0, 0, 0, 0, 0),
    "left": (-1, 0, 0, 0, 0, 0),
    "down": (0, 1, 0, 0, 0, 0),
    "up": (0, -1, 0, 0, 0, 0),
    "away": (0, 0, 1, 0, 0, 0),
    "nearer": (0, 0, -1, 0, 0, 0),
    "tilt down": (0, 0, 0, 1, 0, 0),
    "tilt up": (0, 0, 0, -1, 0, 0),
    "tilt right": (0, 0, 0, 0, 1, 0),
    "tilt left": (0, 0, 0, 0, -1, 0),
    "turn right": (0, 0, 0, 0, 0, 1),
    "turn left": (0, 0, 0, 0, 0, -1),
}


def do(session: Session, message: object) -> frozenset[str]:
    """Do what a message asks for, and return the parts of the document that may have changed.

    Raises
    ------
    MatchError
        If it cannot be done, or is no message of the page.

    """
    if not isinstance(message, Mapping) or message.get("do") not in _COMMANDS:
        raise MatchError(f"unknown message {str(message)[:80]!r}; reload the page")
    command, parts = _COMMANDS[message["do"]]
    if parts != _ALL:
        check_frame(session, message)
    try:
        command(session, message)
    except (KeyError, TypeError, ValueError) as error:
        raise MatchError(f"the page sent {message['do']} without what it needs ({error!r}); reload it") from error
    return frozenset(parts)


def check_frame(session: Session, message: Message) -> None:
    """Raise MatchError where a message was meant for another frame than the one that is shown now.

    All pages show one session: what was meant for a frame must not change the frame that another page went to.
    """
    if message.get("frame", session.place.measurement_id) != session.place.measurement_id:
        raise MatchError(
            f"another frame is shown by now, frame {session.place.frame_index} of measurement "
            f"{session.place.measurement_id}: nothing was changed; look at it, and try again"
        )


def components_of(session: Session, message: Message) -> list[Component]:
    """Implants that a message is about: the selected one, or both."""
    return list(session.own) if message.get("both") else [session.selected]


def _drag(session: Session, message: Message) -> None:
    if message["mode"] not in _MODES:
        raise ValueError(message["mode"])
    from_px, to_px = _point(message["from"]), _point(message["to"])
    session.drag(_plane(message), message["mode"], str(message["name"]), from_px, to_px)


def _wheel(session: Session, message: Message) -> None:
    away_mm = _number(message["mm"])
    shape = _shape_center(session)
    session.move(_plane(message), lambda T, camera: moves.along_ray(T, shape, camera, away_mm))


def _nudge(session: Session, message: Message) -> None:
    step = _number(message["step"])
    change = step * np.array(_NUDGES[message["move"]])
    session.move(_plane(message), _nudged(change, _shape_center(session)))


def _nudged(change: FloatArray, center_mm: FloatArray) -> Move:
    def move(T: FloatArray, camera: Camera) -> FloatArray:
        T = moves.along_ray(moves.in_image(T, camera, change[:2]), center_mm, camera, float(change[2]))
        for axis, angle_deg in enumerate(change[3:]):
            T = moves.rotated(T, center_mm, camera.world_to_camera[axis, :3], float(angle_deg))
        return T

    return move


def _numbers(session: Session, message: Message) -> None:
    translation_mm, angles_deg = ([float(value) for value in message[name]] for name in ("mm", "deg"))
    if len(translation_mm) != 3 or len(angles_deg) != 3:
        raise ValueError(len(translation_mm))
    session.set_numbers(translation_mm, angles_deg)


def _select(session: Session, message: Message) -> None:
    component = _component(message)
    if component not in session.own:
        raise MatchError(f"this frame has no pose of a {component}; place one first")
    session.drop()
    session.selected = component


def _go_to(session: Session, message: Message) -> None:
    session.go_to(session.trials.places[int(message["measurement_id"])])


def _trial(session: Session, message: Message) -> None:
    session.go_to(session.trials.of_trial[int(message["trial_id"])][0])


def _next_flagged(session: Session, message: Message) -> None:
    if not session.next_of(partial(needs_work, session)):
        raise MatchError("no other frame is flagged and not yet accepted")


def _accept(session: Session, message: Message) -> None:
    session.accept(components_of(session, message))


def _place(session: Session, message: Message) -> None:
    session.place_implant(_component(message), int(message["anatomy_id"]))


def _plane(message: Message) -> PlaneName:
    if message["plane"] not in PLANES:
        raise ValueError(message["plane"])
    plane: PlaneName = message["plane"]
    return plane


def _component(message: Message) -> Component:
    if message["component"] not in COMPONENTS:
        raise ValueError(message["component"])
    component: Component = message["component"]
    return component


def _point(value: object) -> FloatArray:
    point = np.array(value, dtype=np.float64)
    if point.shape != (2,) or not np.isfinite(point).all():
        raise ValueError(value)
    return point


def _number(value: object) -> float:
    number = float(value)  # type: ignore[arg-type]
    if not abs(number) <= _MOST_MM:
        raise ValueError(value)
    return number


def _shape_center(session: Session) -> FloatArray:
    if session.selected not in session.own:
        raise MatchError(f"this frame has no {session.selected} to move; place it first")
    return session.shapes[session.own[session.selected].anatomy_id].center_mm


_POSES, _ALL = ("poses",), ("frame", "poses", "trial")
_COMMANDS: Mapping[str, tuple[Callable[[Session, Message], None], tuple[str, ...]]] = {
    "drag": (_drag, _POSES),
    "drop": (lambda session, message: session.drop(message.get("name")), _POSES),
    "wheel": (_wheel, _POSES),
    "nudge": (_nudge, _POSES),
    "numbers": (_numbers, _POSES),
    "undo": (lambda session, message: session.undo(), _POSES),
    "redo": (lambda session, message: session.redo(), _POSES),
    "select": (_select, _POSES),
    "place": (_place, _POSES),
    "accept": (_accept, ("poses", "trial")),
    "go to": (_go_to, _ALL),
    "step": (lambda session, message: session.step(int(message["by"])), _ALL),
    "trial": (_trial, _ALL),
    "next flagged": (_next_flagged, _ALL),
}
