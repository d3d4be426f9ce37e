"""The figures of registration of real frames: what is required of it, and what is measured."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tests.benchmarks.real_frames import GREYS, IMPLANTS, ONE_PLANE, TWO_PLANES, Poses, Task
from tests.benchmarks.real_rig import WRONG_DEG, WRONG_MM, apart, refined
from tests.benchmarks.real_runs import OWN, Bench, One, agreed, depth_sd, in_view, is_back
from tests.fixtures.real_studies import biplane_frames
from veriserum_hf.core import CONVERGED, FAILED, PLANES

_SEEDS = (1, 2)
_COMPARISON = "for comparison"
_PLANE_OF = dict(zip(PLANES, ("first plane", "second plane"), strict=True))


class Figure(NamedTuple):
    """One line of the table; ``met`` is None for comparison, and where nothing was measured."""

    what: str
    required: str
    measured: str
    met: bool | None


def one_plane(bench: Bench) -> Iterator[Figure]:
    """From the published poses, and from 5 mm and 5 deg off."""
    tasks = [
        bench.begun(name, number, mm, seed)
        for name in ONE_PLANE
        for number in bench.frames(name)
        for mm, seed in ((0, 0), (5, 1), (5, 2))
    ]
    ones = bench.run(tasks)
    right, moved = [], []
    for one in ones:
        in_plane_mm, depth_mm, deg = in_view(bench, one)
        fine = not one.wrong and in_plane_mm <= 0.7 and deg <= 2
        right += [one] if fine else []
        moved.append((one, in_plane_mm, depth_mm, fine))
    for own, start in ((True, "the published pose"), (False, "5 mm and 5 deg off")):
        for name in ONE_PLANE:
            for component in IMPLANTS:
                side = name.rpartition("_")[2]
                of = [
                    fine
                    for one, _, _, fine in moved
                    if (one.task.start == OWN) == own and (one.task.study, one.component) == (name, component)
                ]
                yield _share(
                    f"One plane, from {start}: {side} {component} within 0.7 mm in plane and 2 deg",
                    of,
                    0.75 if (side, component) == ("left", "tibia") else 1.0,
                )
    trays = [
        one.found.verdict != CONVERGED
        for one, _, _, fine in moved
        if not fine and (one.task.study, one.component) == ("single_plane_left", "tibia")
    ]
    yield _share("One plane, left tibia beyond these limits: `ambiguous` or `failed`", trays, 1.0)
    off_mm = [one.found.verdict != CONVERGED for one, mm, _, _ in moved if mm > 2 and not one.wrong]
    yield _share("One plane, off by more than 2 mm in plane and not `failed`: `ambiguous`", off_mm, 1.0)
    yield _compared("One plane, within these limits: `converged`", [one.found.verdict == CONVERGED for one in right])
    depths = [(depth, depth_sd(bench, one)) for one, _, depth, fine in moved if fine]
    measured = "none"
    if depths:
        mm, sd = np.array(depths).T
        held = np.mean(np.abs(mm) <= 1.96 * sd)
        measured = (
            f"median {np.median(mm):+.2f} mm, 90 % within {np.percentile(np.abs(mm), 90):.2f}; stated deviation "
            f"{np.median(sd):.2f} mm; 95 % intervals hold {100 * held:.0f} %"
        )
    yield Figure("One plane, within these limits: depth less the published one", _COMPARISON, measured, None)
    published = [one for one in ones if one.task.start == OWN]
    for component in IMPLANTS:
        yield from _on_edges("One plane", [one for one in published if one.component == component], "bs", component)


def two_planes(bench: Bench) -> Iterator[Figure]:
    """From 5 and 10 mm and deg off, back to one pose."""
    begun = [(number, mm, seed) for number in bench.frames(TWO_PLANES) for mm in (5, 10) for seed in _SEEDS]
    begun += [(number, 0, 0) for number in bench.frames(TWO_PLANES)]
    ones = bench.run(bench.begun(TWO_PLANES, *each) for each in begun)
    if bench.every == 1:
        known = [
            component in bench.initial().get(n, {}) for n in range(len(biplane_frames())) for component in IMPLANTS
        ]
        yield _compared("Two planes: implants of all frames with an initial pose, their own or found", known)
    poses = agreed(ones)
    for component in IMPLANTS:
        for mm in (5, 10):
            back = [
                is_back(one, poses.get((one.task.number, component)))
                for one in ones
                if one.component == component and one.task.start.startswith(f"{mm:g} mm")
            ]
            back += [False] * (bench.expected * len(_SEEDS) - len(back))  # without an initial pose
            yield _share(
                f"Two planes, {component}, from {mm} mm and {mm} deg off: back to one pose",
                back,
                0.95,
            )
    for component in IMPLANTS:
        verdicts = [
            one.found.verdict == CONVERGED for one in ones if one.component == component and one.task.start != OWN
        ]
        verdicts += [False] * (bench.expected * 2 * len(_SEEDS) - len(verdicts))
        yield _share(f"Two planes, {component}, from both: `converged`", verdicts, 0.9)
    wrong = [
        one.found.verdict != CONVERGED
        for one in ones
        if not one.wrong and max(one.apart(poses[one.task.number, one.component].matrix)) > 1
    ]
    yield _compared("Two planes, more than 1 mm or 1 deg from that pose and not `failed`: `ambiguous`", wrong)
    for component in IMPLANTS:
        for plane in PLANES:
            best = [each.one for (_, name), each in poses.items() if name == component]
            yield from _on_edges("Two planes", best, plane, component)


def grey(bench: Bench) -> Iterator[Figure]:
    """The same from images whose grey values were changed."""
    ones = bench.run(
        bench.begun(TWO_PLANES, number, 5, 1, grey=name) for number in bench.frames(TWO_PLANES) for name in GREYS
    )
    unchanged = {(one.task.number, one.component): one for one in ones if one.task.grey == "unchanged"}
    for name in GREYS:
        if name == "unchanged":
            continue
        of = [(one, unchanged[one.task.number, one.component]) for one in ones if one.task.grey == name]
        same = [
            not one.wrong and not other.wrong and one.apart(np.array(other.found.T))[0] <= 0.1 for one, other in of
        ]
        converged = [one.found.verdict == CONVERGED for one, _ in of]
        missing = [False] * (bench.expected * len(IMPLANTS) - len(of))  # without an initial pose
        yield _share(f"Two planes, {name}: pose within 0.1 mm of that of the unchanged images", same + missing, 0.95)
        yield _share(f"Two planes, {name}: `converged`", converged + missing, 0.9)


def sequence(bench: Bench) -> Iterator[Figure]:
    """Ten frames in a row by both methods."""
    what = "Two planes, ten frames in a row, {}: outline and intensity, largest difference"
    if bench.method == "intensity":
        return
    numbers = [number for number, frame in enumerate(biplane_frames()) if 100 <= frame < 110]
    by_outline = bench.run(bench.begun(TWO_PLANES, number, 5, 1, method="outline") for number in numbers)
    poses: dict[int, Poses] = {}
    for one in by_outline:
        poses.setdefault(one.task.number, {})[one.component] = np.array(one.found.T)
    by_intensity = bench.run(
        (Task(TWO_PLANES, number, "outline's pose", method="intensity"), each) for number, each in poses.items()
    )
    for component, required in (("femur", (0.15, 0.4)), ("tibia", None)):
        of = [
            (one.apart(np.array(other.found.T)), one.wrong or other.wrong)
            for one, other in zip(by_outline, by_intensity, strict=True)
            if one.component == component
        ]
        most = np.max([apart for apart, _ in of], axis=0)
        failed = sum(wrong for _, wrong in of)
        measured = f"{most[0]:.2f} mm, {most[1]:.2f} deg" + (f"; {failed} of {len(of)} failed" if failed else "")
        met = None if required is None else bool((most <= required).all()) and not failed
        text = _COMPARISON if required is None else "at most {:g} mm, {:g} deg".format(*required)
        yield Figure(what.format(component), text, measured, met)


def scratch(bench: Bench) -> Iterator[Figure]:
    """The tibia without an initial pose."""
    for frame in (100, 200):
        what = f"Two planes, index {frame}, from the images alone: tibia"
        required = "share of the outline on edges at least 0.7, at most 60 CPU-s"
        number = biplane_frames().index(frame)
        searched = None if bench.method == "intensity" else bench.results.scratch(number)
        if searched is None:
            yield Figure(what, required, "not measured", None)
            continue
        poses, seconds = searched
        task = Task(TWO_PLANES, number, "from the images", method=bench.method)
        tibia = bench.results.of({task: poses})[task].get("tibia") if poses else None
        found = f"share {tibia.share:.2f} after registration, {tibia.verdict}" if tibia else "not found"
        met = tibia is not None and tibia.share >= 0.7 and tibia.verdict != FAILED and seconds <= 60
        yield Figure(what, required, f"{found}; the search took {seconds:.0f} CPU-s", met)


def processor_time(bench: Bench) -> Iterator[Figure]:
    """Processor time of a frame with both implants."""
    numbers = [number for number, frame in enumerate(biplane_frames()) if frame in (40, 100, 160)]
    frames = {"Two planes": [(TWO_PLANES, n) for n in numbers], "One plane": [(name, 0) for name in ONE_PLANE]}
    for planes, of in frames.items():
        what = f"{planes}, from 5 mm and 5 deg off: both implants of a frame, one core, median"
        median = {
            method: float(
                np.median(
                    [one.found.seconds for one in bench.run(bench.begun(*each, 5, 1, method=method) for each in of)]
                )
            )
            for method in dict.fromkeys((bench.method, "intensity"))
        }
        ours, intensity = median[bench.method], median["intensity"]
        compared = "" if bench.method == "intensity" else f"; by intensity alone {intensity:.1f}"
        yield Figure(what, "at most half of that by intensity", f"{ours:.1f} CPU-s{compared}", 2 * ours <= intensity)


def rig(bench: Bench) -> Iterator[Figure]:
    """The rig, refined from the laboratory's own cameras and from wrong ones."""
    found = refined(bench, (None, *_SEEDS))
    own = found[None]
    apart_of = [apart(own, found[seed]) for seed in _SEEDS]
    most_mm, most_deg = (max(each) for each in zip(*((np.linalg.norm(mm), deg) for mm, deg in apart_of), strict=True))
    what = (
        f"Two planes: rig refined from cameras {WRONG_MM:g} mm, {WRONG_DEG:g} deg off, from that from its own cameras"
    )
    measured = f"{most_mm:.2f} mm, {most_deg:.3f} deg"
    yield Figure(what, "at most 0.1 mm, 0.02 deg", measured, bool(most_mm <= 0.1 and most_deg <= 0.02))
    for name, each in (("its own cameras", own), *((f"wrong ones, {n}", found[n]) for n in _SEEDS)):
        misfit = each.details["left_out_misfit_px"]
        measured = f"{each.verdict}: {misfit['before']:.3f} px, {misfit['after']:.3f} px"
        what = f"Two planes, {name}: outlines from edges, frames left out, before and after"
        yield Figure(what, _COMPARISON, measured, None)


GROUPS = {
    "one-plane": one_plane,
    "two-planes": two_planes,
    "grey": grey,
    "sequence": sequence,
    "scratch": scratch,
    "rig": rig,
    "time": processor_time,
}


def _share(what: str, of: Sequence[bool], least: float) -> Figure:
    required = "all" if least == 1 else f"at least {100 * least:.0f} %"
    return Figure(what, required, _counted(of), float(np.mean(of)) >= least if of else True)


def _compared(what: str, of: Sequence[bool]) -> Figure:
    return Figure(what, _COMPARISON, _counted(of), None)


def _counted(of: Sequence[bool]) -> str:
    return f"{sum(of)} of {len(of)} ({100 * np.mean(of):.0f} %)" if of else "none"


def _on_edges(name: str, ones: Sequence[One], plane: str, component: str) -> Iterator[Figure]:
    """Median distances of outlines and edges; frames count the same, those of failed poses not."""
    right = [one.found for one in ones if not one.wrong]
    where = f"{name}, {component}" + (f", {_PLANE_OF[plane]}" if name == "Two planes" else "")
    values = np.array(
        [[distance, signed] for points, distance, signed, _ in (f.edges[plane] for f in right) if points]
    )
    for column, what, limit in ((0, "median distance of outline and edge", 0.3), (1, "median signed distance", 0.15)):
        title, required = f"{where}: {what}", f"at most {limit:g} px"
        if not len(values):
            yield Figure(title, required, "no pose", False)
            continue
        median = float(np.median(values[:, column]))
        sign = "+" if column else ""
        fine = np.abs(values[:, column]) <= limit
        measured = f"{median:{sign}.2f} px; {sum(fine)} of {len(fine)} images within"
        yield Figure(title, required, measured, abs(median) <= limit)
    measures = np.array([found.expected[plane] for found in right if found.expected[plane][0]])
    measured = "no pose"
    if len(measures):
        _, distance, signed, share = np.median(measures, axis=0)
        measured = f"{distance:.2f} px, signed {signed:+.2f} px; {100 * share:.0f} % of the outline within 1 px"
    yield Figure(f"{where}: to the edges expected behind attenuation", _COMPARISON, measured, None)
