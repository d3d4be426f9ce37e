"""A row whose images show the shadows of its implants."""

import numpy as np
import pytest

from tests.fixtures import scene
from tests.fixtures.scene import FEMORAL_IDS, TIBIAL_IDS
from veriserum_hf import path_length
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.core.domain import PLANES
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.geometry import Camera
from veriserum_hf.geometry.pose import make_transform, quaternion_to_matrix

STORED_PX = 1600
PARTS = ("femur", "tibia")


@pytest.fixture(scope="package")
def meshes():
    return {id: scene.implant_mesh(id) for id in (*FEMORAL_IDS, *TIBIAL_IDS)}


@pytest.fixture(scope="package")
def row(tiny, meshes):
    """A row whose images show the shadows of its implants at its poses, dark on bright."""
    archive = VeriserumArchive(tiny.root)
    row = make_plan(archive, Options(size=STORED_PX)).splits["train"].slice(0, 1).to_pylist()[0]
    for plane in PLANES:
        shadow = np.zeros((STORED_PX, STORED_PX), bool)
        camera = Camera.from_row(row[f"camera_{plane}"], STORED_PX)
        for part in PARTS:
            T = make_transform(quaternion_to_matrix(row[part]["quaternion_xyzw"]), row[part]["translation_mm"])
            shadow |= path_length(meshes[row[part]["anatomy_id"]], T, camera, STORED_PX) > 0
        row[f"image_{plane}"] = np.where(shadow, 40, 200).astype(np.uint8)
    return row
