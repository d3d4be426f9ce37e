"""How far a checkpoint can be relied on: ``python -m tests.benchmarks.bench_checkpoints FOLDER --model RUN``.

FOLDER keeps every result, under a name that follows from the weights and the code: an interrupted run resumes.
``--only NAME ...`` measures some of the rows and writes no table. The whole table is also put into RUN/results.md,
for the model's card. Real frames are measured where they are at hand.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from tests.benchmarks.checkpoint_frames import OTHER_RIGS, Shown, another_renderer, real, seen_by, simulated, worlds
from tests.benchmarks.checkpoint_results import Kept, Registered, errors, predicted, registered, with_truth
from tests.benchmarks.real_frames import prepared
from tests.benchmarks.table import COMPARISON, Row, write_table
from tests.fixtures.real_studies import REAL
from veriserum_hf.core import CONVERGED, FAILED, PLANES, load_plain_yaml, read_text
from veriserum_hf.evaluation.stated_confidence import stated_confidence
from veriserum_hf.inference import load_model, weights_sha256
from veriserum_hf.jobs import source_hash
from veriserum_hf.simulation import WorldRanges

_SIMULATED, _WORLDS, _RIGS = 40, 200, 40
# Frames that are registered, of simulated trials, of worlds and of another renderer, by the model's planes.
_TO_REGISTER = {1: (20, 12, 12), 2: (120, 60, 60)}
_REGISTERED_PX = 512
_GOOD = (2.0, 2.0)  # mm and deg, that a confidence is the probability of
_CLOSE_MM, _CLOSE_DEG, _SHARE = 0.3, 0.3, 0.95  # after registration
_DANGEROUS_MM, _DANGEROUS_DEG = 1.0, 1.0
_CALIBRATED, _CAUGHT = 0.05, 0.95
_SEEN_PX, _IN_PLANE_MM, _REAL_DEG, _REAL_MM, _REAL_SHARE = 15.0, 1.0, 3.0, 1.0, 0.8


class World(NamedTuple):
    """A kind of frames: its name in the table, medians that are required in deg and mm, and where frames are from."""

    what: str
    deg: float
    mm: float
    frames: int
    shown: Callable[[int, int], Iterator[Shown]]  # so many frames, whose images are so large where they are drawn
    registered: int  # of them
    calibrated: bool = False


class Checkpoint:
    """A model, and what was found with it."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.folder = folder
        self.model = load_model(str(run), "cpu")
        self.size = self.model.config.image_size
        self.planes = tuple(self.model.config.planes)
        settings: Any = load_plain_yaml(read_text(run / "training.yaml"))
        self.ranges = WorldRanges.of(settings.get("worlds") or {})
        weights = str(weights_sha256(str(run)))[:10]
        self.poses = Kept(folder / f"poses-{weights}-{source_hash('modeling', 'simulation')[:8]}")
        code = source_hash("modeling", "registration", "rendering", "geometry", "simulation")[:8]
        self.registrations = Kept(folder / f"registered-{weights}-{code}")

    @cached_property
    def worlds(self) -> dict[str, World]:
        """Every kind by its name on the command line."""
        ranges, folder = self.ranges, self.folder
        of_trials, of_worlds, of_renderer = _TO_REGISTER[len(self.planes)]
        return {
            "simulator": World(
                "Own simulator, new trials",
                1.0,
                0.35,
                _SIMULATED,
                lambda count, _: simulated(folder, count),
                of_trials,
            ),
            "worlds": World(
                "Randomised worlds",
                2.0,
                0.7,
                _WORLDS,
                lambda count, size: worlds(ranges, count, size),
                of_worlds,
                True,
            ),
            "held-out": World(
                "Implants that no training showed, in these worlds",
                2.5,
                1.0,
                _WORLDS,
                lambda count, size: worlds(ranges, count, size, held_out=True),
                of_worlds,
                True,
            ),
            "renderer": World(
                "Another renderer",
                1.5,
                0.525,
                _SIMULATED,
                lambda count, _: another_renderer(folder, count),
                of_renderer,
            ),
            "rigs": World(
                "Own simulator's looks, every frame by a rig of its own",
                2.0,
                0.7,
                _RIGS,
                lambda count, size: worlds(OTHER_RIGS, count, size),
                0,
            ),
        }

    def rows(self, name: str) -> Iterator[Row]:
        """Rows of one kind."""
        if name == "real":
            yield from self._real_rows()
            return
        world = self.worlds[name]
        yield from self._network_rows(name, world)
        if world.registered:
            yield from self._registered_rows(name, world)

    def _network_rows(self, name: str, world: World) -> Iterator[Row]:
        found = self.poses.whole(name, lambda: self._errors(world.shown(world.frames, self.size)))
        table = {key: np.array([one[key] for one in found], dtype=float) for key in found[0]}
        deg, mm = table["rotation_deg"], table["translation_mm"]
        middle = float(np.median(deg)), float(np.median(mm))
        yield Row(
            f"{world.what}: median",
            f"{middle[0]:.2f} deg, {middle[1]:.2f} mm",
            f"at most {world.deg:g} deg, {world.mm:g} mm",
            middle[0] <= world.deg and middle[1] <= world.mm,
        )
        near = ((mm <= _GOOD[0]) & (deg <= _GOOD[1])).mean()
        most = f"{np.quantile(deg, 0.9):.1f} deg, {np.quantile(mm, 0.9):.1f} mm"
        yield Row(f"{world.what}: 90 % within; share within 2 mm and 2 deg", f"{most}; {near:.0%}", COMPARISON, None)
        stated = stated_confidence(table, _GOOD)
        if stated is None:
            return
        error, marks = stated["calibration_error"], stated["marks"]
        measured, met = f"expected calibration error {error:.3f}", error <= _CALIBRATED
        if marks:
            caught = "none" if marks["caught"] is None else f"{marks['caught']:.0%} marked"
            measured += f"; {marks['far']:.0%} off by more than 5 mm or 5 deg: {caught}"
            measured += "" if marks["lost"] is None else f"; of the others {marks['lost']:.0%}"
            met = met and (marks["caught"] is None or marks["caught"] >= _CAUGHT)
        required = f"at most {_CALIBRATED:g}; at least {_CAUGHT:.0%}" if world.calibrated else COMPARISON
        yield Row(f"{world.what}: confidence and marks", measured, required, met if world.calibrated else None)

    def _errors(self, shown: Iterator[Shown]) -> list[dict[str, float]]:
        return [
            one for frame, poses in predicted(self.model, self._own(shown)) for one in errors(frame, poses).values()
        ]

    def _own(self, shown: Iterator[Shown]) -> Iterator[Shown]:
        """Frames with the planes that the model sees alone."""
        return (seen_by(frame, self.planes) for frame in shown)

    def _registered_rows(self, name: str, world: World) -> Iterator[Row]:
        count = world.registered
        found = self._registered(name, lambda: world.shown(count, _REGISTERED_PX), count)
        # One plane hardly shows the depth, which `detail` then states with its interval.
        both, where = self.planes == PLANES, "" if self.planes == PLANES else " in plane"
        off_mm = [one.mm if both else one.in_plane_mm for one in found]
        close = np.mean([_is_close(mm, one) for mm, one in zip(off_mm, found, strict=True)])
        seconds = np.median([one.seconds for one in found])
        yield Row(
            f"{world.what}: then registered, within 0.3 mm{where} and 0.3 deg",
            f"{close:.0%} of {len(found)}; {seconds:.1f} CPU-s a frame",
            f"at least {_SHARE:.0%}",
            bool(close >= _SHARE),
        )
        best = self._registered(f"{name}-true", lambda: world.shown(count, _REGISTERED_PX), count, from_truth=True)
        # A failed registration leaves its initial pose: here the true one.
        at_best = np.mean(
            [one.verdict != FAILED and _is_close(one.mm if both else one.in_plane_mm, one) for one in best]
        )
        yield Row(
            f"{world.what}: registered from the true poses instead, and not `failed`",
            f"{at_best:.0%} of {len(best)}",
            COMPARISON,
            None,
        )
        sure = [(mm, one.deg) for mm, one in zip(off_mm, found, strict=True) if one.verdict == CONVERGED]
        wrong = sum(mm > _DANGEROUS_MM or deg > _DANGEROUS_DEG for mm, deg in sure)
        yield Row(
            f"{world.what}: `converged`, but off by more than 1 mm{where} or 1 deg",
            f"{wrong} of {len(sure)} that are `converged`",
            "none",
            not wrong,
        )

    def _registered(
        self, name: str, shown: Callable[[], Iterator[Shown]], count: int | None, *, from_truth: bool = False
    ) -> list[Registered]:
        """Registrations from the network's poses, or the true ones; frames are drawn only where one is missing."""
        known = self.registrations.frames(name)
        if count is None or len(known) < count:
            frames = self._own(islice(shown(), count))
            starts = with_truth(frames) if from_truth else predicted(self.model, frames)
            for number, (frame, poses) in enumerate(starts):
                if number not in known:
                    began = time.monotonic()
                    known[number] = registered(frame, poses, search=not from_truth)
                    self.registrations.keep(name, number, known[number])
                    print(f"{name} {number}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return [Registered(**one) for number in sorted(known) for one in known[number]]

    def _real_rows(self) -> Iterator[Row]:
        folder = self.folder / "real"
        prepared(folder)
        one_plane = not self.model.config.plane_dropout and self.planes == PLANES
        for planes in (1, 2) if self.planes == PLANES else (1,):
            of = f"Real frames, {'one plane' if planes == 1 else 'two planes'}"
            if planes == 1 and one_plane:
                yield Row(of, "the model needs both planes", COMPARISON, None)
                continue
            found = self._registered(f"real-{planes}", partial(real, folder, planes), None)
            seen = np.mean([one.start_px <= _SEEN_PX for one in found])
            measured = f"{seen:.0%} of {len(found)}; median {np.median([one.start_px for one in found]):.1f} px"
            yield Row(f"{of}: centre within 15 px", measured, "100 %" if planes == 1 else COMPARISON, bool(seen == 1))
            yield self._real_row(of, planes, found)
            sure = [one for one in found if one.verdict == CONVERGED]
            far = sum(not _is_right(one, planes) for one in sure)
            yield Row(f"{of}: `converged`, but beyond these", f"{far} of {len(sure)}", COMPARISON, None)

    @staticmethod
    def _real_row(of: str, planes: int, found: Sequence[Registered]) -> Row:
        judged = [one for one in found if planes == 1 or one.component == "femur"]
        right = np.mean([_is_right(one, planes) for one in judged])
        limits = "within 1 mm in plane and 3 deg" if planes == 1 else "femur within 1 mm"
        share = f"{right:.0%} of {len(judged)}"
        return Row(
            f"{of}: then registered, {limits}", share, f"at least {_REAL_SHARE:.0%}", bool(right >= _REAL_SHARE)
        )


def _is_close(mm: float, one: Registered) -> bool:
    """Whether a registration is as near as required."""
    return mm <= _CLOSE_MM and one.deg <= _CLOSE_DEG


def _is_right(one: Registered, planes: int) -> bool:
    if planes == 1:
        return one.in_plane_mm <= _IN_PLANE_MM and one.deg <= _REAL_DEG
    return one.mm <= _REAL_MM


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; write the table where everything was measured; exit with 1 where a figure is missed."""
    names = ["simulator", "worlds", "held-out", "renderer", "rigs", "real"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, required=True, metavar="RUN")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    checkpoint = Checkpoint(options.model, options.folder)
    measured = [name for name in options.only if name != "real" or REAL.exists()]
    if measured != options.only:
        print("real frames of other laboratories are not at hand: they are not measured", file=sys.stderr)
    registered_frames = "{}, {} and {}".format(*_TO_REGISTER[len(checkpoint.planes)])
    of_planes = "" if checkpoint.planes == PLANES else f"_{'_'.join(checkpoint.planes).upper()}"
    results = Path(__file__).with_name(f"RESULTS_CHECKPOINTS{of_planes}.md")
    if measured != names:
        results = Path(tempfile.mkdtemp()) / results.name
    try:
        write_table(
            "Checkpoints",
            (row for name in measured for row in checkpoint.rows(name)),
            f"torch {torch.__version__}. `{options.model.name}`, {' and '.join(checkpoint.planes)}, images of "
            f"{checkpoint.size} px. {_SIMULATED} frames of the own simulator and of another renderer, {_WORLDS} of "
            f"randomised worlds, {_RIGS} rigs; {registered_frames} frames of {_REGISTERED_PX} px of the simulator, "
            "of either kind of worlds and of the renderer are also registered from the network's poses, each frame "
            "alone, as `veriserum register --start model` does: "
            "where the network does not trust its pose, or that fails, implants are searched for in the images. "
            "Errors are those of implants' centres. In one plane the reference of real frames is the published pose, "
            "in two planes one whose outlines lie on the edges of both images",
            results,
        )
    finally:  # also where a figure is missed
        if measured == names and results.exists():
            text = results.read_text()
            (options.model / "results.md").write_text(text[text.index("| what") :])  # for the card


if __name__ == "__main__":
    main()
