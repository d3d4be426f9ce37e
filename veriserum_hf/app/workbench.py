"""A session with its registrations: what all pages share."""

import getpass
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from veriserum_hf.app.commands import Message, check_frame, components_of, do
from veriserum_hf.app.document import Document, Part
from veriserum_hf.app.initial import LABEL, PoseSource
from veriserum_hf.app.refining import Found, Refiner
from veriserum_hf.app.saved import held
from veriserum_hf.app.session import Session
from veriserum_hf.app.trials import Trials
from veriserum_hf.core import COMPONENTS, FAILED, Component, Poses
from veriserum_hf.errors import MatchError, VeriserumError
from veriserum_hf.poses import check_same_frame, poses_by_frame, read_poses
from veriserum_hf.viewer import COLORS

ALL_PARTS = ("about", "frame", "poses", "trial", "refining")


class _Running(NamedTuple):
    """A registration, or a prediction, that is under way: of which poses, of which implants, and of what in words."""

    result: Found
    starts: dict[int, Poses]
    components: Sequence[Component]
    what: str
    predicts: bool


class Workbench:
    """A session, its document, and the registration or prediction that is under way.

    Parameters
    ----------
    session : what is matched.
    refiner : registers frames, and predicts poses in them if it has a model.

    """

    def __init__(self, session: Session, refiner: Refiner) -> None:
        self.session, self.document, self._refiner = session, Document(session), refiner
        self._running: _Running | None = None

    def part(self, name: str) -> Part:
        """One of `ALL_PARTS`."""
        if name == "refining":
            return self._refining()
        part: Part = getattr(self.document, name)()
        return {**part, "model": self._refiner.model} if name == "about" else part

    def do(self, message: object, finished: Callable[[], None]) -> frozenset[str]:
        """Do what a page asks for; ``finished`` is called from another thread when what takes long has ended.

        Raises
        ------
        MatchError
            If it cannot be done.

        """
        if isinstance(message, Mapping) and message.get("do") in ("refine", "predict"):
            self._begin(message, finished)
            return frozenset({"poses", "refining"})
        if isinstance(message, Mapping) and message.get("do") == "stop":
            self.stop()
            return frozenset({"refining"})
        return do(self.session, message)

    def stop(self) -> None:
        """Stop what is under way, if there is something."""
        if self._running is not None:
            self._refiner.stop()

    def collect(self) -> str:
        """Take over the result of what has ended, and return what is to be said about it."""
        if self._running is None or not self._running.result.done():
            return ""
        ended, self._running = self._running, None
        what = ended.what
        try:
            rows = ended.result.result()
        except (VeriserumError, ImportError) as error:
            raise MatchError(f"{what} cannot be {'predicted' if ended.predicts else 'refined'}: {error}") from error
        except BrokenExecutor as error:
            process, again = ("network", "predict") if ended.predicts else ("registration", "refine")
            raise MatchError(f"{what}: the {process}'s process was killed; {again} again") from error
        if rows is None:
            return f"{what}: stopped, nothing was changed"
        network = f"model {Path(str(self._refiner.model)).name}" if ended.predicts else ""
        moved = self.session.apply(rows, ended.starts, ended.components, network)
        failed = [row for row in rows if row.get("verdict") == FAILED and row["component"] in ended.components]
        doubted = sum(row.get("trusted") is False for row in rows)
        parts = [f"{what}: {len(rows)} poses" if len(ended.starts) > 1 else what]
        parts += [f"{len(failed)} failed and stay where they were: {failed[0].get('detail')}"] if failed else []
        parts += [f"{moved} were moved meanwhile and stay"] if moved else []
        parts += [f"the network doubts {doubted} of its poses"] if doubted else []
        return ", ".join(parts) if len(parts) > 1 or len(ended.starts) > 1 else ""

    def close(self) -> None:
        """End the processes of registrations, of the network, and of implants."""
        self._refiner.close()
        self.session.shapes.close()

    def _begin(self, message: Message, finished: Callable[[], None]) -> None:
        """Begin to refine poses, or to predict those of all implants."""
        predicts = message["do"] == "predict"
        if predicts and self._refiner.model is None:
            raise MatchError("there is no network; start `veriserum match` with --model")
        if self._running is not None:
            raise MatchError("a registration or a prediction is under way; wait for it, or stop it")
        check_frame(self.session, message)
        session, place = self.session, self.session.place
        whole = bool(message.get("trial"))
        every = session.trials.of_trial[place.trial_id]
        places = [each for each in every if each.split == place.split] if whole else [place]
        starts, frames = session.starts(places), session.trials.frames(places)
        components: Sequence[Component] = COMPONENTS
        if predicts:
            result = self._refiner.predict(frames, starts)
        else:
            if not any(starts.values()):
                raise MatchError("there is no pose to refine; place an implant first")
            components = components_of(session, {"both": True} if whole else message)
            covariance = session.trials.source.plane_covariances.get(place.trial_id)
            result = self._refiner.register(frames, starts, covariance)
        what = f"trial {place.trial_id}" if whole else f"frame {place.frame_index}"
        self._running = _Running(result, starts, components, what, predicts)
        result.add_done_callback(lambda _: finished())

    def _refining(self) -> Part:
        if self._running is None:
            return {"what": None}
        doing = "predicting" if self._running.predicts else "registering"
        done, total = self._refiner.progress.done.value, len(self._running.starts)
        return {"what": self._running.what, "doing": doing, "done": done, "total": total}


@contextmanager
def open_workbench(
    dataset: str,
    output: Path,
    poses: Sequence[Path] = (),
    check: Path | None = None,
    observer: str | None = None,
    model: str | None = None,
) -> Iterator[Workbench]:
    """Open a data set or an archive to match its implants, and hold the file of accepted poses.

    Parameters
    ----------
    dataset : folder that was converted or imported, data set on the hub, or archive.
    output : file of accepted poses; where it exists, work goes on.
    poses : files of poses to begin from and to show, those to prefer first.
    check : output of ``veriserum check-labels``, whose flags are shown.
    observer : who accepts poses; the user's name if not given.
    model : network that places implants, see `veriserum_hf.inference.load_model`.

    Raises
    ------
    MatchError
        If the output is held by another process or holds other poses, or there is nothing to match.
    VeriserumError
        If the data set, a file of poses or the model cannot be read, or is of another data set.

    """
    if len(poses) > len(COLORS) - 1:
        raise MatchError(f"{len(poses)} files of poses cannot be distinguished; give at most {len(COLORS) - 1}")
    observer = (observer or getpass.getuser()).strip()
    trials = Trials.open(dataset)
    stems = [path.stem for path in poses]
    sources = [_source(trials, path, path.stem if stems.count(path.stem) == 1 else str(path)) for path in poses]
    label = PoseSource(LABEL, {id: trials.poses(id) for id in trials.labels})
    flagged = frozenset[int]() if check is None else _flagged(check, trials)
    with held(output, {"dataset": dataset}) as saved:
        _check_of_data_set(trials, {id: saved.of_frame(id) for id in saved.ids()}, output)
        session, refiner = Session(trials, [*sources, label], saved, observer, flagged), Refiner(trials.source, model)
        workbench = Workbench(session, refiner)
        try:
            if model is not None:
                _wait_for(refiner)
            yield workbench
        finally:
            workbench.close()


def _wait_for(refiner: Refiner) -> None:
    """Wait until a model is loaded: one that cannot be used is an error at the start."""
    try:
        refiner.ready.result()
    except ImportError as error:
        raise MatchError(f"{refiner.model} cannot be loaded: {error}") from error
    except BrokenExecutor as error:
        raise MatchError(f"the process that loads {refiner.model} was killed, perhaps for lack of memory") from error


def _source(trials: Trials, path: Path, name: str) -> PoseSource:
    frames = poses_by_frame(read_poses(path))
    _check_of_data_set(trials, frames, path)
    return PoseSource(name, frames)


def _check_of_data_set(trials: Trials, frames: Mapping[int, Poses], path: Path) -> None:
    """Refuse poses of another data set."""
    for id, poses in frames.items():
        if id in trials.labels:
            check_same_frame(poses, trials.labels[id], path)
    if frames and not frames.keys() & trials.labels.keys():
        raise MatchError(
            f"{path} has no pose of {trials.source.name}; it has poses of {len(frames)} measurements, {min(frames)} "
            f"to {max(frames)}. Give the data set that they were made from"
        )


def _flagged(check: Path, trials: Trials) -> frozenset[int]:
    """Measurements of which a check of labels has flagged an implant."""
    try:
        table = pq.read_table(check, columns=["measurement_id", "flagged"])
    except (OSError, ValueError, pa.ArrowException) as error:
        raise MatchError(
            f"{check} cannot be read as the output of `veriserum check-labels`: {error}. Give its Parquet file"
        ) from error
    flagged = {row["measurement_id"] for row in table.to_pylist() if row["flagged"]}
    if flagged and not flagged & trials.labels.keys():
        raise MatchError(f"{check} has no frame of {trials.source.name}; give the check of this data set")
    return frozenset(flagged)
