"""What is known about every frame of a trial: verdicts, flags, residuals, acceptance."""

from dataclasses import asdict, dataclass

import numpy as np

from veriserum_hf.app.moves import center_in_world
from veriserum_hf.app.own_pose import transform_of
from veriserum_hf.app.session import Session
from veriserum_hf.app.trials import Place
from veriserum_hf.core import COMPONENTS, CONVERGED, VERDICTS, Component, FloatArray, PoseRow
from veriserum_hf.errors import MatchError


@dataclass(frozen=True)
class Mark:
    """One frame in the time line.

    Attributes
    ----------
    measurement_id, frame_index : of the frame.
    accepted : implants whose poses have been accepted.
    verdict : the worst of its implants, by a registration that this program has made, or the first file that has one.
    flagged : whether a check of labels has flagged it, or a verdict is not ``converged``.
    residual_mm : the farthest that an implant's centre is at two poses: accepted, of files, of the data set; None
        with a single one.

    """

    measurement_id: int
    frame_index: int
    accepted: tuple[Component, ...]
    verdict: str | None
    flagged: bool
    residual_mm: float | None

    def document(self) -> dict[str, object]:
        """JSON of it."""
        return asdict(self)


def marks(session: Session, trial_id: int) -> list[Mark]:
    """Marks of all frames of a trial."""
    return [mark_of(session, place) for place in session.trials.of_trial[trial_id]]


def mark_of(session: Session, place: Place) -> Mark:
    """Mark of a frame."""
    accepted = session.saved.of_frame(place.measurement_id)
    verdicts = [verdict for name in COMPONENTS if (verdict := _verdict(session, place, name))]
    worst = max(verdicts, key=VERDICTS.index, default=None)
    residuals = [residual for name in COMPONENTS if (residual := _residual_mm(session, place, name)) is not None]
    return Mark(
        place.measurement_id,
        place.frame_index,
        tuple(name for name in COMPONENTS if name in accepted),
        worst,
        place.measurement_id in session.flagged or worst not in (None, CONVERGED),
        round(max(residuals), 3) if residuals else None,
    )


def needs_work(session: Session, place: Place) -> bool:
    """Whether a frame is flagged, and not all of its implants have been accepted."""
    mark = mark_of(session, place)
    return mark.flagged and set(mark.accepted) != set(session.own_of(place))


def _verdict(session: Session, place: Place, component: Component) -> str | None:
    own = session.verdicts.get(place.measurement_id, {}).get(component)
    poses = [own, *(source.pose(place, component) for source in session.sources)]
    return next((verdict for pose in poses if pose and (verdict := pose.get("verdict")) in VERDICTS), None)


def _residual_mm(session: Session, place: Place, component: Component) -> float | None:
    accepted = session.saved.of_frame(place.measurement_id).get(component)
    poses = [pose for pose in (accepted, *(each.pose(place, component) for each in session.sources)) if pose]
    try:
        centers_mm = np.array([_center_mm(session, pose) for pose in poses])
    except MatchError:  # an implant without a mesh, which is reported where it is drawn
        return None
    if len(centers_mm) < 2:
        return None
    apart_mm = np.linalg.norm(centers_mm[:, None] - centers_mm, axis=2)
    return float(apart_mm.max())


def _center_mm(session: Session, pose: PoseRow) -> FloatArray:
    return center_in_world(transform_of(pose), session.shapes[pose["anatomy_id"]].center_mm)
