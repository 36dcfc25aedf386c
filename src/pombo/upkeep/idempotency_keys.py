"""Answers kept for clients that repeat a request, forgotten after their retention."""

from pombo.store import idempotency
from pombo.store.database import Database


async def run_once(database: Database) -> int:
    """Returns how many it forgot. Raises DatabaseUnavailable."""
    async with database.borrow() as connection:
        return await idempotency.forget_expired(connection)
