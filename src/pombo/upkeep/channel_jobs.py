"""Channel jobs whose time is over, and those that failed a week ago."""

from pombo.store import channel_jobs
from pombo.store.database import Database


async def run_once(database: Database) -> int:
    """Returns how many it deleted. Raises DatabaseUnavailable."""
    async with database.borrow() as connection:
        return await channel_jobs.sweep(connection)
