"""For tests of transactions that wait for each other."""

import asyncio

from pombo.store.database import Connection


async def blocked(connection: Connection, count: int = 1) -> None:
    """Returns when so many statements wait for a lock."""
    async with asyncio.timeout(20):
        while await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < count:
            await asyncio.sleep(0.01)
