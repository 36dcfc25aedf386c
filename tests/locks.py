"""For tests of transactions that wait for each other."""

import asyncio

from pombo.store.database import Connection


async def blocked(connection: Connection, count: int = 1) -> None:
    """Returns when so many of this database's connections wait for others' locks."""
    async with asyncio.timeout(20):
        while (
            await connection.fetchval(
                """SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"""
            )
            < count
        ):
            await asyncio.sleep(0.01)


class Died(BaseException):
    """As a killed process: nothing that still runs handles it."""
