"""A worker's lock: held from before its first intent until everything that it did is over.

It is an advisory lock of a session of its own, so it ends with the process, however that ends, and not with a process
that is merely stopped or slow, as a lease does. Whoever finds it free knows that nothing of the worker's is to come.
"""

import asyncio
from typing import Any

from pombo.domain.ids import WorkerId
from pombo.store.database import Connection, away, close, connect
from pombo.store.errors import DatabaseUnavailable

# "work" in ASCII; any constant shared by all Pombos.
_CLASS = 0x776F726B

LIVING = f"""
    SELECT objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {_CLASS} AND objsubid = 2 AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""A subquery: the ids of the workers whose lock is held."""

# A machine that lost its power says no goodbye: the server asks it after 10 s, and gives its session up after 25.
_KEEPALIVE = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
# The other way round: how often this side asks whether the session lives, when nothing tells of its end.
_ASK_EVERY_S = 5.0


class WorkerLock:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ended = asyncio.Event()
        connection.add_termination_listener(self._terminated)

    def _terminated(self, connection: Any) -> None:
        self._ended.set()

    @classmethod
    async def take(cls, url: str, worker_id: WorkerId) -> "WorkerLock":
        """Raises DatabaseUnavailable, also when a former session of the worker's that broke has not ended yet."""
        connection = await connect(url, "pombo_worker", "pombo worker lock")
        try:
            with away():
                await connection.execute(_KEEPALIVE)
                taken = await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _CLASS, worker_id)
            if not taken:
                raise DatabaseUnavailable(f"The lock of worker {worker_id} is still held by its former session.")
        except BaseException:
            await close(connection)
            raise
        return cls(connection)

    async def lost(self) -> None:
        """Returns when the session has ended, and the lock with it."""
        while not self._ended.is_set():
            try:
                async with asyncio.timeout(_ASK_EVERY_S):
                    await self._ended.wait()
            except TimeoutError:
                try:
                    with away():
                        await self._connection.execute("SELECT 1", timeout=_ASK_EVERY_S)
                except DatabaseUnavailable:
                    break
        self._connection.terminate()

    async def release(self) -> None:
        if not self._connection.is_closed():
            self._connection.remove_termination_listener(self._terminated)
            await close(self._connection)
