"""Layout in which Rerun's viewer opens a recording."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from veriserum_hf.core import PLANES, FloatArray, PlaneName, PoseRow
from veriserum_hf.errors import VeriserumError
from veriserum_hf.geometry import KNEE_ANGLES, Camera
from veriserum_hf.viewer.animation import FRAMES_PER_SECOND
from veriserum_hf.viewer.outlines import PoseSet

try:
    import rerun as rerun
    import rerun.blueprint as views
except ImportError as error:
    raise VeriserumError(f'a recording needs rerun ({error}): pip install "veriserum-hf[rerun]"') from error

TIMELINE = "frame"
_EYE_MM, _EYE_ABOVE = 500.0, 0.3  # distance of the eye from the implants, and its height by this


def layout(cameras: Mapping[PlaneName, Camera], up: FloatArray, sets: Sequence[Sequence[PoseSet]]) -> views.Blueprint:
    """Layout of the viewer: the world and both images above the angles and the verdicts.

    Parameters
    ----------
    cameras : one of each plane.
    up : (3,) direction in the world that is up.
    sets : poses of each frame.

    """
    poses = [pose for of_row in sets for each in of_row for pose in each.poses.values()]
    below: list[Any] = [
        views.TimeSeriesView(origin=f"kinematics/{name}", name=name.removesuffix("_deg").replace("_", " ") + ", deg")
        for name in KNEE_ANGLES
    ]
    if any(pose.get("verdict") for pose in poses):
        below.append(views.StateTimelineView(origin="verdicts", name="verdicts"))
    about: list[Any] = [views.TextDocumentView(origin="frame", name="frame")]
    if any(pose.get("detail") for pose in poses):
        about.append(views.TextLogView(origin="details", name="details"))
    return views.Blueprint(
        views.Vertical(
            views.Horizontal(
                views.Spatial3DView(origin="world", name="world, mm", eye_controls=_eye(cameras, up, poses)),
                *(views.Spatial2DView(origin=f"world/{plane}", name=plane) for plane in PLANES if plane in cameras),
            ),
            views.Horizontal(*below, views.Tabs(*about, active_tab=0)),
            row_shares=[3, 1],
        ),
        views.TimePanel(timeline=TIMELINE, fps=FRAMES_PER_SECOND, play_state="paused", state="collapsed"),
        collapse_panels=True,
    )


def _eye(cameras: Mapping[PlaneName, Camera], up: FloatArray, poses: Sequence[PoseRow]) -> views.EyeControls3D | None:
    """View of the implants, with the images behind them; None without a pose."""
    if not poses:
        return None
    centre_mm = np.mean([pose["translation_mm"] for pose in poses], axis=0)
    to_source = np.mean([camera.source_mm - centre_mm for camera in cameras.values()], axis=0)
    direction = to_source / np.linalg.norm(to_source) + _EYE_ABOVE * up
    return views.EyeControls3D(position=centre_mm + _EYE_MM * direction, look_target=centre_mm, eye_up=up)
