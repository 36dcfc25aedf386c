"""A TCP proxy in the test's own loop, between two of the processes, that misbehaves when it is told to.

line = await Proxy.open(("127.0.0.1", 5432))        # or the path of a Unix socket
line.silence()    # both ends hear nothing more, and are not told: a network that swallows packets
line.speak()      # what was said meanwhile arrives now, or (forget=True) the connections break
line.lose()       # those that are open lead nowhere from now on; new ones do: a router that has lost its memory
line.sever()      # connections are reset, and so is each new one
line.mend()
line.cuts = Cuts(random, request=0.01, answer=0.01)
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """Shares of chunks (on keep-alive HTTP: of requests, of answers) in whose middle the connection breaks.

    The middle is anywhere from before the first byte to after the last one.
    """

    chance: random.Random
    request: float = 0.0
    answer: float = 0.0


class Proxy:
    def __init__(self, upstream: Address) -> None:
        self.upstream = upstream
        """Where new connections go."""
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._severed = False
        self.silent = False
        self.delay_s = 0.0
        """How much longer each chunk takes than it would."""
        self.cuts: Cuts | None = None
        self.broken = 0
        """Connections cut in the middle of something."""
        self.swallow_answer: Callable[[], bool] | None = None
        """Asked before an answer is passed on; True breaks the connection in its place."""
        self.port = 0

    @classmethod
    async def open(cls, upstream: Address) -> "Proxy":
        proxy = cls(upstream)
        loop = asyncio.get_running_loop()
        proxy._server = await loop.create_server(lambda: _Link(proxy).caller, "127.0.0.1", 0, backlog=1024)
        proxy.port = proxy._server.sockets[0].getsockname()[1]
        return proxy

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    async def to_database(cls, url: str) -> tuple["Proxy", str]:
        """To the embedded server; and the URL by which it leads there."""
        address = urlsplit(url)
        proxy = await cls.open(f"{parse_qs(address.query)['host'][0]}/.s.PGSQL.5432")
        return proxy, f"postgresql://postgres@127.0.0.1:{proxy.port}{address.path}?sslmode=disable"

    def silence(self) -> None:
        self.silent = True

    def lose(self) -> None:
        for link in self._links:
            link.lost = True

    def speak(self, *, forget: bool = False) -> None:
        self.silent = False
        for link in tuple(self._links):
            if forget:
                link.abort()
            else:
                link.flush()

    def sever(self) -> None:
        self._severed = True
        for link in tuple(self._links):
            link.abort()

    def mend(self) -> None:
        """All is well again, whatever was wrong."""
        self._severed = False
        self.cuts = self.swallow_answer = None
        self.delay_s = 0.0
        self.speak()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in tuple(self._links):
            link.abort()
        await self._server.wait_closed()


class _Link:
    """One connection: the caller's end and ours to the upstream."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.caller = _End(self, is_caller=True)
        self._upstream = _End(self, is_caller=False)
        self.caller.other, self._upstream.other = self._upstream, self.caller
        self._connecting: asyncio.Task[None] | None = None
        self.lost = False

    def opened(self) -> None:
        if self._proxy._severed:
            self.caller.abort()
            return
        self._proxy._links.add(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop, upstream = asyncio.get_running_loop(), self._proxy.upstream
        try:
            if isinstance(upstream, str):
                await loop.create_unix_connection(lambda: self._upstream, upstream)
            else:
                await loop.create_connection(lambda: self._upstream, *upstream)
        except OSError:
            self.abort()
            return
        if self.caller.transport is None:
            self.abort()
        self.flush()

    def carry(self, data: bytes, sender: "_End") -> None:
        """What `sender` said, to the other end; or not."""
        proxy, receiver = self._proxy, sender.other
        cuts = proxy.cuts
        if cuts is not None and cuts.chance.random() < (cuts.request if sender.is_caller else cuts.answer):
            proxy.broken += 1
            receiver.say(data[: cuts.chance.randint(0, len(data))])
            receiver.finish()
            sender.abort()
        elif not sender.is_caller and proxy.swallow_answer is not None and proxy.swallow_answer():
            proxy.broken += 1
            self.abort()
        else:
            receiver.say(data)

    def flush(self) -> None:
        self.caller.speak()
        self._upstream.speak()

    def abort(self) -> None:
        self._proxy._links.discard(self)
        if self._connecting is not None and self._connecting is not asyncio.current_task():
            self._connecting.cancel()
        self.caller.abort()
        self._upstream.abort()

    @property
    def silent(self) -> bool:
        return self.lost or self._proxy.silent

    @property
    def delay_s(self) -> float:
        return self._proxy.delay_s


class _End(asyncio.Protocol):
    """One of the two sockets, and what is still to be said to it."""

    other: "_End"

    def __init__(self, link: _Link, *, is_caller: bool) -> None:
        self._link = link
        self.is_caller = is_caller
        self.transport: asyncio.Transport | None = None
        self._unsaid: deque[tuple[float, bytes]] = deque()
        self._ends = False
        self._timer: asyncio.TimerHandle | None = None
        self._clock = asyncio.get_running_loop().time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(Any, transport)  # uvloop's transports are no subclasses of asyncio's
        if self.is_caller:
            self._link.opened()

    def data_received(self, data: bytes) -> None:
        self._link.carry(data, self)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.other.finish()
        if self.other.transport is None:
            self._link.abort()

    def say(self, data: bytes) -> None:
        if self.transport is not None and not (self._unsaid or self._link.silent or self._link.delay_s):
            self.transport.write(data)
        else:
            self._unsaid.append((self._clock() + self._link.delay_s, data))
            self.speak()

    def finish(self) -> None:
        """Closed when all was said, which nobody hears of in the silence."""
        self._ends = True
        self.speak()

    def speak(self) -> None:
        """Says what is due, unless nothing may be heard."""
        if self.transport is None or self._link.silent:
            return
        while self._unsaid and self._unsaid[0][0] <= self._clock():
            self.transport.write(self._unsaid.popleft()[1])
        if self._unsaid:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_at(self._unsaid[0][0], self._on_time)
        elif self._ends:
            self.transport.close()

    def _on_time(self) -> None:
        self._timer = None
        self.speak()

    def abort(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is not None:
            self.transport.abort()
