"""A workbench, and the pages that show it: each gets the parts of the document that have changed."""

import asyncio
import json
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from veriserum_hf.app.scene import SceneServer
from veriserum_hf.app.workbench import ALL_PARTS, Workbench
from veriserum_hf.errors import VeriserumError

_PROGRESS_EVERY_S = 0.3
_PATIENCE_S = 5.0  # with a page that takes nothing, such as that of a machine that sleeps
_MOST_BYTES = 100_000  # of a message of the page


class Room:
    """A workbench and its pages; made where the server's loop runs.

    Parameters
    ----------
    workbench : what all of them share.

    """

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        self._loop = asyncio.get_running_loop()
        self._pages: set[ServerConnection] = set()
        self._sent: dict[str, str] = {}  # JSON of each part, as all pages have it
        self._scene: SceneServer | None = None
        self._dragging: ServerConnection | None = None
        self._sharing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly

    def close(self) -> None:
        """End the 3-D scene, if there is one."""
        if self._scene is not None:
            self._scene.close()

    async def talk(self, connection: ServerConnection, idle_s: float | None = None) -> None:
        """Serve a page until it goes away, or raise TimeoutError where it asks for nothing for so long."""
        self._pages.add(connection)
        try:
            for name in ALL_PARTS:
                await connection.send(_message(name, self._part(name)))
            while True:
                async with asyncio.timeout(idle_s):
                    text = await connection.recv()
                await self._do(connection, text)
        finally:
            self._pages.discard(connection)
            if self._dragging is connection:  # a page that went away in mid-drag: the implant stays where it is
                self.workbench.session.drop()
                await self._share(("poses",))

    async def relay_scene(self, connection: ServerConnection) -> None:
        """Serve a 3-D scene; it begins when a page first asks for it."""
        if self._scene is None:
            self._scene = SceneServer(self._moved_in_scene)
            self._scene.show(self.workbench.session)
        await self._scene.relay(connection)

    async def _do(self, connection: ServerConnection, text: str | bytes) -> None:
        """Do what a page asks for; errors are said to that page alone."""
        number, why = None, ""
        parts = frozenset(("poses",))
        try:
            message = json.loads(text) if len(text) < _MOST_BYTES else None
            number = message.get("number") if isinstance(message, dict) else None
            self._dragging = connection if isinstance(message, dict) and message.get("do") == "drag" else None
            parts = self.workbench.do(message, self._ended)
        except VeriserumError as error:
            why = str(error)
        except (ValueError, RecursionError):
            why = "the page sent no JSON; reload it"
        if "refining" in parts:
            self._follow_refining()
        await self._share(parts)
        await connection.send(json.dumps({"done": number, "error": why}))

    def _ended(self) -> None:
        """Take over a registration that has ended, from another thread."""
        with suppress(RuntimeError):  # the server has ended, too
            self._loop.call_soon_threadsafe(self._refined)

    def _refined(self) -> None:
        """Take over a registration that has ended."""
        said, failed = "the registration ended by a mistake of the program, which its terminal shows", True
        try:
            said, failed = self.workbench.collect(), False
        except VeriserumError as error:
            said = str(error)
        finally:
            self._in_background(self._share(("poses", "trial", "refining"), said, failed=failed))

    def _follow_refining(self) -> None:
        async def follow() -> None:
            while self.workbench.part("refining")["what"] is not None:
                await self._share(("refining",))
                await asyncio.sleep(_PROGRESS_EVERY_S)

        self._in_background(follow())

    def show_prepared(self) -> None:
        """Show an implant that has been prepared."""
        self._in_background(self._share(("frame", "poses", "trial")))

    def _moved_in_scene(self, move: Callable[[], None]) -> None:
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
                await _send(page, changed)
            if self._scene is not None and changed:
                self._scene.show(self.workbench.session)

    def _part(self, name: str) -> str:
        return json.dumps(self.workbench.part(name), allow_nan=False)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _send(page: ServerConnection, messages: Collection[str]) -> None:
    """Send messages to a page; one that takes nothing is dropped, so that the others need not wait for it."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            for message in messages:
                await page.send(message)
    except ConnectionClosed:
        return
    except TimeoutError:
        page.transport.abort()


def _message(part: str, document: str) -> str:
    return f'{{"part": "{part}", "document": {document}}}'
