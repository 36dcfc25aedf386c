"""One kept-alive connection, which carries one request at a time.

Parsing is httptools without header callbacks: llhttp checks and frames the answer in C, and only the start, the body
and the end of an answer reach Python. Measured per answer (a small one of 294 bytes / one with Meta's 20 headers, 948
bytes): httptools as used here 1.4 / 1.6 µs, httptools with a callback per header 2.4 / 4.5 µs, a parser by hand that
slices after a few `bytes.find` 2.7 / 6.2 µs, one that checks the grammar with a regular expression 3.5 / 8.7 µs. So
there is no second, fast parser.
"""

import asyncio
import select
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from pombo.meta.transport.results import Answer, Lost, Reason, Result, ends_with_connection
from pombo.meta.transport.stats import Closed

if TYPE_CHECKING:
    from pombo.meta.transport.connector import Attempt
    from pombo.meta.transport.pool import Transport

OnResult = Callable[[Result, Any], None]

# What heads, chunk sizes, trailers and interim answers may add to `max_answer_bytes` of body before the answer is
# given up: far above any real head, and small enough that a server gone mad costs no memory.
_OVERHEAD_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Connection(asyncio.BaseProtocol):
    """The protocol of one socket. Busy while `on_result` is set; `closed` once the pool has let go of it."""

    __slots__ = (
        "_body",
        "_feed",
        "_keep_alive",
        "_max_body",
        "_now",
        "_parser",
        "_pieces",
        "_pool",
        "_size",
        "_status",
        "_too_large",
        "_write",
        "attempt",
        "bytes_received",
        "bytes_sent",
        "closed",
        "context",
        "expires",
        "idle_since",
        "on_result",
        "requests",
        "started",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport
    expires: float
    idle_since: float

    def __init__(self, pool: "Transport", attempt: "Attempt", now: Callable[[], float], max_body: int) -> None:
        self._pool = pool
        self.attempt = attempt
        self._now = now
        self._max_body = max_body
        self._parser = HttpResponseParser(self)
        self._feed = self._parser.feed_data
        self.on_result: OnResult | None = None
        self.context: Any = None
        self.started = 0.0
        self.requests = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.write_paused = False
        self.closed = False
        # The answer being read, and the reads before its last; nearly all answers come in one.
        self._status = 0
        self._body: bytes | bytearray = b""
        self._pieces: list[bytes] = []
        self._size = 0
        self._keep_alive = True
        self._too_large = False

    # --- life -----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._write = self.transport.write
        # Any byte that the kernel does not take at once makes the loop call pause_writing, which starts the write
        # deadline. (1 and not 0, which uvloop's TLS takes for "always paused".)
        self.transport.set_write_buffer_limits(high=1)
        self._pool.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed:
            self._closed_by_peer(str(exc) if exc else "")
        self._pool.gone(self)

    def eof_received(self) -> None:
        if self.closed:
            return
        raw = b"".join(self._pieces)
        if self.on_result is not None and ends_with_connection(raw):
            self._status = self._parser.get_status_code()
            self._keep_alive = False
            self._answered(b"")
        else:
            self._closed_by_peer("")

    def _closed_by_peer(self, detail: str) -> None:
        if self.on_result is None:
            self._pool.drop(self, Closed.PEER)
        else:
            self.fail(Reason.CLOSED_MID_ANSWER if self._pieces else Reason.CLOSED_UNANSWERED, detail)

    def is_stale(self) -> bool:
        """Whether something has arrived that the loop has not read yet: on an idle connection, an end or nonsense."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def discard_unsent(self) -> None:
        """Make the coming close a reset, so that nothing of a request given up can reach the server later on."""
        if not self.transport.is_closing():
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    # --- request --------------------------------------------------------------------------------------------------

    def send(self, request: bytes, on_result: OnResult, context: Any, now: float) -> None:
        self.on_result = on_result
        self.context = context
        self.started = now
        self.requests += 1
        self.bytes_sent += len(request)
        # Via a local, here and below, since CPython 3.11 looks up a callable in a slot slowly when called as a method.
        write = self._write
        write(request)

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False

    def fail(self, reason: Reason, detail: str = "") -> None:
        """Give up the request in flight, and the connection with it."""
        on_result, context = self.on_result, self.context
        assert on_result is not None
        self.on_result = self.context = None
        self._pool.lost(self, Lost(reason, detail), on_result, context)

    # --- answer ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.on_result is None:
            if not self.closed:
                self._pool.drop(self, Closed.UNSOLICITED)
            return
        self.bytes_received += len(data)
        feed = self._feed
        try:
            feed(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._status:
                self.fail(Reason.TOO_LARGE if self._too_large else Reason.MALFORMED, str(error))
                return
            # The answer itself is complete; only what follows it is nonsense.
            self._keep_alive = False
        if self._status:
            self._answered(data)
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._max_body + _OVERHEAD_BYTES:
            self.fail(Reason.TOO_LARGE)

    def on_message_begin(self) -> None:
        if self._status:
            # A second answer to one request: whatever it is, this connection has lost its rhythm.
            self._keep_alive = False

    def on_body(self, piece: bytes) -> None:
        if self._status:
            return
        if not self._body:
            self._body = piece
        elif isinstance(self._body, bytearray):
            self._body += piece
        else:
            self._body = bytearray(self._body) + piece
        if len(self._body) > self._max_body:
            self._too_large = True
            raise ValueError("answer too large")

    def on_message_complete(self) -> None:
        if self._status:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            return  # Interim; the answer proper follows. (The parser itself refuses 101, as we ask for no upgrade.)
        if status < 100:
            raise ValueError("not a status")
        self._status = status
        self._keep_alive = self._parser.should_keep_alive()

    def _answered(self, last_read: bytes) -> None:
        pool, clock = self._pool, self._now
        now = clock()
        elapsed = now - self.started
        body = self._body if isinstance(self._body, bytes) else bytes(self._body)
        if self._pieces:
            last_read = b"".join((*self._pieces, last_read))
            self._pieces = []
            self._size = 0
        on_result, context = self.on_result, self.context
        answer = Answer(self._status, body, self.requests > 1, elapsed, last_read)
        self.on_result = self.context = None
        self._status = 0
        self._body = b""
        pool.answered(self, now, elapsed, self._keep_alive and not self.write_paused)
        try:
            on_result(answer, context)  # type: ignore[misc]
        except Exception as error:
            pool.report(error)


class TlsConnection(Connection):
    """Reads into one buffer that all connections share.

    Without a buffer of ours uvloop's TLS allocates 256 KiB for each read and gives all but the answer back: three
    system calls and 80 µs, four times the cost of everything else.
    """

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._pool.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._pool.read_buffer[:nbytes]))
