"""One HTTP/1.1 connection, as an asyncio protocol on httptools.

A server of its own instead of uvicorn, for two reasons: a simulator must be able to close a connection without an
answer and to count connections, which ASGI has no words for; and it must never be the bottleneck of a load test
(measured in docs/subsystems/sandbox.md).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple, cast

import httptools
import msgspec

from pombo.sandbox.reply import Reply, json_reply

# Larger than anything Meta takes as JSON; what limits it in practice is bulk creation of accounts and people.
_MAX_BODY = 64 * 1024 * 1024


class Request(NamedTuple):
    method: bytes
    target: bytes
    authorization: bytes
    content_type: bytes
    body: bytes
    keep_alive: bool

    @property
    def is_management(self) -> bool:
        return self.target.startswith(b"/sandbox")


Handler = Callable[[Request], Reply | Awaitable[Reply]]


class Traffic(msgspec.Struct):
    """Requests to the simulated API; the management API is not counted."""

    requests: int = 0
    connections_opened: int = 0
    connections_open: int = 0

    @property
    def requests_on_reused(self) -> int:
        return self.requests - self.connections_opened

    def forget(self) -> None:
        """Count from here. On a connection that is already open, every later request is on a reused one."""
        self.requests = 0
        self.connections_opened = 0


class Connection(asyncio.Protocol):
    """Answers requests in the order in which they came; while one waits for its answer, later ones queue."""

    def __init__(self, handler: Handler, traffic: Traffic, connections: set["Connection"]) -> None:
        self._handler = handler
        self._traffic = traffic
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._counted = False
        self._busy = False
        self._waiting: deque[Request] = deque()
        self._later: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._target = b""
        self._authorization = b""
        self._content_type = b""
        self._body: list[bytes] = []
        self._size = 0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        if self._counted:
            self._traffic.connections_open -= 1
        if self._later is not None:
            self._later.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Already answered as an ordinary request; the parser reads nothing more on this connection.
            self.close()
        except httptools.HttpParserError as error:
            self._refuse(400, f"Not HTTP/1.1: {error}")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._target = b""
        self._authorization = b""
        self._content_type = b""
        self._body = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # The length tells most headers apart without lower-casing them: this runs for every header of every request.
        length = len(name)
        if length == 13 and name.lower() == b"authorization":
            self._authorization = value
        elif length == 12 and name.lower() == b"content-type":
            self._content_type = value
        elif length == 6 and name.lower() == b"expect" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= _MAX_BODY:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._size > _MAX_BODY:
            self._refuse(413, f"The sandbox reads at most {_MAX_BODY} bytes.")
            return
        chunks = self._body
        request = Request(
            self._parser.get_method(),
            self._target,
            self._authorization,
            self._content_type,
            chunks[0] if len(chunks) == 1 else b"".join(chunks),
            self._parser.should_keep_alive(),
        )
        if self._busy:
            self._waiting.append(request)
        else:
            self._serve(request)

    # What we do.

    def _serve(self, request: Request) -> None:
        if not request.is_management:
            self._count()
        answer = self._handler(request)
        if isinstance(answer, Reply):
            if answer.delay:
                self._busy = True
                self._later = self._loop.call_later(answer.delay, self._finish, answer, request.keep_alive)
            elif answer.ending == "answer":
                self._write(answer, request.keep_alive)
            else:
                self._lose(answer)
        else:
            self._busy = True
            self._later = self._loop.create_task(self._answer_later(answer, request.keep_alive))

    def _count(self) -> None:
        self._traffic.requests += 1
        if not self._counted:
            self._counted = True
            self._traffic.connections_opened += 1
            self._traffic.connections_open += 1

    async def _answer_later(self, answer: Awaitable[Reply], keep_alive: bool) -> None:
        self._finish(await answer, keep_alive)

    def _finish(self, reply: Reply, keep_alive: bool) -> None:
        self._later = None
        if reply.ending != "answer":
            self._lose(reply)
            return
        self._write(reply, keep_alive)
        self._busy = False
        while self._waiting and not self._busy:
            self._serve(self._waiting.popleft())

    def _write(self, reply: Reply, keep_alive: bool) -> None:
        if self._transport is None:
            return
        self._transport.write(reply.render(keep_alive=keep_alive))
        if not keep_alive:
            self._transport.close()

    def _lose(self, reply: Reply) -> None:
        """Close without an answer, or say nothing more on this connection until the caller gives up."""
        self._busy = True
        self._waiting.clear()
        if reply.ending == "close":
            self.close()

    def _refuse(self, status: int, message: str) -> None:
        self._busy = True
        self._write(json_reply({"error": {"message": message}}, status), keep_alive=False)
