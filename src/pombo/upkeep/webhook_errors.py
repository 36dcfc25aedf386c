"""Webhooks that were given up are shown for as long as the log holds their bytes."""

from datetime import timedelta

from pombo.store import sweep
from pombo.store.database import Database


async def run_once(database: Database, retention_days: int) -> int:
    """Returns how many it deleted. Raises DatabaseUnavailable."""
    async with database.borrow() as connection:
        return await sweep.sweep(connection, "webhook_errors", timedelta(days=retention_days))
