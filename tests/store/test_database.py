import asyncio

import asyncpg
import pytest

from pombo.store import database as database_module
from pombo.store.database import Connection, Database, atomic


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


async def test_a_part_of_a_transaction_is_undone_alone(database: Database) -> None:
    async def fail_in_part(connection: Connection) -> None:
        async with atomic(connection):
            await connection.execute("INSERT INTO workspaces (name) VALUES ('undone')")
            await connection.execute("SELECT 1 / 0")

    async with database.transaction() as connection:
        await connection.execute("INSERT INTO workspaces (name) VALUES ('kept')")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await fail_in_part(connection)
    async with database.borrow() as connection:
        assert [row["name"] for row in await connection.fetch("SELECT name FROM workspaces")] == ["kept"]


async def test_a_transaction_that_an_error_ended_is_not_taken_for_committed(database: Database) -> None:
    async def pass_an_error_over() -> None:
        async with database.transaction() as connection:
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.execute("SELECT 1 / 0")

    with pytest.raises(RuntimeError, match="Nothing was committed"):
        await pass_an_error_over()
    async with database.borrow() as connection:
        assert not connection.is_in_transaction()
