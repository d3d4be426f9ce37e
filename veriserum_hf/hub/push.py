"""Push a folder to a repository of the hub; a push can be interrupted, and nothing incomplete is published.

Files are uploaded in commits of bounded size, each on top of the state that was read, and files that exist already
are skipped: an interrupted push resumes where it stopped. The card is uploaded last, in the last commit; then the
version becomes a tag, and only then the repository is made public, if requested.

A later version replaces the earlier one file by file: until its last commit, ``main`` contains files of both, also if
the push is interrupted. The tag of the earlier version is not affected.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import yaml
from huggingface_hub import RepoCard
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

from veriserum_hf.core import listed
from veriserum_hf.errors import HubError
from veriserum_hf.hub.connection import Connection, RepoType, UnreachableError, connect, page
from veriserum_hf.hub.contents import FileToPush, State, look

CARD = "README.md"
_MOST_FILES_OF_COMMIT = 50
_MOST_BYTES_OF_COMMIT = 2_000_000_000
_MADE_BY_THE_HUB = {".gitattributes"}
_GONE = "{url} has disappeared during the push. Run the same command again."


@dataclass(frozen=True)
class Pushed:
    """Result of a push, or of a dry run.

    Attributes
    ----------
    repo_id : ``ORG/NAME``.
    url : of the repository's page.
    revision : commit that the version's tag is on; empty after a dry run that found something to upload.
    uploaded : paths that were missing on the hub, or had other content.
    already_there : paths with the same content on the hub.
    not_compared : why a dry run lists every file without a look at the hub; empty if it was compared.

    """

    repo_id: str
    url: str
    revision: str
    uploaded: list[str]
    already_there: list[str]
    not_compared: str = ""


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    repo_type: RepoType,
    files: Sequence[Path],
    version: str,
    card: str | None = None,
    made: Mapping[str, bytes] | None = None,
    public: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Pushed:
    """Push files of a folder, or resume an interrupted push.

    Parameters
    ----------
    folder : of the files.
    repo_id : ``ORG/NAME``; created, private, if it does not exist.
    repo_type : ``dataset`` or ``model``.
    files : relative to the folder, in the order of upload; the card is always uploaded last.
    version : becomes a tag.
    card : text of the card, if it is not the folder's README.md.
    made : content of further files, by their path in the repository.
    public : make the repository public when the upload is complete.
    dry_run : only compare; nothing is created or changed on the hub. Without a token or a connection, every file
        is listed.
    progress : called with the number of files on the hub and of all files.

    Raises
    ------
    HubError
        If there is no token, the hub does not accept it, the name is invalid, the repository holds anything else,
        the version exists with other content, or the connection keeps failing.

    """
    to_push = _to_push(folder, files, card, made or {})
    try:
        hub = connect(repo_id, repo_type)
    except UnreachableError as error:
        if not dry_run:
            raise
        return Pushed(repo_id, page(repo_id, repo_type), "", [file.path for file in to_push], [], str(error))
    hub.with_retries(partial(_validate, to_push[-1].source, repo_type), "checking the card of")
    state = hub.with_retries(partial(look, hub, "main"), "reading")
    if state is not None:
        _check_visibility(hub, state, public)
        _check_contents(hub, state, to_push)
        if version in state.tags:
            return _finished(hub, state, to_push, version, public, dry_run)
    todo = [file.path for file in (to_push if state is None else state.missing(to_push))]
    already_there = [file.path for file in to_push if file.path not in todo]
    if dry_run:
        return Pushed(repo_id, hub.url, "", todo, already_there)
    with _quiet_hub():
        if state is None:
            _create(hub)
        push = partial(_push_some, hub, to_push, version, public)
        while left := hub.with_retries(push, "uploading to"):
            if progress:
                progress(len(to_push) - left, len(to_push))
    if progress:
        progress(len(to_push), len(to_push))
    revision = hub.with_retries(partial(_tag, hub, to_push, version), "tagging")
    _publish(hub, public)
    return Pushed(repo_id, hub.url, revision, todo, already_there)


def prepare_repository(repo_id: str, *, repo_type: RepoType, version: str) -> None:
    """Create an empty private repository, or check that an existing one accepts a new version, before a long run.

    Raises
    ------
    HubError
        If there is no token or it may not write there, or `push_folder` would refuse the repository.

    """
    hub = connect(repo_id, repo_type)
    state = hub.with_retries(partial(look, hub, "main"), "reading")
    if state is None:
        _create(hub)
        return
    if version in state.tags:
        raise HubError(
            f"{hub.url} has a version {version} already. Nothing was changed: choose another name, or push to it "
            "later, with another --version."
        )
    _check_visibility(hub, state, public=False)
    if not state.tags:  # then it must be empty
        _check_contents(hub, state, [])


def _create(hub: Connection) -> None:
    create = partial(hub.api.create_repo, hub.repo_id, repo_type=hub.repo_type, private=True, exist_ok=True)
    hub.with_retries(create, "creating")


def _to_push(folder: Path, files: Sequence[Path], card: str | None, made: Mapping[str, bytes]) -> list[FileToPush]:
    """Files in the order of upload."""
    names = [PurePosixPath(path).as_posix() for path in files]
    others = [name for name in dict.fromkeys(names) if name != CARD]
    read = [folder / name for name in (*others, *([CARD] if card is None else []))]
    unread = [path.relative_to(folder) for path in read if not (path.is_file() and os.access(path, os.R_OK))]
    if unread:
        raise HubError(f"{folder} has no {listed(unread, 5)} that can be read; nothing was pushed")
    return [
        *(FileToPush(name, folder / name) for name in others if name not in made),
        *(FileToPush(name, content) for name, content in made.items()),
        FileToPush(CARD, folder / CARD if card is None else card.encode()),
    ]


def _validate(card: Path | bytes, repo_type: RepoType) -> None:
    """Refuse a card that the hub would refuse, before anything is uploaded."""
    try:
        text = (card if isinstance(card, bytes) else card.read_bytes()).decode()
        RepoCard(text).validate(repo_type=repo_type)
    except (ValueError, yaml.YAMLError) as error:
        raise HubError(
            f"{CARD} is not as the hub expects it: {_complaints(str(error))}. Nothing was pushed"
        ) from None


def _complaints(answer: str) -> str:
    """Messages of the hub's answer about a card, which may be plain text."""
    try:
        return "; ".join(problem["message"] for problem in json.loads(answer)["errors"])
    except (ValueError, KeyError, TypeError):
        return answer.strip()


def _check_visibility(hub: Connection, state: State, public: bool) -> None:
    if not state.private and not public:
        raise HubError(f"{hub.url} is public. Confirm with --public, or make it private there; nothing was changed")


def _check_contents(hub: Connection, state: State, files: Sequence[FileToPush]) -> None:
    """Refuse a repository that holds anything but an earlier push."""
    others = sorted(state.files.keys() - {file.path for file in files} - _MADE_BY_THE_HUB)
    if others:
        raise HubError(
            f"{hub.url} holds files that do not belong to this push: {listed(others, 5)}. Nothing was changed: "
            "choose another name, or remove them there."
        )
    if state.tags:  # an earlier version, which may differ from this one
        return
    # Without one, it may hold only files of an interrupted push, with the same content.
    different = [file.path for file in state.missing(files) if file.path in state.files]
    if different:
        raise HubError(
            f"{hub.url} holds other content under the same names: {listed(different, 5)}. Nothing was changed: "
            "choose another name, or remove them there."
        )


def _finished(
    hub: Connection, state: State, files: Sequence[FileToPush], version: str, public: bool, dry_run: bool
) -> Pushed:
    """Return the result of the same push if it is complete already."""
    commit = state.tags[version]
    tagged = state if commit == state.commit else hub.with_retries(partial(look, hub, commit), "reading")
    if tagged is None:
        raise HubError(_GONE.format(url=hub.url))
    if different := [file.path for file in tagged.missing(files)]:
        raise HubError(
            f"{hub.url} has a version {version} already, with other content: {listed(different, 5)}. Nothing was "
            "changed: give another version, or delete that tag there."
        )
    if not dry_run:
        _publish(hub, public)
    return Pushed(hub.repo_id, hub.url, commit, [], [file.path for file in files])


def _push_some(hub: Connection, files: Sequence[FileToPush], version: str, public: bool) -> int:
    """Upload the next files in one commit; return how many were missing before, 0 if all are uploaded.

    Each call reads the state first: a commit whose answer was lost is not repeated.
    """
    state = look(hub, "main")
    if state is None:
        raise HubError(_GONE.format(url=hub.url))
    _check_visibility(hub, state, public)
    _check_contents(hub, state, files)
    missing = state.missing(files)
    if missing:
        batch = _first_batch(missing)
        hub.api.create_commit(
            hub.repo_id,
            [file.addition() for file in batch],
            commit_message=f"{version}: {len(files) - len(missing) + len(batch)} of {len(files)} files",
            repo_type=hub.repo_type,
            parent_commit=state.commit,
        )
    return len(missing)


def _first_batch(files: Sequence[FileToPush]) -> list[FileToPush]:
    """Return as many of the first files as fit in one commit, at least one."""
    batch, size = [files[0]], files[0].size
    for file in files[1:_MOST_FILES_OF_COMMIT]:
        size += file.size
        if size > _MOST_BYTES_OF_COMMIT:
            break
        batch.append(file)
    return batch


def _tag(hub: Connection, files: Sequence[FileToPush], version: str) -> str:
    """Tag the head, which holds every file; return its commit."""
    state = look(hub, "main")
    if state is None or state.missing(files):
        raise HubError(f"{hub.url} was changed by somebody else during the push. Run the same command again.")
    if version not in state.tags:
        hub.api.create_tag(hub.repo_id, tag=version, revision=state.commit, repo_type=hub.repo_type)
    return state.tags.get(version, state.commit)


def _publish(hub: Connection, public: bool) -> None:
    """Make a complete repository public, if requested."""
    if public:
        settings = partial(hub.api.update_repo_settings, hub.repo_id, repo_type=hub.repo_type, private=False)
        hub.with_retries(settings, "publishing")


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Suppress progress bars of huggingface_hub, and its messages on retries, which hold signed addresses."""
    bars, verbosity = not are_progress_bars_disabled(), logging.get_verbosity()
    disable_progress_bars()
    if verbosity == logging.WARNING:  # otherwise the user has chosen another level
        logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            enable_progress_bars()
