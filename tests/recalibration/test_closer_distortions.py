"""Distortions beyond the lab's form: written beside its text, and used while they belong to it."""

import json
from dataclasses import replace

import pytest

from tests.recalibration.test_write_calibration import dump, files, fits, grid_frames  # noqa: F401 - a fixture
from veriserum_hf.calibration import PolynomialDistortion, grid_numbers, read_distortion
from veriserum_hf.core.domain import PLANES
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.frame_calibration import calibration_of_files
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.recalibration.write_calibration import write_distortion

TABLE = "veriserum_hf_distortion"


@pytest.fixture(scope="session")
def closer(fits):  # noqa: F811
    """The same fits, as if degree 9 had been chosen."""
    return {plane: replace(fit, chosen=fit.forms[-1]) for plane, fit in fits.items()}


def for_id_8(download):
    """Let the rows of the new calibration belong to one that poses use."""
    download.sql(f"UPDATE {TABLE} SET distortion_calibration_id = 8")
    download.sql(
        "UPDATE distortion_calibration SET distortion_result_bs = (SELECT distortion_result_bs FROM "
        "distortion_calibration WHERE id = 9), distortion_result_fs = (SELECT distortion_result_fs "
        "FROM distortion_calibration WHERE id = 9) WHERE id = 8"
    )


def test_the_closer_form_is_written_beside_the_labs_text_and_used(download, closer):
    before, fingerprint = dump(download.database), download.read().fingerprint()
    assert "distortion_form" not in download.read().decisions
    assert write_distortion(download.root, closer, {}) == 9
    after = dump(download.database)
    assert [line for line in after if line in before] == before
    archive = download.read()
    assert archive.problems == []
    assert archive.fingerprint() != fingerprint
    assert archive.stored_distortions[9] == {plane: closer[plane].distortion for plane in PLANES}
    assert archive.distortions[9] == {plane: closer[plane].chosen.distortion for plane in PLANES}
    assert archive.distortions[8] == archive.stored_distortions[8]
    decision = archive.decisions["distortion_form"]
    assert "distortion_calibration id 9 (bs: degree 9, fs: degree 9); the lab's text for 2 others" in decision.answer
    (row,) = download.rows(
        f"SELECT form, method, residual_mm_rms, stored_residual_mm_max FROM {TABLE} WHERE plane='bs'"
    )
    assert row[:2] == ("degree 9", "veriserum_hf")
    assert row[2:] == (closer["bs"].chosen.residual_mm_rms, closer["bs"].forms[0].residual_mm_max)


def test_one_plane_alone_may_have_it_in_csv_files_too(csv_download, fits, closer):  # noqa: F811
    before = files(csv_download.root)
    for id in (9, 10):
        assert write_distortion(csv_download.root, {"bs": fits["bs"], "fs": closer["fs"]}, {}) == id
    assert files(csv_download.root).keys() - before.keys() == {f"{TABLE}.csv"}
    archive = csv_download.read()
    assert archive.problems == []
    for id in (9, 10):
        assert archive.distortions[id] == {"bs": fits["bs"].distortion, "fs": closer["fs"].chosen.distortion}


def test_without_a_closer_form_there_is_no_table(download, fits):  # noqa: F811
    write_distortion(download.root, fits, {})
    assert not [line for line in dump(download.database) if TABLE in line]


def test_rows_and_conversions_use_it_and_state_it(download, closer, tmp_path):
    write_distortion(download.root, closer, {})
    for_id_8(download)
    archive = download.read()
    assert archive.problems == []
    plan = make_plan(archive, Options(config="raw"))
    texts = {text for table in plan.splits.values() for text in table["distortion_bs"].to_pylist()}
    assert closer["bs"].chosen.distortion.to_string() in texts
    result = convert_archive(download.root, tmp_path / "converted", configs=("raw",), workers=1)
    record = json.loads((result.output / "conversion.json").read_text())
    answer = record["decisions"]["distortion_form"]["answer"]
    assert "distortion_calibration id 8 (bs: degree 9, fs: degree 9)" in answer
    assert answer in (result.output / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "stated"),
    [
        ("UPDATE distortion_calibration SET distortion_result_bs = distortion_result_fs WHERE id = 9", "was changed"),
        (f"UPDATE {TABLE} SET distortion = '1;2' WHERE plane = 'bs'", "not JSON"),
        (f"UPDATE {TABLE} SET distortion = NULL WHERE plane = 'bs'", "not JSON"),
        (
            f"UPDATE {TABLE} SET distortion = replace(distortion, '\"center_px\": [8', '\"center_px\": [7') "
            "WHERE plane = 'bs'",
            "from where the lab's text maps them",
        ),
        (f"UPDATE {TABLE} SET residual_mm_max = 99 WHERE plane = 'bs'", "expected 0 to 10 mm"),
        (f"UPDATE {TABLE} SET plane = 'bs'", "2 rows belong to distortion_calibration id 9, bs"),
        (f"UPDATE {TABLE} SET plane = 'xs' WHERE plane = 'bs'", "plane 'xs', which is not there"),
        (f"UPDATE {TABLE} SET distortion_calibration_id = 77 WHERE plane = 'bs'", "id 77, plane 'bs', which is not"),
    ],
)
def test_a_row_that_does_not_belong_is_named_and_not_used(download, closer, change, stated):
    write_distortion(download.root, closer, {})
    download.sql(f"CREATE TABLE copied AS SELECT * FROM {TABLE}")
    download.sql(f"DROP TABLE {TABLE}")
    download.sql(f"ALTER TABLE copied RENAME TO {TABLE}")  # without what forbids such values
    download.sql(change)
    archive = download.read()
    problems = [problem for problem in archive.problems if problem.kind == "distortion not used"]
    assert problems and all(stated in problem.what for problem in problems)
    assert not any(problem.structural for problem in problems)
    assert archive.distortions[9]["bs"] == archive.stored_distortions[9]["bs"]
    if "2 rows" not in stated:
        assert isinstance(archive.distortions[9]["fs"], PolynomialDistortion)


def test_files_of_the_command_give_the_chosen_form(tmp_path, closer):
    path = tmp_path / "bs.json"
    path.write_text(json.dumps([{"frame": "x", "plane": "bs"} | grid_numbers(closer["bs"])]))
    assert read_distortion(path) == closer["bs"].chosen.distortion
    rig = tmp_path / "rig.json"
    rig.write_text(json.dumps({plane: {"principal_point_mm": [0, 0], "sid_mm": 1860} for plane in PLANES}))
    assert calibration_of_files([rig, path]).distortions == {"bs": closer["bs"].chosen.distortion}
