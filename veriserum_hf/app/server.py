"""The workbench's server: its page, images and sockets, on one port."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

from websockets.asyncio.server import ServerConnection, serve as serve_sockets
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from veriserum_hf.app.access import Access
from veriserum_hf.app.responses import SCENE_POLICY, Responses
from veriserum_hf.app.room import Room
from veriserum_hf.app.scene import SceneServer, first_offered
from veriserum_hf.app.trials import OpenFrame
from veriserum_hf.app.workbench import Workbench
from veriserum_hf.errors import MatchError
from veriserum_hf.jobs import way_out

_SCENE, _SCENE_SOCKET = "/scene", "/scene/socket"
_IMAGE = re.compile(r"/image/(?P<id>\d{1,18})/(?P<plane>bs|fs)\.png")
_MOST_BYTES = 4_000_000  # of a message of any page
Talk = Callable[[ServerConnection], Awaitable[None]]


def serve(workbench: Workbench, host: str, port: int, token: str, ready: Callable[[str], None]) -> None:
    """Serve the workbench until the program is interrupted.

    Parameters
    ----------
    workbench : what all pages share.
    host, port : to listen on; port 0 is any that is free.
    token : see `veriserum_hf.app.access.Access`.
    ready : called with the address of the page.

    Raises
    ------
    MatchError
        If the port is in use, or other machines could reach the server and there is no token.

    """
    asyncio.run(_serve(workbench, Access(host, token), port, ready))


async def _serve(workbench: Workbench, access: Access, port: int, ready: Callable[[str], None]) -> None:
    room = Room(workbench)
    server = Server(
        access,
        Responses(),
        pages={"/": "index.html"},
        talks={"/socket": room.talk, _SCENE_SOCKET: room.relay_scene},
        frame=lambda id: frame if (frame := workbench.session.frame).place.measurement_id == id else None,
    )
    workbench.session.shapes.changed = partial(server.soon, room.show_prepared)
    try:
        await server.run(port, ready)
    finally:
        room.close()


class Server:
    """Requests and sockets of pages; made where the server's loop runs.

    Parameters
    ----------
    access : who may talk to it.
    responses : how requests are answered.
    pages : file of each page, by its path.
    talks : what serves a socket, by its path.
    frame : whose images are shown, by measurement id; None where they are not.

    """

    def __init__(
        self,
        access: Access,
        responses: Responses,
        *,
        pages: Mapping[str, str],
        talks: Mapping[str, Talk],
        frame: Callable[[int], OpenFrame | None],
    ) -> None:
        self._access, self._responses = access, responses
        self._pages, self._talks, self._frame = pages, talks, frame
        self._loop = asyncio.get_running_loop()

    async def run(self, port: int, ready: Callable[[str], None]) -> None:
        """Listen until cancelled; see `serve`."""
        logger = logging.getLogger("veriserum_hf.app.sockets")
        logger.setLevel(logging.ERROR)
        # Browsers open connections in advance, and close those that they do not use.
        logger.addFilter(lambda record: record.getMessage() != "opening handshake failed")
        try:
            server = await serve_sockets(
                self._talk,
                self._access.host,
                port,
                process_request=self._answer,
                select_subprotocol=first_offered,
                max_size=_MOST_BYTES,
                compression=None,
                logger=logger,
            )
        except OSError as error:
            hint = way_out(error) or "give another --port, or 0 for any that is free"
            raise MatchError(
                f"cannot listen on {self._access.host}:{port}: {error.strerror or error}; {hint}"
            ) from error
        async with server:
            found = next(iter(server.sockets)).getsockname()[1]
            shown = f"[{self._access.host}]" if ":" in self._access.host else self._access.host
            token = f"?token={quote(self._access.token)}" if self._access.token else ""
            ready(f"http://{shown}:{found}/{token}")
            # Not `serve_forever`, which from Python 3.12 on waits for open pages before it lets them be closed.
            await self._loop.create_future()

    def soon(self, do: Callable[[], None]) -> None:
        """Call a function where the server runs, from another thread."""
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(do)

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request; None lets a socket open."""
        path = urlsplit(request.path).path
        page = path in self._pages or path.startswith("/page/")  # it holds nothing of the data
        why = self._access.refuses_name(request.headers)
        if page and not why:
            return self._responses.file(self._pages.get(path, Path(path).name))
        socket = path in self._talks
        if why := why or self._access.refuses(request.path, request.headers, socket=socket):
            return self._responses.forbidden(why)
        if socket:
            return None
        if path == _SCENE and _SCENE_SOCKET in self._talks:
            return self._responses.found(SceneServer.page(), "text/html", SCENE_POLICY)
        return self._image(path)

    def _image(self, path: str) -> Response:
        """Image of a frame, as /image/MEASUREMENT/PLANE.png."""
        if asked := _IMAGE.fullmatch(path):
            frame, plane = self._frame(int(asked["id"])), asked["plane"]
            if frame is not None and plane in frame.views:
                return self._responses.found(frame.png(plane), "image/png")  # type: ignore[arg-type]
        return self._responses.missing()

    async def _talk(self, connection: ServerConnection) -> None:
        """Serve one socket until its page goes away."""
        with suppress(ConnectionClosed):
            await self._talks[urlsplit(connection.request.path if connection.request else "").path](connection)
