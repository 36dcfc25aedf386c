"""Connections to the database that silently lead nowhere any more, while new ones do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pombo.store import database as database_module
from pombo.store import outbox
from pombo.store.database import Database
from pombo.store.errors import DatabaseUnavailable
from tests.chaos.proxy import Proxy
from tests.service.test_worker import Setting, options, setting, until, working

__all__ = ["options", "setting"]  # fixtures


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_LANES", database_module._LANES._replace(command_s=0.5))
    monkeypatch.setattr(database_module, "_GIVE_BACK_S", 0.2)
    monkeypatch.setattr(outbox, "INTENT_TIMEOUT_S", 0.5)


@asynccontextmanager
async def line_to(database: Database) -> AsyncIterator[tuple[Proxy, Database]]:
    line, url = await Proxy.to_database(database.url)
    try:
        async with Database.open(url) as through:
            yield line, through
    finally:
        await line.close()


async def test_a_worker_goes_on_over_new_connections_under_its_lease(setting: Setting) -> None:
    run = await setting.run(2000)
    async with (
        line_to(setting.database) as (line, through),
        working(through, setting.box, setting.options) as worker,
    ):
        await asyncio.wait_for(worker.saved.wait(), 10)
        worker_id = worker.worker_id
        line.lose()
        found = await until(worker, setting.database, run, lambda f: f.get("accepted") == 2000)
        assert worker.worker_id == worker_id
    assert found == {"total": 2000, "accepted": 2000}
    ledger = await setting.sandbox.ledger()
    assert (ledger["accepted"], ledger["duplicates"]) == (2000, 0)


async def test_bells_are_heard_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_PULSE_S", 0.05)
    monkeypatch.setattr(database_module, "_PULSE_TIMEOUT_S", 0.2)
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with line_to(database) as (line, through), asyncio.timeout(20):
        listening = asyncio.create_task(
            through.keep_listening({"bell": heard.put_nowait}, began=lambda: heard.put_nowait("began"))
        )
        assert await heard.get() == "began"
        line.lose()
        assert await heard.get() == "began"
        async with database.borrow() as connection:
            await connection.execute("NOTIFY bell, 'rung'")
        assert await heard.get() == "rung"
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_statement_that_nobody_answers_ends_and_its_connection_is_not_used_again(database: Database) -> None:
    async with line_to(database) as (line, through), asyncio.timeout(5):

        async def ask() -> int:
            async with through.borrow(for_lanes=True) as connection:
                line.lose()
                answer: int = await connection.fetchval("SELECT 1")
                return answer

        with pytest.raises(DatabaseUnavailable):
            await ask()
        async with through.borrow(for_lanes=True) as connection:
            assert await connection.fetchval("SELECT 1") == 1
