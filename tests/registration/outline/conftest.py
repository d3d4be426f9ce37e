"""One frame of both implants, drawn in 256 px with meshes of few triangles, with exact poses."""

import numpy as np
import pytest

from tests.registration.scenes import drawn, rig_of, transform
from veriserum_hf.core.domain import PLANES
from veriserum_hf.registration.frame import Frame
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.scene import View


@pytest.fixture(scope="session")
def row(rows, coarse_meshes):
    """Semi-transparent implants."""
    return drawn(rows[1], coarse_meshes, rig_of(rows[1]), 256)


@pytest.fixture(scope="session")
def true_poses(row):
    """Poses of femur and tibia, (2, 4, 4)."""
    return np.stack([transform(row[name]) for name in ("femur", "tibia")])


@pytest.fixture(scope="session")
def frame_of(true_poses, coarse_meshes):
    """Frame of a row, at exact poses or others."""

    def made(row, T=true_poses, planes=PLANES, parts=("femur", "tibia")):
        views = {plane: View.from_row(np.asarray(row[f"image_{plane}"]), row[f"camera_{plane}"]) for plane in planes}
        implants = {name: Implant(row[name]["anatomy_id"], coarse_meshes[row[name]["anatomy_id"]]) for name in parts}
        return Frame(views, implants, np.asarray(T))

    return made


@pytest.fixture(scope="session")
def frame(frame_of, row):
    return frame_of(row)
