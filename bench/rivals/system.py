"""What a measured system is to the runner: prepared with messages, started, asked when all is stored."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from bench.child import Child
from bench.place import Place
from bench.receipts import Receipts


@dataclass(frozen=True, slots=True)
class Work:
    messages: int
    """In the queue before the start; none for a paced run."""
    total: int
    """To be sent in all."""
    channels: int
    connections: int
    processes: int
    """Of workers."""
    server_url: str
    with_receipts: bool


class Running(Protocol):
    """Prepared, its processes up, its workers waiting for `go`."""

    @property
    def parts(self) -> dict[str, list[Child]]:
        """Processes by what they are: `worker`, `receiver`, `broker`."""

    async def go(self) -> None: ...

    async def enqueue(self, first: int, count: int) -> None:
        """More messages, due now, by the system's own call for many."""

    async def all_stored(self) -> None:
        """Called when all is enqueued; returns when it is in the delivery log. Raises ChildFailed or TimeoutError."""

    async def all_applied(self) -> int:
        """Called when all receipts were posted and answered; how many messages are `read` when all is applied."""

    async def accepted(self) -> int:
        """How many messages the delivery log has."""


Open = Callable[[Place, Work], AbstractAsyncContextManager[Running]]


@dataclass(frozen=True, slots=True)
class System:
    name: str
    open: Open
    receipts: Receipts
    """Where its receiver takes webhooks."""
    installs: Callable[[], None]
    """Raises SetupError."""
