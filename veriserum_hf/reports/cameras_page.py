"""Report on refined cameras: verdicts first, what changed and how well it is known, residuals, provenance last."""

from collections.abc import Mapping

import numpy as np

from veriserum_hf.calibration import MOST_TOLERANCES, RefinedCameras, RefinedRig, refined_cameras_sha256
from veriserum_hf.core import Table, listed
from veriserum_hf.dataset import data_record
from veriserum_hf.reports.blocks import Block, facts, heading, image, note, number, table
from veriserum_hf.reports.html_page import SIMULATED, Section, html_page, versions
from veriserum_hf.reports.residual_figures import misfits, residual_fields
from veriserum_hf.reports.rig_figures import change_figure, information_figure, rig_figure

_LEAD = (
    "Cameras adjusted together with the poses of implants in many frames. Refined cameras replace the stored ones "
    'where the verdict is "improved": the change is larger than its deviations explain, and frames that were left '
    "out of the adjustment (cross-validation with five folds) fit better. The world stays that of the first plane."
)
_CHANGE = (
    "Stored rig, with the changes of sources and of the detectors' centres magnified as stated. Shift of the second "
    "camera at the implants' centre, and its rotation about the world's axes. Ellipses and intervals: 95 %, with the "
    "errors of all that is held; dashed or shaded: 95 % of the tolerance. A shift along the ray of the first camera "
    "looks nearly like a common shift of all implants in depth."
)
_UNKNOWNS = (
    "SD of the images alone: from the residuals along all outlines, as if nothing were known before and nothing else "
    "had errors. The stated SD contains the tolerances, and errors of what is held: meshes, edges, and all of the "
    "cameras that is not refined. An unknown is determined where the stated SD is at most half its tolerance."
)
_FIELDS = (
    "Residuals of frames that were left out, their poses registered with the cameras: arrows from the outlines of "
    "implants to the edges of the image, the displacement of each cell that fits all residuals along the outlines' "
    "normals best. Colours are comparable between the panels, arrows within one. Cells without colour show no "
    "outlines. A systematic pattern that remains indicates errors that the refined unknowns do not contain, such as "
    "a remaining distortion. px: pixels of {pixels} mm on the detector."
)
_MISFIT = "Misfit: median distance of the outlines of a frame that was left out, and their edges."


def refined_cameras_page(cameras: RefinedCameras, dataset: str, about: Mapping[str, object]) -> str:
    """The page as HTML: the same input and versions give the same text.

    Parameters
    ----------
    cameras : as `veriserum_hf.registration.refine_cameras` returns them.
    dataset : data set that they were refined from.
    about : how they were refined, by name.

    """
    record: Mapping[str, object] = data_record(dataset) or {}
    provenance = {
        "data set": dataset,
        "revision": record.get("revision") or "unknown",
        **about,
        "SHA-256 of the cameras": refined_cameras_sha256(cameras),
        "versions": versions(),
    }
    return html_page(
        "Refined cameras",
        _LEAD,
        [
            Section("Verdicts", [table(_verdicts(cameras))]),
            *(Section(f"{rig.details['name'].capitalize()}: {rig.verdict}", _blocks(rig)) for rig in cameras.rigs),
            Section("Provenance", [facts(provenance)]),
        ],
        [SIMULATED] if record.get("simulated") else [],
    )


def _verdicts(cameras: RefinedCameras) -> Table:
    rows = []
    for rig in cameras.rigs:
        details = rig.details
        misfit = details["left_out_misfit_px"]
        rows.append(
            [
                f"{details['name']} (trials {listed(map(str, rig.trials))})",
                rig.verdict,
                details["reason"],
                len(details["frames"]),
                number(misfit["before"]),
                number(misfit["after"]),
            ]
        )
    header = ["frames of", "verdict", "reason", "frames used", "misfit stored, px", "misfit refined, px"]
    return Table(header, rows, alignment="lllr", note=_MISFIT)


def _blocks(rig: RefinedRig) -> list[Block]:
    if not rig.unknowns:
        return [note(_statement(rig))]
    pixels = sorted({number(edge) for each in rig.details["residual_fields"].values() for edge in each["pixel_mm"]})
    return [
        note(_statement(rig)),
        heading("Change of the rig"),
        image(rig_figure(rig), "rig from two sides, its change magnified, shift with its 95 % ellipse"),
        image(change_figure(rig), "change of the unknowns with 95 % intervals"),
        note(_CHANGE),
        heading("Information by degree of freedom"),
        image(information_figure(rig), "standard deviations over tolerances"),
        table(_unknowns(rig)),
        heading("Residual fields"),
        image(residual_fields(rig), "residual fields before and after"),
        note(_FIELDS.format(pixels=listed(pixels))),
        heading("Frames used"),
        image(misfits(rig), "misfit of each frame before and after"),
        table(_frames(rig)),
    ]


def _statement(rig: RefinedRig) -> str:
    """What holds for the cameras after the refinement."""
    figures = "; the figures show what the frames suggest" if rig.unknowns else ""
    held = "" if rig.verdict == "improved" else f" The stored cameras stay{figures}."
    undetermined = rig.details["not_determined"]
    unknown = f" Not determined: {', '.join(undetermined)}." if undetermined else ""
    reason = rig.details["reason"]
    return f"{rig.verdict.capitalize()}: {reason}.{held}{unknown}"


def _unknowns(rig: RefinedRig) -> Table:
    details, rows = rig.details, []
    for n, name in enumerate(rig.unknowns):
        of_images, tolerance = details["image_standard_deviations"][n], details["tolerances"][n]
        rows.append(
            [
                name,
                f"{rig.estimate[n]:+.4f}",
                f"{of_images:.4f}" if of_images < 0.5 * MOST_TOLERANCES * tolerance else "none",
                f"{details['standard_deviations'][n]:.4f}",
                f"{tolerance:g}",
                "no" if name in details["not_determined"] else "yes",
            ]
        )
    header = ["unknown", "change", "SD of the images alone", "stated SD", "tolerance", "determined"]
    return Table(header, rows, note=_UNKNOWNS)


def _frames(rig: RefinedRig) -> Table:
    details = rig.details
    ids, trials = np.array(details["frames"]), np.array(details["trials_of_frames"])
    of_frames = details["left_out_misfits_px"]
    before, after = (np.array(of_frames[state], dtype=float) for state in ("before", "after"))
    rows = [
        [
            trial,
            int(np.sum(own)),
            _median(before[own]),
            _median(after[own]),
            " ".join(map(str, sorted(ids[own].tolist()))),
        ]
        for trial in np.unique(trials).tolist()
        for own in [trials == trial]
    ]
    excluded = details["excluded_frames"]
    left = (
        f" Not used, unreadable or without implants' outlines near the given poses: {listed(map(str, excluded))}."
        if excluded
        else ""
    )
    header = ["trial", "frames", "misfit stored, px", "misfit refined, px", "measurement ids"]
    return Table(header, rows, alignment="lrrrl", note=f"{_MISFIT}{left}")


def _median(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return number(float(np.median(known)) if len(known) else None)
