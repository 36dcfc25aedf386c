"""Day partitions of the logs: made ahead, dropped after the retention."""

from pombo.store import partitions
from pombo.store.database import Database
from pombo.telemetry import log


async def run_once(
    database: Database, days_ahead: int, retention_days: int, webhook_retention_days: int | None = None
) -> int:
    """Returns how many were made or dropped. Raises DatabaseUnavailable, or what the lock time-out raises."""
    made = await partitions.create(database.url, days_ahead)
    dropped = await partitions.drop(database.url, retention_days, webhook_retention_days)
    if made or dropped:
        log.info("partitions_tended", made=len(made), dropped=len(dropped))
    return len(made) + len(dropped)
