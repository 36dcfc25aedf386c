"""Rows of worker processes that are long gone and have nothing in flight."""

from datetime import timedelta

from pombo.store import sweep
from pombo.store.database import Database

# Their last figures stay readable for a day.
_AGE = timedelta(days=1)


async def run_once(database: Database) -> int:
    """Returns how many it deleted. Raises DatabaseUnavailable."""
    async with database.borrow() as connection:
        return await sweep.sweep(connection, "workers", _AGE)
