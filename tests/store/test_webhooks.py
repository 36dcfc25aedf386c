import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from pombo.domain.channels import ChannelKind
from pombo.store import webhooks
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from pombo.store.webhooks import BELL, ChannelName, QueuedWebhook, SignedWebhook
from tests.delivery_log import House

_NO_LIMIT = 10**9


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.borrow() as borrowed:
        yield borrowed


async def bodies(database: Database, limit: int = 100, max_bytes: int = _NO_LIMIT) -> list[bytes | None]:
    async with database.transaction() as connection:
        return [webhook.body for webhook in (await webhooks.take(connection, limit, max_bytes)).webhooks]


async def test_what_is_appended_is_logged_and_queued_in_order(database: Database, connection: Connection) -> None:
    await webhooks.append(connection, [SignedWebhook(1, 7, b"first"), SignedWebhook(1, 8, b"\x00\xff second")])
    await webhooks.append(connection, [SignedWebhook(1, 7, b"third")])

    async with database.transaction() as queue:
        taken = (await webhooks.take(queue, 100, _NO_LIMIT)).webhooks
        assert [(w.app_id, w.body, w.attempts) for w in taken] == [
            (7, b"first", 0),
            (8, b"\x00\xff second", 0),
            (7, b"third", 0),
        ]
        await webhooks.finish(queue, taken[:2])

    assert await bodies(database) == [b"third"]
    assert await connection.fetchval("SELECT count(*) FROM webhook_log") == 3


async def test_appending_rings_the_bell_once_a_batch(database: Database, connection: Connection) -> None:
    rings: asyncio.Queue[str] = asyncio.Queue()
    async with database.listen({BELL: rings.put_nowait, "end": rings.put_nowait}):
        await webhooks.append(connection, [SignedWebhook(1, 1, b"a"), SignedWebhook(2, 1, b"b")])
        await connection.execute("NOTIFY \"end\", 'end'")
        assert [await rings.get(), await rings.get()] == ["", "end"]


async def test_an_append_is_durable_even_where_the_server_does_not_wait_for_the_disk(connection: Connection) -> None:
    # The tests' server has synchronous_commit off; a trigger that runs at the commit tells what holds there.
    await connection.execute(
        """SET ROLE NONE;
           CREATE TEMP TABLE seen (setting text);
           CREATE FUNCTION pg_temp.note() RETURNS trigger LANGUAGE plpgsql AS
           $$BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END$$;
           CREATE CONSTRAINT TRIGGER note AFTER INSERT ON pombo.webhook_queue DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION pg_temp.note()"""
    )

    await webhooks.append(connection, [SignedWebhook(1, 1, b"a")])

    assert await connection.fetchval("SELECT setting FROM seen") == "on"
    assert await connection.fetchval("SHOW synchronous_commit") == "off"
    await connection.execute("DROP TRIGGER note ON pombo.webhook_queue; SET ROLE pombo_worker")


async def test_two_workers_take_different_webhooks_and_a_dead_ones_are_free_again(
    database: Database, connection: Connection
) -> None:
    await webhooks.append(connection, [SignedWebhook(1, 1, b"%d" % n) for n in range(4)])

    async with database.transaction() as first:
        mine = (await webhooks.take(first, 2, _NO_LIMIT)).webhooks
        assert [webhook.body for webhook in mine] == [b"0", b"1"]
        assert await bodies(database) == [b"2", b"3"]

    assert await bodies(database) == [b"0", b"1", b"2", b"3"]


async def test_a_batch_ends_once_its_bodies_are_large_enough_but_never_empty(
    database: Database, connection: Connection
) -> None:
    await webhooks.append(connection, [SignedWebhook(1, 1, b"x" * 100) for _ in range(5)])

    assert len(await bodies(database, max_bytes=1)) == 1
    assert len(await bodies(database, max_bytes=250)) == 3


@pytest.mark.parametrize(
    ("appended", "limit", "max_bytes", "full", "by_bytes"),
    [
        ([60], 200, 1_000_000, False, False),
        ([60], 60, 1_000_000, True, False),
        ([60], 200, 1_000, True, True),
        # Of the other, which waits for another attempt, nothing is due: its share stays free.
        ([60, 1], 100, 1_000_000, True, False),
        ([100, 1], 200, 1_000_000, True, False),
        ([99, 1], 200, 1_000_000, False, False),
    ],
)
async def test_a_batch_is_full_by_number_by_bytes_or_because_a_workspace_had_its_share(
    database: Database,
    connection: Connection,
    appended: list[int],
    limit: int,
    max_bytes: int,
    full: bool,
    by_bytes: bool,
) -> None:
    for workspace_id, count in enumerate(appended, 1):
        await webhooks.append(connection, [SignedWebhook(workspace_id, 1, b"x" * 100)] * count)
    await connection.execute("UPDATE webhook_queue SET due_at = now() + interval '1 hour' WHERE workspace_id = 2")

    async with database.transaction() as queue:
        taken = await webhooks.take(queue, limit, max_bytes)
    assert (taken.is_full, taken.by_bytes) == (full, by_bytes)


async def test_the_backlog_of_one_workspace_never_fills_a_batch_while_another_waits(
    database: Database, connection: Connection
) -> None:
    await webhooks.append(connection, [SignedWebhook(1, 1, b"busy") for _ in range(300)])
    await webhooks.append(connection, [SignedWebhook(2, 2, b"quiet")])

    taken = await bodies(database, limit=200)

    assert b"quiet" in taken
    assert 100 <= taken.count(b"busy") <= 200


async def test_a_postponed_webhook_waits_for_its_time_and_keeps_its_error(
    database: Database, connection: Connection
) -> None:
    await webhooks.append(connection, [SignedWebhook(1, 1, b"bad")])
    async with database.transaction() as queue:
        [bad] = (await webhooks.take(queue, 1, _NO_LIMIT)).webhooks
        await webhooks.postpone(queue, bad, "It broke.", timedelta(hours=1))

    assert await bodies(database) == []
    kept = await connection.fetchrow("UPDATE webhook_queue SET due_at = now() RETURNING attempts, error")
    assert dict(kept) == {"attempts": 1, "error": "It broke."}
    assert await bodies(database) == [b"bad"]


async def test_a_webhook_given_up_leaves_the_queue_for_the_list_of_errors(
    database: Database, connection: Connection
) -> None:
    await webhooks.append(connection, [SignedWebhook(1, 1, b"bad"), SignedWebhook(1, 1, b"good")])
    async with database.transaction() as queue:
        bad, _ = (await webhooks.take(queue, 2, _NO_LIMIT)).webhooks
        await webhooks.give_up(queue, [(bad, "Not JSON.")])

    assert await bodies(database) == [b"good"]
    kept = await connection.fetchrow("SELECT id, attempts, error FROM webhook_errors")
    assert dict(kept) == {"id": bad.id, "attempts": 1, "error": "Not JSON."}


async def test_a_webhook_whose_bytes_are_gone_is_still_taken(database: Database, connection: Connection) -> None:
    await webhooks.append(connection, [SignedWebhook(1, 1, b"old")])
    await connection.execute("DELETE FROM webhook_log")

    async with database.transaction() as queue:
        [taken] = (await webhooks.take(queue, 1, _NO_LIMIT)).webhooks

    assert isinstance(taken, QueuedWebhook)
    assert (taken.app_id, taken.body) == (None, None)


async def test_a_channel_is_found_only_under_its_own_app_workspace_and_kind(
    connection: Connection, box: SecretBox
) -> None:
    house, stranger = await House.build(connection, box), await House.build(connection, box, "stranger", "other secret")
    channel_id = await house.channel(connection, "100", ChannelKind.MESSENGER)
    theirs = await stranger.channel(connection, "100", ChannelKind.MESSENGER)

    def name(of: House, **changes: Any) -> ChannelName:
        return ChannelName(of.workspace_id, of.app_id, ChannelKind.MESSENGER, "100")._replace(**changes)

    wrong = [
        name(house, app_id=stranger.app_id),
        name(house, workspace_id=stranger.workspace_id),
        name(house, kind=ChannelKind.WHATSAPP),
        name(house, external_id="101"),
    ]
    found = await webhooks.resolve_channels(connection, [*wrong, name(house), name(stranger)])

    assert found == {name(house): channel_id, name(stranger): theirs}
