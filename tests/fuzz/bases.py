"""The good data that is mutated: made once, from the package's own simulation."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
import trimesh
import yaml
from scipy.spatial.transform import Rotation

from tests.fixtures.models import BACKBONE, HEAD
from tests.fixtures.studies import write_study
from tests.fuzz.cases import ANATOMIES, CALIBRATION, FRAMES
from tests.registration.scenes import coarse
from veriserum_hf.archive import VeriserumArchive
from veriserum_hf.calibration import phantoms
from veriserum_hf.dataset import convert_archive, open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.geometry import JOINTTRACK_AXES, Camera, make_transform, write_jointtrack, write_mayacam
from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseConfig, VeriserumPoseModel
from veriserum_hf.poses import poses_of_trajectory, write_poses, write_trajectory
from veriserum_hf.simulation import Settings, simulate

DATASET_PX = 64
SETTINGS = {
    "backbone_config": BACKBONE,
    **HEAD,
    "crop_size": 64,
    "map_size": 4,
    "batch_size": 8,
    "augmentation": {},
    "warmup_steps": 1,
    "max_train_steps": 1,
    "num_workers": 0,
}

PHANTOM_DATA = Path(phantoms.__file__).with_name("phantom_data")


def _archive(folder: Path, **changed: object) -> None:
    """Three trials of three frames, with the frames of the phantoms; coarse implants, which each case reads often."""
    given = {"trials": 3, "frames_per_trial": 3, "pairs": 2, "height_px": 400, "marker_frames": 1} | changed
    simulate(folder, Settings(**given), workers=1)  # type: ignore[arg-type]
    for file in (folder / ANATOMIES).iterdir():
        coarse(trimesh.load_mesh(file)).export(file)


def _as_jpeg(folder: Path, _: Path) -> None:
    _archive(folder)


def _as_tiff16(folder: Path, _: Path) -> None:
    _archive(folder, bit_depth=16)


def _as_csv(folder: Path, _: Path) -> None:
    _archive(folder, csv=True, rotation="euler")


def _as(suffix: str) -> Callable[[Path, Path], None]:
    """The JPEG archive with its frames stored in another format of 8 bits."""

    def make(folder: Path, jpeg: Path) -> None:
        shutil.copytree(jpeg, folder)
        for path in (folder / FRAMES).iterdir():
            cv2.imwrite(str(path.with_suffix(suffix)), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
            path.unlink()

    return make


def _dataset(folder: Path, _: Path) -> None:
    """A small converted data set in two formats, its poses, a model of its implants, settings of a training."""
    _archive(folder / "archive", trials=20, frames_per_trial=1, marker_frames=0, height_px=200)
    convert_archive(
        folder / "archive",
        folder / "dataset",
        configs=("calibrated", "raw", "anatomies"),
        options=Options(size=DATASET_PX),
        workers=1,
    )
    options = Options(size=DATASET_PX)
    convert_archive(folder / "archive", folder / "arrow", options=options, format="arrow", workers=1)
    shutil.copy(folder / "archive/truth.parquet", folder / "poses.parquet")
    shutil.rmtree(folder / "archive")
    implants = open_rows(str(folder / "dataset"), "anatomies")
    components = {row["anatomy_id"]: row["component"] for split in implants.splits.values() for row in split.rows}
    torch.manual_seed(0)
    small = HEAD | {"image_size": DATASET_PX, "locator_size": 32, "pooled_size": 32}
    anatomies = [{"id": id, "component": part} for id, part in sorted(components.items())]
    model = VeriserumPoseModel(VeriserumPoseConfig(backbone_config=BACKBONE, anatomies=anatomies, **small))
    model.set_anatomies({id: torch.tensor(np.array(mesh.vertices)) for id, mesh in implants.meshes.items()})
    model.save_pretrained(folder / "model")
    VeriserumImageProcessor(size=DATASET_PX).save_pretrained(folder / "model")
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))


def _unfinished(folder: Path, jpeg: Path) -> None:
    """An archive, and a conversion of it that was stopped before its last step."""
    from tests.fuzz.unfinished import convert_and_stop

    shutil.copytree(jpeg, folder / "archive")
    shutil.rmtree(folder / "archive" / CALIBRATION)
    convert_and_stop(folder / "archive", folder / "OUT")


def _options(folder: Path, _: Path) -> None:
    """Options of the smallest simulation."""
    folder.mkdir()
    options = {"trials": 1, "frames-per-trial": 1, "pairs": 1, "size": 100, "marker-frames": 0, "workers": 1}
    (folder / "options.json").write_text(json.dumps({f"--{name}": str(value) for name, value in options.items()}))


def _phantoms(folder: Path, jpeg: Path) -> None:
    """Frames of the phantoms alone, and a distortion that was fitted to one."""
    shutil.copytree(jpeg / CALIBRATION, folder)
    archive = VeriserumArchive(jpeg)
    (folder / "distortion.txt").write_text(list(archive.distortions.values())[-1]["bs"].to_string())
    for shipped, name in (("sipla_grid", "grid"), ("cylinder", "markers")):
        text = (PHANTOM_DATA / f"{shipped}.yaml").read_text()
        (folder / f"{name}.yaml").write_text(text)


def _formats(folder: Path, _: Path) -> None:
    """Poses of six frames and cameras, in the files of other programs."""
    folder.mkdir()
    turned = Rotation.random(6, rng=np.random.default_rng(1)).as_matrix()
    T = make_transform(turned, [(5.0, 60.0, 380.0 + frame) for frame in range(6)])
    camera = Camera([[3000.0, 0, 400], [0, 3010, 290], [0, 0, 1]], make_transform(turned[0], (10.0, -20.0, 900.0)))
    write_mayacam(folder / "camera.txt", camera, (600, 800))
    write_jointtrack(folder / "calibration.txt", Camera(np.diag([3000.0, 3000, 1]), JOINTTRACK_AXES), 512, 0.4)
    for name in ("femur.jts", "femur.tra"):
        write_trajectory(folder / name, T, camera)
    write_poses(folder / "poses.csv", poses_of_trajectory(T, "femur", 1, None))


def _study(folder: Path, jpeg: Path) -> None:
    """Own frames of two trials, with their YAML file."""
    options = Options(size=DATASET_PX, encoding="png")
    with TemporaryDirectory(dir=folder.parent) as made:
        out = convert_archive(jpeg, Path(made) / "out", options=options, workers=1).output
        write_study(folder, out)


def _stacks(folder: Path, jpeg: Path) -> None:
    """Frames of 128 x 96 px in DICOM files of each compression, and in TIFF files of three pages."""
    from PIL import Image

    from tests.fixtures.dicoms import write_every_compression

    folder.mkdir()
    paths = sorted((jpeg / FRAMES).iterdir())[:3]
    frames = np.stack(
        [cv2.resize(cv2.imread(str(path), 0), (128, 96), interpolation=cv2.INTER_AREA) for path in paths]
    )
    write_every_compression(folder, frames)
    first, *rest = (Image.fromarray(frame) for frame in frames)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "raw"):
        first.save(folder / f"{compression}.tif", save_all=True, append_images=rest, compression=compression)


#: By name: each fills a folder, given that of the JPEG archive, which is made first.
MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "jpeg": _as_jpeg,
    "png": _as(".png"),
    "tiff8": _as(".tif"),
    "tiff16": _as_tiff16,
    "csv": _as_csv,
    "dataset": _dataset,
    "unfinished": _unfinished,
    "phantoms": _phantoms,
    "stacks": _stacks,
    "options": _options,
    "study": _study,
    "formats": _formats,
}
