"""Who numbers events at once: the holder of an advisory lock. Others may number as well; see `store.event_log`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pombo.store import event_log
from pombo.store.database import away
from pombo.store.errors import DatabaseUnavailable
from pombo.store.events import BELL
from pombo.store.lock import Lock, open_lock

# "event" in ASCII; any constant shared by all Pombos.
_LOCK = 0x6576656E74
# A machine that lost its power says no goodbye: the server asks it after 5 s, and gives its session up after 11.
_KEEPALIVE = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3"


class TailLease:
    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    async def take(self) -> bool:
        """Without waiting. Raises DatabaseUnavailable."""
        return await self._lock.take()

    async def number(self, limit: int) -> int:
        """As `event_log.number`, on the lease's own connection. Raises DatabaseUnavailable."""
        with away():
            return await event_log.number(self._lock.connection, limit)

    async def give_up(self) -> None:
        """Whoever takes it next hears of it, and need not wait for an event or a poll."""
        with suppress(DatabaseUnavailable), away():
            await self._lock.connection.execute(
                f"SELECT pg_advisory_unlock({_LOCK}), pg_notify('{BELL}', '')", timeout=1
            )


@asynccontextmanager
async def open_tail_lease(url: str) -> AsyncIterator[TailLease]:
    """Raises DatabaseUnavailable."""
    async with open_lock(url, _LOCK, "pombo tailer") as lock:
        with away():
            await lock.connection.execute(_KEEPALIVE)
            await event_log.always_by_index(lock.connection)
        yield TailLease(lock)
