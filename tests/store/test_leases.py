import asyncio

from pombo.domain.ids import WorkspaceId
from pombo.store import leases, outbox
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.sandbox_server import AppHandle, ChannelHandle
from tests.seeding import add_channel, add_run, add_workspace, figures
from tests.store.conftest import Tenant, sent_under


async def add_channels(database: Database, box: SecretBox, count: int) -> WorkspaceId:
    workspace_id = await add_workspace(database)
    app = AppHandle("1", "an-app-secret", "verify")
    for number in range(count):
        await add_channel(database, box, workspace_id, ChannelHandle("messenger", str(number), "token", app))
    return workspace_id


async def expire(connection: Connection, worker_id: int) -> None:
    await connection.execute("UPDATE workers SET expires_at = clock_timestamp() WHERE id = $1", worker_id)


async def test_channels_are_split_evenly_and_each_has_one_owner(database: Database, box: SecretBox) -> None:
    await add_channels(database, box, 10)
    async with database.borrow() as one, database.borrow() as two, database.borrow() as three:
        connections = (one, two, three)
        workers = [await leases.register(c, "w", n, 60.0) for n, c in enumerate(connections)]
        taken = await asyncio.gather(*(leases.acquire(c, w) for c, w in zip(connections, workers, strict=True)))
        # One locked by another at that moment is taken at the next round.
        again = [await leases.acquire(c, w) for c, w in zip(connections, workers, strict=True)]

        counts = [len(a) + len(b) for a, b in zip(taken, again, strict=True)]
        assert sum(counts) == 10
        assert max(counts) <= 4
        owned = [lease[:2] for w in workers for lease in await leases.owned(one, w)]
        assert len(set(owned)) == 10


async def test_a_worker_hands_over_what_is_above_its_share(database: Database, box: SecretBox) -> None:
    await add_channels(database, box, 10)
    async with database.borrow() as connection:
        first = await leases.register(connection, "w", 1, 60.0)
        held = await leases.acquire(connection, first)
        assert len(held) == 10
        second = await leases.register(connection, "w", 2, 60.0)
        assert await leases.surplus(connection, first) == 5
        await leases.release(connection, first, held[:5])
        assert len(await leases.acquire(connection, second)) == 5
        assert await leases.surplus(connection, first) == 0


async def test_a_dead_workers_channels_are_taken_with_a_higher_epoch_and_it_cannot_come_back(
    database: Database, tenant: Tenant
) -> None:
    async with database.borrow() as connection:
        dead, heir = [await leases.register(connection, "w", n, 60.0) for n in range(2)]
        (before,) = await leases.acquire(connection, dead)
        assert await leases.acquire(connection, heir) == []
        await expire(connection, dead)
        (after,) = await leases.acquire(connection, heir)
        assert after.epoch > before.epoch
        assert not await leases.heartbeat(connection, dead, 60.0)
        assert await leases.acquire(connection, dead) == []


async def test_what_a_dead_worker_had_in_flight_becomes_doubtful_once_others_own_its_channels(
    database: Database, tenant: Tenant
) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1"), (tenant.channel_id, "2")])
    async with database.borrow() as connection:
        dead = await leases.register(connection, "w", 1, 60.0)
        (lease,) = await leases.acquire(connection, dead)
        first = run.message_ids[:1]
        await outbox.store_intents(connection, dead, 1, sent_under(first), [lease])
        await expire(connection, dead)
        assert await leases.adopt_orphans(connection) == 0  # still the dead one's channel: its intent may be under way

        heir = await leases.register(connection, "w", 2, 60.0)
        await leases.acquire(connection, heir)
        assert await leases.adopt_orphans(connection) == 1
        assert await leases.adopt_orphans(connection) == 0

        assert await figures(connection, run) == {"total": 2, "uncertain": 1}
        assert await connection.fetchval("SELECT message_id FROM doubts") == first[0]
        assert await connection.fetchval("SELECT count(*) FROM intents") == 0


async def test_a_message_the_heir_sends_again_is_not_taken_for_the_dead_workers(
    database: Database, tenant: Tenant
) -> None:
    """A retry, put back by the dead worker, sent by the heir before the dead one's intents are cleared away."""
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as connection:
        dead = await leases.register(connection, "w", 1, 60.0)
        (lease,) = await leases.acquire(connection, dead)
        await outbox.store_intents(connection, dead, 1, sent_under(run.message_ids), [lease])
        await outbox.put_back(connection, [outbox.Undecided(*tenant, run.message_ids[0], 1, 4, 0, "too fast")])
        await expire(connection, dead)
        heir = await leases.register(connection, "w", 2, 60.0)
        (lease,) = await leases.acquire(connection, heir)
        await outbox.store_intents(connection, heir, 1, sent_under(run.message_ids, 1), [lease])

        assert await leases.adopt_orphans(connection) == 0
        assert await connection.fetchval("SELECT state FROM outbox") == b"s"


async def test_a_takeover_waits_for_an_intent_under_way(database: Database, tenant: Tenant) -> None:
    run = await add_run(database, tenant.workspace_id, [(tenant.channel_id, "1")])
    async with database.borrow() as slow, database.borrow() as other:
        dead = await leases.register(other, "w", 1, 60.0)
        (lease,) = await leases.acquire(other, dead)
        transaction = slow.transaction()
        await transaction.start()
        await outbox.store_intents(slow, dead, 1, sent_under(run.message_ids), [lease])
        await expire(other, dead)
        heir = await leases.register(other, "w", 2, 60.0)
        assert await leases.acquire(other, heir) == []  # locked: not waited for, taken at a later round
        await transaction.commit()
        assert len(await leases.acquire(other, heir)) == 1
        assert await leases.adopt_orphans(other) == 1


async def test_a_stopped_worker_leaves_its_channels_free_at_once(database: Database, tenant: Tenant) -> None:
    async with database.borrow() as connection:
        worker_id = await leases.register(connection, "w", 1, 60.0)
        await leases.acquire(connection, worker_id)
        await leases.retire(connection, worker_id)
        following = await leases.register(connection, "w", 2, 60.0)
        assert len(await leases.acquire(connection, following)) == 1


async def test_each_command_is_taken_once_by_the_channels_owner(database: Database, tenant: Tenant) -> None:
    async with database.borrow() as connection:
        owner, other = [await leases.register(connection, "w", n, 60.0) for n in range(2)]
        await leases.acquire(connection, owner)
        await connection.execute(
            "INSERT INTO commands (workspace_id, channel_id, name) VALUES ($1, $2, 'reset_breaker')", *tenant
        )
        assert await leases.take_commands(connection, other) == []
        assert await leases.take_commands(connection, owner) == [(*tenant, "reset_breaker")]
        assert await leases.take_commands(connection, owner) == []
