"""What waits to be sent to one socket: bounded, because a browser that does not read must cost nobody else anything."""

import asyncio
from collections import deque
from typing import Any, NamedTuple, Protocol


class Close(NamedTuple):
    code: int
    reason: str
    """At most 123 bytes, the protocol's limit."""


# By RFC 6455 those from 4000 on are an application's. docs/subsystems/realtime.md lists them.
FRAME_INVALID = 4400
KEY_INVALID = 4401
ORIGIN_REFUSED = 4403
AUTH_TIMEOUT = 4408
TOO_SLOW = 4413
TOO_MANY = 4429
FAILED = 1011
STARTS_AGAIN = 1012
TRY_AGAIN = 1013

MOST_WAITING = 4 * 1024 * 1024
"""Some thousand events: more than one read brings at once, which must drop nobody who reads. Sockets that hear the same
share its bytes."""


class Wire(Protocol):
    """The connection of one socket. Takes whole frames, and keeps their order."""

    def write(self, frame: bytes) -> bool:
        """At once. False, with nothing written, while what was written fills the connection, or when it is over."""

    async def until_writable(self) -> None:
        """Raises OSError when it is over."""


class Outgoing:
    """Frames are written at once where nothing waits before them; `carry`, in a task, writes what had to wait."""

    def __init__(self, wire: Wire, most_waiting: int = MOST_WAITING) -> None:
        self.closing: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        self._wire = wire
        self._most_waiting = most_waiting
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def put(self, frame: bytes) -> None:
        """Closes the socket instead when too much waits already."""
        if self.closing.done() or (not self._frames and self._wire.write(frame)):
            return
        # A single frame may be larger than all that may wait.
        if self._size and self._size + len(frame) > self._most_waiting:
            self.close(TOO_SLOW, "The client reads too slowly; connect again and continue from the last position.")
            return
        self._frames.append(frame)
        self._size += len(frame)
        self._emptied.clear()
        self._filled.set()

    def close(self, code: int, reason: str) -> None:
        if not self.closing.done():
            self.closing.set_result(Close(code, reason))

    async def carry(self) -> None:
        """Until it is cancelled. Raises OSError when the connection is over."""
        while True:
            await self._filled.wait()
            await self._wire.until_writable()
            while self._frames and self._wire.write(self._frames[0]):
                self._size -= len(self._frames.popleft())
            if not self._frames:
                self._filled.clear()
                self._emptied.set()

    async def emptied(self) -> None:
        """Returns when nothing waits any more, or the socket is being closed."""
        waiting = asyncio.ensure_future(self._emptied.wait())
        either: list[asyncio.Future[Any]] = [waiting, self.closing]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
