"""Endpoints of the loopback hub that make and change repositories.

None waits for anything between looking at a repository and saving it, so none can lose what another one saves.
"""

import base64
import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.hub.access import ORGANISATION, USER, Access, Refusal
from tests.hub.store import Entry

_LARGE_BYTES = 10_000_000
_BINARY = {".parquet", ".arrow", ".safetensors", ".bin", ".png", ".jpg", ".stl"}


class Writing(Access):
    """Repositories, uploads, commits, tags."""

    async def create(self, request: Request) -> Response:
        if not self._is_member(request):
            raise Refusal(401, "Invalid username or password.")
        body = await request.json()
        namespace, kind = body.get("organization") or USER, f"{body.get('type') or 'model'}s"
        if namespace not in (USER, ORGANISATION):
            raise Refusal(403, f"You don't have the rights to create a {kind[:-1]} under the namespace {namespace!r}")
        id = f"{namespace}/{body['name']}"
        answer = {"url": f"{request.base_url}{'datasets/' if kind == 'datasets' else ''}{id}", "name": id}
        if self.store.load(kind, id):
            return JSONResponse(answer | {"error": "You already created this repo"}, 409)
        self.store.create(kind, id, private=body.get("visibility") == "private" or bool(body.get("private")))
        return JSONResponse(answer)

    async def settings(self, request: Request) -> Response:
        body = await request.json()
        repository = self._repository(request, write=True)
        repository.private = body["visibility"] == "private" if "visibility" in body else body["private"]
        self.store.save(repository)
        return JSONResponse({"private": repository.private})

    async def preupload(self, request: Request) -> Response:
        repository = self._repository(request, write=True)
        files, answered = (await request.json())["files"], []
        for file in files:
            there = repository.head.files.get(file["path"])
            sample = base64.b64decode(file.get("sample", ""))
            lfs = Path(file["path"]).suffix in _BINARY or file["size"] > _LARGE_BYTES or b"\0" in sample
            mode = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            answered.append(mode | ({"oid": there.etag} if there else {}))
        return JSONResponse({"files": answered})

    async def lfs_batch(self, request: Request) -> Response:
        self._repository(request, write=True)
        body, objects = await request.json(), []
        for object in body["objects"]:
            answer = {"oid": object["oid"], "size": object["size"]}
            if not self.store.object(object["oid"]).exists():
                address = f"{request.base_url}_lfs/{object['oid']}"
                upload, verify = {"href": f"{address}?signature={self.signature}"}, {"href": f"{address}/verify"}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        return JSONResponse({"transfer": "basic", "objects": objects}, media_type="application/vnd.git-lfs+json")

    async def upload(self, request: Request) -> Response:
        if request.query_params.get("signature") != self.signature:
            raise Refusal(403, "the address is not signed")
        content = await request.body()
        if self.store.put(content, lfs=True).sha256 != request.path_params["oid"]:
            raise Refusal(400, "the content does not have this SHA-256")
        return Response()

    async def verify(self, request: Request) -> Response:
        object = self.store.object(request.path_params["oid"])
        if not self._is_member(request) or not object.exists():
            raise Refusal(404, "no such object")
        if object.stat().st_size != (await request.json())["size"]:
            raise Refusal(422, "the object has another size")
        return JSONResponse({})

    async def commit(self, request: Request) -> Response:
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        repository = self._repository(request, write=True)
        if self._commit_of(request, repository) is not repository.head:
            raise Refusal(400, "only main can be committed to")
        header = next(line["value"] for line in lines if line["key"] == "header")
        if not repository.head.id.startswith(header.get("parentCommit") or ""):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.head.files)
        for line in lines:
            self._apply(line["key"], line["value"], files)
        made = repository.add_commit(header["summary"], files)
        self.store.save(repository)
        address = f"{request.base_url}{'datasets/' if repository.kind == 'datasets' else ''}{repository.id}"
        return JSONResponse({"success": True, "commitOid": made.id, "commitUrl": f"{address}/commit/{made.id}"})

    def _apply(self, key: str, value: dict[str, Any], files: dict[str, Entry]) -> None:
        """Apply one line of a commit."""
        if key == "file":
            files[value["path"]] = self.store.put(base64.b64decode(value["content"]), lfs=False)
        elif key == "lfsFile":
            if not self.store.object(value["oid"]).exists():
                raise Refusal(400, f"LFS object {value['oid']} of {value['path']} was not uploaded")
            files[value["path"]] = self.store.pointer(value["oid"])
        elif key in ("deletedFile", "deletedFolder"):
            gone = [p for p in files if p == value["path"] or p.startswith(f"{value['path'].rstrip('/')}/")]
            if not gone:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            for path in gone:
                del files[path]

    async def tag(self, request: Request) -> Response:
        name = (await request.json())["tag"]
        repository = self._repository(request, write=True)
        if name in repository.tags:
            raise Refusal(409, f"Tag {name} already exists")
        repository.tags[name] = self._commit_of(request, repository).id
        self.store.save(repository)
        return JSONResponse({})
