"""Comparison of the files to push with those on the hub, by content."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from veriserum_hf.hub.connection import Connection


@dataclass(frozen=True)
class FileToPush:
    """One file to push; its digests are computed once, on first use.

    Attributes
    ----------
    path : in the repository.
    source : the file, or its content.

    """

    path: str
    source: Path | bytes

    @cached_property
    def size(self) -> int:
        """Size, bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """Digest by which the hub identifies large files."""
        return self._digest(hashlib.sha256())

    @cached_property
    def git_blob_id(self) -> str:
        """Digest by which git identifies small files."""
        return self._digest(hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False))

    def _digest(self, digest: "hashlib._Hash") -> str:
        if isinstance(self.source, bytes):
            digest.update(self.source)
            return digest.hexdigest()
        with self.source.open("rb") as file:
            return hashlib.file_digest(file, lambda: digest).hexdigest()

    def is_same(self, found: RepoFile | None) -> bool:
        """Whether the hub's file has the same content."""
        if found is None or found.size != self.size:
            return False
        return found.lfs.sha256 == self.sha256 if found.lfs else found.blob_id == self.git_blob_id

    def addition(self) -> CommitOperationAdd:
        """Return the commit operation that adds this file."""
        operation = CommitOperationAdd(self.path, self.source)
        operation.upload_info.sha256 = bytes.fromhex(self.sha256)
        return operation


@dataclass(frozen=True)
class State:
    """Content of the repository at one commit, and the commits of its tags."""

    commit: str
    private: bool
    files: dict[str, RepoFile]
    tags: dict[str, str]

    def missing(self, files: Sequence[FileToPush]) -> list[FileToPush]:
        """Files that the repository lacks, or holds with other content."""
        return [file for file in files if not file.is_same(self.files.get(file.path))]


def look(hub: Connection, revision: str) -> State | None:
    """Return the content of the repository, or None if there is none."""
    try:
        info = hub.api.repo_info(hub.repo_id, repo_type=hub.repo_type, revision=revision)
    except RepositoryNotFoundError as error:
        if error.response.status_code == 401:
            raise
        return None
    tree = hub.api.list_repo_tree(hub.repo_id, recursive=True, revision=info.sha, repo_type=hub.repo_type)
    refs = hub.api.list_repo_refs(hub.repo_id, repo_type=hub.repo_type)
    return State(
        commit=info.sha or "",
        private=bool(info.private),
        files={entry.path: entry for entry in tree if isinstance(entry, RepoFile)},
        tags={tag.name: tag.target_commit for tag in refs.tags},
    )
