"""Whole workers against the sandbox and a real database."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from pombo.domain.ids import WorkspaceId
from pombo.sending.worker import Worker, WorkerOptions
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.sandbox_server import SandboxHandle, running_sandbox
from tests.seeding import SeededRun, add_channel, add_run, add_workspace, figures


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxHandle]:
    async with running_sandbox() as handle:
        yield handle


@pytest.fixture
async def workspace(database: Database) -> WorkspaceId:
    return await add_workspace(database)


@pytest.fixture
def options(sandbox: SandboxHandle) -> WorkerOptions:
    return WorkerOptions(
        graph_api_url=sandbox.base_url, graph_api_version="v26.0", max_sockets=20, concurrency=20, answer_timeout_s=5
    )


@asynccontextmanager
async def working(database: Database, box: SecretBox, options: WorkerOptions) -> AsyncIterator[Worker]:
    worker, stop = Worker(database, box, options), asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        stop.set()
        await task


async def until(
    worker: Worker, database: Database, run: SeededRun, done: Callable[[dict[str, int]], bool]
) -> dict[str, int]:
    """The figures once they are `done`, looked at after each batch of outcomes."""
    async with asyncio.timeout(20), database.borrow() as connection:
        while True:
            worker.saved.clear()
            if done(found := await figures(connection, run)):
                return found
            await worker.saved.wait()


async def test_every_message_is_accepted_once_and_logged_with_the_provider_id(
    database: Database, box: SecretBox, sandbox: SandboxHandle, workspace: WorkspaceId, options: WorkerOptions
) -> None:
    app = await sandbox.add_app()
    page, phone = (
        await sandbox.add_page(app, brake_per_second=None),
        await sandbox.add_phone(app, messages_per_second=None),
    )
    first = await add_channel(database, box, workspace, page)
    second = await add_channel(database, box, workspace, phone)
    recipients = [(first, str(10_000 + n)) for n in range(300)] + [
        (second, f"+1555{2_000_000 + n}") for n in range(300)
    ]
    run = await add_run(database, workspace, recipients)

    async with working(database, box, options) as worker:
        found = await until(worker, database, run, lambda f: f.get("accepted", 0) == 600)

    assert found == {"total": 600, "accepted": 600}
    ledger = await sandbox.ledger()
    assert (ledger["accepted"], ledger["duplicates"]) == (600, 0)
    async with database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
        assert await connection.fetchval("SELECT count(*) FROM intents") == 0
        assert await connection.fetchval("SELECT count(*) FROM workers") == 0
        logged = {
            (row["recipient"].lstrip("+"), row["provider_id"])
            for row in await connection.fetch("SELECT recipient, provider_id FROM deliveries WHERE state = 2")
        }
    assert logged == {(m["recipient"], m["provider_id"]) for m in await sandbox.messages()}
