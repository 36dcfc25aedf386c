"""Our own answering server: latency, the times of answers, receipts. One process."""

import asyncio
import json
import time
from array import array
from dataclasses import dataclass
from typing import cast

import uvloop

from bench.receipts import Poster, Receipts
from bench.wire import WIRES
from pombo.domain.channels import ChannelKind

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Serving:
    kind: ChannelKind
    port: int
    latency_s: float = 0.0
    watched: range = range(0)
    """The numbers of the messages whose times are kept."""
    receipts: Receipts | None = None


class _Server:
    def __init__(self, serving: Serving) -> None:
        self.wire = WIRES[serving.kind]
        self.latency_s = serving.latency_s
        self.watched = serving.watched
        self.times = array("d", bytes(8 * len(serving.watched)))
        self.answered = 0
        self.poster = Poster(serving.receipts) if serving.receipts else None

    def answer(self, request: bytes) -> bytes:
        self.answered += 1
        id = b"%032d" % self.answered
        body = self.wire.answer % id
        if self.watched and (n := self.wire.number(request)) in self.watched:
            self.times[n - self.watched.start] = time.monotonic()
        if self.poster:
            self.poster.accepted(request, body)
        return _HEAD % len(body) + body

    def report(self, target: bytes) -> bytes:
        if target == b"/times":
            body = self.times.tobytes()
        else:
            counts = self.poster.counts() if self.poster else {}
            body = json.dumps({"answered": self.answered, **counts}).encode()
        return _HEAD % len(body) + body


class _Connection(asyncio.Protocol):
    """Finds a request's end by its Content-Length; that end is what starts its latency."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            whole = end + 4 + length
            if len(self._data) < whole:
                return
            request, self._data = self._data[:whole], self._data[whole:]
            if request.startswith(b"GET"):
                self._transport.write(self._server.report(request.split(b" ", 2)[1]))
            elif self._server.latency_s:
                self._loop.call_later(self._server.latency_s, self._answer, request)
            else:
                self._answer(request)

    def _answer(self, request: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._server.answer(request))


def serve(serving: Serving) -> None:
    """Until the process is ended."""

    async def run() -> None:
        server = _Server(serving)
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(lambda: _Connection(server), "127.0.0.1", serving.port, backlog=8192)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listening.serve_forever())
            if server.poster:
                tasks.create_task(server.poster.run())

    uvloop.run(run())
