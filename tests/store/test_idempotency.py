import asyncio
from datetime import timedelta

from pombo.store import idempotency
from pombo.store.database import Database
from pombo.store.idempotency import StoredAnswer, UnderWay
from pombo.store.secrets import SecretBox
from tests.accounts import add_account

_LEASE = timedelta(minutes=2)
_EXPIRED = timedelta(seconds=-1)
_ANSWER = StoredAnswer(b"hash", 202, '{"runId": 1}')


async def test_a_claimed_key_is_under_way_until_it_is_remembered_then_gives_the_answer(
    database: Database, box: SecretBox
) -> None:
    workspace = (await add_account(database, box)).workspace_id
    async with database.borrow() as connection:
        assert await idempotency.claim(connection, workspace, "k", _LEASE) is None
        assert isinstance(await idempotency.claim(connection, workspace, "k", _LEASE), UnderWay)
        assert await idempotency.remember(connection, workspace, "k", _ANSWER) is None
        assert await idempotency.claim(connection, workspace, "k", _LEASE) == _ANSWER


async def test_keys_of_two_workspaces_have_nothing_to_do_with_each_other(database: Database, box: SecretBox) -> None:
    mine, theirs = await add_account(database, box), await add_account(database, box, "other")
    async with database.borrow() as connection:
        assert await idempotency.claim(connection, mine.workspace_id, "k", _LEASE) is None
        assert await idempotency.claim(connection, theirs.workspace_id, "k", _LEASE) is None


async def test_a_key_left_by_a_dead_process_is_free_when_its_lease_ends_unless_it_was_renewed(
    database: Database, box: SecretBox
) -> None:
    workspace = (await add_account(database, box)).workspace_id
    async with database.borrow() as connection:
        await idempotency.claim(connection, workspace, "dead", _EXPIRED)
        assert await idempotency.claim(connection, workspace, "dead", _LEASE) is None

        await idempotency.claim(connection, workspace, "slow", _EXPIRED)
        await idempotency.renew(connection, workspace, "slow", _LEASE)
        assert isinstance(await idempotency.claim(connection, workspace, "slow", _LEASE), UnderWay)


async def test_a_released_key_is_free_and_an_answered_one_cannot_be_released(
    database: Database, box: SecretBox
) -> None:
    workspace = (await add_account(database, box)).workspace_id
    async with database.borrow() as connection:
        await idempotency.claim(connection, workspace, "k", _LEASE)
        await idempotency.release(connection, workspace, "k")
        assert await idempotency.claim(connection, workspace, "k", _LEASE) is None

        await idempotency.remember(connection, workspace, "k", _ANSWER)
        await idempotency.release(connection, workspace, "k")
        assert await idempotency.claim(connection, workspace, "k", _LEASE) == _ANSWER


async def test_the_first_to_remember_a_key_wins_and_the_second_waits_for_its_answer(
    database: Database, box: SecretBox
) -> None:
    workspace = (await add_account(database, box)).workspace_id
    async with database.transaction() as first:
        assert await idempotency.remember(first, workspace, "k", _ANSWER) is None

        async def also() -> StoredAnswer | None:
            async with database.transaction() as second:
                return await idempotency.remember(second, workspace, "k", StoredAnswer(b"hash", 202, '{"runId": 2}'))

        waiting = asyncio.create_task(also())
        async with database.borrow() as observer:
            while not await observer.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                assert not waiting.done()
    assert await waiting == _ANSWER


async def test_an_answer_is_forgotten_after_a_day(database: Database, box: SecretBox) -> None:
    workspace = (await add_account(database, box)).workspace_id
    async with database.borrow() as connection:
        for key in ("old", "older", "new"):
            await idempotency.remember(connection, workspace, key, _ANSWER)
        await connection.execute(
            "UPDATE idempotency_keys SET created_at = created_at - interval '25 hours' WHERE key LIKE 'old%'"
        )
        assert await idempotency.claim(connection, workspace, "old", _LEASE) is None
        assert await idempotency.forget_expired(connection) == 1
        assert await connection.fetch("SELECT key FROM idempotency_keys ORDER BY key") == [("new",), ("old",)]
