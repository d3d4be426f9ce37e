"""Who may see and change what on the loopback hub, and how it refuses."""

import secrets
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.hub.store import Commit, Repository, Store

USER, ORGANISATION = "lab-member", "my-lab"
TOKEN = "hf_aTokenThatIsKnownToTheTestsAlone"


class Refusal(Exception):  # noqa: N818
    """An answer that is no success."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


async def refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    headers = {"X-Error-Message": refusal.message} | ({"X-Error-Code": refusal.code} if refusal.code else {})
    return JSONResponse({"error": refusal.message}, refusal.status, headers)


class Access:
    """What all endpoints share: the store, and the token that opens it."""

    def __init__(self, folder: Path, token: str) -> None:
        self.store, self.token = Store(folder), token
        self.signature = secrets.token_hex(16)  # of addresses to upload to, which take no token

    def _is_member(self, request: Request) -> bool:
        """Whether the request has the right token; a wrong one is refused."""
        given = request.headers.get("authorization")
        if given is None:
            return False
        if given != f"Bearer {self.token}":
            raise Refusal(401, "Invalid credentials in Authorization header")
        return True

    def _repository(self, request: Request, *, write: bool = False) -> Repository:
        names, member = request.path_params, self._is_member(request)
        kind = names.get("kind") or ("datasets" if request.url.path.startswith("/datasets/") else "models")
        repository = self.store.load(kind, f"{names['namespace']}/{names['name']}")
        if not member and (repository is None or repository.private or write):
            raise Refusal(401, "Invalid username or password.", "RepoNotFound")
        own = names["namespace"] in (USER, ORGANISATION)
        if repository is None or (repository.private and not own):
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if write and not own:
            raise Refusal(403, "You don't have the rights to write to this repository")
        return repository

    def _commit_of(self, request: Request, repository: Repository) -> Commit:
        revision = request.path_params.get("revision", "main")
        commit = repository.commit(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit
