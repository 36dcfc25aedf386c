"""For tests of transactions that wait for each other."""

import asyncio

from pombo.store.database import Connection


async def blocked(connection: Connection) -> None:
    """Returns when some statement waits for a lock."""
    async with asyncio.timeout(20):
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
