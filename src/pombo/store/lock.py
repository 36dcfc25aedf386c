"""A lock of the whole system: one process holds it, for as long as its session lives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pombo.store.database import Connection, away, close, connect


class Lock:
    """Ends with its session, so a dead process holds none."""

    def __init__(self, connection: Connection, key: int) -> None:
        self.connection = connection
        self._key = key

    async def take(self) -> bool:
        """Without waiting; True as well when it is held already. Raises DatabaseUnavailable when the session ended."""
        with away():
            held: bool = await self.connection.fetchval(
                """SELECT CASE WHEN EXISTS (
                       SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
                         AND (classid::bigint << 32) + objid::bigint = $1 AND objsubid = 1
                   ) THEN true ELSE pg_try_advisory_lock($1) END""",
                self._key,
            )
            return held


@asynccontextmanager
async def open_lock(url: str, key: int, application: str) -> AsyncIterator[Lock]:
    """`key` is any constant shared by all Pombos. Raises DatabaseUnavailable."""
    connection = await connect(url, "pombo_worker", application)
    try:
        yield Lock(connection, key)
    finally:
        await close(connection)
