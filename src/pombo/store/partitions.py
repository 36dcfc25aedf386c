"""Day partitions of the logs: made ahead, dropped after the retention, never in a lane's way.

A partition is created apart, then attached (which locks the parent against DDL alone, not against reads and writes),
and detached concurrently before it is dropped. Each step has a lock time-out and is tried again at the next round.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import asyncpg

from pombo.store.database import Connection, atomic, connect

PARENTS = ("deliveries", "webhook_log")

# Each delivery is updated by about two receipts: with half a page free 94 % of them are heap-only, with a fifth 36 %,
# and as the others cost a row and three index entries each, the fuller pages end a quarter larger.
_FILLFACTOR = {"deliveries": 50, "webhook_log": 100}
_LOCK_TIMEOUT = "2s"
# Any constant shared by all Pombos ("parts" in ASCII): one process tends the partitions at a time.
_LOCK = 0x7061727473

# Left by a round that ended between detaching and dropping.
_DETACHED = """
SELECT c.relname FROM pg_class c
CROSS JOIN LATERAL regexp_match(c.relname, '^(.+)_([0-9]{8})$') AS part
WHERE c.relnamespace = 'pombo'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
  AND part[1] = ANY ($1::text[]) AND part[2] < $2
"""


@dataclass(frozen=True, slots=True)
class Partition:
    table: str
    name: str
    day: date
    row_estimate: int
    total_bytes: int


async def report(connection: Connection) -> list[Partition]:
    rows = await connection.fetch("SELECT * FROM public.get_partition_stats()")
    return [Partition(*row) for row in rows]


async def create(url: str, days_ahead: int) -> list[str]:
    """Makes what is missing from yesterday (an intent of before midnight) to `days_ahead`; returns the names made."""
    connection = await connect(url, "pombo_owner", "pombo partitions")
    try:
        await _begin(connection)
        today = await _today(connection)
        present = {partition.name for partition in await report(connection)}
        made = []
        for parent in PARENTS:
            for offset in range(-1, days_ahead + 1):
                day = today + timedelta(days=offset)
                name = f"{parent}_{day:%Y%m%d}"
                if name not in present:
                    await _make(connection, parent, name, day)
                    made.append(name)
        return made
    finally:
        await connection.close()


async def drop(url: str, retention_days: int, webhook_retention_days: int | None = None) -> list[str]:
    """Drops the partitions of days more than `retention_days` ago; returns their names.

    The webhook log may be kept for another number of days.
    """
    kept = dict.fromkeys(PARENTS, retention_days)
    if webhook_retention_days is not None:
        kept["webhook_log"] = webhook_retention_days
    connection = await connect(url, "pombo_owner", "pombo partitions")
    try:
        await _begin(connection)
        today = await _today(connection)
        oldest = {parent: today - timedelta(days=days) for parent, days in kept.items()}
        gone = [partition for partition in await report(connection) if partition.day < oldest[partition.table]]
        for partition in gone:
            try:
                await connection.execute(
                    f"ALTER TABLE {partition.table} DETACH PARTITION {partition.name} CONCURRENTLY"
                )
            except asyncpg.ObjectNotInPrerequisiteStateError:
                # A former round was interrupted half-way through its concurrent detach.
                await connection.execute(f"ALTER TABLE {partition.table} DETACH PARTITION {partition.name} FINALIZE")
            await connection.execute(f"DROP TABLE {partition.name}")
        for parent, day in oldest.items():
            for name in await connection.fetch(_DETACHED, [parent], f"{day:%Y%m%d}"):
                await connection.execute(f"DROP TABLE {name['relname']}")
        return [partition.name for partition in gone]
    finally:
        await connection.close()


async def _begin(connection: Connection) -> None:
    await connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)


async def _today(connection: Connection) -> date:
    today: date = await connection.fetchval("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    return today


async def _make(connection: Connection, parent: str, name: str, day: date) -> None:
    following = day + timedelta(days=1)
    async with atomic(connection):
        # A leftover of a dropped parent's partition, or of a crash between create and attach, would be in the way.
        await connection.execute(f"DROP TABLE IF EXISTS {name}")
        await connection.execute(
            f"""CREATE TABLE {name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
                CHECK (day >= '{day}' AND day < '{following}')) WITH (fillfactor = {_FILLFACTOR[parent]})"""
        )
    await connection.execute(
        f"ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ('{day}') TO ('{following}')"
    )
