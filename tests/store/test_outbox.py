import pytest

from pombo.domain.classes import MessageClass
from pombo.store import leases, order, outbox
from pombo.store.database import Database
from pombo.store.leases import Lease
from pombo.store.outbox import BEGINNING, Reading, Undecided
from tests.seeding import add_run, figures
from tests.store.conftest import Tenant, sent_under


async def test_reading_ahead_gives_what_is_due_in_order_after_the_cursor(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, str(n)) for n in range(10)])
    async with database.borrow() as connection:
        await connection.execute(
            "UPDATE outbox SET due_at = now() + interval '1 hour' WHERE id = $1", run.message_ids[9]
        )
        reading = Reading(*tenant, run.run_id, *BEGINNING, 4)
        first = await outbox.read_ahead(connection, [reading])
        assert [row["recipient"] for row in first] == ["0", "1", "2", "3"]

        following = reading._replace(after_due_at=first[-1]["due_at"], after_id=first[-1]["id"], limit=100)
        rest = await outbox.read_ahead(connection, [following])
        assert [row["recipient"] for row in rest] == ["4", "5", "6", "7", "8"]


async def test_several_streams_are_read_in_one_statement_and_told_apart(database: Database, tenant: Tenant) -> None:
    runs = [await add_run(database, tenant.workspace_id, [(tenant.channel_id, name)] * 2) for name in ("a", "b")]
    async with database.borrow() as connection:
        readings = [Reading(*tenant, run.run_id, *BEGINNING, 1) for run in runs]
        rows = await outbox.read_ahead(connection, readings)
    assert [(row[0], row["recipient"]) for row in rows] == [(1, "a"), (2, "b")]


async def test_an_intent_is_refused_to_a_worker_that_has_expired_or_lost_the_lease(
    database: Database, tenant: Tenant
) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as connection:
        worker_id = await leases.register(connection, "test", 1, 60.0)
        (lease,) = await leases.acquire(connection, worker_id)

        async def intend(number: int, under: Lease) -> list[int]:
            messages = sent_under(run.message_ids)
            return (await outbox.store_intents(connection, worker_id, number, messages, [under]))[1]

        stale = lease._replace(epoch=lease.epoch - 1)
        assert (await outbox.store_intents(connection, worker_id, 1, sent_under(run.message_ids), [stale]))[1] == []
        await connection.execute("UPDATE workers SET expires_at = clock_timestamp()")
        assert (await outbox.store_intents(connection, worker_id, 2, sent_under(run.message_ids), [lease]))[1] == []
        await connection.execute("UPDATE workers SET expires_at = clock_timestamp() + interval '1 minute'")
        assert (await outbox.store_intents(connection, worker_id, 3, sent_under(run.message_ids), [lease]))[
            1
        ] == run.message_ids
        assert (await outbox.store_intents(connection, worker_id, 4, sent_under(run.message_ids), [lease]))[1] == []

        assert [row["id"] for row in await connection.fetch("SELECT id FROM intents")] == [3]


async def test_a_retry_waits_and_keeps_its_error_and_a_doubt_leaves_every_readers_way(
    database: Database, tenant: Tenant
) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1"), (tenant.channel_id, "2")])
    first, second = run.message_ids
    async with database.borrow() as connection:
        worker_id = await leases.register(connection, "test", 1, 60.0)
        (lease,) = await leases.acquire(connection, worker_id)
        await outbox.store_intents(connection, worker_id, 1, sent_under([first, second]), [lease])
        await outbox.put_back(connection, [Undecided(*tenant, first, 1, 4, 0, "too fast", 30.0, counts=False)])
        await outbox.doubt(connection, [Undecided(*tenant, second, 1, 0, 0, "lost")])

        reading = Reading(*tenant, run.run_id, *BEGINNING, 10)
        assert await outbox.read_ahead(connection, [reading]) == []
        row = await connection.fetchrow(
            """SELECT state, attempt, uncounted, error_code, due_at - now() > interval '29 s' AS later
               FROM outbox WHERE id = $1""",
            first,
        )
        assert tuple(row) == (b"r", 1, 1, 4, True)
        assert await figures(connection, run) == {"total": 2, "uncertain": 1}

        # Its answer came after all: a proof that nothing was accepted ends the doubt.
        await outbox.put_back(connection, [Undecided(*tenant, second, 1, 4, 0, "too fast")])
        assert await figures(connection, run) == {"total": 2}
        assert [row["id"] for row in await outbox.read_ahead(connection, [reading])] == [second]


async def test_what_no_longer_is_at_that_attempt_is_not_put_back(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as connection:
        await outbox.put_back(connection, [Undecided(*tenant, run.message_ids[0], 1, 4, 0, "too fast", 30.0)])
        assert await connection.fetchval("SELECT due_at <= now() FROM outbox")


async def test_a_message_that_was_tried_since_it_was_read_gets_no_intent(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as connection:
        worker_id = await leases.register(connection, "test", 1, 60.0)
        (lease,) = await leases.acquire(connection, worker_id)

        async def intend(number: int, attempts: int) -> list[int]:
            messages = sent_under(run.message_ids, attempts)
            return (await outbox.store_intents(connection, worker_id, number, messages, [lease]))[1]

        assert await intend(1, attempts=1) == []
        assert await intend(2, attempts=0) == run.message_ids
        await outbox.put_back(connection, [Undecided(*tenant, run.message_ids[0], 1, 4, 0, "too fast")])
        assert await intend(3, attempts=0) == []
        assert await intend(4, attempts=1) == run.message_ids


async def test_an_intent_whose_answer_was_lost_is_undone_if_it_has_committed(
    database: Database, tenant: Tenant
) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1"), (tenant.channel_id, "2")])
    async with database.borrow() as connection:
        worker_id = await leases.register(connection, "test", 1, 60.0)
        (lease,) = await leases.acquire(connection, worker_id)
        await outbox.store_intents(connection, worker_id, 1, sent_under(run.message_ids[:1]), [lease])
        await outbox.store_intents(connection, worker_id, 2, sent_under(run.message_ids[1:]), [lease])

        await outbox.revoke_intent(connection, worker_id, 1)

        rows = await connection.fetch("SELECT state, attempt, uncounted FROM outbox ORDER BY id")
        assert [tuple(row) for row in rows] == [(b"r", 1, 1), (b"s", 1, 0)]
        assert await connection.fetchval("SELECT array_agg(id) FROM intents") == [2]
        reading = Reading(*tenant, run.run_id, *BEGINNING, 10)
        assert [row["id"] for row in await outbox.read_ahead(connection, [reading])] == run.message_ids[:1]


async def test_a_new_owner_is_told_of_a_message_whose_intent_was_undone(database: Database, tenant: Tenant) -> None:
    """It is due after its successors now, and goes before them all the same."""
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1"), (tenant.channel_id, "1")])
    async with database.borrow() as connection:
        former = await leases.register(connection, "test", 1, 60.0)
        (lease,) = await leases.acquire(connection, former)
        await outbox.store_intents(connection, former, 1, sent_under(run.message_ids[:1]), [lease])
        await outbox.revoke_intent(connection, former, 1)
        (held,) = await order.attempted(connection, former + 1, [tenant])
    assert (held.message_id, held.message_class, held.recipient) == (run.message_ids[0], MessageClass.BULK, "1")
    assert not held.doubtful


@pytest.mark.parametrize("committed", [True, False])
async def test_an_intent_is_undone_only_itself_and_never_a_later_one_of_the_same_message(
    database: Database, tenant: Tenant, committed: bool
) -> None:
    """The attempt after one that was never stored has the same number, so numbers cannot tell them apart."""
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    (message_id,) = run.message_ids
    async with database.borrow() as connection:
        worker_id = await leases.register(connection, "test", 1, 60.0)
        (lease,) = await leases.acquire(connection, worker_id)
        if committed:
            await outbox.store_intents(connection, worker_id, 1, sent_under([message_id]), [lease])
        await outbox.revoke_intent(connection, worker_id, 1)
        tried = int(committed)
        assert await connection.fetchval("SELECT state::text || attempt FROM outbox") == f"r{tried}"

        later = sent_under([message_id], tried)
        assert (await outbox.store_intents(connection, worker_id, 2, later, [lease]))[1] == [message_id]
        await outbox.revoke_intent(connection, worker_id, 1)
        assert await connection.fetchval("SELECT state FROM outbox") == b"s"

        await outbox.doubt(connection, [Undecided(*tenant, message_id, tried + 1, 0, 0, "lost")])
        await outbox.revoke_intent(connection, worker_id, 1)
        assert await connection.fetchval("SELECT state FROM outbox") == b"u"
        assert await connection.fetchval("SELECT array_agg(id) FROM intents") == [2]


async def test_a_new_owner_is_not_told_of_doubts_older_than_the_grace(database: Database, tenant: Tenant) -> None:
    """They hold nobody up, and there may be hundreds of thousands of them."""
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1"), (tenant.channel_id, "2")])
    async with database.borrow() as connection:
        former = await leases.register(connection, "test", 1, 60.0)
        (lease,) = await leases.acquire(connection, former)
        await outbox.store_intents(connection, former, 1, sent_under(run.message_ids), [lease])
        await outbox.doubt(connection, [Undecided(*tenant, each, 1, 0, 0, "lost") for each in run.message_ids])
        await connection.execute("DELETE FROM intents")
        await connection.execute(
            "UPDATE doubts SET since = since - interval '1 hour' WHERE message_id = $1", run.message_ids[0]
        )
        (held,) = await order.attempted(connection, former + 1, [tenant])
    assert (held.message_id, held.doubtful) == (run.message_ids[1], True)
