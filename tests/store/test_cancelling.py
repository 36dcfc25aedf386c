from datetime import UTC, datetime

from pombo.store import cancelling, outbox, run_control, settlement
from pombo.store.database import Database
from pombo.store.outbox import BEGINNING, Undecided
from pombo.store.settlement import CANCELLED, Evidence, Settled
from tests.seeding import SeededRun, add_run, figures
from tests.store.conftest import Tenant
from tests.store.test_settlement import intend, log_of


async def cancel(database: Database, tenant: Tenant, run: SeededRun, limit: int = 100) -> list[int]:
    """How many each transaction of a pass cancelled."""
    counts, after = [], BEGINNING
    async with database.transaction() as connection:
        await run_control.cancel_runs(connection, tenant.workspace_id, [run.run_id])
    while True:
        async with database.transaction() as connection:
            before = await connection.fetchval("SELECT count(*) FROM outbox")
            held = await cancelling.hold(connection, tenant.workspace_id, run.run_id)
            assert held is not None
            following = await cancelling.cancel_ready(connection, held, tenant.channel_id, after, limit)
            counts.append(before - await connection.fetchval("SELECT count(*) FROM outbox"))
        if following is None:
            return counts
        after = following


async def test_what_waits_is_cancelled_in_chunks_and_what_is_in_flight_or_in_doubt_is_left(
    database: Database, tenant: Tenant
) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, str(n)) for n in range(25)])
    flying, doubtful, again = run.message_ids[:3]
    async with database.borrow() as connection:
        await intend(connection, tenant, [flying, doubtful, again])
        await outbox.doubt(connection, [Undecided(*tenant, doubtful, 1, 0, 0, "lost")])
        await outbox.put_back(connection, [Undecided(*tenant, again, 1, 131056, 0, "too fast", 60.0)])

    assert await cancel(database, tenant, run, limit=10) == [10, 10, 3]

    async with database.borrow() as connection:
        left = await connection.fetch("SELECT id, state::text FROM outbox ORDER BY id")
        assert [tuple(row) for row in left] == [(flying, "s"), (doubtful, "u")]
        assert await figures(connection, run) == {"total": 25, "cancelled": 23, "uncertain": 1}
        attempts = await connection.fetch("SELECT attempt, count(*) FROM deliveries WHERE state = 0 GROUP BY 1")
        assert {row["attempt"]: row["count"] for row in attempts} == {0: 22, 1: 1}
        assert await connection.fetchval("SELECT count(*) FROM retries") == 0


async def test_evidence_turns_a_cancelled_message_into_an_accepted_one(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as connection:
        day = await intend(connection, tenant, run.message_ids)
        await outbox.put_back(connection, [Undecided(*tenant, run.message_ids[0], 1, 131056, 0, "too fast")])
    await cancel(database, tenant, run)
    async with database.borrow() as connection:
        assert await figures(connection, run) == {"total": 1, "cancelled": 1}
        evidence = Evidence(*tenant, run.message_ids[0], 1, day, "m_1", datetime.now(UTC))
        await settlement.settle_evidence(connection, [evidence])
        assert await log_of(connection, run) == [(2, "m_1", None)]
        assert await figures(connection, run) == {"total": 1, "accepted": 1}


async def test_cancelling_the_same_message_twice_counts_it_once(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    outcome = Settled(*tenant, run.message_ids[0], 0, datetime.now(UTC).date(), CANCELLED, None)
    async with database.borrow() as connection:
        await settlement.settle(connection, [outcome])
        await settlement.settle(connection, [outcome])
        assert await figures(connection, run) == {"total": 1, "cancelled": 1}


async def test_a_run_that_another_worker_is_cancelling_is_passed_over(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.transaction() as connection:
        await run_control.cancel_runs(connection, tenant.workspace_id, [run.run_id])
    async with database.transaction() as one, database.transaction() as other:
        assert await cancelling.hold(one, tenant.workspace_id, run.run_id) is not None
        assert await cancelling.hold(other, tenant.workspace_id, run.run_id) is None
