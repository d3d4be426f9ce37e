"""Endpoints of the loopback hub that change nothing."""

from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from tests.hub.access import ORGANISATION, USER, Access, Refusal
from tests.hub.cards import check_card
from tests.hub.store import Commit, Entry


class Reading(Access):
    """Repositories, trees, files."""

    async def whoami(self, request: Request) -> Response:
        if not self._is_member(request):
            raise Refusal(401, "Invalid username or password.")
        auth = {"type": "access_token", "accessToken": {"displayName": "tests", "role": "write"}}
        return JSONResponse({"type": "user", "name": USER, "orgs": [{"name": ORGANISATION}], "auth": auth})

    async def validate_yaml(self, request: Request) -> Response:
        body = await request.json()
        errors, warnings = check_card(body["content"], body["repoType"])
        answer = {name: [{"message": m} for m in m_s] for name, m_s in (("errors", errors), ("warnings", warnings))}
        return JSONResponse(answer, 400 if errors else 200)

    async def info(self, request: Request) -> Response:
        repository = self._repository(request)
        commit = self._commit_of(request, repository)
        siblings = [
            {"rfilename": path}
            | (
                {"size": e.size, "blobId": e.git_blob_id} | _lfs(e, "sha256")
                if "blobs" in request.query_params
                else {}
            )
            for path, e in sorted(commit.files.items())
        ]
        return JSONResponse(
            {
                "_id": repository.id,
                "id": repository.id,
                "author": repository.id.split("/")[0],
                "sha": commit.id,
                "private": repository.private,
                "siblings": siblings,
                "lastModified": commit.date,
                "createdAt": repository.commits[0].date,
                "tags": [],
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
            }
            | ({"modelId": repository.id} if repository.kind == "models" else {})
        )

    async def tree(self, request: Request) -> Response:
        commit = self._commit_of(request, self._repository(request))
        below = request.path_params.get("path", "").strip("/")
        recursive = request.query_params.get("recursive", "").lower() in ("true", "1")
        found: dict[str, dict[str, Any]] = {}
        for path, entry in sorted(commit.files.items()):
            inside = path.removeprefix(f"{below}/") if below else path
            if below and not path.startswith(f"{below}/"):
                continue
            parts = inside.split("/")
            for depth in range(1, len(parts) if recursive else min(2, len(parts))):
                folder = "/".join(filter(None, (below, *parts[:depth])))
                found[folder] = _folder(folder, commit)
            if recursive or len(parts) == 1:
                found[path] = _listed(path, entry, commit)
        if below and not found:
            raise Refusal(404, f"{below} does not exist on {commit.id}", "EntryNotFound")
        limit, first = int(request.query_params.get("limit", 100)), int(request.query_params.get("cursor", 0))
        page, headers = list(found.values())[first : first + limit], {}
        if len(found) > first + limit:
            headers["Link"] = f'<{request.url.include_query_params(cursor=first + limit)}>; rel="next"'
        return JSONResponse(page, headers=headers)

    async def paths_info(self, request: Request) -> Response:
        commit = self._commit_of(request, self._repository(request))
        is_json = "json" in request.headers.get("content-type", "")
        paths = (await request.json())["paths"] if is_json else (await request.form()).getlist("paths")
        found = []
        for path in [paths] if isinstance(paths, str) else paths:
            if path in commit.files:
                found.append(_listed(path, commit.files[path], commit))
            elif any(file.startswith(f"{path}/") for file in commit.files):
                found.append(_folder(path, commit))
        return JSONResponse(found)

    async def refs(self, request: Request) -> Response:
        repository = self._repository(request)
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.head.id}
        tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": id} for t, id in repository.tags.items()]
        return JSONResponse({"branches": [main], "converts": [], "tags": tags})

    async def commits(self, request: Request) -> Response:
        repository = self._repository(request)
        last = repository.commits.index(self._commit_of(request, repository))
        return JSONResponse(
            [
                {"id": c.id, "title": c.title, "message": "", "date": c.date, "authors": [{"user": USER}]}
                for c in repository.commits[last::-1]
            ]
        )

    async def resolve(self, request: Request) -> Response:
        commit = self._commit_of(request, self._repository(request))
        path = request.path_params["path"]
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        entry = commit.files[path]
        headers = {"X-Repo-Commit": commit.id, "ETag": f'"{entry.etag}"', "Accept-Ranges": "bytes"}
        if entry.lfs:
            headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
        return FileResponse(self.store.object(entry.sha256), headers=headers, media_type="application/octet-stream")


def _lfs(entry: Entry, digest: str) -> dict[str, Any]:
    return {"lfs": {digest: entry.sha256, "size": entry.size, "pointerSize": 134}} if entry.lfs else {}


def _listed(path: str, entry: Entry, commit: Commit) -> dict[str, Any]:
    last = {"id": commit.id, "title": commit.title, "date": commit.date}
    listed = {"type": "file", "path": path, "size": entry.size, "oid": entry.git_blob_id, "lastCommit": last}
    return listed | _lfs(entry, "oid")


def _folder(path: str, commit: Commit) -> dict[str, Any]:
    last = {"id": commit.id, "title": commit.title, "date": commit.date}
    return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40, "lastCommit": last}
