"""Report on poses and their labels, or initial poses: one self-contained HTML file."""

from collections.abc import Mapping, Sequence

from veriserum_hf.dataset import data_record
from veriserum_hf.evaluation import Summary, accuracy_table, overall, summary_tables
from veriserum_hf.reports.agreement_section import SourceAgreement, about_observers, implant_blocks, joint_blocks
from veriserum_hf.reports.blocks import Block, facts, heading, image, note, table
from veriserum_hf.reports.html_page import SIMULATED, Section, html_page, versions
from veriserum_hf.reports.joint import Joint
from veriserum_hf.reports.knee_section import knee_section
from veriserum_hf.reports.run_figures import check_count, cumulative_errors
from veriserum_hf.reports.sources import PoseSource, Reference, common_implants
from veriserum_hf.reports.verdicts_section import verdict_blocks
from veriserum_hf.reports.worst_frames import worst_frames_blocks

_CURVES_NOTE = (
    "Solid: femoral component, dashed: tibial component. The scale is logarithmic; grey lines are at 1 and 2 mm or "
    "degrees. mTRE: mean distance between the same surface point of the implant at both poses."
)


def report_page(
    reference: Reference,
    sources: Sequence[PoseSource],
    summaries: Mapping[str, Summary],
    joint: Joint,
    against_labels: Sequence[SourceAgreement],
    agreements: Sequence[SourceAgreement],
) -> str:
    """The page as HTML: the same input and versions give the same text.

    Parameters
    ----------
    reference : data set and labels to compare with.
    sources : at least one; the worst frames of the last are shown.
    summaries : of `veriserum_hf.evaluation.summarise`, by the sources' names.
    joint : axes of the knee, of `joint_of`.
    against_labels : of `label_agreements`.
    agreements : of `source_agreements`.

    Raises
    ------
    VeriserumError
        If a frame cannot be decoded, or there are more sources than colours.

    """
    check_count(len(sources))
    record: Mapping[str, object] = data_record(reference.dataset) or {}
    accuracy = "Differences from the initial poses" if reference.initial else "Accuracy"
    verdicts = verdict_blocks(reference, sources)
    compared = [
        facts(_data_facts(reference, record)),
        *(block for each in sources for block in (heading(each.name), facts(_source_facts(reference, each)))),
    ]
    knee, motions = knee_section(reference, sources, joint, against_labels)
    between = [*joint_blocks(agreements), *implant_blocks(agreements)] if agreements else []
    sections = [
        Section(accuracy, _accuracy_blocks(sources, summaries)),
        Section("Kinematics", knee),
        Section(f"Agreement with the {reference.kind}s", implant_blocks(against_labels)),
        *([Section("Agreement of the sources", between)] if between else []),
        *([Section("Verdicts and stated uncertainty", verdicts)] if verdicts else []),
        Section("By implant, task and axis", _detail_blocks(summaries)),
        Section(f"Worst frames of {sources[-1].name}", worst_frames_blocks(reference, sources[-1])),
        Section(f"Compared poses and {reference.kind}s", compared),
    ]
    return html_page(
        f"Poses and {reference.kind}s: {record.get('name') or reference.dataset}, split {reference.split}",
        _lead(reference, sources),
        sections,
        _warnings(reference, sources, simulated=bool(record.get("simulated"))),
        motions,
    )


def _lead(reference: Reference, sources: Sequence[PoseSource]) -> str:
    frames = {source.name: len(set(source.estimates.measurement_id.tolist())) for source in sources}
    names = ", ".join(f"{name} ({count} frames)" for name, count in frames.items())
    rows = reference.rows
    differences = "Differences" if reference.initial else "Errors"
    lead = (
        f"Poses of {names}, compared with {reference.about_labels[f'{reference.kind}s']} of {len(rows)} frames of "
        f"{len(set(rows['trial_id']))} trials. {differences} are estimate minus {reference.kind}, in the world frame "
        "of the cameras (of Veriserum: origin at the centre of the bs intensifier, x right, y up, z towards its "
        "source); mm and degrees."
    )
    return lead if reference.initial else f"{lead} Errors include those of the labels."


def _warnings(reference: Reference, sources: Sequence[PoseSource], *, simulated: bool) -> list[str]:
    found = [SIMULATED] if simulated else []
    if reference.initial:
        found.append(
            "The data set has initial poses and no reference: what is called an error on this page is the difference "
            "from an initial pose, and no measure of accuracy. Give --labels to compare with a reference."
        )
    found += [
        f"{source.name} is not compared with new trials: {source.overlap['statement']}."
        for source in sources
        if source.overlap and source.overlap["training_trials"]
    ]
    if common_implants(sources) is not None:
        found.append(
            "The sources do not have poses of the same implants and frames: compare them by the table of poses that "
            "all sources have."
        )
    return found


def _data_facts(reference: Reference, record: Mapping[str, object]) -> dict[str, object]:
    rows = reference.rows
    return {
        "data set": reference.dataset,
        "revision": record.get("revision") or "unknown",
        "configuration": reference.config,
        "split": f"{reference.split}: {len(rows)} frames of {len(set(rows['trial_id']))} trials",
        **reference.about_labels,
        "versions": versions(),
    }


def _source_facts(reference: Reference, source: PoseSource) -> dict[str, str]:
    compared = len(set(source.estimates.measurement_id.tolist()))
    poses = sum(len(frame) for frame in source.poses.values())
    found = dict(source.about)
    if observers := about_observers(source):
        found["made by"] = observers
    found["compared"] = (
        f"{len(source.estimates)} poses in {compared} of {len(reference.rows)} frames; the source has "
        f"{poses} poses in {len(source.poses)} frames"
    )
    return found


def _accuracy_blocks(sources: Sequence[PoseSource], summaries: Mapping[str, Summary]) -> list[Block]:
    blocks = [table(accuracy_table({name: each["overall"] for name, each in summaries.items()}))]
    common = common_implants(sources)
    if common:
        groups = {
            source.name: overall(source.errors.filter([implant in common for implant in source.implants()]))
            for source in sources
        }
        blocks += [heading(f"On the {len(common)} poses that all sources have"), table(accuracy_table(groups))]
    elif common is not None:
        blocks.append(note("No implant in a frame has a pose of every source."))
    return [*blocks, image(cumulative_errors(sources), "cumulative errors"), note(_CURVES_NOTE)]


def _detail_blocks(summaries: Mapping[str, Summary]) -> list[Block]:
    return [block for name, each in summaries.items() for block in (heading(name), *map(table, summary_tables(each)))]
