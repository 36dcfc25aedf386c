"""Calls to Meta that are no sends, by whole workers against the sandbox."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pombo.domain.ids import WorkspaceId
from pombo.ingest.ingester import Ingester
from pombo.sending.worker import Worker, WorkerOptions
from pombo.store import channel_jobs, media, webhooks
from pombo.store.channel_jobs import NewJob
from pombo.store.database import Connection, Database
from pombo.store.media_files import DirectoryFiles
from pombo.store.secrets import SecretBox
from pombo.store.webhooks import SignedWebhook
from tests.sandbox_server import AppHandle, ChannelHandle, SandboxHandle
from tests.seeding import add_channel
from tests.webhook_receiver import running_receiver

PSID, PERSON = "24012345678901", "5511987654321"


@pytest.fixture
def options(sandbox: SandboxHandle) -> WorkerOptions:
    return WorkerOptions(
        graph_api_url=sandbox.base_url, graph_api_version="v26.0", max_sockets=20, concurrency=20, answer_timeout_s=5
    )


@pytest.fixture
def files(tmp_path: Path) -> DirectoryFiles:
    return DirectoryFiles(tmp_path / "media")


@asynccontextmanager
async def working(
    database: Database, box: SecretBox, options: WorkerOptions, files: DirectoryFiles | None
) -> AsyncIterator[Worker]:
    worker, stop = Worker(database, box, options, files=files), asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        async with database.listen({channel_jobs.BELL: lambda _: worker.jobs.bell.set()}):
            yield worker
    finally:
        stop.set()
        await task


async def add_job(database: Database, job: NewJob) -> None:
    async with database.transaction() as connection:
        await channel_jobs.add(connection, [job])


async def until(database: Database, condition: Callable[[Connection], Awaitable[object]]) -> None:
    """Asked again and again; twenty seconds are a failure."""
    async with asyncio.timeout(20):
        async with database.borrow() as connection:
            while not await condition(connection):
                await asyncio.sleep(0.01)


async def none_left(connection: Connection) -> bool:
    return not await connection.fetchval("SELECT count(*) FROM channel_jobs WHERE state = 'ready'")


def action(workspace: int, channel: int, **payload: Any) -> NewJob:
    return NewJob(workspace, channel, "sender_action", json.dumps(payload))


async def receive(database: Database, workspace: int, sandbox: SandboxHandle, app: AppHandle) -> None:
    """What the sandbox tells is stored as the receiver would, and applied."""
    async with running_receiver() as receiver:
        await sandbox.set_webhook(app, receiver.url)
        await sandbox.flush()
        bodies = [delivery.body for delivery in receiver.accepted()]
    async with database.borrow() as connection:
        app_id = await connection.fetchval("SELECT id FROM meta_apps WHERE workspace_id = $1", workspace)
        await webhooks.append(connection, [SignedWebhook(workspace, app_id, body) for body in bodies])
    ingester = Ingester(database)
    while await ingester.run_once():
        pass


async def test_typing_and_seen_reach_the_customer_on_both_channels(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    phone: ChannelHandle,
    workspace: WorkspaceId,
    options: WorkerOptions,
) -> None:
    channels = [await add_channel(database, box, workspace, handle) for handle in (page, phone)]
    async with working(database, box, options, None):
        await add_job(database, action(workspace, channels[0], action="mark_seen", recipient=PSID))
        await add_job(database, action(workspace, channels[0], action="typing_on", recipient=PSID))
        await add_job(
            database, action(workspace, channels[1], action="typing_on", recipient=f"+{PERSON}", messageId="wamid.1")
        )
        await until(database, none_left)
    assert sorted(a["action"] for a in await sandbox.actions(page)) == ["mark_seen", "typing_on"]
    assert [a["action"] for a in await sandbox.actions(phone)] == ["read", "typing"]


async def test_a_job_that_comes_too_late_is_dropped(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    options: WorkerOptions,
) -> None:
    channel = await add_channel(database, box, workspace, page)
    job = action(workspace, channel, action="typing_on", recipient=PSID)
    await add_job(database, job._replace(expires_in_s=-1.0))
    async with working(database, box, options, None):
        await until(database, none_left)
    assert await sandbox.actions(page) == []


async def test_one_job_with_the_same_key_waits_at_a_time(
    database: Database, box: SecretBox, page: ChannelHandle, workspace: WorkspaceId
) -> None:
    channel = await add_channel(database, box, workspace, page)
    job = NewJob(workspace, channel, "profile", "{}", "profile 1")
    await add_job(database, job)
    await add_job(database, job)
    async with database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM channel_jobs") == 1


async def test_what_nobody_can_do_fails_and_says_why(
    database: Database,
    box: SecretBox,
    phone: ChannelHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    options: WorkerOptions,
) -> None:
    number, page_id = [await add_channel(database, box, workspace, handle) for handle in (phone, page)]
    await add_job(database, action(workspace, number, action="typing_off", recipient=PERSON))
    await add_job(database, action(workspace, page_id, action="dance", recipient=PSID))
    await add_job(database, NewJob(workspace, page_id, "profile", '{"recipient": 7}'))
    async with working(database, box, options, None):
        await until(database, none_left)
    async with database.borrow() as connection:
        rows = await connection.fetch("SELECT error_code, error_title FROM channel_jobs ORDER BY id")
    assert [row["error_code"] for row in rows] == [None, 100, None]
    assert "WhatsApp shows typing" in rows[0]["error_title"]
    assert "payload makes no sense" in rows[2]["error_title"]


async def test_a_dead_token_stops_the_channel_and_the_job_waits_for_a_new_one(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    options: WorkerOptions,
) -> None:
    channel = await add_channel(database, box, workspace, replace(page, token="another"))
    await add_job(database, action(workspace, channel, action="mark_seen", recipient=PSID))

    async def stopped(connection: Connection) -> bool:
        return await connection.fetchval("SELECT state FROM channels WHERE id = $1", channel) == "stopped"

    async with working(database, box, options, None) as worker:
        await until(database, stopped)
        await add_channel(database, box, workspace, page)
        worker.ring_leases()
        await until(database, none_left)
    assert [a["action"] for a in await sandbox.actions(page)] == ["mark_seen"]


async def test_files_of_messages_are_fetched_and_kept(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    app: AppHandle,
    page: ChannelHandle,
    phone: ChannelHandle,
    workspace: WorkspaceId,
    options: WorkerOptions,
    files: DirectoryFiles,
) -> None:
    for handle in (page, phone):
        await add_channel(database, box, workspace, handle)
    await sandbox.set_webhook(app, "http://127.0.0.1:9/never")
    await sandbox.script(page, PSID, {"type": "image"})
    await sandbox.script(phone, PERSON, {"type": "file", "media": {"content_base64": "JVBERi0x", "filename": "a.pdf"}})
    await receive(database, workspace, sandbox, app)
    async with working(database, box, options, files):
        await until(database, none_left)
    async with database.borrow() as connection:
        rows = await connection.fetch("SELECT * FROM media ORDER BY size")
        shown = await connection.fetch("SELECT data FROM events WHERE name = 'message.updated'")
    assert [(row["state"], row["content_type"]) for row in rows] == [
        ("stored", "application/pdf"),
        ("stored", "image/png"),
    ]
    assert rows[0]["file_name"] == "a.pdf"
    assert await files.read(workspace, rows[0]["sha256"], 0, 100) == b"%PDF-1"
    assert [json.loads(row["data"])["media"][0]["state"] for row in shown] == ["stored", "stored"]


async def test_a_file_that_is_gone_or_too_large_fails_and_the_message_says_so(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    app: AppHandle,
    phone: ChannelHandle,
    workspace: WorkspaceId,
    options: WorkerOptions,
    files: DirectoryFiles,
) -> None:
    await add_channel(database, box, workspace, phone)
    await sandbox.set_webhook(app, "http://127.0.0.1:9/never")
    [_, gone] = await sandbox.script(phone, PERSON, {"type": "video", "media": {"size": 3000}}, {"type": "audio"})
    await receive(database, workspace, sandbox, app)
    async with database.borrow() as connection:
        source = await connection.fetchval(
            """SELECT f.source ->> 'id' FROM media f JOIN conversation_messages m ON m.id = f.conversation_message_id
               WHERE m.provider_id = $1""",
            gone["id"],
        )
    headers = {"authorization": f"Bearer {phone.token}"}
    assert (await sandbox.http.delete(f"/{source}", headers=headers)).is_success
    async with working(database, box, replace(options, most_media_bytes=2000), files):
        await until(database, none_left)
    async with database.borrow() as connection:
        titles = await connection.fetch("SELECT error_title FROM media WHERE state = 'failed' ORDER BY id")
    assert len(titles) == 2


async def test_an_outage_loses_no_file_as_long_as_meta_keeps_it_and_holds_nothing_else_up(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    app: AppHandle,
    phone: ChannelHandle,
    workspace: WorkspaceId,
    options: WorkerOptions,
    files: DirectoryFiles,
) -> None:
    channel = await add_channel(database, box, workspace, phone)
    await sandbox.set_webhook(app, "http://127.0.0.1:9/never")
    await sandbox.script(phone, PERSON, {"type": "image"})
    await receive(database, workspace, sandbox, app)
    away = replace(options, graph_api_url="http://127.0.0.1:9")
    async with database.borrow() as connection:
        await connection.execute("UPDATE channel_jobs SET attempts = 50, created_at = now() - interval '6 days'")
    async with working(database, box, away, files):
        await until(database, lambda c: c.fetchval("SELECT true FROM channel_jobs WHERE attempts = 51"))
    async with database.borrow() as connection:
        wait = await connection.fetchval("SELECT extract(epoch FROM due_at - now()) FROM channel_jobs")
        assert 1700 < wait <= 3600
        assert await connection.fetchval("SELECT state FROM media") == "wanted"
    async with working(database, box, options, files):
        await add_job(
            database, action(workspace, channel, action="typing_on", recipient=f"+{PERSON}", messageId="wamid.1")
        )
        await until(database, lambda c: c.fetchval("SELECT count(*) = 1 FROM channel_jobs"))
    async with database.borrow() as connection:
        await connection.execute("UPDATE channel_jobs SET due_at = now(), created_at = now() - interval '8 days'")
    async with working(database, box, away, files):
        await until(database, none_left)
    async with database.transaction() as connection:
        [failed] = await connection.fetch("SELECT id, state FROM media")
        assert failed["state"] == "failed"
        assert await media.want_again(connection, workspace, failed["id"])
    async with working(database, box, options, files):
        await until(database, none_left)
    async with database.borrow() as connection:
        assert await connection.fetchval("SELECT state FROM media") == "stored"


async def test_a_page_s_contact_gets_name_and_picture(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    app: AppHandle,
    page: ChannelHandle,
    workspace: WorkspaceId,
    options: WorkerOptions,
) -> None:
    await add_channel(database, box, workspace, page)
    await sandbox.call("PUT", "people", {"channel": page.id, "people": [{"id": PSID, "name": "Zé da Silva"}]})
    await sandbox.set_webhook(app, "http://127.0.0.1:9/never")
    await sandbox.script(page, PSID, {"type": "text"})
    await receive(database, workspace, sandbox, app)
    async with working(database, box, options, None):
        await until(database, none_left)
    async with database.borrow() as connection:
        name, profile = await connection.fetchrow("SELECT name, profile FROM contacts")
    assert name == "Zé da Silva"
    assert json.loads(profile)["picture"].endswith(f"{PSID}.png")


async def test_a_file_is_uploaded_for_a_channel_once(
    database: Database,
    box: SecretBox,
    sandbox: SandboxHandle,
    page: ChannelHandle,
    phone: ChannelHandle,
    workspace: WorkspaceId,
    options: WorkerOptions,
    files: DirectoryFiles,
) -> None:
    content, digest = b"\x89PNG\r\n\x1a\nrest", b"d" * 32
    await files.put(workspace, digest, content)
    channels = [await add_channel(database, box, workspace, handle) for handle in (page, phone)]
    async with database.transaction() as connection:
        media_id = await media.add_stored(connection, workspace, digest, len(content), "image/png", 'a"b.png')
    for channel in channels:
        await add_job(database, NewJob(workspace, channel, "upload", json.dumps({"mediaId": media_id})))
    async with working(database, box, options, files):
        await until(database, none_left)
    async with database.borrow() as connection:
        provider_id = await media.uploaded(connection, workspace, media_id, channels[1])
        assert await media.uploaded(connection, workspace, media_id, channels[0]) is not None
    assert provider_id is not None
    told = (await sandbox.get(phone, provider_id)).json()
    assert (told["mime_type"], told["file_size"]) == ("image/png", len(content))


async def test_a_job_that_one_worker_could_not_do_is_left_to_the_next(
    database: Database, box: SecretBox, page: ChannelHandle, workspace: WorkspaceId, options: WorkerOptions
) -> None:
    channel = await add_channel(database, box, workspace, page)
    await add_job(database, action(workspace, channel, action="mark_seen", recipient=PSID))
    async with working(database, box, replace(options, graph_api_url="http://127.0.0.1:9"), None):
        await until(database, lambda c: c.fetchval("SELECT attempts FROM channel_jobs"))
    async with working(database, box, options, None):
        async with database.borrow() as connection:
            await connection.execute("UPDATE channel_jobs SET due_at = now()")
        await until(database, none_left)
