"""More webhooks than one batch takes, by their number or by their bytes: two loops apply them without a rest."""

import asyncio
from typing import Any

import pytest

from pombo.ingest import ingester as ingester_module
from pombo.ingest.ingester import Ingester
from pombo.store import webhooks
from pombo.store.database import Connection, Database
from pombo.store.webhooks import SignedWebhook
from tests.delivery_log import House, figures
from tests.service.test_ingest import arrive, connection, house, number, page, page_webhook, read

__all__ = ["connection", "house", "number", "page"]  # fixtures


@pytest.mark.parametrize("limit", [{"_BATCH": 10}, {"_BATCH_BYTES": 2_000}], ids=["number", "bytes"])
async def test_a_backlog_is_applied_by_two_batches_at_a_time_and_without_gathering(
    database: Database,
    connection: Connection,
    house: House,
    page: int,
    monkeypatch: pytest.MonkeyPatch,
    limit: dict[str, int],
) -> None:
    for name, value in limit.items():
        monkeypatch.setattr(ingester_module, name, value)
    # Nobody rings, and whoever gathers or rests does so for good.
    monkeypatch.setattr(ingester_module, "_GATHER_S", 60.0)
    monkeypatch.setattr(ingester_module, "_POLL_S", 60.0)
    messages = [await house.accepted(connection, page) for _ in range(100)]
    await arrive(connection, house, *(page_webhook(read(message)) for message in messages))
    worker, stop, both = Ingester(database), asyncio.Event(), asyncio.Barrier(2)
    apply, batches = worker._apply, 0

    async def meet(batch: Any, pass_on: Any) -> None:
        nonlocal batches
        batches += 1
        # The first has found that more waits, and may hold all of it; from then on there are two.
        if batches in (2, 3):
            await both.wait()
        await apply(batch, pass_on)

    monkeypatch.setattr(worker, "_apply", meet)
    running = asyncio.create_task(worker.run(stop))
    try:
        async with asyncio.timeout(20):
            while await connection.fetchval("SELECT count(*) FROM webhook_queue"):
                await asyncio.sleep(0.01)
            stop.set()
            await running
    finally:
        running.cancel()
    assert (await figures(connection, messages[0].run_id))["read"] >= 1
    assert await connection.fetchval("SELECT count(*) FROM deliveries WHERE read_at IS NULL") == 0


async def test_the_next_batch_is_shown_while_what_follows_from_the_last_is_seen_to(
    database: Database, connection: Connection, house: House, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingester_module, "_POLL_S", 60.0)
    worker, stop = Ingester(database), asyncio.Event()
    follow, under_way, over = worker._follow, asyncio.Event(), asyncio.Event()

    async def linger(*what: Any) -> None:
        under_way.set()
        await over.wait()
        await follow(*what)

    monkeypatch.setattr(worker, "_follow", linger)
    running = asyncio.create_task(worker.run(stop))
    try:
        async with asyncio.timeout(20):
            await arrive(connection, house, said("first"))
            worker.bell.set()
            await under_way.wait()
            await arrive(connection, house, said("second"))
            worker.bell.set()
            while await connection.fetchval("SELECT count(*) FROM conversation_messages") < 2:
                await asyncio.sleep(0.01)
            # Neither is done with.
            assert await connection.fetchval("SELECT count(*) FROM webhook_queue") == 2
            over.set()
            stop.set()
            await running
    finally:
        running.cancel()
    assert await connection.fetchval("SELECT count(*) FROM webhook_queue") == 0


def said(mid: str) -> bytes:
    return page_webhook({"sender": {"id": "77"}, "timestamp": 1, "message": {"mid": mid, "text": "Hello"}})


async def test_only_bytes_make_the_next_batches_smaller(
    database: Database, connection: Connection, house: House, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingester_module, "_BATCH_BYTES", 100_000)
    sent = page_webhook({"sender": {"id": "77"}, "timestamp": 1, "optin": {"ref": "x"}})
    others = [SignedWebhook(house.workspace_id + n, house.app_id, sent) for n in (1, 2, 3)]
    await webhooks.append(connection, others)
    await connection.execute("UPDATE webhook_queue SET due_at = now() + interval '1 hour'")
    worker = Ingester(database)

    await arrive(connection, house, *[sent] * 300)
    assert await worker.run_once() == 125  # its share, beside those who wait
    assert worker._batch == 500

    while await worker.run_once():
        pass

    await arrive(connection, house, *[page_webhook({"text": "x" * 4_000})] * 60)
    await worker.run_once()
    assert worker._batch < 100
    await arrive(connection, house, *[sent] * 300)
    for _ in range(3):
        await worker.run_once(worker._batch)
    assert worker._batch > 100
