"""Simulated frames with holders, as a laboratory has them: raw frames of 800 rows corrected to 512 px."""

from functools import partial

import pyarrow.parquet as pq
import pytest
import trimesh

from tests.fixtures.made_once import made_once
from tests.registration.scenes import coarse, pose, smaller, transform
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

_CHOSEN = (1, 5, 7)  # both femoral components, the smallest and largest tibial ones


@pytest.fixture(scope="session")
def knees(tmp_path_factory):
    """Archive of seven trials of one frame."""
    settings = Settings(trials=7, frames_per_trial=1, seed=4, height_px=800, marker_frames=0)
    return made_once(tmp_path_factory, "knees", partial(simulate, settings=settings, workers=1))


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """Two trials of three frames, with coarse implants; not to be changed."""
    return made_once(tmp_path_factory, "coarse_knees", _with_coarse_implants)


def _with_coarse_implants(folder):
    simulate(folder, Settings(trials=2, frames_per_trial=3, seed=4, height_px=800, marker_frames=0), workers=1)
    for file in folder.rglob("*.stl"):
        coarse(trimesh.load_mesh(file)).export(file)


@pytest.fixture(scope="session")
def dataset(archive, tmp_path_factory):
    """The archive in 256 px, which take half the time of 512."""
    return _converted(archive, tmp_path_factory, 256, "target")


@pytest.fixture(scope="session")
def coarse_dataset(archive, tmp_path_factory):
    """For what is compared with itself, and not with the truth."""
    return _converted(archive, tmp_path_factory, 128)


@pytest.fixture(scope="session")
def short_trials(knees, tmp_path_factory):
    """Seven trials of one frame, for what does not depend on what is found."""
    return _converted(knees, tmp_path_factory, 64)


def _converted(archive, tmp_path_factory, size, *configs):
    options = {"configs": ("calibrated", "anatomies", *configs), "options": Options(size=size), "workers": 1}
    return made_once(tmp_path_factory, f"{archive.name}_{size}_px", partial(convert_archive, archive, **options))


@pytest.fixture(scope="session")
def rows(knees):
    """Three frames of 512 px, ordered by measurement; their poses are exact."""
    exact = {
        (row["measurement_id"], row["component"]): pose(row["anatomy_id"], transform(row))
        for row in pq.read_table(knees / "truth.parquet").to_pylist()
    }
    source = open_rows(str(knees), ("target",), archive_px=512)
    found = []
    for frames in source.splits.values():
        ids = frames.table("measurement_id")["measurement_id"].to_pylist()
        for row in frames.taken([index for index, id in enumerate(ids) if id in _CHOSEN]).read():
            found.append(row | {name: exact[row["measurement_id"], name] for name in ("femur", "tibia")})
    return sorted(found, key=lambda row: row["measurement_id"])


@pytest.fixture(scope="session")
def small_rows(rows):
    """The same frames in 256 px: registered in half the time, if less exactly."""
    return [smaller(row, 256) for row in rows]


@pytest.fixture(scope="session")
def meshes(knees):
    """Implants by anatomy id."""
    return open_rows(str(knees), ("target",), archive_px=512).meshes


@pytest.fixture(scope="session")
def coarse_meshes(meshes):
    """The same implants, for what takes long and need not be exact."""
    return {id: coarse(mesh) for id, mesh in meshes.items()}
