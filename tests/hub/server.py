"""A hub on 127.0.0.1 that speaks the protocol of huggingface.co as far as clients of data sets and models need it.

``python -m tests.hub.server FOLDER --port 0`` prints its address and serves what is in the folder; Xet it does not
speak (HF_HUB_DISABLE_XET=1). ``POST /_faults`` with a list of `tests.hub.faults.Fault` makes it fail,
``FOLDER/requests.jsonl`` lists every request that it was sent.
"""

import argparse
import asyncio
import secrets
import socket
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.hub.access import TOKEN, Refusal, refused
from tests.hub.faults import Fault, Faults
from tests.hub.reading import Reading
from tests.hub.writing import Writing


class Hub(Reading, Writing):
    """The endpoints."""

    def routes(self) -> list[Route]:
        api = "/api/{kind}/{namespace}/{name}"
        routes = [
            Route("/api/whoami-v2", self.whoami),
            Route("/api/repos/create", self.create, methods=["POST"]),
            Route("/api/validate-yaml", self.validate_yaml, methods=["POST"]),
            Route("/_lfs/{oid}", self.upload, methods=["PUT"]),
            Route("/_lfs/{oid}/verify", self.verify, methods=["POST"]),
            Route(f"{api}/preupload/{{revision:path}}", self.preupload, methods=["POST"]),
            Route(f"{api}/commit/{{revision:path}}", self.commit, methods=["POST"]),
            Route(f"{api}/tag/{{revision:path}}", self.tag, methods=["POST"]),
            Route(f"{api}/settings", self.settings, methods=["PUT"]),
            Route(f"{api}/refs", self.refs),
            Route(f"{api}/commits/{{revision:path}}", self.commits),
            Route(f"{api}/tree/{{revision}}", self.tree),
            Route(f"{api}/tree/{{revision}}/{{path:path}}", self.tree),
            Route(f"{api}/paths-info/{{revision:path}}", self.paths_info, methods=["POST"]),
            Route(f"{api}/revision/{{revision:path}}", self.info),
            Route(api, self.info),
        ]
        for prefix in ("/datasets", ""):
            resolve = f"{prefix}/{{namespace}}/{{name}}/resolve/{{revision}}/{{path:path}}"
            batch = f"{prefix}/{{namespace}}/{{name}}.git/info/lfs/objects/batch"
            routes += [
                Route(batch, self.lfs_batch, methods=["POST"]),
                Route(resolve, self.resolve, methods=["GET", "HEAD"]),
            ]
        return routes


class _Protocol(H11Protocol):
    """Lets the application cut its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        # asyncio does it for connections of its own sockets alone; without it, each answer takes 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}


def application(folder: Path, token: str = TOKEN) -> Faults:
    """The hub with its switch to fail."""
    hub = Hub(folder, token)

    async def set_faults(request: Request) -> Response:
        body = await request.json()
        faults.set([Fault(**rule) for rule in body["rules"]])
        hub.token = secrets.token_hex(8) if body.get("refuse_token") else token
        return JSONResponse({})

    routes = [Route("/_faults", set_faults, methods=["POST"]), *hub.routes()]
    faults = Faults(Starlette(routes=routes, exception_handlers={Refusal: refused}), folder / "requests.jsonl")
    return faults


def main() -> None:
    """Serve a folder until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--token", default=TOKEN, help="that may write")
    arguments = parser.parse_args()
    listening = socket.create_server(("127.0.0.1", arguments.port))
    config = uvicorn.Config(
        application(arguments.folder, arguments.token),
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_level="critical",
        timeout_keep_alive=3600,  # s; a request just when an idle connection is closed would fail unbidden
    )
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
