import asyncio

import pytest

from pombo.store import database as database_module
from pombo.store.database import Database


async def test_a_client_that_falls_silent_in_the_middle_of_a_statement_holds_its_locks_for_a_bounded_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_BOUND", "SET LOCAL transaction_timeout = '300ms'")
    async with asyncio.timeout(20), database.borrow() as waiting:
        await waiting.execute("INSERT INTO workspaces (name) VALUES ('acme')")
        silent = database.transaction()
        connection = await silent.__aenter__()
        await connection.execute("UPDATE workspaces SET name = 'taken'")
        # The server has parsed it, and waits for the word to execute it.
        await connection.prepare("SELECT 1")

        await waiting.execute("UPDATE workspaces SET name = 'free'")

        with pytest.raises(database_module.DatabaseUnavailable):
            await silent.__aexit__(None, None, None)
        assert await waiting.fetchval("SELECT name FROM workspaces") == "free"
