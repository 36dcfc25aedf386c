from datetime import timedelta

import asyncpg

from pombo.store import partitions
from pombo.store.database import Connection, Database, connect


async def test_partitions_are_made_from_yesterday_to_the_days_ahead_and_only_once(database: Database, url: str) -> None:
    made = await partitions.create(url, days_ahead=5)
    assert len(made) == 3 * len(partitions.PARENTS)  # the template has two days ahead already
    assert await partitions.create(url, days_ahead=5) == []

    async with database.borrow() as connection:
        found = await partitions.report(connection)
        today = await connection.fetchval("SELECT current_date")
    days = [p.day for p in found if p.table == "deliveries"]
    assert days == [today + timedelta(days=n) for n in range(-1, 6)]


async def test_partitions_older_than_the_retention_are_dropped(database: Database, url: str) -> None:
    await partitions.create(url, days_ahead=2)
    assert await partitions.drop(url, retention_days=1) == []

    dropped = await partitions.drop(url, retention_days=0)

    assert len(dropped) == len(partitions.PARENTS)  # yesterday's
    async with database.borrow() as connection:
        today = await connection.fetchval("SELECT current_date")
        assert min(p.day for p in await partitions.report(connection)) == today


async def test_a_detach_that_was_interrupted_is_finished_by_the_next_round(database: Database, url: str) -> None:
    async with database.borrow() as connection:
        name = next(p.name for p in await partitions.report(connection) if p.table == "deliveries")
    reader = await _open_transaction(url)
    try:
        detaching = await _detach_until_timeout(url, name)
        assert detaching
    finally:
        await reader.close()

    assert name in await partitions.drop(url, retention_days=0)


async def test_a_partition_that_was_detached_but_not_dropped_is_dropped_by_the_next_round(
    database: Database, url: str
) -> None:
    async with database.borrow() as connection:
        name = next(p.name for p in await partitions.report(connection) if p.table == "deliveries")
    owner = await connect(url, "pombo_owner")
    await owner.execute(f"ALTER TABLE deliveries DETACH PARTITION {name}")

    await partitions.drop(url, retention_days=0)

    assert await owner.fetchval("SELECT to_regclass($1)", name) is None
    await owner.close()


async def _open_transaction(url: str) -> Connection:
    connection = await connect(url, "pombo_worker")
    await connection.execute("SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT count(*) FROM deliveries")
    return connection


async def _detach_until_timeout(url: str, name: str) -> bool:
    connection = await connect(url, "pombo_owner")
    try:
        await connection.execute("SET statement_timeout = '300ms'")
        await connection.execute(f"ALTER TABLE deliveries DETACH PARTITION {name} CONCURRENTLY")
    except asyncpg.QueryCanceledError:
        return True
    finally:
        await connection.close()
    return False
