"""Trials of Autoscoper: written and read back, of other versions and systems, and what is refused."""

import re

import pytest

from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import AutoscoperTrial, AutoscoperVolume, read_autoscoper, write_autoscoper

CFG = """# a comment
Version 1.2

mayaCam_csv Calibration/one cam.txt
mayaCam_csv ./Calibration/two.txt
CameraRootDir XMA_UND\\one
CameraRootDir XMA_UND/two/

VolumeFile Volumes/bone.tif
VolumeFlip 0 1 0
VoxelSize 0.4 0.4 0.625
MeshFile Models/bone.stl

RenderResolution 512 512
OptimizationOffsets 0.1 0.1 0.1 0.1 0.1 0.1
"""


def file(folder, text, name="trial.cfg"):
    path = folder / name
    path.write_text(text, newline="")
    return path


def test_paths_are_below_the_folder_of_the_file(tmp_path):
    trial = read_autoscoper(file(tmp_path, CFG.replace("\n", "\r\n")))
    assert trial.cameras == [tmp_path / "Calibration/one cam.txt", tmp_path / "Calibration/two.txt"]
    assert trial.images == [tmp_path / "XMA_UND/one", tmp_path / "XMA_UND/two"]
    (bone,) = trial.volumes
    assert (bone.path, bone.mesh) == (tmp_path / "Volumes/bone.tif", tmp_path / "Models/bone.stl")
    assert (bone.voxel_size_mm, bone.flip) == ((0.4, 0.4, 0.625), (False, True, False))


def test_a_trial_is_written_as_it_is_read(tmp_path):
    volumes = [AutoscoperVolume(tmp_path / f"{name}.tif", (0.1, 0.2, 1 / 3), (True, False, True)) for name in "ab"]
    trial = AutoscoperTrial([tmp_path / "c1.txt"], [tmp_path.parent / "frames"], volumes)
    write_autoscoper(tmp_path / "new.cfg", trial)
    found = read_autoscoper(tmp_path / "new.cfg")
    assert [each.resolve() for each in found.images] == trial.images
    assert (found.cameras, found.volumes) == (trial.cameras, trial.volumes)
    for wrong in (AutoscoperTrial([], trial.images), AutoscoperTrial([], [], [volumes[0], read_mesh(volumes[1])])):
        with pytest.raises(CalibrationError, match="expected a folder for each camera, and meshes for all volumes"):
            write_autoscoper(tmp_path / "wrong.cfg", wrong)


def read_mesh(volume):
    return AutoscoperVolume(volume.path, volume.voxel_size_mm, mesh=volume.path)


def test_files_without_volumes_flips_or_version_are_read(tmp_path):
    old = "mayaCam_csv C:\\data\\one.txt\nCameraRootDir /data/one\nUnknown key\n"
    trial = read_autoscoper(file(tmp_path, old))
    assert str(trial.cameras[0]) == "C:\\data\\one.txt" and str(trial.images[0]) == "/data/one"
    assert trial.volumes == []
    write_autoscoper(tmp_path / "again.cfg", trial)
    assert read_autoscoper(tmp_path / "again.cfg").cameras == trial.cameras
    two = CFG.replace("VolumeFlip 0 1 0\n", "").replace("MeshFile Models/bone.stl\n", "")
    assert read_autoscoper(file(tmp_path, two)).volumes[0].flip == (False, False, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names 0 cameras .* and 0 folders of images"),
        (CFG.replace("CameraRootDir XMA_UND/two/\n", ""), "names 2 cameras .* and 1 folders of images"),
        (CFG.replace("1.2", "2.0"), "line 2: version '2.0'; expected 1.0, 1.1 or 1.2"),
        (CFG.replace("VoxelSize 0.4 0.4 0.625\n", ""), "names 1 volumes, 0 voxel sizes"),
        (CFG + "MeshFile b.stl\n", "1 flips and 2 meshes; expected .* meshes for all of them or none"),
        (CFG.replace("0.4 0.4 0.625", "0.4 0.4"), "line 11: '0.4 0.4' .*; expected three numbers"),
        (CFG.replace("0.4 0.4 0.625", "0.4 0.4 x"), "line 11: .*'x' is not a number"),
        (CFG.replace("0.4 0.4 0.625", "0.4 0.4 nan"), "line 11: .* three finite numbers"),
        (CFG.replace("0.4 0.4 0.625", "0.4 0.4 0"), "a VoxelSize is not positive"),
        ("\0", "is not text"),
    ],
)
def test_another_file_is_refused_by_what_is_wrong_with_it(tmp_path, text, message):
    path = file(tmp_path, text)
    with pytest.raises(CalibrationError, match=f"^{re.escape(str(path))}.*{message}"):
        read_autoscoper(path)
