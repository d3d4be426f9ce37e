"""What the loopback hub keeps: repositories, their commits and tags, and the content of files by SHA-256."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path


@dataclass
class Entry:
    """One file of a commit."""

    sha256: str
    size: int
    git_blob_id: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_blob_id


@dataclass
class Commit:
    id: str
    title: str
    date: str
    files: dict[str, Entry]


@dataclass
class Repository:
    """One repository; the last commit is the head of ``main``."""

    kind: str
    id: str
    private: bool
    commits: list[Commit]
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def commit(self, revision: str) -> Commit | None:
        """The commit of a branch, tag or (shortened) id."""
        if revision in ("main", "refs/heads/main"):
            return self.head
        id = self.tags.get(revision.removeprefix("refs/tags/"), revision)
        return next((c for c in self.commits if len(id) >= 7 and c.id.startswith(id)), None)

    def add_commit(self, title: str, files: dict[str, Entry]) -> Commit:
        content = json.dumps([self.id, title, len(self.commits), {p: e.sha256 for p, e in files.items()}])
        id = hashlib.sha1(content.encode()).hexdigest()
        self.commits.append(Commit(id, title, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"), files))
        return self.head


class Store:
    """Everything below one folder; each file in it appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("repositories", "objects"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def _file(self, kind: str, id: str) -> Path:
        return self.folder / "repositories" / kind / f"{id}.json"

    def load(self, kind: str, id: str) -> Repository | None:
        try:
            stored = json.loads(self._file(kind, id).read_text())
        except FileNotFoundError:
            return None
        commits = [
            Commit(**c | {"files": {path: Entry(**e) for path, e in c["files"].items()}})
            for c in stored.pop("commits")
        ]
        return Repository(**stored, commits=commits)

    def save(self, repository: Repository) -> None:
        file = self._file(repository.kind, repository.id)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(repository)))
        partial.replace(file)

    def create(self, kind: str, id: str, private: bool) -> Repository:
        """A new repository, with the one file that the hub puts there."""
        repository = Repository(kind, id, private, [])
        attributes = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"
        repository.add_commit("initial commit", {".gitattributes": self.put(attributes, lfs=False)})
        self.save(repository)
        return repository

    def object(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256

    def put(self, content: bytes, *, lfs: bool) -> Entry:
        sha256 = hashlib.sha256(content).hexdigest()
        file = self.object(sha256)
        partial = file.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(file)
        return Entry(sha256, len(content), git_blob_id(content), lfs)

    def pointer(self, sha256: str) -> Entry:
        """Entry of an uploaded object: git knows its pointer only."""
        size = self.object(sha256).stat().st_size
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return Entry(sha256, size, git_blob_id(text.encode()), lfs=True)


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
