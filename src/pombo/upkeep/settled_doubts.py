"""Doubts whose message is settled: what a crash has left of them, where no worker looks at the channel any more."""

from pombo.store import sweep
from pombo.store.database import Database


async def run_once(database: Database) -> int:
    """Returns how many it deleted. Raises DatabaseUnavailable."""
    async with database.borrow() as connection:
        return await sweep.forget_settled_doubts(connection)
