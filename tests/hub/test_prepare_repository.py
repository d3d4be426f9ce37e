"""What is looked at before hours of work for a push: `prepare_repository`."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tests.hub.server import TOKEN
from veriserum_hf.errors import HubError
from veriserum_hf.hub.push import prepare_repository, push_folder

NAME = "my-lab/things"


def prepare(name=NAME):
    prepare_repository(name, repo_type="model", version="1.0.0")


def push(folder, **options):
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Things\n")
    files = [Path("README.md")]
    return push_folder(folder, NAME, **{"repo_type": "model", "files": files, "version": "1.0.0"} | options)


def test_it_makes_an_empty_private_repository_that_a_push_fills(online, tmp_path):
    prepare()
    prepare()
    made = online.repository(NAME, "models")
    assert made.private and made.tags == {} and made.head.files.keys() <= {".gitattributes"}
    assert push(tmp_path).uploaded == ["README.md"]


def test_an_earlier_version_makes_room_for_the_next(online, tmp_path):
    push(tmp_path, version="0.9.0")
    prepare()
    assert online.repository(NAME, "models").tags.keys() == {"0.9.0"}


def test_a_version_that_exists_is_reported(online, tmp_path):
    push(tmp_path)
    with pytest.raises(
        HubError,
        match=r"my-lab/things has a version 1\.0\.0 already\. Nothing was changed: choose another name, or push",
    ):
        prepare()


def test_other_content_is_reported(online):
    HfApi(token=TOKEN).create_repo(NAME, repo_type="model", private=True)
    HfApi(token=TOKEN).upload_file(path_or_fileobj=b"other", path_in_repo="other.txt", repo_id=NAME)
    with pytest.raises(HubError, match=r"holds files that do not belong to this push: other\.txt"):
        prepare()


def test_a_public_repository_is_reported(online):
    HfApi(token=TOKEN).create_repo(NAME, repo_type="model", private=False)
    with pytest.raises(HubError, match=r"is public\. Confirm with --public"):
        prepare()


def test_a_token_that_may_not_write_there_is_reported(online):
    with pytest.raises(HubError, match=r"does not allow creating another-lab/things \(403: "):
        prepare("another-lab/things")
    online.fail(refuse_token=True)
    with pytest.raises(HubError, match=r"does not accept the token \(401: "):
        prepare()
    assert online.repository(NAME, "models") is None
