"""Doubts whose message was settled in the very moment in which they were noted."""

from pombo.store import sweep
from pombo.store.database import Database


async def run_once(database: Database) -> int:
    """Returns how many it deleted. Raises DatabaseUnavailable."""
    async with database.borrow() as connection:
        return await sweep.forget_settled_doubts(connection)
