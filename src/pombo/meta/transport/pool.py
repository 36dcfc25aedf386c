"""The pool: which connection carries which request, and what has gone on for too long."""

import asyncio
import contextlib
import random
import socket
import ssl
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pombo.meta.transport.connection import Connection, OnResult, TlsConnection
from pombo.meta.transport.connector import MAX_CONNECTING, Connector
from pombo.meta.transport.endpoint import Endpoint
from pombo.meta.transport.request_head import RequestHead
from pombo.meta.transport.results import Lost, NeverWritten, Reason, Result
from pombo.meta.transport.stats import LATENCY_BOUNDS, Closed, Counters, TransportStats

Context = TypeVar("Context")
MayWrite = Callable[[Any], bool]

# Deadlines are seconds, so half a second late is soon enough, and 500 connections are looked at in 0.1 ms.
SWEEP_INTERVAL_S = 0.5
# No server closes a connection within a second of its last answer (then it says `Connection: close`), so only older
# ones are polled before use: 1 µs that a busy connection need not pay.
_POLL_AFTER_IDLE_S = 1.0
# Connections opened together should not end together.
_AGE_SPREAD = 0.1
# An answer to a send is below 2 KB; longer ones take several reads.
_READ_BUFFER_BYTES = 64 * 1024


class Transport:
    """HTTP/1.1 over kept-alive connections to one server. Belongs to the event loop it was started on.

    Times are in seconds. `answer_timeout` counts from the write of the request to the last byte of its answer;
    `write_timeout` from the write while the kernel has not taken the whole request. `idle_timeout` should lie slightly
    below the server's. Of `max_sockets`, `reserved_sockets` are left to requests submitted with `reserved=True`.
    `clock` stands in for the loop's clock in tests, which then call `sweep` themselves.
    """

    def __init__(
        self,
        base_url: str,
        *,
        max_sockets: int = 500,
        reserved_sockets: int = 0,
        connect_timeout: float = 5.0,
        write_timeout: float = 10.0,
        answer_timeout: float = 30.0,
        max_answer_bytes: int = 1024 * 1024,
        # Long enough that reconnecting is below 0.1 % of the requests of a busy channel, short enough to follow a
        # change in the server's addresses.
        max_connection_age: float = 600.0,
        # Load balancers commonly close after 60 s.
        idle_timeout: float = 55.0,
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not 0 <= reserved_sockets < max_sockets:
            raise ValueError("reserved_sockets must leave at least one of max_sockets to the rest")
        self._endpoint = Endpoint(base_url)
        self._max_sockets = max_sockets
        self._reserved_sockets = reserved_sockets
        self._unreserved_sockets = max_sockets - reserved_sockets
        self._connect_timeout = connect_timeout
        self._write_timeout = write_timeout
        self._answer_timeout = answer_timeout
        self._max_answer_bytes = max_answer_bytes
        self._max_connection_age = max_connection_age
        self._idle_timeout = idle_timeout
        self._ssl_context = ssl_context
        self._clock = clock

        self._open: set[Connection] = set()
        # A stack: the connection used last is used next, so that those not needed grow old at its bottom.
        self._idle: list[Connection] = []
        # So many of them are left to replies, given how many are open.
        self._idle_kept = 0
        # Each of these has a connection being made for it: never more than attempts to connect.
        self._pending: deque[tuple[bytes, OnResult, Any, MayWrite | None]] = deque()
        self._reserved_waiters: deque[Callable[[], None]] = deque()
        self._waiters: deque[Callable[[], None]] = deque()
        self._counters = Counters()
        # How many answers came how fast, by bucket of LATENCY_BOUNDS and one beyond.
        self._latency = [0] * (len(LATENCY_BOUNDS) + 1)
        self._closing = False
        # Connections let go of whose sockets the loop has yet to close.
        self._going: set[Connection] = set()
        self._all_gone = asyncio.Event()
        self._drained = asyncio.Event()
        self.read_buffer = memoryview(bytearray(_READ_BUFFER_BYTES))

    @property
    def base_url(self) -> str:
        endpoint = self._endpoint
        return f"{'https' if endpoint.tls else 'http'}://{endpoint.host_header}{endpoint.path_prefix}"

    @property
    def closing(self) -> bool:
        """Whether `close` has been called: no request is taken any more."""
        return self._closing

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connections are made when first needed; this only starts the clock."""
        self._loop = asyncio.get_running_loop()
        self._now = now = self._clock or self._loop.time
        tls = self._endpoint.tls
        protocol = TlsConnection if tls else Connection
        self._connector = Connector(
            self._endpoint,
            self,
            lambda attempt: protocol(self, attempt, now, self._max_answer_bytes),
            timeout=self._connect_timeout,
            now=now,
            ssl_context=(self._ssl_context or ssl.create_default_context()) if tls else None,
        )
        self._next_sweep = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep_again)

    async def close(self, grace: float = 0.0) -> None:
        """Take nothing more, wait up to `grace` seconds for answers in flight, then close everything.

        Every request submitted has got its one result when this returns.
        """
        self._closing = True
        while self._pending:
            self._never_written(Reason.SHUTDOWN)
        self._wake()
        for connection in tuple(self._idle):
            self.drop(connection, Closed.SHUTDOWN)
        await self._connector.close()
        if self._open and grace > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), grace)
        for connection in tuple(self._open):
            connection.fail(Reason.SHUTDOWN)
        while self._going:
            self._all_gone.clear()
            await self._all_gone.wait()
        await asyncio.sleep(0)  # for results that were to be told next
        self._next_sweep.cancel()

    # --- requests -------------------------------------------------------------------------------------------------

    def head(self, method: str, target: str, headers: Mapping[str, str] | None = None) -> RequestHead:
        """A request head for this server; `target` comes after the base URL's own path."""
        return RequestHead(method, self._endpoint.path_prefix + target, self._endpoint.host_header, headers)

    def free_sockets(self, reserved: bool = False) -> int:
        """How many requests would be taken now, each with a connection of its own, open or about to be made."""
        if self._closing:
            return 0
        open_, idle, pending = len(self._open), len(self._idle), len(self._pending)
        connecting, limit = len(self._connector.attempts), self._connector.limit
        if reserved and limit == MAX_CONNECTING:
            limit += self._reserved_sockets
        connectable = max(0, min(limit - connecting, self._max_sockets - open_ - connecting))
        ready = idle + connecting - pending + connectable
        unused = (self._max_sockets if reserved else self._unreserved_sockets) - (open_ - idle) - pending
        return max(0, min(ready, unused))

    def submit(
        self,
        request: bytes,
        on_result: Callable[[Result, Context], None],
        context: Context,
        *,
        reserved: bool = False,
        may_write: Callable[[Context], bool] | None = None,
    ) -> bool:
        """Send a whole serialized request; `on_result(result, context)` is called exactly once, later, from the loop.

        False (and no call) when no socket is free: the queue is the caller's. `on_result` should be quick and may
        submit again; what it raises goes to the loop's exception handler. `may_write(context)` is asked right before
        the first byte, which may be some time after this call; if it says no, the request is `NeverWritten`.
        """
        idle, clock = self._idle, self._now
        while len(idle) > (0 if reserved else self._idle_kept):
            connection = idle.pop()
            now = clock()
            if connection.transport.is_closing() or (
                now - connection.idle_since > _POLL_AFTER_IDLE_S and connection.is_stale()
            ):
                # Not one byte was written on it, so another connection may carry the request.
                self.drop(connection, Closed.PEER)
                continue
            if may_write is None or may_write(context):
                connection.send(request, on_result, context, now)
            else:
                idle.append(connection)
                self._withdraw(on_result, context)
            return True
        if self.free_sockets(reserved) <= 0:
            return False
        if reserved:
            self._pending.appendleft((request, on_result, context, may_write))
        else:
            self._pending.append((request, on_result, context, may_write))
        if len(self._pending) > len(self._connector.attempts):
            self._connector.start_attempt()
        return True

    def unwritten(self) -> list[Any]:
        """The contexts of requests that were taken and wait for a connection that is being made."""
        return [context for _, _, context, _ in self._pending]

    def when_free(self, callback: Callable[[], None], *, reserved: bool = False) -> None:
        """Call back once, from the loop, when a socket is free: in the order of asking, before anyone else gets it.

        A callback that wants more sockets, or finds none after all, asks again. `close` calls those that still wait;
        asking after that does nothing.
        """
        if self._closing:
            return
        (self._reserved_waiters if reserved else self._waiters).append(callback)
        if self.free_sockets(reserved) > 0:
            self._loop.call_soon(self._wake)

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        reserved: bool = False,
    ) -> Result:
        """Send one request as soon as a socket is free. Cancelling it closes the connection it is on."""
        head = self.head(method, target, headers)
        serialized = head.bodiless if body is None else head.with_body(body)
        future: asyncio.Future[Result] = self._loop.create_future()

        def attempt() -> None:
            if future.done():
                return
            if self._closing:
                future.set_result(NeverWritten(Reason.SHUTDOWN))
            elif not self.submit(serialized, _resolve, future, reserved=reserved):
                self.when_free(attempt, reserved=reserved)

        attempt()
        try:
            return await future
        finally:
            if future.cancelled():
                self._cancel(future)

    # --- figures --------------------------------------------------------------------------------------------------

    def snapshot(self) -> TransportStats:
        counters = self._counters
        return TransportStats(
            max_sockets=self._max_sockets,
            open=len(self._open),
            idle=len(self._idle),
            in_flight=len(self._open) - len(self._idle),
            connecting=len(self._connector.attempts),
            waiting=len(self._pending),
            requests=counters.requests + sum(connection.requests for connection in self._open),
            first_requests=counters.first_requests + sum(connection.requests > 0 for connection in self._open),
            answers=sum(self._latency),
            bytes_sent=counters.bytes_sent + sum(connection.bytes_sent for connection in self._open),
            bytes_received=counters.bytes_received + sum(connection.bytes_received for connection in self._open),
            connections_opened=counters.connections_opened,
            connect_failures=counters.connect_failures,
            connections_closed=dict(counters.closed),
            never_written=dict(counters.never_written),
            lost=dict(counters.lost),
            latency_counts=tuple(self._latency),
        )

    # --- deadlines ------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Enforce every deadline: one look at each connection twice a second costs less than a timer per request."""
        now = self._now()
        self._connector.sweep(now)
        for connection in tuple(self._open):
            if connection.on_result is not None:
                age = now - connection.started
                if age >= self._answer_timeout:
                    connection.fail(Reason.ANSWER_TIMEOUT)
                elif connection.write_paused and age >= self._write_timeout:
                    connection.fail(Reason.WRITE_TIMEOUT)
            elif connection.closed:
                continue  # By a callback of this very sweep.
            elif now - connection.idle_since >= self._idle_timeout:
                self.drop(connection, Closed.IDLE)
            elif now >= connection.expires:
                self.drop(connection, Closed.AGE)
        self._wake()

    def _sweep_again(self) -> None:
        self._next_sweep = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep_again)
        self.sweep()

    # --- what connections report ----------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        attempt = connection.attempt
        if attempt.given_up:
            # It ran out of time in this very moment, and its request is being told so. (Not `_going`, since the loop
            # does not report the end of a connection whose making was cancelled.)
            connection.closed = True
            connection.transport.abort()
            return
        self._connector.succeeded(attempt)
        self._open.add(connection)
        self._idle_kept = max(0, len(self._open) - self._unreserved_sockets)
        self._counters.connections_opened += 1
        now = self._now()
        spread = 1 + random.uniform(-_AGE_SPREAD, _AGE_SPREAD)  # noqa: S311
        connection.expires = now + self._max_connection_age * spread
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A dead path: the kernel would resend for a quarter of an hour. Bytes unacknowledged for as long as an
            # answer is waited for will not be answered in time.
            connection.transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._answer_timeout * 1000)
            )
        self._next(connection, now)
        self._wake()

    def answered(self, connection: Connection, now: float, elapsed: float, keep_alive: bool) -> None:
        self._latency[bisect_left(LATENCY_BOUNDS, elapsed)] += 1
        if not keep_alive:
            self.drop(connection, Closed.ANSWER)
        elif self._closing:
            self.drop(connection, Closed.SHUTDOWN)
        elif now >= connection.expires:
            self.drop(connection, Closed.AGE)
        else:
            self._next(connection, now)
        if self._waiters or self._reserved_waiters:
            self._wake()

    def _next(self, connection: Connection, now: float) -> None:
        """Gives a free connection the request that has waited longest."""
        while self._pending:
            request, on_result, context, may_write = self._pending.popleft()
            if may_write is None or may_write(context):
                connection.send(request, on_result, context, now)
                return
            self._withdraw(on_result, context)
        connection.idle_since = now
        self._idle.append(connection)

    def lost(self, connection: Connection, failure: Lost, on_result: OnResult, context: Any) -> None:
        connection.discard_unsent()
        self.drop(connection, Closed.FAILURE)
        self._counters.lost[failure.reason] += 1
        self._wake()
        self.call(on_result, failure, context)

    def drop(self, connection: Connection, reason: Closed) -> None:
        """Close a connection that carries no request (any more)."""
        connection.closed = True
        self._open.discard(connection)
        self._idle_kept = max(0, len(self._open) - self._unreserved_sockets)
        if connection in self._idle:
            self._idle.remove(connection)
        counters = self._counters
        counters.closed[reason] += 1
        counters.requests += connection.requests
        counters.first_requests += connection.requests > 0
        counters.bytes_sent += connection.bytes_sent
        counters.bytes_received += connection.bytes_received
        self._going.add(connection)
        connection.transport.abort()
        if self._closing and not self._open:
            self._drained.set()

    def gone(self, connection: Connection) -> None:
        self._going.discard(connection)
        if not self._going:
            self._all_gone.set()

    def connect_failed(self, reason: Reason, detail: str) -> None:
        self._counters.connect_failures += 1
        while len(self._pending) > len(self._connector.attempts):
            self._never_written(reason, detail)

    def call(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            self.report(error)

    def report(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "a callback of the transport failed", "exception": error})

    # --- passing sockets on ---------------------------------------------------------------------------------------

    def _wake(self) -> None:
        for reserved, waiters in ((True, self._reserved_waiters), (False, self._waiters)):
            # At most once round, since those who find no socket ask again.
            for _ in range(len(waiters)):
                if not waiters or not (self._closing or self.free_sockets(reserved) > 0):
                    break
                self.call(waiters.popleft())

    def _never_written(self, reason: Reason, detail: str = "") -> None:
        _, on_result, context, _ = self._pending.popleft()
        self._counters.never_written[reason] += 1
        self.call(on_result, NeverWritten(reason, detail), context)

    def _withdraw(self, on_result: OnResult, context: Any) -> None:
        self._counters.never_written[Reason.WITHDRAWN] += 1
        self._loop.call_soon(self.call, on_result, NeverWritten(Reason.WITHDRAWN), context)

    def _cancel(self, context: Any) -> None:
        for entry in self._pending:
            if entry[2] is context:
                self._pending.remove(entry)
                return
        for connection in self._open:
            if connection.context is context:
                connection.fail(Reason.CANCELLED)
                return


def _resolve(result: Result, future: asyncio.Future[Result]) -> None:
    if not future.done():
        future.set_result(result)
