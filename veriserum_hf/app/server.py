"""The workbench's server: its page, images and sockets, on one port."""

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlsplit

from websockets.asyncio.server import ServerConnection, serve as serve_sockets
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from veriserum_hf.app.access import Access
from veriserum_hf.app.scene import SceneServer, first_offered
from veriserum_hf.app.workbench import ALL_PARTS, Workbench
from veriserum_hf.core import PLANES
from veriserum_hf.errors import MatchError, VeriserumError
from veriserum_hf.jobs import way_out

_PAGE = Path(__file__).with_name("page")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_SOCKET, _SCENE, _SCENE_SOCKET = "/socket", "/scene", "/scene/socket"
_PROGRESS_EVERY_S = 0.3
_MOST_BYTES = 100_000  # of a message of the page
# Nothing is loaded from anywhere else, and no other site shows the page in a frame. The 3-D scene brings its scripts
# and fonts inside its page.
_POLICY = "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; frame-ancestors 'self'"
_SCENE_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; connect-src 'self' blob: data:; "
    "frame-ancestors 'self'"
)


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
    server = _Server(workbench, Access(host, token))
    asyncio.run(server.run(port, ready))


class _Server:
    """Requests, and the pages that are connected."""

    def __init__(self, workbench: Workbench, access: Access) -> None:
        self._workbench, self._access = workbench, access
        self._pages: set[ServerConnection] = set()
        self._sent: dict[str, str] = {}  # JSON of each part, as all pages have it
        self._scene: SceneServer | None = None
        self._dragging: ServerConnection | None = None
        self._sharing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly

    async def run(self, port: int, ready: Callable[[str], None]) -> None:
        """Listen until cancelled."""
        logger = logging.getLogger("veriserum_hf.app.sockets")
        logger.setLevel(logging.ERROR)
        # Browsers open connections in advance, and close those that they do not use.
        logger.addFilter(lambda record: record.getMessage() != "opening handshake failed")
        self._loop = asyncio.get_running_loop()
        self._workbench.session.shapes.changed = self._prepared
        try:
            server = await serve_sockets(
                self._talk,
                self._access.host,
                port,
                process_request=self._answer,
                select_subprotocol=first_offered,
                max_size=None,
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
            try:
                await server.serve_forever()
            finally:
                if self._scene is not None:
                    self._scene.close()

    # Requests

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request; None lets a socket open."""
        path = urlsplit(request.path).path
        socket = path in (_SOCKET, _SCENE_SOCKET)
        page = path == "/" or path.startswith("/page/")  # it holds nothing of the data
        why = self._access.refuses_name(request.headers)
        if page and not why:
            return _file(_PAGE / ("index.html" if path == "/" else Path(path).name))
        if why := why or self._access.refuses(request.path, request.headers, socket=socket):
            return _response(HTTPStatus.FORBIDDEN, f"{why}\n".encode(), "text/plain")
        if socket:
            return None
        if path == _SCENE:
            return _response(HTTPStatus.OK, SceneServer.page(), "text/html", _SCENE_POLICY)
        return self._image(path)

    def _image(self, path: str) -> Response:
        """Image of the frame that is shown, as /image/MEASUREMENT/PLANE.png."""
        frame = self._workbench.session.frame
        for plane in PLANES:
            if plane in frame.views and path == f"/image/{frame.place.measurement_id}/{plane}.png":
                return _response(HTTPStatus.OK, frame.png(plane), "image/png")
        return _response(HTTPStatus.NOT_FOUND, b"there is no such page\n", "text/plain")

    # Sockets

    async def _talk(self, connection: ServerConnection) -> None:
        """Serve one socket until its page goes away."""
        with suppress(ConnectionClosed):
            if urlsplit(connection.request.path if connection.request else "").path == _SCENE_SOCKET:
                await self._open_scene().relay(connection)
            else:
                await self._talk_to_page(connection)

    async def _talk_to_page(self, connection: ServerConnection) -> None:
        self._pages.add(connection)
        try:
            for name in ALL_PARTS:
                await connection.send(_message(name, self._part(name)))
            async for text in connection:
                await self._do(connection, text)
        finally:
            self._pages.discard(connection)
            if self._dragging is connection:  # a page that went away in mid-drag: the implant stays where it is
                self._workbench.session.drop()
                await self._share(("poses",))

    async def _do(self, connection: ServerConnection, text: str | bytes) -> None:
        """Do what a page asks for; errors are said to that page alone."""
        number, why = None, ""
        parts = frozenset(("poses",))
        try:
            message = json.loads(text) if len(text) < _MOST_BYTES else None
            number = message.get("number") if isinstance(message, dict) else None
            self._dragging = connection if isinstance(message, dict) and message.get("do") == "drag" else None
            parts = self._workbench.do(message, self._ended)
        except (ValueError, RecursionError):
            why = "the page sent no JSON; reload it"
        except VeriserumError as error:
            why = str(error)
        if "refining" in parts:
            self._follow_refining()
        await self._share(parts)
        await connection.send(json.dumps({"done": number, "error": why}))

    def _ended(self) -> None:
        """Take over a registration that has ended, from another thread."""
        with suppress(RuntimeError):  # the server has ended, too
            self._loop.call_soon_threadsafe(self._refined)

    def _prepared(self) -> None:
        """Show an implant that has been prepared, from another thread."""
        with suppress(RuntimeError):  # the server has ended, too
            self._loop.call_soon_threadsafe(lambda: self._in_background(self._share(("frame", "poses", "trial"))))

    def _refined(self) -> None:
        """Take over a registration that has ended."""
        said, failed = "the registration ended by a mistake of the program, which its terminal shows", True
        try:
            said, failed = self._workbench.collect(), False
        except VeriserumError as error:
            said = str(error)
        finally:
            self._in_background(self._share(("poses", "trial", "refining"), said, failed=failed))

    def _follow_refining(self) -> None:
        async def follow() -> None:
            while self._workbench.part("refining")["what"] is not None:
                await self._share(("refining",))
                await asyncio.sleep(_PROGRESS_EVERY_S)

        self._in_background(follow())

    def moved_in_scene(self, move: Callable[[], None]) -> None:
        """Do what a gizmo asks for, from its own thread."""

        def do() -> None:
            with suppress(VeriserumError):  # the gizmo goes back to where the implant is
                move()
            self._in_background(self._share(("poses",)))

        self._loop.call_soon_threadsafe(do)

    async def _share(self, parts: Collection[str], said: str = "", *, failed: bool = False) -> None:
        """Send what has changed to every page."""
        async with self._sharing:  # a part that is older than another must not arrive after it
            changed = []
            for name in ALL_PARTS:
                if name in parts and (new := self._part(name)) != self._sent.get(name):
                    self._sent[name] = new
                    changed.append(_message(name, new))
            if said:
                changed.append(json.dumps({"said": said, "failed": failed}))
            for page in list(self._pages):
                with suppress(ConnectionClosed):
                    for each in changed:
                        await page.send(each)
            if self._scene is not None and changed:
                self._scene.show(self._workbench.session)

    def _part(self, name: str) -> str:
        return json.dumps(self._workbench.part(name), allow_nan=False)

    def _open_scene(self) -> SceneServer:
        if self._scene is None:
            self._scene = SceneServer(self.moved_in_scene)
            self._scene.show(self._workbench.session)
        return self._scene

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _message(part: str, document: str) -> str:
    return f'{{"part": "{part}", "document": {document}}}'


def _file(path: Path) -> Response:
    if not path.is_file():
        return _response(HTTPStatus.NOT_FOUND, b"there is no such page\n", "text/plain")
    return _response(HTTPStatus.OK, path.read_bytes(), _TYPES.get(path.suffix, "application/octet-stream"))


def _response(status: HTTPStatus, body: bytes, kind: str, policy: str = _POLICY) -> Response:
    headers = Headers()
    headers["Content-Type"] = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    headers["Content-Length"] = str(len(body))
    headers["Content-Security-Policy"] = policy
    headers["Cache-Control"] = "no-store"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, body)
