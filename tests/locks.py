"""For tests of transactions that wait for each other, and of processes that die."""

import asyncio

from pombo.store.database import Connection


async def blocked(connection: Connection, count: int = 1) -> None:
    """Returns when so many of this database's connections wait for others' locks. Not for a connection in a
    transaction: that does not see who connects later."""
    query = """SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"""
    async with asyncio.timeout(20):
        while await connection.fetchval(query) < count:
            await asyncio.sleep(0.01)


async def blocked_by(connection: Connection, blocker: Connection) -> None:
    """Returns when somebody waits for a lock of the blocker's. Not in a transaction, either."""
    query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))"
    pid = blocker.get_server_pid()
    async with asyncio.timeout(10):
        while not await connection.fetchval(query, pid):
            await asyncio.sleep(0.01)


class Died(BaseException):
    """As a killed process: nothing that still runs handles it."""
