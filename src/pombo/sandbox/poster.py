"""The smallest HTTP client that can post webhooks: keep-alive, a time-out, and nothing else."""

import asyncio
import ssl
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

# Both only bound what a broken receiver can make us keep.
_MAX_IDLE = 64
_MAX_ANSWER = 1024 * 1024


class Answer(NamedTuple):
    status: int
    body: bytes


class _Wire(asyncio.Protocol):
    """One connection; carries one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.used = False
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self._body = bytearray()

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._body.clear()
        self.transport.write(request)
        return self._answer

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("The receiver closed the connection."))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(ConnectionError(f"Not an HTTP answer: {error}"))
            self.close()

    def on_body(self, body: bytes) -> None:
        if len(self._body) < _MAX_ANSWER:
            self._body += body

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive() and self.transport is not None:
            self.transport.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._parser.get_status_code(), bytes(self._body)))


class Poster:
    def __init__(self) -> None:
        self._idle: dict[tuple[str, str, int], list[_Wire]] = {}
        self._tls: ssl.SSLContext | None = None

    async def request(self, method: str, url: str, headers: dict[str, str], body: bytes, timeout: float) -> Answer:
        """Raises OSError (TimeoutError included) if no answer came."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        origin = (parts.scheme, parts.hostname or "", port)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        request = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
        async with asyncio.timeout(timeout):
            while True:
                wire = self._take(origin) or await self._open(origin)
                stale = wire.used
                wire.used = True
                try:
                    answer = await wire.send(request)
                except ConnectionError:
                    # A kept-alive connection may have been closed just now; a webhook may safely arrive twice.
                    if stale:
                        continue
                    raise
                except BaseException:
                    wire.close()
                    raise
                self._give_back(origin, wire)
                return answer

    def close(self) -> None:
        for wires in self._idle.values():
            for wire in wires:
                wire.close()
        self._idle.clear()

    def _take(self, origin: tuple[str, str, int]) -> _Wire | None:
        wires = self._idle.get(origin, [])
        while wires:
            wire = wires.pop()
            if wire.is_open:
                return wire
        return None

    def _give_back(self, origin: tuple[str, str, int], wire: _Wire) -> None:
        wires = self._idle.setdefault(origin, [])
        if wire.is_open and len(wires) < _MAX_IDLE:
            wires.append(wire)
        else:
            wire.close()

    async def _open(self, origin: tuple[str, str, int]) -> _Wire:
        scheme, host, port = origin
        if scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(_Wire, host, port, ssl=self._tls if scheme == "https" else None)
        return wire
