"""Section of a report: the six coordinates of the knee, their agreement with the labels, and each trial over time."""

from collections.abc import Mapping, Sequence

import numpy as np

from veriserum_hf.core import Table
from veriserum_hf.errors import KinematicsError
from veriserum_hf.knee import COORDINATE_NAMES, COORDINATES, JointPairs
from veriserum_hf.reports.agreement_section import SourceAgreement, joint_blocks
from veriserum_hf.reports.blocks import Block, Link, heading, note, number, table, trial
from veriserum_hf.reports.joint import Joint
from veriserum_hf.reports.motions import Frame, Motions, motions, source_frames
from veriserum_hf.reports.run_figures import colors_of
from veriserum_hf.reports.sources import PoseSource, Reference

_COORDINATES_NOTE = (
    "Joint coordinate system of Grood and Suntay (1983): flexion, adduction (varus) and internal rotation of the "
    "tibia are positive; translations are the position of the femur's origin from the tibia's."
)
_MOTIONS_NOTE = (
    "Bands: 1.96 stated standard deviations. Open circles: poses that have not converged, or that state no verdict."
)


def knee_section(
    reference: Reference, sources: Sequence[PoseSource], joint: Joint, against_labels: Sequence[SourceAgreement]
) -> tuple[list[Block], Motions | None]:
    """Blocks of the section, and the numbers that the script of the page draws; None without any."""
    if all(each.joint is None for each in against_labels):
        return [note(against_labels[0].agreement["about_joint"])], None
    blocks = [note(f"{_COORDINATES_NOTE} {joint.about}"), *joint_blocks(against_labels)]
    drawn: dict[str, Mapping[int, Frame]] = {}
    for source in sources:
        try:
            drawn[source.name] = source_frames(reference, source, joint.axes)
        except KinematicsError as error:
            blocks.append(note(f"{source.name} is not drawn over time: {error}."))
    if not drawn:
        return blocks, None
    pairs = {each.first: each.joint for each in against_labels if each.joint is not None}
    content = motions(reference, list(pairs.values()), drawn, colors_of([source.name for source in sources]))
    last = next((name for name in reversed(drawn) if name in pairs), None)
    blocks.append(heading("Trials"))
    blocks.append(table(_index(content, reference.kind, last, pairs)))
    blocks.append(note(_MOTIONS_NOTE))
    blocks += [
        trial(f"trial {each['id']}, {each['task']}: {len(each['frame'])} frames", f"trial-{each['id']}")
        for each in content["trials"]
    ]
    return blocks, content


def _index(content: Motions, kind: str, name: str | None, pairs: Mapping[str, JointPairs]) -> Table:
    """A line for each trial, with a link, and the root mean square differences of a source from the labels."""
    header = ["trial", "task", "frames", *(COORDINATE_NAMES[each] for each in COORDINATES)]
    rows: list[list[object]] = []
    for each in content["trials"]:
        rms = ["-"] * len(COORDINATES)
        if name is not None and (of_trial := pairs[name].trial_id == each["id"]).any():
            rms = list(map(number, np.sqrt(np.mean(pairs[name].differences[of_trial] ** 2, axis=0))))
        rows.append([Link(str(each["id"]), f"#trial-{each['id']}"), each["task"], len(each["frame"]), *rms])
    shown = "" if name is None else f"Root mean square differences of {name} from the {kind}s."
    return Table(header, rows, alignment="llr", note=shown)
