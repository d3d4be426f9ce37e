"""The switch to fail: which requests are dropped halfway, answered with an error, or done without an answer."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STEPS: dict[str, Callable[[str, str], bool]] = {
    "upload": lambda method, path: method == "PUT" and path.startswith("/_lfs/"),
    "commit": lambda method, path: method == "POST" and "/commit/" in path,
    "tag": lambda method, path: method == "POST" and "/tag/" in path,
    "create": lambda method, path: path == "/api/repos/create",
    "whoami": lambda method, path: path == "/api/whoami-v2",
    "download": lambda method, path: method == "GET" and "/resolve/" in path,
}


@dataclass
class Fault:
    """One rule.

    Attributes
    ----------
    step : one of ``STEPS``.
    every : of so many requests of the step, the last one fails.
    how : ``drop`` (the connection, halfway through the request), ``429``, ``500``, or ``lost`` (it is done, but the
        connection drops before the answer); they alternate.
    times : so often at most.

    """

    step: str
    every: int = 1
    how: tuple[str, ...] = ("drop",)
    times: int = 10**9


class Faults:
    """Middleware around the hub: fails requests by its rules, and records every request without its headers."""

    def __init__(self, app: ASGIApp, log: Path) -> None:
        self.app, self.log = app, log
        self.set([])

    def set(self, rules: list[Fault]) -> None:
        self.rules, self.seen, self.failed = rules, Counter[str](), Counter[str]()

    def _fault(self, method: str, path: str) -> str | None:
        for rule in self.rules:
            if STEPS[rule.step](method, path):
                self.seen[rule.step] += 1
                if self.seen[rule.step] % rule.every == 0 and self.failed[rule.step] < rule.times:
                    self.failed[rule.step] += 1
                    return rule.how[(self.failed[rule.step] - 1) % len(rule.how)]
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_faults"):
            await self.app(scope, receive, send)
            return
        fault, transport = self._fault(scope["method"], scope["path"]), scope["state"]["transport"]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":  # so that who has an answer finds the request in the log
                self._write_down(scope, message["status"], fault)
            if fault != "lost":
                await send(message)

        if fault == "drop":
            await receive()  # the first part of what is sent
            self._write_down(scope, None, fault)
            transport.abort()
        elif fault in ("429", "500"):
            await PlainTextResponse("injected fault", int(fault))(scope, receive, answer)
        else:
            await self.app(scope, receive, answer)
            if fault == "lost":
                transport.abort()

    def _write_down(self, scope: Scope, status: int | None, fault: str | None) -> None:
        record = {"method": scope["method"], "path": scope["path"], "status": status, "fault": fault}
        with self.log.open("a") as log:
            log.write(json.dumps(record) + "\n")
