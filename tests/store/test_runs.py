from datetime import UTC, datetime

from pombo.domain.ids import RunId
from pombo.store import runs
from pombo.store.database import Database
from pombo.store.runs import RunState, Source
from pombo.store.secrets import SecretBox
from tests.accounts import HELLO, Account, add_account, stage_run


async def _start(database: Database, account: Account, planned_at: datetime | None = None) -> RunId | None:
    async with database.tenant(account.workspace_id) as connection:
        return await runs.start_run(
            connection,
            workspace_id=account.workspace_id,
            campaign_id=account.campaign_id,
            content=HELLO,
            channel_ids=[account.number],
            source=Source.CONTACTS,
            planned_at=planned_at,
        )


async def test_a_new_run_is_pending_and_has_totals(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    run_id = await _start(database, account)

    assert run_id is not None
    async with database.tenant(account.workspace_id) as connection:
        run = await runs.get_run(connection, account.workspace_id, run_id)
        totals = await connection.fetchval("SELECT count(*) FROM run_totals WHERE run_id = $1", run_id)
    assert run is not None
    assert (run.state, run.source, run.channel_ids, run.expanded) == (
        RunState.PENDING,
        Source.CONTACTS,
        [account.number],
        False,
    )
    assert totals == 1


async def test_a_planned_time_has_one_run_however_often_it_is_started(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    planned_at = datetime(2026, 5, 1, 9, tzinfo=UTC)

    assert await _start(database, account, planned_at) is not None
    assert await _start(database, account, planned_at) is None

    async with database.tenant(account.workspace_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM runs") == 1
        assert await connection.fetchval("SELECT count(*) FROM run_totals") == 1


async def test_two_workers_claim_two_different_runs_and_a_third_gets_none(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    expected = {
        await stage_run(database, account, [(account.number, "+351910000001")]),
        await stage_run(database, account, [(account.number, "+351910000001")]),
    }
    async with database.transaction() as one, database.transaction() as two, database.transaction() as three:
        claims = [await runs.claim_unexpanded(connection) for connection in (one, two, three)]

    assert {claim.run_id for claim in claims if claim} == expected
    assert claims[2] is None


async def test_the_least_expanded_run_is_claimed_first(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    large = await stage_run(database, account, [(account.number, f"+35191000000{n}") for n in range(3)])
    small = await stage_run(database, account, [(account.number, "+351910000001")])
    async with database.transaction() as connection:
        claimed = await runs.claim_unexpanded(connection)
        assert claimed is not None
        assert claimed.run_id == large
        await runs.advance(connection, claimed, expanded_to=1, channel_id=0, expanded=False, left_out=0)
        following = await runs.claim_unexpanded(connection)

    assert following is not None
    assert following.run_id == small
