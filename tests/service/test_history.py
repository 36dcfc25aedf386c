"""A Page's past: read by several workers in turn, within Meta's two calls a second, and nothing twice."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.ingest.history import HistoryReader
from pombo.sending.worker import Worker, WorkerOptions
from pombo.store import channel_jobs, syncs
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.sandbox_server import ChannelHandle, SandboxHandle
from tests.seeding import add_channel

# Meta's two a second, twenty-five times as fast: both sides of the limit are scaled alike.
SCALE = 25
CALLS_PER_S = 2.0 * SCALE
OURS_PER_S = 1.9 * SCALE


@pytest.fixture
async def page(sandbox: SandboxHandle) -> ChannelHandle:
    return await sandbox.add_page(await sandbox.add_app(), conversation_calls_per_second=CALLS_PER_S)


@pytest.fixture
async def channel(database: Database, box: SecretBox, workspace: WorkspaceId, page: ChannelHandle) -> ChannelId:
    return await add_channel(database, box, workspace, page)


@pytest.fixture
def options(sandbox: SandboxHandle) -> WorkerOptions:
    return WorkerOptions(
        graph_api_url=sandbox.base_url,
        graph_api_version="v26.0",
        max_sockets=20,
        concurrency=20,
        answer_timeout_s=20,
        conversations_per_s=OURS_PER_S,
    )


@asynccontextmanager
async def reading(database: Database, box: SecretBox, options: WorkerOptions) -> AsyncIterator[Worker]:
    worker, stop, history = Worker(database, box, options), asyncio.Event(), HistoryReader(database)
    tasks = [asyncio.create_task(worker.run(stop)), asyncio.create_task(history.run(stop))]
    bells = {
        channel_jobs.BELL: lambda _: worker.jobs.bell.set(),
        channel_jobs.FETCHED_BELL: lambda _: history.bell.set(),
    }
    try:
        async with database.listen(bells):
            yield worker
    finally:
        stop.set()
        history.bell.set()
        await asyncio.gather(*tasks)


async def start(database: Database, workspace: int, channel: int, wanted: int) -> int:
    async with database.transaction() as connection:
        sync_id: int = json.loads(await syncs.start(connection, workspace, channel, wanted))["id"]
    return sync_id


async def look(connection: Connection, workspace: int, sync_id: int) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(await syncs.show(connection, workspace, sync_id) or "{}")
    return shown


async def until_read(database: Database, workspace: int, sync_id: int, threads: int | None = None) -> dict[str, Any]:
    """Until so many are read, or until it has ended."""
    async with asyncio.timeout(90), database.borrow() as connection:
        while True:
            shown = await look(connection, workspace, sync_id)
            if shown["state"] != "running" or (threads is not None and shown["threads"] >= threads):
                return shown
            await asyncio.sleep(0.02)


async def count(database: Database, table: str) -> int:
    async with database.borrow() as connection:
        found: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
    return found


async def test_five_thousand_threads_are_read_once_through_three_interruptions_and_within_the_limit(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    channel: ChannelId,
    options: WorkerOptions,
) -> None:
    await sandbox.add_threads(page, 5000, messages=2, newest_ago_s=3600)
    sync_id = await start(database, workspace, channel, 2**31 - 1)
    for threads in (1000, 2500, 4000):
        async with reading(database, box, options):
            await until_read(database, workspace, sync_id, threads)
    async with reading(database, box, options):
        shown = await until_read(database, workspace, sync_id)

    assert (shown["state"], shown["threads"], shown["messages"]) == ("completed", 5000, 10_000)
    assert await count(database, "conversations") == 5000
    assert await count(database, "conversation_messages") == 10_000
    # In any second at most as many as Meta allows, and one that was saved.
    for window_ms in (1000, 200):
        calls = (await sandbox.peak(page, window_ms))["conversation_calls"]
        assert calls <= CALLS_PER_S * window_ms / 1000 + 1
    assert await count(database, "channel_jobs") == 0
    async with database.borrow() as connection:
        unread, last = await connection.fetchrow(
            "SELECT sum(c.unread), count(p.last_inbound_at) FROM conversations c JOIN contacts p ON p.id = c.contact_id"
        )
    assert (unread, last) == (0, 5000)


async def test_what_webhooks_brought_does_not_come_twice_and_a_second_sync_adds_nothing(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    channel: ChannelId,
    options: WorkerOptions,
) -> None:
    await sandbox.add_threads(page, 8, newest_ago_s=3600)
    async with reading(database, box, options):
        first = await until_read(database, workspace, await start(database, workspace, channel, 5))
        again = await until_read(database, workspace, await start(database, workspace, channel, 8))
    assert (first["threads"], first["messages"]) == (5, 20)
    assert (again["threads"], again["messages"]) == (8, 12)
    async with database.borrow() as connection:
        messages = await connection.fetch("SELECT author, text, at FROM conversation_messages ORDER BY at")
        names = await connection.fetchval("SELECT count(DISTINCT name) FROM contacts")
    assert len(messages) == 32
    assert {row["author"] for row in messages} == {"contact", "app"}
    assert names > 1


async def test_our_own_answers_of_this_moment_are_left_to_their_evidence(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    channel: ChannelId,
    options: WorkerOptions,
) -> None:
    await sandbox.add_threads(page, 1, messages=2)
    async with reading(database, box, options):
        shown = await until_read(database, workspace, await start(database, workspace, channel, 5))
    assert shown["messages"] == 1
    async with database.borrow() as connection:
        assert await connection.fetchval("SELECT author FROM conversation_messages") == "contact"


async def test_an_old_cursor_costs_a_quick_way_back_and_no_thread_is_missed(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    channel: ChannelId,
    options: WorkerOptions,
) -> None:
    await sandbox.add_threads(page, 300, messages=1, newest_ago_s=3600)
    sync_id = await start(database, workspace, channel, 2**31 - 1)
    async with reading(database, box, options):
        await until_read(database, workspace, sync_id, 150)
    await sandbox.advance_clock(2 * 3600)
    async with reading(database, box, options):
        shown = await until_read(database, workspace, sync_id)
    assert (shown["state"], shown["threads"], shown["messages"]) == ("completed", 300, 300)


async def test_cursors_that_are_refused_again_and_again_end_the_sync_and_say_why(
    database: Database, workspace: WorkspaceId, channel: ChannelId
) -> None:
    sync_id, reader = await start(database, workspace, channel, 5), HistoryReader(database)
    async with database.borrow() as connection:
        for _ in range(5):
            assert (await look(connection, workspace, sync_id))["state"] == "running"
            await connection.execute("""UPDATE channel_jobs SET state = 'fetched', result = '{"refused": true}'""")
            assert await reader.run_once()
        shown = await look(connection, workspace, sync_id)
    assert shown["state"] == "failed"
    assert "refused its own cursor 5 times" in shown["error"]["title"]


async def test_being_asked_to_wait_is_no_failure_of_the_job(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    channel: ChannelId,
    options: WorkerOptions,
) -> None:
    await sandbox.configure(page, conversation_calls_per_second=1.0)
    await sandbox.add_threads(page, 100, messages=1, newest_ago_s=3600)
    await start(database, workspace, channel, 100)
    async with (
        reading(database, box, replace(options, conversations_per_s=1000.0)),
        asyncio.timeout(20),
        database.borrow() as connection,
    ):
        while not await connection.fetchval("SELECT count(*) FROM channel_jobs WHERE error_title IS NOT NULL"):
            await asyncio.sleep(0.01)
        assert await connection.fetchval("SELECT attempts FROM channel_jobs WHERE error_title IS NOT NULL") == 0


async def test_too_much_at_once_is_asked_for_in_smaller_pages(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    channel: ChannelId,
    options: WorkerOptions,
) -> None:
    await sandbox.add_threads(page, 30, messages=2, newest_ago_s=3600)
    await sandbox.configure(page, most_messages_a_call=20)
    async with reading(database, box, options):
        shown = await until_read(database, workspace, await start(database, workspace, channel, 30))
    assert (shown["state"], shown["threads"], shown["messages"]) == ("completed", 30, 60)


async def test_a_refusal_for_good_ends_the_sync_and_says_why(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    channel: ChannelId,
    options: WorkerOptions,
) -> None:
    async with database.borrow() as connection:
        await connection.execute("UPDATE channels SET external_id = '77'")
    async with reading(database, box, options):
        shown = await until_read(database, workspace, await start(database, workspace, channel, 5))
    assert shown["state"] == "failed"
    assert shown["error"]["code"] == 100


async def test_a_page_that_can_never_be_applied_ends_its_sync_and_holds_up_nobody(
    database: Database, workspace: WorkspaceId, channel: ChannelId, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("pombo.ingest.history.read_page", fail)
    sync_id = await start(database, workspace, channel, 5)
    async with database.borrow() as connection:
        await connection.execute("""UPDATE channel_jobs SET state = 'fetched', result = '{"page": {}}'""")
        reader = HistoryReader(database)
        for _ in range(5):
            assert (await look(connection, workspace, sync_id))["state"] == "running"
            with pytest.raises(RuntimeError):
                await reader.run_once()
        assert (await look(connection, workspace, sync_id))["state"] == "failed"
    assert not await reader.run_once()


async def test_progress_is_told_to_open_browsers(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    channel: ChannelId,
    options: WorkerOptions,
) -> None:
    await sandbox.add_threads(page, 60)
    async with reading(database, box, options):
        await until_read(database, workspace, await start(database, workspace, channel, 60))
    async with database.borrow() as connection:
        rows = await connection.fetch("SELECT data FROM events WHERE name = 'sync.updated' ORDER BY id")
    told = [json.loads(row["data"]) for row in rows]
    assert [(each["state"], each["threads"]) for each in told] == [
        ("running", 0),
        ("running", 25),
        ("running", 50),
        ("running", 60),
        ("completed", 60),
    ]
    assert datetime.fromisoformat(told[-1]["finishedAt"]) <= datetime.now(UTC)


async def test_old_conversations_come_in_closed_and_those_of_today_open(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    channel: ChannelId,
    options: WorkerOptions,
) -> None:
    await sandbox.add_threads(page, 2, apart_s=2 * 86400)
    async with reading(database, box, options):
        await until_read(database, workspace, await start(database, workspace, channel, 5))
    async with database.borrow() as connection:
        rows = await connection.fetch("SELECT status FROM conversations ORDER BY last_message_at DESC")
    assert [row["status"] for row in rows] == ["open", "closed"]
