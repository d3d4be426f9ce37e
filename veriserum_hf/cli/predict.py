"""``veriserum predict``: arguments and exit statuses; the work is done in `inference`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.cli.options import AsJson, Cameras, SchedulerFile
from veriserum_hf.cli.output import KEPT, print_json, print_text, show_progress
from veriserum_hf.core import COMPONENTS, PLANES, Component, Engine, PlaneName, PoseFileRow
from veriserum_hf.errors import TrainingError
from veriserum_hf.jobs import dask_executor

_Model = Annotated[
    str,
    typer.Argument(help="Output folder of a training, released checkpoint, or model on the hub.", show_default=False),
]
_FrameBs = Annotated[
    Path | None,
    typer.Argument(
        metavar="BS", help="Raw frame of plane bs; with --archive, the file name is sufficient.", show_default=False
    ),
]
_FrameFs = Annotated[Path | None, typer.Argument(metavar="FS", help="Raw frame of plane fs.", show_default=False)]
_Calibration = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="JSON", help="Output of `calibrate rig --json` or `calibrate distortion --json`; repeatable."
    ),
]
_Femur = Annotated[
    int | None, typer.Option(help="Id of the femoral component, -1 if unknown; from the archive if not given.")
]
_Tibia = Annotated[
    int | None, typer.Option(help="Id of the tibial component, -1 if unknown; from the archive if not given.")
]
_FemurMesh = Annotated[
    Path | None,
    typer.Option(
        metavar="STL", help="Femoral component, mm, for a model that is given meshes; from the archive if not given."
    ),
]
_TibiaMesh = Annotated[Path | None, typer.Option(metavar="STL", help="Tibial component, likewise.")]
_Engine = Annotated[
    Engine,
    typer.Option(
        help="What runs the network: torch, on a GPU where there is one, or ONNX Runtime on the CPU (extra onnx). "
        "For that, the network is exported on first use, and compared with torch."
    ),
]
_Dataset = Annotated[str | None, typer.Option(help="Instead of BS FS: a converted folder, or a data set on the hub.")]
_Config = Annotated[str, typer.Option(help="With --dataset: its configuration; raw frames are corrected.")]
_Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="PARQUET", help="With --dataset: file to write.")
]


def predict(
    model: _Model,
    bs: _FrameBs = None,
    fs: _FrameFs = None,
    calibration: _Calibration = None,
    archive: Annotated[Path | None, typer.Option(help="Archive that contains the frames, or the ids below.")] = None,
    source_id: Annotated[int | None, typer.Option(help="Source calibration of frames not in the archive.")] = None,
    distortion_id: Annotated[int | None, typer.Option(help="Distortion of frames not in the archive.")] = None,
    femur: _Femur = None,
    tibia: _Tibia = None,
    femur_mesh: _FemurMesh = None,
    tibia_mesh: _TibiaMesh = None,
    dataset: _Dataset = None,
    config: _Config = "calibrated",
    split: Annotated[str, typer.Option(help="With --dataset: its split, train, validation, test or all.")] = "all",
    cameras: Cameras = None,
    batch_size: Annotated[int, typer.Option(min=1, help="With --dataset: frames per batch.")] = 16,
    engine: _Engine = "torch",
    output: _Output = None,
    scheduler_file: SchedulerFile = None,
    as_json: AsJson = False,
) -> None:
    r"""Predict the poses of both implants in one raw frame, or in every frame of a data set.

    Poses map points of the implant's STL file (mm) to the world frame (mm). The poses of a data set are written to a
    Parquet file with the columns of an archive's truth.parquet. Poses are not verified against the images: see their
    confidence. With --scheduler-file, run an interrupted prediction again with the same command to resume it.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum predict RUN --dataset OUT --split test --output predicted.parquet
    veriserum predict RUN bs_000001.jpg fs_000001.jpg --archive ARCHIVE --json
    veriserum predict RUN bs.tif fs.tif --calibration rig.json \
        --calibration bs_grid.json --calibration fs_grid.json
    """
    of_one_frame = {
        "BS": bs,
        "--calibration": calibration,
        "--archive": archive,
        "--source-id": source_id,
        "--distortion-id": distortion_id,
        "--femur": femur,
        "--tibia": tibia,
        "--femur-mesh": femur_mesh,
        "--tibia-mesh": tibia_mesh,
    }
    _check_one_of([name for name, value in of_one_frame.items() if value is not None], dataset)
    if dataset is not None:
        _predict_dataset(model, dataset, config, split, cameras, batch_size, engine, output, scheduler_file, as_json)
        return
    if cameras is not None:
        raise TrainingError("--cameras needs --dataset; a single frame is predicted with its --calibration")
    if scheduler_file is not None:
        raise TrainingError("--scheduler-file needs --dataset; a single frame is predicted here")
    if output is not None:
        raise TrainingError("--output needs --dataset; the poses of one frame are printed, see --json")
    paths: dict[PlaneName, Path] = {plane: path for plane, path in zip(PLANES, (bs, fs), strict=True) if path}
    meshes: dict[Component, Path] = {
        name: file for name, file in zip(COMPONENTS, (femur_mesh, tibia_mesh), strict=True) if file
    }
    ids = (source_id, distortion_id)
    rows = _predict_frame(model, paths, calibration, archive, ids, (femur, tibia), meshes, engine)
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            print_text(_line(row))


def _check_one_of(given: Sequence[str], dataset: str | None) -> None:
    """Refuse options of one frame together with a data set, or neither."""
    if (dataset is None) == ("BS" not in given) or (dataset is not None and given):
        raise TrainingError(
            "give either the raw frames BS and FS with --archive or --calibration, or --dataset with --output; got "
            f"{', '.join([*given, *(['--dataset'] if dataset is not None else [])]) or 'neither'}"
        )


def _predict_frame(
    name: str,
    paths: Mapping[PlaneName, Path],
    calibration: list[Path] | None,
    archive: Path | None,
    ids: tuple[int | None, int | None],
    anatomy_ids: tuple[int | None, int | None],
    meshes: Mapping[Component, Path],
    engine: Engine,
) -> "list[PoseFileRow]":
    from veriserum_hf.archive import VeriserumArchive
    from veriserum_hf.dataset import calibration_of_archive, calibration_of_files, files_of_archive, frame_of_files
    from veriserum_hf.inference import OnnxModel, frame_shapes, load_model, predict_frames

    if (archive is None) == (not calibration):
        raise TrainingError(
            "give the calibration of the frames in one way: --archive PATH, or --calibration FILE, the output of "
            "`veriserum calibrate rig --json` and `veriserum calibrate distortion --json`"
        )
    if archive is None and ids != (None, None):
        raise TrainingError("--source-id and --distortion-id are ids of an archive: give --archive PATH too")
    opened = None if archive is None else VeriserumArchive(archive)
    if opened is None:
        known = calibration_of_files(calibration or [])
    else:
        paths = files_of_archive(opened, paths)
        known = calibration_of_archive(opened, paths, *ids)
    model = load_model(name, "cpu")  # for one frame, a GPU costs more time to initialise than it saves
    frame = frame_of_files(paths, known, model.config.image_size)
    frame["anatomy_id"] = [
        found if given is None else given for found, given in zip(known.anatomy_id, anatomy_ids, strict=True)
    ]
    if model.config.implants == "mesh":
        frame["implant_points"], frame["implant_axes"] = frame_shapes(opened, frame["anatomy_id"], meshes)
    elif meshes:
        raise TrainingError(
            f"the model {name} knows its implants by their ids: remove --femur-mesh and --tibia-mesh, or take a "
            "model that is given meshes"
        )
    return next(predict_frames(OnnxModel(model) if engine == "onnx" else model, [frame], 1))


def _predict_dataset(
    name: str,
    dataset: str,
    config: str,
    split: str,
    cameras: Path | None,
    batch_size: int,
    engine: Engine,
    output: Path | None,
    scheduler_file: Path | None,
    as_json: bool,
) -> None:
    from veriserum_hf.dataset import TRAINING_DATA, CamerasFile, check_trials, open_rows, trial_overlap
    from veriserum_hf.inference import (
        NamedImplants,
        OnnxModel,
        fit_to,
        load_model,
        predict_elsewhere,
        write_predictions,
    )

    if output is None:
        raise TrainingError("--dataset needs --output, the Parquet file to write")
    if not output.absolute().parent.is_dir():
        raise TrainingError(f"cannot write {output}: there is no folder {output.parent}")
    if output.is_file():
        raise TrainingError(f"{output} exists and was not changed; choose another output, or remove it")
    refined = None if cameras is None else CamerasFile.read(cameras)
    model = load_model(name, "cpu" if engine == "onnx" else None)
    run_by = OnnxModel(model) if engine == "onnx" else model
    rows = open_rows(dataset, config).checked(raw=True)
    if refined is not None:
        rows = rows.with_cameras(refined.cameras)
    frames = rows.joined(split)
    if refined is not None:
        check_trials(refined.cameras, frames.table("trial_id")["trial_id"].to_pylist())
    fit_to(model, frames, rows)
    about = {"model": name, "dataset": dataset, "config": config, "split": split}
    about |= {} if refined is None else refined.about
    overlap = trial_overlap(model.config.training_data, dataset, frames, split)
    kept = about | {TRAINING_DATA: json.dumps(model.config.training_data)}
    with (
        dask_executor(scheduler_file) as executor,
        show_progress("predicting", "frames", when_interrupted=KEPT if scheduler_file else "") as progress,
    ):
        if executor is None:
            poses = write_predictions(run_by, frames, output, about=kept, batch_size=batch_size, progress=progress)
        else:
            poses = predict_elsewhere(
                name,
                frames,
                output,
                about=kept,
                batch_size=batch_size,
                executor=executor,
                engine=engine,
                implants=NamedImplants.of(model),
                progress=progress,
            )
    if as_json:
        found = {"output": str(output), "frames": len(frames), "poses": poses, "training_overlap": overlap}
        print_json(about | found)
    else:
        print_text(f"{poses} poses of {len(frames)} frames written to {output}; {overlap['statement']}")


def _line(row: PoseFileRow) -> str:
    """One pose in one line."""
    translation = ", ".join(f"{value:.2f}" for value in row["translation_mm"])
    quaternion = ", ".join(f"{value:.5f}" for value in row["quaternion_xyzw"])
    stated = row.get("confidence")
    confidence = "none stated" if stated is None else f"{stated:.2f}"
    return (
        f"{row['component']} {row['anatomy_id']}: translation ({translation}) mm, quaternion xyzw ({quaternion}), "
        f"confidence {confidence}{', do not trust it' if row.get('trusted') is False else ''}, {row['verdict']}"
    )
