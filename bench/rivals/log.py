"""The rivals' delivery log in PostgreSQL, as the old stack's: partitioned by day, found by the provider's id."""

from datetime import UTC, datetime, timedelta

import asyncpg

_TABLE = """
CREATE TABLE delivery_log (
    id bigint NOT NULL,
    day date NOT NULL,
    channel text NOT NULL,
    recipient text NOT NULL,
    provider_id text NOT NULL,
    rank smallint NOT NULL,
    accepted_at timestamptz NOT NULL,
    delivered_at timestamptz,
    read_at timestamptz,
    PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);
CREATE INDEX delivery_log_by_provider_id ON delivery_log (provider_id);
"""
READ = 3


async def create(connection: asyncpg.Connection) -> None:
    """With partitions for today and tomorrow, since a run may cross midnight."""
    await connection.execute(_TABLE)
    today = datetime.now(UTC).date()
    for day in (today, today + timedelta(days=1)):
        await connection.execute(
            f"""CREATE TABLE delivery_log_{day:%Y%m%d} PARTITION OF delivery_log
                FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"""
        )
