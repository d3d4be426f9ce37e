"""A session as the page shows it: parts of JSON, each sent again where it has changed."""

import math
from collections.abc import Mapping
from datetime import datetime

import numpy as np

from veriserum_hf.app.initial import LABEL
from veriserum_hf.app.moves import center_in_world
from veriserum_hf.app.own_pose import OwnPose, transform_of
from veriserum_hf.app.session import Session
from veriserum_hf.app.shapes import Contours
from veriserum_hf.app.timeline import marks
from veriserum_hf.app.trials import OpenFrame
from veriserum_hf.core import COMPONENTS, VERDICTS, Component, PlaneName, PoseRow
from veriserum_hf.errors import VeriserumError
from veriserum_hf.geometry import matrix_to_euler_zxy
from veriserum_hf.viewer import COLORS

Part = dict[str, object]
_KEPT = 16  # traced poses
_STATED = ("verdict", "method", "score", "detail", "moved_mm", "moved_deg", "planes_apart_mm")


class Document:
    """Parts of a session's JSON.

    Outlines that do not move are traced once a frame, and again when an implant has been prepared.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layers: tuple[tuple[OpenFrame, int], list[Part]] | None = None
        self._traces: dict[tuple[OpenFrame, int, OwnPose, bool], Part] = {}

    def frame(self) -> Part:
        """The frame, its images, and the outlines of poses that do not move."""
        session, place = self._session, self._session.place
        label, places = session.trials.labels[place.measurement_id], session.trials.of_trial[place.trial_id]
        key = session.frame, session.shapes.prepared
        if self._layers is None or self._layers[0] != key:
            self._layers = key, self._traced()
        planes = {
            plane: {"rows": view.size[0], "columns": view.size[1], "aspect": _aspect(view.mm_per_px(1.0))}
            for plane, view in session.frame.views.items()
        }
        return {
            **place.ids(),
            "number": places.index(place) + 1,
            "count": len(places),
            "task": label["task"],
            "subject": label["subject"],
            "problem": session.frame.problem,
            "planes": planes,
            "layers": self._layers[1],
        }

    def poses(self) -> Part:
        """The poses that are matched, with their outlines."""
        session = self._session
        own = {name: self._own(name, pose) for name, pose in session.own.items()}
        return {
            "selected": session.selected,
            "own": own,
            "undo": len(session.history.past),
            "redo": len(session.history.future),
        }

    def trial(self) -> Part:
        """The time line of the trial, and all trials."""
        session = self._session
        trials = []
        for id in session.trials.ids():
            places = session.trials.of_trial[id]
            accepted = sum(bool(session.saved.of_frame(place.measurement_id)) for place in places)
            flagged = sum(place.measurement_id in session.flagged for place in places)
            trials.append({"id": id, "frames": len(places), "accepted": accepted, "flagged": flagged})
        return {
            "trials": trials,
            "frames": [mark.document() for mark in marks(session, session.place.trial_id)],
            "accepted": len(session.saved),
        }

    def about(self) -> Part:
        """What does not change."""
        session = self._session
        anatomies = {component: list(session.trials.anatomies(component)) for component in COMPONENTS}
        return {
            "dataset": session.trials.source.name,
            "output": None if session.saved.path is None else str(session.saved.path),
            "observer": session.observer,
            "anatomies": anatomies,
            "verdicts": list(VERDICTS),
        }

    def _traced(self) -> list[Part]:
        session = self._session
        layers = []
        for number, source in enumerate(session.sources):
            poses = {name: pose for name in COMPONENTS if (pose := source.pose(session.place, name))}
            kind = 0 if source.name == LABEL else 1 + number
            problem, outlines = "", dict[str, dict[Component, Contours]]()
            for plane, view in session.frame.views.items():
                outlines[plane] = {}
                for name, pose in poses.items():
                    try:
                        shape = session.shapes[pose["anatomy_id"]]
                        outlines[plane][name] = shape.contours(transform_of(pose), view)
                    except (VeriserumError, ValueError) as error:
                        problem = f"{name}: {error}"
            blue, green, red = COLORS[kind]
            stated = {name: _stated(pose) for name, pose in poses.items()}
            color = f"rgb({red},{green},{blue})"
            layers.append(
                {
                    "name": source.name,
                    "color": color,
                    "dash": kind,
                    "outlines": outlines,
                    "stated": stated,
                    "problem": problem,
                }
            )
        return layers

    def _own(self, component: Component, own: OwnPose) -> Part:
        session = self._session
        held = session.saved.of_frame(session.place.measurement_id).get(component)
        return {
            **self._drawn(own, quick=session.dragging and component == session.selected),
            "anatomy_id": own.anatomy_id,
            "translation_mm": np.round(own.T_world_implant[:3, 3], 4).tolist(),
            "rz_rx_ry_deg": np.round(matrix_to_euler_zxy(own.T_world_implant[:3, :3]), 4).tolist(),
            "start": own.start,
            "accepted": session.is_accepted(session.place, component, own),
            "held": None if held is None else {"at": _shown(held.get("accepted_utc")), "by": held.get("observer")},
            "registered": None if own.registered is None else _stated(own.registered),
            "last": _stated(last) if (last := self._last(component)) else None,
        }

    def _drawn(self, own: OwnPose, *, quick: bool) -> Part:
        """Outlines and centres of a pose in the planes of the frame; traced once where it stands still."""
        key = self._session.frame, self._session.shapes.prepared, own, quick
        if key not in self._traces:
            if len(self._traces) >= _KEPT:
                self._traces.clear()
            self._traces[key] = self._trace(own, quick=quick)
        return self._traces[key]

    def _trace(self, own: OwnPose, *, quick: bool) -> Part:
        outlines, centers, problem = dict[PlaneName, Contours](), dict[PlaneName, list[float]](), ""
        for plane, view in self._session.frame.views.items():
            try:
                shape = self._session.shapes[own.anatomy_id]
                center_px = view.camera.project(center_in_world(own.T_world_implant, shape.center_mm))
                if np.isfinite(center_px).all():  # it is not where it lies behind the source
                    centers[plane] = np.round(center_px, 2).tolist()
                outlines[plane] = shape.contours(own.T_world_implant, view, quick=quick)
            except (VeriserumError, ValueError) as error:
                problem = str(error)
        return {"outlines": outlines, "center_px": centers, "problem": problem}

    def _last(self, component: Component) -> PoseRow | None:
        """What a registration from this page found last for an implant of the frame."""
        return self._session.verdicts.get(self._session.place.measurement_id, {}).get(component)


def _stated(pose: PoseRow | Mapping[str, object]) -> Part:
    """What a registration or a network states about its pose, with standard deviations."""
    stated: Part = {name: value for name in _STATED if not _is_unknown(value := pose.get(name))}
    covariance = pose.get("covariance")
    if covariance is not None:
        deviations = np.sqrt(np.maximum(np.diagonal(np.asarray(covariance, dtype=np.float64)), 0.0))
        stated["sd"] = np.round(deviations, 4).tolist()
    return stated


def _shown(time: datetime | None) -> str | None:
    return None if time is None else f"{time:%Y-%m-%d %H:%M} UTC"


def _is_unknown(value: object) -> bool:
    """Whether a value is null, or NaN, which JSON has not."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _aspect(mm_per_px: np.ndarray) -> float:
    """Width of a pixel relative to its height."""
    return float(mm_per_px[0] / mm_per_px[1])
