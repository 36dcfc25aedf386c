"""Errors about a token that has been replaced since: whom they stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from pombo.domain.channels import ChannelKind
from pombo.meta.errors import send_error
from pombo.meta.transport import RequestHead
from pombo.sending.breaker import Breaker
from pombo.sending.consequences import Consequences
from pombo.sending.lane import Lane
from pombo.sending.outcomes import OutcomeWriter
from pombo.sending.pacer import TokenBucket
from pombo.sending.worker import Worker
from pombo.store import channels
from pombo.store.database import Database
from pombo.store.leases import Lease
from pombo.store.secrets import SecretBox
from tests.chaos.proxy import Proxy
from tests.sandbox_server import AppHandle, ChannelHandle
from tests.seeding import add_channel, add_workspace
from tests.service.test_worker import Setting, options, setting, until, working

__all__ = ["options", "setting"]  # fixtures


@pytest.fixture
async def line(setting: Setting) -> AsyncIterator[Proxy]:
    """Between the worker and the sandbox."""
    host, port = setting.options.graph_api_url.removeprefix("http://").split(":")
    proxy = await Proxy.open((host, int(port)))
    yield proxy
    await proxy.close()


@asynccontextmanager
async def replacing(setting: Setting, line: Proxy, in_flight: int) -> AsyncIterator[tuple[Worker, Lane]]:
    """A worker that takes up a new token while so many requests under a revoked one are still to be answered."""
    await add_channel(setting.database, setting.box, setting.workspace, replace(setting.page, token="revoked"))
    line.silence()
    async with working(setting.database, setting.box, replace(setting.options, graph_api_url=line.url)) as worker:
        async with asyncio.timeout(20):
            while not worker.lanes or worker.transport.snapshot().in_flight < in_flight:
                await asyncio.sleep(0.01)
        (lane,) = worker.lanes.values()
        former = lane.head
        await add_channel(setting.database, setting.box, setting.workspace, setting.page)
        worker.ring_leases()
        async with asyncio.timeout(20):
            while lane.head is former:
                await asyncio.sleep(0.01)
        line.speak()
        yield worker, lane


async def test_an_answer_about_the_former_token_does_not_stop_a_channel_with_a_new_one(
    setting: Setting, line: Proxy
) -> None:
    run = await setting.run(5)
    async with replacing(setting, line, 5) as (worker, lane):
        assert await until(worker, setting.database, run, lambda f: f.get("accepted") == 5)
        assert not lane.stopped
    # Five refusals that count for nobody, and no stop in between.
    assert await setting.value("SELECT array_agg(attempt) FROM deliveries") == [2] * 5
    assert await setting.value("SELECT state FROM channels") == "active"


async def test_nor_does_one_to_another_call_than_a_send(setting: Setting, line: Proxy) -> None:
    async with setting.database.borrow() as connection:
        await connection.execute(
            """INSERT INTO channel_jobs (workspace_id, channel_id, kind, payload)
               VALUES ($1, $2, 'profile', '{"recipient": "10000", "contactId": 1}')""",
            setting.workspace,
            setting.channel,
        )
    async with replacing(setting, line, 1) as (worker, lane), asyncio.timeout(20):
        while await setting.value("SELECT count(*) FROM channel_jobs WHERE error_code IS NULL AND state = 'ready'"):
            await asyncio.sleep(0.01)
        assert not lane.stopped
        assert worker.writer.stats.failures == 0
    assert await setting.value("SELECT state FROM channels") == "active"


async def test_an_accounts_error_about_a_replaced_token_leaves_the_accounts_other_channels_sending(
    database: Database, box: SecretBox
) -> None:
    workspace_id, app = await add_workspace(database), AppHandle("1", "app secret number 1", "verify 1")
    hit, sibling = (ChannelHandle("whatsapp", str(n), f"token {n}", app, "waba-1") for n in (1, 2))
    ids = [await add_channel(database, box, workspace_id, one) for one in (hit, sibling)]
    async with database.borrow() as connection:
        found = await channels.get_channels(connection, [(workspace_id, id) for id in ids])
    lanes = {
        (channel.workspace_id, channel.id): Lane(
            channel,
            Lease(channel.workspace_id, channel.id, 1),
            RequestHead("POST", "/messages", "localhost"),
            TokenBucket(1.0, 0.0),
            Breaker(3, 60.0),
        )
        for channel in found
    }
    struck, other = (lanes[workspace_id, id] for id in ids)
    saved = asyncio.Event()
    writer = OutcomeWriter(database, limit=10, batch=10, linger_s=0.0, saved=saved.set)
    consequences = Consequences(writer, lanes, content_failures=0, clock=lambda: 0.0, chance=lambda: 0.0)
    error = send_error(ChannelKind.WHATSAPP, 131042, None, "Payment")
    await add_channel(database, box, workspace_id, replace(hit, token="a new one"))

    consequences.stop(struck, error)
    assert struck.stopped
    assert other.stopped
    writing = asyncio.create_task(writer.run())
    async with asyncio.timeout(20):
        await saved.wait()
        assert not other.stopped
        # It would send with the former token; it waits for the new one to be taken up.
        assert struck.stopped
        assert struck.stop_saved

        saved.clear()
        consequences.stop(other, error)
        await saved.wait()
        assert other.stopped
        writer.close()
        await writing
    async with database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM channels WHERE state = 'stopped'") == 2
