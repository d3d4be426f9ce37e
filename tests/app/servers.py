"""``veriserum match`` in a process of its own, and a socket as its page opens it."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from websockets.sync.client import connect

VERISERUM = Path(sys.executable).with_name("veriserum")


def heed_interrupts():
    """Let a process end by SIGINT, as in a terminal: what is started in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Server:
    """A running server: its address, its process, and what it printed."""

    def __init__(self, process):
        self.process = process
        line = process.stdout.readline()
        assert " at http" in line, line + process.stderr.read()
        self.address = line.split(" at ")[1].split(" ")[0]
        self.host = self.address.split("/")[2]
        self.query = self.address.partition("?")[2]

    def kill(self):
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    @contextmanager
    def socket(self, origin=None, host=None, path="/socket", query=None):
        """A socket, by default as the page opens it."""
        query = self.query if query is None else query
        headers = {} if host is None else {"Host": host}
        with connect(
            f"ws://{self.host}{path}?{query}",
            origin=origin or f"http://{self.host}",
            additional_headers=headers,
            ping_timeout=None,  # a busy machine answers late
        ) as socket:
            yield Socket(socket)


class Socket:
    """What a page knows, and asks for."""

    def __init__(self, socket):
        self.socket, self.parts, self.said = socket, {}, []
        while set(self.parts) < {"about", "frame", "poses", "trial", "refining"}:
            self.receive()

    def receive(self, timeout=120):
        """Take one message, and return it."""
        message = json.loads(self.socket.recv(timeout))
        if "part" in message:
            self.parts[message["part"]] = message["document"]
        elif "said" in message:
            self.said.append(message["said"])
        return message

    def do(self, what, **message):
        """Ask for something, and return why it was not done."""
        self.socket.send(json.dumps({"do": what, "number": 7, **message}))
        while "done" not in (answer := self.receive()):
            pass
        assert answer["done"] == 7
        return answer["error"]


@contextmanager
def serving(*arguments, **environment):
    """Run ``veriserum match`` with a port that is free, until the block ends."""
    command = [VERISERUM, "match", *map(str, arguments), "--no-browser", "--port", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
        preexec_fn=heed_interrupts,  # noqa: PLW1509
    ) as process:
        try:
            yield Server(process)
        finally:
            process.kill()
