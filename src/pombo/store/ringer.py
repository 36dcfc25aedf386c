"""Rings bells after commits, on a connection of its own: NOTIFY within a transaction makes commits wait for each other.

What is rung while the last ring is still under way goes together in the next statement, equal ones once. Losing a ring
loses nothing: whoever listens also polls.
"""

import asyncio

from pombo.store.database import Connection, away, connect
from pombo.store.errors import DatabaseUnavailable

# At most so many statements a second: each costs the server a transaction, which nobody waits to be durable.
_GAP_S = 0.002
_RETRY_S = 1.0
# Rings that wait while the database is away; what is older has lost its meaning.
_MOST_WAITING = 1000


class Ringer:
    """`ring` from anywhere in the loop; `run` in a task."""

    def __init__(self, url: str) -> None:
        self._url = url
        # A dict keeps the order, and each ring once.
        self._waiting: dict[tuple[str, str], None] = {}
        self._rung = asyncio.Event()

    def ring(self, bell: str, payload: str = "") -> None:
        """`payload` has fewer than 8,000 bytes, PostgreSQL's limit."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting[bell, payload] = None
            self._rung.set()

    async def run(self) -> None:
        """Until it is cancelled, whatever becomes of the database."""
        while True:
            try:
                connection = await connect(self._url, "pombo_worker", "pombo ringer")
            except DatabaseUnavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                with away():
                    await connection.execute("SET synchronous_commit = off")
                    while True:
                        await self._ring_all(connection)
            except DatabaseUnavailable:
                await asyncio.sleep(_RETRY_S)
            finally:
                connection.terminate()

    async def _ring_all(self, connection: Connection) -> None:
        await self._rung.wait()
        self._rung.clear()
        bells, payloads = zip(*self._waiting, strict=True)
        self._waiting.clear()
        await connection.execute(
            "SELECT pg_notify(bell, payload) FROM unnest($1::text[], $2::text[]) AS rung (bell, payload)",
            bells,
            payloads,
        )
        await asyncio.sleep(_GAP_S)
