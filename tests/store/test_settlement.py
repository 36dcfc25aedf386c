"""The one settlement: whoever comes first moves the row and counts it; repeats and races change nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pombo.store import held, leases, outbox, settlement
from pombo.store.database import Connection, Database
from pombo.store.held import DoubtAction, Selection
from pombo.store.outbox import Undecided
from pombo.store.settlement import ACCEPTED, CANCELLED, FAILED, Evidence, Settled
from tests.locks import blocked
from tests.seeding import SeededRun, add_run, figures
from tests.store.conftest import Tenant, sent_under


async def intend(connection: Connection, tenant: Tenant, ids: list[int]) -> date:
    """An intent for these messages by a worker that owns the channel; returns its day."""
    worker_id = await leases.register(connection, "test", 1, 60.0)
    await connection.execute("UPDATE channel_leases SET worker_id = NULL")
    (lease,) = await leases.acquire(connection, worker_id)
    at, granted = await outbox.store_intents(connection, worker_id, 1, sent_under(ids), [lease])
    assert sorted(granted) == sorted(ids)
    return at.astimezone(UTC).date()


def accepted(tenant: Tenant, message_id: int, day: date, provider_id: str = "m_1", attempt: int = 1) -> Settled:
    return Settled(*tenant, message_id, attempt, day, ACCEPTED, provider_id)


def failed(tenant: Tenant, message_id: int, day: date, attempt: int = 1) -> Settled:
    return Settled(*tenant, message_id, attempt, day, FAILED, None, 551, 1545041, "not available")


async def log_of(connection: Connection, run: SeededRun) -> list[tuple[int, str | None, str | None]]:
    rows = await connection.fetch(
        "SELECT state, provider_id, second_provider_id FROM deliveries WHERE run_id = $1 ORDER BY id", run.run_id
    )
    return [tuple(row) for row in rows]


async def test_an_outcome_moves_the_message_to_the_log_and_counts_it_once(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1"), (tenant.channel_id, "2")])
    async with database.borrow() as connection:
        day = await intend(connection, tenant, run.message_ids)
        outcomes = [accepted(tenant, run.message_ids[0], day), failed(tenant, run.message_ids[1], day)]
        await settlement.settle(connection, outcomes)
        await settlement.settle(connection, outcomes)  # written again after a broken connection

        assert await log_of(connection, run) == [(2, "m_1", None), (1, None, None)]
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
        assert await figures(connection, run) == {"total": 2, "accepted": 1, "failed": 1}


async def test_the_finished_intents_of_the_worker_are_forgotten(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as connection:
        day = await intend(connection, tenant, run.message_ids)
        worker_id = await connection.fetchval("SELECT worker_id FROM intents")
        await settlement.settle(connection, [accepted(tenant, run.message_ids[0], day)], worker_id, [1])
        assert await connection.fetchval("SELECT count(*) FROM intents") == 0


async def test_a_second_provider_id_is_reported_as_sent_twice_and_only_once(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as connection:
        day = await intend(connection, tenant, run.message_ids)
        for provider_id in ("m_1", "m_2", "m_2", "m_1"):
            await settlement.settle(connection, [accepted(tenant, run.message_ids[0], day, provider_id)])

        assert await log_of(connection, run) == [(2, "m_1", "m_2")]
        assert await figures(connection, run) == {"total": 1, "accepted": 1, "sent_twice": 1}


async def test_evidence_turns_a_failed_message_into_an_accepted_one(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as connection:
        day = await intend(connection, tenant, run.message_ids)
        await settlement.settle(connection, [failed(tenant, run.message_ids[0], day)])
        evidence = Evidence(*tenant, run.message_ids[0], 1, day, "m_9", datetime.now(UTC))
        await settlement.settle_evidence(connection, [evidence])

        assert await log_of(connection, run) == [(2, "m_9", None)]
        assert await connection.fetchval("SELECT error_code FROM deliveries") is None
        assert await figures(connection, run) == {"total": 1, "accepted": 1}


async def test_a_failure_of_an_earlier_attempt_does_not_end_the_later_one(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as connection:
        day = await intend(connection, tenant, run.message_ids)
        await connection.execute("UPDATE outbox SET attempt = 2")
        await settlement.settle(connection, [failed(tenant, run.message_ids[0], day, attempt=1)])
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 1


async def test_evidence_of_an_earlier_attempt_settles_a_message_that_waits_for_its_retry(
    database: Database, tenant: Tenant
) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as connection:
        day = await intend(connection, tenant, run.message_ids)
        await outbox.put_back(connection, [Undecided(*tenant, run.message_ids[0], 1, 4, 0, "too fast", 60.0)])
        evidence = Evidence(*tenant, run.message_ids[0], 1, day, "m_1", datetime.now(UTC))
        await settlement.settle_evidence(connection, [evidence])
        assert await log_of(connection, run) == [(2, "m_1", None)]


@pytest.mark.parametrize("what", ["another channel", "an attempt that was never made", "an unknown message"])
async def test_evidence_that_does_not_fit_settles_nothing(database: Database, tenant: Tenant, what: str) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    message_id, day = run.message_ids[0], datetime.now(UTC).date()
    forged = {
        "another channel": Evidence(tenant.workspace_id, 999, message_id, 1, day, "m_1", datetime.now(UTC)),
        "an attempt that was never made": Evidence(*tenant, message_id, 1, day, "m_1", datetime.now(UTC)),
        "an unknown message": Evidence(*tenant, message_id + 999, 1, day, "m_1", datetime.now(UTC)),
    }[what]
    async with database.borrow() as connection:
        await settlement.settle_evidence(connection, [forged])
        assert await connection.fetchval("SELECT count(*) FROM outbox WHERE state = 'r'") == 1
        assert await figures(connection, run) == {"total": 1}


Event = Callable[[Connection, Tenant, SeededRun, date], Awaitable[None]]


async def _answer(connection: Connection, tenant: Tenant, run: SeededRun, day: date) -> None:
    await settlement.settle(connection, [accepted(tenant, run.message_ids[0], day)])


async def _echo(connection: Connection, tenant: Tenant, run: SeededRun, day: date) -> None:
    evidence = Evidence(*tenant, run.message_ids[0], 1, day, "m_1", datetime.now(UTC))
    await settlement.settle_evidence(connection, [evidence])


async def _doubt(connection: Connection, tenant: Tenant, run: SeededRun, day: date) -> None:
    await outbox.doubt(connection, [Undecided(*tenant, run.message_ids[0], 1, 0, 0, "lost")])


async def _refused(connection: Connection, tenant: Tenant, run: SeededRun, day: date) -> None:
    await settlement.settle(connection, [failed(tenant, run.message_ids[0], day)])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(st.sampled_from([_answer, _echo, _doubt, _refused]), min_size=1, max_size=6))
async def test_whatever_the_order_and_repetition_an_accepted_message_ends_accepted_and_counted_once(
    database: Database, tenant: Tenant, events: list[Event]
) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as connection:
        day = await intend(connection, tenant, run.message_ids)
        for event in [*events, _echo]:
            await event(connection, tenant, run, day)
        assert await log_of(connection, run) == [(2, "m_1", None)]
        assert await figures(connection, run) == {"total": 1, "accepted": 1}
        assert await connection.fetchval("SELECT count(*) FROM doubts") == 0


@pytest.mark.parametrize("days", [2, 10, 4000, -3, -4000])
async def test_what_waited_longer_than_the_log_is_kept_is_settled_all_the_same(
    database: Database, tenant: Tenant, days: int
) -> None:
    """Or what was tried while the clock was wrong: there is no partition for the day of its intent."""
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, str(n)) for n in range(4)])
    sent, dropped, refused, cancelled = run.message_ids
    async with database.borrow() as connection:
        await intend(connection, tenant, run.message_ids)
        await outbox.doubt(connection, [Undecided(*tenant, each, 1, 0, 0, "lost") for each in (sent, dropped)])
        await outbox.put_back(connection, [Undecided(*tenant, cancelled, 1, 131056, 0, "too fast")])
        await connection.execute("UPDATE outbox SET intent_at = intent_at - $1 * interval '1 day'", days)
        day = (datetime.now(UTC) - timedelta(days=days)).date()

        outcomes = [
            accepted(tenant, sent, day),
            Settled(*tenant, dropped, 1, day, CANCELLED, None),
            failed(tenant, refused, day),
            Settled(*tenant, cancelled, 0, day, CANCELLED, None),
        ]
        await settlement.settle(connection, outcomes)

        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
        assert await figures(connection, run) == {"total": 4, "accepted": 1, "failed": 1, "cancelled": 2}
        if days > 0:
            late = Evidence(*tenant, dropped, 1, day, "m_2", datetime.now(UTC))
            await settlement.settle_evidence(connection, [late])
            assert await figures(connection, run) == {"total": 4, "accepted": 2, "failed": 1, "cancelled": 1}


async def test_a_person_and_a_webhook_that_settle_the_same_messages_never_wait_for_each_other(
    database: Database, tenant: Tenant
) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, str(n)) for n in range(3)])
    ids = run.message_ids
    async with database.borrow() as connection:
        day = await intend(connection, tenant, ids)
        await outbox.doubt(connection, [Undecided(*tenant, each, 1, 0, 0, "lost") for each in ids])
        await connection.execute("UPDATE doubts SET held = 'policy', held_since = now()")

    async def hear() -> None:
        late = [Evidence(*tenant, each, 1, day, f"m_{each}", datetime.now(UTC)) for each in reversed(ids)]
        async with database.transaction() as connection:
            await settlement.settle_evidence(connection, late)

    async def decide() -> None:
        async with database.transaction() as connection:
            await held.resolve(connection, tenant.workspace_id, DoubtAction.RESEND, Selection(run_id=run.run_id))

    async with database.borrow() as watching, database.borrow() as holding:
        async with holding.transaction():
            # Each has one end of the messages, and waits for this one, before it is let go.
            await holding.execute("SELECT FROM outbox WHERE id = $1 FOR UPDATE", ids[1])
            both = []
            for settle in (decide, hear):
                both.append(asyncio.create_task(settle()))
                await blocked(watching, len(both))
        await asyncio.gather(*both)
        assert await watching.fetchval("SELECT count(*) FROM doubts") == 0
