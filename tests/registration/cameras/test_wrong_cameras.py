"""A data set whose cameras are wrong, from its frames to refined cameras, and once more with these."""

import numpy as np
import pytest

from veriserum_hf.calibration import refined_cameras_json
from veriserum_hf.dataset import Options, convert_archive
from veriserum_hf.registration import refine_cameras
from veriserum_hf.simulation import Settings, simulate


@pytest.mark.slow
def test_wrong_cameras_improve_and_refined_ones_stay(tmp_path):
    settings = Settings(trials=3, frames_per_trial=10, height_px=512, fs_translation_mm=2.0, fs_rotation_deg=0.5)
    simulate(tmp_path / "archive", settings=settings, workers=1)
    options = Options(size=256)
    convert_archive(tmp_path / "archive", tmp_path / "OUT", options=options, workers=1)
    found = refine_cameras(str(tmp_path / "OUT"))
    for rig in found.rigs:
        assert rig.verdict == "improved", rig.details["reason"]
        misfits = rig.details["left_out_misfit_px"]
        assert misfits["after"] < 0.7 * misfits["before"]
    (tmp_path / "cameras.json").write_text(refined_cameras_json(found))
    cameras = tmp_path / "cameras.json"
    convert_archive(tmp_path / "archive", tmp_path / "REFINED", options=options, cameras=cameras, workers=1)
    again = refine_cameras(str(tmp_path / "REFINED"))
    for rig in again.rigs:
        assert rig.verdict == "no evidence", rig.details["reason"]
        for plane, camera in rig.after.items():
            np.testing.assert_array_equal(camera.world_to_camera, rig.before[plane].world_to_camera)
