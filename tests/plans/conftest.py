"""One data set for all plans: a million waiting messages, 300,000 paused ones in their way, and a log of two days.

Built once; tests change it only in transactions that are rolled back. What the planner is made to believe of it is
another matter: see `explained`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from pombo.store import embedded
from tests.conftest import _TEMPLATE, database_url
from tests.plans.dataset import FILL, SMALL, Slices
from tests.plans.explain import Explained

# Indexes are faster made than kept: those of the large tables go before the rows come, and are made anew after.
_PREPARE = """
DO $$
DECLARE
    t regclass;
BEGIN
    FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'pombo'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', t);
    END LOOP;
END
$$;
CREATE TEMPORARY TABLE due AS SELECT pg_get_indexdef('outbox_due'::regclass) AS definition;
DROP INDEX outbox_due;
ALTER TABLE outbox DROP CONSTRAINT outbox_pkey;
"""
_FINISH = """
ALTER TABLE outbox ADD CONSTRAINT outbox_pkey PRIMARY KEY (workspace_id, id);
DO $$ BEGIN EXECUTE (SELECT definition FROM due); END $$;
"""
_FORGET = """
DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'pombo'::regnamespace);
UPDATE pg_class SET reltuples = {tuples}, relpages = 0, relallvisible = 0
WHERE relnamespace = 'pombo'::regnamespace AND relkind IN ('r', 'i')
"""
# What the statistics of all tables are made to be: none yet, those of an empty table, true ones.
STATISTICS = {"never": _FORGET.format(tuples=-1), "empty": _FORGET.format(tuples=0), "analyzed": "ANALYZE"}


@pytest.fixture(scope="session")
def filled(server: embedded.EmbeddedServer) -> Iterator[str]:
    name = f"plans_{os.getpid()}"
    url = database_url(server, name)
    asyncio.run(_execute(server.url, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy"))
    asyncio.run(_execute(url, _PREPARE + SMALL + FILL + _FINISH))
    yield url
    asyncio.run(_execute(server.url, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url, server_settings={"search_path": "pombo,public", "timezone": "UTC"})
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def slices() -> Slices:
    return Slices()


@pytest.fixture(scope="session", params=STATISTICS)
def statistics(filled: str, request: pytest.FixtureRequest) -> str:
    """The data set, with the planner made to believe this of it."""
    for table in ("doubts", "retries", "intents", "pending_receipts", "watermarks"):
        # What tests have rolled back so far must not count as theirs.
        asyncio.run(_execute(filled, f"VACUUM {table}"))
    asyncio.run(_execute(filled, STATISTICS[request.param]))
    return filled


@pytest.fixture
async def explained(statistics: str) -> AsyncIterator[Explained]:
    async with Explained.connect(statistics) as connected:
        yield connected
