"""The loopback hub behaves as clients of huggingface.co expect: otherwise tests against it would show nothing."""

from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.faults import Fault
from tests.hub.server import TOKEN

REPOSITORY = "my-lab/notes"


@pytest.fixture
def api(online):
    api = HfApi()
    api.create_repo(REPOSITORY, repo_type="dataset", private=True)
    return api


def commit(api, content, **options):
    operations = [CommitOperationAdd(path, data) for path, data in content.items()]
    return api.create_commit(REPOSITORY, operations, commit_message="m", repo_type="dataset", **options).oid


def address(api, path):
    return f"{api.endpoint}/datasets/{REPOSITORY}/resolve/main/{path}"


def test_large_and_small_files_come_back_as_they_were(api, tmp_path):
    content = {"a/shard.parquet": bytes(range(256)) * 5000, "notes.md": b"# notes\n", "empty.jsonl": b""}
    commit(api, content)
    for path, data in content.items():
        assert Path(api.hf_hub_download(REPOSITORY, path, repo_type="dataset")).read_bytes() == data
    tree = {e.path: e for e in api.list_repo_tree(REPOSITORY, recursive=True, repo_type="dataset")}
    assert set(tree) == {"a", *content, ".gitattributes"}
    assert tree["a/shard.parquet"].lfs.size == tree["a/shard.parquet"].size == len(content["a/shard.parquet"])
    assert tree["notes.md"].lfs is None
    api.create_commit(REPOSITORY, [CommitOperationDelete("a/")], commit_message="m", repo_type="dataset")
    assert not api.file_exists(REPOSITORY, "a/shard.parquet", repo_type="dataset")


def test_a_long_tree_comes_in_pages(api):
    commit(api, {f"{i:04d}.txt": b"%d" % i for i in range(250)})
    assert len(list(api.list_repo_tree(REPOSITORY, repo_type="dataset"))) == 251


def test_a_part_of_a_file_can_be_requested(api):
    commit(api, {"shard.parquet": bytes(range(256))})
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx2.get(address(api, "shard.parquet"), headers=headers | {"Range": "bytes=10-19"})
    assert answer.status_code == 206
    assert answer.content == bytes(range(10, 20))
    assert answer.headers["Content-Range"] == "bytes 10-19/256"
    head = httpx2.head(address(api, "shard.parquet"), headers=headers)
    assert (head.status_code, head.headers["Content-Length"], head.headers["Accept-Ranges"]) == (200, "256", "bytes")
    assert len(head.headers["X-Repo-Commit"]) == 40


def test_a_commit_on_another_parent_is_refused(api):
    first = commit(api, {"a.txt": b"a"})
    second = commit(api, {"b.txt": b"b"}, parent_commit=first)
    with pytest.raises(HfHubHTTPError, match="412"):
        commit(api, {"c.txt": b"c"}, parent_commit=first)
    assert api.repo_info(REPOSITORY, repo_type="dataset").sha == second


def test_a_private_repository_is_for_the_right_token_alone(api):
    commit(api, {"a.txt": b"a"})
    stranger = HfApi(token=False)
    with pytest.raises(RepositoryNotFoundError):
        stranger.repo_info(REPOSITORY, repo_type="dataset")
    assert httpx2.get(address(api, "a.txt")).status_code == 401
    assert httpx2.get(address(api, "a.txt"), headers={"Authorization": "Bearer hf_wrong"}).status_code == 401
    api.update_repo_settings(REPOSITORY, private=False, repo_type="dataset")
    assert stranger.repo_info(REPOSITORY, repo_type="dataset").private is False
    with pytest.raises(HfHubHTTPError, match="401"):
        stranger.create_tag(REPOSITORY, tag="1.0.0", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="403"):
        api.create_repo("somebody-else/notes", repo_type="dataset")


def test_what_is_not_there_has_the_right_name(api):
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("my-lab/nothing", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info(REPOSITORY, repo_type="model")
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(REPOSITORY, revision="2.0.0", repo_type="dataset")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(REPOSITORY, "nothing.txt", repo_type="dataset")


def test_tags_stay_on_their_commit(api):
    first = commit(api, {"a.txt": b"a"})
    api.create_tag(REPOSITORY, tag="1.0.0", repo_type="dataset")
    commit(api, {"a.txt": b"other"})
    refs = api.list_repo_refs(REPOSITORY, repo_type="dataset")
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("1.0.0", first)]
    old = api.hf_hub_download(REPOSITORY, "a.txt", revision="1.0.0", repo_type="dataset")
    assert Path(old).read_text() == "a"
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(REPOSITORY, tag="1.0.0", repo_type="dataset")


def test_a_file_without_its_content_cannot_be_committed(api):
    line = {"path": "a.parquet", "algo": "sha256", "oid": "0" * 64, "size": 1}
    body = [{"key": "header", "value": {"summary": "m"}}, {"key": "lfsFile", "value": line}]
    answer = httpx2.post(
        f"{api.endpoint}/api/datasets/{REPOSITORY}/commit/main",
        content="\n".join(httpx2.Response(200, json=item).text for item in body),
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    assert answer.status_code == 400
    assert "was not uploaded" in answer.text


@pytest.mark.parametrize(
    ("yaml", "complaint"),
    [
        ("license: nobody-knows", "license"),
        ("license: other", "license_name"),
        ("task_categories: [flying]", "flying"),
        ("size_categories: [huge]", "huge"),
        ("configs: [{config_name: a}]", "data_files"),
        ("license: [", "Invalid YAML"),
    ],
)
def test_cards_are_validated(online, yaml, complaint):
    answer = httpx2.post(
        f"{online.url}/api/validate-yaml", json={"content": f"---\n{yaml}\n---\n# a\n", "repoType": "dataset"}
    )
    assert answer.status_code == 400
    assert complaint in answer.text
    DatasetCard("---\nlicense: mit\ntask_categories: [keypoint-detection]\n---\n# a\n").validate()


def test_the_switch_to_fail(api, hub):
    for how, expected in (("429", 429), ("500", 500)):
        hub.fail(Fault("whoami", how=(how,), times=1))
        with pytest.raises(HfHubHTTPError) as raised:
            api.whoami()
        assert raised.value.response.status_code == expected
        assert api.whoami()["name"] == "lab-member"
    for how, is_made in (("drop", False), ("lost", True)):
        hub.fail(Fault("tag", how=(how,), times=1))
        with pytest.raises(httpx2.TransportError):
            api.create_tag(REPOSITORY, tag=how, repo_type="dataset")
        assert (how in hub.repository(REPOSITORY).tags) is is_made
    hub.fail(Fault("whoami", every=3, how=("500",)))
    statuses = [httpx2.get(f"{hub.url}/api/whoami-v2").status_code for _ in range(6)]
    assert statuses == [401, 401, 500, 401, 401, 500]
    hub.fail(refuse_token=True)
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami()
