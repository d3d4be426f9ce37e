"""A file appears whole or not at all."""

import pytest

from veriserum_hf.jobs.folder import write_file


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.txt"
    for content in ("first", b"second"):
        write_file(path, content)
    assert path.read_bytes() == b"second" and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_put_in_place_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "a.txt", "content")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").is_dir()


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "none" / "a.txt", "content")
