"""Streams of direct messages into which nothing was queued for some time."""

from pombo.store import direct
from pombo.store.database import Database


async def run_once(database: Database) -> int:
    """Returns how many it closed. Raises DatabaseUnavailable."""
    async with database.borrow() as connection:
        return await direct.close_silent_streams(connection)
