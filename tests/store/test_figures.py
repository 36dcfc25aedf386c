import asyncio

from pombo.campaigns.expand import Expander
from pombo.campaigns.figures import FiguresDuty
from pombo.domain.channels import ChannelKind
from pombo.domain.ids import RunId
from pombo.store import figures, run_control, runs, suppressions
from pombo.store.database import Connection, Database
from pombo.store.figures import Figures
from pombo.store.secrets import SecretBox
from pombo.store.suppressions import Suppression
from tests.accounts import Account, add_account, stage_run


async def _expanded_run(database: Database, account: Account, size: int) -> RunId:
    run_id = await stage_run(database, account, [(account.number, f"+35191{n:07}") for n in range(size)])
    while await Expander(database).run_once():
        pass
    return run_id


async def _count(connection: Connection, account: Account, run_id: RunId, **numbers: int) -> None:
    names = ", ".join(numbers)
    values = ", ".join(str(value) for value in numbers.values())
    await connection.execute(
        f"INSERT INTO run_deltas (workspace_id, run_id, {names}) VALUES ($1, $2, {values})",
        account.workspace_id,
        run_id,
    )


async def _figures(database: Database, account: Account, run_id: RunId) -> Figures:
    async with database.tenant(account.workspace_id) as connection:
        return await figures.run_figures(connection, account.workspace_id, run_id)


async def test_figures_are_the_same_before_and_after_folding(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    run_id = await _expanded_run(database, account, 10)
    async with database.borrow() as connection:
        await _count(connection, account, run_id, accepted=3, uncertain=2)
        await _count(connection, account, run_id, accepted=2, delivered=4, uncertain=-1)
        await _count(connection, account, run_id, failed=1, read=1, undelivered=1, sent_twice=1)
    before = await _figures(database, account, run_id)

    await FiguresDuty(database).run_once()

    assert await _figures(database, account, run_id) == before
    async with database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM run_deltas") == 0
    assert (before.total, before.accepted, before.delivered, before.read) == (10, 5, 4, 1)
    assert (before.failed, before.uncertain, before.undelivered, before.sent_twice) == (1, 1, 1, 1)
    assert (before.settled, before.waiting, before.in_flight) == (6, 3, 0)


async def test_until_all_are_expanded_the_total_is_what_is_still_expected(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    people = [(account.number, f"+35191000000{n}") for n in (1, 1, 2, 3)]
    run_id = await stage_run(database, account, people)
    expander, totals = Expander(database, chunk=2), []
    while True:
        found = await _figures(database, account, run_id)
        totals.append((found.total, found.duplicates, found.waiting))
        if not await expander.run_once():
            break
    assert totals == [(4, 0, 4), (3, 1, 3), (3, 1, 3), (3, 1, 3)]


async def test_who_is_left_out_is_expected_no_more_and_not_cancelled(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    people = [(account.number, f"+35191000000{n}") for n in range(6)]
    async with database.transaction() as connection:
        unwilling = [
            Suppression(account.workspace_id, ChannelKind.WHATSAPP, person, "asked", "1") for _, person in people[:2]
        ]
        await suppressions.suppress(connection, unwilling)
    run_id = await stage_run(database, account, people)

    await Expander(database, chunk=3).run_once()
    found = await _figures(database, account, run_id)
    assert (found.total, found.rejected, found.waiting) == (4, 2, 4)
    async with database.transaction() as connection:
        await run_control.cancel_runs(connection, account.workspace_id, [run_id])
    found = await _figures(database, account, run_id)
    assert (found.total, found.rejected, found.cancelled, found.waiting) == (4, 2, 3, 1)


async def test_many_folders_at_once_count_every_delta_once(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    run_id = await _expanded_run(database, account, 1)
    async with database.borrow() as connection:
        for _ in range(200):
            await _count(connection, account, run_id, delivered=1)

    await asyncio.gather(*(FiguresDuty(database).run_once() for _ in range(5)))

    assert (await _figures(database, account, run_id)).delivered == 200


async def test_the_times_of_acceptance_come_from_deltas_that_accepted_something(
    database: Database, box: SecretBox
) -> None:
    account = await add_account(database, box)
    run_id = await _expanded_run(database, account, 30)
    async with database.borrow() as connection:
        for at, accepted in ((0, 0), (10, 5), (20, 10), (40, 0)):
            await connection.execute(
                """INSERT INTO run_deltas (workspace_id, run_id, accepted, delivered, at)
                   VALUES ($1, $2, $3, 1, timestamptz '2026-05-01 09:00Z' + $4 * interval '1 second')""",
                account.workspace_id,
                run_id,
                accepted,
                at,
            )
    await FiguresDuty(database).run_once()

    found = await _figures(database, account, run_id)
    assert found.first_accepted_at is not None
    assert found.last_accepted_at is not None
    assert (found.first_accepted_at.second, found.last_accepted_at.second) == (10, 20)
    assert (found.sending_seconds, found.rate) == (10.0, 1.5)


async def test_a_run_completes_when_its_last_message_is_settled_and_its_streams_close(
    database: Database, box: SecretBox
) -> None:
    account = await add_account(database, box)
    run_id = await _expanded_run(database, account, 4)
    duty = FiguresDuty(database)

    async def state() -> tuple[runs.RunState, int]:
        await duty.run_once()
        async with database.tenant(account.workspace_id) as connection:
            run = await runs.get_run(connection, account.workspace_id, run_id)
            assert run is not None
            assert (run.finished_at is None) == (run.state is runs.RunState.PROCESSING)
            return run.state, await connection.fetchval("SELECT count(*) FROM streams")

    async with database.borrow() as connection:
        assert await state() == (runs.RunState.PROCESSING, 1)
        await _count(connection, account, run_id, accepted=2, failed=1, uncertain=1)
        assert await state() == (runs.RunState.PROCESSING, 1)
        await _count(connection, account, run_id, uncertain=-1, accepted=1)
        assert await state() == (runs.RunState.COMPLETED, 0)
        await _count(connection, account, run_id, delivered=3)
    assert await state() == (runs.RunState.COMPLETED, 0)
    assert (await _figures(database, account, run_id)).delivered == 3


async def test_a_run_without_anybody_completes_once_expanded(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    run_id = await stage_run(database, account, [])
    duty = FiguresDuty(database)
    await duty.run_once()
    async with database.tenant(account.workspace_id) as connection:
        run = await runs.get_run(connection, account.workspace_id, run_id)
        assert run is not None
        assert run.state is runs.RunState.PENDING

    while await Expander(database).run_once():
        pass
    await duty.run_once()

    async with database.tenant(account.workspace_id) as connection:
        run = await runs.get_run(connection, account.workspace_id, run_id)
    assert run is not None
    assert run.state is runs.RunState.COMPLETED


async def test_messages_under_way_are_found_through_the_intents(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    run_id = await _expanded_run(database, account, 5)
    async with database.borrow() as connection:
        ids = [row["id"] for row in await connection.fetch("SELECT id FROM outbox ORDER BY id LIMIT 3")]
        await connection.execute(
            "UPDATE outbox SET state = 's', attempt = 1, intent_at = now() WHERE id = ANY ($1)", ids[:2]
        )
        await connection.execute(
            "INSERT INTO intents (worker_id, id, workspace_ids, message_ids) VALUES (1, 1, $1, $2)",
            [account.workspace_id] * 3,
            ids,
        )
    found = await _figures(database, account, run_id)
    assert (found.in_flight, found.waiting) == (2, 3)


async def test_sums_over_a_campaign_and_a_workspace_hold_what_is_theirs(database: Database, box: SecretBox) -> None:
    mine, theirs = await add_account(database, box), await add_account(database, box, "other")
    for account, sizes in ((mine, (3, 4)), (theirs, (5,))):
        for size in sizes:
            run_id = await _expanded_run(database, account, size)
            async with database.borrow() as connection:
                await _count(connection, account, run_id, accepted=size)
    async with database.tenant(mine.workspace_id) as connection:
        campaign = await figures.campaign_figures(connection, mine.workspace_id, mine.campaign_id)
        workspace = await figures.workspace_figures(connection, mine.workspace_id)
        nothing = await figures.run_figures(connection, mine.workspace_id, RunId(999))

    assert (campaign.total, campaign.accepted) == (7, 7)
    assert campaign == workspace
    assert (nothing.total, nothing.rate, nothing.first_accepted_at) == (0, 0.0, None)
