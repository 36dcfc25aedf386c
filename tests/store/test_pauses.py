"""Acknowledgements hold for the pause they name, and for its channel's owner alone."""

from pombo.domain.ids import WorkerId
from pombo.store import halts, leases, pauses, run_control
from pombo.store.database import Connection, Database
from pombo.store.pauses import Paused
from tests.seeding import SeededRun, add_run
from tests.store.conftest import Tenant


async def paused_run(database: Database, tenant: Tenant) -> tuple[SeededRun, WorkerId]:
    """A run that is pausing on a channel with a live owner."""
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.transaction() as connection:
        owner = await leases.register(connection, "owner", 1, 60.0)
        await leases.acquire(connection, owner)
        await run_control.pause_runs(connection, tenant.workspace_id, [run.run_id])
    return run, owner


async def complete(connection: Connection) -> list[int]:
    async with connection.transaction():
        return [run_id for _, run_id in await pauses.complete_pauses(connection)]


async def test_a_pause_is_complete_with_the_owners_word(database: Database, tenant: Tenant) -> None:
    run, owner = await paused_run(database, tenant)
    async with database.borrow() as connection:
        found, halted = await pauses.unacknowledged(connection, owner)
        assert (found, halted) == ([Paused(*tenant, run.run_id, 1)], [])
        assert await complete(connection) == []
        await pauses.acknowledge(connection, owner, found, [])
        assert await pauses.unacknowledged(connection, owner) == ([], [])
        assert await complete(connection) == [run.run_id]
        assert await complete(connection) == []


async def test_a_late_word_about_an_earlier_pause_says_nothing_of_this_one(database: Database, tenant: Tenant) -> None:
    run, owner = await paused_run(database, tenant)
    async with database.borrow() as connection:
        found, _ = await pauses.unacknowledged(connection, owner)
    async with database.transaction() as connection:
        await run_control.resume_runs(connection, tenant.workspace_id, [run.run_id])
        await run_control.pause_runs(connection, tenant.workspace_id, [run.run_id])
    async with database.borrow() as connection:
        await pauses.acknowledge(connection, owner, found, [])
        assert await complete(connection) == []


async def test_the_word_of_a_former_owner_counts_for_nothing(database: Database, tenant: Tenant) -> None:
    _, owner = await paused_run(database, tenant)
    async with database.borrow() as connection:
        found, _ = await pauses.unacknowledged(connection, owner)
        await connection.execute("UPDATE channel_leases SET worker_id = NULL, epoch = epoch + 1")
        await leases.acquire(connection, await leases.register(connection, "next", 2, 60.0))
        await pauses.acknowledge(connection, owner, found, [])
        assert await complete(connection) == []


async def test_a_halt_is_complete_with_the_owners_word_and_each_halt_wants_one(
    database: Database, tenant: Tenant
) -> None:
    _, owner = await paused_run(database, tenant)
    words = []
    for _ in range(2):
        async with database.transaction() as connection:
            await halts.halt(connection, tenant.workspace_id)
        async with database.transaction() as connection:
            assert await pauses.complete_halts(connection) == []
            _, halted = await pauses.unacknowledged(connection, owner)
            words += halted
            await pauses.acknowledge(connection, owner, [], words[:1])
        async with database.transaction() as connection:
            assert await pauses.complete_halts(connection) == ([tenant.workspace_id] if len(words) == 1 else [])
            assert await halts.release(connection, tenant.workspace_id)
    assert len(words) == 2
