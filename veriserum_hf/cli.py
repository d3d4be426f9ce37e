"""``veriserum ...``: argument parsing, progress and exit statuses; the work is done elsewhere."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from veriserum_hf.archive.audit import AuditReport
from veriserum_hf.archive.audit import audit as audit_archive
from veriserum_hf.cli_calibrate import app as calibrate_app
from veriserum_hf.cli_hub import push_dataset, push_model
from veriserum_hf.cli_predict import predict
from veriserum_hf.cli_register import check_labels, register
from veriserum_hf.cli_report import report
from veriserum_hf.cli_show import show
from veriserum_hf.dataset.export import export, parse_size
from veriserum_hf.dataset.plan import Encoding, Options, SplitBy
from veriserum_hf.dataset.shards import Format
from veriserum_hf.errors import VeriserumError
from veriserum_hf.simulation.settings import FrameIds, Rotations, Settings, parse_height
from veriserum_hf.terminal import Archive, AsJson, err, out, show_progress

if TYPE_CHECKING:
    from veriserum_hf.archive.refit import Refit

app = typer.Typer(
    help="Veriserum, dual-plane fluoroscopy of knee implants, as Hugging Face datasets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_DEFAULT_CONFIGS = ["calibrated", "anatomies"]


def main() -> None:
    """Run the command line; what a user can mend is one message and exit status 2."""
    try:
        app()
    except VeriserumError as error:
        err.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("interrupted; what is finished is kept, the same command goes on from there")
        sys.exit(130)


@app.command()
def audit(
    archive: Archive,
    as_json: AsJson = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every frame.")] = False,
    calibration: Annotated[
        bool, typer.Option("--calibration", help="Also refit every calibration from its phantom frames.")
    ] = False,
) -> None:
    """Check an archive: counts, decisions and every problem.

    Exit status: 0 clean, 1 problems, 2 unusable.
    """
    with show_progress("decoding", "frames") as progress, show_progress("refitting", "frames") as refit_progress:
        report = audit_archive(
            archive, deep=deep, calibration=calibration, progress=progress, refit_progress=refit_progress
        )
    if as_json:
        print(json.dumps(report.as_json(), indent=1))
    else:
        _print_report(report, deep)
    sys.exit(report.exit_status)


@app.command()
def convert(
    archive: Archive,
    output: Annotated[Path, typer.Argument(help="Folder to make.", show_default=False)],
    config: Annotated[list[str], typer.Option(help="Configuration to write; repeatable.")] = _DEFAULT_CONFIGS,
    size: Annotated[int, typer.Option(help="Edge of the corrected images, px.")] = 512,
    encoding: Annotated[
        Encoding, typer.Option(help="JPEG of quality 95, lossless PNG, or raw: plain TIFF.")
    ] = "jpeg",
    bits: Annotated[int, typer.Option(help="Depth of the corrected images, 8 or 16.")] = 8,
    include_obsolete: Annotated[
        bool, typer.Option("--include-obsolete", help="Also frames with obsolete poses only.")
    ] = False,
    anatomy_id: Annotated[
        list[int] | None, typer.Option(help="Only frames that show this implant; repeatable.")
    ] = None,
    split_by: Annotated[SplitBy, typer.Option(help="By implant holds tibial components out.")] = "trial",
    format: Annotated[Format, typer.Option(help="Format of the shards.")] = "parquet",
    shard_size: Annotated[str, typer.Option(help="Size that no shard exceeds by much.")] = "500MB",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one a core if not given.", show_default=False)
    ] = None,
    allow_rejects: Annotated[
        bool, typer.Option("--allow-rejects", help="Exit with 0 though frames were rejected.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Convert an archive to a folder that every Hugging Face tool reads.

    An interrupted conversion goes on with the same command.

    Exit status: 0 done, 2 not done, 3 done but frames were rejected (see rejected.jsonl).
    """
    options = Options(
        size=size,
        encoding=encoding,
        bits=bits,
        include_obsolete=include_obsolete,
        anatomy_id=anatomy_id or None,
        split_by=split_by,
    )
    kept = "; what is finished is kept, the same command goes on from there"
    with show_progress("converting", "frames", when_interrupted=kept) as progress:
        result = export(
            archive,
            output,
            configs=tuple(config),
            options=options,
            format=format,
            shard_size_bytes=parse_size(shard_size),
            workers=workers,
            progress=progress,
        )
    if as_json:
        print(
            json.dumps({"output": str(result.output), "counts": result.counts, "rejected": result.rejected}, indent=1)
        )
    else:
        _print_counts(result.counts)
        out.print(f"written to {result.output}", soft_wrap=True, highlight=False)
    if result.rejected:
        err.print(
            f"{len(result.rejected)} rows were rejected; {result.output / 'rejected.jsonl'} says why",
            soft_wrap=True,
        )
    sys.exit(3 if result.rejected and not allow_rejects else 0)


@app.command()
def simulate(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.", show_default=False)],
    trials: Annotated[int, typer.Option(help="Trials; activities and implant pairs take turns.")] = 20,
    frames_per_trial: Annotated[int, typer.Option(help="Dual-plane frames of a trial, 30 a second.")] = 30,
    pairs: Annotated[int, typer.Option(help="Implant pairs to use, 1 to 10.")] = 10,
    seed: Annotated[int, typer.Option(help="Other seeds give other archives.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one a core if not given.", show_default=False)
    ] = None,
    size: Annotated[
        str, typer.Option(help="Raw frames' rows, px, or WIDTHxHEIGHT in the ratio 1664x1600.", metavar="PX")
    ] = "1600",
    ids: Annotated[FrameIds, typer.Option(help="Which id names a frame.")] = "measurement",
    rotation: Annotated[
        Rotations | None,
        typer.Option(help="Of the pose table; quaternion if not given, euler with --csv.", show_default=False),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="The authors' CSV files instead of a database.")] = False,
    bit_depth: Annotated[int, typer.Option(help="8 for JPEG frames, 16 for TIFF.")] = 8,
    nifti: Annotated[bool, typer.Option("--nifti", help="Also the implants as volumes (.nii, 0.4 mm).")] = False,
    marker_frames: Annotated[
        int, typer.Option(help="Dual-plane frames of the marker phantom for each of three calibrations.")
    ] = 4,
) -> None:
    """Write a simulated archive in the layout of the download, with the exact poses in truth.parquet.

    The same seed gives the same bytes, whatever the number of workers. An interrupted simulation goes on with the
    same command.

    Exit status: 0 done, 2 not done.
    """
    from veriserum_hf.simulation.write import simulate as write_simulated  # its compiler takes a second to import

    settings = Settings(
        trials=trials,
        frames_per_trial=frames_per_trial,
        pairs=pairs,
        seed=seed,
        height_px=parse_height(size),
        ids=ids,
        rotation=rotation or ("euler" if csv else "quaternion"),
        csv=csv,
        bit_depth=bit_depth,  # type: ignore[arg-type] # checked there
        nifti=nifti,
        marker_frames=marker_frames,
    )
    kept = "; what is finished is kept, the same command goes on from there"
    with show_progress("simulating", "frames", when_interrupted=kept) as progress:
        written = write_simulated(output, settings, workers=workers, progress=progress)
    out.print(f"written to {written}", soft_wrap=True, highlight=False)


def _print_report(report: AuditReport, deep: bool) -> None:
    document = report.as_json()
    hint = "" if deep else " (frames were not decoded; --deep does)"
    out.print(f"[bold]{escape(report.path)}[/bold]: {document['status']}{hint}\n", soft_wrap=True, highlight=False)
    if report.counts:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, count in report.counts.items():
            shown = (
                ", ".join(f"{key} {value}" for key, value in count.items()) if isinstance(count, dict) else str(count)
            )
            table.add_row(name.replace("_", " "), shown)
        out.print(table)
    for decision in report.findings.decisions.values():
        out.print(f"\n{decision.question} [bold]{escape(decision.answer)}[/bold]", highlight=False)
        out.print(Padding(escape(decision.evidence), (0, 0, 0, 2)), highlight=False)
    if report.calibration is not None:
        _print_refits(report.calibration)
    _print_problems(report)


def _print_refits(refits: "list[Refit]") -> None:
    out.print("\nDo the calibrations agree with the phantom frames that are here?", highlight=False)
    out.print("  A refit does not reproduce stored coefficients; compared is what they map to.", highlight=False)
    for refit in refits:
        used = refit.frames[0] if len(refit.frames) == 1 else f"{len(refit.frames)} frames"
        detail = "see below" if refit.outcome == "not fitted" else refit.detail  # the problem says why, at length
        said = (f" ({used})" if refit.frames else "") + (f": {detail}" if detail else "")
        line = f"  {refit.table} {refit.id} {refit.plane} [bold]{refit.outcome}[/bold]{escape(said)}"
        out.print(line, soft_wrap=True, highlight=False)


def _print_problems(report: AuditReport) -> None:
    by_kind: dict[tuple[bool, str], list[Any]] = {}
    for problem in report.findings.problems:
        by_kind.setdefault((not problem.structural, problem.kind), []).append(problem)
    for (usable, kind), problems in sorted(by_kind.items()):
        out.print(f"\n[bold]{kind}[/bold] ({len(problems)}{'' if usable else ', makes the archive unusable'})")
        for problem in problems:
            out.print(f"  {escape(str(problem))}", soft_wrap=True, highlight=False)


def _print_counts(counts: dict[str, dict[str, Any]]) -> None:
    table = Table(
        "configuration", "rows", "rejected", "without pose", "left out", box=None, header_style="bold", pad_edge=False
    )
    for config, count in counts.items():
        rows = ", ".join(f"{split} {number}" for split, number in count["rows"].items())
        rejected = ", ".join(f"{reason} {number}" for reason, number in count["rejected"].items()) or "0"
        table.add_row(config, rows, rejected, str(count["without_pose"]), str(count["filtered"]))
    out.print(table)


# Last, as --help lists commands in this order.
app.add_typer(calibrate_app, name="calibrate")
app.command()(show)
app.command()(predict)
app.command()(register)
app.command("check-labels")(check_labels)
app.command()(report)
app.command("push-dataset")(push_dataset)
app.command("push-model")(push_model)
