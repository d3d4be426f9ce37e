"""``veriserum audit`` as a user runs it: exit status, and what goes where."""

import json

import pytest

from tests.cli.commands import run
from tests.fixtures.archives import FRAMES_FOLDER
from tests.jobs.processes import run_here


def test_a_clean_archive_gives_status_0_counts_and_decisions(pristine):
    done = run_here("audit", pristine.root)
    assert done.returncode == 0
    assert f"{pristine.root}: clean" in done.stdout
    assert "measurements" in done.stdout and "Which id names a frame?" in done.stdout
    assert done.stderr.strip() == ""


def test_a_deep_audit_states_the_share_of_clipped_pixels(pristine):
    done = run_here("audit", pristine.root, "--deep")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert "How much of the frames is clipped (saturated or underexposed, share of the field)?" in text
    assert "fs: median 0.0%, 95th percentile 0.0%, maximum 0.0%; above 5 % in 0 of 12 frames" in text


def test_problems_give_status_1_and_name_file_and_row(download):
    download.frame("fs_000005").write_bytes(b"")
    download.sql("UPDATE poses SET tx = NULL WHERE id = 5")
    done = run_here("audit", download.root)
    assert done.returncode == 1
    assert f"{download.root}: problems" in done.stdout
    assert f"{FRAMES_FOLDER}/fs_000005.jpg: the file is empty" in done.stdout
    assert "veriserumSqlite3_refined.db, table poses, id 5: translation (tx, ty, tz) is (nan," in done.stdout


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("DROP TABLE trials", "veriserumSqlite3_refined.db: there is no table trials"),
        (
            "UPDATE poses SET tx = 'abc' WHERE id = 9",
            "table poses, column tx, row 9 (id 9): found 'abc', expected a number",
        ),
    ],
)
def test_an_unusable_archive_gives_status_2_and_names_file_and_row(download, damage, text):
    download.sql(damage)
    done = run_here("audit", download.root)
    assert done.returncode == 2
    assert f"{download.root}: unusable" in done.stdout and text in done.stdout


def test_every_problem_is_listed_and_counted(download):
    download.sql("UPDATE poses SET tx = NULL WHERE NOT obsolete")
    done = run_here("audit", download.root)
    assert "pose not finite (50, makes the archive unusable)" in done.stdout
    assert done.stdout.count("translation (tx, ty, tz) is (nan") == 50


@pytest.mark.parametrize(
    ("damage", "status"), [("", 0), ("UPDATE poses SET tx = NULL WHERE id = 5", 1), ("DROP TABLE trials", 2)]
)
def test_json_is_one_document_on_standard_output_and_nothing_else(download, damage, status):
    download.sql(damage)
    done = run_here("audit", download.root, "--json", "--deep")
    assert done.returncode == status
    document = json.loads(done.stdout)
    assert document["status"] == ("clean", "problems", "unusable")[status]
    assert document["archive"] == str(download.root)


def test_progress_goes_to_standard_error(download):
    done = run("audit", download.root, "--deep", "--json", FORCE_COLOR="1")
    assert json.loads(done.stdout)["status"] == "clean"
    assert "decoding" in done.stderr and "33/33" in done.stderr


def test_nothing_at_the_path_gives_status_2(tmp_path):
    done = run_here("audit", tmp_path / "nowhere")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"{tmp_path / 'nowhere'}: there is nothing here" in done.stdout
