"""Making connections: how many at once, to which address, and how long to leave a dead server alone."""

import asyncio
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pombo.meta.transport.endpoint import Endpoint
from pombo.meta.transport.results import Reason

# Enough to fill 500 sockets in five round trips, and no stampede on a server that has just come back.
MAX_CONNECTING = 100
# After failures: soon enough to notice a restart, and at most eight attempts a minute on a dead server.
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 15.0


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt to connect."""

    started: float
    volley: int
    """Attempts that are under way together fail together: only the first of them lengthens the back-off."""
    task: asyncio.Task[tuple[Reason, str] | None] | None = None
    given_up: bool = False

    def give_up(self) -> None:
        if not self.given_up and self.task is not None:
            self.given_up = True
            self.task.cancel()


class Listener(Protocol):
    def connect_failed(self, reason: Reason, detail: str) -> None: ...


class Connector:
    """Starts attempts; a successful one ends in `succeeded`, called by the connection it made.

    After a failure nothing is tried until the back-off is over; then one attempt finds out whether the server is back.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        listener: Listener,
        protocol: Callable[[Attempt], asyncio.BaseProtocol],
        *,
        timeout: float,
        now: Callable[[], float],
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self._endpoint = endpoint
        self._listener = listener
        self._protocol = protocol
        self._timeout = timeout
        self._now = now
        self._ssl_context = ssl_context
        self.attempts: set[Attempt] = set()
        self.limit = MAX_CONNECTING
        """How many attempts may be under way now: 0 while backing off, 1 to find out."""
        self._failures_in_a_row = 0
        self._volley = 0
        self._again_at = 0.0
        self._closed = False

    def start_attempt(self) -> None:
        attempt = Attempt(self._now(), self._volley)
        self.attempts.add(attempt)
        attempt.task = asyncio.get_running_loop().create_task(self._try_addresses(attempt))
        attempt.task.add_done_callback(lambda task: self._ended(attempt, task))

    def succeeded(self, attempt: Attempt) -> None:
        self.attempts.discard(attempt)
        self._failures_in_a_row = 0
        self.limit = MAX_CONNECTING

    def sweep(self, now: float) -> None:
        for attempt in self.attempts:
            if now - attempt.started >= self._timeout:
                attempt.give_up()
        if not self.limit and now >= self._again_at:
            self.limit = 1

    async def close(self) -> None:
        self._closed = True
        for attempt in self.attempts:
            attempt.give_up()
        if tasks := [attempt.task for attempt in self.attempts if attempt.task is not None]:
            await asyncio.wait(tasks)

    async def _try_addresses(self, attempt: Attempt) -> tuple[Reason, str] | None:
        """Connect to the first address that answers; otherwise why not."""
        endpoint = self._endpoint
        reason, detail = Reason.RESOLVE, ""
        try:
            for address in await endpoint.addresses(self._now):
                try:
                    await asyncio.get_running_loop().create_connection(
                        lambda: self._protocol(attempt),
                        address,
                        endpoint.port,
                        ssl=self._ssl_context,
                        server_hostname=endpoint.host if self._ssl_context else None,
                    )
                    return None
                except OSError as error:
                    endpoint.failed(address)
                    reason = Reason.TLS if isinstance(error, ssl.SSLError) else Reason.CONNECT
                    detail = f"{address}: {error}"
        except Exception as error:
            # Not only OSError (a name that cannot be encoded, say): a request waits for this, and must be told.
            detail = f"{endpoint.host}: {error}"
        return reason, detail

    def _ended(self, attempt: Attempt, task: asyncio.Task[tuple[Reason, str] | None]) -> None:
        # A callback and not the task's own last step, which a task cancelled before its first never comes to.
        if task.cancelled():
            self._failed(attempt, Reason.CONNECT_TIMEOUT, "")
        elif failure := task.result():
            self._failed(attempt, *failure)

    def _failed(self, attempt: Attempt, reason: Reason, detail: str) -> None:
        self.attempts.discard(attempt)
        if self._closed:
            return
        if attempt.volley == self._volley:
            self._volley += 1
            self._failures_in_a_row += 1
            # The exponent is bounded because a server may be dead for days, and floats end at 2^1024.
            backoff = min(_BACKOFF_FIRST_S * 2.0 ** min(self._failures_in_a_row - 1, 10), _BACKOFF_MAX_S)
            # Jitter, so that many processes do not come back together.
            self._again_at = self._now() + backoff * random.uniform(0.5, 1.0)  # noqa: S311
            self.limit = 0
        self._listener.connect_failed(reason, detail)
