"""`push_folder`: all or what is there so far, never other people's content, one clear message for what goes wrong."""

import hashlib
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from tests.hub.faults import Fault
from tests.hub.server import TOKEN
from veriserum_hf.errors import HubError
from veriserum_hf.hub.push import push_folder

NAME = "my-lab/things"
CARD = "---\nlicense: mit\n---\n# Things\n"


@pytest.fixture
def folder(tmp_path):
    """Twelve binary files, a text and a card."""
    made = tmp_path / "things"
    made.mkdir()
    for i in range(12):
        (made / f"part-{i:02d}.parquet").write_bytes(bytes([i]) * (1000 + i))
    (made / "notes.json").write_text('{"a": 1}')
    (made / "README.md").write_text(CARD)
    return made


@pytest.fixture(autouse=True)
def small_commits_and_short_waits(monkeypatch):
    monkeypatch.setattr("veriserum_hf.hub.push._MOST_FILES_OF_COMMIT", 4)
    monkeypatch.setattr("veriserum_hf.hub.connection._WAITS_S", (0.01,) * 4)


def push(folder, name=NAME, **options):
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return push_folder(folder, name, **{"repo_type": "dataset", "files": files, "version": "1.0.0"} | options)


def sha256_of(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def held(hub, name=NAME, revision="main"):
    """SHA-256 of each file on the hub's disk."""
    files = hub.repository(name).commit(revision).files
    return {
        path: hashlib.sha256(hub.store.object(entry.sha256).read_bytes()).hexdigest()
        for path, entry in files.items()
        if path != ".gitattributes"
    }


def test_it_is_all_there_private_tagged_and_the_card_came_last(online, folder):
    seen = []
    pushed = push(folder, progress=lambda *counts: seen.append(counts))
    repository = online.repository(NAME)
    assert held(online) == sha256_of(folder)
    assert repository.private is True
    assert repository.tags == {"1.0.0": pushed.revision} == {"1.0.0": repository.head.id}
    assert [len(commit.files) - 1 for commit in repository.commits] == [0, 4, 8, 12, 14]
    assert ["README.md" in commit.files for commit in repository.commits] == [False] * 4 + [True]
    assert sorted(pushed.uploaded) == sorted(sha256_of(folder))
    assert pushed.uploaded[-1] == "README.md"
    assert pushed.already_there == []
    assert pushed.url == f"{online.url}/datasets/{NAME}"
    assert seen[-1] == (14, 14)
    assert seen == sorted(seen)


def test_a_second_push_uploads_nothing_and_reports_it(online, folder):
    first = push(folder)
    before = len(online.requests())
    again = push(folder)
    assert again.uploaded == []
    assert sorted(again.already_there) == sorted(first.uploaded)
    assert again.revision == first.revision
    methods = {(request["method"], str(request["path"])) for request in online.requests()[before:]}
    assert {path for method, path in methods if method != "GET"} == {"/api/validate-yaml"}


def test_a_dry_run_changes_nothing(online, folder):
    would = push(folder, dry_run=True)
    assert sorted(would.uploaded) == sorted(sha256_of(folder))
    assert online.repository(NAME) is None
    push(folder)
    assert push(folder, dry_run=True).uploaded == []
    (folder / "notes.json").write_text("{}")
    would = push(folder, version="1.1.0", dry_run=True)
    assert would.uploaded == ["notes.json"]
    assert len(would.already_there) == 13
    assert set(online.repository(NAME).tags) == {"1.0.0"}


def test_a_model_and_a_card_made_for_the_push(online, folder):
    pushed = push(folder, repo_type="model", files=[Path("notes.json")], card=CARD + "made for the hub\n")
    assert pushed.url == f"{online.url}/{NAME}"
    repository = online.repository(NAME, "models")
    assert online.store.object(repository.head.files["README.md"].sha256).read_text() == CARD + "made for the hub\n"


@pytest.mark.parametrize("step", ["create", "upload", "commit", "tag", "whoami"])
def test_what_passes_by_itself_does_not_end_a_push(online, folder, step, monkeypatch):
    """Also a request that was done but not answered, which must not be done twice."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    how = ("429", "500") if step == "whoami" else ("drop", "429", "500", "lost")
    online.fail(Fault(step, how=how, times=len(how)))
    push(folder)
    assert held(online) == sha256_of(folder)
    assert [len(commit.files) - 1 for commit in online.repository(NAME).commits] == [0, 4, 8, 12, 14]
    assert set(online.repository(NAME).tags) == {"1.0.0"}
    assert sum(request["fault"] is not None for request in online.requests()) == len(how)


def test_where_the_hub_keeps_failing_uploads_are_kept_without_the_card(online, folder):
    def fail_from_now(done, total):
        online.fail(Fault("commit", how=("500",)))

    with pytest.raises(HubError) as raised:
        push(folder, progress=fail_from_now)
    assert str(raised.value) == (
        f"uploading to {NAME} failed: {online.url} answered 500 (injected fault). Uploaded files are kept; run "
        "the same command again to resume."
    )
    assert sorted(held(online)) == ["notes.json", "part-00.parquet", "part-01.parquet", "part-02.parquet"]
    online.fail()
    pushed = push(folder)
    assert len(pushed.uploaded) == 10
    assert len(pushed.already_there) == 4
    assert held(online) == sha256_of(folder)


def test_a_hub_that_goes_away_is_a_message(online, folder):
    def drop_from_now(done, total):
        online.fail(Fault("commit", how=("drop",)))

    with pytest.raises(HubError, match=r"the connection to http.* failed repeatedly \(\w+: .+\)\. Uploaded files"):
        push(folder, progress=drop_from_now)


def test_it_is_made_public_when_all_is_there_and_not_before(online, folder):
    private = []
    push(folder, public=True, progress=lambda *_: private.append(online.repository(NAME).private))
    assert set(private) == {True}
    assert online.repository(NAME).private is False
    with pytest.raises(HubError, match=r"is public\. Confirm with --public, or make it private there; nothing was"):
        push(folder)
    assert push(folder, public=True).uploaded == []


def test_a_private_version_can_be_published_later(online, folder):
    push(folder)
    assert push(folder, public=True).uploaded == []
    assert online.repository(NAME).private is False


def test_other_content_is_never_touched(online, folder):
    api = HfApi()
    api.create_repo(NAME, repo_type="dataset")
    api.upload_file(path_or_fileobj=b"precious", path_in_repo="thesis.txt", repo_id=NAME, repo_type="dataset")
    with pytest.raises(HubError) as raised:
        push(folder, public=True)
    assert str(raised.value) == (
        f"{online.url}/datasets/{NAME} holds files that do not belong to this push: thesis.txt. Nothing was changed: "
        "choose another name, or remove them there."
    )
    assert list(held(online)) == ["thesis.txt"]


@pytest.mark.parametrize("name", ["part-03.parquet", "README.md"])
def test_other_content_under_the_same_name_is_never_touched(online, folder, name):
    api = HfApi()
    api.create_repo(NAME, repo_type="dataset", private=True)
    api.upload_file(path_or_fileobj=b"precious", path_in_repo=name, repo_id=NAME, repo_type="dataset")
    with pytest.raises(HubError, match=rf"holds other content under the same names: {name}\. Nothing was changed"):
        push(folder)
    assert list(held(online)) == [name]


def test_what_somebody_else_adds_meanwhile_stops_it(online, folder):
    def add(done, total):
        HfApi().upload_file(path_or_fileobj=b"precious", path_in_repo="thesis.txt", repo_id=NAME, repo_type="dataset")

    with pytest.raises(HubError, match=r"holds files that do not belong to this push: thesis\.txt"):
        push(folder, progress=add)
    assert "README.md" not in held(online)


def test_two_pushes_of_the_same_at_once_end_as_one(online, folder):
    pushed = push(folder, progress=lambda done, total: push(folder))
    assert held(online) == sha256_of(folder)
    assert len(online.repository(NAME).commits) == 5
    assert online.repository(NAME).tags == {"1.0.0": pushed.revision}


def test_another_version_is_another_tag_and_the_old_one_stays(online, folder):
    push(folder)
    old = sha256_of(folder)
    (folder / "part-03.parquet").write_bytes(b"better")
    with pytest.raises(HubError) as raised:
        push(folder)
    assert str(raised.value) == (
        f"{online.url}/datasets/{NAME} has a version 1.0.0 already, with other content: part-03.parquet. Nothing was "
        "changed: give another version, or delete that tag there."
    )
    pushed = push(folder, version="1.1.0")
    assert pushed.uploaded == ["part-03.parquet"]
    assert held(online) == sha256_of(folder)
    assert held(online, revision="1.0.0") == old


def test_a_tag_that_could_not_be_made_is_made_by_the_next_push(online, folder):
    online.fail(Fault("tag", how=("500",)))
    with pytest.raises(HubError, match=f"tagging {NAME} failed"):
        push(folder)
    online.fail()
    assert push(folder).uploaded == []
    assert set(online.repository(NAME).tags) == {"1.0.0"}


@pytest.mark.parametrize("name", ["things", "my-lab/things/more", "my lab/things", "/things", "my-lab/", ""])
def test_a_name_without_a_namespace_is_refused(online, folder, name):
    with pytest.raises(
        HubError, match=r"is not a valid repository name; expected a user or an organisation, a slash"
    ):
        push(folder, name=name)
    assert online.requests() == []


def test_no_token(online, folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError) as raised:
        push(folder)
    assert str(raised.value) == (
        f"there is no token for {online.url}. Log in with `hf auth login`, or set HF_TOKEN; a token with write "
        f"access is created at {online.url}/settings/tokens"
    )
    assert online.requests() == []


def test_a_wrong_token(online, folder):
    online.fail(refuse_token=True)
    with pytest.raises(HubError) as raised:
        push(folder)
    assert str(raised.value).startswith(f"{online.url} does not accept the token (401: ")
    assert TOKEN not in str(raised.value)
    online.fail()
    assert online.repository(NAME) is None


def test_a_namespace_of_somebody_else(online, folder):
    with pytest.raises(
        HubError, match=r"does not allow creating somebody-else/things \(403: You don't have the rights"
    ):
        push(folder, name="somebody-else/things")


def test_offline(online, folder, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"HF_HUB_OFFLINE is set, so http://.* is not contacted\. Unset it"):
        push(folder)


def test_no_hub_there(online, folder, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"cannot reach http://127\.0\.0\.1:9 \(.*\)\. Connect to the network"):
        push(folder)


@pytest.mark.parametrize(
    ("card", "complaint"),
    [
        (b"---\nlicense: nobody-knows\n---\n", '"license" must be one of'),
        (b"---\nlicense: [\n---\n", "while parsing"),
        (b"\xff\xfe", "can't decode"),
    ],
)
def test_a_card_that_the_hub_would_refuse_stops_it_before_anything_is_uploaded(online, folder, card, complaint):
    (folder / "README.md").write_bytes(card)
    with pytest.raises(HubError, match=rf"^README\.md is not as the hub expects it: (.|\n)*{complaint}"):
        push(folder)
    assert online.repository(NAME) is None


def test_a_file_that_is_not_there(online, folder):
    with pytest.raises(HubError, match=r"things has no lost\.bin that can be read; nothing was pushed"):
        push(folder, files=[Path("lost.bin")])
    assert online.requests() == []
