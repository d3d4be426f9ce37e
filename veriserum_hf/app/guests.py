"""Pages for anybody: a trial to match, and predictions of a network. Everything shown is public, and nothing is kept.

Each page has a session of its own, which ends with the page; no file is written.
"""

import asyncio
import json
from collections.abc import Callable
from functools import partial

from websockets.asyncio.server import ServerConnection

from veriserum_hf.app.access import Access
from veriserum_hf.app.initial import LABEL, PoseSource
from veriserum_hf.app.prediction import MOST_BYTES, Predictor, images_of
from veriserum_hf.app.refining import Refiner
from veriserum_hf.app.responses import Responses
from veriserum_hf.app.room import Room
from veriserum_hf.app.saved import ManualPoses
from veriserum_hf.app.server import Server, Talk
from veriserum_hf.app.session import Session
from veriserum_hf.app.trials import OpenFrame, Trials
from veriserum_hf.app.workbench import Workbench
from veriserum_hf.errors import MatchError, VeriserumError

_MOST_PAGES = 12
_IDLE_S = 900.0
_LEFT, _FULL = 4001, 4002  # codes with which a socket is closed


def serve_guests(
    dataset: str, model: str, host: str, port: int, ready: Callable[[str], None], *, framed_by: str = ""
) -> None:
    """Serve a data set to anybody, until the program is interrupted: to match by hand, and to predict poses in.

    No token is needed, on whatever address: pages can read this data set, and change nothing but their own sessions,
    which are never written. Images that a page sends are limited in size, and forgotten with the answer.

    Parameters
    ----------
    dataset : folder that was converted or imported, of one split, all of which may be seen by anybody.
    model : output folder of a training, or a model on the hub, that fits it.
    host, port : to listen on; port 0 is any that is free.
    ready : called with the address of the page.
    framed_by : other sites that may show the pages in a frame.

    Raises
    ------
    MatchError
        If the port is in use, or the data set has several splits.
    VeriserumError
        If the data set or the model cannot be read, or do not fit each other.

    """
    trials = Trials.open(dataset)
    if len(trials.source.splits) > 1:
        raise MatchError(f"{dataset} has the splits {', '.join(trials.source.splits)}; expected one, of few frames")
    refiner = Refiner(trials.source)
    try:
        predictor = Predictor(trials, model)
        asyncio.run(_serve(_Guests(trials, predictor, refiner), host, port, ready, framed_by))
    finally:
        refiner.close()
        trials.shapes.close()


async def _serve(guests: "_Guests", host: str, port: int, ready: Callable[[str], None], framed_by: str) -> None:
    server = Server(
        Access(host, "", guests=True),
        Responses(framed_by),
        pages={"/": "predict.html", "/match": "index.html"},
        talks={"/socket": guests.match, "/predict/socket": guests.predict},
        frame=guests.frame,
    )
    guests.trials.shapes.changed = partial(server.soon, guests.show_prepared)
    await server.run(port, ready)


class _Guests:
    """What all pages share: the data set, the network, and one registration at a time.

    Parameters
    ----------
    trials : frames and implants.
    predictor : the network; its poses are those that matching begins from.
    refiner : registers frames.

    """

    def __init__(self, trials: Trials, predictor: Predictor, refiner: Refiner) -> None:
        self.trials, self._predictor, self._refiner = trials, predictor, refiner
        label = PoseSource(LABEL, {id: trials.poses(id) for id in trials.labels})
        self._sources = [PoseSource("predicted", predictor.poses()), label]
        self._rooms: set[Room] = set()
        self._pages = 0
        self._predicting = asyncio.Lock()

    def frame(self, measurement_id: int) -> OpenFrame | None:
        """Frame of the data set; None where it has none of this id."""
        place = self.trials.places.get(measurement_id)
        return None if place is None else self.trials.open_frame(place)

    def show_prepared(self) -> None:
        """Show an implant that has been prepared, in all pages."""
        for room in self._rooms:
            room.show_prepared()

    async def match(self, connection: ServerConnection) -> None:
        """Serve a page with a session of its own."""
        await self._in_turn(connection, self._match)

    async def predict(self, connection: ServerConnection) -> None:
        """Serve a page that asks for predictions."""
        await self._in_turn(connection, self._predict)

    async def _in_turn(self, connection: ServerConnection, talk: Talk) -> None:
        """Serve a page if there is room for one more, until it is idle."""
        if self._pages >= _MOST_PAGES:
            await connection.close(_FULL, f"{_MOST_PAGES} pages are open, as many as can be; try again later")
            return
        self._pages += 1
        try:
            await talk(connection)
        except TimeoutError:
            await connection.close(
                _LEFT, f"the page was idle for {_IDLE_S / 60:.0f} minutes; reload it to begin anew"
            )
        finally:
            self._pages -= 1

    async def _match(self, connection: ServerConnection) -> None:
        session = Session(self.trials, self._sources, ManualPoses(None, {}, {}), "guest")
        room = Room(Workbench(session, self._refiner))
        self._rooms.add(room)
        try:
            await room.talk(connection, _IDLE_S)
        finally:
            self._rooms.discard(room)
            room.workbench.stop()

    async def _predict(self, connection: ServerConnection) -> None:
        await connection.send(json.dumps({"frames": self._predictor.frames(), "most_bytes": MOST_BYTES}))
        while True:
            async with asyncio.timeout(_IDLE_S):
                text = await connection.recv()
            try:
                message = json.loads(text)
                measurement_id, images = int(message["measurement_id"]), images_of(message["images"])
                async with self._predicting:
                    found = await asyncio.to_thread(self._predictor.predict, measurement_id, images)
            except VeriserumError as error:
                await connection.send(json.dumps({"error": str(error)}))
            except (ValueError, TypeError, LookupError, RecursionError):
                await connection.send(json.dumps({"error": "the page sent no JSON of a frame and images; reload it"}))
            else:
                await connection.send(json.dumps(found.document))
                await connection.send(found.png)
